import contextlib
import io
import json
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import time

import PIL.Image
import pytest

from keras_mixer.cli import main
from keras_mixer.data import load, load_model

TINY = [
    *("--set", "model.num_blocks=1", "--set", "model.hidden_dim=8", "--set", "model.tokens_mlp_dim=4"),
    *("--set", "model.channels_mlp_dim=8", "--set", "model.image_size=[8, 8]", "--set", "schedule.epochs=null"),
    *("--set", "schedule.steps=3", "--set", "schedule.warmup_steps=1", "--set", "data.train_split=train[:300]"),
]


def run(capsys, *arguments) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_:
        main(["train", *map(str, arguments)])
    output = capsys.readouterr()
    return exit_.value.code, output.out, output.err


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with the run `first`, and what the command printed."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.raises(SystemExit) as exit_, contextlib.redirect_stdout(io.StringIO()) as output:
        main(["train", "--recipe", "digits", "--output", str(folder / "first"), *TINY])
    assert exit_.value.code == 0
    return folder / "first", output.getvalue()


def test_training_ends_with_a_table(trained):
    folder, output = trained
    assert "Trained by digits" in output
    assert (folder / "model.keras").exists()


def test_a_run_goes_on_from_its_recipe_file_and_as_json(capsys, trained):
    recipe = trained[0] / "recipe.json"
    before = recipe.read_text()
    status, output, _ = run(capsys, "--recipe", recipe, "--output", trained[0], "--json")
    assert status == 0
    (row,) = json.loads(output)
    assert row["steps"] == 3
    assert 0.0 <= row["accuracy"] <= 1.0
    assert recipe.read_text() == before


def test_a_run_folder_starts_another_at_a_larger_image_size(capsys, trained, tmp_path):
    arguments = ["--weights", trained[0], "--image-size", "16", "--set", "schedule.steps=2"]
    status, _, errors = run(
        capsys,
        *("--recipe", "digits", "--output", tmp_path / "large", "--set", "schedule.epochs=null"),
        *("--set", "schedule.warmup_steps=1", *arguments),
    )
    assert status == 0, errors
    assert load_model(tmp_path / "large")[0].input_shape == (None, 16, 16, 1)


def test_a_run_folder_keeps_its_image_size_and_the_lines_say_what_is_read(capsys, trained, tmp_path):
    arguments = ["--set", "schedule.epochs=null", "--set", "schedule.steps=1", "--set", "schedule.warmup_steps=0"]
    options = ["--recipe", "cifar10", "--dataset", "digits", "--output", tmp_path / "more", "--weights", trained[0]]
    status, output, errors = run(capsys, *options, *arguments, "--set", "augmentation.crop_padding=1", "--json")
    assert status == 0, errors
    assert load_model(tmp_path / "more")[0].input_shape == (None, 8, 8, 1)
    assert "digits: 10 classes; training on train (1,437 images), evaluation on test (360).\n" in errors
    assert json.loads(output)[0]["images"] == 360


def test_the_recipe_can_be_shown(capsys):
    status, output, _ = run(
        capsys,
        *("--recipe", "finetune_pets", "--show-recipe", "--dataset", "./mine"),
        *("--data-dir", "/data", "--weights", "sam", "--image-size", "448", "--strategy", "default"),
        *("--set", "optimizer.learning_rate=0.01"),
    )
    assert status == 0
    recipe = json.loads(output)
    assert (recipe["data"]["name"], recipe["data"]["data_dir"], recipe["model"]["weights"]) == (
        "./mine",
        "/data",
        "sam",
    )
    assert (recipe["preprocessing"]["image_size"], recipe["execution"]["strategy"]) == ([448, 448], "default")
    assert recipe["optimizer"]["learning_rate"] == 0.01


def test_the_readmes_command_trains_on_a_folder(capsys, tmp_path, monkeypatch):
    """To the letter, but for the size of the network and the download of its weights."""
    text = (pathlib.Path(__file__).parents[2] / "README.md").read_text()
    (line,) = re.findall(r"^keras-mixer train (.*--dataset \./flowers .*)$", text, re.MULTILINE)
    for number in range(20):
        path = tmp_path / "flowers" / "train" / ("daisy", "rose")[number % 2] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("RGB", (40, 36), (12 * number, 100, 50)).save(path)
    monkeypatch.chdir(tmp_path)
    sizes = {"num_blocks": 1, "patch_size": 16, "hidden_dim": 8, "tokens_mlp_dim": 4, "channels_mlp_dim": 8}
    small = [
        *(f"--set=model.{name}={size}" for name, size in sizes.items()),
        *("--set=model.variant=null", "--set=model.weights=null", "--set=model.image_size=[32, 32]"),
        *("--set=schedule.steps=1", "--set=schedule.warmup_steps=0", "--set=batch_size=4", "--set=eval_batch_size=4"),
    ]
    status, _, errors = run(capsys, *shlex.split(line), *small)
    assert status == 0, errors
    monkeypatch.chdir("/")  # the card leads to the images from anywhere
    card = load_model(tmp_path / "runs" / "flowers")[1]
    assert (card.class_names, card.dataset.split) == (("daisy", "rose"), "train[90%:]")
    assert load(card.dataset).num_examples == 2


