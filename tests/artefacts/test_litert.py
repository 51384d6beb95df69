import collections

import digit_models
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from keras_mixer.artefacts import export_litert, keras_predictor, open_artefact
from keras_mixer.artefacts.litert import PRECISIONS, min_runtime
from keras_mixer.data import load
from keras_mixer.evaluation import EvaluationSplit, measure
from keras_mixer.evaluation.samples import calibration_images

NAMES = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}


@pytest.fixture(scope="module")
def model(digits):
    return digit_models.trained(digits)


@pytest.fixture(scope="module")
def samples(card):
    return calibration_images(card)


@pytest.fixture(scope="module")
def files(model, samples, tmp_path_factory):
    folder = tmp_path_factory.mktemp("litert")
    return {
        precision: export_litert(model, folder / f"{precision}.tflite", precision=precision, samples=[samples])
        for precision in PRECISIONS
    }


def graph(path):
    """(name of operation, types of inputs, types of outputs, options) in order, from the file itself."""
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    (subgraph,) = model.subgraphs

    def types(indices):
        return [subgraph.tensors[index].type for index in indices if index >= 0]

    operations = []
    for operator in subgraph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        name = NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)]
        operations.append((name, types(operator.inputs), types(operator.outputs), operator.builtinOptions))
    return operations


def test_a_file_says_which_runtime_is_the_oldest_that_loads_it(files):
    """By the versions of its operations; the weights of a product of 8 bits with a scale per channel came with 2.17."""
    oldest = {precision: min_runtime(path) for precision, path in files.items()}
    assert oldest == {"float32": "2.9.0", "float16": "2.9.0", "dynamic_int8": "2.17.0", "int8": "2.9.0"}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_operations_are_built_in_and_gelu_is_one(files, precision):
    operations = graph(files[precision])
    counts = collections.Counter(name for name, *_ in operations)
    assert "CUSTOM" not in counts  # TensorFlow's own kernels ("Flex") are custom operations
    assert counts["GELU"] == 4  # two blocks of two MLPs
    assert all(options.approximate for name, *_, options in operations if name == "GELU")
    assert counts["FULLY_CONNECTED"] == 2 * 4 + 2  # with the stem and the head
    assert counts["SUB"] == counts["RSQRT"] == 5  # one for each LayerNorm, in the form with a single subtraction
    assert not {"NEG", "SQUARED_DIFFERENCE", "SHAPE", "GATHER", "STRIDED_SLICE", "PACK", "BATCH_MATMUL", "ERF"} & set(
        counts
    )


def test_any_batch_size_costs_reshapes_alone(tmp_path):
    """Before training, that is: scale and shift of a LayerNorm then cost nothing."""
    model = digit_models.untrained()
    static, other = (
        collections.Counter(name for name, *_ in graph(export_litert(model, tmp_path / name, batch_size=size)))
        for name, size in (("static.tflite", 1), ("any.tflite", None))
    )
    assert set(other - static) == {"RESHAPE"}


def test_int8_runs_every_product_in_int8_and_the_rest_in_float32(files):
    int8, float32 = schema.TensorType.INT8, schema.TensorType.FLOAT32
    for name, inputs, outputs, _ in graph(files["int8"]):
        if name == "FULLY_CONNECTED":
            assert inputs[:2] == [int8, int8]
            assert outputs == [int8]
        if name in ("GELU", "RSQRT", "SQUARED_DIFFERENCE", "MUL", "ADD", "SOFTMAX", "MEAN"):
            assert {*inputs, *outputs} <= {float32, schema.TensorType.INT32}, name


def test_dynamic_int8_stores_large_weights_in_8_bits(files):
    products = [operation for operation in graph(files["dynamic_int8"]) if operation[0] == "FULLY_CONNECTED"]
    # The converter leaves weights of less than 1,024 values as they are: here all but those of channel mixing.
    assert [inputs[1] for _, inputs, _, _ in products].count(schema.TensorType.INT8) == 4
    for _, inputs, outputs, _ in products:
        assert [inputs[0], *outputs] == [schema.TensorType.FLOAT32] * 2


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_interface_is_float32_images_to_float32_scores(files, precision):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(files[precision]))
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert (source["shape"].tolist(), source["dtype"]) == ([1, 8, 8, 1], np.float32)
    assert (target["shape"].tolist(), target["dtype"]) == ([1, 10], np.float32)


def test_float32_scores_are_the_models(files, model):
    images = digit_models.random_images(20)
    scores = open_artefact(files["float32"]).scores(images)
    np.testing.assert_allclose(scores, model.predict_on_batch(images), atol=1e-5)


def test_a_trained_model_keeps_its_accuracy_within_the_limits(card, digits, files, model):
    predictors = {"keras": keras_predictor(model), **{name: open_artefact(path) for name, path in files.items()}}
    # All 1,797 images: of the 360 in the test split, two are more than half a point.
    everything = load("digits", "train+test", str(digits)).spec
    found = measure(predictors, EvaluationSplit(card, everything))
    assert found["keras"].top1 > 0.9
    limits = {"float32": 0.1, "float16": 0.1, "dynamic_int8": 0.3, "int8": 0.5}
    for precision, limit in limits.items():
        assert 100 * (found["keras"].top1 - found[precision].top1) <= limit, precision
    assert found["float32"].largest_score_difference < 1e-5


def test_calibration_takes_images_from_all_over_the_training_split(samples, card, digits):
    assert samples.shape == (200, 8, 8, 1)
    train = EvaluationSplit(card, load("digits", "train", str(digits)).spec, batch_size=2000)
    ((images, _),) = train
    places = [int(np.flatnonzero((images == sample).all(axis=(1, 2, 3)))[0]) for sample in samples]
    assert len({place * 20 // len(images) for place in places}) == 20


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a.tflite", {"precision": "int4"}, "is one of float32, float16, dynamic_int8, int8, but got 'int4'"),
        ("a.lite", {}, "must end in .tflite"),
        ("a.tflite", {"precision": "int8"}, "needs `samples`"),
        ("a.tflite", {"batch_size": 2.0}, "`batch_size` must be a positive integer, but got 2.0"),
    ],
)
def test_bad_arguments_are_errors(tmp_path, name, options, message):
    with pytest.raises(ValueError, match=message):
        export_litert(digit_models.untrained(), tmp_path / name, **options)
    assert list(tmp_path.iterdir()) == []
