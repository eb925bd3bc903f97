"""A py_test that runs its file under pytest."""

load("@rules_python//python:py_test.bzl", "py_test")

def pytest_test(name, srcs, deps = [], **kwargs):
    """Runs one test file with tests/conftest.py.

    Args:
      name: the file's path in tests/ without .py.
      srcs: a list of that file alone.
      deps: what it imports.
      **kwargs: passed on to py_test.
    """
    py_test(
        name = name,
        srcs = srcs + ["run_pytest.py"],
        main = "run_pytest.py",
        args = ["$(rootpath %s)" % srcs[0]],
        deps = deps + [":conftest", ":run_pytest"],
        **kwargs
    )
