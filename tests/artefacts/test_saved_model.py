import dataclasses
import io
import subprocess
import sys
import threading

import digit_models
import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_mixer.artefacts import export_coreml, export_saved_model
from keras_mixer.card import ModelCard
from keras_mixer.wire import WARM_UP_FILE


@pytest.fixture(scope="module")
def loaded(exported):
    return tf.saved_model.load(str(exported / "1"))


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_the_signatures_take_batches_of_any_size(loaded):
    expected = {
        "serving_default": ({"images": ((None, 8, 8, 1), tf.float32)}, {"scores": ((None, 10), tf.float32)}),
        "serving_bytes": (
            {"image_bytes": ((None,), tf.string)},
            {
                "classes": ((None, 5), tf.int32),
                "scores": ((None, 5), tf.float32),
                "labels": ((None, 5), tf.string),
            },
        ),
        "features": ({"images": ((None, 8, 8, 1), tf.float32)}, {"features": ((None, 32), tf.float32)}),
    }
    found = {
        name: tuple(
            {key: (tuple(spec.shape), spec.dtype) for key, spec in specs.items()}
            for specs in (signature.structured_input_signature[1], signature.structured_outputs)
        )
        for name, signature in loaded.signatures.items()
    }
    assert found == expected


@pytest.mark.parametrize("size", [0, 1, 7])
def test_scores_are_the_models(loaded, model, size):
    images = digit_models.random_images(size)
    scores = loaded.signatures["serving_default"](images=tf.constant(images))["scores"].numpy()
    assert scores.shape == (size, 10)
    if size:
        np.testing.assert_allclose(scores, model.predict_on_batch(images), atol=1e-6)


def test_features_are_what_the_head_sees(loaded, model):
    images = digit_models.random_images(3)
    features = loaded.signatures["features"](images=tf.constant(images))["features"].numpy()
    kernel, bias = model.get_layer("head").get_weights()
    np.testing.assert_allclose(
        tf.nn.softmax(features @ kernel + bias).numpy(), model.predict_on_batch(images), atol=1e-5
    )


def test_features_are_what_a_head_in_another_model_sees(model, card, tmp_path):
    images = keras.Input(model.input_shape[1:])
    outer = keras.Model(images, model(keras.layers.Rescaling(0.5)(images)))
    loaded = tf.saved_model.load(export_saved_model(outer, tmp_path, card))
    pixels = np.random.default_rng(0).normal(size=(3, 8, 8, 1)).astype("float32")
    features = loaded.signatures["features"](images=tf.constant(pixels))["features"].numpy()
    kernel, bias = model.get_layer("head").get_weights()
    np.testing.assert_allclose(tf.nn.softmax(features @ kernel + bias), outer.predict_on_batch(pixels), atol=1e-5)


def test_bytes_give_the_best_classes_of_the_decoded_image(loaded, model, card):
    pixels = np.random.default_rng(4).integers(0, 256, (6, 8, 8), np.uint8)
    found = loaded.signatures["serving_bytes"](image_bytes=tf.constant([png(image) for image in pixels]))
    scores = model.predict_on_batch(pixels[..., None].astype(np.float32) / 127.5 - 1.0)
    order = np.argsort(-scores, axis=1)[:, :5]
    np.testing.assert_array_equal(found["classes"], order)
    np.testing.assert_allclose(found["scores"], np.take_along_axis(scores, order, axis=1), atol=1e-6)
    assert found["labels"].numpy().tolist() == [[card.class_names[k].encode() for k in row] for row in order]


def test_no_image_gives_no_answer(loaded):
    found = loaded.signatures["serving_bytes"](image_bytes=tf.constant([], tf.string))
    assert found["labels"].shape == (0, 5)


def test_assets_hold_the_class_names_and_the_card_without_the_trainers_folders(exported, card, digits):
    assert (exported / "1/assets/labels.txt").read_text().split("\n") == [*card.class_names, ""]
    assert ModelCard.load(exported / "1/assets/model.json") == card.for_others()
    assert card.dataset.data_dir == str(digits)
    assert str(digits) not in (exported / "1/assets/model.json").read_text()


