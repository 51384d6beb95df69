import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "Agg")

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def clean_keras_state():
    """Every test starts from the default dtype policy and a fixed seed, and leaves no names behind."""
    import keras  # here, for the process that starts the workers of pytest-xdist runs no test

    keras.config.set_dtype_policy("float32")
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")
    # Collecting garbage after each test would take longer than most tests.
    keras.utils.clear_session(free_memory=False)


@pytest.fixture
def quick_initializers(monkeypatch):
    """Zeros instead of random numbers, where only shapes count and most of the time would go into drawing."""
    import keras

    for initializer in ("TruncatedNormal", "RandomNormal", "RandomUniform", "VarianceScaling"):
        monkeypatch.setattr(
            getattr(keras.initializers, initializer), "__call__", lambda self, shape, dtype=None: np.zeros(shape, dtype)
        )
