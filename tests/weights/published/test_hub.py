"""Weights on the Hugging Face hub, by its own client, from a hub on the loopback interface."""

import json

import goldens
import loopback_hub
import mirror
import numpy as np
import pytest

import keras_mixer
from keras_mixer import hub as addresses
from keras_mixer import weights
from keras_mixer.cli import main
from keras_mixer.data import ModelCard, Preprocessing, load_model

TIMM = {
    "architecture": "mixer_tiny_32",
    "num_classes": 16,
    "pretrained_cfg": {
        "input_size": [3, 32, 32],
        "mean": [0.485, 0.456, 0.406],
        "std": [0.5, 0.5, 0.5],
        "interpolation": "bicubic",
        "crop_pct": 0.9,
        "crop_mode": "center",
        "num_classes": 16,
    },
}


@pytest.fixture
def timm(hub):
    """A repository as timm's are, with a pickle beside the weights."""
    hub.repositories["timm/tiny"] = {
        "model.safetensors": goldens.LAYOUTS["timm"].read_bytes(),
        "pytorch_model.bin": b"a pickle",
        "config.json": json.dumps(TIMM).encode(),
    }
    return hub


@pytest.fixture
def nano(hub):
    """The weights of a variant as the only file of weights, under another name."""
    config = {**TIMM, "label_names": [f"class {number}" for number in range(10)]}
    file = weights.download("mixer_nano", "cifar10").read_bytes()
    hub.repositories["me/nano"] = {"sub/nano.npz": file, "config.json": json.dumps(config).encode(), "README.md": b"-"}
    return hub


@pytest.mark.parametrize(
    "address",
    [
        "hf://timm/tiny",
        "hf://timm/tiny/",
        "hf://timm/tiny/model.safetensors",
        f"hf://timm/tiny@{loopback_hub.COMMIT}/model.safetensors",
    ],
)
def test_weights_are_loaded_by_their_address(timm, address):
    images, logits, _ = goldens.answers()
    model = goldens.mixer()
    weights.load(model, address)
    np.testing.assert_allclose(goldens.outputs(model, images), logits, rtol=1e-4, atol=1e-5)


def test_a_constructor_takes_size_and_preprocessing_from_the_config(nano):
    model = keras_mixer.MixerNano(weights="hf://me/nano")
    local = keras_mixer.MixerNano(weights="cifar10")
    assert goldens.same(goldens.snapshot(model), goldens.snapshot(local))
    assert model.preprocessing == Preprocessing(
        image_size=(32, 32), interpolation="bicubic", crop_share=0.9, mean=(0.485, 0.456, 0.406), std=0.5
    )
    fewer = keras_mixer.MixerNano(weights="hf://me/nano", classes=3, input_shape=(64, 64, 1))
    assert (fewer.output_shape, fewer.preprocessing.image_size) == ((None, 3), (64, 64))
    assert fewer.preprocessing.mean == pytest.approx((np.mean([0.485, 0.456, 0.406]),))


def test_the_config_describes_a_set(nano):
    entry = weights.find("mixer_nano", "hf://me/nano")
    assert (entry.classes, entry.url) == (16, "hf://me/nano")
    assert weights.names_of(entry)[3] == "class 3"
    assert weights.download("mixer_nano", "hf://me/nano").name == "nano.npz"


def test_commands_take_an_address(nano, tmp_path):
    with pytest.raises(SystemExit) as exit_:
        main(["weights", "save", "mixer_nano", "hf://me/nano", str(tmp_path / "run")])
    assert exit_.value.code == 0
    model, card = load_model(tmp_path / "run")
    assert (model.output_shape, card.name, card.class_names[9]) == ((None, 10), "mixer_nano-me-nano", "class 9")
    assert card.preprocessing.crop_share == 0.9


def test_without_a_config_the_variant_decides(nano):
    del nano.repositories["me/nano"]["config.json"]
    model = keras_mixer.MixerNano(weights="hf://me/nano")
    assert model.preprocessing == keras_mixer.MixerNano().preprocessing


def test_the_older_flat_config_and_other_resizings():
    def read(**config):
        return addresses.preprocessing_in(config, Preprocessing())

    assert read(input_size=[1, 8, 16], mean=[0.2], std=[0.3]) == Preprocessing(
        image_size=(8, 16), channels=1, mean=0.2, std=0.3
    )
    assert read(crop_mode="squash", crop_pct=1.0).resize == "direct"
    assert read(crop_mode="border", interpolation="random") == Preprocessing()


@pytest.mark.parametrize("resize", ["crop", "squash", "direct"])
@pytest.mark.parametrize("mean", [0.5, (0.1, 0.2, 0.3)])
def test_a_config_says_what_the_card_says(resize, mean):
    stated = Preprocessing(image_size=(8, 16), resize=resize, interpolation="lanczos3", mean=mean, crop_share=0.75)
    config = addresses.config_of(ModelCard("model", ("a", "b"), stated))
    assert config["pretrained_cfg"]["interpolation"] == "lanczos"
    read = addresses.preprocessing_in(config["pretrained_cfg"], Preprocessing())
    expected = 1.0 if resize == "direct" else 0.75
    assert (read.resize, read.mean, read.image_size, read.crop_share) == (resize, mean, (8, 16), expected)


