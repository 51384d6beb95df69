import contextlib
import dataclasses
import errno
import json
import os
import pathlib
import pickle
import subprocess
import sys
import warnings
import zipfile

import goldens
import keras
import numpy as np
import pytest
import toy_architecture
from safetensors.numpy import load_file, save_file

from keras_mixer import layers, models, weights
from keras_mixer.weights.reading import formats
from keras_mixer.weights.reading.checkpoint import open_checkpoint


@pytest.fixture(scope="module")
def untouched():
    """A model that many tests fail to load into, and its weights."""
    model = goldens.mixer()
    return model, goldens.snapshot(model)


def official_arrays(path=goldens.TINY):
    with np.load(path) as file:
        return dict(file)


def write(path, arrays):
    np.savez(path, **arrays)
    return path


@pytest.mark.backends
@pytest.mark.parametrize("layout", goldens.LAYOUTS)
def test_logits_of_the_reference_from_every_foreign_layout(layout):
    images, logits, features = goldens.answers()
    model = goldens.mixer()
    weights.load(model, goldens.LAYOUTS[layout])
    assert goldens.relative_error(goldens.outputs(model, images), logits) < 1e-5
    pooled = keras.Model(model.input, model.get_layer("pre_logits").output)
    assert goldens.relative_error(goldens.outputs(pooled, images), features) < 1e-5


@pytest.mark.backends
def test_logits_of_the_reference_with_another_patch():
    images, logits, _ = goldens.answers("rect")
    model = goldens.mixer("rect")
    weights.load(model, goldens.FOLDER / "official_rect_params.npz")
    assert goldens.relative_error(goldens.outputs(model, images), logits) < 1e-5


def test_layers_before_the_stem_keep_their_weights_unless_the_file_has_them(tmp_path):
    images, logits, _ = goldens.answers()
    pixels = keras.Input((32, 32, 3), name="pixels")
    mixed = keras.layers.Dense(3, kernel_initializer="identity", name="colours")(pixels)
    model = goldens.mixer(input_tensor=keras.layers.Normalization()(mixed))
    weights.load(model, goldens.TINY)
    assert goldens.relative_error(goldens.outputs(model, images), logits) < 1e-5
    model.get_layer("colours").bias.assign([1.0, 2.0, 3.0])
    weights.save_npz(model, tmp_path / "whole.npz")
    model.get_layer("colours").bias.assign([0.0, 0.0, 0.0])
    weights.load(model, tmp_path / "whole.npz")
    np.testing.assert_array_equal(model.get_layer("colours").bias, [1.0, 2.0, 3.0])
    # A layer after the stem is the model's own.
    scores = keras.layers.Dense(3, name="mine")(model.output)
    with pytest.raises(ValueError, match="missing: mine/kernel"):
        weights.load(keras.Model(model.input, scores), goldens.TINY)


SAVE_ALL_FORMATS = """
import sys, goldens
from keras_mixer import models, weights
model = goldens.mixer(stochastic_depth=0.1, dropout=0.1)
weights.load(model, goldens.TINY)
model.compile("adam", "mse")
model.optimizer.build(model.trainable_variables)
model.save(sys.argv[1] + "/model.keras")
model.save_weights(sys.argv[1] + "/model.weights.h5")
weights.save_npz(model, sys.argv[1] + "/model.npz")
"""


@pytest.mark.backends
def test_weights_saved_on_another_backend_load_here(tmp_path):
    other = "torch" if keras.backend.backend() == "jax" else "jax"
    pytest.importorskip(other)
    environment = os.environ | {"KERAS_BACKEND": other, "PYTHONPATH": str(pathlib.Path(goldens.__file__).parent)}
    subprocess.run([sys.executable, "-c", SAVE_ALL_FORMATS, tmp_path], env=environment, check=True)
    images, logits, _ = goldens.answers()
    for name in ("model.keras", "model.weights.h5", "model.npz"):
        model = goldens.mixer()
        weights.load(model, tmp_path / name)
        assert goldens.relative_error(goldens.outputs(model, images), logits) < 1e-5


@pytest.mark.backends
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "bfloat16", "float16"])
def test_half_precision_models_load_what_their_variables_hold(policy):
    keras.config.set_dtype_policy(policy)
    model = goldens.mixer()
    weights.load(model, goldens.TINY)
    keras.config.set_dtype_policy("float32")
    reference = goldens.mixer()
    weights.load(reference, goldens.TINY)
    for variable, expected in zip(model.weights, reference.weights, strict=True):
        exact = keras.ops.convert_to_numpy(keras.ops.cast(expected, variable.dtype))
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), exact)


