import pytest

from keras_mixer import reported


def test_both_names_find_the_rows():
    rows = reported.reported("Mixer-B/16")
    assert [row.imagenet for row in rows] == [76.44, 80.64, 80.00]
    assert reported.reported("mixer_b16") == rows
    assert reported.reported("no such model") == []


def test_every_row_names_its_source_and_is_plausible():
    for row in reported.TABLE:
        assert row.source, row
        assert 60 < row.imagenet < 95, row
        for percent in (row.real, row.average_5, row.vtab):
            assert percent is None or 60 < percent < 100, row
        assert (row.images_per_second is None) == (row.hardware is None), row
        # A label set that forgives more cannot give less.
        assert row.real is None or row.real > row.imagenet, row


def test_rows_are_unique():
    keys = [(row.model, row.pretraining, row.image_size, row.epochs, row.source) for row in reported.TABLE]
    assert len(set(keys)) == len(keys)


# All parameters with 1,000 classes, and the channels that the head reads.
COUNTS = {
    "mixer_s32": (19_104_624, 512),
    "mixer_s16": (18_528_264, 512),
    "mixer_b32": (60_293_428, 768),
    "mixer_b16": (59_880_472, 768),
    "mixer_l32": (206_939_264, 1024),
    "mixer_l16": (208_196_168, 1024),
    "mixer_h14": (432_350_952, 1280),
}


@pytest.mark.parametrize("variant", COUNTS)
def test_parameters_are_those_of_the_model_without_its_head(variant):
    count, channels = COUNTS[variant]
    for row in reported.reported(variant):
        assert row.parameters == round((count - 1000 * (channels + 1)) / 1e6)


def test_speed_falls_fourfold_with_four_times_the_patches():
    """Mixer-L/16 at 448 px has four times the patches of 224 px: the paper's own figures are linear in them."""
    speed = {row.image_size: row.images_per_second for row in reported.reported("Mixer-L/16") if row.epochs == 14}
    assert speed[224] / speed[448] == pytest.approx(4, rel=0.01)


def test_the_frontier_of_figure_2():
    """Halo, ViT, NFNet and MPL lie on it, and Mixer-H/14, as the paper says."""
    figure = reported.accuracy_cost_figure()
    (axes,) = figure.axes
    (line,) = axes.lines
    assert list(line.get_ydata()) == sorted(line.get_ydata())
    assert 87.94 in line.get_ydata()
    assert 90.0 in line.get_ydata()
    assert 84.15 not in line.get_ydata()
