import family
import goldens
import keras
import numpy as np
import pytest

import keras_mixer


@pytest.mark.backends
def test_one_model_takes_images_of_any_size():
    model = family.model("cyclemlp", input_shape=(None, None, 3))
    keras_mixer.weights.load(model, family.checkpoint("cyclemlp"))
    images, logits = family.answers("cyclemlp")
    assert goldens.relative_error(goldens.outputs(model, images), logits) < 1e-5
    for height, width in ((48, 80), (33, 35)):
        images = np.random.default_rng(0).normal(size=(2, height, width, 3)).astype("float32")
        fixed = family.model("cyclemlp", input_shape=(height, width, 3))
        fixed.set_weights(model.get_weights())
        np.testing.assert_allclose(goldens.outputs(model, images), goldens.outputs(fixed, images), rtol=1e-4, atol=1e-5)


def test_feature_maps_lie_at_strides_4_8_16_32():
    model = keras_mixer.CycleMLPB1(include_top=False, input_shape=(64, 96, 3))
    expected = [(16, 24, 64), (8, 12, 128), (4, 6, 320), (2, 3, 512)]
    assert [shape[1:] for shape in model.output_shape] == expected


@pytest.mark.backends
def test_feature_maps_are_normalised_and_load_a_classifiers_weights():
    images, logits = family.answers("cyclemlp")
    model = family.model("cyclemlp", include_top=False, input_shape=(None, None, 3))
    keras_mixer.weights.load(model, family.checkpoint("cyclemlp"), skip=("head",))
    finer, coarsest = (keras.ops.convert_to_numpy(features) for features in model(images))
    np.testing.assert_allclose(finer.mean(axis=-1), 0, atol=1e-5)
    np.testing.assert_allclose(finer.std(axis=-1), 1, atol=1e-2)
    full = family.model("cyclemlp")
    keras_mixer.weights.load(full, family.checkpoint("cyclemlp"))
    kernel, bias = full.get_layer("head").get_weights()
    np.testing.assert_allclose(coarsest.mean(axis=(1, 2)) @ kernel + bias, logits, rtol=1e-4, atol=1e-5)


def test_a_dense_prediction_head_sits_on_the_maps(tmp_path):
    body = family.model("cyclemlp", include_top=False)
    finer, coarsest = body.outputs
    coarse = keras.layers.UpSampling2D(2)(keras.layers.Conv2D(4, 1)(coarsest))
    masks = keras.layers.Add()([keras.layers.Conv2D(4, 1)(finer), coarse])
    model = keras.Model(body.inputs, masks)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    images, _ = family.answers("cyclemlp")
    model.fit(images, np.zeros((3, 8, 8)), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), model.predict(images, verbose=0))


def test_channels_change_only_with_a_transition():
    with pytest.raises(ValueError, match=r"`hidden_dims` goes from 16 to 32 after stage 0"):
        family.model("cyclemlp", transitions=(False, False))


def test_other_offsets_are_refused(tmp_path):
    """A checkpoint of another pseudo-kernel has the same shapes and would load in silence."""
    from safetensors.numpy import load_file, save_file

    arrays = load_file(family.checkpoint("cyclemlp"))
    key = "network.0.0.attn.sfc_h.offset"
    arrays[key] = np.roll(arrays[key], 2, axis=1)
    save_file(arrays, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"network\.0\.0\.attn\.sfc_h\.offset are not the offsets"):
        keras_mixer.weights.load(family.model("cyclemlp"), tmp_path / "model.safetensors")