def test_a_set_name_is_a_file_of_the_models_variant(server, caplog):
    server.files["/mixer_models/gsam/Mixer-S_32.npz"] = goldens.TINY.read_bytes()
    model = goldens.mixer(num_blocks=8, patch_size=32, hidden_dim=512, channels_mlp_dim=2048, classes=5)
    with pytest.raises(ValueError, match=r"mixer_s32-gsam\.npz does not fit"):
        weights.load(model, "gsam")
    assert "The weights gsam of mixer_s32: Reported broken" in caplog.text
    with pytest.raises(ValueError, match=r"variant with published weights 'sam' \(mixer_b16, mixer_b32"):
        weights.load(model, "sam")
    with pytest.raises(ValueError, match=r"variant with published weights 'gsm' \(none"):
        weights.load(model, "gsm")
    with pytest.raises(ValueError, match="Published sets: sam, gsam"):
        weights.load(goldens.mixer(name="mixer_b32"), "imagenet21k")


@pytest.mark.parametrize("given", [{}, {"name": "mine"}, {"name": "mine", "input_shape": (32, 24, 3), "classes": 3}])
def test_a_set_name_is_known_for_every_architecture_by_the_models_name_or_sizes(server, tmp_path, given):
    url = "https://example.org/toy.npz"
    published = (models.WeightSet("toy_s", "random", url, 5, "these tests", "Apache-2.0"),)
    with toy_architecture.registered(dataclasses.replace(toy_architecture.ARCHITECTURE, published=published)):
        source = models.build("toy_s", classes=5)
        weights.save_npz(source, tmp_path / "toy.npz")
        server.files["/toy.npz"] = (tmp_path / "toy.npz").read_bytes()
        model = models.build("toy_s", **({"classes": 5} | given))
        weights.load(model, "random", skip=("head",))
        assert goldens.same(goldens.snapshot(model)[:3], goldens.snapshot(source)[:3])
        other = toy_architecture.Toy(hidden_dim=6, patch_size=4, name="mine")
        with pytest.raises(ValueError, match="The model 'mine' matches no variant"):
            weights.load(other, "random")


def test_skip_leaves_a_part_as_it_is_in_model_and_file(tmp_path):
    arrays = official_arrays()
    model = goldens.mixer(classes=9)
    before = goldens.snapshot(model)
    with pytest.raises(ValueError, match=r'head/kernel.*skip=\("head",\)'):
        weights.load(model, goldens.TINY)
    assert goldens.same(goldens.snapshot(model), before)
    weights.load(model, goldens.TINY, skip=("head",))
    after = goldens.snapshot(model)
    assert goldens.same(after[-2:], before[-2:])
    np.testing.assert_array_equal(after[0], arrays["stem/kernel"])
    body = {name: array for name, array in arrays.items() if not name.startswith("head/")}
    weights.load(goldens.mixer(include_top=False), write(tmp_path / "body.npz", body))
    with pytest.raises(ValueError, match="heads"):
        weights.load(model, goldens.TINY, skip=("heads",))
    with pytest.raises(ValueError, match="sequence of names"):
        weights.load(model, goldens.TINY, skip="head")


def replaced(name, change):
    def edit(arrays):
        arrays[name] = change(arrays[name])

    return edit


def with_value(value):
    def change(array):
        array = array.copy()
        array.flat[3] = value
        return array

    return change


BAD_CONTENTS = {
    "missing key": (lambda arrays: arrays.pop("stem/bias"), r"missing: stem/bias\."),
    "extra key": (lambda arrays: arrays.update(extra=np.ones(3, "float32")), r"unexpected: extra\."),
    "wrong shape": (replaced("head/bias", lambda a: a[:-1]), r"head/bias \(4,\) instead of \(5,\)"),
    "wrong rank": (replaced("stem/bias", lambda a: a[0]), r"stem/bias \(\) instead of \(24,\)"),
    "NaN": (replaced("stem/kernel", with_value(np.nan)), "stem/kernel that are not finite"),
    "Inf": (replaced("pre_head_layer_norm/bias", with_value(-np.inf)), "not finite"),
    "beyond float32": (replaced("stem/bias", lambda a: a.astype("float64") + 1e300), "not finite in float32"),
    "integers": (replaced("head/bias", lambda a: a.astype("int32")), "wrong dtype: head/bias int32"),
    "complex": (replaced("head/bias", lambda a: a.astype("complex64")), "head/bias complex64"),
    "text": (replaced("head/bias", lambda a: a.astype("U4")), "wrong dtype: head/bias"),
    "twice": (lambda arrays: arrays.update({"embedding/bias": arrays["stem/bias"]}), "stem/bias twice"),
}  # fmt: skip


