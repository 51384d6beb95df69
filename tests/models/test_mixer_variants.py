"""The variants of appendix A as whole models: cost by formula, training, saving, the axes of their weights."""

import goldens
import keras
import numpy as np
import pytest

import keras_mixer
from keras_mixer.models import VARIANTS, multiply_adds

SIZE = dict(num_blocks=3, patch_size=2, hidden_dim=24, tokens_mlp_dim=16, channels_mlp_dim=32, input_shape=(8, 8, 1))
S, C, D_S, D_C, PATCH, CLASSES = 16, 24, 16, 32, 2 * 2 * 1, 10
STEM_AND_HEAD = S * PATCH * C + C * CLASSES
BASE_BLOCK = 2 * S * C * (D_S + D_C)

VARIANT_COSTS = {
    "base": ({}, 3 * BASE_BLOCK),
    "untied": (dict(untied=True), 3 * BASE_BLOCK),
    # (S * G) x (C / G): half as many columns, each twice as long
    "concat": (dict(channel_groups=2), 3 * BASE_BLOCK),
    "project": (dict(channel_groups=2, grouping="project"), 3 * (BASE_BLOCK + S * C * C)),
    "pyramid": (
        dict(tokens=(16, 4, 4)),
        BASE_BLOCK
        + C * (16 + 4) * D_S  # tokens 16 -> hidden -> 4
        + C * 16 * 4  # its shortcut
        + 2 * 4 * C * D_C
        + 2 * 4 * C * (D_S + D_C),
    ),
}

APPENDIX = [name for name in VARIANT_COSTS if name != "base"]


@pytest.fixture(params=VARIANT_COSTS)
def variant(request):
    arguments, block_costs = VARIANT_COSTS[request.param]
    return keras_mixer.Mixer(**SIZE, classes=CLASSES, **arguments), block_costs


def test_multiply_adds_by_formula(variant):
    model, block_costs = variant
    assert multiply_adds(model) == STEM_AND_HEAD + block_costs


def test_multiply_adds_of_the_published_variant(shapes_only):
    """B/16: 196 patches of 768 values, 12 blocks, 1,000 classes."""
    model = keras_mixer.Mixer(**vars(VARIANTS["mixer_b16"]))
    assert multiply_adds(model) == 196 * 768 * 768 + 12 * 2 * 196 * 768 * (384 + 3072) + 768 * 1000


def test_multiply_adds_refuses_what_it_has_no_formula_for():
    images = keras.Input((8, 8, 1))
    model = keras.Model(images, keras.layers.SeparableConv2D(3, 2, name="convolution")(images))
    with pytest.raises(ValueError, match="no formula for the layer 'convolution' of type SeparableConv2D"):
        multiply_adds(model)


@pytest.mark.backends
def test_saves_and_loads(variant, tmp_path):
    model, _ = variant
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype("float32")
    model.get_layer("head").kernel.assign(np.random.default_rng(1).normal(size=(C, CLASSES)))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(goldens.outputs(loaded, images), goldens.outputs(model, images))
    assert [(v.path, v.shape) for v in loaded.weights] == [(v.path, v.shape) for v in model.weights]


# The base itself learns in `evaluation/test_invariance.py` and is exported in `export`.
@pytest.mark.parametrize("variant", APPENDIX, indirect=True)
def test_one_epoch_on_the_digits_learns(variant):
    from sklearn.datasets import load_digits

    model, _ = variant
    digits, labels = load_digits(return_X_y=True)
    images = (digits / 8.0 - 1.0).reshape(-1, 8, 8, 1).astype("float32")
    model.compile(
        keras.optimizers.AdamW(3e-3), "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False
    )
    before, _ = model.evaluate(images[1437:], labels[1437:], verbose=0)
    model.fit(images[:1437], labels[:1437], batch_size=16, epochs=1, verbose=0)
    after, accuracy = model.evaluate(images[1437:], labels[1437:], verbose=0)
    assert before == pytest.approx(np.log(10), rel=1e-3)  # the head starts at zero
    assert after < 0.8 * before
    assert accuracy > 0.3


@pytest.fixture
def scores(variant):
    """A model with a head that has learned, images and its scores of them."""
    model, _ = variant
    model.get_layer("head").kernel.assign(np.random.default_rng(1).normal(size=(C, CLASSES)))
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype("float32")
    return model, images, goldens.outputs(model, images)


# `training/test_model_fields.py` exports the others.
@pytest.mark.parametrize("variant", ["concat", "pyramid"], indirect=True)
def test_a_saved_model_has_the_models_scores(scores, tmp_path):
    """TensorFlow reads it without Keras."""
    import tensorflow as tf

    model, images, expected = scores
    model.export(tmp_path / "saved_model", format="tf_saved_model", verbose=False)
    signature = tf.saved_model.load(str(tmp_path / "saved_model")).signatures["serving_default"]
    (served,) = signature(images=tf.constant(images)).values()
    np.testing.assert_allclose(served.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("variant", APPENDIX, indirect=True)
def test_a_lite_rt_file_has_the_models_scores(scores, tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    model, images, expected = scores
    model.export(
        tmp_path / "model.tflite",
        format="litert",
        verbose=False,
        input_signature=[keras.InputSpec(shape=(2, 8, 8, 1), dtype="float32", name="images")],
    )
    interpreter = Interpreter(str(tmp_path / "model.tflite"))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], images)
    interpreter.invoke()
    np.testing.assert_allclose(
        interpreter.get_tensor(interpreter.get_output_details()[0]["index"]), expected, atol=1e-5
    )


@pytest.mark.parametrize(
    "tokens", [(16, 4), (17, 4, 4), (4, 16, 4), (16, 4, 0)], ids=["too few", "above the patches", "growing", "zero"]
)
def test_refuses_a_pyramid_that_is_none(tokens):
    with pytest.raises(ValueError, match="`tokens`"):
        keras_mixer.Mixer(**SIZE, tokens=tokens)
