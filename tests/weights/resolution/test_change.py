import goldens
import keras
import numpy as np
import pytest
from PIL import Image

import keras_mixer
from keras_mixer import weights
from keras_mixer.weights import InputPreprocessing
from keras_mixer.weights.resolution.grids import resample


def loaded(**arguments):
    model = goldens.mixer(**arguments)
    weights.load(model, goldens.TINY)
    return model


def noise(*shape):
    return np.random.default_rng(3).uniform(-1, 1, shape).astype("float32")


def mean_over_parts(model, images):
    """The mean of the model's outputs on the parts of larger images, of the model's own size each."""
    height, width = model.input_shape[1:3]
    rows, columns = images.shape[1] // height, images.shape[2] // width
    parts = [
        goldens.outputs(model, images[:, y * height : (y + 1) * height, x * width : (x + 1) * width])
        for y in range(rows)
        for x in range(columns)
    ]
    return np.mean(parts, axis=0)


@pytest.mark.backends
@pytest.mark.parametrize("size", [(64, 64), (64, 96), (32, 64), (96, 32)])
def test_logits_are_the_mean_over_the_parts(size):
    model = loaded()
    larger = weights.change_resolution(model, size)
    images = noise(2, *size, 3)
    expected = mean_over_parts(model, images)
    np.testing.assert_allclose(goldens.outputs(larger, images), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert larger.get_layer("MixerBlock_0").tokens_mlp_dim == 12 * (size[0] // 32) * (size[1] // 32)


def test_a_model_of_a_non_square_image_and_patch_grows_along_each_axis():
    sizes = dict(num_blocks=2, input_shape=(16, 24, 3), patch_size=(4, 8), classifier_activation=None)
    model = goldens.mixer(**sizes)
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(0, 0.3, w.shape) for w in model.get_weights()])
    images = noise(1, 48, 48, 3)
    expected = mean_over_parts(model, images)
    larger = weights.change_resolution(model, (48, 48))
    np.testing.assert_allclose(goldens.outputs(larger, images), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.backends
def test_all_else_stays_as_it_was():
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = loaded(stochastic_depth=0.3, dropout=0.2, classifier_activation="softmax", name="mine")
    keras.config.set_dtype_policy("float32")
    before = goldens.snapshot(model)
    larger = weights.change_resolution(model, 64)
    assert larger.name == "mine"
    assert larger.input_shape == (None, 64, 64, 3)
    for old, new in zip(model.layers, larger.layers, strict=True):
        changed = {"tokens_mlp_dim", "batch_shape"}
        expected = {key: value for key, value in old.get_config().items() if key not in changed}
        assert {key: value for key, value in new.get_config().items() if key not in changed} == expected
        if not isinstance(old, keras.layers.InputLayer):  # which computes nothing
            assert old.dtype_policy == new.dtype_policy
    assert goldens.same(goldens.snapshot(model), before)


def test_the_preprocessing_stays_at_the_new_size():
    model = loaded()
    assert weights.change_resolution(model, 64).preprocessing is None
    model.preprocessing = InputPreprocessing((32, 32), mean=0.0, std=1.0, resize="direct")
    larger = weights.change_resolution(model, (32, 64))
    assert larger.preprocessing == InputPreprocessing((32, 64), mean=0.0, std=1.0, resize="direct")
    assert model.preprocessing.image_size == (32, 32)


def test_a_model_that_ends_in_tokens_or_starts_before_the_stem():
    images = keras.Input((32, 32, 3), name="bytes")
    body = goldens.mixer(input_tensor=keras.layers.Rescaling(1 / 127.5, -1.0)(images), include_top=False)
    larger = weights.change_resolution(body, 64)
    assert larger.output_shape == (None, 64, 24)
    assert [layer.name for layer in larger.layers] == [layer.name for layer in body.layers]


def test_what_is_frozen_stays_frozen():
    model = goldens.mixer()
    model.get_layer("MixerBlock_0").token_mixing.trainable = False
    model.get_layer("stem").trainable = False
    for size in (64, 48):
        changed = weights.change_resolution(model, size)
        assert [w.path for w in changed.trainable_weights] == [w.path for w in model.trainable_weights]


class Own(keras.Model):
    """A functional model with methods of its own."""


@pytest.mark.parametrize("change", [lambda m: weights.change_resolution(m, 64), weights.permute])
@pytest.mark.parametrize("kind", [keras.Model, Own])
def test_the_new_model_is_not_compiled_and_else_of_the_same_kind(change, kind):
    images, scale = keras.Input((32, 32, 3), name="photos"), keras.layers.Rescaling(2.0, name="twice")
    mixer = goldens.mixer(input_tensor=scale(images), name="inner")
    model = kind(mixer.input, {"scores": mixer.output}, name="mine")
    model.compile("sgd", loss=lambda labels, scores: keras.ops.mean(scores))
    changed = change(model)
    assert not changed.compiled
    assert model.compiled
    assert type(changed) is type(model)
    assert (changed.name, changed.inputs[0].name) == ("mine", "photos")
    assert changed.output.keys() == {"scores"}
    assert [layer.name for layer in changed.layers] == [layer.name for layer in model.layers]
    assert not {id(layer) for layer in changed.layers} & {id(layer) for layer in model.layers}


def in_sequence():
    return keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Rescaling(1 / 255), goldens.mixer()], name="outer")