@pytest.mark.parametrize("fault", BAD_CONTENTS)
def test_a_file_that_does_not_fit_changes_nothing(fault, tmp_path, untouched):
    edit, message = BAD_CONTENTS[fault]
    arrays = official_arrays()
    edit(arrays)
    model, before = untouched
    with pytest.raises(ValueError, match=message):
        weights.load(model, write(tmp_path / "bad.npz", arrays))
    assert goldens.same(goldens.snapshot(model), before)


def test_all_that_is_wrong_is_listed_together(tmp_path, untouched):
    arrays = official_arrays()
    del arrays["stem/bias"]
    arrays["extra"] = np.ones(3, "float32")
    arrays["head/bias"] = np.ones(7, "float32")
    arrays["head/kernel"] = arrays["head/kernel"].astype("int64")
    with pytest.raises(
        ValueError, match=r"missing: stem/bias; unexpected: extra; .*head/bias \(7,\).*head/kernel int64"
    ):
        weights.load(untouched[0], write(tmp_path / "bad.npz", arrays))


@pytest.mark.parametrize("layout", goldens.LAYOUTS)
def test_another_resolution_points_at_the_way_out(layout):
    with pytest.raises(ValueError, match=r"another resolution.*resize=True.*change_resolution"):
        weights.load(goldens.mixer(input_shape=(64, 64, 3)), goldens.LAYOUTS[layout])


def test_safetensors_of_half_precision_and_of_integers(tmp_path):
    import ml_dtypes

    arrays = load_file(goldens.LAYOUTS["timm"])
    halves = {name: array.astype(ml_dtypes.bfloat16) for name, array in arrays.items()}
    save_file(halves, tmp_path / "half.safetensors")
    model = goldens.mixer()
    weights.load(model, tmp_path / "half.safetensors")
    kernel = halves["stem.proj.weight"].astype("float32").transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(goldens.snapshot(model)[0], kernel)
    save_file(arrays | {"head.bias": np.ones(5, "int32")}, tmp_path / "integer.safetensors")
    with pytest.raises(ValueError, match="head/bias I32"):
        weights.load(model, tmp_path / "integer.safetensors")


@pytest.mark.parametrize(
    ("layout", "wrapper"),
    [
        *(("timm", "module."), ("timm", "_orig_mod."), ("timm", "module._orig_mod."), ("timm", "model.")),
        *(("timm", "state_dict.module."), ("timm", "model_state_dict."), ("timm", "params."), ("timm", "")),
        *(("official", "params/"), ("official", "opt/target/"), ("official", "target/"), ("official", "")),
    ],
)
@pytest.mark.parametrize("accompanied", [False, True])
def test_the_name_of_what_held_the_model_is_left_out(layout, wrapper, accompanied, tmp_path):
    arrays = load_file(goldens.LAYOUTS["timm"]) if layout == "timm" else official_arrays()
    wrapped = {wrapper + name: array for name, array in arrays.items()}
    if accompanied:  # by what training runs save beside the weights
        mark = "." if layout == "timm" else "/"
        average = {f"model_ema{mark}{name}": array + 1 for name, array in arrays.items()}
        names = ["optimizer.state.0.exp_avg", "lr_scheduler.last_epoch", "rng_state", "epoch", "args", "opt_state.0.mu"]
        state = {name.replace(".", mark): np.zeros(3, "int64") for name in names}
        wrapped = {**average, **state, **wrapped, f"opt_state{mark}1{mark}{next(iter(arrays))}": np.zeros(2)}
    if layout == "timm":
        path = tmp_path / "wrapped.safetensors"
        save_file(wrapped, path)
    else:
        path = write(tmp_path / "wrapped.npz", wrapped)
    model = goldens.mixer()
    weights.load(model, path)
    expected = goldens.mixer()
    weights.load(expected, goldens.TINY)
    for weight, other in zip(model.weights, expected.weights, strict=True):
        np.testing.assert_allclose(weight, other, rtol=1e-6)


