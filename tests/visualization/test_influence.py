"""Influence maps against the Jacobian written out in NumPy."""

import keras
import numpy as np
import pytest

import keras_mixer
from keras_mixer import visualization

pytestmark = pytest.mark.backends

SIZE = dict(num_blocks=2, patch_size=2, hidden_dim=8, tokens_mlp_dim=5, channels_mlp_dim=12, input_shape=(6, 4, 3))
TOKENS, CHANNELS = 6, 8


def randomised(**arguments):
    model = keras_mixer.Mixer(**SIZE, include_top=False, **arguments)
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(0, 0.7, size=w.shape).astype("float32") for w in model.get_weights()])
    return model


@pytest.fixture
def image():
    return np.random.default_rng(0).normal(size=(6, 4, 3)).astype("float32")


def jacobian(model, image, block):
    """d out[t, c] / d in[s, d] of a block's token mixing, (t, c, s, d), by central differences in float64."""
    layer = model.get_layer(f"MixerBlock_{block}")
    entering = keras.Model(model.inputs, layer.input).predict(image[None], verbose=0)
    table = keras.ops.convert_to_numpy(layer.layer_norm_0(entering))[0].astype("float64")
    mixing = layer.token_mixing
    weights = {
        v.path.split("token_mixing/")[1]: keras.ops.convert_to_numpy(v).astype("float64") for v in mixing.weights
    }

    def gelu(x):
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

    def mixed(x):
        if weights["Dense_0/kernel"].ndim == 2:
            hidden = gelu(x.T @ weights["Dense_0/kernel"] + weights["Dense_0/bias"])
            return (hidden @ weights["Dense_1/kernel"] + weights["Dense_1/bias"]).T
        groups = weights["Dense_0/kernel"].shape[0]
        joined = x.reshape(TOKENS, CHANNELS // groups, groups)
        hidden = gelu(np.einsum("sfg,gsh->fh", joined, weights["Dense_0/kernel"]) + weights["Dense_0/bias"])
        out = np.einsum("fh,hgt->tfg", hidden, weights["Dense_1/kernel"]) + weights["Dense_1/bias"].T[:, None]
        return out.reshape(-1, CHANNELS)

    steps = 1e-5 * np.eye(table.size).reshape(-1, *table.shape)
    columns = np.stack([(mixed(table + step) - mixed(table - step)) / 2e-5 for step in steps], axis=-1)
    return columns.reshape(*columns.shape[:2], *table.shape)


@pytest.mark.parametrize("arguments", [{}, dict(tokens=(6, 4))], ids=["base", "pyramid"])
def test_is_the_norm_of_the_jacobian(image, arguments):
    model = randomised(**arguments)
    expected = np.sqrt((jacobian(model, image, 1) ** 2).sum(axis=(1, 3)) / CHANNELS)  # (tokens out, tokens in)
    maps = visualization.influence_maps(model, image, block=1)
    assert maps.shape == (arguments.get("tokens", [6, 6])[1], 3, 2)
    np.testing.assert_allclose(maps.reshape(expected.shape), expected, rtol=1e-3, atol=1e-5)


def test_asked_tokens_are_rows_of_the_whole(image):
    model = randomised()
    whole = visualization.influence_maps(model, image, block=0)
    np.testing.assert_allclose(
        visualization.influence_maps(model, image, block=0, tokens=[4, 1]), whole[[4, 1]], rtol=1e-5
    )


def test_joined_channels_are_estimated(image):
    model = randomised(channel_groups=4)
    expected = np.sqrt((jacobian(model, image, 0)[2] ** 2).sum(axis=(0, 2)) / CHANNELS)
    (estimate,) = visualization.influence_maps(model, image, block=0, tokens=[2], probes=200)
    np.testing.assert_allclose(estimate.ravel(), expected, rtol=0.15)


def test_leaves_the_model_as_it_was(image):
    model = randomised()
    before = model.get_weights()
    visualization.influence_maps(model, image, block=0, tokens=[0])
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert all(layer.trainable for layer in model.layers)


def test_bad_arguments_are_named(image):
    model = randomised()
    with pytest.raises(ValueError, match="tokens 0 to 5; got"):
        visualization.influence_maps(model, image, block=0, tokens=[6])
    with pytest.raises(ValueError, match="Expected one image of shape"):
        visualization.influence_maps(model, image[None], block=0)
