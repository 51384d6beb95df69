"""Files that version 0.1 wrote still load, and mean what they meant."""

import json
import pathlib
import shutil
import zipfile

import keras
import numpy as np
import pytest
from packaging.version import Version

from keras_mixer.cli.main import main
from keras_mixer.data import load_model
from keras_mixer.evaluation import open_classifier
from keras_mixer.training import Recipe, recipes

DATA = pathlib.Path(__file__).parent / "data" / "v01"
MODELS = sorted(path.stem for path in (DATA / "models").glob("*.keras"))


FILES = (
    "1",
    "model.tflite",
    "model_dynamic_int8.tflite",
    "model_float16.tflite",
    "model_int8.tflite",
    "model.onnx",
    "model.xml",
)


def status(*arguments) -> int:
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    return exit_.value.code


@pytest.fixture(scope="module")
def answers():
    with np.load(DATA / "models" / "answers.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_file_gives_the_same_answers(name, answers):
    file = DATA / "models" / f"{name}.keras"
    with zipfile.ZipFile(file) as archive:
        written = json.loads(archive.read("metadata.json"))["keras_version"]
    if Version(keras.version()) < Version(written):
        pytest.skip(f"Keras {keras.version()} does not read every file of Keras {written}")
    model = keras.models.load_model(file)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(model(answers["images"])), answers[name], rtol=1e-5, atol=1e-6
    )


def test_every_named_recipe_is_still_the_same():
    stored = json.loads((DATA / "recipes.json").read_text())
    for name, fields in stored.items():
        assert Recipe.from_json(json.dumps(fields)) == recipes.get(name), name


def test_a_finished_run_is_evaluated(capsys):
    assert status("evaluate", DATA / "finished", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["examples"], round(row["top1"], 4)) == (360, 0.3444)


def test_a_finished_run_that_is_asked_for_again_is_left_as_it_is(tmp_path):
    run = shutil.copytree(DATA / "finished", tmp_path / "run")
    assert status("train", "--recipe", run / "recipe.json", "--output", run) == 0
    for ours, theirs in zip(
        load_model(run)[0].get_weights(), load_model(DATA / "finished")[0].get_weights(), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_an_unfinished_run_goes_on_to_the_same_weights(tmp_path, rewritten_graphs):
    run = shutil.copytree(DATA / "unfinished", tmp_path / "run")
    assert status("train", "--recipe", run / "recipe.json", "--output", run) == 0
    for ours, theirs in zip(
        load_model(run)[0].get_weights(), load_model(DATA / "finished")[0].get_weights(), strict=True
    ):
        # A hundredth of one update. Another processor rounds differently, and Adam divides by small numbers.
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_training_starts_from_a_finished_run(tmp_path):
    changes = {"schedule.epochs": "null", "schedule.steps": 2, "schedule.warmup_steps": 0, "batch_size": 8}
    changes |= {"model.image_size": "[32, 32]", "model.channels": 1, "data.resize": "direct"}
    overrides = [text for name, value in changes.items() for text in ("--set", f"{name}={value}")]
    recipe = ("--recipe", "finetune_cifar10", "--dataset", "digits", "--set", "data.train_split=train")
    overrides += ["--set", "data.eval_split=test", "--set", "model.variant=null"]
    assert status("train", *recipe, "--weights", DATA / "finished", "--output", tmp_path / "run", *overrides) == 0
    model, card = load_model(tmp_path / "run")
    assert card.preprocessing.input_shape == (32, 32, 1)
    assert model.get_layer("MixerBlock_0").tokens_mlp_dim == 4


def test_a_finished_run_is_exported(tmp_path):
    assert status("export", DATA / "finished", "--formats", "saved_model", "--output", tmp_path, "--name", "tiny") == 0
    assert (tmp_path / "tiny" / "1" / "saved_model.pb").is_file()


@pytest.mark.parametrize("file", FILES)
def test_an_exported_file_gives_the_run_s_scores(file):
    images = np.random.default_rng(0).uniform(-1, 1, (1, 32, 32, 1)).astype("float32")
    expected = load_model(DATA / "finished")[0].predict(images, verbose=0)
    classifier, card = open_classifier(DATA / "saved_models" / "tiny" / file)
    assert card.class_names == tuple("0123456789")
    np.testing.assert_allclose(classifier.scores(images), expected, atol=5e-3 if "int8" in file else 1e-4)


def test_an_export_beside_an_old_one_becomes_the_next_version(tmp_path):
    models = shutil.copytree(DATA / "saved_models", tmp_path / "models")
    arguments = ("--formats", "saved_model", "--output", models, "--name", "tiny", "--serving")
    assert status("export", DATA / "finished", *arguments) == 0
    assert sorted(path.name for path in (models / "tiny").iterdir() if path.is_dir()) == ["1", "2"]
    assert (models / "tiny-serving" / "models" / "tiny" / "2" / "saved_model.pb").is_file()
    assert "model_version_policy" in (models / "tiny-serving" / "models.config").read_text()
