"""What a folder says of its model is held against what it holds."""

import json
import logging
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy

import tf_pof
from tf_pof.models import bert, weights


def edit_config(folder, **changes):
    """Replaces fields of config.json; None removes one."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    kept = {k: v for k, v in config.items() if v is not None}
    path.write_text(json.dumps(kept))


def edit_tensors(folder, change):
    path = folder / "model.safetensors"
    tensors = safetensors.numpy.load_file(path)
    change(tensors)
    safetensors.numpy.save_file(tensors, path, metadata={"format": "pt"})


@pytest.fixture
def saved(tiny, tmp_path):
    """Saves a tiny model; returns its folder and the model."""

    def save(*args, labels=None, **kwargs):
        model = tiny(*args, **kwargs)
        model.labels = labels
        tf_pof.save(model, tmp_path / "m")
        return tmp_path / "m", model

    return save


TWELVE = tuple(f"class {i}" for i in (3, 1, 4, 15, 9, 2, 6, 5, 35, 8, 97, 93))


@pytest.mark.parametrize("own", [True, False])
def test_labels_are_in_the_order_of_their_ids(saved, tmp_path, own):
    folder, _ = saved("classifier", num_labels=12, labels=TWELVE)
    ids = list(map(str, range(12)))
    config = json.loads((folder / "config.json").read_text())
    assert list(config["id2label"].items()) == list(zip(ids, TWELVE))
    assert config["label2id"] == {name: i for i, name in enumerate(TWELVE)}
    assert list(config["label2id"]) == list(TWELVE)
    # As tools sort them: "0", "1", "10", "11", "2"; and backwards.
    for order in (sorted(ids), ids[::-1]):
        id2label = {i: TWELVE[int(i)] for i in order}
        section = config["tf_pof"] if own else None
        edit_config(folder, id2label=id2label, tf_pof=section)
        model = tf_pof.load(folder)
        assert model.labels == TWELVE
        again = tf_pof.load(tf_pof.save(model, tmp_path / "again"))
        assert again.labels == TWELVE


@pytest.mark.parametrize(
    "id2label, message",
    [
        ({"0": "a", "1": "b", "01": "c"}, "has id 1 twice"),
        ({"0": "a", "1": "b", "3": "c"}, "ids 0 to 2 .* names 0, 1, 3"),
        ({"0": "a", "1": "b"}, "ids 0 to 2 .* names 0, 1"),
        ({"1": "a", "2": "b", "3": "c"}, "ids 0 to 2"),
        ({"0": "a", "1": "b", "-1": "c"}, "key '-1'"),
        ({"0": "a", "1": "b", "x": "c"}, "key 'x'"),
        ({"0": "a", "1": "b", "٢": "c"}, "key '٢'"),
        ({"0": "a", "1": "b", "2": 5}, "has 5 for id 2"),
        ({"0": "a", "1": "b", "2": "a"}, "several ids named 'a'"),
        (["a", "b", "c"], "wrong 'id2label'"),
        ("abc", "wrong 'id2label'"),
    ],
)
def test_labels_of_unclear_ids_are_refused(saved, id2label, message):
    folder, _ = saved("classifier", num_labels=3)
    edit_config(folder, id2label=id2label)
    with pytest.raises(ValueError, match=f"config.json.*{message}"):
        tf_pof.load(folder)


def test_an_id_with_two_names_is_refused(saved):
    folder, _ = saved("classifier", num_labels=2, labels=("a", "b"))
    path = folder / "config.json"
    text = path.read_text().replace('"1": "b"', '"1": "b", "1": "c"')
    path.write_text(text)
    with pytest.raises(ValueError, match="an id twice"):
        tf_pof.load(folder)


HEADLESS = [
    ("BertForTokenClassification", {}),
    ("BertForMultipleChoice", {}),
    ("DistilBertForTokenClassification", {}),
    ("MyOwnBert", {}),
    (None, {"problem_type": "multi_label_classification"}),
    (None, {"problem_type": "regression"}),
]


@pytest.mark.parametrize("architecture, fields", HEADLESS)
def test_foreign_heads_are_refused_by_name(saved, batch, architecture, fields):
    family = "distilbert" if "Distil" in str(architecture) else "bert"
    folder, model = saved("classifier", family, num_labels=3)
    if architecture:
        fields = {"architectures": [architecture]}
    edit_config(folder, tf_pof=None, **fields)
    name = architecture or fields["problem_type"]
    with pytest.raises(ValueError, match=f"{name}.*encoder alone.*new head"):
        tf_pof.load(folder)
    # The encoder is there for those who ask for it.
    for head in bert.HEADS:
        loaded = tf_pof.load(folder, head=head, num_labels=3)
        assert loaded.labels is None
        assert ("classifier/kernel" in loaded.new_weights) == (
            head == "classifier"
        )
        encoder = {"layer_1_output/kernel", "pooler/kernel"}
        assert not encoder & set(loaded.new_weights)
        found, kept = weights.variables(loaded), weights.variables(model)
        for path in encoder & kept.keys():
            np.testing.assert_array_equal(found[path], kept[path])


def test_tensors_of_a_foreign_head_do_not_matter(saved):
    folder, _ = saved()
    edit_tensors(
        folder,
        lambda t: t.update({"crf.transitions": np.zeros((2, 2), np.float32)}),
    )
    edit_config(folder, tf_pof=None, architectures=["BertCrf"])
    assert tf_pof.load(folder, head=None).new_weights == ()


def test_the_architecture_decides_not_the_tensors(saved, batch):
    folder, model = saved("pretraining")
    edit_config(folder, tf_pof=None, architectures=["BertModel"])
    loaded = tf_pof.load(folder)
    assert loaded.head is None and loaded.new_weights == ()
    np.testing.assert_array_equal(
        loaded(batch)["pooled_output"], model(batch)["pooled_output"]
    )
    name = "BertForSequenceClassification"
    edit_config(folder, architectures=[name], id2label={"0": "n", "1": "y"})
    loaded = tf_pof.load(folder)
    assert loaded.head == "classifier" and loaded.labels == ("n", "y")
    assert set(loaded.new_weights) == {"classifier/kernel", "classifier/bias"}
    # Where none is named, the tensors do.
    edit_config(folder, architectures=None, id2label=None)
    assert tf_pof.load(folder).head == "pretraining"


@pytest.mark.parametrize("architectures", [None, ["BertForQuestionAnswering"]])
def test_a_classifier_that_lost_its_pooler_is_told(
    saved, caplog, architectures
):
    folder, _ = saved("classifier")
    edit_config(folder, tf_pof=None)
    edit_tensors(
        folder,
        lambda t: [t.pop(name) for name in list(t) if "pooler" in name],
    )
    with caplog.at_level(logging.WARNING):
        loaded = tf_pof.load(folder)
    assert loaded.new_weights == ("pooler/kernel", "pooler/bias")
    assert "pooler/kernel" in caplog.text


def fine_tuned_elsewhere(folder, architecture, tensors, **fields):
    """The folder as Hugging Face writes it: what it does not know stays."""
    edit_config(
        folder,
        architectures=[architecture],
        transformers_version="4.57.0",
        **fields,
    )

    def change(stored):
        for name in list(stored):
            if not name.startswith("bert."):
                del stored[name]
        stored.update(tensors)

    edit_tensors(folder, change)


def test_a_section_of_another_head_is_not_believed(saved, batch, caplog):
    folder, model = saved("pretraining")
    rng = np.random.default_rng(3)
    kernel = rng.normal(size=(3, 16)).astype(np.float32)
    bias = rng.normal(size=3).astype(np.float32)
    names = ("up", "flat", "down")
    fine_tuned_elsewhere(
        folder,
        "BertForSequenceClassification",
        {"classifier.weight": kernel, "classifier.bias": bias},
        id2label={str(i): names[i] for i in (2, 0, 1)},
        hidden_dropout_prob=0.25,
    )
    with caplog.at_level(logging.WARNING):
        loaded = tf_pof.load(folder)
    assert "section tf_pof is about another model" in caplog.text
    assert loaded.head == "classifier" and loaded.labels == names
    assert loaded.new_weights == () and loaded.config.dropout == 0.25
    expected = model(batch)["pooled_output"].numpy() @ kernel.T + bias
    np.testing.assert_allclose(loaded(batch)["logits"], expected, rtol=1e-5)


def test_a_section_with_old_labels_is_not_believed(saved):
    folder, _ = saved("classifier", num_labels=2, labels=("no", "yes"))
    fine_tuned_elsewhere(
        folder,
        "BertForSequenceClassification",
        {
            "classifier.weight": np.ones((3, 16), np.float32),
            "classifier.bias": np.ones(3, np.float32),
        },
        id2label={"0": "a", "1": "b", "2": "c"},
    )
    loaded = tf_pof.load(folder)
    assert loaded.num_labels == 3 and loaded.labels == ("a", "b", "c")
    edit_config(folder, id2label=None)
    assert tf_pof.load(folder).labels is None


def test_a_section_of_another_pooler_and_vocabulary_is_not_believed(saved):
    folder, _ = saved("span")
    fine_tuned_elsewhere(
        folder,
        "BertForQuestionAnswering",
        {
            "qa_outputs.weight": np.ones((2, 16), np.float32),
            "qa_outputs.bias": np.ones(2, np.float32),
        },
        vocab_size=64,
    )
    words = "bert.embeddings.word_embeddings.weight"

    def change(tensors):
        del tensors["bert.pooler.dense.weight"]
        del tensors["bert.pooler.dense.bias"]
        tensors[words] = np.pad(tensors[words], ((0, 4), (0, 0)))

    edit_tensors(folder, change)
    loaded = tf_pof.load(folder)
    assert loaded.head == "span" and loaded.new_weights == ()
    assert not loaded.config.pooler and loaded.config.vocabulary_size == 64


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_refused(saved, value):
    folder, _ = saved()
    name = "encoder.layer.1.output.LayerNorm.bias"
    edit_tensors(folder, lambda t: t[name].__setitem__(5, value))
    message = f"model.safetensors: tensor 'bert.{name}' holds NaN or infinite"
    with pytest.raises(ValueError, match=message):
        tf_pof.load(folder)


SIZES = [
    ({"num_hidden_layers": 1_000_000}, "too few for the .*1,?000,?000 layers"),
    ({"num_hidden_layers": 3}, "too few for the .*3 layers"),
    ({"vocab_size": 10**12}, "vocabulary_size must be at most"),
    ({"vocab_size": 64}, r"word_embeddings.* \[60, 16\].*\[64, 16\]"),
    ({"vocab_size": 10**9}, "word_embeddings.*has shape|too few"),
    ({"max_position_embeddings": 10**9}, "position_emb.*has shape|too few"),
    ({"type_vocab_size": 10**9}, "token_type_emb.*has shape|too few"),
    ({"hidden_size": 16 * 10**6}, "word_embeddings.*has shape|too few"),
    ({"intermediate_size": 10**9}, "layer.0.intermed.*has shape|too few"),
]


@pytest.mark.parametrize("fields, message", SIZES)
def test_sizes_that_the_tensors_lack_are_refused_at_once(
    saved, monkeypatch, fields, message
):
    folder, _ = saved()
    edit_config(folder, tf_pof=None, **fields)

    def build(*args, **kwargs):
        raise AssertionError("A model of that size was to be built.")

    monkeypatch.setattr(bert, "build", build)
    with pytest.raises(ValueError, match=message):
        tf_pof.load(folder)


PROBE = """
import resource, sys, time
import tf_pof
tf_pof.load  # Imports TensorFlow.
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
began = time.process_time()
try:
    tf_pof.load(sys.argv[1])
