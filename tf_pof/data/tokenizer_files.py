"""Finds a model's vocabulary and its tokenizer's settings in a folder."""

import dataclasses
import logging
import os
from typing import Any

from tf_pof import files, untrusted
from tf_pof.data import tokenizer_json, tokenizer_settings, vocabulary
from tf_pof.data.tokenizer_json import UnsupportedTokenizer
from tf_pof.data.tokenizer_settings import TokenizerSettings

_LOG = logging.getLogger(__name__)
VOCAB = "vocab.txt"
CONFIG = "tokenizer_config.json"
# Tokens besides those of vocab.txt.
_ADDED = "added_tokens.json"


class _Added(untrusted.Schema):
    content: str


class _Config(untrusted.Schema):
    do_lower_case: bool | None = None
    strip_accents: bool | None = None
    tokenize_chinese_chars: bool | None = None
    do_basic_tokenize: bool | None = None
    word_tokenizer_type: str | None = None
    added_tokens_decoder: dict[str, _Added] = {}


class _PresetConfig(untrusted.Schema):
    # With keras-nlp's defaults.
    lowercase: bool = False
    strip_accents: bool = False
    split_on_cjk: bool = True


class _PresetFile(untrusted.Schema):
    """tokenizer.json of a keras-nlp preset, which is Keras' own."""

    config: _PresetConfig


def settings_of(vocab_file: str | os.PathLike) -> TokenizerSettings:
    """The tokenizer's settings of a vocabulary.

    They are what tokenizer_config.json and tokenizer.json beside it state, or
    what the vocabulary itself and the folder's name tell, see
    `tokenizer_settings.decide`.

    Raises:
        UnsupportedTokenizer: if the files state a tokenizer that is not
            BERT's.
        ValueError: if a file is damaged, or the vocabulary is none.
    """
    path = os.fspath(vocab_file)
    stated = _stated(os.path.dirname(path), path)
    if "lowercase" in stated:
        return TokenizerSettings(**stated)
    tokens = vocabulary.read(path).tokens
    decided, reason = tokenizer_settings.decide(tokens, path)
    _LOG.info(
        "%s is taken as %s, since %s.",
        path,
        "uncased" if decided.lowercase else "cased",
        reason,
    )
    return TokenizerSettings(**decided.to_dict() | stated)


def _stated(folder: str, path: str) -> dict[str, Any]:
    """Fields of `TokenizerSettings` that the files of a folder state."""
    found = _configured(os.path.join(folder, CONFIG))
    added = os.path.join(folder, _ADDED)
    if os.path.exists(added):
        for token in untrusted.read_json(added):
            tokenizer_json.check_added(added, token)
    json_file = os.path.join(folder, tokenizer_json.NAME)
    if path.endswith(".json"):
        json_file = path
    elif len(found) == len(dataclasses.fields(TokenizerSettings)):
        # What a save of ours has left of an older tokenizer has no say.
        return found
    if os.path.exists(json_file):
        found = tokenizer_json.read(json_file)[1] | found
    return found


def _config(path: str) -> _Config:
    """A tokenizer_config.json, empty if there is none."""
    if not os.path.exists(path):
        return _Config()
    return untrusted.read_json(path, _Config)


def _configured(path: str) -> dict[str, Any]:
    """The fields that a tokenizer_config.json states."""
    config = _config(path)
    if config.do_basic_tokenize is False or config.word_tokenizer_type not in (
        None,
        "basic",
    ):
        raise UnsupportedTokenizer(
            f"{path} asks for another splitting of words than BERT's basic "
            "one: tokenize with the library that wrote it."
        )
    for token in config.added_tokens_decoder.values():
        tokenizer_json.check_added(path, token.content)
    found: dict[str, Any] = {}
    if config.do_lower_case is not None:
        found["lowercase"] = config.do_lower_case
    # None is a value here: as BERT does.
    if "strip_accents" in config.model_fields_set:
        found["strip_accents"] = config.strip_accents
    if config.tokenize_chinese_chars is not None:
        found["tokenize_chinese_chars"] = config.tokenize_chinese_chars
    return found


def attach(model, folder: str | os.PathLike) -> None:
    """Gives a model the vocabulary and the settings of its folder.

    Sets `vocab_file` (a path, of vocab.txt or else of tokenizer.json, or
    None) and `tokenizer_settings` (None if the folder says nothing of them).
    A tokenizer that cannot be used is logged as a warning: the model can.

    Raises:
        ValueError: if tokenizer_config.json is damaged.
    """
    folder = os.fspath(folder)
    _config(os.path.join(folder, CONFIG))
    paths = [os.path.join(folder, n) for n in (VOCAB, tokenizer_json.NAME)]
    model.vocab_file = next((p for p in paths if os.path.exists(p)), None)
    model.tokenizer_settings = None
    try:
        if model.vocab_file is not None:
            model.tokenizer_settings = settings_of(model.vocab_file)
        else:
            # A vocabulary may be named later.
            stated = _configured(os.path.join(folder, CONFIG))
            if "lowercase" in stated:
                model.tokenizer_settings = TokenizerSettings(**stated)
    except (ValueError, OSError) as error:
        _LOG.warning("%s", error)
        if model.vocab_file == paths[1]:
            model.vocab_file = None


