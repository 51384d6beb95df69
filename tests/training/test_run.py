"""Runs on the embedded digits: what they leave behind, and how they survive being killed."""

import csv
import dataclasses
import os
import re
import shutil
import signal
import subprocess
import sys

import keras
import numpy as np
import PIL.Image
import pytest

from keras_mixer.data import CorruptImagesError, load_model
from keras_mixer.training import Recipe, TrainingDivergedError, recipes, sweep, train
from keras_mixer.training.devices.distribution import choose
from keras_mixer.training.loop.checkpoints import CheckpointStore
from keras_mixer.training.loop.data import open_datasets
from keras_mixer.training.loop.run import segments
from keras_mixer.training.loop.run_folder import claim, refuse_another, with_absolute_paths
from keras_mixer.training.optimizers import make_optimizer

# Dropout, stochastic depth, mixup and averages: everything that holds random or running state.
TINY = {
    "data.train_split": "train[:300]",  # which is decoded for each run
    "model.num_blocks": "1",
    "model.hidden_dim": "8",
    "model.tokens_mlp_dim": "4",
    "model.channels_mlp_dim": "8",
    "model.image_size": "[8, 8]",
    "model.stochastic_depth": "0.2",
    "model.dropout": "0.1",
    "augmentation.mixup": "0.2",
    "augmentation.crop_padding": "1",
    "schedule.epochs": "null",
    "schedule.steps": "12",
    "schedule.warmup_steps": "2",
    "optimizer.learning_rate": "0.02",
    "eval_steps": "5",
    "ema_momentum": "0.9",
    "execution.checkpoint_steps": "3",
    "batch_size": "32",
}


# Killed in its eleventh step: the last checkpoint is of the ninth, in the middle of the second period.
KILLED = """
import os, pathlib, signal, sys
import keras
from keras_mixer.training import Recipe, train

class Kill(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.left = 10

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

train(Recipe.from_json(pathlib.Path(sys.argv[1]).read_text()), sys.argv[2], callbacks=[Kill()])
"""


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return recipes.get("digits").override(TINY)


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory):
    """A run that nothing disturbed."""
    return train(recipe, tmp_path_factory.mktemp("runs") / "finished")


def test_a_run_leaves_model_card_recipe_history_curves_and_logs(recipe, finished):
    folder = finished.folder
    model, card = load_model(folder)
    assert card.class_names == tuple("0123456789")
    assert (card.dataset.name, card.dataset.split) == ("digits", "test")
    assert card.preprocessing.image_size == (8, 8)
    probabilities = model.predict(np.zeros((2, 8, 8, 1)), verbose=0)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-5)
    chosen = recipe.override({"execution.pipeline": "host"})
    assert Recipe.from_json((folder / "recipe.json").read_text()) == chosen
    with open(folder / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [5, 10, 12]
    assert float(rows[-1]["val_accuracy"]) == pytest.approx(finished.accuracy)
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert list((folder / "logs").rglob("events.*"))
    assert [path.name for path in sorted((folder / "checkpoints").iterdir())] == [
        *("step_000000006.safetensors", "step_000000009.safetensors", "step_000000012.safetensors")
    ]


def test_accuracy_is_that_of_the_saved_model_on_the_test_split(finished):
    """Measured again, example by example, without padding, weights or Keras's metrics."""
    from keras_mixer.data import evaluation_batches, load

    model, card = load_model(finished.folder)
    batches = evaluation_batches(load(card.dataset), card.preprocessing, 100)
    right = [np.argmax(model.predict(images, verbose=0), axis=1) == labels for images, labels, _ in batches]
    assert finished.accuracy == pytest.approx(np.mean(np.concatenate(right)), abs=1e-6)


def test_a_killed_run_ends_with_the_weights_of_an_undisturbed_one(recipe, finished, tmp_path):
    """Started again by the recipe in its folder."""
    (tmp_path / "wanted.json").write_text(recipe.to_json())
    folder = tmp_path / "run"
    process = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "wanted.json"), str(folder)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert process.returncode == -signal.SIGKILL, process.stderr[-3000:]
    assert not (folder / "model.keras").exists()
    assert CheckpointStore(folder / "checkpoints").steps()[-1] == 9
    result = train(Recipe.from_json((folder / "recipe.json").read_text()), folder)
    _same_run(result, finished)


