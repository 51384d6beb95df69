import inspect
import logging
import math
import pickle
import re
import zipfile

import goldens
import keras
import mirror
import numpy as np
import pytest

import keras_mixer
from keras_mixer import weights
from keras_mixer.models import VARIANTS
from keras_mixer.weights.reading import formats

S32 = "/mixer_models/gsam/Mixer-S_32.npz"
CONSTRUCTORS = {
    "mixer_s32": "MixerS32",
    "mixer_s16": "MixerS16",
    "mixer_s8": "MixerS8",
    "mixer_b32": "MixerB32",
    "mixer_b16": "MixerB16",
    "mixer_l32": "MixerL32",
    "mixer_l16": "MixerL16",
    "mixer_h14": "MixerH14",
    "mixer_nano": "MixerNano",
}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A full S/32 in a mirror, as the official repository publishes it: its arrays, its path, and the mirror's address.

    The values are random, for the published ones cannot be part of the tests.
    """
    folder = tmp_path_factory.mktemp("published")
    rng = np.random.default_rng(0)
    model = keras_mixer.MixerS32()
    model.set_weights([rng.normal(0, 0.02, w.shape).astype("float32") for w in model.get_weights()])
    weights.save_npz(model, folder / "s32.npz")
    patcher = pytest.MonkeyPatch()
    with mirror.running() as server:
        server.files[S32] = (folder / "s32.npz").read_bytes()
        patcher.setenv("KERAS_HOME", str(folder / "keras_home"))
        patcher.setenv("KERAS_MIXER_WEIGHTS_BASE_URL", server.url)
        yield goldens.snapshot(model), folder / "s32.npz", server
    patcher.undo()


def noise(*shape):
    return np.random.default_rng(5).uniform(-1, 1, shape).astype("float32")


def test_every_variant_has_a_constructor_with_the_signature_of_keras_applications():
    assert set(CONSTRUCTORS) == set(VARIANTS)
    theirs = list(inspect.signature(keras.applications.ResNet50).parameters)
    for variant, name in CONSTRUCTORS.items():
        constructor = getattr(keras_mixer, name)
        assert name in dir(keras_mixer)
        parameters = inspect.signature(constructor).parameters
        # Theirs in their order; ours stand before `name`, which comes last in both.
        assert [p for p in parameters if p not in ("stochastic_depth", "dropout", "dtype")] == theirs
        assert parameters["name"].default == variant
        assert parameters["weights"].default is None
        assert constructor.__name__ == name
        assert f"keras_mixer.{name}(" in constructor.__doc__
        for entry in weights.available(variant):
            assert f'"{entry.name}"' in constructor.__doc__


@pytest.mark.parametrize("variant", ["mixer_s16", "mixer_nano"])
def test_a_constructor_builds_its_row_of_the_table(variant):
    model = getattr(keras_mixer, CONSTRUCTORS[variant])(classes=10)
    row = VARIANTS[variant]
    assert model.name == variant
    side = 32 if variant == "mixer_nano" else 224
    assert model.input_shape == (None, side, side, 3)
    assert model.preprocessing.image_size == (side, side)
    assert model.output_shape == (None, 10)
    assert model.get_layer("stem").patch_size == (row.patch_size, row.patch_size)
    block = model.get_layer(f"MixerBlock_{row.num_blocks - 1}")
    assert (block.tokens_mlp_dim, block.channels_mlp_dim) == (row.tokens_mlp_dim, row.channels_mlp_dim)


@pytest.mark.backends
def test_a_published_set_is_fetched_and_loaded(published, caplog):
    values, _, server = published
    model = keras_mixer.MixerS32(weights="gsam")
    assert [record.getMessage()[:50] for record in caplog.records if record.levelname == "WARNING"] == [
        "The weights gsam of mixer_s32: Reported broken: us"
    ]
    assert goldens.same(goldens.snapshot(model), values)
    assert model.output_shape == (None, 1000)
    assert model.preprocessing == weights.available("mixer_s32")[0].preprocessing
    again = keras_mixer.MixerS32(weights="gsam", classifier_activation=None)
    images = noise(1, 224, 224, 3)
    logits = goldens.outputs(again, images)
    exponentials = np.exp(logits - logits.max())
    np.testing.assert_allclose(goldens.outputs(model, images), exponentials / exponentials.sum(), atol=1e-6)
    assert server.requests.count(S32) == 1


def test_other_classes_keep_the_body_and_start_a_fresh_head(published, caplog):
    values, path, _ = published
    with caplog.at_level(logging.WARNING):
        model = keras_mixer.MixerS32(weights=path, classes=7)
    assert "head for 7 classes starts fresh" in caplog.text
    assert model.output_shape == (None, 7)
    assert goldens.same(goldens.snapshot(model)[:-2], values[:-2])
    assert not np.any(goldens.snapshot(model)[-2])
    caplog.clear()
    keras_mixer.MixerS32(weights=path, classes=1000)
    assert caplog.text == ""


@pytest.mark.parametrize(("pooling", "shape"), [(None, (None, 49, 512)), ("avg", (None, 512)), ("max", (None, 512))])
def test_without_the_top_the_body_loads_and_nobody_speaks_of_the_head(published, caplog, pooling, shape):
    values, path, _ = published
    model = keras_mixer.MixerS32(include_top=False, weights=str(path), pooling=pooling)
    assert model.output_shape == shape
    assert goldens.same(goldens.snapshot(model), values[:-2])
    assert caplog.text == ""


def test_another_input_shape_goes_through_the_change_of_resolution(published):
    _, path, _ = published
    small = keras_mixer.MixerS32(weights=path, classifier_activation=None)
    for size in ((448, 224), (160, 192)):
        direct = keras_mixer.MixerS32(weights=path, input_shape=(*size, 3), classifier_activation=None)
        assert direct.preprocessing.image_size == size
        assert goldens.same(goldens.snapshot(direct), goldens.snapshot(weights.change_resolution(small, size)))


@pytest.mark.parametrize("size", [(64, 32), (40, 24)])
def test_the_smallest_variant_changes_its_resolution_too(size):
    small = keras_mixer.MixerNano(weights="cifar10")
    direct = keras_mixer.MixerNano(weights="cifar10", input_shape=(*size, 3))
    assert goldens.same(goldens.snapshot(direct), goldens.snapshot(weights.change_resolution(small, size)))


def test_as_many_tokens_as_a_square_has_may_lie_in_another_grid(tmp_path):
    wide = keras_mixer.MixerNano(input_shape=(16, 64, 3))
    weights.save_npz(wide, tmp_path / "wide.npz")
    again = keras_mixer.MixerNano(weights=tmp_path / "wide.npz", input_shape=(16, 64, 3), classes=1000)
    assert goldens.same(goldens.snapshot(again), goldens.snapshot(wide))


@pytest.mark.parametrize("build", [keras_mixer.MixerNano, keras_mixer.GMLPTi, keras_mixer.CycleMLPB1])
def test_a_tensor_of_another_shape_than_asked_for_is_refused(build):
    pixels = keras.Input((32, 32, 3))
    for shape in ((256, 256, 3), (32, 32, 1), (32, 32)):
        with pytest.raises(ValueError, match=r"`input_shape` is .* `input_tensor` has images of shape \(32, 32, 3\)"):
            build(input_tensor=pixels, input_shape=shape)


@pytest.mark.parametrize("shape", [None, (32, 32, 3), (None, 32, 3)])
def test_a_tensor_of_the_shape_asked_for_is_taken(shape):
    model = keras_mixer.MixerNano(input_tensor=keras.Input((32, 32, 3)), input_shape=shape)
    assert model.input_shape == (None, 32, 32, 3)


def packed(model, path, **lies):
    """Writes a compressed checkpoint, and arrays of zeros of other shapes, up to 32 MiB of each."""
    weights.save_npz(model, path)
    with np.load(path) as file:
        arrays = dict(file)
    np.savez_compressed(path, **{name: array for name, array in arrays.items() if name not in lies})
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, shape in lies.items():
            header = repr({"descr": "<f4", "fortran_order": False, "shape": shape}).encode() + b"\n"
            magic = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little")
            archive.writestr(f"{name}.npy", magic + header + bytes(min(4 * math.prod(shape), 2**25)))
    return path


def test_a_head_of_zeros_that_packs_to_nothing_is_sound(tmp_path):
    fresh = keras_mixer.MixerNano(classes=1_000)
    path = packed(fresh, tmp_path / "fresh.npz")
    assert goldens.same(goldens.snapshot(keras_mixer.MixerNano(weights=path)), goldens.snapshot(fresh))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("head/kernel", (128, 2**16)),  # 32 MiB that are all there, but deflated a thousandfold
        ("head/kernel", (128, 2**26)),
        ("head/kernel", (1, 2**33)),
        ("MixerBlock_0/token_mixing/Dense_0/kernel", (64, 2**26)),
    ],
)
def test_a_small_file_makes_no_giant_model(name, shape, tmp_path):
    path = packed(keras_mixer.MixerNano(), tmp_path / "lie.npz", **{name: shape})
    with pytest.raises(ValueError, match=f"damaged: {name} of shape"):
        keras_mixer.MixerNano(weights=path)


def test_a_checkpoint_of_a_changed_model_without_a_head_is_recognised(published, tmp_path, caplog):
    _, path, _ = published
    larger = keras_mixer.MixerS32(weights=path, input_shape=(448, 224, 3), include_top=False)
    weights.save_npz(larger, tmp_path / "larger.npz")
    again = keras_mixer.MixerS32(weights=tmp_path / "larger.npz", input_shape=(448, 224, 3), include_top=False)
    assert goldens.same(goldens.snapshot(again), goldens.snapshot(larger))
    for shape in (None, (224, 224, 3)):
        with pytest.raises(
            ValueError, match=r"98 tokens of .* are not a square grid: .*`input_shape`.*change_resolution"
        ):
            keras_mixer.MixerS32(weights=tmp_path / "larger.npz", input_shape=shape, include_top=False)
    with caplog.at_level(logging.WARNING):
        classifier = keras_mixer.MixerS32(weights=tmp_path / "larger.npz", input_shape=(448, 224, 3), classes=7)
    assert re.search(r"head for 7 classes starts fresh, because .*larger\.npz has none", caplog.text)
    assert goldens.same(goldens.snapshot(classifier)[:-2], goldens.snapshot(larger))


def test_a_model_on_top_of_a_tensor(published):
    values, path, _ = published
    pixels = keras.Input((224, 224, 3), name="pixels")
    model = keras_mixer.MixerS32(weights=path, input_tensor=keras_mixer.preprocess_input(pixels), include_top=False)
    assert goldens.same(goldens.snapshot(model), values[:-2])
    images = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3))
    plain = keras_mixer.MixerS32(weights=path, include_top=False)
    expected = goldens.outputs(plain, keras_mixer.preprocess_input(images))
    np.testing.assert_allclose(goldens.outputs(model, images.astype("float32")), expected, atol=1e-5)
    with pytest.raises(ValueError, match="`input_tensor` has images of shape"):
        keras_mixer.MixerS32(input_tensor=pixels, input_shape=(448, 448, 3))


@pytest.mark.parametrize(
    ("constructor", "arguments"), [("MixerNano", {"weights": "cifar10"}), ("GMLPTi", {"input_shape": (32, 48, 3)})]
)
def test_a_saved_model_says_how_it_wants_its_images(constructor, arguments, tmp_path):
    built = getattr(keras_mixer, constructor)(**arguments)
    built.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").preprocessing == built.preprocessing is not None


@pytest.mark.parametrize("name", ["model.keras", "model.weights.h5"])
def test_files_of_keras_itself(published, name, tmp_path):
    values, path, _ = published
    model = keras_mixer.MixerS32(weights=path)
    model.save(tmp_path / name) if name.endswith("keras") else model.save_weights(tmp_path / name)
    assert goldens.same(goldens.snapshot(keras_mixer.MixerS32(weights=tmp_path / name)), values)


def test_errors_say_what_is_known(published, tmp_path):
    _, path, _ = published
    with pytest.raises(ValueError, match="imagenet1k, imagenet21k, sam, gsam"):
        keras_mixer.MixerB16(weights="imagenet")
    with pytest.raises(ValueError, match="mixer_h14"):
        keras_mixer.MixerH14(weights="imagenet21k")
    with pytest.raises(FileNotFoundError, match=r"missing\.npz"):
        keras_mixer.MixerS32(weights=tmp_path / "missing.npz")
    with pytest.raises(ValueError, match="does not fit"):
        keras_mixer.MixerS16(weights=path)
    with pytest.raises(ValueError, match="multiple of the patch size"):
        keras_mixer.MixerS32(weights=path, input_shape=(230, 224, 3))
    for shape in ((None, None, 3), (224, 224)):
        with pytest.raises(ValueError, match="static size"):
            keras_mixer.MixerS32(weights=path, input_shape=shape)
    with pytest.raises(ValueError, match="got True"):
        keras_mixer.MixerS32(weights=True)


def test_a_checkpoint_is_opened_once(monkeypatch):
    opened, reader = [], formats._READERS[".npz"]
    monkeypatch.setitem(formats._READERS, ".npz", lambda path: opened.append(path) or reader(path))
    keras_mixer.MixerNano(weights="cifar10", input_shape=(64, 64, 3), classes=3)
    assert len(opened) == 1


@pytest.mark.parametrize("name", ["MixerNano", "ResMLP12", "Mixer", "CycleMLP"])
def test_a_constructor_can_be_pickled(name):
    constructor = getattr(keras_mixer, name)
    assert pickle.loads(pickle.dumps(constructor)) is constructor


def test_the_version_is_that_of_the_installed_package():
    from importlib import metadata

    assert keras_mixer.__version__ == metadata.version("keras_mixer")
    with pytest.raises(AttributeError, match="__versions__"):
        keras_mixer.__versions__  # noqa: B018
