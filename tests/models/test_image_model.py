"""What a built model offers beyond its weights: preprocessing that stays with it, a dtype policy, inner features."""

import copy
import pickle

import family
import goldens
import keras
import numpy as np
import pytest

import keras_mixer
from keras_mixer.data import Preprocessing
from keras_mixer.models import ImageModel

pytestmark = pytest.mark.backends
IMAGES = np.random.default_rng(0).random((2, 32, 32, 3)).astype("float32")
VARIANTS = {
    "mixer": keras_mixer.MixerNano,
    "resmlp": keras_mixer.ResMLP12,
    "gmlp": keras_mixer.GMLPTi,
    "convmixer": keras_mixer.ConvMixer1024x20,
    "vip": keras_mixer.VisionPermutatorSmall7,
    "cyclemlp": keras_mixer.CycleMLPB1,
}


@pytest.fixture(params=family.ARCHITECTURES)
def architecture(request):
    return request.param


def test_preprocessing_stays_with_every_copy(architecture, tmp_path):
    model = family.tiny(architecture)
    wanted = Preprocessing((32, 32), resize="squash", mean=(0.1, 0.2, 0.3), std=0.25)
    model.preprocessing = wanted
    model.save(tmp_path / "model.keras")
    copies = {
        "saved": keras.models.load_model(tmp_path / "model.keras"),
        "clone": keras.models.clone_model(model),
        "json": keras.models.model_from_json(model.to_json()),
        "pickled": pickle.loads(pickle.dumps(model)),
        "deep copy": copy.deepcopy(model),
        "the same weights": keras_mixer.weights.change_resolution(model, 32),
        "inner features": keras_mixer.feature_model(model, "stem"),
    }
    for way, twin in copies.items():
        assert twin.preprocessing == wanted, way
    assert keras_mixer.weights.change_resolution(model, 64).preprocessing.image_size == (64, 64)


def test_a_model_of_nobody_has_no_preprocessing():
    model = family.tiny("mixer")
    assert model.preprocessing is None
    with pytest.raises(ValueError, match=r"must be a `keras_mixer\.data\.Preprocessing` or None, but got {'mean'"):
        model.preprocessing = {"mean": 0.5}  # which could not be saved


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", keras.DTypePolicy("float16"), np.float16])
def test_a_dtype_policy_for_all_layers(architecture, dtype):
    model = family.tiny(architecture, dtype=dtype)
    policy = keras.dtype_policies.get(dtype)
    policies = {layer.dtype_policy.name for layer in model._flatten_layers() if layer.weights and layer.name != "head"}
    assert policies == {policy.name}
    assert model.get_layer("stem").compute_dtype == policy.compute_dtype
    assert model.get_layer("head").compute_dtype == "float32"
    assert keras.config.dtype_policy().name == "float32"  # Keras's own stays


def test_every_constructor_takes_a_dtype_and_numpy_sizes(architecture, shapes_only):
    shape = (np.int64(32), np.int32(32), np.int64(3))
    sizes = {"vip": (56, 56, 3), "convmixer": (28, 28, 3)}
    shape = tuple(map(np.int64, sizes.get(architecture, shape)))
    model = VARIANTS[architecture](input_shape=shape, classes=np.int64(3), dtype="mixed_bfloat16")
    assert model.get_layer("stem").compute_dtype == "bfloat16"
    assert model.preprocessing.input_shape == tuple(map(int, shape))
    assert {type(side) for side in model.preprocessing.input_shape} == {int}
    assert model.output_shape == (None, 3)


def test_every_copy_scales_the_loss_of_float16(tmp_path):
    model = family.tiny("mixer", dtype="mixed_float16")
    model.compile("sgd", "mse")
    model.train_on_batch(IMAGES, np.zeros((2, model.output_shape[-1]), "float32"))
    model.save(tmp_path / "model.keras")
    copies = {
        "clone": keras.models.clone_model(model),
        "json": keras.models.model_from_json(model.to_json()),
        "another resolution": keras_mixer.weights.change_resolution(model, 64),
        "inner features": keras_mixer.feature_model(model, "pre_logits"),
    }
    for twin in copies.values():
        twin.compile("sgd", "mse")
    for way, twin in {**copies, "saved": keras.models.load_model(tmp_path / "model.keras")}.items():
        assert twin.dtype_policy.name == "mixed_float16", way
        assert isinstance(twin.optimizer, keras.optimizers.LossScaleOptimizer), way