def test_a_finished_run_ends_at_once(recipe, finished, monkeypatch, caplog):
    before = {path: path.read_bytes() for path in finished.folder.rglob("*") if path.is_file()}
    with monkeypatch.context() as patched, caplog.at_level("INFO", "keras_mixer"):
        patched.setattr("keras_mixer.training.loop.run.initial_network", None)  # where the work would begin
        assert train(recipe, finished.folder) == finished
    assert f"The run in {finished.folder} has ended: there is nothing left to do." in caplog.messages
    assert {path: path.read_bytes() for path in finished.folder.rglob("*") if path.is_file()} == before


# Trains twice: with JAX's default settings, and with all those that a user may set and that Keras fails with, or that
# draw other random numbers.
TWICE_ON_JAX = """
import sys
import jax
from keras_mixer.training import Recipe, train

recipe = Recipe.from_json(sys.argv[1])
train(recipe, sys.argv[2])
jax.config.update("jax_default_prng_impl", "rbg")
jax.config.update("jax_legacy_prng_key", "error")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_threefry_partitionable", False)
train(recipe, sys.argv[3])
"""


@pytest.mark.parametrize("pipeline", ["device", "host"])
def test_settings_of_jax_change_nothing(recipe, tmp_path, pipeline):
    everything = {
        "augmentation.crop": "inception",
        "augmentation.randaugment_layers": "1",
        "augmentation.cutmix": "0.3",
    }
    other = recipe.override({**everything, "execution.pipeline": pipeline})
    folders = [tmp_path / "usual", tmp_path / "other"]
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    subprocess.run([sys.executable, "-c", TWICE_ON_JAX, other.to_json(), *folders], env=environment, check=True)
    for one, another in zip(*map(_weights, folders), strict=True):
        np.testing.assert_array_equal(one, another)


@pytest.mark.parametrize("missing", ["result.json", "model.keras"])
def test_the_end_of_a_run_is_made_up_for_without_further_training(recipe, finished, tmp_path, missing):
    """As after a kill between the last checkpoint and the result."""
    shutil.copytree(finished.folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / missing).unlink()
    again = train(recipe, tmp_path)
    assert again.accuracy == finished.accuracy
    # A checkpoint falls on the end of the last period: it holds that period's row.
    assert again.history == finished.history
    for got, expected in zip(_weights(tmp_path), _weights(finished.folder), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_another_recipe_is_refused(recipe, finished):
    folder = finished.folder
    other = dataclasses.replace(recipe, schedule=dataclasses.replace(recipe.schedule, steps=3), seed=1)
    with pytest.raises(ValueError, match=r"another recipe, which differs in schedule.steps, seed.*--restart"):
        train(other, folder)
    assert Recipe.from_json((folder / "recipe.json").read_text()) == recipe.override({"execution.pipeline": "host"})


def test_a_restart_that_is_cut_short_leaves_no_checkpoint_under_the_new_recipe(recipe, finished, tmp_path, monkeypatch):
    folder, other = tmp_path / "run", dataclasses.replace(recipe, seed=1)
    shutil.copytree(finished.folder, folder)
    remove = shutil.rmtree
    monkeypatch.setattr(
        shutil, "rmtree", lambda path: os.listdir(path / "gone") if path.name == "logs" else remove(path)
    )
    with pytest.raises(FileNotFoundError, match="gone"):
        claim(folder, other, restart=True)
    assert not (folder / "checkpoints").exists()
    assert Recipe.from_json((folder / "recipe.json").read_text()) == recipe.override({"execution.pipeline": "host"})


def test_a_checkpoint_of_another_recipe_is_refused_where_no_recipe_says_so(recipe, finished, tmp_path):
    shutil.copytree(finished.folder / "checkpoints", tmp_path / "checkpoints")
    with pytest.raises(ValueError, match=r"step_000000012.safetensors has another recipe, which differs in seed"):
        train(dataclasses.replace(recipe, seed=1), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]


def test_local_paths_are_kept_absolute_and_compared_by_where_they_lead(recipe, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    relative = recipe.override({"data.dataset": "./flowers", "data.data_dir": "../data", "model.weights": "a/b.npz"})
    absolute = with_absolute_paths(relative)
    here = str(tmp_path / "here")
    assert (absolute.data.name, absolute.data.data_dir) == (f"{here}/flowers", str(tmp_path / "data"))
    assert absolute.model.weights == f"{here}/a/b.npz"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"differs in model.weights, data.name, data.data_dir\."):
        refuse_another(tmp_path, absolute.to_json(), with_absolute_paths(relative))
    moved = absolute.override({"data.dataset": "/elsewhere/flowers"})
    with pytest.raises(ValueError, match=rf"differs in data.name\..* put a link to them at {here}/flowers\."):
        refuse_another(tmp_path, absolute.to_json(), moved)
    named = recipe.override({"data.data_dir": "gs://bucket/tfds", "model.weights": "imagenet21k"})
    assert with_absolute_paths(named) == named


def test_a_restart_removes_a_link_and_leaves_where_it_leads(recipe, finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder)
    shutil.move(folder / "logs", tmp_path / "logs")
    (folder / "logs").symlink_to(tmp_path / "logs")
    claim(folder, recipe, restart=True)
    assert [path.name for path in folder.iterdir()] == ["recipe.json"]
    assert list((tmp_path / "logs").iterdir())


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("name", ["model.keras", "history.csv", "logs/mine.txt", "checkpoints/mine.txt"])
def test_files_that_no_run_left_are_not_replaced(recipe, tmp_path, name, restart):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match=rf"holds {name.partition('/')[0]} but no recipe.json"):
        train(recipe, tmp_path, restart=restart)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / name]


