"""What holds of every sibling of Mixer, whatever its architecture."""

import dataclasses
import functools
import math

import family
import goldens
import keras
import numpy as np
import pytest

import keras_mixer
from keras_mixer import layers, models

# Parameters with 1,000 classes at 224 px, in full digits, as the authors' and timm's implementations have them.
# BatchNorm's running statistics are not counted, as PyTorch does not.
PARAMETERS = {
    "res_mlp_12": 15_350_872,
    "res_mlp_24": 30_020_680,
    "res_mlp_36": 44_690_488,
    "res_mlp_b24_8": 129_138_280,
    "g_mlp_ti": 5_867_328,
    "g_mlp_s": 19_422_656,
    "g_mlp_b": 73_075_392,
    "conv_mixer_1536_20": 51_625_960,
    "conv_mixer_768_32": 21_110_248,
    "conv_mixer_1024_20": 24_383_464,
    "vision_permutator_small_14": 29_892_904,
    "vision_permutator_small_7": 25_114_984,
    "vision_permutator_medium_7": 55_272_488,
    "vision_permutator_large_7": 87_784_936,
    "cycle_mlp_b1": 15_155_400,
    "cycle_mlp_b2": 26_802_504,
    "cycle_mlp_b3": 38_385_720,
    "cycle_mlp_b4": 51_796_552,
    "cycle_mlp_b5": 75_747_280,
}

# Published multiply-adds in billions at 224 px. ResMLP, gMLP: table 1 of their papers (gMLP's counts operations, which
# are twice as many); B24/8: README of facebookresearch/deit; CycleMLP: README of its authors' code; Vision Permutator:
# the comparison in CycleMLP's paper.
MULTIPLY_ADDS = {
    "res_mlp_12": 3.0,
    "res_mlp_24": 6.0,
    "res_mlp_b24_8": 100.0,
    "g_mlp_ti": 1.35,
    "g_mlp_s": 4.45,
    "g_mlp_b": 15.8,
    "vision_permutator_small_7": 6.9,
    "vision_permutator_medium_7": 16.3,
    "vision_permutator_large_7": 24.4,
    "cycle_mlp_b1": 2.1,
    "cycle_mlp_b2": 3.9,
    "cycle_mlp_b3": 6.9,
    "cycle_mlp_b4": 10.1,
    "cycle_mlp_b5": 12.3,
}
# README of configs/convmixer in open-mmlab/mmpretrain: its counter, as timm's, passes over the depthwise convolutions,
# whose padding is given by a word.
MULTIPLY_ADDS_WITHOUT_DEPTHWISE = {"conv_mixer_1536_20": 48.71, "conv_mixer_768_32": 19.62, "conv_mixer_1024_20": 5.55}


@pytest.fixture(params=family.BUILDERS)
def sibling(request):
    return request.param


def test_every_variant_is_in_the_table():
    assert set(PARAMETERS) == set(models.ARCHITECTURES) - set(models.VARIANTS)


@pytest.mark.parametrize("variant", PARAMETERS)
def test_published_parameters_and_multiply_adds(variant, shapes_only):
    model = models.build(variant, input_shape=(224, 224, 3))
    assert sum(math.prod(weight.shape) for weight in model.trainable_weights) == PARAMETERS[variant]
    cost = models.multiply_adds(model) / 1e9
    if variant in MULTIPLY_ADDS:
        assert cost == pytest.approx(MULTIPLY_ADDS[variant], rel=0.02)
    if variant in MULTIPLY_ADDS_WITHOUT_DEPTHWISE:
        depthwise = [layer for layer in model.layers if isinstance(layer, keras.layers.DepthwiseConv2D)]
        cost -= sum(math.prod((*layer.output.shape[1:], *layer.kernel_size)) for layer in depthwise) / 1e9
        assert cost == pytest.approx(MULTIPLY_ADDS_WITHOUT_DEPTHWISE[variant], rel=0.02)


def test_rates_rise_linearly_over_the_branches(sibling):
    model = family.tiny(sibling, stochastic_depth=0.6)
    branches = [layer.name for layer in model.layers if isinstance(layer, keras.layers.Add)]
    rates = [layer.rate for layer in model.layers if isinstance(layer, layers.StochasticDepth)]
    assert rates == pytest.approx(np.linspace(0, 0.6, len(rates) + 1)[1:])  # the first branch is never dropped
    assert len(branches) == len(rates) + 1


