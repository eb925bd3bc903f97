"""What BUILD files say of the Python files, worked out from their imports.

    python -m tests.build_files

writes it anew wherever it differs; targets of other kinds stay as they are.
"""

import ast
import functools
import pathlib

from tests.source_tree import (
    MODULES,
    NAMES,
    ROOT,
    TESTS,
    imports,
    wheels,
)

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


def expected_targets(folder):
    """{name: target} of all Python files that a folder's BUILD is about."""
    return {
        target_name(path): expected_target(path)
        for path in MODULES + TESTS
        if build_folder(path) == folder and has_target(path)
    }


def folders():
    """The folders that have a BUILD."""
    return sorted({build_folder(path) for path in MODULES + TESTS})


def load_statement(rule):
    """The statement that loads a rule."""
    if rule == "pytest_test":
        return 'load("//tests:pytest.bzl", "pytest_test")'
    return f'load("@rules_python//python:{rule}.bzl", "{rule}")'


def with_data(path):
    """{name: text} of the targets that name data files, which we keep."""
    if not path.exists():
        return {}
    source = path.read_text()
    found = {}
    for node in ast.parse(source).body:
        values = {k.arg: k.value for k in node.value.keywords}
        if "data" in values:
            name = ast.literal_eval(values["name"])
            found[name] = ast.get_source_segment(source, node)
    return found


def build_file(folder):
    """The whole contents of a folder's BUILD."""
    expected = expected_targets(folder)
    texts = {name: build_text(target) for name, target in expected.items()}
    texts |= with_data(ROOT / folder / "BUILD")
    rules = sorted({target[0] for target in expected.values()})
    statements = sorted(load_statement(rule) for rule in rules)
    parts = [
        *(["\n".join(statements)] if statements else []),
        'package(default_visibility = ["//visibility:private"])',
        'licenses(["notice"])',
        *(texts[name] for name in sorted(texts)),
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    for folder in folders():
        (ROOT / folder / "BUILD").write_text(build_file(folder))