@pytest.mark.parametrize("field", ["model.weights", "distillation.teacher"])
@pytest.mark.parametrize("start", ["", "model.keras"])
def test_a_run_does_not_replace_what_it_starts_from(recipe, finished, field, start):
    sizes = ("num_blocks", "patch_size", "hidden_dim", "tokens_mlp_dim", "channels_mlp_dim")
    changes = {f"model.{size}": "null" for size in sizes} if field == "model.weights" else {}
    other = recipe.override({**changes, field: str(finished.folder / start)})
    with pytest.raises(ValueError, match="would replace it"):
        train(other, finished.folder, restart=True)
    assert (finished.folder / "model.keras").exists()


def test_a_callback_that_stops_the_training_ends_the_run(recipe, tmp_path):
    """In the second of three periods."""

    class Stop(keras.callbacks.Callback):
        steps = 0

        def on_train_batch_end(self, batch, logs=None):
            self.steps += 1
            self.model.stop_training = self.steps == 7

    result = train(recipe, tmp_path, callbacks=[Stop()])
    assert [row["step"] for row in result.history] == [5, 7]
    assert result.steps == 7
    assert CheckpointStore(tmp_path / "checkpoints").steps()[-1] == 7


def test_a_sweep_goes_on_after_a_rate_at_which_training_diverges(recipe, tmp_path, caplog):
    short = {"schedule.steps": "3", "schedule.warmup_steps": "0", "eval_steps": "3", "ema_momentum": "null"}
    results = sweep(recipe.override({**short, "learning_rate_grid": "[1e38, 1e-9, 0.02]"}), tmp_path)
    assert {result.learning_rate for result in results} == {1e-9, 0.02}
    assert results[0].accuracy >= results[1].accuracy
    assert "At the rate 1e+38: " in caplog.text
    with pytest.raises(TrainingDivergedError):
        sweep(recipe.override({**short, "learning_rate_grid": "[1e38]"}), tmp_path)


