"""The numbers of the pages on large runs, computed anew, and their commands, parsed anew."""

import importlib
import pathlib
import re
import shlex

import click
import pytest
from click.testing import CliRunner

import keras_mixer
from keras_mixer.models import multiply_adds
from keras_mixer.reported import TABLE
from keras_mixer.training import recipes

ROOT = pathlib.Path(__file__).parents[1]
NAMES = ("scale", "howto/devices", "howto/tpu_memory", "howto/kubernetes", "howto/ray")
PAGE = "\n".join((ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in NAMES)
ROWS = {cells[0]: cells[1:] for cells in (re.split(r"\s*\|\s*", line.strip("| ")) for line in PAGE.splitlines())}
COMMANDS = [
    shlex.split(command, comments=True)
    for block in re.findall(r"```shell\n(.*?)```", PAGE, re.DOTALL)
    for command in re.findall(r"keras-mixer (.*)", block.replace("\\\n", " "))
]


def value(name: str) -> float:
    return float(ROWS[name][0].rstrip(" %").replace(",", ""))


def written(amount: float, digits: int = 0) -> str:
    return f"{amount:,.{digits}f}"


@pytest.fixture(scope="module")
def model():
    return keras_mixer.MixerB16(weights=None, classes=int(value("classes")))


def test_the_inputs_are_the_recipes():
    recipe = recipes.get("imagenet21k_b16")
    assert recipe.model.variant == "mixer_b16"
    assert (value("epochs"), value("batch")) == (recipe.schedule.epochs, recipe.batch_size)
    assert recipe.execution.checkpoint_steps == 1000


def test_the_arithmetic_of_imagenet_21k(model):
    recipe = recipes.get("imagenet21k_b16")
    images = value("images") * value("epochs")
    per_image = 6 * multiply_adds(model)
    reached = value("peak of a v5e chip, TFLOP/s") * 1e12 * value("share of the peak that is reached") / 100
    rate = reached / per_image
    hours = images / rate / 3600
    checkpoint = 3 * 4 * model.count_params()
    expected = {
        "updates": written(round(images / value("batch"))),
        "images seen": written(images),
        "multiply-adds of an image": written(multiply_adds(model)),
        "GFLOP of training on an image": written(per_image / 1e9, 1),
        "FLOP in all": f"{per_image * images:.3g}",
        "images/s of a chip": written(rate),
        "chip-hours": written(hours),
        "hours on 8 chips": written(hours / 8, 1),
        "hours on 256 chips": written(hours / 256, 1),
        "images/s into 8 chips": written(8 * rate),
        "MB/s into 8 chips": written(8 * rate * value("bytes of an image file") / 1e6),
        "MB/s into 256 chips": written(256 * rate * value("bytes of an image file") / 1e6),
        "TB read in all": written(images * value("bytes of an image file") / 1e12),
        "parameters": written(model.count_params()),
        "MB of a checkpoint": written(checkpoint / 1e6),
        "MB of the checkpoints kept": written(recipe.execution.checkpoints_kept * checkpoint / 1e6),
        "seconds between checkpoints on 8 chips": written(
            recipe.execution.checkpoint_steps * value("batch") / (8 * rate)
        ),
    }
    assert {name: ROWS[name][0] for name in expected} == expected
    (paper,) = (
        row for row in TABLE if (row.model, row.pretraining) == ("Mixer-B/16", "ImageNet-21k") and row.epochs == 300
    )
    assert f"{paper.core_days:g} TPUv3 core-days" in PAGE
    implied = per_image * images / (paper.core_days * 86400 * 61.5e12)
    assert f"half of a chip's, so the run used {100 * implied:.0f} % of the peak" in " ".join(PAGE.split())


def test_the_formula_beside_the_compilers_count(model):
    width = model.get_layer("head").kernel.shape[0]
    thousand = multiply_adds(model) - width * (int(value("classes")) - 1000)  # quicker than another model
    assert f"multiply-add, gives {6 * thousand / 1e9:.1f}" in " ".join(PAGE.split())


def test_the_cost_of_a_million_images():
    speed = re.search(r"does ([\d.]+) images/s on 2 CPU cores", PAGE)[1]
    table = (ROOT / "benchmarks" / "speed_cpu.md").read_text(encoding="utf-8")
    assert f"| inference | mixer_b16 | 8 | float32 | keras_mixer (TensorFlow) | {speed} |" in table
    hours = 1e6 / float(speed) / 3600
    assert ROWS["hours on one machine of 2 cores"][:2] == [written(hours, 1), f"1,000,000 / {speed}"]
    assert ROWS["hours on 50 workers of 2 cores"][0] == written(hours / 50, 1)
    assert ROWS["part files"][0] == str(-(-1_000_000 // 1024))


def try_command(words):
    """Reads a command as `keras-mixer` does, where the files that it needs are there: what it does not take raises."""
    name, *arguments = words
    command = importlib.import_module(f"keras_mixer.cli.{name.replace('-', '_')}").command
    given, _, _ = command.make_parser(click.Context(command)).parse_args(list(arguments))
    for parameter in command.params:
        if isinstance(parameter.type, click.Path) and parameter.type.exists and given.get(parameter.name):
            pathlib.Path(given[parameter.name]).mkdir(parents=True)
    command.make_context(name, list(arguments))
    return command, arguments


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_is_one(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command, arguments = try_command(words)
    if words[0] == "train":
        result = CliRunner().invoke(command, [*arguments, "--show-recipe"])
        assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    "line",
    [
        "predict photos --model runs/flowers --engine spark",
        "predict photos --model runs/flowers --worker-cpus two",
        "export runs/flowers --formats saved_models --output saved_models",
        "train --recipe imagenet_b16 --image-size large --output runs/b16",
        "tpu-check --recipe imagenet21k_b16 --classes many --topology v5e:4x4",
    ],
)
def test_a_command_with_a_wrong_value_is_none(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(click.BadParameter):
        try_command(shlex.split(line))
