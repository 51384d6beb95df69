"""A photograph in any of the eight orientations is the same photograph by every way in."""

import keras
import numpy as np
import photographs
import pytest
import tensorflow as tf

import keras_mixer
from keras_mixer import data, serving
from keras_mixer.data import ModelCard, Preprocessing, pixels
from keras_mixer.evaluation import keras_predictor
from keras_mixer.export import export_saved_model
from keras_mixer.prediction import classify, find_images

PREPROCESSING = Preprocessing(image_size=(16, 16))
CLASSES = ("cat", "dog")
SIZE = (40, 30)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    model = keras_mixer.Mixer(
        num_blocks=1,
        patch_size=4,
        hidden_dim=16,
        tokens_mlp_dim=8,
        channels_mlp_dim=16,
        input_shape=(16, 16, 3),
        classes=2,
    )
    head = model.get_layer("head")  # it starts at zero, where all images have one score
    head.kernel.assign(np.random.default_rng(0).normal(size=head.kernel.shape))
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One photograph of each class, in each orientation, in formats without loss."""
    root = tmp_path_factory.mktemp("photographs")
    for kind, name in enumerate(CLASSES):
        (root / "train" / name).mkdir(parents=True)
        for turn in photographs.ORIENTATIONS:
            file_format, suffix = (("PNG", "png"), ("TIFF", "tif"), ("PNG", "jpg"), ("WEBP", "webp"))[turn % 4]
            options = {"lossless": True} if file_format == "WEBP" else {}
            image = photographs.photograph(kind, SIZE)
            content = photographs.encoded(image, file_format, turn, byte_order=("II", "MM")[turn % 2], **options)
            (root / "train" / name / f"{turn}.{suffix}").write_bytes(content)
    return root


@pytest.fixture(scope="module")
def upright():
    """What the model is to see of each class."""
    pictures = [tf.constant(np.asarray(photographs.photograph(kind, SIZE))) for kind in range(2)]
    return np.stack([pixels.apply(picture, PREPROCESSING) for picture in pictures])


@pytest.fixture(scope="module")
def scores(model, upright):
    return model.predict_on_batch(upright)


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    base = tmp_path_factory.mktemp("exported") / "photographs"
    export_saved_model(model, base, ModelCard("photographs", CLASSES, PREPROCESSING))
    return base


def test_training_and_evaluation_see_it_upright(folder, upright):
    source = data.load(str(folder), "train")
    ((images, labels, weights),) = data.evaluation_batches(source, PREPROCESSING, 16)
    np.testing.assert_array_equal(images, upright[labels])
    assert weights.numpy().all()
    whole = data.training_batches(source, PREPROCESSING, data.Augmentation(crop="none", flip=False), 16, seed=0)
    images, labels = next(iter(whole))
    np.testing.assert_allclose(images, upright[np.argmax(labels, axis=1)], atol=0.5001 / 127.5)  # whole levels
    boxes = data.Augmentation(crop_area=(0.9, 1), flip=False)
    images = next(iter(data.training_batches(source, PREPROCESSING, boxes, 16, seed=0)))[0].numpy()
    corners = (slice(None), slice(3), slice(3)), (slice(None), slice(-3, None), slice(-3, None))
    pale, other = (images[corner].mean(axis=(1, 2, 3)) for corner in corners)
    assert (pale > other).all()  # the pale corner is at the top left


def test_prediction_sees_it_upright(model, folder, scores):
    card = ModelCard("photographs", CLASSES, PREPROCESSING)
    predictions = list(classify(keras_predictor(model), card, find_images([str(folder)]), batch_size=16))
    assert len(predictions) == 16
    for prediction in predictions:
        row = scores[CLASSES.index(prediction.path.split("/")[-2])]
        assert prediction.error is None
        np.testing.assert_allclose(dict(zip(prediction.classes, prediction.scores, strict=True))[0], row[0], atol=1e-5)


def test_the_exported_graph_turns_it(exported, scores):
    serve = tf.saved_model.load(str(exported / "1")).signatures["serving_bytes"]
    for late in (False, True):
        files = [
            photographs.encoded(photographs.photograph(kind, SIZE), "PNG", turn, late=late)
            for kind in range(2)
            for turn in photographs.ORIENTATIONS
        ]
        answer = serve(image_bytes=tf.constant(files))
        found = np.take_along_axis(answer["scores"].numpy(), np.argsort(answer["classes"].numpy()), axis=1)
        np.testing.assert_allclose(found, np.repeat(scores, 8, axis=0), atol=1e-5)


def test_a_client_sends_what_the_server_turns(exported, folder, scores):
    with (
        serving.Server([serving.ModelConfig(exported)], rest_port=0, port=None) as server,
        serving.Client(server.url, model="photographs") as client,
    ):
        for row, name in zip(scores, CLASSES, strict=True):
            for prediction in client.predict(sorted((folder / "train" / name).iterdir())):
                assert dict(prediction)["cat"] == pytest.approx(float(row[0]), abs=1e-5)


def test_a_client_turns_photographs_for_models_of_version_0_1(monkeypatch):
    sent = []

    class Transport:
        def __init__(self, *arguments, **settings):
            pass

        def size(self, value):
            return len(value)

        def predict(self, signature, inputs):
            sent.extend(inputs["image_bytes"])
            return {"labels": [["a"]], "scores": [[1.0]]}

    monkeypatch.setattr("keras_mixer.serving.client.rest.RestTransport", Transport)
    client = serving.Client("http://localhost:1", model="old", upright=True, batch_size=1)
    plain = photographs.encoded(photographs.photograph())
    client.predict([plain, photographs.encoded(photographs.photograph(), "JPEG", 6)])
    assert sent[0] == plain
    assert sent[1].startswith(b"\x89PNG")
    # Version 0.1 decodes without turning, as this operation does.
    difference = np.abs(tf.io.decode_image(sent[1]).numpy().astype(int) - np.asarray(photographs.photograph()))
    assert difference.mean() < 6
