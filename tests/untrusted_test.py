"""JSON of others either fits its schema or gives one sentence."""

import os

from hypothesis import given, strategies as st
import pytest

from tf_pof import untrusted


class Model(untrusted.Schema):
    layers: int
    rate: float = 0.5
    labels: dict[str, str] = {}


def test_what_fits_is_read_with_defaults_and_unknown_keys():
    found = untrusted.parse_json(b'\xef\xbb\xbf{"layers": 3, "x": [1]}', Model)
    assert (found.layers, found.rate, found.labels) == (3, 0.5, {})
    assert found.model_extra == {"x": [1]}


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("{}", "m.json lacks 'layers'."),
        ('{"layers": "3"}', "m.json has a wrong 'layers': .* not '3'."),
        ('{"layers": true}', "m.json has a wrong 'layers': .* not True."),
        ('{"layers": 1, "rate": NaN}', "wrong 'rate': .*finite.* not nan."),
        ('{"layers": 1, "rate": 1e999}', "wrong 'rate': .*finite.* not inf."),
        ('{"layers": 1, "labels": {"a": 1}}', "wrong 'labels.a': .* not 1."),
        (
            '{"layers": 1, "labels": {"%s": 1}}' % ("a" * 999),
            r"wrong 'labels.a*\.\.\.': .* not 1.",
        ),
        ("[]", r"m.json does not hold what it should: .* not \[\]."),
        ("{", "m.json is not valid JSON"),
        ("", "m.json is not valid JSON"),
        ("\x00", "m.json is not valid JSON"),
        ("[" * 100_000, "m.json is not valid JSON .*recursion"),
        ('{"a":' * 100_000, "m.json is not valid JSON .*recursion"),
    ],
)
def test_what_does_not_fit_is_named_in_one_sentence(text, sentence):
    with pytest.raises(ValueError, match=f"{sentence}") as caught:
        untrusted.parse_json(text, Model, "m.json")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


@given(st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_any_bytes_give_a_value_or_a_value_error(contents):
    try:
        assert isinstance(untrusted.parse_json(contents), dict)
    except ValueError:
        pass


def test_files_too_large_or_of_another_kind_are_refused(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"a": 1}')
    assert untrusted.read_json(path) == {"a": 1}
    with pytest.raises(ValueError, match="x.json is larger than"):
        untrusted.read_json(path, limit=3)
    # Endless, and does not say its size.
    with pytest.raises(ValueError, match="no regular file"):
        untrusted.read_json("/dev/zero")
    with pytest.raises(OSError, match="is a folder, not a file"):
        untrusted.read_json(tmp_path)
    os.remove(path)
    with pytest.raises(FileNotFoundError):
        untrusted.read_json(path)
    os.mkfifo(path)
    for read in (untrusted.read_bytes, untrusted.first_bytes):
        with pytest.raises(ValueError, match="no regular file"):
            read(path)


def test_a_pointer_of_git_lfs_is_called_so(tmp_path):
    path = tmp_path / "x"
    start = "version https://git-lfs.github.com/spec/v1"
    path.write_text(f"{start}\noid sha256:{'0' * 64}\nsize 12345\n")
    for read in (untrusted.read_bytes, untrusted.first_bytes):
        with pytest.raises(ValueError, match='x is a pointer.*"git lfs pull"'):
            read(path)
    path.write_text(start[:30] + "x")
    assert untrusted.first_bytes(path, 7) == b"version"
    assert untrusted.first_bytes(path) == untrusted.read_bytes(path)