def test_loads_without_keras(exported):
    script = (
        "import sys, tensorflow as tf\n"
        f"loaded = tf.saved_model.load({str(exported / '1')!r})\n"
        "print(loaded.signatures['serving_default'](images=tf.zeros((2, 8, 8, 1)))['scores'].shape)\n"
        "sys.exit('keras_mixer' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "(2, 10)"


def test_the_next_version_follows_the_highest(model, card, tmp_path):
    (tmp_path / "9").mkdir()
    (tmp_path / "notes").mkdir()
    assert export_saved_model(model, tmp_path, card) == tmp_path / "10"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["10", "9", "notes"]


def test_a_version_appears_whole(model, card, tmp_path):
    incomplete, done = [], threading.Event()

    def watch():
        while not done.wait(0.001):
            for version in tmp_path.glob("[0-9]*"):
                needed = ("saved_model.pb", "variables/variables.index", "assets/model.json", "assets.extra")
                incomplete.extend(name for name in needed if not (version / name).exists())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for _ in range(2):
            export_saved_model(model, tmp_path, card)
    finally:
        done.set()
        watcher.join()
    assert incomplete == []


def test_a_failed_export_leaves_nothing(model, card, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr("keras_mixer.artefacts.saved_model.write_warm_up_requests", fail)
    with pytest.raises(OSError, match="No space left"):
        export_saved_model(model, tmp_path, card)
    assert list(tmp_path.iterdir()) == []


def test_a_model_in_half_precision_gives_float32(card, tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = digit_models.untrained()
    loaded = tf.saved_model.load(str(export_saved_model(model, tmp_path, card)))
    images = tf.constant(digit_models.random_images(2))
    assert loaded.signatures["features"](images=images)["features"].dtype == tf.float32
    np.testing.assert_allclose(
        loaded.signatures["serving_default"](images=images)["scores"], model.predict_on_batch(images.numpy()), atol=1e-2
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": ("a", "b")}, "of 2 classes|and 2 classes"),
        ({"preprocessing": dataclasses.replace(digit_models.PREPROCESSING, channels=3)}, r"\(8, 8, 3\)"),
        ({"class_names": (*"012345678", "nine\nteen")}, "line break"),
    ],
)
def test_a_card_that_does_not_fit_is_an_error(model, card, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        export_saved_model(model, tmp_path / "base", dataclasses.replace(card, **changes))
    assert not (tmp_path / "base").exists()


@pytest.fixture
def requests(exported):
    prediction_log_pb2 = pytest.importorskip(
        "tensorflow_serving.apis.prediction_log_pb2",
        reason="pip install --no-deps tensorflow-serving-api",
    )
    records = tf.data.TFRecordDataset(str(exported / "1" / WARM_UP_FILE)).as_numpy_iterator()
    logs = [prediction_log_pb2.PredictionLog.FromString(record) for record in records]
    assert all(log.WhichOneof("log_type") == "predict_log" for log in logs)
    return [log.predict_log.request for log in logs]


def test_the_official_protos_read_one_request_for_each_signature(requests):
    assert [request.model_spec.name for request in requests] == ["digits", "digits"]
    assert [request.model_spec.signature_name for request in requests] == ["serving_default", "serving_bytes"]


def test_the_requests_run(requests, exported):
    loaded = tf.saved_model.load(str(exported / "1"))
    for request in requests:
        inputs = {name: tf.constant(tf.make_ndarray(proto)) for name, proto in request.inputs.items()}
        outputs = loaded.signatures[request.model_spec.signature_name](**inputs)
        assert outputs["scores"].shape[0] == 1
        assert np.all(np.isfinite(outputs["scores"]))


def test_nothing_is_left_unread(requests):
    for request in requests:
        copy = type(request).FromString(request.SerializeToString())
        copy.DiscardUnknownFields()
        assert copy == request


@pytest.mark.parametrize("write", [export_saved_model, export_coreml])
def test_another_backend_is_refused_before_anything_is_written(write, model, card, tmp_path, monkeypatch):
    pytest.importorskip("coremltools")
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(ValueError, match="needs KERAS_BACKEND=tensorflow, but it is jax"):
        write(model, tmp_path / "digits.mlpackage", card)
    assert not list(tmp_path.iterdir())
