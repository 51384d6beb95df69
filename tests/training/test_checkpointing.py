"""When an interruption takes effect."""

import dataclasses
import os
import signal

import keras
import pytest
import tensorflow as tf

from keras_mixer.training import recipes
from keras_mixer.training.devices.distribution import Distribution
from keras_mixer.training.loop import callbacks as checkpointing
from keras_mixer.training.loop.callbacks import Clock, StopOnNaN, TrainingDivergedError
from keras_mixer.training.loop.checkpoints import CheckpointStore
from keras_mixer.training.loop.data import open_datasets


@pytest.fixture
def store(tmp_path):
    return CheckpointStore(tmp_path)


def saver(store, clock, distribution, minutes=1e9, stop_on_nan=None):
    stop_on_nan = stop_on_nan or StopOnNaN(clock, store, distribution)
    recipe = recipes.get("digits").override({"eval_steps": "400", "execution.checkpoint_minutes": str(minutes)})
    datasets = dataclasses.replace(open_datasets(recipe, Distribution("default")), distribution=distribution)
    made = checkpointing.Checkpointing(stop_on_nan, datasets)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd")
    made.set_model(model)
    return made


@pytest.mark.parametrize(("slow_step", "expected"), [(0.0, [3]), (1e9, [11])])
def test_processes_ask_each_other_after_every_step_only_where_steps_are_slow(store, monkeypatch, slow_step, expected):
    """By the cluster's own sum, in a cluster of this process alone."""
    monkeypatch.setattr(checkpointing, "SLOW_STEP", slow_step)
    clock = Clock()
    cluster = Distribution("multi_worker", tf.distribute.get_strategy(), replicas=2, workers=2)

    def interrupted_at_three():
        with saver(store, clock, cluster) as made:
            for step in range(1, 30):
                clock.step = step
                if step == 3:
                    os.kill(os.getpid(), signal.SIGTERM)
                made.on_train_batch_end(step)

    with pytest.raises(KeyboardInterrupt):
        interrupted_at_three()
    assert store.steps() == expected


def test_a_checkpoint_is_written_when_the_minutes_are_over(store):
    clock = Clock()
    with saver(store, clock, Distribution("default"), minutes=0.0) as made:
        for clock.step in (1, 2):
            made.on_train_batch_end(clock.step)
    assert store.steps() == [1, 2]


def test_a_cluster_stops_for_a_loss_that_is_not_finite_when_all_ask(store):
    """The first step's; they ask after that, and then after the eleventh."""
    clock = Clock()
    cluster = Distribution("multi_worker", tf.distribute.get_strategy(), replicas=2, workers=2)
    stop_on_nan = StopOnNaN(clock, store, cluster)

    def diverging():
        with saver(store, clock, cluster, stop_on_nan=stop_on_nan) as made:
            for clock.step in range(1, 30):
                stop_on_nan.on_train_batch_end(clock.step, {"loss": 1.0 if clock.step < 3 else float("nan")})
                made.on_train_batch_end(clock.step)

    with pytest.raises(TrainingDivergedError, match="The loss at step 11 is nan"):
        diverging()


def test_an_interruption_says_that_it_was_heard(store, capfd):
    with pytest.raises(KeyboardInterrupt), saver(store, Clock(), Distribution("default")):
        os.kill(os.getpid(), signal.SIGINT)
    assert capfd.readouterr().err == checkpointing.STOPPING.decode()


def test_an_interruption_after_the_last_step_is_not_lost(store):
    with pytest.raises(KeyboardInterrupt), saver(store, Clock(), Distribution("default")):
        os.kill(os.getpid(), signal.SIGTERM)
