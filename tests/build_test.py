"""BUILD names every file, its dependencies and who may see it.

Bazel itself does not run here: Starlark is close enough to Python for ast.
"""

import ast
import functools
import pathlib
import re

import pytest

from tests.source_tree import (
    MODULES,
    NAMES,
    PACKAGE,
    ROOT,
    TESTS,
    imports,
    wheels,
)

BUILD_FILES = [
    ROOT / "BUILD",
    *sorted(PACKAGE.rglob("BUILD")),
    *sorted((ROOT / "tests").rglob("BUILD")),
]


def build_folder(path):
    """The folder whose BUILD holds a file's target."""
    return pathlib.Path("tests") if path in TESTS else path.parent


def target_name(path):
    if path.name == "__init__.py":
        return path.parent.name
    return path.relative_to(build_folder(path)).with_suffix("").as_posix()


def target_label(path, seen_from=None):
    """//tf_pof/data:records, or :records seen from its own folder."""
    folder, name = build_folder(path), target_name(path)
    if folder == seen_from:
        return f":{name}"
    if folder.name == name:
        return f"//{folder.as_posix()}"
    return f"//{folder.as_posix()}:{name}"


def has_target(path):
    """Whether a file has code; Bazel makes empty __init__.py itself."""
    body = ast.parse((ROOT / path).read_text()).body
    return path.name != "__init__.py" or len(body) > 1


@functools.cache
def needs(path):
    """The files of the project that a file imports, now or when used."""
    modules = set(imports(path))
    if path.name == "__init__.py":
        # Some import what they export when it is used.
        modules |= {
            node.value
            for node in ast.walk(ast.parse((ROOT / path).read_text()))
            if isinstance(node, ast.Constant) and node.value in NAMES
        }
    found = {NAMES[module] for module in modules & set(NAMES)}
    return {other for other in found if has_target(other)} - {path}


def expected_target(path):
    """(rule, name, srcs, deps, is used from other folders) of a file."""
    folder = build_folder(path)
    rule = "py_library"
    if path in TESTS:
        if path.name.endswith("_test.py"):
            rule = "pytest_test"
    elif '__name__ == "__main__"' in (ROOT / path).read_text():
        rule = "py_binary"
    deps = {target_label(other, folder) for other in needs(path)}
    deps |= {f"@pypi//{wheel.replace('-', '_')}" for wheel in wheels(path)}
    shared = any(
        path in needs(other) and build_folder(other) != folder
        for other in MODULES + TESTS
    )
    source = path.relative_to(folder).as_posix()
    return rule, target_name(path), [source], sorted(deps), shared


def stated_targets(build):
    """{name: (rule, name, srcs, deps, is visible elsewhere)} of a BUILD."""
    found = {}
    for node in ast.parse(build.read_text()).body:
        call = getattr(node, "value", None)
        if not isinstance(call, ast.Call):
            continue
        if call.func.id in ("load", "package", "licenses", "exports_files"):
            continue
        values = {"srcs": [], "deps": [], "visibility": []}
        for keyword in call.keywords:
            if keyword.arg in ("name", *values):
                values[keyword.arg] = ast.literal_eval(keyword.value)
        name = values["name"]
        assert name not in found, f"{build}: two targets {name}"
        found[name] = (
            call.func.id,
            name,
            values["srcs"],
            sorted(values["deps"]),
            bool(values["visibility"]),
        )
    return found


def build_text(target):
    """A target as it should stand in BUILD."""
    rule, name, srcs, deps, shared = target
    lines = [f"{rule}(", f'    name = "{name}",', f'    srcs = ["{srcs[0]}"],']
    if shared:
        lines.append('    visibility = ["//:__subpackages__"],')
    if len(deps) == 1:
        lines.append(f'    deps = ["{deps[0]}"],')
    elif deps:
        order = sorted(deps, key=lambda dep: ("@/:".index(dep[0]) * -1, dep))
        lines += ["    deps = [", *(f'        "{d}",' for d in order), "    ],"]
    return "\n".join([*lines, ")"])


def test_every_module_is_one_build_target():
    problems = []
    for folder in sorted({build_folder(path) for path in MODULES + TESTS}):
        build = ROOT / folder / "BUILD"
        expected = {
            target_name(path): expected_target(path)
            for path in MODULES + TESTS
            if build_folder(path) == folder and has_target(path)
        }
        stated = stated_targets(build) if build.exists() else {}
        for name in sorted(set(expected) | set(stated)):
            if name not in expected:
                problems.append(f"{folder}/BUILD: no file for target {name}")
            elif stated.get(name) != expected[name]:
                text = build_text(expected[name])
                problems.append(f"{folder}/BUILD should have:\n{text}")
    assert not problems, "\n\n".join(problems)


@pytest.mark.parametrize("build", BUILD_FILES, ids=lambda p: p.parent.name)
def test_build_files_load_their_rules_and_are_private(build):
    text = build.read_text()
    assert 'default_visibility = ["//visibility:private"]' in text
    rules = {target[0] for target in stated_targets(build).values()}
    loads = dict(
        reversed(pair)
        for pair in re.findall(r'^load\("(.+)", "(\w+)"\)$', text, re.M)
    )
    assert loads == {
        rule: "//tests:pytest.bzl"
        if rule == "pytest_test"
        else f"@rules_python//python:{rule}.bzl"
        for rule in rules
    }
