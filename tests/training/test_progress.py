import pytest

from keras_mixer import progress
from keras_mixer.training.loop.callbacks import Clock, ProgressBar


@pytest.fixture
def shown(capsys):
    """Makes a function that goes through a period of ten steps without a terminal, and returns what was printed."""

    def period(total_steps: int) -> list[str]:
        clock = Clock()
        with ProgressBar(clock, total_steps, batch_size=8) as bar:
            for step in range(1, 11):
                clock.step = step
                bar.on_train_batch_end(step - 1, {"loss": 0.5, "accuracy": 0.25})
            bar.on_epoch_end(0, {"loss": 0.5, "accuracy": 0.25, "val_accuracy": 0.75})
        return capsys.readouterr().err.splitlines()

    return period


def test_a_line_comes_in_the_middle_of_a_period_where_it_is_time(shown, monkeypatch):
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    lines = shown(total_steps=30)
    assert [line.split()[1] for line in lines] == [f"{step}/30" for step in (*range(1, 11), 10)]
    assert lines[0].startswith("step 1/30  loss 0.5000  accuracy 25.00%  ")
    assert "evaluated 75.00%" in lines[-1]


def test_between_two_lines_nothing_is_printed_but_the_last(shown, monkeypatch):
    monkeypatch.setattr(progress, "LINE_EVERY", 1e9)
    assert shown(total_steps=30) == []
    (line,) = shown(total_steps=10)
    assert line.startswith("step 10/10  ")
