import pytest

from keras_mixer import reported
from keras_mixer.cli.benchmark import figures

# Of Mixer-B/16 with 1,000 classes; the rates are made up.
MEASURED = {
    "parameters": 59_880_472,
    "parameters_without_head": 59_111_472,
    "multiply_adds": 12_600_000_000,
    "framework_operations": 25_300_000_000,
    "by_batch_size": {32: 7.5, 64: 8.0},
    "cores": 2,
    "images_per_second_per_core": 4.0,
    "matmul_peak": 1.1e11,
    "fraction_of_peak": 0.92,
}
SPEED = "images per second and core, best (of 2 cores)"


def beside(model, *image_size):
    rows = figures(MEASURED, reported.reported(model), image_size)
    return {row["quantity"]: row["reported"] for row in rows if row.get("reported")}


def test_reported_figures_stand_beside_what_they_are_of():
    """The numbers of the papers' tables: Mixer's parameters are without the head, ResMLP's with it."""
    assert beside("mixer_b16", 224, 224) == {
        "parameters without the head": "59 million",
        SPEED: "1,384 of a TPUv3 core",
    }
    assert beside("res_mlp_24", 224, 224) == {
        "parameters": "30 million",
        "multiply-adds per image, by formula": "6 billion",
        SPEED: "715 of a V100",
    }


def test_what_is_reported_of_another_image_size_stands_nowhere():
    assert beside("mixer_l16", 448, 448) == {SPEED: "105 of a TPUv3 core"}
    assert beside("mixer_b16", 384, 384) == beside("mixer_b16", 224, 448) == {}


@pytest.mark.parametrize("model", ["digits", "mixer_b16"])
def test_a_table_without_reported_figures_has_no_column_for_them(model):
    rows = figures(MEASURED, reported.reported(model), (32, 32))
    assert {tuple(row) for row in rows} == {("quantity", "measured")}
    assert {"quantity": "parameters without the head", "measured": "59,111,472"} in rows
    assert {"quantity": "images per second, batch of 64", "measured": "8"} in rows
