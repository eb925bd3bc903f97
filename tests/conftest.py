"""Settings that every test shares."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import pytest


def pytest_addoption(parser):
    parser.addoption(
        "--slow", action="store_true", help="Also run tests marked slow."
    )


def pytest_collection_modifyitems(config, items):
    if config.getoption("--slow"):
        return
    slow = pytest.mark.skip(reason="needs --slow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(slow)


@pytest.fixture(autouse=True)
def _float32_policy():
    """A test that sets a global precision policy must not leak it."""
    yield
    import tensorflow as tf

    tf.keras.mixed_precision.set_global_policy("float32")
