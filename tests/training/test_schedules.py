import math

import keras
import pytest

from keras_mixer.training import WarmupDecay


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


def test_without_warmup_the_first_update_has_the_peak():
    assert rates("linear", warmup=0)[0] == pytest.approx(0.5)


def test_after_the_last_step_the_rate_stays_zero():
    assert float(WarmupDecay(1.0, total_steps=10, decay="cosine")(11)) == pytest.approx(0.0, abs=1e-7)


def test_config_round_trip():
    schedule = WarmupDecay(0.1, total_steps=9, warmup_steps=2, decay="cosine")
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
    assert again.get_config() == schedule.get_config()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"total_steps": 0}, "at least 1"),
        ({"total_steps": 5, "warmup_steps": 5}, "fewer than the run's 5 steps"),
        ({"total_steps": 5, "decay": "step"}, "'linear', 'cosine' or 'constant'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        WarmupDecay(1.0, **arguments)
