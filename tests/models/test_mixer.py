import dataclasses
import subprocess
import sys

import goldens
import keras
import numpy as np
import pytest

import keras_mixer
from keras_mixer.models import VARIANTS

TINY = dict(num_blocks=2, patch_size=4, hidden_dim=8, tokens_mlp_dim=6, channels_mlp_dim=12, input_shape=(16, 24, 3))

# Parameters with 1,000 classes at the variant's image size: table 1 of the paper in full digits, the others by the same
# formula; Nano has 1,132,170 with 10 classes, of which 990 * 129 are the head's.
PARAMETERS = {
    "mixer_s32": 19_104_624,
    "mixer_s16": 18_528_264,
    "mixer_s8": 20_646_504,
    "mixer_b32": 60_293_428,
    "mixer_b16": 59_880_472,
    "mixer_l32": 206_939_264,
    "mixer_l16": 208_196_168,
    "mixer_h14": 432_350_952,
    "mixer_nano": 1_132_170 + 990 * 129,
}


def images(count=2, shape=(16, 24, 3)):
    return np.random.default_rng(0).uniform(-1, 1, size=(count, *shape)).astype("float32")


def randomised(model):
    """Random values everywhere, for biases and the head start at zero and would hide an error."""
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(0, 0.2, size=w.shape).astype(w.dtype) for w in model.get_weights()])
    return model


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "mixer_h14"])  # it has a test of its own
def test_published_parameter_counts(variant, shapes_only):
    assert keras_mixer.Mixer(**dataclasses.asdict(VARIANTS[variant])).count_params() == PARAMETERS[variant]
    keras.utils.clear_session()


# Table 1: number of layers, patch resolution, hidden size, sequence length at 224 px, dimensions of the two MLPs.
TABLE_1 = {
    "mixer_s32": (8, 32, 512, 49, 2048, 256),
    "mixer_s16": (8, 16, 512, 196, 2048, 256),
    "mixer_b32": (12, 32, 768, 49, 3072, 384),
    "mixer_b16": (12, 16, 768, 196, 3072, 384),
    "mixer_l32": (24, 32, 1024, 49, 4096, 512),
    "mixer_l16": (24, 16, 1024, 196, 4096, 512),
    "mixer_h14": (32, 14, 1280, 256, 5120, 640),
}


