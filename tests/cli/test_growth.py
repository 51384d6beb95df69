import family
import pytest

from keras_mixer import evaluation
from keras_mixer.cli.benchmark import growth_to_picture
from keras_mixer.evaluation.throughput import Throughput
from keras_mixer.models import multiply_adds

SIDES = (32, 64, 96, 128)

# Side of a patch where there are such, and the growth of the cost: linear, but where whole rows and columns are mixed.
SIBLINGS = {
    "vip": (4, (1.01, 1.5)),
    "convmixer": (None, (0.99, 1.0)),
    "cyclemlp": (None, (0.99, 1.0)),
}


@pytest.mark.parametrize("sibling", SIBLINGS)
def test_the_cost_of_other_architectures_is_drawn_against_its_images(sibling, tmp_path, monkeypatch):
    # Measured in `test_experiments.py`; here the multiply-adds count.
    rates = iter((100.0, 50.0, 25.0, 12.5))
    monkeypatch.setattr(evaluation, "measure_throughput", lambda *_, **__: Throughput({16: next(rates)}, 1))
    model = family.model(sibling)
    patch, (least, most) = SIBLINGS[sibling]
    growth = growth_to_picture(model, tmp_path / "growth.svg")
    assert growth["seconds"] == [0.01, 0.02, 0.04, 0.08]
    assert growth["pixels"] == [side**2 for side in SIDES]
    assert growth.get("patches") == (patch and [(side // patch) ** 2 for side in SIDES])
    assert growth["multiply_adds"][0] == multiply_adds(model)
    assert least < growth["exponents"]["multiply-adds per image"] < most
    picture = (tmp_path / "growth.svg").read_text()
    assert f"<!-- {'patches' if patch else 'pixels'} -->" in picture  # the axis
