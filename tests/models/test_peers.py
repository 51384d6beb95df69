"""What keras.applications and KerasHub check of each of their models, for one small model of every architecture."""

import json

import family
import goldens
import keras
import numpy as np
import pytest

from keras_mixer import applications

pytestmark = pytest.mark.backends
IMAGES = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)).astype("float32")
CONSTRUCTORS = {
    "mixer": "mixer_s32",
    "resmlp": "res_mlp_12",
    "gmlp": "g_mlp_ti",
    "convmixer": "conv_mixer_768_32",
    "vip": "vision_permutator_small_14",
    "cyclemlp": "cycle_mlp_b1",
}
ANY_SIZE = ("convmixer", "cyclemlp")


@pytest.fixture(params=family.ARCHITECTURES)
def architecture(request):
    return request.param


@pytest.fixture(scope="module")
def classifiers():
    return {name: family.randomised(family.tiny(name)) for name in family.ARCHITECTURES}


# What keras.applications checks


def test_a_constructor_without_top_gives_features_of_any_number_of_channels(architecture, shapes_only):
    constructor = applications.CONSTRUCTORS[CONSTRUCTORS[architecture]]
    model = constructor(include_top=False, input_shape=(224, 224, 1))
    assert model.input_shape == (None, 224, 224, 1)
    shape = model.output_shape[-1] if isinstance(model.output_shape, list) else model.output_shape
    assert len(shape) == (3 if architecture in ("mixer", "resmlp", "gmlp") else 4)
    for pooling in ("avg", "max"):
        pooled = constructor(include_top=False, input_shape=(224, 224, 4), pooling=pooling)
        assert pooled.output_shape == (None, shape[-1])


def test_without_top_the_size_may_be_open(architecture):
    if architecture in ANY_SIZE:
        model = family.tiny(architecture, include_top=False, pooling="avg", input_shape=(None, None, 3))
        assert model.input_shape == (None, None, None, 3)
        assert goldens.outputs(model, IMAGES[:, :, :16]).shape == (2, model.output_shape[-1])
    else:
        with pytest.raises(ValueError, match="None"):
            family.tiny(architecture, include_top=False, input_shape=(None, None, 3))


def test_the_head_has_the_classes_and_the_activation_that_were_asked_for(architecture):
    for activation in ("softmax", "sigmoid", keras.activations.relu, None):
        model = family.tiny(architecture, classes=3, classifier_activation=activation)
        assert model.output_shape == (None, 3)
        assert model.layers[-1].activation is keras.activations.get(activation)
    head = family.tiny(architecture, classes=3, classifier_activation="softmax")
    np.testing.assert_allclose(goldens.outputs(head, IMAGES), 1 / 3, rtol=1e-5)  # which starts at zero


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (dict(weights="no_such_set"), ValueError),
        (dict(weights="no_such_file.npz"), OSError),
        (dict(weights=3), ValueError),
        (dict(pooling="mean", include_top=False), ValueError),
        (dict(classes=0), ValueError),
        (dict(classifier_activation="no_such_activation"), ValueError),
        (dict(input_shape=(32, 32)), ValueError),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused(architecture, arguments, error, shapes_only):
    with pytest.raises(error):
        applications.CONSTRUCTORS[CONSTRUCTORS[architecture]](**arguments)


# What KerasHub checks


def test_the_configuration_gives_the_same_model(architecture, classifiers):
    model = classifiers[architecture]
    config = json.loads(json.dumps(model.get_config()))
    twin = type(model).from_config(model.get_config())
    assert json.loads(json.dumps(twin.get_config())) == config
    assert json.loads(model.to_json()) == json.loads(keras.models.model_from_json(model.to_json()).to_json())
    assert [weight.path for weight in twin.weights] == [weight.path for weight in model.weights]
    assert len({weight.path for weight in model.weights}) == len(model.weights)
    assert sorted(dir(twin)) == sorted(dir(model))
    twin.set_weights(model.get_weights())
    np.testing.assert_array_equal(goldens.outputs(twin, IMAGES), goldens.outputs(model, IMAGES))


def test_a_saved_model_is_the_same(architecture, classifiers, tmp_path):
    model = classifiers[architecture]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(model)
    assert json.loads(json.dumps(loaded.get_config())) == json.loads(json.dumps(model.get_config()))
    np.testing.assert_allclose(goldens.outputs(loaded, IMAGES), goldens.outputs(model, IMAGES), rtol=1e-6, atol=1e-6)
    model.save_weights(tmp_path / "model.weights.h5")
    fresh = family.tiny(architecture)
    fresh.load_weights(tmp_path / "model.weights.h5")
    assert goldens.same(goldens.snapshot(fresh), goldens.snapshot(model))


@pytest.mark.parametrize("policy", ["bfloat16", "mixed_bfloat16", "mixed_float16"])
def test_every_layer_follows_the_dtype_policy(architecture, policy):
    expected = keras.DTypePolicy(policy)
    model = family.tiny(architecture, include_top=False, pooling="avg", dtype=policy)
    assert keras.backend.standardize_dtype(model(IMAGES).dtype) == expected.compute_dtype
    for layer in model._flatten_layers():
        if isinstance(layer, (keras.Model, keras.layers.InputLayer)):
            continue
        assert layer.compute_dtype == expected.compute_dtype, layer.name
        for weight in layer.weights:
            assert keras.backend.standardize_dtype(weight.dtype) == expected.variable_dtype, weight.path
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.filterwarnings("ignore")  # Keras's own about layers that it cannot quantise
def test_quantised_models_come_back_by_their_configuration(architecture, tmp_path):
    model = family.randomised(family.tiny(architecture))
    model.quantize("int8")
    twin = type(model).from_config(model.get_config())
    assert [(weight.path, str(weight.dtype)) for weight in twin.weights] == [
        (weight.path, str(weight.dtype)) for weight in model.weights
    ]
    assert "int8" in {str(weight.dtype) for weight in model.weights}
    model.save_weights(tmp_path / "model.weights.h5")
    twin.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(goldens.outputs(twin, IMAGES), goldens.outputs(model, IMAGES))


def test_channels_lie_last_also_where_keras_puts_them_first(architecture, classifiers):
    keras.config.set_image_data_format("channels_first")
    try:
        twin = family.tiny(architecture)
    finally:
        keras.config.set_image_data_format("channels_last")
    assert twin.input_shape == (None, 32, 32, 3)
    twin.set_weights(classifiers[architecture].get_weights())
    np.testing.assert_allclose(
        goldens.outputs(twin, IMAGES), goldens.outputs(classifiers[architecture], IMAGES), rtol=1e-5, atol=1e-6
    )


def test_a_backbone_takes_part_in_a_larger_model(architecture):
    backbone = family.tiny(architecture, include_top=False, pooling="avg")
    images = keras.Input((32, 32, 3))
    outer = keras.Model(images, keras.layers.Dense(2)(backbone(images)))
    outer.compile("sgd", "mse", run_eagerly=True)
    before = goldens.snapshot(backbone)
    outer.train_on_batch(IMAGES, np.ones((2, 2), "float32"))
    assert not goldens.same(before, goldens.snapshot(backbone))
    backbone.trainable = False
    assert len(outer.trainable_weights) == 2
