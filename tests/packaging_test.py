"""The import contract, the order of the folders and the metadata."""

import configparser
import os
import re
import shutil
import subprocess
import sys
import zipfile

import pytest
from packaging import requirements, utils

from tests.source_tree import (
    MODULES,
    NAMES,
    PACKAGE,
    ROOT,
    TESTS,
    dotted,
    imports,
    wheels,
)

# The data's way through the program: nothing imports from further right.
ORDER = (
    "quiet",
    "_registry",
    "_keras",
    "untrusted",
    "files",
    "data",
    "models",
    "pruning",
    "distillation",
    "quantization",
    "training",
    "tasks",
    "export",
    "runtime",
    "cli",
)


def run_python(code, **environment):
    """Runs `code` in a new interpreter without this process's settings."""
    env = {k: v for k, v in os.environ.items() if k != "TF_USE_LEGACY_KERAS"}
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**env, **environment},
        capture_output=True,
        text=True,
    )


def place(name):
    """tf_pof.data.records -> data; tf_pof itself -> None."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else None


# The import contract.


def test_importing_the_package_does_not_import_tensorflow():
    run = run_python(
        "import sys, tf_pof; assert 'tensorflow' not in sys.modules;"
        "assert 'numpy' not in sys.modules"
    )
    assert run.returncode == 0, run.stderr


def test_tf_keras_is_legacy_when_tf_pof_comes_first():
    run = run_python(
        "import tf_pof, tensorflow as tf; print(tf.keras.Model.__module__)"
    )
    assert run.stdout.startswith("tf_keras."), run.stderr


def test_importing_tensorflow_through_the_package_prints_nothing():
    code = "import tf_pof; tf_pof.load('bert_tiny')"
    env = {k: v for k, v in os.environ.items() if k[:7] != "TF_CPP_"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    env["TF_CPP_MIN_LOG_LEVEL"] = "0"
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0 and "oneDNN" in done.stderr


def test_tf_keras_is_legacy_when_tensorflow_comes_first():
    run = run_python(
        "import tensorflow as tf, tf_pof; print(tf.keras.Model.__module__)"
    )
    assert run.stdout.startswith("tf_keras."), run.stderr


@pytest.mark.parametrize(
    "code, value",
    [
        ("import tensorflow as tf; tf.keras.Model; import tf_pof", None),
        ("import tf_pof", "0"),
        ("import tensorflow, tf_pof", "0"),
    ],
    ids=["keras_3_touched", "variable_0", "variable_0_tensorflow_first"],
)
def test_stops_in_one_sentence_when_keras_3_is_active(code, value):
    env = {} if value is None else {"TF_USE_LEGACY_KERAS": value}
    run = run_python(code, **env)
    assert run.returncode == 1
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: tf_pof needs legacy Keras")
    assert "TF_USE_LEGACY_KERAS=1" in last
    assert last.endswith(".") and last.count(". ") == 0


def test_public_names_resolve_and_unknown_ones_do_not():
    import tf_pof

    for name in tf_pof.__all__:
        assert getattr(tf_pof, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        tf_pof.no_such_name


def test_every_module_imports():
    # The commands share names of flags, so each has a process of its own.
    alone = [p for p in MODULES if "__main__" in (ROOT / p).read_text()]
    together = [p for p in MODULES if p not in alone]
    for paths in (together, *([path] for path in alone)):
        run = run_python(
            "import importlib\n"
            f"for name in {[dotted(path) for path in paths]}:\n"
            "    try:\n"
            "        importlib.import_module(name)\n"
            "    except Exception as error:\n"
            "        raise SystemExit(f'{name}: {error!r}')\n"
        )
        assert run.returncode == 0, run.stderr.splitlines()[-1]


# The order of the folders.


def test_folders_import_only_what_comes_before_them():
    problems = []
    for path in MODULES:
        here = place(dotted(path))
        if here is None:
            problems += [f"{path} imports {m}" for m in imports(path)]
            continue
        assert here in ORDER, f"{path}: say in ORDER where it belongs"
        for module in imports(path):
            there = place(module)
            if there not in ORDER or ORDER.index(there) > ORDER.index(here):
                problems.append(f"{path} imports {module}")
    assert not problems


def test_there_are_no_import_circles():
    graph = {name: imports(path) & set(NAMES) for name, path in NAMES.items()}
    done = set()

    def visit(name, way):
        assert name not in way, " -> ".join((*way, name))
        if name not in done:
            for other in graph[name]:
                visit(other, (*way, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_files_keep_to_the_style():
    problems = []
    for path in MODULES + TESTS:
        text = (ROOT / path).read_text()
        lines = text.splitlines()
        if len(lines) > 400:
            problems.append(f"{path} has more than 400 lines")
        for number, line in enumerate(lines, 1):
            if len(line) > 80:
                problems.append(f"{path}:{number} has over 80 characters")
        if path.parts[:2] != ("tf_pof", "cli") and path in MODULES:
            if re.search(r"^from absl import .*\bflags\b", text, re.MULTILINE):
                problems.append(f"{path} has flags, which belong to cli")
    assert not problems


# The metadata.


def setup_cfg():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return config


def requirement_list(text):
    return [
        requirements.Requirement(line)
        for line in text.splitlines()
        if line.strip() and not line.strip().startswith("#")
    ]


def lock():
    """{wheel: version} of requirements_lock.txt."""
    lines = (ROOT / "requirements_lock.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if "==" in line]
    return {utils.canonicalize_name(name): version for name, version in pairs}


def test_every_imported_wheel_is_locked():
    for path in MODULES + TESTS:
        assert wheels(path) <= set(lock()), path


def test_locked_versions_are_in_the_ranges():
    config = setup_cfg()
    locked = lock()
    for requirement in requirement_list(
        config["options"]["install_requires"]
        + config["options.extras_require"]["test"]
    ):
        version = locked[utils.canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), requirement


def test_required_wheels_are_those_imported():
    required = {
        utils.canonicalize_name(requirement.name)
        for requirement in requirement_list(
            setup_cfg()["options"]["install_requires"]
        )
    }
    assert set().union(*map(wheels, MODULES)) == required


def test_tensorflow_and_its_companions_have_one_minor():
    from importlib import metadata

    minors = {
        ".".join(metadata.version(name).split(".")[:2])
        for name in ("tensorflow", "tf-keras", "tensorflow-text")
    }
    assert len(minors) == 1, minors


def test_every_entry_point_has_its_launcher_and_module():
    scripts = setup_cfg()["options.entry_points"]["console_scripts"]
    commands = re.findall(r"tf-pof-(\S+) = tf_pof\.cli\.(\w+):run", scripts)
    assert len(commands) == len(scripts.strip().splitlines())
    for command, module in commands:
        assert command.replace("-", "_") == module
        launcher = ROOT / "bin" / module
        assert os.access(launcher, os.X_OK)
        assert f"-m tf_pof.cli.{module} " in launcher.read_text()
        assert "def run(" in (PACKAGE / "cli" / f"{module}.py").read_text()


def test_the_sources_of_the_library_are_in_the_sdist(monkeypatch):
    from setuptools._distutils import filelist

    monkeypatch.chdir(ROOT)
    listed = filelist.FileList()
    listed.findall("tf_pof")
    for line in (ROOT / "MANIFEST.in").read_text().splitlines():
        if line.startswith(("recursive-include tf_pof", "global-exclude")):
            listed.process_template_line(line)
    sources = PACKAGE / "runtime" / "cc"
    for path in sources.rglob("*"):
        if path.is_file():
            assert str(path.relative_to(ROOT)) in listed.files
    assert not [name for name in listed.files if "runtime/lib/" in name]


@pytest.mark.slow
@pytest.mark.parametrize("compiler", [True, False])
def test_a_wheel_is_built_with_the_library_or_the_reason(tmp_path, compiler):
    if compiler and not all(map(shutil.which, ("cmake", "c++"))):
        pytest.skip("needs cmake and a C++ compiler")
    source = tmp_path / "source"
    skipped = shutil.ignore_patterns(".git", ".venv", "dist", "lib", "zoo")
    shutil.copytree(ROOT, source, ignore=skipped)
    run = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "."],
        cwd=source,
        env=os.environ | ({} if compiler else {"PATH": str(tmp_path)}),
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    (wheel,) = source.glob("tf_pof-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert "tf_pof/runtime/cc/delegate.h" in archive.namelist()
        folder = "tf_pof/runtime/lib/"
        names = [n for n in archive.namelist() if n.startswith(folder)]
        if compiler:
            assert names == [folder + "libtf_pof_delegate.so"]
            assert "-py3-none-linux_" in wheel.name
        else:
            assert names == [folder + "not_built.txt"]
            assert b"CMake, a C++ compiler" in archive.read(names[0])
            assert wheel.name.endswith("-py3-none-any.whl")


def test_readme_example_runs(tmp_path, monkeypatch):
    import tensorflow as tf

    import tf_pof

    text = (ROOT / "README.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    config = tf_pof.BertConfig.preset(
        "bert_tiny", vocabulary_size=50, max_sequence_length=8
    )
    monkeypatch.chdir(tmp_path)
    tf_pof.save(tf_pof.build(config, head="classifier"), "my_bert")
    inputs = {
        "token_ids": tf.ones([4, 8], tf.int32),
        "segment_ids": tf.zeros([4, 8], tf.int32),
        "padding_mask": tf.ones([4, 8], tf.int32),
    }
    labels = tf.constant([0, 1, 0, 1])
    train_ds = tf.data.Dataset.from_tensor_slices((inputs, labels)).batch(2)
    names = {
        "texts": ["good", "bad", "fine", "poor"],
        "labels": labels,
        "train_ds": train_ds,
    }
    exec(compile("\n".join(examples), "README.md", "exec"), names)
    classifier = tf_pof.load("my_classifier")
    assert classifier.sparsity["sparsity"] == pytest.approx(0.9, abs=1e-5)
    loaded = tf_pof.load("sparse_model")
    assert loaded.head == "classifier"
