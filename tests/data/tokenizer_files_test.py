"""Where a tokenizer's settings come from, and that they are kept."""

import json
import types

import pytest

from tf_pof.data import sample, tokenizer_files, tokenizer_settings
from tf_pof.data.tokenizer import WordPiece
from tf_pof.data.tokenizer_settings import TokenizerSettings

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused1]"]
UNCASED = [*SPECIAL, "the", "london", "##s", "fur", "漢", "字"]
CASED = [*SPECIAL, "the", "London", "london", "##s", "für", "漢"]
ACCENTED = [*SPECIAL, "the", "london", "für", "##é"]
# Nothing that could be cased.
DIGITS = [*SPECIAL, "1", "2", "漢", "字"]
WORDS = [*SPECIAL, "漢字", "日本", "a"]


@pytest.fixture
def make(tmp_path):
    """Makes a folder of a name with a vocabulary and JSON files."""

    def make(tokens, name="model", **contents):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        if tokens is not None:
            text = "\n".join(tokens) + "\n"
            (folder / "vocab.txt").write_text(text, "utf-8")
        for stem, content in contents.items():
            (folder / f"{stem}.json").write_text(json.dumps(content))
        return str(folder)

    return make


def settings_of(folder):
    return tokenizer_files.settings_of(f"{folder}/vocab.txt")


@pytest.mark.parametrize(
    "tokens, name, expected",
    [
        (UNCASED, "model", TokenizerSettings(True)),
        (CASED, "model", TokenizerSettings(False)),
        # No text that is lower-cased has "London", whatever the name.
        (CASED, "uncased_L-2", TokenizerSettings(False)),
        (UNCASED, "cased_L-12_H-768_A-12", TokenizerSettings(True)),
        (DIGITS, "cased_L-12_H-768_A-12", TokenizerSettings(False)),
        (DIGITS, "uncased_L-12_H-768_A-12", TokenizerSettings(True)),
        (DIGITS, "bert-base-cased/snapshot", TokenizerSettings(False)),
        (DIGITS, "cased/bert_uncased", TokenizerSettings(True)),
        (DIGITS, "encased", TokenizerSettings(True)),
        (ACCENTED, "model", TokenizerSettings(True, False)),
        (WORDS, "model", TokenizerSettings(True, True, False)),
    ],
)
def test_vocabulary_and_name_decide_where_no_file_does(
    make, tokens, name, expected
):
    assert settings_of(make(tokens, name)) == expected


@pytest.mark.parametrize(
    "name, lowercase", [("cased", False), ("uncased", True), ("model", False)]
)
def test_a_few_capitals_are_cased_unless_the_name_says_otherwise(
    name, lowercase
):
    # 5 % of the words, as of an uncased vocabulary with words added.
    tokens = [*SPECIAL, *(f"{'a' * i}" for i in range(1, 20)), "Covid"]
    found, reason = tokenizer_settings.decide(tokens, f"/x/{name}/vocab.txt")
    assert found.lowercase is lowercase
    assert reason


def test_bundled_vocabulary_is_uncased_by_itself(tmp_path):
    path = tmp_path / "vocab.txt"
    with open(sample.vocab_path(), "rb") as file:
        path.write_bytes(file.read())
    assert tokenizer_files.settings_of(path) == TokenizerSettings(True)


NORMALIZER = {
    "type": "BertNormalizer",
    "lowercase": False,
    "strip_accents": True,
    "handle_chinese_chars": False,
}
TOKENIZER = {
    "model": {
        "type": "WordPiece",
        "vocab": {token: i for i, token in enumerate(CASED)},
    },
    "normalizer": NORMALIZER,
    "pre_tokenizer": {"type": "BertPreTokenizer"},
}


@pytest.mark.parametrize(
    "contents, expected",
    [
        ({"do_lower_case": False}, TokenizerSettings(False)),
        ({"do_lower_case": True}, TokenizerSettings(True)),
        (
            {"do_lower_case": True, "strip_accents": False},
            TokenizerSettings(True, False),
        ),
        (
            {"do_lower_case": False, "strip_accents": True},
            TokenizerSettings(False, True),
        ),
        (
            {"do_lower_case": True, "strip_accents": None},
            TokenizerSettings(True, True),
        ),
        (
            {"do_lower_case": True, "tokenize_chinese_chars": False},
            TokenizerSettings(True, True, False),
        ),
        # Of the rest the vocabulary tells.
        ({"strip_accents": True}, TokenizerSettings(False, True)),
        ({"model_max_length": 512}, TokenizerSettings(False)),
    ],
)
def test_tokenizer_config_comes_first(make, contents, expected):
    folder = make(CASED, tokenizer_config=contents)
    assert settings_of(folder) == expected
    assert WordPiece(f"{folder}/vocab.txt").settings == expected


def test_tokenizer_json_tells_what_the_config_does_not(make):
    folder = make(UNCASED, tokenizer=TOKENIZER)
    assert settings_of(folder) == TokenizerSettings(False, True, False)
    config = {"do_lower_case": True, "strip_accents": False}
    folder = make(UNCASED, "b", tokenizer=TOKENIZER, tokenizer_config=config)
    assert settings_of(folder) == TokenizerSettings(True, False, False)


def test_a_case_that_is_asked_for_needs_no_files(make):
    folder = make(CASED, tokenizer_config={"do_lower_case": False})
    path = f"{folder}/vocab.txt"
    assert WordPiece(path, True).settings == TokenizerSettings(True)
    assert WordPiece(path, lowercase=False).settings.strip_accents is False
    wanted = TokenizerSettings(True, False, False)
    assert WordPiece(path, settings=wanted).settings == wanted