def in_function():
    images = keras.Input((32, 32, 3))
    return keras.Model(images, goldens.mixer()(images), name="outer")


@pytest.mark.parametrize("build", [in_sequence, in_function])
def test_a_model_around_a_mixer_is_refused(build):
    with pytest.raises(ValueError, match=r"'outer' is of the class .* has the model 'mixer' among its layers"):
        weights.change_resolution(build(), 64)
    with pytest.raises(ValueError, match="'empty' is of the class Sequential"):
        weights.change_resolution(keras.Sequential(name="empty"), 64)


def test_a_head_on_flattened_tokens_is_refused():
    body = goldens.mixer(include_top=False)
    scores = keras.layers.Dense(4, name="mine")(keras.layers.Flatten()(body.output))
    with pytest.raises(ValueError, match=r"mine/kernel of .* \(1536, 4\) at the new size and \(384, 4\)"):
        weights.change_resolution(keras.Model(body.input, scores), 64)


@pytest.mark.backends
@pytest.mark.parametrize("size", [(48, 48), (24, 24), (40, 64), (16, 96)])
def test_other_ratios_keep_the_hidden_units(size):
    model = loaded()
    changed = weights.change_resolution(model, size)
    assert changed.input_shape == (None, *size, 3)
    assert changed.get_layer("MixerBlock_0").tokens_mlp_dim == 12
    assert np.isfinite(goldens.outputs(changed, noise(1, *size, 3))).all()


def resized(maps, size):
    """Maps `(batch, height, width, channels)` at another height and width, one channel at a time."""

    def one(values):
        return np.asarray(Image.fromarray(values).resize(size[::-1], Image.Resampling.BILINEAR))

    return np.stack([np.stack([one(values) for values in np.moveaxis(table, -1, 0)], -1) for table in maps])