@pytest.mark.filterwarnings("ignore:.*tensor_shape_from_node_def_name.*")
def test_the_framework_counts_the_same_products(sibling):
    """TensorFlow's profiler over the operations that multiply and add; biases and norms it would count besides."""
    tf = pytest.importorskip("tensorflow")
    model = family.model(sibling)
    graph = tf.function(lambda images: model(images, training=False))
    graph = graph.get_concrete_function(tf.TensorSpec((1, 32, 32, 3))).graph
    products = [".*MatMul.*", ".*Conv2D.*"]
    if sibling == "convmixer":  # CycleFC only shifts by a depthwise convolution: it multiplies by 1 and adds 0
        products.append(".*DepthwiseConv2dNative.*")
    options = tf.compat.v1.profiler.ProfileOptionBuilder(tf.compat.v1.profiler.ProfileOptionBuilder.float_operation())
    options = options.with_accounted_types(products).with_empty_output().build()
    counted = tf.compat.v1.profiler.profile(graph, options=options).total_float_ops
    assert counted == 2 * models.multiply_adds(model)


@pytest.mark.parametrize("size", [(None, None), (None, 32), (32, None)])
def test_cost_needs_a_size(size):
    with pytest.raises(ValueError, match=r"size of its images, which is not fixed.*input_shape"):
        models.multiply_adds(family.model("cyclemlp", input_shape=(*size, 3)))


@pytest.mark.backends
def test_golden_logits(sibling):
    model = family.model(sibling)
    keras_mixer.weights.load(model, family.checkpoint(sibling))
    images, logits = family.answers(sibling)
    assert goldens.relative_error(goldens.outputs(model, images), logits) < 1e-5


@pytest.mark.backends
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_keras_file_round_trip(sibling, policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    model = family.randomised(family.model(sibling, stochastic_depth=0.1, dropout=0.1))
    images, _ = family.answers(sibling)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(goldens.outputs(loaded, images), goldens.outputs(model, images))
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in model.layers]
    # Scores and the loss on them stay in float32 when the body does not.
    assert keras.backend.standardize_dtype(model.output.dtype) == "float32"


@pytest.mark.backends
def test_mixed_precision_keeps_the_value(sibling):
    images, logits = family.answers(sibling)
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = family.model(sibling)
    keras_mixer.weights.load(model, family.checkpoint(sibling))
    assert goldens.relative_error(goldens.outputs(model, images), logits) < 0.05


def test_head_starts_at_zero(sibling):
    images, _ = family.answers(sibling)
    scores = goldens.outputs(family.model(sibling, classifier_activation="softmax"), images)
    np.testing.assert_allclose(scores, 0.2, rtol=1e-6)


@pytest.fixture
def channels_first():
    keras.config.set_image_data_format("channels_first")
    yield
    keras.config.set_image_data_format("channels_last")


@pytest.mark.parametrize("name", ["mixer", *family.BUILDERS])
def test_channels_lie_last_whatever_keras_is_set_to(name, channels_first):
    build = goldens.mixer if name == "mixer" else functools.partial(family.model, name)
    checkpoint = goldens.TINY if name == "mixer" else family.checkpoint(name)
    images, logits = (goldens.answers() if name == "mixer" else family.answers(name))[:2]
    model = build()
    keras_mixer.weights.load(model, checkpoint)
    assert goldens.relative_error(goldens.outputs(model, images), logits) < 1e-5
    features = build(include_top=False, pooling="max")
    assert features.output_shape == (None, model.get_layer("head").kernel.shape[0])


def test_pooled_features_are_the_logits_before_the_head(sibling):
    images, logits = family.answers(sibling)
    features = family.model(sibling, include_top=False, pooling="avg")
    keras_mixer.weights.load(features, family.checkpoint(sibling), skip=("head",))
    full = family.model(sibling)
    keras_mixer.weights.load(full, family.checkpoint(sibling))
    kernel, bias = full.get_layer("head").get_weights()
    np.testing.assert_allclose(goldens.outputs(features, images) @ kernel + bias, logits, rtol=1e-4, atol=1e-5)
    largest = family.model(sibling, include_top=False, pooling="max")
    assert largest.output_shape == features.output_shape


