"""Options for Beam, and the sentences of its workers' errors."""

import functools
import os

import pytest

from tf_pof.data import beam_runner

RUNNER = "apache_beam.runners.direct.direct_runner.BundleBasedDirectRunner"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--runner=DirectRunner"],
        ["--runner", "DirectRunner", "--direct_num_workers=2"],
        ["--runner=FlinkRunner", "--flink_master=host:8081"],
        ["--runner=DirectRunner", "--streaming"],
        [f"--runner={RUNNER}"],
    ],
)
def test_takes_what_beam_knows(arguments):
    beam_runner.parse_options(arguments)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--runer=FlinkRunner"], "no option --runer, .* mean --runner?"),
        (
            ["--runner=FlinkRunner", "--flink_mster=a:1"],
            "no option --flink_mster, .* did you mean --flink_master?",
        ),
        (["--runner=DirectRunner", "--xyzzy"], "no option --xyzzy"),
        (["--runner=DirectRunner", "more"], "no option more"),
        (["runner=FlinkRunner"], "no option runner=FlinkRunner"),
        (["--flink_master=a:1"], "must name a runner"),
        ([""], "no option "),
        (["--runner=FlinkRuner"], "cannot use the runner FlinkRuner"),
        (["--runner=no.such.Runner"], "cannot use the runner no.such.Runner"),
        (
            ["--runner=DirectRunner", "--direct_num_workers=two"],
            "does not take .*direct_num_workers.* 'two'",
        ),
    ],
)
def test_refuses_what_beam_would_ignore(arguments, message, capfd):
    with pytest.raises(ValueError, match=message) as error:
        beam_runner.parse_options(arguments)
    assert "\n" not in str(error.value)
    assert capfd.readouterr().err == ""


def _fail(kind, element):
    raise kind(f"{element} is\nbad")


@pytest.mark.parametrize("kind", [ValueError, OSError])
def test_the_error_of_a_worker_is_raised_as_it_was(tmp_path, kind):
    options = beam_runner.parse_options([f"--runner={RUNNER}"])
    with pytest.raises(kind, match="^7 is bad$"):
        beam_runner.execute(
            options,
            str(tmp_path / "error.json"),
            functools.partial(_fail, kind),
            [7],
        )


def test_an_error_that_cannot_be_left_is_still_one_sentence(tmp_path):
    options = beam_runner.parse_options([f"--runner={RUNNER}"])
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="^Beam's runner failed .*bad") as error:
        beam_runner.execute(
            options,
            str(tmp_path / "file" / "error.json"),
            functools.partial(_fail, OSError),
            [7],
        )
    assert "\n" not in str(error.value)


def test_the_work_is_done_once_for_each_element(tmp_path):
    options = beam_runner.parse_options([f"--runner={RUNNER}"])
    beam_runner.execute(
        options,
        str(tmp_path / "error.json"),
        os.mkdir,
        [str(tmp_path / str(i)) for i in range(5)],
    )
    assert sorted(os.listdir(tmp_path)) == list("01234")