def test_a_moving_average_alone_is_the_model(tmp_path):
    arrays = {f"state_dict_ema.{name}": array for name, array in load_file(goldens.LAYOUTS["timm"]).items()}
    save_file({**arrays, "epoch": np.array(3)}, tmp_path / "average.safetensors")
    model, expected = goldens.mixer(), goldens.mixer()
    weights.load(model, tmp_path / "average.safetensors")
    weights.load(expected, goldens.LAYOUTS["timm"])
    for value, other in zip(goldens.snapshot(model), goldens.snapshot(expected), strict=True):
        np.testing.assert_array_equal(value, other)


def test_other_weights_beside_a_wrapped_model_are_unexpected(tmp_path, untouched):
    arrays = {f"model.{name}": array for name, array in load_file(goldens.LAYOUTS["timm"]).items()}
    save_file({**arrays, "epoch": np.array(3), "probe.weight": np.zeros((5, 8), "float32")}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"does not fit the model 'mixer': unexpected: probe\.weight\.$"):
        weights.load(untouched[0], tmp_path / "a.safetensors")


@pytest.mark.parametrize("name", ["model", "module", "state", "target", "ema"])
def test_a_model_in_a_model_may_have_the_name_of_a_wrapper(name, tmp_path):

    def outer():
        body = goldens.mixer(include_top=False, pooling="avg", name=name)
        return keras.Sequential([keras.Input(body.input_shape[1:]), body, keras.layers.Dense(2, name="probe")])

    saved, twin = outer(), outer()
    weights.save_npz(saved, tmp_path / "outer.npz")
    weights.load(twin, tmp_path / "outer.npz")
    for value, other in zip(goldens.snapshot(twin), goldens.snapshot(saved), strict=True):
        np.testing.assert_array_equal(value, other)


def test_of_two_models_in_a_file_none_is_chosen(tmp_path, untouched):
    arrays = load_file(goldens.LAYOUTS["timm"])
    two = {f"{holder}.{name}": array for holder in ("module", "model") for name, array in arrays.items()}
    save_file(two, tmp_path / "two.safetensors")
    with pytest.raises(ValueError, match=r"missing: stem/kernel.*unexpected: model\.blocks"):
        weights.load(untouched[0], tmp_path / "two.safetensors")


@pytest.mark.parametrize("other", ["config/kernel", "best_head/bias", "optimizer/kernel", "scaler/0"])
def test_what_may_be_a_layer_is_no_companion(other, tmp_path, untouched):
    path = write(tmp_path / "more.npz", {**official_arrays(), other: np.zeros(3, "float32")})
    with pytest.raises(ValueError, match=f"unexpected: {other}"):
        weights.load(untouched[0], path)
    weights.load(goldens.mixer(), path, skip=(other.partition("/")[0],))


def test_companions_may_be_named_in_skip(tmp_path):
    moments = {f"optimizer/mu/{name}": array for name, array in official_arrays().items()}
    weights.load(goldens.mixer(), write(tmp_path / "run.npz", {**official_arrays(), **moments}), skip=("optimizer",))


def test_a_layer_with_the_name_of_a_companion_is_loaded(tmp_path):
    images = keras.Input((8, 8, 3))
    tokens = keras.layers.Flatten()(layers.PatchEmbedding(4, 4, name="stem")(images))
    model, twin = (keras.Model(images, keras.layers.Dense(2, name="scaler")(tokens)) for _ in range(2))
    weights.save_npz(model, tmp_path / "model.npz")
    weights.load(twin, tmp_path / "model.npz")
    np.testing.assert_array_equal(twin.get_layer("scaler").kernel, model.get_layer("scaler").kernel)


