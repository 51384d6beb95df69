import dataclasses
import json

import keras
import numpy as np
import pytest

from keras_mixer.data import DatasetSpec, ModelCard, Preprocessing, load_model

CARD = ModelCard(
    name="tiny",
    class_names=("ant", "bee"),
    preprocessing=Preprocessing(image_size=8, channels=1, resize="direct"),
    dataset=DatasetSpec("digits", split="test"),
)


@pytest.fixture
def run(tmp_path):
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(inputs)))
    model.save(tmp_path / "model.keras")
    CARD.save(tmp_path / "model.json")
    return tmp_path, model


def test_json_round_trip():
    assert ModelCard.from_json(CARD.to_json()) == CARD
    without = dataclasses.replace(CARD, dataset=None)
    assert ModelCard.from_json(without.to_json()) == without


@pytest.mark.parametrize(
    ("dataset", "for_others"),
    [
        (DatasetSpec("digits", "test", "/home/me/tfds"), DatasetSpec("digits", "test")),
        (DatasetSpec("/home/me/flowers", "test"), None),
        (None, None),
    ],
)
def test_a_card_for_others_names_no_folder_of_this_machine(dataset, for_others):
    card = dataclasses.replace(CARD, dataset=dataset)
    assert card.for_others() == dataclasses.replace(CARD, dataset=for_others)


def test_loads_a_run_or_a_file(run):
    folder, model = run
    image = np.random.default_rng(0).normal(size=(1, 8, 8, 1)).astype(np.float32)
    for path in (folder, str(folder / "model.keras")):
        loaded, card = load_model(path)
        assert card == CARD
        np.testing.assert_array_equal(loaded(image), model(image))


def test_saving_leaves_nothing_but_the_card(tmp_path):
    CARD.save(tmp_path / "model.json")
    CARD.save(tmp_path / "model.json")
    assert [path.name for path in tmp_path.iterdir()] == ["model.json"]


def test_missing_files(run):
    folder, _ = run
    with pytest.raises(ValueError, match=r"nowhere, which does not exist"):
        load_model(folder / "nowhere")
    (folder / "model.json").unlink()
    with pytest.raises(ValueError, match=r"model.json does not exist.*card"):
        load_model(folder)
    with pytest.raises(ValueError, match=r"model.keras does not exist"):
        load_model(folder.parent)


def test_broken_files(run):
    folder, _ = run
    (folder / "model.keras").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="cannot be read as a Keras model"):
        load_model(folder)
    (folder / "model.json").write_text(json.dumps({"name": "tiny"}))
    with pytest.raises(ValueError, match=r"model.json is not a model card.*missing: .'class_names', 'preprocessing'."):
        load_model(folder)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("class_names", "abc", "class_names must be a list"),
        ("class_names", None, "class_names must be a list"),
        ("class_names", [0, 1], "class_names must be of type str, but got 0"),
        ("name", 3, "name must be of type str, but got 3"),
        ("preprocessing", None, "preprocessing must be a JSON object, but got None"),
        ("dataset", {"name": "digits", "split": 1}, "dataset.split must be of type str, but got 1"),
    ],
)
def test_values_of_a_wrong_type(tmp_path, field, value, message):
    (tmp_path / "model.json").write_text(json.dumps({**json.loads(CARD.to_json()), field: value}))
    with pytest.raises(ValueError, match=rf"model.json is not a model card: {message}"):
        ModelCard.load(tmp_path / "model.json")


def test_a_card_needs_a_preprocessing():
    """`model.preprocessing` is None if it is unknown; the card could be written, and not be read again."""
    with pytest.raises(ValueError, match="`preprocessing` of a card must be a"):
        ModelCard("unknown", ("cat", "dog"), None)


def test_a_flipped_byte(run):
    """In the weights, where the archive's own checksum finds it."""
    folder, model = run
    content = bytearray((folder / "model.keras").read_bytes())
    kernel = content.index(model.layers[-1].get_weights()[0].tobytes()[:16])
    content[kernel] ^= 1
    (folder / "model.keras").write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read as a Keras model"):
        load_model(folder)


def test_card_of_another_model(run):
    folder, _ = run
    dataclasses.replace(CARD, class_names=("a", "b", "c")).save(folder / "model.json")
    with pytest.raises(ValueError, match=r"2 classes, the card says \(8, 8, 1\) and 3"):
        load_model(folder)