@pytest.mark.parametrize("new", [(7, 7), (8, 12), (3, 2), (4, 6), (9, 1)])
def test_resampled_token_mixing_is_the_old_one_between_two_resizes(new):
    """An independent antialiased resize agrees, that of Pillow: to the old grid, the old layer, to the new grid."""
    rng = np.random.default_rng(0)
    old_layer, new_layer = (keras_mixer.layers.TokenMixing(mlp_dim=5) for _ in range(2))
    old_layer.build((None, 24, 3))
    new_layer.build((None, new[0] * new[1], 3))
    values = [rng.normal(size=weight.shape).astype("float32") for weight in old_layer.weights]
    old_layer.set_weights(values)
    roles = [
        old_layer.token_axes[name] for name in ("Dense_0/kernel", "Dense_0/bias", "Dense_1/kernel", "Dense_1/bias")
    ]
    new_layer.set_weights([resample(value, role, (4, 6), new) for value, role in zip(values, roles, strict=True)])

    tokens = rng.normal(size=(2, *new, 3)).astype("float32")
    at_old = resized(tokens, (4, 6))
    mixed = goldens.outputs(old_layer, at_old.reshape(2, 24, 3)).reshape(2, 4, 6, 3)
    expected = resized(mixed, new).reshape(2, -1, 3)
    result = goldens.outputs(new_layer, tokens.reshape(2, -1, 3))
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_the_same_size_is_the_same_function():
    model = loaded()
    for method in ("auto", "block_diagonal", "resample"):
        assert goldens.same(
            goldens.snapshot(weights.change_resolution(model, 32, method=method)), goldens.snapshot(model)
        )


