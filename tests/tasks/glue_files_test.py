"""GLUE's official files: how they look, and what is wrong with them."""

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from tf_pof.tasks import glue_files
from tf_pof.tasks.glue import Glue

YES_NO = ("no", "yes")


def _write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.tsv").write_bytes(text.encode())
    return str(folder)


def _read(task, folder, split="train", labels=YES_NO):
    return glue_files.read(task, str(folder), split, labels)[0]


def test_takes_glues_folder_or_the_tasks_own(glue_raw):
    for folder in (glue_raw, glue_raw / "SST-2"):
        examples = _read("sst2", folder)
        assert examples.source == str(glue_raw / "SST-2/train.tsv")
        assert examples.labels.tolist() == [0, 1, 0, 1, 0]


def test_quotes_and_odd_characters_belong_to_the_text(tmp_path):
    texts = ['"open', 'mid"dle', "a\u2028b\x0b\x85c", '""', "'", ""]
    lines = "".join(f"{text}\t1\n" for text in texts)
    folder = _write(tmp_path, train="sentence\tlabel\n" + lines)
    assert _read("sst2", folder).texts == texts


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_line_ends_and_a_byte_order_mark_do_not(tmp_path, end):
    text = f"\ufeffsentence\tlabel{end}one\t0{end}two\t1"
    for last in ("", end):
        examples = _read("sst2", _write(tmp_path, train=text + last))
        assert examples.texts == ["one", "two"]
        assert examples.labels.tolist() == [0, 1]


def test_cola_has_no_header_but_in_its_test_file(tmp_path):
    folder = _write(
        tmp_path / "CoLA",
        train="gj04\t1\t\tFine.\ngj04\t0\t*\tNot fine.\n",
        test="index\tsentence\n7\tWhat?\n",
    )
    train = _read("cola", tmp_path)
    assert train.texts == ["Fine.", "Not fine."] and train.pairs is None
    assert train.labels.tolist() == [1, 0]
    test = _read("cola", folder, "test")
    assert test.texts == ["What?"] and test.labels is None
    # The number that GLUE's server wants back.
    assert test.indices.tolist() == [7] and test.indices.dtype == np.int64


def test_scores_are_read_in_spite_of_further_columns(tmp_path):
    folder = _write(
        tmp_path,
        train="index\tsentence1\tsentence2\tscore\n"
        "0\ta\tb\t2.750\n1\tc\td\t0.5\tmore\tand more\n",
    )
    examples = _read("stsb", folder, labels=None)
    assert examples.pairs == ["b", "d"]
    assert examples.labels.tolist() == [2.75, 0.5]
    assert examples.labels.dtype == np.float32


def test_broken_rows_of_qqp_are_left_out_and_counted(glue_raw):
    task = Glue("qqp", raw_dir=str(glue_raw))
    examples = task.examples("train")
    assert len(examples) == 4
    path = glue_raw / "QQP/train.tsv"
    expected = f"2 rows of {path} do not have all columns and were left out."
    assert task.notes() == [expected]
    task.examples("train")
    assert task.notes() == [expected]


def test_broken_rows_of_other_tasks_are_errors(tmp_path):
    text = "sentence\tlabel\ngood\t1\nno label\ngood\t0\n"
    with pytest.raises(
        ValueError, match=r"train.tsv:3: 1 columns where 2 are needed: fetch"
    ):
        _read("sst2", _write(tmp_path, train=text))
    with pytest.raises(ValueError, match=r"train.tsv:2: 1 columns where 2"):
        _read("sst2", _write(tmp_path, train="sentence\tlabel\n\na\t1\n"))
    with pytest.raises(ValueError, match=r"dev.tsv:1: 2 columns where 4"):
        _read("cola", _write(tmp_path, dev="gj04\t1\n"), "validation")


def test_microsofts_mrpc_is_cut_as_glue_does(glue_raw, mrpc_microsoft):
    labels = ("not_equivalent", "equivalent")
    for split in ("train", "validation", "test"):
        glue = _read("mrpc", glue_raw, split, labels)
        microsoft = _read("mrpc", mrpc_microsoft, split, labels)
        assert microsoft.texts == glue.texts
        assert microsoft.pairs == glue.pairs
        if split != "test":
            np.testing.assert_array_equal(microsoft.labels, glue.labels)
    assert len(_read("mrpc", mrpc_microsoft, "validation")) == 3


def test_microsofts_mrpc_alone_is_validated_on_its_test(
    mrpc_microsoft, tmp_path
):
    for split in ("train", "test"):
        name = f"msr_paraphrase_{split}.txt"
        text = (mrpc_microsoft / "MRPC" / name).read_bytes()
        (tmp_path / name).write_bytes(text)
    task = Glue("mrpc", raw_dir=str(tmp_path))
    assert len(task.examples("train")) == 9
    assert task.notes() == []
    assert task.examples("validation").labels.tolist() == [1, 1, 1]
    (note,) = task.notes()
    assert "validated on Microsoft's test pairs" in note


