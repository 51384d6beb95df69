"""An exported file says what its classes and its images are, so that nobody needs the card beside it."""

import functools
import json
import zipfile

import digit_models
import numpy as np
import pytest

import keras_mixer
from keras_mixer.artefacts import (
    export_coreml,
    export_litert,
    export_onnx,
    export_openvino,
    export_saved_model,
    load_card,
    open_classifier,
)
from keras_mixer.data import DatasetSpec, ModelCard, Preprocessing

# A name with spaces, one that JSON and XML escape, and one of a language with other letters.
NAMES = ("zero", "ONE", 'the "second" <2>', "drei", "vier", "fünf", "六", "seven", "eight", "nine")
CARD = ModelCard("digits", NAMES, digit_models.PREPROCESSING, DatasetSpec("./folder", "test"))
FILES = {
    "model.tflite": export_litert,
    "model.onnx": export_onnx,
    "model.xml": export_openvino,
    "model.mlpackage": export_coreml,
}


@pytest.fixture(scope="module")
def described(model, tmp_path_factory):
    """Returns the file of a name, exported when it is asked for first."""
    folder = tmp_path_factory.mktemp("described")
    return functools.cache(lambda name: FILES[name](model, folder / name, card=CARD))


@pytest.mark.parametrize("name", FILES)
def test_the_card_is_read_from_the_file(described, name):
    """Without the folder of the dataset, which is of this machine."""
    assert load_card(described(name)) == CARD.for_others()


@pytest.mark.parametrize("name", ["model.tflite", "model.onnx", "model.xml"])
def test_scores_are_the_models(described, name, model):
    predictor, card = open_classifier(described(name))
    images = digit_models.random_images(3)
    np.testing.assert_allclose(predictor.scores(images), model.predict_on_batch(images), atol=1e-5)
    assert card.class_names == NAMES


@pytest.mark.parametrize("name", ["model.tflite", "model.onnx"])
def test_a_file_without_a_card_says_where_one_is_expected(model, tmp_path, name):
    FILES[name](model, tmp_path / name)
    with pytest.raises(ValueError, match=r"has no card: expected .*model.json"):
        load_card(tmp_path / name)


def test_a_card_beside_the_file_comes_first(described, tmp_path):
    (tmp_path / "model.tflite").write_bytes(described("model.tflite").read_bytes())
    other = ModelCard("renamed", NAMES, digit_models.PREPROCESSING)
    other.save(tmp_path / "model.json")
    assert load_card(tmp_path / "model.tflite") == other


class TestLiteRT:
    """TFLite's tools look for the files of a model in a zip archive behind it. MediaPipe itself: `tests/interop`."""

    def test_labels_lie_in_the_file(self, described):
        with zipfile.ZipFile(described("model.tflite")) as archive:
            assert archive.read("labels.txt").decode().splitlines() == list(NAMES)

    def test_the_metadata_are_named_in_the_model(self, described):
        from ai_edge_litert.schema_py_generated import Model

        model = Model.GetRootAs(described("model.tflite").read_bytes())
        entries = {entry.Name(): entry.Buffer() for entry in map(model.Metadata, range(model.MetadataLength()))}
        metadata = model.Buffers(entries[b"TFLITE_METADATA"]).DataAsNumpy().tobytes()
        assert metadata[4:8] == b"M001"
        assert b"min_runtime_version" in entries

    def test_weights_stay_aligned(self, described):
        """The schema asks for 16 bytes, and kernels may rely on it."""
        from ai_edge_litert.schema_py_generated import Model

        content = described("model.tflite").read_bytes()
        model = Model.GetRootAs(content)
        arrays = [model.Buffers(number).DataAsNumpy() for number in range(model.BuffersLength())]
        starts = [array.ctypes.data for array in arrays if isinstance(array, np.ndarray) and array.size]
        base = np.frombuffer(content, np.uint8).ctypes.data
        assert len(starts) > 20
        assert {(start - base) % 16 for start in starts} == {0}

    def test_the_same_model_gives_the_same_file(self, described, model, tmp_path):
        export_litert(model, tmp_path / "again.tflite", card=CARD)
        assert (tmp_path / "again.tflite").read_bytes() == described("model.tflite").read_bytes()

    @pytest.mark.parametrize("precision", ["float32", "dynamic_int8", "int8"])
    def test_a_batch_of_several(self, tmp_path, precision):
        from ai_edge_litert.interpreter import Interpreter

        model, path, images = digit_models.untrained(), tmp_path / "model.tflite", digit_models.random_images(7)
        export_litert(model, path, precision=precision, samples=[images], batch_size=3, card=CARD)
        assert Interpreter(str(path)).get_input_details()[0]["shape"].tolist() == [3, 8, 8, 1]
        scores = open_classifier(path)[0].scores(images)
        np.testing.assert_allclose(scores, model.predict_on_batch(images), atol=1e-5 if precision == "float32" else 0.1)


