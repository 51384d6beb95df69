"""Checkpoints of Mixer's siblings: strict, and never a pickle."""

import pickle

import family
import goldens
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import keras_mixer
from keras_mixer import weights


@pytest.fixture(params=family.BUILDERS)
def sibling(request):
    return request.param


def rewritten(sibling, tmp_path, change):
    arrays = load_file(family.checkpoint(sibling))
    change(arrays)
    save_file(arrays, tmp_path / "changed.safetensors")
    return tmp_path / "changed.safetensors"


def test_missing_and_unexpected_keys_are_listed_and_nothing_is_loaded(sibling, tmp_path):
    def change(arrays):
        arrays["extra.weight"] = arrays.pop("head.weight")

    model = family.model(sibling)
    before = goldens.snapshot(model)
    with pytest.raises(ValueError, match=r"missing: head/kernel.*unexpected: extra\.weight"):
        weights.load(model, rewritten(sibling, tmp_path, change))
    assert goldens.same(before, goldens.snapshot(model))


def test_a_head_of_other_classes_can_be_skipped(sibling):
    model = family.model(sibling, classes=7)
    with pytest.raises(ValueError, match=r'skip=\("head",\)'):
        weights.load(model, family.checkpoint(sibling))
    weights.load(model, family.checkpoint(sibling), skip=("head",))
    full = family.model(sibling)
    weights.load(full, family.checkpoint(sibling))
    body = full.get_weights()[: len(model.weights)]
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), body, strict=True) if a.shape == b.shape)


def test_another_architectures_file_is_refused(sibling):
    other = "gmlp" if sibling == "resmlp" else "resmlp"
    with pytest.raises(ValueError, match="does not fit the model"):
        weights.load(family.model(sibling), family.checkpoint(other))


def test_round_trip_through_the_packages_own_formats(sibling, tmp_path):
    model = family.model(sibling)
    weights.load(model, family.checkpoint(sibling))
    weights.save_npz(model, tmp_path / "model.npz")
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    for name in ("model.npz", "model.keras", "model.weights.h5"):
        twin = family.randomised(family.model(sibling))
        weights.load(twin, tmp_path / name)
        assert goldens.same(goldens.snapshot(model), goldens.snapshot(twin)), name


def test_the_authors_names_of_res_mlp(tmp_path):
    """facebookresearch/deit: other names, and affine vectors without leading axes."""

    def change(arrays):
        for key in list(arrays):
            array = arrays.pop(key)
            name = key.replace("stem.", "patch_embed.").replace("linear_tokens", "attn")
            name = name.replace("mlp_channels", "mlp").replace("ls1", "gamma_1").replace("ls2", "gamma_2")
            arrays[name] = array.reshape(-1) if array.shape[:2] == (1, 1) else array

    model = family.model("resmlp")
    weights.load(model, rewritten("resmlp", tmp_path, change))
    images, logits = family.answers("resmlp")
    assert goldens.relative_error(goldens.outputs(model, images), logits) < 1e-5


class Bomb:
    """Opens a file for writing when it is unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return open, (str(self.target), "w")


@pytest.mark.parametrize("name", ["model.pth", "model.pt", "checkpoint.pth.tar", "pytorch_model.bin"])
def test_a_pickle_is_never_read(name, tmp_path):
    path, target = tmp_path / name, tmp_path / "opened"
    path.write_bytes(pickle.dumps({"head.weight": Bomb(target)}))
    with pytest.raises(ValueError, match=r"weights_only=True.*safetensors\.torch\.save_file"):
        weights.load(family.model("resmlp"), path)
    assert not target.exists()


def test_the_recipe_for_conversion_works(tmp_path):
    """What the error advises, done to the letter, gives a file that loads."""
    torch = pytest.importorskip("torch")
    import safetensors.torch

    arrays = load_file(family.checkpoint("cyclemlp"))
    torch.save({"model": {key: torch.tensor(value) for key, value in arrays.items()}}, tmp_path / "model.pth")
    state = torch.load(tmp_path / "model.pth", map_location="cpu", weights_only=True)["model"]
    converted = tmp_path / "model.safetensors"
    safetensors.torch.save_file({key: value.contiguous() for key, value in state.items()}, converted)
    model = family.model("cyclemlp")
    weights.load(model, converted)
    images, logits = family.answers("cyclemlp")
    assert goldens.relative_error(goldens.outputs(model, images), logits) < 1e-5


def test_constructors_load_a_file_and_keep_its_classes(tmp_path):
    arrays = {key: np.zeros(shape, "float32") for key, shape in _g_mlp_ti_shapes(classes=3).items()}
    save_file(arrays, tmp_path / "g_mlp_ti.safetensors")
    model = keras_mixer.GMLPTi(weights=tmp_path / "g_mlp_ti.safetensors")
    assert model.output_shape == (None, 3)
    assert model.preprocessing == weights.InputPreprocessing(interpolation="bicubic")
    assert not np.array(model.get_layer("block_0_dense_0").kernel).any()
    features = keras_mixer.GMLPTi(weights=tmp_path / "g_mlp_ti.safetensors", include_top=False, pooling="avg")
    assert features.output_shape == (None, 128)


def _g_mlp_ti_shapes(classes):
    tokens, channels, hidden = 196, 128, 768
    shapes = {
        "stem.proj.weight": (channels, 3, 16, 16),
        "stem.proj.bias": (channels,),
        "norm.weight": (channels,),
        "norm.bias": (channels,),
        "head.weight": (classes, channels),
        "head.bias": (classes,),
    }
    for block in range(30):
        shapes |= {
            f"blocks.{block}.norm.weight": (channels,),
            f"blocks.{block}.norm.bias": (channels,),
            f"blocks.{block}.mlp_channels.fc1.weight": (hidden, channels),
            f"blocks.{block}.mlp_channels.fc1.bias": (hidden,),
            f"blocks.{block}.mlp_channels.gate.norm.weight": (hidden // 2,),
            f"blocks.{block}.mlp_channels.gate.norm.bias": (hidden // 2,),
            f"blocks.{block}.mlp_channels.gate.proj.weight": (tokens, tokens),
            f"blocks.{block}.mlp_channels.gate.proj.bias": (tokens,),
            f"blocks.{block}.mlp_channels.fc2.weight": (channels, hidden // 2),
            f"blocks.{block}.mlp_channels.fc2.bias": (channels,),
        }
    return shapes


def test_nothing_of_a_sibling_is_fetched_by_name():
    with pytest.raises(ValueError, match=r"gMLP-S.*'imagenet1k'.*path"):
        keras_mixer.GMLPS(weights="imagenet1k")