def test_a_sweep_of_an_impossible_rate_trains_none(recipe, tmp_path):
    with pytest.raises(ValueError, match=r"learning_rate must be at least 0, but got -0\.1"):
        sweep(recipe.override({"learning_rate_grid": "[0.02, -0.1]"}), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_steps_per_execution_come_out_even_and_leave_the_periods_alone(recipe, finished, tmp_path):
    """Of periods of 5, 5 and 2 steps, five and two at a time where up to six are wanted."""
    seen = []

    class Calls(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(self.model.steps_per_execution)

    result = train(recipe.override({"execution.steps_per_execution": "6"}), tmp_path, callbacks=[Calls()])
    assert seen == [5, 5, 2]
    _same_run(result, finished)


def test_a_sweep_on_images_held_out_from_training_gives_no_warning(recipe, tmp_path, caplog):
    held_out = {"data.train_split": "train[:90%]", "data.eval_split": "train[90%:]", "learning_rate_grid": "[0.1]"}
    with pytest.raises(ValueError, match="lion"):
        sweep(recipe.override({**held_out, "optimizer.name": "lion"}), tmp_path)
    assert not caplog.records


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"data.dataset": "./nowhere"}, ValueError),
        ({"model.weights": "nowhere.npz"}, FileNotFoundError),
        ({"optimizer.name": "lion"}, ValueError),
        ({"augmentation.crop": "random"}, ValueError),
        ({"batch_size": "63"}, ValueError),  # mixup wants pairs
        ({"data.resize": "stretch"}, ValueError),
        ({"data.eval_split": "dev"}, ValueError),
    ],
)
def test_what_cannot_start_leaves_the_folder_as_it_was(recipe, finished, tmp_path, changes, error):
    before = {path: path.read_bytes() for path in finished.folder.rglob("*") if path.is_file()}
    with pytest.raises(error):
        train(recipe.override(changes), finished.folder, restart=True)
    assert {path: path.read_bytes() for path in finished.folder.rglob("*") if path.is_file()} == before
    with pytest.raises(error):
        train(recipe.override(changes), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_unreadable_images_are_left_out_up_to_a_limit_and_reported(recipe, tmp_path, caplog):
    """Of several sizes, so that they are read from their files; one of training and one of evaluation are damaged."""
    for number in range(12):
        path = tmp_path / "digits" / ("train", "test")[number % 3 == 0] / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("L", (8 + number, 9), 20 * number).save(path)
        if number in (3, 4):
            path.write_bytes(path.read_bytes()[:40])
    data = {
        "data.dataset": str(tmp_path / "digits"),
        "data.train_split": "train",
        "schedule.steps": "2",
        "ema_momentum": "0.5",
    }
    small = recipe.override({**data, "batch_size": "8", "eval_batch_size": "4", "schedule.warmup_steps": "0"})
    made = train(small.override({"data.corrupt_limit": "2"}), tmp_path / "two")
    assert made.images == 3
    assert train(small.override({"data.corrupt_limit": "2"}), tmp_path / "two") == made  # nothing is read again
    (line,) = (record.getMessage() for record in caplog.records if record.name == "keras_mixer.training.loop.run")
    assert line.startswith("2 images could not be read and were left out: ")
    assert "train/a/4.png" in line
    assert "test/b/3.png" in line
    datasets = open_datasets(small, choose())
    with (
        pytest.raises(CorruptImagesError, match=r"could not be read, and 0 may be: .*\.png"),
        datasets.corrupt.explained(),
    ):
        list(datasets.training(0).take(2))


def test_a_loss_that_is_not_finite_stops_with_its_step_and_the_last_good_checkpoint(recipe, tmp_path):
    """The ninth step's, when a checkpoint is due."""

    class Poison(keras.callbacks.Callback):
        left = 8

        def on_train_batch_end(self, batch, logs=None):
            self.left -= 1
            if self.left == 0:
                stem = self.model.trainable_variables[0]
                stem.assign(np.full(stem.shape, np.nan))

    kept = f"The checkpoint of step 6 is kept in {tmp_path / 'checkpoints'}."
    with pytest.raises(TrainingDivergedError, match=re.escape(f"The loss at step 9 is nan. {kept} Lower optimizer.")):
        train(recipe, tmp_path, callbacks=[Poison()])
    assert not (tmp_path / "model.keras").exists()
    store = CheckpointStore(tmp_path / "checkpoints")
    assert store.steps() == [3, 6]
    assert all(np.isfinite(array).all() for array in store.load_newest()[1].values())


def test_interruption_saves_the_step_and_goes_on_later(recipe, finished, tmp_path, caplog):
    number = signal.SIGTERM

    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 1:
                os.kill(os.getpid(), number)

    handler = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path, callbacks=[Interrupt()])
    assert signal.getsignal(number) is handler
    store = CheckpointStore(tmp_path / "checkpoints")
    assert store.steps() == [2]
    # Goes on as if it had been on two devices, with a model that was half-written when one was killed.
    step, arrays, notes = store.load_newest()
    assert notes["replicas"] == 1
    store.save(step, arrays, {**notes, "replicas": 2})
    left = tmp_path / ".partial-1-0123abcd-model.keras"
    left.touch()
    result = train(recipe, tmp_path)
    assert not left.exists()
    assert "was on 2 replicas with 1 micro-batches and goes on with 1 and 1: from here on, stochastic" in caplog.text
    _same_run(result, finished)


