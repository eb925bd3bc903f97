"""A tokenizer's settings go with the model, from format to format."""

import json
import pathlib
import shutil

import pytest

import tf_pof
from tf_pof.data.tokenizer import WordPiece
from tf_pof.data.tokenizer_settings import TokenizerSettings
from tf_pof.models import resolve
from tf_pof.models.checkpoints import google, keras_nlp
from tf_pof.quantization import saved

SETTINGS = TokenizerSettings(True, False, False)
HF5 = pathlib.Path(__file__).parents[1] / "data" / "hf5"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
CASED = [*SPECIAL, "London", "london", "für", "the", "漢", "字", "漢字"]
TEXTS = ["London FÜR 漢字"]


@pytest.fixture
def vocab(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("\n".join(CASED) + "\n", "utf-8")
    return str(path)


@pytest.fixture
def model(tiny, vocab):
    model = tiny("classifier")
    model.vocab_file, model.tokenizer_settings = vocab, SETTINGS
    return model


def _save_hf(model, path):
    return tf_pof.save(model, path)


def _save_google(model, path):
    google.save(model, path)
    return str(path)


@pytest.mark.parametrize(
    "save", [_save_hf, _save_google, keras_nlp.save], ids=["hf", "tf1", "keras"]
)
def test_through_every_format(model, tmp_path, save):
    loaded = resolve.resolve(str(save(model, str(tmp_path / "x"))), head=None)
    assert loaded.tokenizer_settings == SETTINGS
    assert WordPiece(loaded.vocab_file).vocabulary == CASED


@pytest.mark.parametrize("settings", [SETTINGS, TokenizerSettings(False)])
def test_keras_nlp_reads_our_settings(model, tmp_path, settings):
    import keras_nlp as library

    model.tokenizer_settings = settings
    path = keras_nlp.save(model, str(tmp_path / "preset"))
    tokenizer = library.models.BertTokenizer.from_preset(path)
    ours = WordPiece(model.vocab_file, settings=settings)
    expected = ours.tokenize_strings(TEXTS).to_list()
    assert tokenizer(TEXTS).to_list() == expected


def test_through_pruning_and_quantization(model, tmp_path):
    schedule = tf_pof.PruneOnceSchedule(0.0, 0.5, 0, 2, 4, frequency=1)
    assert tf_pof.prune(model, schedule).tokenizer_settings == SETTINGS
    quantized = tf_pof.quantize(model)
    assert quantized.tokenizer_settings == SETTINGS
    assert saved.as_float32(quantized).tokenizer_settings == SETTINGS


@pytest.mark.parametrize("name", ["cased_L-2_H-16", "model"])
def test_a_cased_google_checkpoint_is_not_lower_cased(model, tmp_path, name):
    folder = tmp_path / name
    google.save(model, folder)
    # Google's own have none.
    (folder / "tokenizer_config.json").unlink()
    loaded = resolve.resolve(str(folder / "bert_model.ckpt"), head=None)
    assert loaded.tokenizer_settings.lowercase is False
    tokens = WordPiece(loaded.vocab_file).tokenize_strings(["London the"])
    assert tokens.to_list() == [[CASED.index("London"), CASED.index("the")]]


def test_a_folder_without_tokenizer_config_is_judged_by_its_words(
    model, tmp_path
):
    path = pathlib.Path(tf_pof.save(model, tmp_path / "x"))
    (path / "tokenizer_config.json").unlink()
    loaded = tf_pof.load(path)
    assert loaded.tokenizer_settings.lowercase is False
    # What was decided is written.
    again = pathlib.Path(tf_pof.save(loaded, tmp_path / "y"))
    told = json.loads((again / "tokenizer_config.json").read_text())
    assert told["do_lower_case"] is False


@pytest.mark.parametrize("name", ["uncased", "cased", "accents", "words"])
def test_a_folder_of_transformers_5(tiny, tmp_path, name):
    model = tiny("classifier")
    path = pathlib.Path(tf_pof.save(model, tmp_path / "x"))
    shutil.copytree(HF5 / name, path, dirs_exist_ok=True)
    loaded = tf_pof.load(path)
    assert loaded.vocab_file == str(path / "tokenizer.json")
    before = WordPiece(loaded.vocab_file)
    saved_again = pathlib.Path(tf_pof.save(loaded, tmp_path / "y"))
    assert not (saved_again / "tokenizer.json").exists()
    assert (saved_again / "vocab.txt").exists()
    again = tf_pof.load(saved_again)
    assert again.tokenizer_settings == before.settings
    after = WordPiece(again.vocab_file)
    assert after.vocabulary == before.vocabulary
    assert after.sha256 == before.sha256


def test_the_bundled_model_says_that_it_is_uncased():
    model = tf_pof.load("minilm_l6_90")
    folder = pathlib.Path(model.vocab_file).parent
    told = json.loads((folder / "tokenizer_config.json").read_text())
    assert told == TokenizerSettings(True).to_hf()
    assert model.tokenizer_settings == TokenizerSettings(True)
