"""The project's own files and what they import, read without running them."""

import ast
import functools
import pathlib
import sys

from packaging import utils

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "tf_pof"
MODULES = sorted(path.relative_to(ROOT) for path in PACKAGE.rglob("*.py"))
# Scripts called make_... wrote test data in environments of their own.
TESTS = sorted(
    path.relative_to(ROOT)
    for path in (ROOT / "tests").rglob("*.py")
    if not path.name.startswith("make_")
)
OWN = {"tf_pof", "tests"}
# Imports whose wheel has another name.
WHEELS = {"absl": "absl-py", "sklearn": "scikit-learn"}
# What a wheel imports at run time without requiring it.
UNDECLARED = {
    "keras-nlp": {"keras-core"},
    "tensorflow-datasets": {"importlib-resources"},
    "tensorflow-model-optimization": {"setuptools", "tensorboard"},
}


def dotted(path):
    """tf_pof/data/records.py -> tf_pof.data.records"""
    parts = list(path.with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {dotted(path): path for path in MODULES + TESTS}


@functools.cache
def all_imports(path):
    """The dotted modules of all imports in a file, at whatever depth."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in NAMES else node.module)
    return found


def imports(path):
    """The modules of this project that a file imports."""
    return {m for m in all_imports(path) if m.split(".")[0] in OWN}


def wheels(path):
    """The wheels that a file imports from, under their canonical names."""
    tops = {module.split(".")[0] for module in all_imports(path)}
    found = {
        utils.canonicalize_name(WHEELS.get(top, top))
        for top in tops - set(sys.stdlib_module_names) - OWN
    }
    if path.name == "_keras.py":
        found.add("tf-keras")  # What tf.keras becomes.
    return found.union(*(UNDECLARED.get(wheel, ()) for wheel in found))
