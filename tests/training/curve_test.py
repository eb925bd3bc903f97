"""The file of the curve: resumed, cut short by a kill, or not ours."""

import json
import resource

import pytest

from tf_pof.training import curve


def points(path):
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_points_of_steps_that_are_taken_again_are_forgotten(tmp_path):
    path = tmp_path / "curve.jsonl"
    for step in (3, 6, 9):
        curve.append(path, {"step": step, "loss": float("nan")})
    curve.drop_points_after(path, 6)
    assert points(path) == [3, 6]
    curve.append(path, {"step": 8, "loss": 1.0})
    assert points(path) == [3, 6, 8]


def test_a_last_line_without_an_end_is_forgotten(tmp_path):
    path = tmp_path / "curve.jsonl"
    path.write_text('{"step": 3}\n{"step": 6, "lo')
    curve.drop_points_after(path, 9)
    assert path.read_text() == '{"step": 3}\n'


@pytest.mark.parametrize(
    "line,what",
    [
        ("garbage", "not valid JSON"),
        ("{}", "lacks 'step'"),
        ('{"step": "3"}', "wrong 'step'"),
        ('{"step": 1.5}', "wrong 'step'"),
        ("[3]", "does not hold"),
        ("\x00\x00", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
    ],
)
def test_what_is_no_point_is_named_by_its_line(line, what, tmp_path):
    path = tmp_path / "curve.jsonl"
    text = f'{{"step": 3}}\n{line}\n{{"step": 6}}\n'
    path.write_text(text)
    with pytest.raises(ValueError, match=f"curve.jsonl:2 .*{what}"):
        curve.drop_points_after(path, 9)
    assert path.read_text() == text


def test_a_full_disk_is_one_sentence(tmp_path):
    path = tmp_path / "curve.jsonl"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(OSError, match="curve.jsonl could not be written"):
            curve.append(path, {"step": 3, "loss": 1.25})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
