"""Units of token mixing and of the stem, and principal components of tokens."""

import keras
import numpy as np
import pytest
from sklearn.decomposition import PCA

import keras_mixer
from keras_mixer import visualization

pytestmark = pytest.mark.backends


GRID = (6, 9)  # not square, so that rows and columns cannot be taken for one another
WAVES = [(0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (2, 1), (1, 3), (3, 2)]  # cycles down and across the image


def wave(down, across, phase=0.4):
    rows, columns = np.mgrid[: GRID[0], : GRID[1]]
    return np.sin(2 * np.pi * (down * rows / GRID[0] + across * columns / GRID[1]) + phase)


@pytest.fixture
def sinusoids():
    """Each wave and its inverse at another scale, with a little noise, in shuffled order."""
    rng = np.random.default_rng(0)
    maps, partner = [], {}
    for number, (down, across) in enumerate(WAVES):
        maps += [wave(down, across), -2.5 * wave(down, across)]
        partner[2 * number], partner[2 * number + 1] = 2 * number + 1, 2 * number
    order = rng.permutation(len(maps))
    place = {old: new for new, old in enumerate(order)}
    maps = np.stack(maps)[order] + 0.01 * rng.normal(size=(len(maps), *GRID))
    return maps, {place[a]: place[b] for a, b in partner.items()}


def test_opposite_phases_are_paired(sinusoids):
    maps, partner = sinusoids
    pairs = visualization.pair_units(maps)
    assert sorted(pairs.units.ravel()) == list(range(len(maps)))
    assert pairs.unpaired is None
    for one, other in pairs.units:
        assert one < other
        assert partner[one] == other
    assert (pairs.opposition > 0.99).all()


def test_pairs_come_low_frequencies_first(sinusoids):
    maps, _ = sinusoids
    pairs = visualization.pair_units(maps)
    expected = sorted(np.hypot(down, across) for down, across in WAVES)
    np.testing.assert_allclose(pairs.frequency, expected, atol=0.02)
    assert (np.diff(pairs.frequency) >= 0).all()


def test_the_pairing_is_the_same_in_whatever_order_the_units_come(sinusoids):
    maps, _ = sinusoids
    expected = visualization.pair_units(maps).units
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(maps))
        found = order[visualization.pair_units(maps[order]).units]
        np.testing.assert_array_equal(np.sort(found, axis=1), expected)


def test_an_odd_unit_is_left_over():
    maps = np.stack([wave(1, 0), wave(0, 2), -wave(1, 0)])
    pairs = visualization.pair_units(maps)
    assert pairs.units.tolist() == [[0, 2]]
    assert pairs.unpaired == 1


def test_units_without_weights_are_no_obstacle():
    pairs = visualization.pair_units(np.zeros((4, *GRID)))
    assert pairs.units.tolist() == [[0, 1], [2, 3]]
    assert not pairs.frequency.any()


@pytest.mark.parametrize("wanted", WAVES)
def test_frequency_of_a_wave_is_its_cycles(wanted):
    assert visualization.spatial_frequency(wave(*wanted)[None])[0] == pytest.approx(np.hypot(*wanted))


def test_a_noisy_constant_is_of_low_frequency():
    noisy = 1.0 + 0.05 * np.random.default_rng(0).normal(size=(1, *GRID))
    assert visualization.spatial_frequency(noisy)[0] < 0.1


def mixer(**arguments):
    return keras_mixer.Mixer(
        num_blocks=2, patch_size=(2, 3), hidden_dim=8, tokens_mlp_dim=5, channels_mlp_dim=12, input_shape=(8, 9, 3),
        classes=4, **arguments,
    )  # fmt: skip


def test_units_are_the_columns_of_the_first_kernel():
    model = mixer()
    kernel = model.get_layer("MixerBlock_1").token_mixing.dense_0.kernel
    kernel.assign(np.arange(12 * 5).reshape(12, 5))
    maps = visualization.token_mixing_units(model, block=1)
    assert maps.shape == (5, 4, 3)
    for unit in range(5):
        for row in range(4):
            for column in range(3):
                assert maps[unit, row, column] == (row * 3 + column) * 5 + unit
    np.testing.assert_array_equal(visualization.token_mixing_units(model, block=-1), maps)


@pytest.mark.parametrize("arguments", [dict(untied=True), dict(channel_groups=2)])
def test_channels_with_kernels_of_their_own(arguments):
    model = mixer(**arguments)
    kernel = model.get_layer("MixerBlock_0").token_mixing.dense_0.kernel
    values = np.random.default_rng(0).normal(size=kernel.shape).astype("float32")
    kernel.assign(values)
    maps = visualization.token_mixing_units(model, block=0, channel=1)
    np.testing.assert_array_equal(maps, values[1].T.reshape(5, 4, 3))
    with pytest.raises(ValueError, match="token-mixing kernels; got channel 8"):
        visualization.token_mixing_units(model, block=0, channel=8)


def test_tokens_of_a_pyramid_have_no_place_in_the_image():
    model = mixer(tokens=(12, 6))
    assert visualization.token_mixing_units(model, block=1).shape == (5, 4, 3)  # reads the patches, writes fewer
    deeper = mixer(tokens=(6, 6))
    with pytest.raises(ValueError, match="6 tokens have no place in the image, because they are not its 4 x 3 patches"):
        visualization.token_mixing_units(deeper, block=1)