def test_a_model_with_another_stem_keeps_its_preprocessing_and_its_policy(tmp_path):
    images = keras.Input((8, 8, 3))
    stem = keras.layers.Conv2D(4, 4, strides=4, dtype="mixed_bfloat16")
    model = ImageModel(images, keras.layers.GlobalAveragePooling2D()(stem(images)))
    model.preprocessing = Preprocessing((8, 8), mean=0.0, std=1.0)
    model.save(tmp_path / "model.keras")
    outer = ImageModel(images, model(images))
    copies = {
        "saved": keras.models.load_model(tmp_path / "model.keras"),
        "json": keras.models.model_from_json(model.to_json()),
        "pickled": pickle.loads(pickle.dumps(model)),
        "inner features": keras_mixer.feature_model(model, stem.name),
        "clone": keras.models.clone_model(model),
        "clone of a clone": keras.models.clone_model(keras.models.clone_model(model)),
    }
    for way, twin in copies.items():
        assert twin.preprocessing == model.preprocessing, way
        assert twin.dtype_policy.name == "mixed_bfloat16", way
    assert outer.dtype_policy.name == ImageModel.from_config(outer.get_config()).dtype_policy.name == "mixed_bfloat16"


@pytest.mark.parametrize("dtype", ["float31", "int32", "bool"])
def test_an_unknown_dtype_leaves_keras_as_it_was(dtype):
    with pytest.raises(ValueError, match=f"policy.*{dtype}|{dtype}.*Policy"):
        family.tiny("mixer", dtype=dtype)
    assert keras.config.dtype_policy().name == "float32"


