"""What Keras can do to a model and save: freezing, quantisation, LoRA."""

import copy
import pickle

import family
import goldens
import keras
import numpy as np
import pytest

import keras_mixer

pytestmark = pytest.mark.backends
IMAGES = np.random.default_rng(0).random((2, 32, 32, 3)).astype("float32")


@pytest.fixture(params=family.ARCHITECTURES)
def architecture(request):
    return request.param


def saved(model, tmp_path):
    model.save(tmp_path / "model.keras")
    return keras.models.load_model(tmp_path / "model.keras")


def nested(model, tmp_path):
    outer = keras.Sequential([keras.Input(model.input_shape[1:]), model, keras.layers.Dense(2)])
    return saved(outer, tmp_path).get_layer(model.name)


def saved_in_h5(model, tmp_path):
    model.save(tmp_path / "model.h5")
    return keras.models.load_model(tmp_path / "model.h5")


def nested_in_h5(model, tmp_path):
    outer = keras.Sequential([keras.Input(model.input_shape[1:]), model, keras.layers.Dense(2)])
    outer.save(tmp_path / "model.h5")
    return keras.models.load_model(tmp_path / "model.h5").get_layer(model.name)


def copied_deeply(model, _):
    return copy.deepcopy(model)


WITH_WEIGHTS = {
    "saved": saved,
    "nested": nested,
    "saved in .h5": saved_in_h5,
    "nested in .h5": nested_in_h5,
    "pickled": lambda model, _: pickle.loads(pickle.dumps(model)),
    "deep copy": copied_deeply,
}
WITHOUT_WEIGHTS = {
    "clone": lambda model, _: keras.models.clone_model(model),
    "json": lambda model, _: keras.models.model_from_json(model.to_json()),
}


def states(model):
    """The layers with their flags and policies, and the weights with their flags, shapes and dtypes."""
    layers = [layer for layer in model._flatten_layers() if not isinstance(layer, keras.layers.InputLayer)]
    layers = [(layer.name, layer.trainable, layer.dtype_policy.name) for layer in layers]
    weights = [(weight.trainable, tuple(weight.shape), str(weight.dtype)) for weight in model.weights]
    return sorted(layers), weights


def dense_layers(model):
    return [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.Dense)]


def check_copies(model, tmp_path, ways):
    expected = goldens.outputs(model, IMAGES)
    for way, copied in ways.items():
        twin = copied(model, tmp_path)
        assert states(twin) == states(model), way
        if way not in WITHOUT_WEIGHTS:
            np.testing.assert_allclose(goldens.outputs(twin, IMAGES), expected, rtol=1e-5, atol=1e-6, err_msg=way)


@pytest.mark.filterwarnings("ignore")  # Keras's own about .h5
def test_a_frozen_body_stays_frozen(architecture, tmp_path):
    model = family.randomised(family.tiny(architecture))
    for layer in model.layers[:-1]:
        layer.trainable = False
    assert len(model.trainable_weights) == 2
    check_copies(model, tmp_path, WITH_WEIGHTS | WITHOUT_WEIGHTS)
    loaded = saved(model, tmp_path)
    for frozen in (False, True):
        for layer in loaded.layers:
            layer.trainable = not frozen
        assert bool(loaded.trainable_weights) != frozen


def test_flags_and_policies_of_single_sublayers_stay(architecture, tmp_path):
    model = family.randomised(family.tiny(architecture))
    sublayers = [layer for layer in model._flatten_layers() if layer not in model.layers and layer is not model]
    for layer in sublayers[::2]:
        layer.trainable = False
    for layer in sublayers:
        if layer.name == "Dense_0":
            layer.dtype_policy = "mixed_bfloat16"
    model.layers[1].trainable = False
    check_copies(model, tmp_path, {"nested": nested} | WITHOUT_WEIGHTS)


def test_other_settings_of_sublayers_stay(tmp_path):
    model = family.randomised(family.tiny("mixer"))
    block = model.get_layer("MixerBlock_0")
    block.token_mixing.dropout_0.rate = 0.5
    block.channel_mixing.dense_0.activation = keras.activations.relu
    block.channel_mixing.dense_1.kernel_regularizer = keras.regularizers.L2(0.25)
    block.layer_norm_1.epsilon = 0.5
    check_copies(model, tmp_path, WITH_WEIGHTS | WITHOUT_WEIGHTS)
    twin = saved(saved(model, tmp_path), tmp_path)
    assert twin.get_layer("MixerBlock_0").token_mixing.dropout_0.rate == 0.5
    kernel = keras.ops.convert_to_numpy(block.channel_mixing.dense_1.kernel)
    (loss,) = map(keras.ops.convert_to_numpy, twin.losses)
    np.testing.assert_allclose(loss, 0.25 * np.sum(kernel**2), rtol=1e-5)
    assert not keras.models.clone_model(family.tiny("mixer")).losses


def test_training_goes_on_where_it_stopped(architecture, tmp_path):
    model = family.randomised(family.tiny(architecture))
    for layer in model.layers[:-1]:
        layer.trainable = False
    model.compile("adam", "mse", run_eagerly=True)
    targets = np.eye(model.output_shape[-1], dtype="float32")[:2]
    before = [np.array(weight) for weight in model.non_trainable_weights]
    model.train_on_batch(IMAGES, targets)
    loaded = saved(model, tmp_path)
    for one in (model, loaded):
        one.train_on_batch(IMAGES, targets)
    state, loaded_state = ([np.array(value) for value in one.optimizer.variables] for one in (model, loaded))
    assert len(state) == 2 + 2 * 2  # steps and learning rate, two moments of the head's two weights
    for mine, theirs in zip(state + model.get_weights(), loaded_state + loaded.get_weights(), strict=True):
        np.testing.assert_allclose(theirs, mine, rtol=1e-6)
    assert goldens.same(before, [np.array(weight) for weight in loaded.non_trainable_weights])


