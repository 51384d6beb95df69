import family
import goldens
import keras
import numpy as np
import pytest


@pytest.mark.backends
def test_a_fresh_block_treats_tokens_apart():
    """The gates start at 1, so that changing one token leaves all others as they are."""
    model = family.model("gmlp", include_top=False)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(1, 32, 32, 3)).astype("float32")
    changed = images.copy()
    changed[:, :8, :8] += 1.0  # the first patch
    difference = np.abs(goldens.outputs(model, images) - goldens.outputs(model, changed))[0].max(axis=-1)
    assert difference[0] > 0.1
    assert difference[1:].max() < 1e-5


@pytest.mark.backends
def test_trained_gates_mix_tokens():
    model = family.randomised(family.model("gmlp", include_top=False))
    images = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype("float32")
    changed = images.copy()
    changed[:, :8, :8] += 1.0
    difference = np.abs(goldens.outputs(model, images) - goldens.outputs(model, changed))[0].max(axis=-1)
    assert difference.min() > 1e-4


def test_norms_have_the_published_epsilons():
    """1e-6 around the blocks and 1e-5 in the gate, as the published weights were trained."""
    model = family.model("gmlp")
    assert model.get_layer("block_0_norm").epsilon == 1e-6
    assert model.get_layer("pre_head_layer_norm").epsilon == 1e-6
    assert model.get_layer("block_0_gate").norm.epsilon == 1e-5


def test_an_odd_width_cannot_be_gated():
    with pytest.raises(ValueError, match="even number of channels"):
        family.model("gmlp", hidden_dim=5, mlp_ratio=1)


def test_needs_a_static_image():
    with pytest.raises(ValueError, match="one static size"):
        family.model("gmlp", input_shape=(None, None, 3))


def test_dropout_acts_only_in_training():
    model = family.randomised(family.model("gmlp", dropout=0.5))
    images, _ = family.answers("gmlp")
    still = keras.ops.convert_to_numpy(model(images, training=False))
    np.testing.assert_array_equal(still, keras.ops.convert_to_numpy(model(images, training=False)))
    assert not np.allclose(still, keras.ops.convert_to_numpy(model(images, training=True)))
