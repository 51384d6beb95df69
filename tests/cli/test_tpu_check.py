import importlib.util
import json

import keras
import pytest
from digit_models import untrained, write_run

from keras_mixer.cli import main
from keras_mixer.training import recipes
from keras_mixer.training.devices.distribution import Distribution
from keras_mixer.training.devices.tpu_check import TpuCheck, largest_batch, tpu_check
from keras_mixer.training.loop import tpu_program as tpu_replica
from keras_mixer.training.loop.step import training_model

needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="needs libtpu: pip install 'keras_mixer[tpu-check]'"
)
TINY = ["--recipe", "digits", "--classes", "10", "--set", "execution.precision=mixed_bfloat16"]


def run(capsys, *arguments) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_:
        main(["tpu-check", *arguments])
    output = capsys.readouterr()
    return exit_.value.code, output.out, output.err


@needs_compiler
def test_a_step_that_fits(capsys):
    status, output, _ = run(capsys, *TINY, "--topology", "v5e:2x2", "--batch", "32", "--no-largest", "--json")
    assert status == 0
    (result,) = json.loads(output)
    assert (result["chips"], result["batch_size"], result["fits"]) == (4, 32, True)
    # Weights and two moments of Adam for 85,962 parameters, beside a few images.
    assert 3 * 4 * 85_962 < result["argument_bytes"] < 3 * 4 * 85_962 * 3
    # Forward and backward: about six operations per weight of the channel MLPs and token of each of 8 images.
    assert result["flops"] > 6 * 8 * 64 * 4 * 2 * 64 * 128
    assert result["all_reduces"] >= 1


@needs_compiler
def test_the_tensorflow_step_of_one_replica_needs_what_that_of_jax_needs_on_one_chip(capsys):
    results = {}
    for backend, topology, batch in (("tensorflow", "v5e:2x2", "128"), ("jax", "v5e:1x1", "32")):
        options = ["--backend", backend, "--topology", topology, "--batch", batch, "--no-largest", "--json"]
        status, output, _ = run(capsys, *TINY, *options)
        assert status == 0
        (results[backend],) = json.loads(output)
    ours = results["tensorflow"]
    assert (ours["backend"], ours["chips"], ours["batch_size"], ours["fits"]) == ("tensorflow", 4, 128, True)
    assert ours["all_reduces"] is None
    for quantity in ("argument_bytes", "temporary_bytes", "flops"):
        assert ours[quantity] == pytest.approx(results["jax"][quantity], rel=0.02), quantity


@needs_compiler
@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_a_batch_too_large_for_the_memory_of_a_chip(capsys, backend):
    options = ["--topology", "v5e:1x1", "--batch", str(2**19), "--no-largest", "--json", "--backend", backend]
    status, output, _ = run(capsys, *TINY, *options)
    assert status == 0
    (result,) = json.loads(output)
    assert result["fits"] is False
    assert "exceed" in result["message"].lower() or "RESOURCE_EXHAUSTED" in result["message"]


@needs_compiler
@pytest.mark.parametrize(
    ("topology", "batch", "message"),
    [("v5e:3x5", "32", "knows no topology 'v5e:3x5'"), ("v5e:2x2", "30", "choose a multiple of 4")],
)
def test_what_the_compiler_cannot_know(capsys, topology, batch, message):
    status, _, errors = run(capsys, *TINY, "--topology", topology, "--batch", batch)
    assert status == 2
    assert message in errors


def test_a_topology_of_another_form(capsys):
    status, _, errors = run(capsys, "--topology", "tpu")
    assert status == 2
    assert "v5e:2x4" in errors


def test_a_backend_of_another_name():
    with pytest.raises(ValueError, match="one of jax, tensorflow, but got 'torch'"):
        tpu_check(recipes.get("digits"), "v5e:1x1", backend="torch")


def test_the_tensorflow_step_is_stable_hlo_alone():
    """By JAX's parser. The compiler of TPUs knows no other operations, and TensorFlow puts out some."""
    from jax.extend.mlir import ir
    from jax.interpreters import mlir

    with keras.device("cpu:0"):
        network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
        model = training_model(network, recipes.get("digits"), 1000, Distribution("default", accelerated=True))
    text = tpu_replica._stable_hlo(model, (4, 2), (4, 3))
    found = set()

    def note(operation):
        found.add(operation.name.split(".")[0])
        return ir.WalkResult.ADVANCE

    with mlir.make_ir_context():
        ir.Module.parse(text).operation.walk(note)
    assert found == {"builtin", "func", "stablehlo"}


@pytest.mark.parametrize("file", ["", "model.keras"])
def test_a_trained_model_to_start_from_gives_its_architecture(tmp_path, file):
    start = write_run(tmp_path / "run") / file
    recipe = recipes.get("digits").override({"model.weights": str(start), "model.frozen": "true"})
    with keras.device("cpu:0"):
        network = tpu_replica._model(recipe, 10)
    assert {weight.path.split("/")[-2] for weight in network.trainable_weights} == {"head"}
    assert [weight.shape for weight in network.weights] == [weight.shape for weight in untrained().weights]


def test_a_jax_that_takes_no_stable_hlo_is_told_of():
    """The chip is nothing that could compile, as one of another release may be."""
    with pytest.raises(ImportError, match=r"jax 0\.10\.2 with libtpu 0\.0\.51 .* does not \(.*'client'\)\. Install"):
        tpu_replica._compile("module {}", object())


def search(limit: int, batch: int, chips: int = 4):
    """The batches tried on chips that hold `limit` examples together, and the one found."""
    tried = []

    def check(recipe):
        tried.append(recipe.batch_size)
        fits = recipe.batch_size <= limit
        return TpuCheck("v5e:2x2", chips, recipe.batch_size, fits, None, None, None, None, 0.0, "")

    found = largest_batch(recipes.get("digits").override({"batch_size": str(batch)}), check)
    return tried, found and found.batch_size


@pytest.mark.parametrize(
    ("limit", "batch", "tried"),
    [
        (1000, 64, [64, 128, 256, 512, 1024, 768, 896, 960]),
        (70, 256, [256, 128, 64, 96, 80, 72]),
        (13, 8, [8, 16, 12]),
        (5, 12, [12, 4, 8]),  # half of three examples per chip is one
        (3, 8, [8, 4]),
    ],
)
def test_the_largest_batch_is_searched_between_what_fits_and_what_does_not(limit, batch, tried):
    fitting = [size for size in tried if size <= limit]
    assert search(limit, batch) == (tried, max(fitting, default=None))
    assert all(size % 4 == 0 for size in tried)


def test_no_batch_is_tried_without_end():
    assert search(2**40, 2**18) == ([2**18, 2**19, 2**20], 2**20)