@pytest.mark.filterwarnings("ignore")  # Keras's own about layers that it cannot quantise
@pytest.mark.parametrize(
    ("architecture", "mode"),
    [*((name, "int8") for name in family.ARCHITECTURES), ("mixer", "int4"), ("gmlp", "int4"), ("mixer", "float8")],
)
def test_quantised_models_are_saved_and_copied(architecture, mode, tmp_path):
    model = family.randomised(family.tiny(architecture))
    expected = goldens.outputs(model, IMAGES)
    model.quantize(mode)
    assert {layer.quantization_mode for layer in dense_layers(model)} == {mode}
    bound = {"int8": 0.1, "int4": 1.0, "float8": 0.2}[mode]
    assert goldens.relative_error(goldens.outputs(model, IMAGES), expected) < bound
    twins = saved(model, tmp_path), copy.deepcopy(model), keras.models.clone_model(model)
    for twin in twins[:2]:
        np.testing.assert_array_equal(goldens.outputs(twin, IMAGES), goldens.outputs(model, IMAGES))
    for twin in twins:
        assert states(twin)[0] == states(model)[0]
        assert sorted(states(twin)[1]) == sorted(states(model)[1])  # Keras builds those of float8 in another order


@pytest.mark.filterwarnings("ignore")
def test_weights_of_quantised_models_say_what_to_do(architecture, tmp_path):
    model = family.tiny(architecture)
    model.quantize("int8")
    with pytest.raises(ValueError, match=r"is quantised \(.*int8\).*save the quantised model with `model\.save`"):
        keras_mixer.weights.save_npz(model, tmp_path / "model.npz")
    with pytest.raises(ValueError, match=r"is quantised.*change the resolution.*before `model\.quantize`"):
        keras_mixer.weights.change_resolution(model, 64)
    if architecture not in ("convmixer", "cyclemlp"):  # which cannot be permuted
        with pytest.raises(ValueError, match=r"is quantised.*permute.*before `model\.quantize`"):
            keras_mixer.weights.permute(model, pixel_permutation=np.arange(model.get_layer("stem").patch_size[0] ** 2))


@pytest.fixture
def with_lora(architecture):
    """A frozen model whose dense layers have LoRA that says something."""
    model = family.randomised(family.tiny(architecture))
    for layer in model.layers:
        layer.trainable = False
    for layer in dense_layers(model):
        layer.trainable = True
        layer.enable_lora(2, lora_alpha=3)
        layer.lora_kernel_b.assign(np.random.default_rng(2).normal(0, 0.2, layer.lora_kernel_b.shape))
    return model


def test_lora_is_saved_with_its_optimizer(with_lora, tmp_path):
    with_lora.compile("adam", "mse", run_eagerly=True)
    with_lora.train_on_batch(IMAGES, np.ones((2, with_lora.output_shape[-1]), "float32"))
    check_copies(with_lora, tmp_path, {"deep copy": copied_deeply} | WITHOUT_WEIGHTS)
    state, loaded = (
        [np.array(value) for value in one.optimizer.variables] for one in (with_lora, saved(with_lora, tmp_path))
    )
    assert goldens.same(state, loaded)


def test_lora_is_merged_into_a_npz(architecture, with_lora, tmp_path):
    expected = goldens.outputs(with_lora, IMAGES)
    keras_mixer.weights.save_npz(with_lora, tmp_path / "model.npz")
    plain = family.tiny(architecture)
    keras_mixer.weights.load(plain, tmp_path / "model.npz")
    np.testing.assert_allclose(goldens.outputs(plain, IMAGES), expected, rtol=1e-4, atol=1e-5)
    keras_mixer.weights.load(with_lora, tmp_path / "model.npz")  # LoRA starts anew
    np.testing.assert_allclose(goldens.outputs(with_lora, IMAGES), expected, rtol=1e-4, atol=1e-5)


def test_lora_survives_another_resolution_and_a_permutation(architecture, with_lora):
    expected = goldens.outputs(with_lora, IMAGES)
    back = keras_mixer.weights.change_resolution(with_lora, 32)
    np.testing.assert_allclose(goldens.outputs(back, IMAGES), expected, rtol=1e-4, atol=1e-5)
    assert states(back) == states(with_lora)
    larger = keras_mixer.weights.change_resolution(with_lora, 64)
    assert larger.output_shape == with_lora.output_shape
    if architecture not in ("convmixer", "cyclemlp"):
        pixels = np.random.default_rng(3).permutation(with_lora.get_layer("stem").patch_size[0] ** 2)
        permuted = keras_mixer.weights.permute(with_lora, pixel_permutation=pixels)
        side = with_lora.get_layer("stem").patch_size[0]
        patches = IMAGES.reshape(2, 32 // side, side, 32 // side, side, 3).swapaxes(2, 3)
        shuffled = patches.reshape(2, 32 // side, 32 // side, side * side, 3)[..., pixels, :]
        shuffled = shuffled.reshape(patches.shape).swapaxes(2, 3).reshape(IMAGES.shape)
        np.testing.assert_allclose(goldens.outputs(permuted, shuffled), expected, rtol=1e-3, atol=1e-4)