@pytest.mark.parametrize(
    "contents, message",
    [
        ({"do_lower_case": "yes"}, "wrong 'do_lower_case'"),
        ({"strip_accents": 1}, "wrong 'strip_accents'"),
        ([], "does not hold what it should"),
    ],
)
def test_a_damaged_config_is_told(make, contents, message):
    folder = make(CASED, tokenizer_config=contents)
    for read in (WordPiece, tokenizer_files.settings_of):
        with pytest.raises(ValueError, match=message):
            read(f"{folder}/vocab.txt")
    with pytest.raises(ValueError, match=message):
        tokenizer_files.attach(types.SimpleNamespace(), folder)


@pytest.mark.parametrize(
    "contents, message",
    [
        ({"do_basic_tokenize": False}, "another splitting of words"),
        ({"word_tokenizer_type": "mecab"}, "another splitting of words"),
        (
            {"added_tokens_decoder": {"9": {"content": "covid"}}},
            "takes 'covid' as one token",
        ),
    ],
)
def test_a_tokenizer_that_cannot_be_used_does_not_hinder_the_model(
    make, caplog, contents, message
):
    folder = make(CASED, tokenizer_config=contents)
    with pytest.raises(ValueError, match=message):
        WordPiece(f"{folder}/vocab.txt")
    model = types.SimpleNamespace()
    tokenizer_files.attach(model, folder)
    assert model.vocab_file == f"{folder}/vocab.txt"
    assert model.tokenizer_settings is None
    assert message in caplog.text
    # The user may know better.
    tokenizer = WordPiece(model.vocab_file, lowercase=False)
    assert tokenizer.settings == TokenizerSettings(False)


def test_tokens_that_were_added_are_not_passed_over(make):
    folder = make(CASED, added_tokens={"[MASK]": 4, "covid": 12})
    with pytest.raises(ValueError, match="takes 'covid' as one token"):
        WordPiece(f"{folder}/vocab.txt")
    folder = make(CASED, "special", added_tokens={"[MASK]": 4})
    assert WordPiece(f"{folder}/vocab.txt").settings.lowercase is False


def test_models_get_what_their_folder_has(make):
    model = types.SimpleNamespace()
    tokenizer_files.attach(model, make(None, "none"))
    assert (model.vocab_file, model.tokenizer_settings) == (None, None)
    folder = make(None, "config", tokenizer_config={"do_lower_case": False})
    tokenizer_files.attach(model, folder)
    assert model.tokenizer_settings == TokenizerSettings(False)
    folder = make(None, "json", tokenizer=TOKENIZER)
    tokenizer_files.attach(model, folder)
    assert model.vocab_file == f"{folder}/tokenizer.json"
    assert model.tokenizer_settings == TokenizerSettings(False, True, False)
    assert WordPiece(model.vocab_file).vocabulary == CASED
    other = {**TOKENIZER, "model": {"type": "BPE"}}
    tokenizer_files.attach(model, make(None, "other", tokenizer=other))
    assert (model.vocab_file, model.tokenizer_settings) == (None, None)


def test_what_is_written_is_what_is_read(make, tmp_path):
    for number, source in enumerate(
        (make(CASED, "a"), make(None, "b", tokenizer=TOKENIZER))
    ):
        model = types.SimpleNamespace()
        tokenizer_files.attach(model, source)
        target = tmp_path / f"copy{number}"
        target.mkdir()
        for name, content in tokenizer_files.written(
            model, model.vocab_file
        ).items():
            (target / name).write_bytes(content)
        # An older tokenizer that was there has no say.
        (target / "tokenizer.json").write_text('{"model": {"type": "BPE"}}')
        again = types.SimpleNamespace()
        tokenizer_files.attach(again, target)
        assert again.tokenizer_settings == model.tokenizer_settings
        assert WordPiece(again.vocab_file).vocabulary == CASED


def test_a_decision_is_written(make):
    model = types.SimpleNamespace(tokenizer_settings=None)
    files = tokenizer_files.written(model, make(CASED) + "/vocab.txt")
    assert json.loads(files["tokenizer_config.json"]) == {
        "do_lower_case": False,
        "strip_accents": False,
        "tokenize_chinese_chars": True,
    }
    # A vocabulary that nobody can use is kept all the same.
    files = tokenizer_files.written(model, make(["a"], "bad") + "/vocab.txt")
    assert list(files) == ["vocab.txt"]


def test_a_given_vocabulary_or_case_wins(make):
    own = make(UNCASED, "own")
    other = make(CASED, "other") + "/vocab.txt"

    def model(folder=own):
        model = types.SimpleNamespace()
        tokenizer_files.attach(model, folder)
        return model

    changed = model()
    tokenizer_files.override(changed, None, None)
    assert changed == model()
    tokenizer_files.override(changed, other, None)
    assert changed.vocab_file == other
    assert changed.tokenizer_settings == TokenizerSettings(False)
    tokenizer_files.override(changed, None, True)
    assert changed.tokenizer_settings == TokenizerSettings(True)
    # A folder without a vocabulary may still tell of its case.
    bare = make(None, "bare", tokenizer_config={"do_lower_case": True})
    changed = model(bare)
    tokenizer_files.override(changed, other, None)
    assert changed.tokenizer_settings == TokenizerSettings(True)


def test_older_files_have_the_case_alone():
    assert tokenizer_settings.from_dict(
        {"lowercase": False, "head": "span"}, "x"
    ) == TokenizerSettings(False, False, True)
    for values in ({}, {"lowercase": "yes"}, [], None):
        with pytest.raises(ValueError, match="meta.json"):
            tokenizer_settings.from_dict(values, "meta.json")
    settings = TokenizerSettings(True, False, False)
    stored = json.loads(json.dumps(settings.to_dict()))
    assert tokenizer_settings.from_dict(stored, "x") == settings