except ValueError:
    pass
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) / 1024, time.process_time() - began)
"""


@pytest.mark.parametrize("fields", [SIZES[0][0], SIZES[4][0]])
def test_such_a_refusal_takes_little(saved, fields):
    folder, _ = saved()
    edit_config(folder, tf_pof=None, **fields)
    done = subprocess.run(
        [sys.executable, "-c", PROBE, folder],
        capture_output=True,
        text=True,
        check=True,
    )
    megabytes, seconds = map(float, done.stdout.split())
    assert megabytes < 100 and seconds < 2


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"tf_pof": []}, "wrong 'tf_pof'"),
        ({"tf_pof": "x"}, "wrong 'tf_pof'"),
        ({"tf_pof": {"version": 1, "head": "x"}}, "wrong 'tf_pof.head'"),
        (
            {"tf_pof": {"version": 1, "head": None, "labels": 5}},
            "wrong 'tf_pof.labels'",
        ),
        ({"tf_pof": {"version": 2, "head": None}}, "newer tf_pof"),
        ({"layer_norm_eps": "1e-12"}, "wrong 'layer_norm_eps'"),
        ({"layer_norm_eps": -1}, "layer_norm_eps.* not -1"),
        ({"layer_norm_eps": 0}, "layer_norm_eps.* not 0"),
        ({"layer_norm_eps": float("nan")}, "wrong 'layer_norm_eps'.* nan"),
        ({"hidden_size": "16"}, "wrong 'hidden_size'"),
        ({"hidden_act": 3}, "wrong 'hidden_act'"),
        ({"hidden_dropout_prob": 2}, "dropout must be"),
        ({"architectures": "BertModel"}, "wrong 'architectures'"),
        ({"model_type": ["bert"]}, r"model_type is \['bert'\]"),
        ({"num_attention_heads": 0}, "num_heads must be at least 1"),
        ({"initializer_range": 1e300}, "initializer_range must be"),
    ],
)
def test_fields_of_wrong_types_are_named(saved, fields, message):
    folder, _ = saved()
    edit_config(folder, **fields)
    with pytest.raises(ValueError, match=f"config.json.*{message}") as caught:
        tf_pof.load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name, contents, message",
    [
        ("sparsity.json", "[]", "does not hold"),
        ("sparsity.json", '{"tensors": []}', "wrong 'tensors'"),
        ("sparsity.json", '{"zeros": "9"}', "wrong 'zeros'"),
        ("sparsity.json", '{"size": 0}', "wrong 'size'"),
        ("sparsity.json", '{"sparsity": 2}', "wrong 'sparsity'"),
        ("quantization.json", "5", "does not hold"),
        ("quantization.json", "{", "not valid JSON"),
        ("tokenizer_config.json", '{"do_lower_case": 1}', "do_lower_case"),
        ("tokenizer_config.json", "[]", "does not hold"),
    ],
)
def test_other_files_of_wrong_types_are_named(saved, name, contents, message):
    folder, _ = saved()
    (folder / name).write_text(contents)
    with pytest.raises(ValueError, match=f"{name}.*{message}"):
        tf_pof.load(folder)