def test_loading_changes_the_resolution_through_one_argument():
    images = noise(2, 64, 96, 3)
    expected = mean_over_parts(loaded(), images)
    larger = goldens.mixer(input_shape=(64, 96, 3), tokens_mlp_dim=72)
    weights.load(larger, goldens.TINY, resize=True)
    np.testing.assert_allclose(goldens.outputs(larger, images), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    resampled = goldens.mixer(input_shape=(64, 96, 3))
    weights.load(resampled, goldens.TINY, resize=True)
    changed = weights.change_resolution(loaded(), (64, 96), method="resample")
    assert goldens.same(goldens.snapshot(resampled), goldens.snapshot(changed))
    same = goldens.mixer()
    weights.load(same, goldens.TINY, resize=True)
    assert goldens.same(goldens.snapshot(same), goldens.snapshot(loaded()))


def test_a_checkpoint_of_a_non_square_image_needs_its_size(tmp_path):
    wide = weights.change_resolution(loaded(), (32, 64))
    weights.save_npz(wide, tmp_path / "wide.npz")
    model = goldens.mixer(input_shape=(64, 64, 3), tokens_mlp_dim=48)
    with pytest.raises(ValueError, match="32 tokens are not a square grid"):
        weights.load(model, tmp_path / "wide.npz", resize=True)
    weights.load(model, tmp_path / "wide.npz", resize=(32, 64))
    images = noise(1, 64, 64, 3)
    expected = mean_over_parts(wide, images)
    np.testing.assert_allclose(goldens.outputs(model, images), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    # A square of as many tokens is another grid, and is resampled.
    tall = goldens.mixer(input_shape=(64, 32, 3), tokens_mlp_dim=24)
    weights.load(tall, tmp_path / "wide.npz", resize=(32, 64))
    assert not np.array_equal(goldens.snapshot(tall)[4], goldens.snapshot(wide)[4])


def test_a_model_whose_blocks_change_the_number_of_tokens_is_refused():
    shrinking = goldens.mixer(tokens=(16, 4))
    with pytest.raises(ValueError, match=r"over 4 tokens, not over the 4 x 4 patches"):
        weights.change_resolution(shrinking, 64)


def test_bad_arguments():
    model = goldens.mixer()
    with pytest.raises(ValueError, match="multiple of the patch size"):
        weights.change_resolution(model, (64, 65))
    with pytest.raises(ValueError, match='method="resample"'):
        weights.change_resolution(model, 48, method="block_diagonal")
    with pytest.raises(ValueError, match="auto, block_diagonal, resample"):
        weights.change_resolution(model, 64, method="bicubic")
    with pytest.raises(ValueError, match="image_size"):
        weights.change_resolution(model, 0)
    numbers = keras.Input((4,))
    with pytest.raises(ValueError, match=r"one input \(batch, height, width, channels\).*\(None, 4\)"):
        weights.change_resolution(keras.Model(numbers, keras.layers.Dense(2)(numbers)), 64)
    two = keras.Model([model.input, numbers], [model.output, keras.layers.Dense(2)(numbers)])
    with pytest.raises(ValueError, match=r"one input.*|has the model"):
        weights.change_resolution(two, 64)
    with pytest.raises(ValueError, match="functional model of layers, but got <Dense"):
        weights.change_resolution(keras.layers.Dense(2), 64)
    with pytest.raises(ValueError, match="got '64'"):
        weights.change_resolution(model, "64")


@keras.saving.register_keras_serializable("test_change")
class SixteenTokens(keras.layers.Layer):
    def call(self, tokens):
        return keras.ops.reshape(tokens, (-1, 16, tokens.shape[-1]))


FIXED = {
    "an operation": lambda tokens: keras.ops.reshape(tokens, (-1, 4, 4, 24)),
    "a user's layer": lambda tokens: SixteenTokens()(tokens),
}


@pytest.mark.backends
@pytest.mark.parametrize("layer", FIXED)
def test_tokens_that_become_a_longer_batch_are_refused(layer):
    body = goldens.mixer(include_top=False)
    model = keras.Model(body.input, FIXED[layer](body.output))
    with pytest.raises(ValueError, match=r"fixed number of tokens.*a batch of 7 images becomes one of 28\."):
        weights.change_resolution(model, 64)


@pytest.mark.parametrize("target", [(4, 4, 24), (384,)])
def test_a_layer_that_does_not_take_the_new_size_is_told_in_one_line(target):
    body = goldens.mixer(include_top=False)
    model = keras.Model(body.input, keras.layers.Reshape(target)(body.output), name="mine")
    with pytest.raises(
        ValueError, match=r"^A layer of 'mine' does not take images of 64 x 64: [^\n\x1b]*Reshape[^\n]*$"
    ):
        weights.change_resolution(model, 64)


@pytest.mark.parametrize("layer", [keras.layers.Resizing, keras.layers.CenterCrop, keras.layers.RandomCrop])
def test_a_layer_that_brings_all_images_to_one_size_is_named_as_the_reason(layer):
    model = goldens.mixer(input_shape=None, input_tensor=layer(32, 32)(keras.Input((40, 40, 3))))
    with pytest.raises(ValueError, match="before the stem of 'mixer' changes the size of the images to 32 x 32 pixels"):
        weights.change_resolution(model, 80)


def test_a_convolutional_model_with_a_head_on_a_flattened_map_is_refused():
    body = keras_mixer.ConvMixer(
        hidden_dim=8, num_blocks=1, kernel_size=3, patch_size=4, input_shape=(8, 8, 3), include_top=False
    )
    model = keras.Model(body.input, keras.layers.Dense(3)(keras.layers.Flatten()(body.output)))
    with pytest.raises(ValueError, match="pool the tokens before it, instead of flattening"):
        weights.change_resolution(model, 16)


def test_the_batch_size_of_the_input_stays():
    model = goldens.mixer(input_shape=None, input_tensor=keras.Input(batch_shape=(2, 32, 32, 3)))
    changed = weights.change_resolution(model, 64)
    assert (changed.input_shape, changed.output_shape) == ((2, 64, 64, 3), model.output_shape)


class SaysOnlyItsChannels(keras.layers.Layer):
    """A layer as people write them: the first axis of its shape is None."""

    def call(self, tokens):
        return keras.ops.mean(tokens, axis=1)

    def compute_output_shape(self, shape):
        return None, shape[-1]


@pytest.mark.parametrize("end", [SaysOnlyItsChannels(), keras.ops.mean])
def test_outputs_that_say_nothing_of_the_batch_are_right(end):
    body = goldens.mixer(include_top=False)
    model = keras.Model(body.input, end(body.output))
    larger = weights.change_resolution(model, tuple(2 * side for side in body.input_shape[1:3]))
    images = noise(2, *larger.input_shape[1:])
    expected = goldens.outputs(weights.change_resolution(body, larger.input_shape[1:3]), images)
    axes = None if end is keras.ops.mean else 1
    np.testing.assert_allclose(goldens.outputs(larger, images), expected.mean(axis=axes), rtol=1e-4, atol=1e-6)