def test_every_field_of_the_recipe_is_read(recipe, tmp_path, monkeypatch, caplog):
    """Traces attribute reads during a sweep and where "sgd" is made; copying, writing and range checks do not count."""
    read = set()

    def traced(cls):
        def get(self, name):
            caller = sys._getframe(1)
            if caller.f_globals["__name__"] != "dataclasses" and caller.f_code.co_name != "__post_init__":
                read.add((cls.__name__, name))
            return object.__getattribute__(self, name)

        return get

    short = {"schedule.steps": "1", "schedule.warmup_steps": "0", "ema_momentum": "0", "learning_rate_grid": "[0.001]"}
    short = recipe.override(short)
    sgd = short.override({"optimizer.name": "sgd"})
    classes = [type(value) for value in vars(short).values() if dataclasses.is_dataclass(value)]
    for cls in [Recipe, *classes]:
        monkeypatch.setattr(cls, "__getattribute__", traced(cls))
    sweep(short, tmp_path)
    make_optimizer(sgd.optimizer, 0.1, keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]))
    monkeypatch.undo()
    # The digits are ranked by their test split.
    (line,) = (record.getMessage() for record in caplog.records if record.name == "keras_mixer.training.loop.run")
    assert "by data.eval_split=test, " in line
    assert line.endswith("--set 'data.train_split=train[:90%]' --set 'data.eval_split=train[90%:]'.")
    declared = {(cls.__name__, field.name) for cls in [Recipe, *classes] for field in dataclasses.fields(cls)}
    # The augmentation and the preprocessing are handed over whole.
    assert {field for field in declared - read if field[0] not in ("Augmentation", "PreprocessingSpec")} == set()


def test_weights_of_another_resolution_start_a_run_where_another_was_if_told(recipe, finished, tmp_path):
    """From 8 to 16 pixels, an integer ratio: the new logits start as the mean over the four parts."""
    shutil.copytree(finished.folder, tmp_path, dirs_exist_ok=True)
    bigger = recipe.override(
        {
            **{f"model.{size}": "null" for size in ("num_blocks", "patch_size", "hidden_dim")},
            **{f"model.{size}": "null" for size in ("tokens_mlp_dim", "channels_mlp_dim")},
            "model.weights": str(finished.folder),
            "model.image_size": "[16, 16]",
            "schedule.steps": "2",
            "schedule.warmup_steps": "0",
            "optimizer.learning_rate": "0.0",
            "ema_momentum": "null",
        }
    )
    result = train(bigger, tmp_path, restart=True)
    assert Recipe.from_json((tmp_path / "recipe.json").read_text()) == bigger.override({"execution.pipeline": "host"})
    assert CheckpointStore(tmp_path / "checkpoints").steps() == [result.steps]
    small, _ = load_model(finished.folder)
    big, card = load_model(result.folder)
    assert card.preprocessing.image_size == (16, 16)
    images = np.random.default_rng(0).uniform(-1, 1, (3, 16, 16, 1)).astype("float32")
    logits = keras.Model(small.inputs, small.get_layer("pre_logits").output)
    parts = [images[:, row : row + 8, column : column + 8] for row in (0, 8) for column in (0, 8)]
    features = np.mean([logits.predict(part, verbose=0) for part in parts], axis=0)
    kernel, bias = small.get_layer("head").get_weights()
    np.testing.assert_allclose(
        big.predict(images, verbose=0), keras.ops.softmax(features @ kernel + bias), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("step", "total", "expected"),
    [(0, 34, [(0, 30), (30, 34)]), (7, 34, [(7, 10), (10, 30), (30, 34)]), (10, 20, [(10, 20)]), (32, 34, [(32, 34)])],
)
def test_segments(step, total, expected):
    assert list(segments(step, total, 10)) == expected


def _same_run(result, finished):
    assert [row["step"] for row in result.history] == [row["step"] for row in finished.history]
    for again, undisturbed in zip(result.history, finished.history, strict=True):
        for name in ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"):
            assert again[name] == pytest.approx(undisturbed[name], rel=1e-5), name
    for got, expected in zip(_weights(result.folder), _weights(finished.folder), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)


def _weights(folder) -> list[np.ndarray]:
    return load_model(folder)[0].get_weights()