def test_onnx_names_its_tensors_and_axes(described):
    import onnx

    model = onnx.load(described("model.onnx"))
    onnx.checker.check_model(model, full_check=True)
    (images,), (scores,) = model.graph.input, model.graph.output
    axes = [[dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in (images, scores)]
    assert (images.name, scores.name, axes) == ("images", "scores", [["batch", 8, 8, 1], ["batch", 10]])
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(properties["labels"]) == list(NAMES)


def test_openvino_has_the_facts_of_its_model_api(described):
    import openvino

    model = openvino.Core().read_model(described("model.xml"))
    assert model.get_rt_info(["model_info", "model_type"]).astype(str) == "Classification"
    labels = model.get_rt_info(["model_info", "labels"]).astype(str).split()
    assert labels == ["_".join(name.split()) for name in NAMES]  # separated by spaces there
    assert float(model.get_rt_info(["model_info", "mean_values"]).astype(str)) == 127.5
    assert (len(model.input("images").partial_shape), model.output("scores").partial_shape[1]) == (4, 10)


def test_core_ml_takes_an_image_and_names_its_class(described):
    import coremltools

    spec = coremltools.models.MLModel(str(described("model.mlpackage")), skip_model_load=True).get_spec()
    (image,), outputs = spec.description.input, spec.description.output
    grey = coremltools.proto.FeatureTypes_pb2.ImageFeatureType.ColorSpace.Value("GRAYSCALE")
    size = image.type.imageType
    assert (image.name, size.width, size.height, size.colorSpace) == ("images", 8, 8, grey)
    assert spec.description.predictedFeatureName == outputs[0].name
    block = next(iter(spec.mlProgram.functions["main"].block_specializations.values()))
    operations = [operation.type for operation in block.operations]
    # A Mixer of two blocks: the stem, four products in each block, and the head.
    assert operations.count("conv") + operations.count("linear") + operations.count("matmul") == 10
    assert operations.count("gelu") == 4
    assert "softmax" in operations
    classes = next(op for op in block.operations if op.type == "classify").inputs["classes"].arguments[0]
    names = [each.immediateValue.tensor.strings.values[0] for each in classes.value.immediateValue.list.values]
    assert tuple(names) == NAMES


def test_core_ml_takes_no_other_images(tmp_path):
    model = keras_mixer.Mixer(
        num_blocks=1, patch_size=4, hidden_dim=8, tokens_mlp_dim=4, channels_mlp_dim=8, input_shape=(8, 8, 4), classes=2
    )
    card = ModelCard("four", ("a", "b"), Preprocessing(image_size=(8, 8), channels=4))
    with pytest.raises(ValueError, match="grey or RGB images, but the model takes 4"):
        export_coreml(model, tmp_path / "model.mlpackage", card)


def test_means_of_each_channel_are_written(tmp_path):
    """MediaPipe takes one number alone; other tools read them."""
    import openvino

    sizes = dict(num_blocks=1, patch_size=4, hidden_dim=8, tokens_mlp_dim=4, channels_mlp_dim=8)
    model = keras_mixer.Mixer(**sizes, input_shape=(8, 8, 3), classes=2)
    preprocessing = Preprocessing(image_size=(8, 8), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    card = ModelCard("colours", ("a", "b"), preprocessing)
    export_openvino(model, tmp_path / "model.xml", card=card)
    written = openvino.Core().read_model(tmp_path / "model.xml")
    values = written.get_rt_info(["model_info", "scale_values"]).astype(str).split()
    np.testing.assert_allclose([float(value) for value in values], [58.395, 57.12, 57.375], rtol=1e-5)
    export_litert(model, tmp_path / "model.tflite", card=card)
    assert np.float32([123.675, 116.28, 103.53]).tobytes() in (tmp_path / "model.tflite").read_bytes()
    assert load_card(tmp_path / "model.tflite").preprocessing == preprocessing


def test_a_saved_model_has_its_card_among_the_assets(model, tmp_path):
    export_saved_model(model, tmp_path / "digits", CARD)
    assert load_card(tmp_path / "digits" / "1") == CARD.for_others()