@pytest.mark.parametrize("kind", [str, pathlib.Path])
def test_a_path_may_start_in_the_home_folder(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    model = goldens.mixer()
    weights.load(model, goldens.TINY)
    weights.save_npz(model, kind("~/model.npz"))
    assert (tmp_path / "model.npz").is_file()
    twin = goldens.mixer()
    weights.load(twin, kind("~/model.npz"))
    for value, other in zip(goldens.snapshot(twin), goldens.snapshot(model), strict=True):
        np.testing.assert_array_equal(value, other)


def test_bfloat16_in_a_npz_file_is_read(tmp_path):
    """NumPy saves it as raw bytes of two."""
    import ml_dtypes

    halves = {name: array.astype(ml_dtypes.bfloat16) for name, array in official_arrays().items()}
    model = goldens.mixer()
    weights.load(model, write(tmp_path / "half.npz", halves))
    np.testing.assert_array_equal(goldens.snapshot(model)[0], halves["stem/kernel"].astype("float32"))
    odd = {name: array.view("V4") if name == "head/bias" else array for name, array in official_arrays().items()}
    with pytest.raises(ValueError, match="head/bias void32"):
        weights.load(model, write(tmp_path / "odd.npz", odd))


class Bomb:
    """Would write a file if it were ever unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_pickle_is_never_read(tmp_path, untouched):
    arrays = official_arrays()
    arrays["head/bias"] = np.array([Bomb(tmp_path / "unpickled")] * 5, dtype=object)
    np.savez(tmp_path / "objects.npz", **arrays)
    with pytest.raises(ValueError, match="Python objects, which are never read"):
        weights.load(untouched[0], tmp_path / "objects.npz")
    (tmp_path / "pickle.npz").write_bytes(pickle.dumps(Bomb(tmp_path / "unpickled")))
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        weights.load(untouched[0], tmp_path / "pickle.npz")
    assert not (tmp_path / "unpickled").exists()


@pytest.mark.parametrize("name", ["x.npz", "x.safetensors", "x.weights.h5", "x.keras"])
def test_files_that_are_something_else(name, tmp_path, untouched):
    path = tmp_path / name
    model, _ = untouched
    for content in (b"", b"<html>404</html>", bytes(1000)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="not a readable checkpoint"):
            weights.load(model, path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "no arrays")
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        weights.load(model, path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=name):
        weights.load(model, path)


def test_sources_that_are_no_checkpoint(tmp_path, untouched):
    with pytest.raises(ValueError, match=r"\.npz, \.safetensors, \.weights\.h5, \.keras"):
        weights.load(untouched[0], tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="got 3"):
        weights.load(untouched[0], 3)
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(FileNotFoundError, match="no checkpoint file"):
        weights.load(untouched[0], tmp_path / "folder.npz")


def with_header(array, **changes):
    """The bytes of an `.npy` file whose header lies."""
    header = {"descr": "<f4", "fortran_order": False, "shape": array.shape} | changes
    text = (repr(header) + "\n").encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + array.tobytes()


@pytest.mark.parametrize(
    "changes",
    [{"shape": (10**12,)}, {"shape": (2**70, 2**70)}, {"shape": (-5,)}, {"shape": "x"}, {"descr": "|O"}, {"descr": 7}],
)
@pytest.mark.parametrize("resize", [False, True])
def test_lying_headers(changes, resize, tmp_path, untouched):
    for name in ("head/bias", "MixerBlock_0/token_mixing/Dense_1/bias"):
        arrays = official_arrays()
        lie = arrays.pop(name)
        path = write(tmp_path / "lie.npz", arrays)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(name + ".npy", with_header(lie, **changes))
        with pytest.raises(ValueError, match=r"lie\.npz|damaged"):
            weights.load(untouched[0], path, resize=resize)


@pytest.mark.parametrize("damage", [(b"(5,)", b"(5L,)"), (b"'<f4'", b"'\\\\x3cf4'"), (b"(5,)", b"(4or 5,)")])
def test_a_header_that_numpy_would_warn_of_is_damage_without_a_warning(damage, tmp_path, untouched, recwarn):
    arrays = official_arrays()
    bias = arrays.pop("head/bias")
    path = write(tmp_path / "lie.npz", arrays)
    header, values = with_header(bias).split(b"\n", 1)
    text = header[10:].replace(*damage) + b"\n"
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("head/bias.npy", header[:8] + len(text).to_bytes(2, "little") + text + values)
    warnings.simplefilter("always")
    with pytest.raises(ValueError, match=r"lie\.npz .* differs from what NumPy writes"):
        weights.load(untouched[0], path)
    assert not recwarn.list


def test_headers_of_other_writers_are_read(tmp_path):
    arrays = official_arrays()
    bias = arrays.pop("head/bias")
    path = write(tmp_path / "other.npz", arrays)
    text = b'{"shape":(5,),"fortran_order":False,"descr":"<f4"}   \n'
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(
            "head/bias.npy", b"\x93NUMPY\x02\x00" + len(text).to_bytes(4, "little") + text + bias.tobytes()
        )
    with open_checkpoint(path) as stored:
        np.testing.assert_array_equal(stored.arrays["head/bias"].read(), bias)


def test_reading_leaves_the_filters_of_warnings_to_the_process(tmp_path, monkeypatch):
    """They belong to all threads: one that sets them for a while can leave them set behind another."""
    seen = []

    @contextlib.contextmanager
    def spying(path):
        seen.append(list(warnings.filters))
        yield {"head/bias": formats.StoredArray((0,), "float32", lambda: seen.append(list(warnings.filters)), 0)}

    monkeypatch.setitem(formats._READERS, ".npz", spying)
    (tmp_path / "any.npz").touch()
    before = list(warnings.filters)
    with open_checkpoint(tmp_path / "any.npz") as stored:
        stored.arrays["head/bias"].read()
    assert seen == [before, before]


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.EIO, "Input/output error"), OSError(errno.ESTALE, "")])
@pytest.mark.parametrize("when", ["opening", "reading"])
def test_what_the_machine_lacks_is_not_told_as_damage(error, when, tmp_path, monkeypatch):
    def failing():
        raise error

    @contextlib.contextmanager
    def reader(path):
        if when == "opening":
            failing()
        yield {"head/bias": formats.StoredArray((0,), "float32", failing, 0)}

    monkeypatch.setitem(formats._READERS, ".npz", reader)
    (tmp_path / "any.npz").touch()
    with pytest.raises(type(error)) as raised, open_checkpoint(tmp_path / "any.npz") as stored:
        stored.arrays["head/bias"].read()
    assert raised.value is error


def test_an_h5_file_cut_short_is_damage(tmp_path, untouched):
    """HDF5's own errors are OSErrors too."""
    untouched[0].save_weights(tmp_path / "whole.weights.h5")
    content = (tmp_path / "whole.weights.h5").read_bytes()
    path = tmp_path / "cut.weights.h5"
    for length in (100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="not a readable checkpoint"):
            weights.load(untouched[0], path)


def test_a_token_axis_that_unpacks_to_gigabytes_is_refused(tmp_path, untouched):
    side = 20_000  # tokens per side: kernels of 18 GiB
    arrays = official_arrays()
    lies = {}
    for name in arrays:
        if "token_mixing" in name and not name.endswith("Dense_0/bias"):
            shape = tuple(side * side if length == 16 else length for length in arrays[name].shape)
            lies[name] = with_header(arrays[name], shape=shape)
    path = write(tmp_path / "bomb.npz", {name: array for name, array in arrays.items() if name not in lies})
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, content in lies.items():
            archive.writestr(name + ".npy", content)
    with pytest.raises(ValueError, match="damaged"):
        weights.load(untouched[0], path, resize=True)


def test_a_compressed_head_of_zeros_is_not_damage(tmp_path):
    classes = 50_000  # 1.6 MB, in fewer than 2 KB of the file
    arrays = official_arrays()
    width = arrays["head/kernel"].shape[0]
    arrays |= {"head/kernel": np.zeros((width, classes), "float32"), "head/bias": np.zeros(classes, "float32")}
    np.savez_compressed(tmp_path / "fresh.npz", **arrays)
    with zipfile.ZipFile(tmp_path / "fresh.npz") as archive:
        stored = archive.getinfo("head/kernel.npy")
        assert stored.file_size > 500 * stored.compress_size
    model = goldens.mixer(classes=classes)
    weights.load(model, tmp_path / "fresh.npz")
    assert not keras.ops.convert_to_numpy(model.get_layer("head").kernel).any()


def test_a_safetensors_header_that_lies(tmp_path, untouched):
    header = json.dumps({"stem.proj.bias": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    path = tmp_path / "lie.safetensors"
    for content in (len(header).to_bytes(8, "little") + header + bytes(96), (2**60).to_bytes(8, "little") + bytes(96)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="not a readable checkpoint"):
            weights.load(untouched[0], path)


def test_links_out_of_an_h5_file_are_not_followed(tmp_path):
    import h5py

    model = goldens.mixer()
    model.save_weights(tmp_path / "good.weights.h5")
    model.save_weights(tmp_path / "link.weights.h5")
    with h5py.File(tmp_path / "link.weights.h5", "r+") as file:
        del file["layers/dense/vars/1"]
        file["layers/dense/vars/1"] = h5py.ExternalLink(tmp_path / "good.weights.h5", "layers/dense/vars/1")
    with pytest.raises(ValueError, match="is a link"):
        weights.load(model, tmp_path / "link.weights.h5")