def test_training_moves_every_weight_with_every_regularisation_on(sibling):
    images, _ = family.answers(sibling)
    model = family.randomised(family.model(sibling, stochastic_depth=0.2, dropout=0.1))
    before = [np.array(weight) for weight in model.trainable_weights]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01), loss, run_eagerly=True)  # XLA compiles each layer in its own test
    model.fit(images, np.array([0, 1, 2]), epochs=3, verbose=0)
    for old, new in zip(before, model.trainable_weights, strict=True):
        assert not np.array_equal(old, np.array(new)), new.path


@pytest.mark.parametrize("last", [0.0, 0.3])
def test_stochastic_depth_rises_linearly_over_the_branches(sibling, last):
    model = family.model(sibling, stochastic_depth=last)
    rates = {layer.name: layer.rate for layer in model.layers if isinstance(layer, layers.StochasticDepth)}
    branches = [layer.name.removesuffix("_add") for layer in model.layers if isinstance(layer, keras.layers.Add)]
    expected = np.linspace(0, last, len(branches))
    np.testing.assert_allclose([rates.get(f"{name}_stochastic_depth", 0.0) for name in branches], expected)


def test_builds_on_a_given_tensor(sibling):
    photographs = keras.Input((32, 32, 3), dtype="uint8", name="photographs")
    model = family.model(sibling, input_tensor=keras.layers.Rescaling(1 / 255)(photographs))
    keras_mixer.weights.load(model, family.checkpoint(sibling))
    plain = family.model(sibling)
    keras_mixer.weights.load(plain, family.checkpoint(sibling))
    raw = np.random.default_rng(0).integers(0, 256, size=(2, 32, 32, 3), dtype="uint8")
    assert model.input.name == "photographs"
    np.testing.assert_allclose(
        goldens.outputs(model, raw), goldens.outputs(plain, raw / np.float32(255)), rtol=1e-4, atol=1e-5
    )


@pytest.mark.filterwarnings("ignore")  # the converter's own
def test_lite_rt_needs_no_other_kernels(sibling, tmp_path):
    tf = pytest.importorskip("tensorflow")
    interpreter_module = pytest.importorskip("ai_edge_litert.interpreter")
    model = family.model(sibling, **({"input_shape": (None, None, 3)} if sibling in ("convmixer", "cyclemlp") else {}))
    keras_mixer.weights.load(model, family.checkpoint(sibling))
    path = tmp_path / "model.tflite"
    model.export(
        path,
        format="litert",
        input_signature=[keras.InputSpec(shape=(1, 32, 32, 3), dtype="float32")],
        target_spec={"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]},
        verbose=False,
    )
    interpreter = interpreter_module.Interpreter(str(path))
    interpreter.allocate_tensors()
    operations = {details["op_name"] for details in interpreter._get_ops_details()}
    assert not {name for name in operations if name.startswith("Flex") or name in ("CUSTOM", "SHAPE")}
    images, logits = family.answers(sibling)
    answers = []
    for image in images:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
        interpreter.invoke()
        answers.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
    assert goldens.relative_error(np.stack(answers), logits) < 1e-5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(pooling="mean", include_top=False), r"`pooling` must be None, 'avg' or 'max', but got 'mean'"),
        (dict(stochastic_depth=1.0), r"`stochastic_depth` is a probability.*1\.0"),
        (dict(dropout=1.0), r"`dropout` is a probability.*1\.0"),
        (dict(classes=0), r"`classes` must be a positive integer, but got 0"),
        (dict(include_top="no"), r"`include_top` must be True or False, but got 'no'"),
    ],
)
def test_bad_arguments_are_named(sibling, change, message):
    with pytest.raises(ValueError, match=message):
        family.model(sibling, **change)


def test_unknown_variants_are_named():
    with pytest.raises(ValueError, match=r"'resnet50'.*mixer_b16.*cycle_mlp_b1"):
        models.build("resnet50")


def test_variants_are_frozen():
    for _, row in models.ARCHITECTURES.values():
        with pytest.raises(dataclasses.FrozenInstanceError):
            row.layers = ()
