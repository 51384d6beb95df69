import dataclasses

import pytest

from benchmarks.family.rows import ROWS
from keras_mixer import reported


def test_every_field_has_the_title_of_a_column():
    assert [*reported.TITLES, "source"] == [field.name for field in dataclasses.fields(reported.Reported)]
    assert len(set(reported.TITLES.values())) == len(reported.TITLES)


def test_both_names_find_the_rows():
    rows = reported.reported("Mixer-B/16")
    assert [row.imagenet for row in rows] == [76.44, 80.64, 80.00]
    assert reported.reported("mixer_b16") == rows
    assert reported.reported("no such model") == []


@pytest.mark.parametrize(
    ("variant", "accuracies"),
    [
        ("res_mlp_12", [76.6, 77.8]),
        ("res_mlp_b24_8", [83.6, 84.4, 81.0]),
        ("g_mlp_s", [79.6]),
        ("conv_mixer_768_32", [80.16]),
        ("vision_permutator_medium_7", [82.7]),
        ("ViP-Large/7", [83.2]),
        ("cycle_mlp_b2", [81.6]),
        ("ResMLP-S12, distilled", [77.8]),
        ("mixer_s8", []),
    ],
)
def test_siblings_are_found_by_their_variants(variant, accuracies):
    assert [row.imagenet for row in reported.reported(variant)] == accuracies


def test_the_family_benchmark_prints_the_figures_of_the_table_for_training_from_scratch():
    figures = [(row.title, f"{row.reported_top1:.1f}") for row in ROWS]
    assert figures == [
        ("Mixer-B/16", "76.4"),
        ("ResMLP-S24", "79.4"),
        ("gMLP-S", "79.6"),
        ("ConvMixer-768/32", "80.2"),
        ("ViP-Small/7", "81.5"),
        ("CycleMLP-B2", "81.6"),
    ]


def test_every_row_names_its_source_and_is_plausible():
    for row in reported.TABLE:
        assert row.source, row
        assert 60 < row.imagenet < 95, row
        for percent in (row.real, row.average_5, row.vtab):
            assert percent is None or 60 < percent < 100, row
        assert (row.images_per_second is None) == (row.hardware is None), row
        # A label set that forgives more cannot give less.
        assert row.real is None or row.real > row.imagenet, row


def test_the_siblings_papers_compare_with_others():
    (gmlp,) = [row for row in reported.reported("DeiT-B") if "2105.08050" in row.source]
    assert (gmlp.imagenet, gmlp.parameters, gmlp.multiply_adds) == (81.8, 86, 17.5)
    (conv_mixer,) = [row for row in reported.reported("DeiT-B") if "2201.09792" in row.source]
    assert (conv_mixer.images_per_second, conv_mixer.hardware) == (703, "RTX 8000")
    (cycle,) = reported.reported("Cycle FC")
    assert (cycle.imagenet, cycle.coco_ap, cycle.ade20k_miou) == (81.6, 41.7, 42.4)


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
    """Mixers lie on it with HaloNet, ViT, NFNet and MPL, as the paper says, and nothing else does."""
    (axes,) = reported.accuracy_cost_figure().axes
    (line,) = axes.lines
    names = {(row.core_days, row.imagenet): row.model for row in reported.TABLE}
    frontier = [names[point] for point in zip(line.get_xdata(), line.get_ydata(), strict=True)]
    assert frontier == ["HaloNet", "Mixer-L/16", "ViT-L/16", "Mixer-H/14", "NFNet-F4+", "MPL"]


@pytest.mark.parametrize(("table", "rows"), [("table 2", 10), ("table 3", 26)])
def test_the_papers_tables_are_whole(table, rows):
    assert sum(row.source == f"{reported.MIXER}, {table}" for row in reported.TABLE) == rows


def test_a_model_of_table_2_is_the_same_in_table_3():
    """The two share what a pre-training costs, and the speed of a model at one size."""
    larger = [row for row in reported.TABLE if row.source.endswith("table 2") and row.model.startswith("Mixer")]
    for row in larger:
        twins = [
            twin
            for twin in reported.reported(row.model)
            if twin.source.endswith("table 3") and twin.pretraining == row.pretraining
        ]
        assert row.core_days in {twin.core_days for twin in twins}
        same_size = [twin for twin in twins if twin.image_size == row.image_size]
        assert all(twin.images_per_second == row.images_per_second for twin in same_size)