def test_the_cache_of_the_client_is_used_also_offline(timm, monkeypatch):
    from huggingface_hub import constants

    model = goldens.mixer()
    weights.load(model, "hf://timm/tiny")
    fetched = [path for method, path in timm.requests if method == "GET"]
    assert len(fetched) == 1
    assert fetched[0].startswith("/lfs/")
    weights.load(model, "hf://timm/tiny")
    assert [path for method, path in timm.requests if method == "GET"] == fetched
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(timm.requests)
    weights.load(model, "hf://timm/tiny")
    with pytest.raises(OSError, match=r"other\.npz of hf://timm/tiny is not in the cache.*HF_HUB_OFFLINE"):
        weights.load(model, "hf://timm/tiny/other.npz")
    assert len(timm.requests) == asked


def test_a_changed_file_is_noticed(timm):
    path = addresses.HubAddress.parse("hf://timm/tiny").download((".safetensors",)).resolve()
    path.write_bytes(b"other bytes")
    with pytest.raises(ValueError, match="has changed since it was fetched"):
        weights.load(goldens.mixer(), "hf://timm/tiny")


def test_private_and_gated_repositories_want_a_token(timm, monkeypatch):
    timm.gated.add("timm/tiny")
    with pytest.raises(OSError, match=r"hf://timm/tiny is gated: ask for access.*HF_TOKEN"):
        weights.load(goldens.mixer(), "hf://timm/tiny")
    timm.private.add("timm/tiny")
    with pytest.raises(OSError, match=r"hf://timm/tiny does not exist, or is not yours to use.*HF_TOKEN"):
        weights.load(goldens.mixer(), "hf://timm/tiny")
    monkeypatch.setenv("HF_TOKEN", loopback_hub.TOKEN)
    weights.load(goldens.mixer(), "hf://timm/tiny")


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        ("hf://timm/none", OSError, "hf://timm/none does not exist"),
        ("hf://timm/tiny/none.npz", OSError, r"has no file 'none\.npz' in revision 'main'"),
        ("hf://timm/tiny@v2", OSError, "has no revision 'v2'"),
        ("hf://timm/tiny/pytorch_model.bin", ValueError, "is a pickle"),
        ("hf://tiny", ValueError, r"hf://OWNER/REPO\[@REVISION\]\[/FILE\], but got 'hf://tiny'"),
        (
            "hf://me/several",
            ValueError,
            r"several files of weights: name one, hf://me/several/a\.npz, hf://me/several/b",
        ),
        ("hf://me/empty", ValueError, r"no file that ends in \.npz.*It has README\.md"),
    ],
)
def test_what_is_not_there_is_named(timm, address, error, message):
    timm.repositories["me/several"] = {"a.npz": b"", "b.keras": b""}
    timm.repositories["me/empty"] = {"README.md": b""}
    with pytest.raises(error, match=message):
        weights.load(goldens.mixer(), address)


@pytest.mark.parametrize(
    "config", [b"{", b"[1]", b'{"pretrained_cfg": {"input_size": 7}}', b'{"mean": "a"}', b'{"std": [0.1, 0.2]}']
)
def test_a_config_that_says_nothing_sensible_is_named(nano, config):
    nano.repositories["me/nano"]["config.json"] = config
    with pytest.raises(ValueError, match=r"config\.json of hf://me/nano"):
        keras_mixer.MixerNano(weights="hf://me/nano")


def test_without_the_client_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr("keras_mixer.extras.installed", lambda *modules: False)
    with pytest.raises(ImportError, match=r'hf://a/b needs huggingface_hub.*pip install "keras_mixer\[hub\]"'):
        weights.load(goldens.mixer(), "hf://a/b")


def test_the_registry_uses_the_client_unless_a_mirror_is_set(hub, monkeypatch):
    name = "timm/mixer_b16_224.goog_in21k"
    hub.repositories[name] = {"model.safetensors": b"from the hub"}
    entry = weights.find("mixer_b16", "imagenet21k_timm")
    assert name in entry.url
    path = weights.download("mixer_b16", "imagenet21k_timm")
    assert path.read_bytes() == b"from the hub"
    from keras_mixer.weights.published import cache

    assert cache.cached_path(entry) == path
    with mirror.running() as running:
        running.files[f"/{name}/resolve/main/model.safetensors"] = b"from the mirror"
        monkeypatch.setenv("KERAS_MIXER_WEIGHTS_BASE_URL", running.url)
        assert weights.download("mixer_b16", "imagenet21k_timm").read_bytes() == b"from the mirror"
        monkeypatch.delenv("KERAS_MIXER_WEIGHTS_BASE_URL")
    assert weights.download("mixer_b16", "imagenet21k_timm").read_bytes() == b"from the mirror"  # which is here already


def test_a_recipe_starts_from_an_address(timm):
    from keras_mixer import training
    from keras_mixer.training import recipes

    with np.load(goldens.FOLDER / "official_tiny_io.npz") as file:
        _, *values, classes = map(int, file["config"])
    names = ("patch_size", "num_blocks", "hidden_dim", "tokens_mlp_dim", "channels_mlp_dim")
    sizes = dict(zip(names, values, strict=True))
    recipe = recipes.get("digits").override(
        {f"model.{name}": str(size) for name, size in sizes.items()}
        | {"model.weights": "hf://timm/tiny", "preprocessing.image_size": "[32, 32]", "preprocessing.channels": "3"}
    )
    network = training.initial_network(recipe, classes)
    model = goldens.mixer()
    weights.load(model, "hf://timm/tiny")
    assert goldens.same(goldens.snapshot(network), goldens.snapshot(model))
    assert network.preprocessing.mean == (0.485, 0.456, 0.406)
