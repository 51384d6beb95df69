import numpy as np
import pytest

import keras_mixer
from keras_mixer import reported
from keras_mixer.models import VARIANTS


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


def test_table_3_is_sorted_by_throughput_as_published():
    for data in ("ImageNet", "ImageNet-21k", "JFT-300M"):
        speeds = [r.images_per_second for r in reported.TABLE if r.source.endswith("table 3") and r.pretraining == data]
        assert speeds == sorted(speeds, reverse=True)


@pytest.mark.parametrize("variant", ["mixer_s32", "mixer_s16", "mixer_b32", "mixer_b16", "mixer_l32", "mixer_l16"])
def test_parameters_are_those_of_the_model_without_its_head(variant):
    (first, *_) = reported.reported(variant)
    model = keras_mixer.Mixer(**vars(VARIANTS[variant]), include_top=False)
    assert np.floor(model.count_params() / 1e6) == pytest.approx(first.parameters, abs=1)


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