# A layer inside, and a branch computed from the layers around it.
BRANCHES = {
    "mixer": ("MixerBlock_1/token_mixing", lambda block, x: block.token_mixing(block.layer_norm_0(x))),
    "resmlp": ("block_1_channel_mlp/Dense_0", lambda mlp, x: mlp.dense_0(x)),
    "gmlp": ("block_1_gate/projection", lambda gate, x: gate.projection(gate.norm(x[..., x.shape[-1] // 2 :]))),
    "vip": ("stage_1_block_0_mixing/height", None),
    "cyclemlp": ("stage_1_block_0_mixing/cycle_width", lambda mixing, x: mixing.cycle_width(x)),
}


@pytest.mark.parametrize("name", BRANCHES)
def test_the_output_of_a_branch(name):
    path, branch = BRANCHES[name]
    sides = {"input_shape": (None, None, 3)} if name == "cyclemlp" else {}
    model = family.randomised(family.tiny(name, **sides))
    features = keras_mixer.feature_model(model, path)
    layer = model.get_layer(path.partition("/")[0])
    values = goldens.outputs(features, IMAGES)
    before = keras.Model(model.input, layer.input)(IMAGES)
    if branch is not None:
        expected = keras.ops.convert_to_numpy(branch(layer, before))
        np.testing.assert_allclose(values.reshape(expected.shape), expected, rtol=1e-4, atol=1e-5)
    assert np.isfinite(values).all()
    again = keras_mixer.feature_model(model, path)
    np.testing.assert_array_equal(goldens.outputs(again, IMAGES), values)
    # The model itself stays as it was, and a whole layer needs no slash.
    whole = keras_mixer.feature_model(model, layer.name)
    expected = keras.ops.convert_to_numpy(layer(before))
    np.testing.assert_allclose(goldens.outputs(whole, IMAGES), expected, rtol=1e-4, atol=1e-5)


def test_features_are_saved(tmp_path):
    features = keras_mixer.feature_model(family.randomised(family.tiny("mixer")), "MixerBlock_1/token_mixing/Dense_0")
    features.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(goldens.outputs(loaded, IMAGES), goldens.outputs(features, IMAGES))


def test_a_missing_layer_is_named():
    model = family.tiny("mixer")
    with pytest.raises(ValueError, match=r"'MixerBlock_0' has no layer 'tokens'; it has token_mixing, shortcut"):
        keras_mixer.feature_model(model, "MixerBlock_0/tokens")
    outer = keras.Sequential([keras.Input((32, 32, 3)), model])
    with pytest.raises(ValueError, match=r"'mixer' has no layer 'nope'; it has images, stem"):
        keras_mixer.feature_model(outer, "mixer/nope")
    for name in (None, 3, model.layers[1]):
        with pytest.raises(ValueError, match="Expected a Keras model and the name of a layer"):
            keras_mixer.feature_model(model, name)
    with pytest.raises(ValueError, match=r"'unbuilt' has no inputs: give a Sequential a `keras\.Input` first"):
        keras_mixer.feature_model(keras.Sequential([model], name="unbuilt"), "mixer")


def in_sequential(model):
    layers = [keras.layers.Rescaling(0.5), model, keras.layers.GlobalAveragePooling1D(name="pool")]
    return keras.Sequential([keras.Input((32, 32, 3)), *layers], name="outer")


def in_functional(model):
    images = keras.Input((32, 32, 3))
    tokens = model(keras.layers.Rescaling(0.5)(images))
    return keras.Model(images, keras.layers.GlobalAveragePooling1D(name="pool")(tokens), name="outer")


@pytest.mark.parametrize("wrap", [in_sequential, in_functional])
@pytest.mark.parametrize("levels", [1, 2])
def test_the_features_of_a_model_in_a_model(wrap, levels, tmp_path):
    model = family.randomised(family.tiny("mixer", include_top=False))
    model.preprocessing = Preprocessing((32, 32), mean=0.0, std=1.0)
    outer, prefix = wrap(model), ""
    if levels == 2:
        outer, prefix = keras.Sequential([keras.Input((32, 32, 3)), outer]), "outer/"
    for name in ("stem", "MixerBlock_1", "MixerBlock_1/token_mixing", "MixerBlock_0/channel_mixing/Dense_0"):
        expected = goldens.outputs(keras_mixer.feature_model(model, name), IMAGES / 2)
        features = keras_mixer.feature_model(outer, f"{prefix}mixer/{name}")
        np.testing.assert_allclose(goldens.outputs(features, IMAGES), expected, rtol=1e-5, atol=1e-6)
    assert not hasattr(features, "preprocessing")  # the layer before the model scales the images
    whole = keras_mixer.feature_model(outer, f"{prefix}mixer")
    np.testing.assert_allclose(goldens.outputs(whole, IMAGES), goldens.outputs(model, IMAGES / 2), rtol=1e-5, atol=1e-6)
    last = keras_mixer.feature_model(outer, f"{prefix}pool")
    np.testing.assert_allclose(goldens.outputs(last, IMAGES), goldens.outputs(outer, IMAGES), rtol=1e-5, atol=1e-6)
    whole.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(goldens.outputs(loaded, IMAGES), goldens.outputs(whole, IMAGES))
    outer.save(tmp_path / "outer.keras")  # which stays as it was
    again = keras.models.load_model(tmp_path / "outer.keras")
    np.testing.assert_array_equal(goldens.outputs(again, IMAGES), goldens.outputs(outer, IMAGES))


def test_a_layer_that_is_called_twice_has_no_one_output():
    model = family.tiny("mixer", include_top=False)
    images = keras.Input((32, 32, 3))
    twice = keras.Model(images, keras.layers.Add()([model(images), model(keras.layers.Rescaling(2.0)(images))]))
    with pytest.raises(ValueError, match="calls its layer 'mixer' 2 times instead of once"):
        keras_mixer.feature_model(twice, "mixer/MixerBlock_0")


def test_preprocessing_in_a_pipeline_of_tensorflow():
    tf = pytest.importorskip("tensorflow")
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype="uint8")
    wanted = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    images = tf.data.Dataset.from_tensors(pixels).map(lambda image: keras_mixer.preprocess_input(image, wanted))
    (image,) = images.as_numpy_iterator()
    assert image.dtype == "float32"
    np.testing.assert_allclose(image, keras_mixer.preprocess_input(pixels, wanted), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("first", ["float32", "mixed_float16"])
def test_the_loss_is_scaled_if_any_layer_computes_in_float16(first):
    images = keras.Input((32, 32, 3))
    model = family.tiny("mixer", dtype="mixed_float16", input_tensor=keras.layers.Conv2D(3, 1, dtype=first)(images))
    model.compile("adam", "mse")
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)


def test_a_model_around_a_model_has_its_own_preprocessing():
    inner = family.tiny("mixer", include_top=False)
    inner.preprocessing = Preprocessing((32, 32), mean=0.0, std=1.0)
    images = keras.Input((32, 32, 3))
    outer = ImageModel(images, inner(keras.layers.Rescaling(2.0)(images)))
    assert outer.preprocessing is None
    assert keras.models.clone_model(outer).preprocessing is None
    outer.preprocessing = Preprocessing((32, 32), std=0.25)
    assert inner.preprocessing.std == 1.0
    clone = keras.models.clone_model(outer, recursive=True)
    assert clone.preprocessing == outer.preprocessing
    assert clone.get_layer(inner.name).preprocessing == inner.preprocessing
    assert ImageModel(images, keras.layers.Identity()(outer(images))).preprocessing is None
    assert ImageModel(clone.input, keras.layers.Identity()(clone.output)).preprocessing is None
