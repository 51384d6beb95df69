import family
import goldens
import keras
import numpy as np
import pytest

import keras_mixer


@pytest.mark.backends
def test_one_model_takes_images_of_any_size():
    model = family.model("convmixer", input_shape=(None, None, 3))
    keras_mixer.weights.load(model, family.checkpoint("convmixer"))
    for height, width in ((32, 32), (24, 44), (33, 35)):
        images = np.random.default_rng(0).normal(size=(2, height, width, 3)).astype("float32")
        fixed = family.model("convmixer", input_shape=(height, width, 3))
        fixed.set_weights(model.get_weights())
        np.testing.assert_allclose(goldens.outputs(model, images), goldens.outputs(fixed, images), rtol=1e-4, atol=1e-5)


def test_any_size_is_the_default():
    assert keras_mixer.ConvMixer(hidden_dim=8, num_blocks=1, kernel_size=3, patch_size=2).input_shape == (
        None,
        None,
        None,
        3,
    )


def test_without_head_it_gives_a_map():
    model = family.model("convmixer", include_top=False, input_shape=(32, 48, 3))
    assert model.output_shape == (None, 8, 12, 16)


@pytest.mark.backends
def test_batch_norm_has_the_epsilon_of_pytorch_and_moves_by_a_tenth():
    norm = family.model("convmixer").get_layer("stem_norm")
    maps = np.random.default_rng(0).normal(0.02, 0.003, size=(4, 5, 5, 16)).astype("float32")  # epsilon shows
    mean, variance = maps.mean(axis=(0, 1, 2)), maps.var(axis=(0, 1, 2))
    outputs = keras.ops.convert_to_numpy(norm(maps, training=True))
    np.testing.assert_allclose(outputs, (maps - mean) / np.sqrt(variance + 1e-5), atol=1e-3)
    np.testing.assert_allclose(np.array(norm.moving_mean), 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(np.array(norm.moving_variance), 0.9 + 0.1 * variance, rtol=1e-5)


def test_the_768_wide_variant_has_relu():
    name = "conv_mixer_768_32"
    model = keras_mixer.models.build(name, hidden_dim=8, num_blocks=1)
    assert model.get_layer("stem_activation").activation is keras.activations.relu


def test_counters_of_batches_are_no_weights(tmp_path):
    """timm's published files carry them beside the statistics."""
    from safetensors.numpy import load_file, save_file

    arrays = load_file(family.checkpoint("convmixer"))
    arrays["stem.2.num_batches_tracked"] = np.array(7, "int64")
    save_file(arrays, tmp_path / "model.safetensors")
    model = family.model("convmixer")
    keras_mixer.weights.load(model, tmp_path / "model.safetensors")
    images, logits = family.answers("convmixer")
    assert goldens.relative_error(goldens.outputs(model, images), logits) < 1e-5