def attach_preset(model, folder: str, vocab_file: str) -> None:
    """Like `attach`, of a keras-nlp preset."""
    model.vocab_file = vocab_file if os.path.exists(vocab_file) else None
    model.tokenizer_settings = None
    path = os.path.join(folder, tokenizer_json.NAME)
    try:
        if model.vocab_file is not None:
            model.tokenizer_settings = settings_of(vocab_file)
        if os.path.exists(path):
            config = untrusted.read_json(path, _PresetFile).config
            # False is keras-nlp's default, also for vocabularies that Google
            # made of text without accents: they tell by themselves.
            decided = model.tokenizer_settings or TokenizerSettings()
            model.tokenizer_settings = TokenizerSettings(
                config.lowercase,
                config.strip_accents
                or (config.lowercase and decided.strip_accents),
                config.split_on_cjk,
            )
    except (ValueError, OSError) as error:
        _LOG.warning("%s", error)


def preset(settings: TokenizerSettings, family: str) -> dict[str, bytes]:
    """The tokenizer.json of a keras-nlp preset, by name.

    Args:
        settings: of the tokenizer.
        family: "bert" or "distilbert".
    """
    package, name = {
        "bert": ("bert", "BertTokenizer"),
        "distilbert": ("distil_bert", "DistilBertTokenizer"),
    }[family]
    contents = {
        "module": f"keras_nlp.src.models.{package}.{package}_tokenizer",
        "class_name": name,
        "config": {
            "vocabulary": None,
            "lowercase": settings.lowercase,
            "strip_accents": settings.strip_accents,
            "split_on_cjk": settings.tokenize_chinese_chars,
        },
        "registered_name": f"keras_nlp>{name}",
    }
    return {tokenizer_json.NAME: files.json_bytes(contents)}


def override(model, vocab: str | None, lowercase: bool | None) -> None:
    """Gives a model another vocabulary or another case, where they are given.

    Args:
        model: with `vocab_file` and `tokenizer_settings`.
        vocab: path of its vocabulary, or None to leave it.
        lowercase: whether its texts are lower-cased, accents stripped, or
            None to leave it.

    Raises:
        ValueError: if the vocabulary cannot be used.
    """
    stated = getattr(model, "tokenizer_settings", None)
    if vocab is not None:
        # Of a model without a vocabulary its own files may still tell.
        keep = model.vocab_file is None and stated is not None
        model.vocab_file = vocab
        if lowercase is None and not keep:
            model.tokenizer_settings = settings_of(vocab)
    if lowercase is not None:
        model.tokenizer_settings = TokenizerSettings(
            lowercase,
            tokenize_chinese_chars=stated is None
            or stated.tokenize_chinese_chars,
        )


def known(model, vocab_file: str | None) -> TokenizerSettings | None:
    """The settings to save with a model, or None.

    What is trained is saved in any case: that a vocabulary cannot be used is
    logged as a warning.
    """
    settings = getattr(model, "tokenizer_settings", None)
    if settings is None and vocab_file:
        try:
            settings = settings_of(vocab_file)
        except ValueError as error:
            _LOG.warning("%s", error)
    return settings


def written(model, vocab_file: str | None) -> dict[str, bytes]:
    """The files by which a folder keeps a model's tokenizer.

    Args:
        model: its `tokenizer_settings` are kept, if they are known.
        vocab_file: its vocabulary, or None.

    Returns:
        Contents by name, of VOCAB and CONFIG, as far as there are any.

    Raises:
        OSError: if the vocabulary cannot be read.
    """
    found = {}
    if vocab_file:
        found[VOCAB] = vocab_txt(vocab_file)
    settings = known(model, vocab_file)
    if settings is not None:
        found[CONFIG] = files.json_bytes(settings.to_hf(), sort_keys=True)
    return found


def vocab_txt(vocab_file: str | os.PathLike) -> bytes:
    """The contents of the vocab.txt for a vocabulary.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is a tokenizer.json that is not BERT's.
    """
    path = os.fspath(vocab_file)
    if path.endswith(".json"):
        return vocabulary.read(path).contents
    return vocabulary.read_bytes(path)
