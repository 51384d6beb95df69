"""The architecture of `toy_architecture.py`, added by `keras_mixer.models.register`."""

from unittest import mock

import goldens
import keras
import numpy as np
import pytest
from safetensors.numpy import save_file
from toy_architecture import ARCHITECTURE, Toy, ToyVariant, registered

from keras_mixer import applications, models, siblings, weights
from keras_mixer.models import catalogue


@pytest.fixture(scope="module", autouse=True)
def toy():
    with registered():
        yield


def randomised(model):
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=weight.shape) for weight in model.weights])
    return model


def images():
    return np.random.default_rng(1).normal(size=(2, 16, 16, 3)).astype("float32")


def test_is_built_by_name():
    model = models.build("toy_s", classes=5)
    assert model.name == "toy_s"
    assert model.output_shape == (None, 5)
    assert models.find_variant("toy_s") == (Toy, {"hidden_dim": 8, "patch_size": 4})
    assert models.find_architecture("toy") is models.find_architecture("toy_s") is ARCHITECTURE


def test_has_a_constructor_and_preprocessing():
    assert applications.CONSTRUCTORS["toy_s"] is siblings.ToyS is applications.ToyS
    assert siblings.CONSTRUCTORS is applications.CONSTRUCTORS
    assert "Toy-S" in applications.ToyS.__doc__
    model = applications.ToyS(classes=3, input_shape=(24, 16, 3))
    assert model.preprocessing == siblings.preprocessing_of("toy_s", (24, 16, 3))
    assert model.preprocessing.mean == (0.1, 0.2, 0.3)
    assert model.preprocessing.image_size == (24, 16)
    with pytest.raises(ValueError, match=r"Toy-S.*'imagenet'.*path"):
        applications.ToyS(weights="imagenet")
    with pytest.raises(ValueError, match="`pooling` must be None, 'avg' or 'max', but got 'mean'"):
        applications.ToyS(include_top=False, pooling="mean")


def test_has_a_cost():
    assert models.multiply_adds(models.build("toy_s", classes=5)) == 16 * (4 * 4 * 3) * 8 + 8 * 8 + 8 * 5


def test_saves_and_loads_its_weights(tmp_path):
    model = randomised(models.build("toy_s", classes=5))
    weights.save_npz(model, tmp_path / "toy.npz")
    loaded = applications.ToyS(weights=tmp_path / "toy.npz")
    assert goldens.same(goldens.snapshot(loaded), goldens.snapshot(model))
    model.save(tmp_path / "toy.keras")
    again = keras.models.load_model(tmp_path / "toy.keras")
    np.testing.assert_array_equal(goldens.outputs(again, images()), goldens.outputs(model, images()))


def test_loads_a_foreign_checkpoint_by_its_own_rules(tmp_path):
    model = randomised(models.build("toy_s", classes=5))
    kernel, bias, gate, head, head_bias = model.get_weights()
    foreign = {
        "cut.weight": kernel.transpose(3, 2, 0, 1),
        "cut.bias": bias,
        "gate.map": gate.T,
        "head.weight": head.T,
        "head.bias": head_bias,
    }
    save_file({key: np.ascontiguousarray(value) for key, value in foreign.items()}, tmp_path / "toy.safetensors")
    loaded = applications.ToyS(weights=tmp_path / "toy.safetensors")
    assert goldens.same(goldens.snapshot(loaded), goldens.snapshot(model))
    with pytest.raises(ValueError, match="does not fit"):
        weights.load(models.build("mixer_nano"), tmp_path / "toy.safetensors")


@pytest.mark.parametrize("clash", ["toy", "toy_s", "ToyS"])
def test_a_name_in_use_is_refused(clash):
    other = models.Architecture(
        name="toy" if clash == "toy" else "other",
        builder=Toy,
        variants=(
            models.Variant(
                "toy_s" if clash == "toy_s" else "other_s",
                "ToyS" if clash == "ToyS" else "OtherS",
                "",
                ToyVariant(8, 4),
            ),
        ),
    )
    with pytest.raises(ValueError, match=f"already has {clash}:"):
        models.register(other)
    assert "other_s" not in models.ARCHITECTURES


def test_the_table_of_variants_follows_the_catalogue():
    assert models.ARCHITECTURES["toy_s"] == (Toy, ToyVariant(8, 4))
    assert list(models.ARCHITECTURES)[-1] == "toy_s"
    with mock.patch.object(catalogue, "_registered", [ARCHITECTURE]):
        assert dict(models.ARCHITECTURES) == {"toy_s": (Toy, ToyVariant(8, 4))}
    with pytest.raises(TypeError, match="item assignment"):
        models.ARCHITECTURES["own"] = (Toy, ToyVariant(8, 4))
