import importlib.util
import json

import pytest

from keras_mixer.cli import main
from keras_mixer.training import recipes
from keras_mixer.training.tpu_check import TpuCheck, largest_batch

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
def test_a_batch_too_large_for_the_memory_of_a_chip(capsys):
    status, output, _ = run(capsys, *TINY, "--topology", "v5e:1x1", "--batch", str(2**19), "--no-largest", "--json")
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
