"""Training on folders of photographs as people have them: splits, refusals, and files that go."""

import csv
import gzip
import json
import pathlib

import numpy as np
import pytest
from photographs import folder, photograph

from keras_mixer.data import CorruptImagesError, load_model
from keras_mixer.files import held_alone
from keras_mixer.training import Recipe, recipes, train
from keras_mixer.training.defaults import choose_splits, suit
from keras_mixer.training.devices.distribution import Distribution
from keras_mixer.training.loop.data import open_datasets
from keras_mixer.training.loop.step import BalancedCrossentropy
from keras_mixer.training.recipe import DataSpec

TINY = {
    **{f"model.{name}": "8" for name in ("hidden_dim", "tokens_mlp_dim", "channels_mlp_dim")},
    "model.num_blocks": "1",
    "preprocessing.image_size": "[8, 8]",
    "preprocessing.channels": "3",
    "augmentation.crop_padding": "1",
    "optimizer.learning_rate": "0.01",
    "schedule.epochs": "null",
    "schedule.steps": "4",
    "schedule.warmup_steps": "0",
    "eval_steps": "2",
    "batch_size": "4",
}
CATS_AND_DOGS = {"train/cat": 0, "train/dog": 1, "test/cat": 0, "test/dog": 1}


def recipe_on(images: pathlib.Path, **changes: str) -> Recipe:
    return recipes.get("digits").override({**TINY, "data.name": str(images), **changes})


def chosen(images: pathlib.Path, **given: str) -> tuple[str, str, str | None]:
    fields = {f"{name}_split": "auto" for name in ("train", "eval", "test")} | given
    data = choose_splits(DataSpec(str(images), **fields))
    return data.train_split, data.eval_split, data.test_split


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        (("train", "test"), ("train", "test", None)),
        (("train", "valid"), ("train", "valid", None)),
        (("Train", "Val", "TEST"), ("Train", "Val", "TEST")),
        (("train", "validation", "testing"), ("train", "validation", "testing")),
        (("train",), ("train[:90%]", "train[90%:]", None)),
        (("",), ("train[:90%]", "train[90%:]", None)),
    ],
)
def test_the_roles_of_splits_go_by_their_names(tmp_path, folders, splits):
    for name in folders:
        for label in ("cat", "dog"):
            (tmp_path / name / label).mkdir(parents=True)
            for number in range(10):
                (tmp_path / name / label / f"{number}.jpg").touch()
    assert chosen(tmp_path) == splits
    assert chosen(tmp_path, eval_split="train[:1]")[:2] == (splits[0].removesuffix("[:90%]"), "train[:1]")


def test_two_splits_of_one_role_must_be_named(tmp_path):
    folder(tmp_path, {**CATS_AND_DOGS, "val/cat": 0, "dev/cat": 0}, count=1)
    with pytest.raises(ValueError, match=r"several splits for one use, dev and val: .*--set data.eval_split=dev"):
        chosen(tmp_path)
    assert chosen(tmp_path, eval_split="val") == ("train", "val", "test")


@pytest.mark.parametrize(("count", "held_out"), [(1, None), (2, 50), (4, 30), (10, 10), (30, 10)])
def test_so_many_images_are_held_out_that_every_class_is_seen(tmp_path, count, held_out):
    folder(tmp_path, {"cat": 0, "dog": 1, "bird": 2}, count=count, size=(8, 8))
    if held_out is None:
        with pytest.raises(ValueError, match=r"^3 images are too few to hold any out .*--set data.eval_split=train"):
            chosen(tmp_path)
        return
    assert chosen(tmp_path)[:2] == (f"train[:{100 - held_out}%]", f"train[{100 - held_out}%:]")
    source = open_datasets(recipe_on(tmp_path), Distribution("default")).eval_source
    assert set(source.labels) == {0, 1, 2}