@pytest.mark.parametrize(
    "task, labels, text, message",
    [
        (
            "sst2",
            YES_NO,
            "text\tlabel\na\t1\n",
            'no column "sentence" but "text", "label": give the SST-2 folder',
        ),
        (
            "sst2",
            YES_NO,
            "index\tsentence\n0\ta\n",
            'no column "label" but "index", "sentence": ',
        ),
        (
            "sst2",
            YES_NO,
            "sentence\tlabel\na\t1\nb\t2\n",
            r'train.tsv:3: the label "2" is not one of "0", "1": give',
        ),
        # The files of RTE and WNLI differ in how labels are written only.
        (
            "rte",
            ("entailment", "not_entailment"),
            "index\tsentence1\tsentence2\tlabel\n0\ta\tb\t1\n",
            r'train.tsv:2: the label "1" is not one of "entailment", "not_en',
        ),
        (
            "stsb",
            None,
            "index\tsentence1\tsentence2\tscore\n0\ta\tb\tnan\n",
            r'train.tsv:2: the label "nan" is not a number',
        ),
        (
            "stsb",
            None,
            "index\tsentence1\tsentence2\tscore\n0\ta\tb\thigh\n",
            r'train.tsv:2: the label "high" is not a number',
        ),
        (
            "stsb",
            None,
            "index\tsentence1\tsentence2\tscore\n0\ta\tb\t5.5\n",
            r'train.tsv:2: the label "5.5" is not a number from 0 to 5: give',
        ),
        (
            "cola",
            YES_NO,
            "index\tsentence\n0\tA test file.\n",
            "train.tsv:1: 2 columns where 4 are needed: fetch",
        ),
        ("sst2", YES_NO, "\n\n", "train.tsv is empty"),
        ("sst2", YES_NO, "", "train.tsv is empty"),
        ("sst2", YES_NO, "sentence\tlabel\n", "train.tsv has no examples"),
    ],
)
def test_one_sentence_says_what_is_wrong(
    tmp_path, task, labels, text, message
):
    folder = _write(tmp_path, train=text)
    with pytest.raises(ValueError, match=message) as error:
        _read(task, folder, labels=labels)
    assert "\n" not in str(error.value) and str(error.value)[-1] == "."


def test_a_wrong_index_or_encoding_is_placed(tmp_path):
    folder = _write(tmp_path, test="index\tsentence\n0\ta\nx\tb\n")
    with pytest.raises(ValueError, match='test.tsv:3: the index "x" is not'):
        _read("sst2", folder, "test")
    (tmp_path / "dev.tsv").write_bytes(b"sentence\tlabel\nfine\t1\nb\xe9\t0\n")
    with pytest.raises(ValueError, match="dev.tsv:3: not UTF-8 at byte 23 "):
        _read("sst2", folder, "validation")


def test_a_missing_file_is_looked_for_in_both_folders(tmp_path):
    with pytest.raises(
        ValueError,
        match="no dev_mismatched.tsv of MNLI in "
        f"{tmp_path}/MNLI or {tmp_path}: give .* --raw_dir",
    ):
        _read("mnli", tmp_path, "validation_mismatched")
    with pytest.raises(ValueError, match="no train.tsv of MRPC"):
        _read("mrpc", tmp_path)


_TEXT = st.text(
    st.characters(exclude_characters="\t\n\r", exclude_categories=["Cs"]),
    max_size=8,
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(_TEXT, _TEXT, st.booleans()), min_size=1))
def test_every_row_comes_back_as_it_was_written(tmp_path_factory, rows):
    lines = ["index\tquestion\tsentence\tlabel"]
    names = ("entailment", "not_entailment")
    lines += [f"{i}\t{q}\t{s}\t{names[y]}" for i, (q, s, y) in enumerate(rows)]
    folder = tmp_path_factory.mktemp("qnli")
    _write(folder, train="\n".join(lines) + "\n")
    examples = _read("qnli", folder, labels=names)
    found = zip(examples.texts, examples.pairs, examples.labels.tolist())
    assert list(found) == rows
    assert examples.indices.tolist() == list(range(len(rows)))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=12), st.integers(0, 60))
def test_any_bytes_are_read_or_refused_in_a_sentence(
    tmp_path_factory, noise, place
):
    content = b"index\tsentence\tlabel\n0\tgood\t1\n1\tbad\t0\n"
    folder = tmp_path_factory.mktemp("sst2")
    (folder / "train.tsv").write_bytes(
        content[:place] + noise + content[place:]
    )
    try:
        examples = _read("sst2", folder)
    except ValueError as error:
        assert "train.tsv" in str(error) and str(error).endswith(".")
        assert "\n" not in str(error)
    else:
        assert len(examples) > 0 and set(examples.labels) <= {0, 1}
