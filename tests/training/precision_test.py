import dataclasses
import io
import json
import pathlib

import tf_pof  # noqa: F401  (legacy Keras before TensorFlow)

import pytest
import rich.console
import tensorflow as tf

from tf_pof.training import precision, program, run_folder

# Lines of /proc/cpuinfo, shortened.
PROCESSORS = {
    "EPYC 9005": ("fpu avx2 avx512f avx512_bf16 avx512_vnni", True),
    "Xeon 4": ("fpu avx512f amx_bf16 avx512_bf16 amx_tile", True),
    "Xeon 2": ("fpu avx2 avx512f avx512_vnni", False),
    "Zen 3": ("fpu avx2 fma", False),
}


def settings(output, **values):
    return program.Settings(
        model="m",
        data="d",
        output=str(output),
        batch_size=8,
        learning_rate=1e-3,
        train_steps=4,
        **{"precision": "auto"} | values,
    )


def decide(given):
    console = rich.console.Console(file=io.StringIO(), width=200)
    decided = precision.decide(given, console)
    return decided.precision, console.file.getvalue()


@pytest.fixture
def cpuinfo(tmp_path, monkeypatch):
    """A function that puts flags of cores in the place of the machine's."""

    def write(*cores):
        path = tmp_path / "cpuinfo"
        text = "".join(
            f"processor\t: {i}\nmodel name\t: x\nflags\t\t: {flags}\n"
            f"vmx flags\t: amx_bf16\nbugs\t\t: avx512_bf16\n\n"
            for i, flags in enumerate(cores)
        )
        path.write_text(text)
        monkeypatch.setattr(precision, "_CPUINFO", str(path))

    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [])
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    return write


@pytest.mark.parametrize("name", PROCESSORS)
def test_auto_is_bfloat16_where_the_processor_multiplies_it(
    name, cpuinfo, tmp_path
):
    flags, able = PROCESSORS[name]
    cpuinfo(flags, flags)
    policy, printed = decide(settings(tmp_path / "run"))
    assert policy == ("mixed_bfloat16" if able else "float32")
    assert f"Precision: {policy}" in printed
    assert ("avx512_bf16" in printed) == able


def test_all_cores_must_be_able(cpuinfo, tmp_path):
    cpuinfo("avx512_bf16 avx2", "avx2")
    assert decide(settings(tmp_path / "run"))[0] == "float32"


def test_auto_is_float32_where_nothing_is_known(
    cpuinfo, tmp_path, monkeypatch
):
    monkeypatch.setattr(precision, "_CPUINFO", str(tmp_path / "nowhere"))
    assert decide(settings(tmp_path / "run"))[0] == "float32"
    cpuinfo()
    assert decide(settings(tmp_path / "run"))[0] == "float32"


@pytest.mark.parametrize("capability,able", [((8, 0), True), ((7, 5), False)])
def test_a_gpu_decides_before_the_processor(
    capability, able, cpuinfo, tmp_path, monkeypatch
):
    cpuinfo("avx512_bf16")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [1])
    monkeypatch.setattr(
        tf.config.experimental,
        "get_device_details",
        lambda gpu: {"compute_capability": capability},
    )
    policy, _ = decide(settings(tmp_path / "run"))
    assert policy == ("mixed_bfloat16" if able else "float32")


def test_what_is_named_is_taken(cpuinfo, tmp_path):
    cpuinfo("avx2")
    given = settings(tmp_path / "run", precision="mixed_bfloat16")
    assert decide(given) == ("mixed_bfloat16", "")


def test_a_run_keeps_its_precision_on_another_machine(cpuinfo, tmp_path):
    cpuinfo("avx512_bf16")
    run = tmp_path / "run"
    given = settings(run)
    began = precision.decide(given, rich.console.Console(quiet=True))
    run.mkdir()
    noted = run / "settings.json"
    noted.write_text(json.dumps(began.identity()))
    assert json.loads(noted.read_text())["precision"] == "mixed_bfloat16"
    cpuinfo("avx2")
    policy, printed = decide(given)
    assert policy == "mixed_bfloat16" and "as this run began" in printed
    run_folder.check(dataclasses.replace(given, precision=policy))
    with pytest.raises(ValueError, match="precision 'mixed_bfloat16' there"):
        run_folder.check(settings(run, precision="float32"))


def test_settings_of_older_runs_are_told_in_todays_words(tmp_path):
    """Their rewind was flat over the ramp, their masks came before a step."""
    path = pathlib.Path(tmp_path, "settings.json")
    today = {"precision": "float32", "learning_rate_schedule": "rewind"}
    old = settings(tmp_path, **today).identity()
    del old["mask_update"]
    path.write_text(json.dumps(old))
    what = (
        "learning_rate_schedule 'flat_then_linear' there, 'rewind' now; "
        "mask_update 'before_step' there, 'after_step' now"
    )
    with pytest.raises(ValueError, match=what):
        run_folder.check(
            settings(tmp_path, mask_update="after_step", **today)
        )
    today["learning_rate_schedule"] = "flat_then_linear"
    run_folder.check(settings(tmp_path, **today))