@pytest.mark.parametrize("last", [["--show-recipe"], ["--output", "run"]])
def test_a_misspelt_argument_is_refused_whether_or_not_the_run_starts(capsys, tmp_path, monkeypatch, last):
    monkeypatch.chdir(tmp_path)
    status, output, errors = run(capsys, "--recipe", "digits", "--set", "model.num_block=3", *last)
    assert (status, output) == (2, "")
    assert errors.startswith("Error: mixer has no argument num_block: model.arguments takes num_blocks, ")


def test_the_splits_of_a_folder_are_chosen_unless_they_are_set(capsys, tmp_path):
    for folder in ("train/a", "train/b", "Val/a", "test/b"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "0.jpg").touch()
    arguments = ["--recipe", "finetune_flowers", "--output", tmp_path / "run", "--dataset", tmp_path, "--show-recipe"]
    data = json.loads(run(capsys, *arguments)[1])["data"]
    assert (data["train_split"], data["eval_split"], data["test_split"]) == ("train", "Val", "test")
    data = json.loads(run(capsys, *arguments, "--set", "data.eval_split=train[:1]")[1])["data"]
    assert (data["train_split"], data["eval_split"]) == ("train", "train[:1]")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "digit"], "Unknown recipe 'digit'"),
        (["--recipe", "no/recipe.json"], "Error: no/recipe.json: No such file or directory.\n"),
        (["--recipe", "digits", "--set", "model.variant=mixer_x16"], "Unknown variant 'mixer_x16'. Known variants:"),
        (["--recipe", "digits", "--set", "seed"], "--set takes FIELD=VALUE, but got 'seed'"),
        (["--recipe", "digits", "--set", "speed=1"], "Unknown recipe field 'speed'"),
        (["--recipe", "digits", "--dataset", "./nothing"], "There is no folder"),
        (["--recipe", "digits", "--strategy", "all"], "execution.strategy must be one of auto"),
        (["--recipe", "digits", "--strategy", "multi_worker"], "TF_CONFIG"),
        (["--recipe", "digits", "--strategy", "data_parallel"], "KERAS_BACKEND=jax"),
        (["--recipe", "digits", "--sweep"], "no learning_rate_grid"),
        (["--recipe", "digits", "--weights", "nowhere.npz"], "nowhere.npz"),
    ],
)
def test_bad_input_is_one_line_and_status_2(capsys, tmp_path, arguments, message):
    status, output, errors = run(capsys, "--output", tmp_path / "run", *arguments)
    assert status == 2
    assert output == ""
    assert message in errors
    assert "Traceback" not in errors
    assert not list(tmp_path.rglob("model.keras"))


def test_a_file_that_is_no_recipe_is_named(capsys, tmp_path):
    file = tmp_path / "mine.json"
    file.write_text('{"name": "mine", "schedul": {}}')
    status, _, errors = run(capsys, "--recipe", file, "--output", tmp_path / "run")
    assert status == 2
    assert errors.startswith(f"Error: {file} is not a recipe: Recipe has the fields name, model,")


def test_a_run_needs_a_folder(capsys):
    status, _, errors = run(capsys, "--recipe", "digits")
    assert status == 2
    assert "Missing option '--output'." in errors


def test_ctrl_c_is_heard_and_ends_with_130(tmp_path):
    """Interrupts a process of the installed command once its first checkpoint is there."""
    command = [sys.executable, "-m", "keras_mixer", "train", "--recipe", "digits", "--output", str(tmp_path), *TINY]
    command += ["--set", "schedule.steps=100000", "--set", "execution.checkpoint_steps=1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        started = time.monotonic()
        while not list(tmp_path.glob("checkpoints/*.safetensors")):
            assert process.poll() is None
            assert time.monotonic() - started < 300
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=300)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert "Stopping after this step" in errors
    assert "Interrupted." in errors
    assert "Traceback" not in errors