def test_splits_of_a_tfds_dataset():
    data = choose_splits(DataSpec("digits", *["auto"] * 3))
    assert (data.train_split, data.eval_split, data.test_split) == ("train", "test", None)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with three splits, and a run on it."""
    images = folder(tmp_path_factory.mktemp("images"), {**CATS_AND_DOGS, "val/cat": 0, "val/dog": 1}, count=3)
    return images, train(recipe_on(images), tmp_path_factory.mktemp("runs") / "run")


def test_a_test_split_is_read_once_at_the_end_and_the_first_lines_say_so(finished):
    images, result = finished
    assert open_datasets(recipe_on(images), Distribution("default")).plan().splitlines() == [
        f"{images}: 2 classes; training on train (6 images), evaluation on val (6), at the end on test (6).",
        "Training images: cat 3, dog 3.",
        "18 of 18 headers read: 18 JPEG, 64 x 48 pixels.",
    ]
    assert (result.images, result.test_images) == (6, 6)
    assert json.loads((result.folder / "test.json").read_text())["images"] == 6
    assert load_model(result.folder)[1].dataset.split == "test"


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({"train/cat": 0, "test/cat": 0}, "A classifier needs two classes, but .* has one: cat"),
        ({"all/cat": 0, "all/dog": 1}, "has one: all. If its folders are the classes, name .*/images/all"),
        ({**CATS_AND_DOGS, "test/bird": 2}, r"no image in the training split train .*: bird \(only in test\)\. Add"),
        (
            {**CATS_AND_DOGS, **{f"val/{name}": 2 for name in "abcdef"}},
            r": a \(only in val\), b .*, e \(only in val\), \.\.\.\. Add images, or remove the folders",
        ),
        ({"train": 0, "test1": 1}, "has no classes: test1 and train are names of splits, .*/images/train/CLASS/IMAGE"),
        (
            {"train/cat": 0, "train/dog": 1, "extra/cat": 0, "extra/dog": 1},
            "has no classes: train and extra look like splits, because both hold cat and dog. Rename extra to val",
        ),
        (
            {"cat/train": 0, "cat/test": 0, "dog/train": 1, "dog/test": 1},
            "has splits inside its classes, such as cat/test and cat/train, .* expected .*/images/train/cat/IMAGE",
        ),
        ({"test/cat": 0, "test/dog": 1}, "no split to train on, only test: set data.train_split"),
    ],
)
def test_what_cannot_teach_a_classifier_is_refused(tmp_path, layout, message):
    images = folder(tmp_path / "images", layout, count=2)
    with pytest.raises(ValueError, match=message):
        train(recipe_on(images), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_class_of_unread_files_is_refused_and_the_files_are_named(tmp_path):
    images = folder(tmp_path / "images", CATS_AND_DOGS, count=2)
    (images / "train" / "bird").mkdir()
    (images / "train" / "bird" / "IMG_1.DNG").touch()
    with pytest.raises(ValueError, match=r"no image in the training split .*: bird\..* 1 DNG file \(IMG_1.DNG\)"):
        train(recipe_on(images), tmp_path / "run")


def test_a_run_folder_among_the_images_is_refused_at_the_first_start(tmp_path):
    images = folder(tmp_path / "images", CATS_AND_DOGS, count=2)
    with pytest.raises(ValueError, match=r"The output folder .* lies in the folder of images"):
        train(recipe_on(images), images / "runs" / "first")
    assert not (images / "runs").exists()


def test_all_unreadable_images_are_named_and_removing_them_lets_the_run_go_on(tmp_path):
    images = folder(tmp_path / "images", CATS_AND_DOGS, count=6)
    photograph(0, (30, 40)).save(images / "train" / "cat" / "000.jpg")  # of another size: files are read one by one
    recipe = recipe_on(images)
    damaged = [images / name for name in ("train/cat/001.jpg", "train/dog/005.jpg", "test/cat/000.jpg")]
    for path in damaged:
        path.write_bytes(b"<html>404</html>")
    with pytest.raises(CorruptImagesError) as caught:
        train(recipe, tmp_path / "run")
    message = str(caught.value)
    assert message.startswith("3 images could not be read: ")
    assert all(str(path) in message for path in damaged)
    assert message.endswith("or leave them out with --set data.corrupt_limit=3.")
    listed = json.loads(gzip.decompress((tmp_path / "run" / "files.json.gz").read_bytes()))
    assert {"split": "train", "class": "cat", "files": [f"train/cat/{n:03}.jpg" for n in range(6)]} in listed["images"]
    for path in damaged:
        path.unlink()
    folder(images, {"train/new": 0}, count=2)  # which the run does not take up
    result = train(recipe, tmp_path / "run")
    assert result.steps == 4
    assert result.images == 11
    assert load_model(tmp_path / "run")[1].class_names == ("cat", "dog")


def test_the_order_stays_when_an_image_goes(tmp_path):
    images = folder(tmp_path / "images", CATS_AND_DOGS, count=6)
    recipe, devices = recipe_on(images), Distribution("default")
    before = open_datasets(recipe, devices)
    gone = images / "train" / "cat" / "002.jpg"
    gone.unlink()
    after = open_datasets(recipe, devices, before.listing)
    assert after.fingerprint == before.fingerprint
    moved = np.flatnonzero(before.train_source.paths != after.train_source.paths)
    assert [before.train_source.location(place) for place in moved] == [str(gone)]
    assert after.train_source.location(moved[0]) == str(images / "train" / "cat" / "003.jpg")
    np.testing.assert_array_equal(before.train_source.labels, after.train_source.labels)
    assert "1 images that the run began with are gone" in after.plan()
    folder(images, {"train/new": 0}, count=2)
    grown = open_datasets(recipe, devices, before.listing)
    assert grown.class_names == ("cat", "dog")
    assert "2 images that are new since the run began are not used. To train on them: --weights RUN" in grown.plan()


def test_what_a_run_held_out_stays_held_out_when_its_model_goes_on_with_more_images(tmp_path, caplog):
    images = folder(tmp_path / "images", {"cat": 0, "dog": 1}, count=15)
    train(recipe_on(images), tmp_path / "run")
    before = open_datasets(recipe_on(images), Distribution("default"))
    for number in range(40):  # sorted before, among and after the run's images
        photograph(seed=number + 99).save(images / "cat" / f"{number - 10:04}{'.5' * (number % 2)}.jpg")
    folder(images, {"bird": 2}, count=20)
    caplog.clear()

    def sources(**changes):
        start = {"model.weights": str(tmp_path / "run"), "model.variant": "null", **changes}
        return open_datasets(recipe_on(images, **start), Distribution("default"))

    after = sources()
    trained, held = (set(source.paths) for source in (before.train_source, before.eval_source))
    assert len(after.eval_source.paths) > len(held)
    assert held <= set(after.eval_source.paths)
    assert not trained & set(after.eval_source.paths)
    assert not caplog.records
    sources(**{"data.train_split": "train[50%:]", "data.eval_split": "train[:50%]"})
    (record,) = caplog.records
    assert f"{tmp_path / 'run'} trained on " in record.getMessage()
    (tmp_path / "run" / "recipe.json").unlink()  # a model without its recipe says nothing of its images
    assert sources().eval_source.num_examples


def test_a_folder_that_another_run_writes_to_is_refused_and_stays_as_it_is(finished, monkeypatch):
    images, result = finished
    monkeypatch.setenv("HOME", str(result.folder.parent))
    before = {path: path.stat().st_mtime_ns for path in result.folder.rglob("*")}
    with held_alone(result.folder), pytest.raises(ValueError, match=r"Another process is writing to"):
        train(recipe_on(images), "~/run", restart=True)
    assert {path: path.stat().st_mtime_ns for path in result.folder.rglob("*")} == before


def test_a_damaged_recipe_of_a_run_is_named(finished, tmp_path):
    (tmp_path / "recipe.json").write_text("{")
    with pytest.raises(ValueError, match=r"/recipe\.json is not a recipe: This is not JSON"):
        train(recipe_on(finished[0]), tmp_path)


def test_more_steps_in_a_finished_run_name_the_way_on(finished):
    images, result = finished
    with pytest.raises(ValueError, match=r"differs in schedule.steps.*--weights RUN --output NEW"):
        train(recipe_on(images, **{"schedule.steps": "6"}), result.folder)


@pytest.mark.parametrize(
    ("images", "batch", "steps"), [(30, 8, 200), (300, 16, 562), (5_000, 256, 586), (1_281_167, 512, 20_000)]
)
def test_finetune_suits_the_number_of_images(images, batch, steps):
    recipe, why = suit(recipes.get("finetune"), images)
    assert (recipe.batch_size, recipe.schedule.steps, recipe.suited) == (batch, steps, ())
    assert recipe.schedule.warmup_steps == min(steps // 10, 500)
    assert recipe.ema_momentum**steps < 1e-4  # nothing is left of the first weights
    reasons = {8: "the smallest that is chosen", 512: "the largest that is chosen"}
    reason = reasons.get(batch, "about a tenth of the images")
    assert why.startswith(f"Chosen for {images:,} training images: batches of {batch}, {reason}; ")


def test_what_is_set_is_not_chosen():
    recipe = recipes.get("finetune").override({"batch_size": "4", "schedule.epochs": "3", "ema_momentum": "null"})
    recipe, why = suit(recipe, 300)
    assert (recipe.batch_size, recipe.schedule.epochs, recipe.schedule.steps) == (4, 3.0, None)
    assert (recipe.schedule.warmup_steps, recipe.ema_momentum) == (22, None)
    assert why == "Chosen for 300 training images: a warm-up of 22, a tenth of the run and at most 500."
    assert suit(recipes.get("digits"), 300) == (recipes.get("digits"), "")
    assert suit(recipes.get("finetune"), 300, multiple=6)[0].batch_size == 18


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"batch_size": "512", "schedule.steps": "null", "schedule.epochs": "1", "schedule.warmup_steps": "100"},
            "warmup_steps is 100, but 12 training images in batches of 512 make 1 update in 1 epoch: set it to 0, or "
            r"train longer, or set batch_size lower\.",
        ),
        (
            {"ema_momentum": "0.9995"},
            "averages the weights over about 2,000 updates, but the run has 4 updates: set ema_momentum to 0 or null, "
            r"or set schedule\.steps higher\.",
        ),
        ({"schedule.warmup_steps": "4"}, r"but the run has 4 updates: set it to 0, or set schedule\.steps higher\."),
    ],
)
def test_a_run_that_is_too_short_says_what_to_set(tmp_path, changes, message):
    images = folder(tmp_path / "images", CATS_AND_DOGS)
    with pytest.raises(ValueError, match=message):
        train(recipe_on(images, **changes), tmp_path / "run")


def test_the_run_of_another_size_keeps_it(finished):
    weights = str(finished[1].folder)
    further = recipes.get("finetune").override({"model.weights": weights})
    assert further.preprocessing.input_shape == (8, 8, 3)
    assert (further.model.variant, further.model.arguments) == (None, {})
    larger = recipes.get("finetune").override({"model.weights": weights, "model.image_size": "[16, 16]"})
    assert larger.preprocessing.image_size == (16, 16)


def test_balanced_weights_are_those_of_scikit_learn():
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.repeat([0, 1, 2], [95, 5, 20])
    loss = BalancedCrossentropy(np.bincount(labels).tolist(), from_logits=True)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(loss.weights, expected)
    logits = np.random.default_rng(0).normal(size=(120, 3)).astype("float32")
    plain = -(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))[np.arange(120), labels]
    assert float(loss(np.eye(3, dtype="float32")[labels], logits)) == pytest.approx(
        np.mean(plain * expected[labels]), rel=1e-5
    )


def test_a_rare_class_is_learned_with_balanced_weights(tmp_path):
    """Two classes that look alike, nine to one: without weights, the best guess of the rare one is a tenth."""
    images = folder(tmp_path / "images", {"train/common": 0, "test/common": 0}, count=27, size=(8, 8))
    folder(images, {"train/rare": 0, "test/rare": 0}, count=3, size=(8, 8))
    changes = {"class_weights": "balanced", "schedule.steps": "40", "batch_size": "30", "eval_steps": "40"}
    model, _ = load_model(train(recipe_on(images, **changes), tmp_path / "run").folder)
    assert model.predict(np.zeros((1, 8, 8, 3)), verbose=0)[0, 1] > 0.35


def test_early_stopping_keeps_the_best_weights_and_a_stopped_run_stays(tmp_path):
    images = folder(tmp_path / "images", CATS_AND_DOGS, count=3)
    changes = {
        "early_stopping": "2",
        "optimizer.learning_rate": "0.3",
        "schedule.steps": "60",
        "schedule.decay": "constant",
    }
    recipe = recipe_on(images, **changes)
    result = train(recipe, tmp_path / "run")
    with open(tmp_path / "run" / "history.csv", newline="") as file:
        losses = [float(row["val_loss"]) for row in csv.DictReader(file)]
    best = int(np.argmin(losses))
    assert best == len(losses) - 3
    assert result.steps == 2 * len(losses) < 40
    assert result.loss == pytest.approx(min(losses))
    weights = load_model(result.folder)[0].get_weights()
    assert train(recipe, tmp_path / "run") == result
    (tmp_path / "run" / "result.json").unlink()  # then it is made again
    again = train(recipe, tmp_path / "run")
    assert (again.steps, again.loss) == (result.steps, result.loss)
    for ours, theirs in zip(load_model(again.folder)[0].get_weights(), weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