@pytest.mark.parametrize("variant", TABLE_1)
def test_variants_match_the_table_of_the_paper(variant):
    row = VARIANTS[variant]
    tokens = (row.input_shape[0] // row.patch_size) * (row.input_shape[1] // row.patch_size)
    found = (row.num_blocks, row.patch_size, row.hidden_dim, tokens, row.channels_mlp_dim, row.tokens_mlp_dim)
    assert found == TABLE_1[variant]


def test_every_variant_has_its_count():
    assert set(VARIANTS) == set(PARAMETERS)


@pytest.mark.backends
def test_the_four_outputs_are_one_model():
    """Tokens, their mean, the logits and the scores, computed from the same weights, follow from one another."""
    full = randomised(keras_mixer.Mixer(**TINY, classes=5))
    ends = {
        "tokens": dict(include_top=False),
        "avg": dict(include_top=False, pooling="avg"),
        "max": dict(include_top=False, pooling="max"),
        "logits": dict(classes=5, classifier_activation=None),
    }
    outputs = {"scores": goldens.outputs(full, images())}
    for name, end in ends.items():
        model = keras_mixer.Mixer(**TINY, **end)
        model.set_weights(full.get_weights()[: len(model.weights)])
        outputs[name] = goldens.outputs(model, images())
    kernel, bias = full.get_layer("head").get_weights()
    assert outputs["tokens"].shape == (2, 24, 8)
    np.testing.assert_allclose(outputs["avg"], outputs["tokens"].mean(axis=1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(outputs["max"], outputs["tokens"].max(axis=1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(outputs["logits"], outputs["avg"] @ kernel + bias, rtol=1e-4, atol=1e-5)
    exponentials = np.exp(outputs["logits"])
    np.testing.assert_allclose(outputs["scores"], exponentials / exponentials.sum(1, keepdims=True), rtol=1e-4)


@pytest.mark.backends
def test_head_starts_at_zero():
    scores = keras_mixer.Mixer(**TINY, classes=5).predict(images(), verbose=0)
    np.testing.assert_allclose(scores, 0.2, rtol=1e-6)


@pytest.mark.backends
def test_every_block_is_reachable_by_name():
    model = randomised(keras_mixer.Mixer(**TINY, classes=5))
    last_block = keras.Model(model.input, model.get_layer("MixerBlock_1").output)
    tokens = last_block(images())
    normalised = model.get_layer("pre_head_layer_norm")(tokens)
    expected = keras_mixer.Mixer(**TINY, include_top=False)
    expected.set_weights(model.get_weights()[:-2])
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(normalised), goldens.outputs(expected, images()), rtol=1e-4, atol=1e-5
    )


@pytest.mark.backends
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16", "float16", "bfloat16"])
def test_keras_file_round_trip(policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    model = randomised(keras_mixer.Mixer(**TINY, classes=5, stochastic_depth=0.1, dropout=0.1))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(goldens.outputs(loaded, images()), goldens.outputs(model, images()))
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in model.layers]
    # Scores and the loss on them stay in float32 when the body does not.
    assert keras.backend.standardize_dtype(model.output.dtype) == "float32"


# With their widths cut, variants differ in depth, and in patches that do not touch the blocks.
DEEPEST, SHALLOWEST = "mixer_h14", "mixer_s32"


@pytest.mark.parametrize("variant", [DEEPEST, SHALLOWEST])
def test_any_depth_survives_a_keras_file(variant, tmp_path):
    """The variant's own depth and names; its widths are cut so that the file stays small."""
    narrow = dataclasses.replace(VARIANTS[variant], hidden_dim=8, tokens_mlp_dim=6, channels_mlp_dim=12)
    assert narrow.num_blocks == {DEEPEST: max, SHALLOWEST: min}[variant](row.num_blocks for row in VARIANTS.values())
    patch = narrow.patch_size
    narrow = dataclasses.replace(narrow, input_shape=(2 * patch, patch, 3))
    model = keras_mixer.Mixer(**dataclasses.asdict(narrow), classes=5)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    batch = images(shape=(2 * patch, patch, 3))
    np.testing.assert_array_equal(loaded(batch), model(batch))


def test_builds_on_a_given_tensor():
    photographs = keras.Input((16, 24, 3), dtype="uint8", name="photographs")
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1)(photographs)
    model = keras_mixer.Mixer(**TINY, input_tensor=scaled, classes=5)
    assert [tensor.name for tensor in model.inputs] == ["photographs"]
    raw = np.random.default_rng(0).integers(0, 256, size=(2, 16, 24, 3), dtype="uint8")
    plain = keras_mixer.Mixer(**TINY, classes=5)
    plain.set_weights(randomised(model).get_weights())
    np.testing.assert_allclose(
        model.predict(raw, verbose=0), plain.predict(raw / np.float32(127.5) - 1, verbose=0), rtol=1e-5
    )


def test_summary_has_one_row_per_block():
    lines = []
    keras_mixer.Mixer(**TINY).summary(print_fn=lines.append)
    rows = [line for line in "\n".join(lines).splitlines() if "MixerBlock" in line]
    assert len(rows) == 2


BUILD_HUGE_14 = """
import dataclasses, pathlib, re, keras, keras_mixer
from keras_mixer.models import VARIANTS
# Ones touch the memory as random numbers do, and are there at once.
keras.initializers.LecunNormal.__call__ = lambda self, shape, dtype=None: keras.ops.ones(shape, dtype)
tiny = keras_mixer.Mixer(num_blocks=1, patch_size=4, hidden_dim=8, tokens_mlp_dim=6, channels_mlp_dim=12,
                         input_shape=(8, 8, 3))  # the framework's own memory
peak = lambda: 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
before = peak()
model = keras_mixer.Mixer(**dataclasses.asdict(VARIANTS["mixer_h14"]))
print(model.count_params(), peak() - before)
"""


def test_huge_14_is_allocated_once():
    """Building takes the memory of the weights (1.7 GB) and little more; a second copy would double it."""
    result = subprocess.run([sys.executable, "-c", BUILD_HUGE_14], capture_output=True, text=True, check=True)
    parameters, peak_bytes = map(int, result.stdout.split())
    assert parameters == PARAMETERS["mixer_h14"]
    assert 4 * parameters < peak_bytes < 1.25 * 4 * parameters


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(input_shape=(18, 24, 3)), r"18 x 24 pixels .* 4 x 4.*nearest size"),
        (dict(input_shape=(None, None, 3)), r"one static size.*input_shape"),
        (dict(pooling="mean", include_top=False), r"`pooling` must be None, 'avg' or 'max', but got 'mean'"),
        (dict(stochastic_depth=-0.1), r"`stochastic_depth` is a probability.*-0.1"),
        (dict(stochastic_depth=1.0), r"`stochastic_depth` is a probability"),
        (dict(dropout=-1), r"`dropout` is a probability.*-1"),
        (dict(num_blocks=0), r"`num_blocks` must be a positive integer, but got 0"),
        (dict(hidden_dim=-8), r"`hidden_dim` must be a positive integer, but got -8"),
        (dict(classes=0), r"`classes` must be a positive integer, but got 0"),
    ],
)
def test_bad_arguments_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        keras_mixer.Mixer(**{**TINY, **change})