def test_a_block_that_is_not_there():
    for wrong in (-3, 0.0, "0", None, True):
        with pytest.raises(ValueError, match="has 2 Mixer blocks, counted from 0; got block"):
            visualization.token_mixing_units(mixer(), block=wrong)
    outer = keras.Sequential([keras.Input((8, 9, 3)), mixer()])
    for picture in (lambda: visualization.token_mixing_units(outer, 0), lambda: visualization.stem_units(outer)):
        with pytest.raises(ValueError, match=r"Pass the model inside it: `model\.get_layer\('mixer'\)`"):
            picture()
    with pytest.raises(ValueError, match="a Keras model, but got 'mixer_b16'"):
        visualization.stem_units("mixer_b16")
    with pytest.raises(ValueError, match="has 2 Mixer blocks, counted from 0; got block 2"):
        visualization.token_mixing_units(mixer(), block=2)


def model_with_stem(kernel):
    height, width, channels, units = kernel.shape
    model = keras_mixer.Mixer(
        num_blocks=1, patch_size=(height, width), hidden_dim=units, tokens_mlp_dim=3, channels_mlp_dim=4,
        input_shape=(2 * height, width, channels), include_top=False,
    )  # fmt: skip
    model.get_layer("stem").kernel.assign(kernel)
    return model


def test_colours_are_the_kernel_around_grey():
    kernel = np.zeros((2, 3, 3, 2), "float32")
    kernel[0, 2, 1, 0] = -4.0  # first unit: less green at the top right makes it magenta
    kernel[1, 0, 0, 0] = 2.0
    kernel[:, :, 2, 1] = 0.1  # second unit: blue everywhere
    colours = visualization.stem_units(model_with_stem(kernel), sort=False)
    assert colours.shape == (2, 2, 3, 3)
    np.testing.assert_allclose(colours[0, 0, 2], [0.5, 0.0, 0.5])
    np.testing.assert_allclose(colours[0, 1, 0], [0.75, 0.5, 0.5])
    np.testing.assert_allclose(colours[1], np.broadcast_to([0.5, 0.5, 1.0], (2, 3, 3)))


def test_grey_images_give_grey_units():
    kernel = np.random.default_rng(0).normal(size=(2, 2, 1, 5)).astype("float32")
    colours = visualization.stem_units(model_with_stem(kernel), sort=False)
    expected = 0.5 + 0.5 * kernel[:, :, 0, 3] / np.abs(kernel[:, :, 0, 3]).max()
    for channel in range(3):
        np.testing.assert_allclose(colours[3, :, :, channel], expected, rtol=1e-6)


def test_low_frequencies_come_first():
    columns = np.arange(8)
    kernel = np.stack([np.tile(np.cos(2 * np.pi * cycles * columns / 8), (4, 1)) for cycles in (3, 0, 2, 1)], axis=-1)
    model = model_with_stem(np.repeat(kernel[:, :, None, :], 3, axis=2).astype("float32"))
    by_index, by_frequency = visualization.stem_units(model, sort=False), visualization.stem_units(model)
    np.testing.assert_array_equal(by_frequency, by_index[[1, 3, 2, 0]])


def test_a_model_without_patches():
    images = keras.Input((8, 8, 3))
    with pytest.raises(ValueError, match="has no PatchEmbedding"):
        visualization.stem_units(keras.Model(images, keras.layers.Flatten()(images)))


@pytest.fixture
def model():
    model = keras_mixer.Mixer(
        num_blocks=2, patch_size=2, hidden_dim=8, tokens_mlp_dim=5, channels_mlp_dim=12, input_shape=(6, 4, 3),
        include_top=False,
    )  # fmt: skip
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(0, 0.7, size=w.shape).astype("float32") for w in model.get_weights()])
    return model


def test_is_the_pca_of_the_tokens(model):
    images = np.random.default_rng(0).normal(size=(5, 6, 4, 3)).astype("float32")
    result = visualization.feature_pca(model, images, block=1)
    tables = keras.Model(model.inputs, model.get_layer("MixerBlock_1").output).predict(images, verbose=0)
    pca = PCA(3).fit(tables.reshape(-1, 8).astype("float64"))
    expected = pca.transform(tables.reshape(-1, 8).astype("float64"))
    assert result.maps.shape == (5, 3, 2, 3)
    found = result.maps.reshape(-1, 3)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(result.explained, pca.explained_variance_ratio_, rtol=1e-5)


def test_too_many_components_are_named(model):
    images = np.zeros((2, *model.input_shape[1:]))
    for wrong in (0, 2.0, "3"):
        with pytest.raises(ValueError, match="`components` must be a positive integer"):
            visualization.feature_pca(model, images, block=0, components=wrong)
    for wrong, message in ((images[:0], "Expected images"), (images[0], "one image"), (images + np.nan, "not finite")):
        with pytest.raises(ValueError, match=message):
            visualization.feature_pca(model, wrong, block=0)
    with pytest.raises(ValueError, match="do not have 9 components"):
        visualization.feature_pca(model, np.zeros((5, 6, 4, 3)), block=0, components=9)
