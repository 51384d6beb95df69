import goldens
import keras
import numpy as np
import pytest

from keras_mixer import weights
from keras_mixer.weights import InputPreprocessing


def permuted_images(images, patch, patch_permutation, pixel_permutation):
    """Builds permuted images pixel by pixel, from the definition."""
    (patch_height, patch_width), columns = patch, images.shape[2] // patch[1]
    result = np.empty_like(images)
    for place, origin in enumerate(patch_permutation):
        for pixel, pixel_origin in enumerate(pixel_permutation):
            to = _position(place, pixel, patch_height, patch_width, columns)
            result[:, *to] = images[:, *_position(origin, pixel_origin, patch_height, patch_width, columns)]
    return result


def _position(place, pixel, patch_height, patch_width, columns):
    row, column = divmod(place, columns)
    inner_row, inner_column = divmod(pixel, patch_width)
    return row * patch_height + inner_row, column * patch_width + inner_column


@pytest.mark.backends
@pytest.mark.parametrize("which", ["patches", "pixels", "both"])
def test_logits_are_unchanged(which):
    images, logits, _ = goldens.answers()
    model = goldens.mixer()
    weights.load(model, goldens.TINY)
    rng = np.random.default_rng(7)
    patches = rng.permutation(16) if which != "pixels" else np.arange(16)
    pixels = rng.permutation(64) if which != "patches" else np.arange(64)
    shuffled = permuted_images(images, (8, 8), patches, pixels)
    permuted = weights.permute(
        model, patches if which != "pixels" else None, list(pixels) if which != "patches" else None
    )
    assert goldens.relative_error(goldens.outputs(permuted, shuffled), logits) < 1e-5
    assert goldens.relative_error(goldens.outputs(model, shuffled), logits) > 1e-2
    assert goldens.relative_error(goldens.outputs(model, images), logits) < 1e-5


def test_tokens_come_in_the_permuted_order_also_of_a_non_square_image():
    model = goldens.mixer(input_shape=(16, 24, 3), patch_size=(4, 8), include_top=False)
    rng = np.random.default_rng(7)
    model.set_weights([rng.normal(0, 0.3, w.shape) for w in model.get_weights()])
    images = rng.uniform(-1, 1, (2, 16, 24, 3)).astype("float32")
    patches, pixels = rng.permutation(12), rng.permutation(32)
    shuffled = permuted_images(images, (4, 8), patches, pixels)
    tokens = goldens.outputs(weights.permute(model, patches, pixels), shuffled)
    np.testing.assert_allclose(tokens, goldens.outputs(model, images)[:, patches], atol=1e-5)


def test_the_preprocessing_stays():
    model = goldens.mixer()
    model.preprocessing = InputPreprocessing((32, 32), mean=0.0, std=1.0)
    assert weights.permute(model, np.arange(16)[::-1]).preprocessing == model.preprocessing


@pytest.mark.parametrize("shape", [(64, 64, 3), (None, None, 3)])
def test_the_preprocessing_stays_when_a_layer_before_the_stem_resizes_the_images(shape):
    images = keras.Input(shape)
    model = goldens.mixer(input_shape=None, input_tensor=keras.layers.Resizing(32, 32)(images))
    model.preprocessing = InputPreprocessing((32, 32), mean=0.0, std=1.0)
    assert weights.permute(model, np.arange(16)[::-1]).preprocessing == model.preprocessing


def test_blocks_that_change_the_number_of_tokens():
    images, _, _ = goldens.answers()
    model = goldens.mixer(tokens=(4, 4))
    rng = np.random.default_rng(7)
    model.set_weights([rng.normal(0, 0.3, w.shape) for w in model.get_weights()])
    patches, pixels = rng.permutation(16), rng.permutation(64)
    shuffled = permuted_images(images, (8, 8), patches, pixels)
    permuted = weights.permute(model, patches, pixels)
    assert goldens.relative_error(goldens.outputs(permuted, shuffled), goldens.outputs(model, images)) < 1e-5


@pytest.mark.parametrize("bad", [[0] * 16, list(range(15)), np.arange(16) + 1, np.arange(16) / 2, "reverse"])
def test_what_is_no_permutation_is_refused(bad):
    with pytest.raises(ValueError, match="0 to 15"):
        weights.permute(goldens.mixer(), patch_permutation=bad)


def headed(*layers):
    body = goldens.mixer(include_top=False)
    tokens = body.output
    for layer in layers:
        tokens = layer(tokens)
    return keras.Model(body.input, tokens, name="mine")


@pytest.mark.backends
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_a_head_that_treats_patches_by_their_place_is_refused(policy):
    keras.config.set_dtype_policy(policy)
    order = np.arange(16)[::-1]
    flattened = headed(keras.layers.Flatten(), keras.layers.Dense(4, "softmax", kernel_initializer="zeros"))
    neighbours = headed(keras.layers.Conv1D(4, 3), keras.layers.GlobalAveragePooling1D())
    for model in (flattened, neighbours):
        with pytest.raises(ValueError, match="'mine' depends on the position of each patch"):
            weights.permute(model, order)
        assert weights.permute(model, pixel_permutation=np.arange(64)[::-1]).name == "mine"


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "float16"])
def test_heads_that_do_not_are_accepted_at_any_precision(policy):
    keras.config.set_dtype_policy(policy)
    order = np.arange(16)[::-1]
    pooled = headed(keras.layers.GlobalMaxPooling1D(), keras.layers.Dense(4, "softmax"))
    mapped = headed(keras.layers.Reshape((4, 4, 24)), keras.layers.Conv2D(8, 1))
    for model in (pooled, mapped, goldens.mixer(tokens=(16, 8), include_top=False)):
        before = goldens.snapshot(model)
        assert weights.permute(model, order).output_shape == model.output_shape
        assert goldens.same(goldens.snapshot(model), before)


def test_what_is_frozen_stays_frozen():
    model = goldens.mixer()
    model.get_layer("MixerBlock_0").token_mixing.trainable = False
    permuted = weights.permute(model, np.arange(16)[::-1])
    assert 0 < len(model.trainable_weights) < len(model.weights)
    assert [w.path for w in permuted.trainable_weights] == [w.path for w in model.trainable_weights]
