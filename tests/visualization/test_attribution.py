"""Influence maps against the Jacobian written out in NumPy, and occlusion against sums over covered pixels."""

import keras
import numpy as np
import pytest

import keras_mixer
from keras_mixer import visualization
from keras_mixer.weights import InputPreprocessing

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
    for tokens in ([-1], [0.0], ["0"]):
        with pytest.raises(ValueError, match="tokens 0 to 5; got"):
            visualization.influence_maps(model, image, block=0, tokens=tokens)
    for tokens in (0, "0"):
        with pytest.raises(ValueError, match="`tokens` must be a sequence of integers"):
            visualization.influence_maps(model, image, block=0, tokens=tokens)
    with pytest.raises(ValueError, match="`probes` must be a positive integer"):
        visualization.influence_maps(model, image, block=0, probes=0)


@pytest.fixture
def sum_of_a_corner():
    """Scores of two classes: the sum of the top left 2 x 2 pixels, and its negative."""
    images = keras.Input((8, 6, 1))
    corner = keras.layers.Flatten()(images[:, :2, :2])
    head = keras.layers.Dense(2, use_bias=False)
    model = keras.Model(images, head(corner))
    head.kernel.assign(np.tile([[1.0, -1.0]], (4, 1)))
    return model


def test_the_fall_is_what_was_covered(sum_of_a_corner):
    image = np.ones((8, 6, 1), "float32")
    fall = visualization.occlusion_saliency(sum_of_a_corner, image, window=2, stride=2)
    expected = np.zeros((8, 6))
    expected[:2, :2] = 4.0  # one window covers the corner, and takes all of its sum
    np.testing.assert_allclose(fall, expected, atol=1e-5)
    other = visualization.occlusion_saliency(sum_of_a_corner, image, class_index=1, window=2, stride=2)
    np.testing.assert_allclose(other, -expected, atol=1e-5)


def test_overlapping_windows_are_averaged(sum_of_a_corner):
    image = np.arange(48, dtype="float32").reshape(8, 6, 1)
    fall = visualization.occlusion_saliency(sum_of_a_corner, image, window=(3, 2), stride=1, fill=5.0, batch_size=7)
    total, covered = np.zeros((8, 6)), np.zeros((8, 6))
    for top in range(6):
        for left in range(5):
            covered_image = image.copy()
            covered_image[top : top + 3, left : left + 2] = 5.0
            total[top : top + 3, left : left + 2] += image[:2, :2].sum() - covered_image[:2, :2].sum()
            covered[top : top + 3, left : left + 2] += 1
    np.testing.assert_allclose(fall, total / covered, atol=1e-4)


def test_pixels_are_covered_with_the_mid_grey_of_the_models_scale():
    images = keras.Input((4, 4, 3))
    model = keras.Model(images, keras.layers.GlobalAveragePooling2D()(images))  # scores are the mean colour
    preprocessing = InputPreprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    white = np.broadcast_to((1 - np.array(preprocessing.mean)) / preprocessing.std, (4, 4, 3))
    for channel in range(3):
        covered = {"window": 4, "preprocessing": preprocessing}
        fall = visualization.occlusion_saliency(model, white, channel, **covered)
        np.testing.assert_allclose(fall, np.full((4, 4), 0.5 / preprocessing.std[channel]), rtol=1e-5)
        given = visualization.occlusion_saliency(model, white, channel, **covered, fill=(1.0, 2.0, 3.0))
        np.testing.assert_allclose(given, white[..., channel] - (channel + 1), rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(window=9), "larger than the image"),
        (dict(window=-1), "`window` must be a positive integer"),
        (dict(window=0), "`window` must be a positive integer"),
        (dict(stride=0), "`stride` must be a positive integer"),
        (dict(batch_size=-1), "`batch_size` must be a positive integer"),
        (dict(fill=[0, 0]), "`fill` must be one number or one per channel"),
        (dict(fill="grey"), "`fill` must hold numbers"),
        (dict(fill=np.nan), "`fill` holds values that are not finite"),
        *((dict(class_index=wrong), "scores 2 classes; got class") for wrong in (2, -1, 0.5, "0", [0])),
    ],
)
def test_bad_arguments_of_the_window_are_named(sum_of_a_corner, arguments, message):
    with pytest.raises(ValueError, match=message):
        visualization.occlusion_saliency(sum_of_a_corner, np.zeros((8, 6, 1)), **arguments)
