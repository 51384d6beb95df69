"""What a run is told when it goes on in another way."""

import concurrent.futures
import threading

import keras
import pytest

from keras_mixer.training import recipes, train
from keras_mixer.training.devices.distribution import Distribution
from keras_mixer.training.loop import run_folder
from keras_mixer.training.loop.callbacks import Clock
from keras_mixer.training.loop.checkpoints import CheckpointStore, gather
from keras_mixer.training.loop.data import open_datasets
from keras_mixer.training.loop.resuming import check_same_run, find_start


@pytest.mark.parametrize(
    ("layer", "warnings"),
    [(keras.layers.BatchNormalization, 1), (keras.layers.LayerNormalization, 0)],
)
def test_other_micro_batches_are_told_where_statistics_are_taken_over_them(layer, warnings, tmp_path, caplog):
    model = keras.Sequential([keras.Input((3,)), layer(), keras.layers.Dense(2)])
    model.compile("sgd")
    store = CheckpointStore(tmp_path / "checkpoints")
    whole = recipes.get("digits")
    in_parts = open_datasets(whole.override({"execution.micro_batches": "4"}), Distribution("default"))
    store.save(7, gather(model), Clock().notes(in_parts))
    assert find_start(model, store, in_parts).step == 7
    assert not caplog.records
    assert find_start(model, store, open_datasets(whole, Distribution("default"))).step == 7
    told = f"The run in {tmp_path} was on 1 replicas with 4 micro-batches and goes on with 1 and 1: from here on, batch"
    assert [told in record.getMessage() for record in caplog.records] == [True] * warnings


def test_a_run_of_the_device_is_not_sent_to_the_host(tmp_path):
    """Because a run keeps its pipeline, the advice to change it would end in another error."""
    recipe = recipes.get("digits").override({"execution.pipeline": "device"})
    with pytest.raises(ValueError, match=r"set KERAS_BACKEND=jax, or execution\.pipeline=host"):
        train(recipe, tmp_path)
    (tmp_path / "recipe.json").write_text(recipe.to_json())
    with pytest.raises(ValueError, match=r"with which the run began, .* set KERAS_BACKEND=jax\.$"):
        train(recipes.get("digits"), tmp_path)


@pytest.mark.parametrize(("before", "asked"), [("host", "device"), ("device", "host"), ("auto", "device")])
def test_the_pipeline_of_a_run_is_kept(tmp_path, before, asked):
    """By `auto` is meant what runs recorded before there was a choice: the host's."""
    first, second = (recipes.get("digits").override({"execution.pipeline": name}) for name in (before, asked))
    (tmp_path / "recipe.json").write_text(first.to_json())
    with pytest.raises(ValueError, match=r"differs in execution\.pipeline"):
        run_folder.check(tmp_path, second, restart=False)
    run_folder.check(tmp_path, first, restart=False)


def _compared(*recipes_of_processes):
    """Lets each recipe be that of a process, which is a thread here, and returns what each process raises."""
    count, lock = len(recipes_of_processes), threading.Barrier(len(recipes_of_processes), timeout=60)
    numbers = [0] * count

    class Threads(Distribution):
        def of_each_process(self, number):
            numbers[self.worker] = number
            lock.wait()
            found = list(numbers)
            lock.wait()
            return found

    def check(worker):
        recipe = recipes_of_processes[worker]
        check_same_run(open_datasets(recipe, Threads("data_parallel", workers=count, worker=worker)))

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return [str(future.exception()) for future in [pool.submit(check, worker) for worker in range(count)]]


@pytest.mark.parametrize(
    ("changes", "differing"),
    [
        ({"name": "other"}, None),
        ({"optimizer.learning_rate": "0.5", "execution.micro_batches": "2"}, "optimizer, execution"),
        ({"data.train_split": "train[:300]"}, "the images, data"),
    ],
)
def test_processes_compare_recipe_and_images(changes, differing):
    recipe = recipes.get("digits")
    message = (
        f"The processes of a cluster differ in {differing}: give all of them the same command and the same images."
    )
    assert _compared(recipe, recipe.override(changes)) == [str(differing and message)] * 2
