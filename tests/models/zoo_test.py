"""The bundled model is what its card and sparsity.json say."""

import pathlib

import numpy as np

import tf_pof
from tf_pof.models import weights

FOLDER = pathlib.Path(tf_pof.__file__).parent / "models/zoo/minilm_l6_90"


def test_bundled_model_has_the_zeros_it_claims():
    model = tf_pof.load("minilm_l6_90")
    kernels = dict(weights.effective(model))
    tensors = model.sparsity["tensors"]
    # q, k, v, output and two FFN kernels in 6 layers, and the pooler.
    assert len(tensors) == 37
    for name, tensor in tensors.items():
        kernel = kernels[name]
        assert np.sum(kernel == 0) == kernel.size * 9 // 10 == tensor["zeros"]
    assert np.all(kernels["mlm_dense/kernel"] != 0)


def test_bundled_model_predicts_a_masked_word():
    from tf_pof.data.tokenizer import WordPiece

    model = tf_pof.load("minilm_l6_90")
    tokenizer = WordPiece(model.vocab_file)
    vocabulary = list(tokenizer.vocabulary)
    x = tokenizer.encode(["he was born in england in the year 1850 ."], 16)
    ids = np.array(x["token_ids"])
    at = list(ids[0]).index(vocabulary.index("in"))
    ids[0, at] = vocabulary.index("[MASK]")
    logits = model({**x, "token_ids": ids})["mlm_logits"].numpy()[0, at]
    best = [vocabulary[i] for i in logits.argsort()[-5:]]
    assert "in" in best, best


def test_bundled_model_takes_a_task_head():
    model = tf_pof.load("minilm_l6_90", head="classifier", num_labels=3)
    assert model.output["logits"].shape[-1] == 3
    assert any(name.startswith("classifier") for name in model.new_weights)


def test_bundled_model_is_small_and_has_its_card_and_licences():
    files = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    assert sum(files.values()) <= 25e6
    assert {"README.md", "LICENSE", "NOTICE", "vocab.txt"} <= set(files)
