"""What every layer of the package must do, whatever it computes."""

import goldens
import keras
import numpy as np
import pytest

from keras_mixer import layers

pytestmark = pytest.mark.backends

CASES = {
    "TokenMixing": (lambda: layers.TokenMixing(6, dropout=0.1, name="layer"), (2, 4, 8), (2, 4, 8)),
    "ChannelMixing": (lambda: layers.ChannelMixing(6, dropout=0.1, name="layer"), (2, 4, 8), (2, 4, 8)),
    "MixerBlock": (lambda: layers.MixerBlock(6, 12, (0.1, 0.2), dropout=0.1, name="layer"), (2, 4, 8), (2, 4, 8)),
    "UntiedTokenMixing": (lambda: layers.UntiedTokenMixing(6, dropout=0.1, name="layer"), (2, 4, 8), (2, 4, 8)),
    "GroupedTokenMixing": (
        lambda: layers.GroupedTokenMixing(6, 4, "project", dropout=0.1, tokens=3, name="layer"),
        (2, 4, 8),
        (2, 3, 8),
    ),
    "LayerNorm": (lambda: layers.LayerNorm(name="layer"), (2, 4, 8), (2, 4, 8)),
    "TokenShortcut": (lambda: layers.TokenShortcut(3, name="layer"), (2, 4, 8), (2, 3, 8)),
    "StemConvolution": (lambda: layers.StemConvolution(6, 2, strides=2, name="layer"), (2, 4, 6, 3), (2, 2, 3, 6)),
    "StochasticDepth": (lambda: layers.StochasticDepth(0.3, seed=1, name="layer"), (2, 4, 8), (2, 4, 8)),
    "Affine": (lambda: layers.Affine(0.5, name="layer"), (2, 4, 8), (2, 4, 8)),
    "ActivatedDense": (lambda: layers.ActivatedDense(6, activation="gelu", name="layer"), (2, 4, 8), (2, 4, 6)),
    "ChannelDense": (lambda: layers.ChannelDense(6, name="layer"), (2, 4, 8), (2, 4, 6)),
    "ChannelMLP": (lambda: layers.ChannelMLP(6, 10, dropout=0.1, name="layer"), (2, 3, 4, 8), (2, 3, 4, 10)),
    "CycleFC": (lambda: layers.CycleFC(axis=2, reach=5, name="layer"), (2, 3, 4, 8), (2, 3, 4, 8)),
    "CycleMixing": (lambda: layers.CycleMixing(name="layer"), (2, 3, 4, 8), (2, 3, 4, 8)),
    "PatchMap": (lambda: layers.PatchMap(8, (2, 4), name="layer"), (2, 6, 8, 3), (2, 3, 2, 8)),
    "PatchMerging": (lambda: layers.PatchMerging(6, 2, name="layer"), (2, 4, 6, 8), (2, 2, 3, 6)),
    "SpatialGatingUnit": (lambda: layers.SpatialGatingUnit(name="layer"), (2, 4, 8), (2, 4, 4)),
    "TokenLinear": (lambda: layers.TokenLinear(bias_initializer="ones", name="layer"), (2, 4, 8), (2, 4, 8)),
    "WeightedPermuteMLP": (lambda: layers.WeightedPermuteMLP(4, name="layer"), (2, 3, 4, 8), (2, 3, 4, 8)),
    "PatchEmbedding": (lambda: layers.PatchEmbedding(8, (2, 4), name="layer"), (2, 6, 8, 3), (2, 6, 8)),
}


def test_every_public_layer_has_a_case():
    assert sorted(CASES) == sorted(layers.__all__)


@pytest.fixture(params=CASES)
def case(request):
    make_layer, input_shape, output_shape = CASES[request.param]
    inputs = np.random.default_rng(0).normal(size=input_shape).astype("float32")
    return make_layer, inputs, output_shape


def test_config_round_trip(case):
    make_layer, inputs, _ = case
    layer = make_layer()
    config = layer.get_config()
    twin = type(layer).from_config(config)
    assert twin.get_config() == config
    layer(inputs), twin(inputs)
    # The state of a random generator is named by a counter; weights are named for good.
    names = [(v.path, v.shape) for v in layer.trainable_variables]
    assert [(v.path, v.shape) for v in twin.trainable_variables] == names


def test_symbolic_shape_is_the_eager_shape(case):
    make_layer, inputs, output_shape = case
    symbolic = make_layer()(keras.Input(inputs.shape[1:]))
    assert tuple(make_layer()(inputs).shape) == output_shape
    assert tuple(symbolic.shape) == (None, *output_shape[1:])
    assert tuple(make_layer().compute_output_shape(inputs.shape)) == output_shape


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "bfloat16"])
def test_half_precision_keeps_the_value(case, policy):
    make_layer, inputs, _ = case
    reference = make_layer()
    expected = keras.ops.convert_to_numpy(reference(inputs))
    keras.config.set_dtype_policy(policy)
    layer = make_layer()
    layer.build(inputs.shape)
    layer.set_weights(reference.get_weights())
    outputs = layer(inputs)
    assert keras.backend.standardize_dtype(outputs.dtype) == keras.config.dtype_policy().compute_dtype
    np.testing.assert_allclose(keras.ops.convert_to_numpy(keras.ops.cast(outputs, "float32")), expected, atol=0.05)


def test_saves_and_loads_as_a_keras_file(case, tmp_path):
    make_layer, inputs, _ = case
    model = keras.Sequential([keras.Input(inputs.shape[1:]), make_layer()])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(goldens.outputs(model, inputs), goldens.outputs(loaded, inputs))


@pytest.mark.parametrize("name", [name for name in CASES if name != "StochasticDepth"])  # which has no weights
def test_gradients_reach_every_weight(name):
    make_layer, input_shape, output_shape = CASES[name]
    rng = np.random.default_rng(0)
    inputs, targets = rng.normal(size=input_shape), rng.normal(size=output_shape)
    model = keras.Sequential([keras.Input(input_shape[1:]), make_layer()])
    before = [np.array(v) for v in model.trainable_variables]
    model.compile(keras.optimizers.SGD(1.0), "mse")
    model.fit(inputs, targets, epochs=2, batch_size=2, verbose=0)
    assert before
    for old, new in zip(before, model.trainable_variables, strict=True):
        assert not np.array_equal(old, np.array(new)), new.path


def test_no_two_kernels_start_from_the_same_draws(case):
    make_layer, inputs, _ = case
    layer = make_layer()
    layer.build(inputs.shape)
    kernels = [keras.ops.convert_to_numpy(weight).ravel() for weight in layer.weights if weight.name == "kernel"]
    assert len({kernel[0] for kernel in kernels}) == len(kernels)


def test_an_input_of_another_size_never_becomes_a_longer_batch(case):
    make_layer, inputs, _ = case
    layer = make_layer()
    layer(inputs)
    for axis in range(1, inputs.ndim):
        try:
            outputs = layer(np.repeat(inputs, len(inputs), axis=axis))
        except Exception:  # refused, in the backend's words where Keras has none
            continue
        assert outputs.shape[0] == len(inputs), axis


def test_the_constructor_takes_the_configuration(case):
    make_layer, _, _ = case
    config = make_layer().get_config()
    assert type(make_layer())(**config).get_config() == config
