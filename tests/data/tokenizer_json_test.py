"""tokenizer.json against what the library that wrote it makes of texts."""

import json
import pathlib
import shutil

from hypothesis import given, settings, strategies as st
import pytest

from tests.data import hf5_texts
from tf_pof.data import tokenizer_files, tokenizer_json
from tf_pof.data.tokenizer import WordPiece
from tf_pof.data.tokenizer_settings import TokenizerSettings

FOLDER = pathlib.Path(__file__).parent / "hf5"
SETTINGS = {
    "uncased": TokenizerSettings(True),
    "cased": TokenizerSettings(False),
    "accents": TokenizerSettings(True, False),
    "words": TokenizerSettings(False, True, False),
}


@pytest.fixture
def copy(tmp_path):
    """A copy of hf5/cased with changes to its tokenizer.json."""

    def copy(change=lambda content: None, **more):
        shutil.copytree(FOLDER / "cased", tmp_path, dirs_exist_ok=True)
        path = tmp_path / "tokenizer.json"
        content = json.loads(path.read_text("utf-8")) | more
        change(content)
        path.write_text(json.dumps(content))
        return str(path)

    return copy


@pytest.mark.parametrize("config", [True, False])
@pytest.mark.parametrize("name", SETTINGS)
def test_gives_the_ids_of_transformers_5(name, config, tmp_path):
    shutil.copytree(FOLDER / name, tmp_path, dirs_exist_ok=True)
    if not config:
        (tmp_path / "tokenizer_config.json").unlink()
    tokenizer = WordPiece(str(tmp_path / "tokenizer.json"))
    assert tokenizer.settings == SETTINGS[name]
    expected = json.loads((FOLDER / "ids.json").read_text())[name]
    found = tokenizer.tokenize_strings(hf5_texts.TEXTS).to_list()
    assert found == expected


def test_vocab_txt_made_of_it_has_the_same_ids(copy, tmp_path):
    path = copy()
    # The library lost a token of white space, whose id is free.
    stored = json.loads(pathlib.Path(path).read_text())["model"]["vocab"]
    (lost,) = set(range(len(stored) + 1)) - set(stored.values()) - {len(stored)}
    vocab = tmp_path / "vocab.txt"
    vocab.write_bytes(tokenizer_files.vocab_txt(path))
    lines = vocab.read_text("utf-8").split("\n")
    assert lines.pop() == ""
    assert len(lines) == max(stored.values()) + 1
    for token, number in stored.items():
        assert lines[number] == token or not token.strip(), token
    assert lines[lost].startswith("[unused")
    assert WordPiece(str(vocab)).vocabulary == WordPiece(path).vocabulary
    assert WordPiece(str(vocab)).sha256 == WordPiece(path).sha256


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda c: c["model"].update(type="BPE"), "its model is 'BPE'"),
        (lambda c: c["model"].update(merges=[]), "its model is"),
        (
            lambda c: c["model"].update(continuing_subword_prefix="@@"),
            "its prefix",
        ),
        (lambda c: c["model"].update(unk_token="<unk>"), "unknown token"),
        (
            lambda c: c["model"].update(max_input_chars_per_word=200),
            "longest word",
        ),
        (lambda c: c.update(normalizer=None), "it has no normalizer"),
        (
            lambda c: c.update(normalizer={"type": "Lowercase"}),
            "its normalizer is 'Lowercase'",
        ),
        (lambda c: c["normalizer"].update(clean_text=False), "normalizer"),
        (
            lambda c: c.update(pre_tokenizer={"type": "Whitespace"}),
            "its pre_tokenizer is 'Whitespace'",
        ),
        (
            lambda c: c["added_tokens"].append({"id": 222, "content": "covid"}),
            "it takes 'covid' as one token",
        ),
    ],
)
def test_refuses_what_is_not_berts(copy, change, reason):
    path = copy(change)
    with pytest.raises(tokenizer_json.UnsupportedTokenizer) as error:
        WordPiece(path)
    assert reason in str(error.value)
    assert "is not BERT's WordPiece" in str(error.value)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: c["model"]["vocab"].update(a=7), "gives the id 7 to"),
        (lambda c: c["model"]["vocab"].update(a=10**12), "ids from 0 to 10000"),
        (lambda c: c["model"]["vocab"].update(a=-1), "ids from -1"),
        (lambda c: c["model"]["vocab"].update(a="7"), "wrong 'vocab.a'"),
        (lambda c: c["model"].pop("vocab"), "lacks 'vocab'"),
        (lambda c: c.pop("model"), "lacks 'model'"),
        (
            lambda c: (
                c["model"]["vocab"].pop("[CLS]"),
                c["added_tokens"].clear(),
            ),
            r"has no \[CLS\]",
        ),
        (
            lambda c: c["added_tokens"][0].update(id=9),
            r"the token \[PAD\] two ids",
        ),
    ],
)
def test_names_what_is_damaged(copy, change, message):
    with pytest.raises(ValueError, match=message):
        WordPiece(copy(change))


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 400)
    | st.floats()
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2)
    | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def _places(value, path=()):
    """All paths into a JSON value, but of a large object a few alone."""
    yield path
    if isinstance(value, dict):
        for key in list(value)[:12]:
            yield from _places(value[key], (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value[:3]):
            yield from _places(item, (*path, index))


@settings(max_examples=200, deadline=None)
@given(data=st.data(), name=st.sampled_from(["tokenizer", "tokenizer_config"]))
def test_any_change_loads_or_is_told_in_a_sentence(
    data, name, tmp_path_factory
):
    folder = tmp_path_factory.mktemp("hf5")
    shutil.copytree(FOLDER / "cased", folder, dirs_exist_ok=True)
    path = folder / f"{name}.json"
    content = {"all": json.loads(path.read_text("utf-8"))}
    for _ in range(data.draw(st.integers(1, 3))):
        places = [p for p in _places(content) if p]
        *parents, last = data.draw(st.sampled_from(places))
        target = content
        for key in parents:
            target = target[key]
        if data.draw(st.booleans()) or not parents:
            target[last] = data.draw(_JSON)
        else:
            del target[last]
    path.write_text(json.dumps(content.get("all")))
    try:
        tokenizer = WordPiece(str(folder / "tokenizer.json"))
    except ValueError as error:
        assert len(str(error)) < 500 and str(error).strip().endswith(
            (".", ")", "`")
        )
    else:
        ids = tokenizer.encode(["London für 漢字"], 8)["token_ids"]
        assert 0 <= ids.min() and ids.max() < len(tokenizer.vocabulary)


def test_the_name_of_a_free_id_is_not_another_tokens(copy):
    path = copy(lambda c: c["model"]["vocab"].update({"[unused216]": 223}))
    tokens = WordPiece(path).vocabulary
    assert (tokens[216], tokens[223]) == ("[unused440]", "[unused216]")
