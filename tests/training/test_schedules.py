import math

import keras
import pytest

from keras_mixer.training import WarmupDecay
from keras_mixer.training.loop.data import Datasets
from keras_mixer.training.recipe import ScheduleSpec


def rates(decay, warmup=4, total=24, peak=0.5):
    schedule = WarmupDecay(peak, total_steps=total, warmup_steps=warmup, decay=decay)
    return [float(schedule(step)) for step in range(total + 1)]


@pytest.mark.parametrize("decay", ["linear", "cosine", "constant"])
def test_warmup_is_linear_from_zero_to_the_peak(decay):
    assert rates(decay)[:5] == pytest.approx([0.0, 0.125, 0.25, 0.375, 0.5])


def test_linear_decay_ends_at_zero():
    assert rates("linear")[4:] == pytest.approx([0.5 * (24 - step) / 20 for step in range(4, 25)], abs=1e-7)


def test_cosine_decay_ends_at_zero():
    expected = [0.5 * math.cos(math.pi / 2 * (step - 4) / 20) ** 2 for step in range(4, 25)]
    assert rates("cosine")[4:] == pytest.approx(expected, abs=1e-7)


def test_a_cooldown_is_a_straight_line_at_the_end_of_a_constant_rate():
    schedule = WarmupDecay(0.5, total_steps=24, warmup_steps=4, decay="constant", cooldown_steps=5)
    found = [float(schedule(step)) for step in range(26)]
    assert found[:4] == pytest.approx([0.0, 0.125, 0.25, 0.375])
    assert found[4:20] == pytest.approx([0.5] * 16)
    assert found[20:] == pytest.approx([0.4, 0.3, 0.2, 0.1, 0.0, 0.0])


def test_before_the_cooldown_the_length_does_not_matter():
    short, long = (
        WarmupDecay(1.0, total_steps=total, warmup_steps=3, decay="constant", cooldown_steps=10) for total in (40, 90)
    )
    assert [float(short(step)) for step in range(31)] == [float(long(step)) for step in range(31)]


def test_without_warmup_the_first_update_has_the_peak():
    assert rates("linear", warmup=0)[0] == pytest.approx(0.5)


def test_after_the_last_step_the_rate_stays_zero():
    assert float(WarmupDecay(1.0, total_steps=10, decay="cosine")(11)) == pytest.approx(0.0, abs=1e-7)


def test_config_round_trip():
    schedule = WarmupDecay(0.1, total_steps=9, warmup_steps=2, decay="constant", cooldown_steps=3)
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
    assert again.get_config() == schedule.get_config()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"total_steps": 0}, "`total_steps` must be a positive integer"),
        ({"total_steps": "5"}, "`total_steps` must be a positive integer"),
        ({"total_steps": 5, "warmup_steps": 1.5}, "`warmup_steps` must be an integer of at least 0"),
        ({"total_steps": 5, "warmup_steps": 5}, "fewer than the run's 5 steps"),
        ({"total_steps": 5, "decay": "step"}, "'linear', 'cosine' or 'constant'"),
        ({"total_steps": 5, "decay": "linear", "cooldown_steps": 2}, "ends a constant rate, but `decay` is 'linear'"),
        ({"total_steps": 5, "decay": "constant", "warmup_steps": 3, "cooldown_steps": 3}, "at most the 2 steps"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        WarmupDecay(1.0, **arguments)


def test_the_cooldown_begins_so_many_updates_before_the_end():
    datasets = object.__new__(Datasets)
    assert datasets.cooldown_start(ScheduleSpec(steps=24, decay="constant", cooldown_steps=5)) == 19
    assert datasets.cooldown_start(ScheduleSpec(steps=24)) is None
