import os

import goldens
import keras
import numpy as np
import pytest

import keras_mixer
from keras_mixer import weights


@pytest.mark.backends
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "bfloat16", "float16"])
def test_a_load_after_a_save_is_bit_exact(policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    model = goldens.mixer()
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape).astype(w.dtype) for w in model.get_weights()])
    weights.save_npz(model, tmp_path / "model.npz")
    other = goldens.mixer()
    weights.load(other, tmp_path / "model.npz")
    assert goldens.same(goldens.snapshot(model), goldens.snapshot(other))


def test_the_layout_is_the_official_one(tmp_path):
    model = goldens.mixer()
    weights.load(model, goldens.TINY)
    weights.save_npz(model, tmp_path / "model.npz")
    with np.load(goldens.TINY) as official, np.load(tmp_path / "model.npz", allow_pickle=False) as saved:
        assert set(saved) == set(official)
        for name in official:
            assert saved[name].dtype == official[name].dtype
            np.testing.assert_array_equal(saved[name], official[name])


def test_a_save_is_whole_or_not_at_all(tmp_path, monkeypatch):
    model = goldens.mixer()
    path = tmp_path / "model.npz"
    weights.save_npz(model, path)
    before = path.read_bytes()

    def no_space_left(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space_left)
    with pytest.raises(OSError, match="No space left"):
        weights.save_npz(model, path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.npz"]


def test_bad_paths(tmp_path):
    model = goldens.mixer()
    with pytest.raises(ValueError, match=r"must end in \.npz"):
        weights.save_npz(model, tmp_path / "model.h5")
    with pytest.raises(FileNotFoundError, match="no folder"):
        weights.save_npz(model, tmp_path / "missing" / "model.npz")
    with pytest.raises(ValueError, match="no weights"):
        weights.save_npz(keras.Sequential([keras.layers.Flatten()]), tmp_path / "model.npz")


@pytest.mark.parametrize("name", ["mixing", "norm", "Dense_0"])
def test_names_that_end_as_those_of_sublayers(name, tmp_path):
    images = keras.Input((8, 8, 3))
    with keras.name_scope("outer"):
        tokens = keras_mixer.layers.PatchEmbedding(4, 4)(images)
        model = keras.Model(images, keras_mixer.layers.MixerBlock(2, 2, name=name)(tokens))
    weights.save_npz(model, tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz") as saved:
        assert {f"{name}/token_mixing/Dense_0/kernel", f"{name}/channel_mixing/Dense_1/bias"} < set(saved)
    before = goldens.snapshot(model)
    model.set_weights([0 * value for value in before])
    weights.load(model, tmp_path / "model.npz")
    assert goldens.same(goldens.snapshot(model), before)
