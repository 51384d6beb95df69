import io
import re

import matplotlib
import numpy as np
import pytest
from PIL import Image

from keras_mixer.evaluation import Curve, Predictor, save_prediction_sheet
from keras_mixer.evaluation.pictures import draw_confusion, draw_growth, draw_invariance


def texts(axes):
    return {(round(text.get_position()[1]), round(text.get_position()[0])): text.get_text() for text in axes.texts}


def test_a_confusion_matrix_shows_shares_of_each_class_and_counts():
    counts = np.array([[3, 1, 0], [0, 0, 0], [0, 2, 2]])
    axes, bar = draw_confusion(counts, ["ant", "bee", "cat"], "insects").axes
    np.testing.assert_array_equal(axes.images[0].get_array().filled(-1), [[75, 25, 0], [-1, -1, -1], [0, 50, 50]])
    assert texts(axes) == {(0, 0): "3", (0, 1): "1", (2, 1): "2", (2, 2): "2"}
    assert [label.get_text() for label in axes.get_yticklabels()] == ["ant", "bee", "cat"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    assert "%" in bar.get_ylabel()


def test_a_thousand_classes_are_drawn_without_names():
    axes, _ = draw_confusion(np.eye(1000, dtype=int), [f"class {index}" for index in range(1000)]).axes
    assert axes.images[0].get_array().shape == (1000, 1000)
    assert not axes.texts
    assert not any("class" in label.get_text() for label in axes.get_yticklabels())


def test_dollar_signs_are_drawn_as_they_are():
    figure = draw_confusion(np.eye(2, dtype=int), ["$5^$", "$2_ or $3"], title="$ and $^")
    drawn = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        figure.savefig(drawn, format="svg")
    assert {"$5^$", "$2_ or $3", "$ and $^"} <= set(re.findall(">([^<>]*)</text>", drawn.getvalue()))


def test_names_that_no_font_draws_are_told_in_one_line(caplog):
    """And Matplotlib does not warn of missing glyphs, which would be an error here."""
    names = ["\U0010abcd cat", "chien à poils"]
    figure = draw_confusion(np.eye(2, dtype=int), names)
    figure.canvas.draw()
    drawn = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    (record,) = caplog.records
    assert "No font here draws" in record.getMessage()
    assert "\U0010abcd" in record.getMessage()
    assert drawn[0] == "? cat"
    assert drawn[1] == names[1]


def test_curves_of_an_architecture_share_a_panel():
    orders = ("original", "patches and pixels", "all pixels")
    curves = [
        Curve(model, order, (0.1 * place, 0.5), (2.0, 1.0))
        for model in ("mixer", "resnet50")
        for place, order in enumerate(orders)
    ]
    panels = draw_invariance(curves).axes
    assert [axes.get_title() for axes in panels] == ["mixer", "resnet50"]
    for axes in panels:
        assert [line.get_label() for line in axes.lines] == list(orders)
        assert [line.get_linestyle() for line in axes.lines] == ["-", "--", ":"]
        np.testing.assert_allclose(axes.lines[2].get_ydata(), [20, 50])
        assert all(float(tick).is_integer() for tick in axes.get_xticks())


def test_growth_shows_the_line_of_the_exponent():
    """The last of four costs is off: the line is that of least squares on logarithms."""
    import scipy.stats

    patches, seconds = [16, 64, 144, 256], [1.6, 6.4, 14.4, 51.2]
    (axes,) = draw_growth(patches, {"seconds": seconds}).axes
    measured, fitted = axes.lines
    assert list(measured.get_ydata()) == seconds
    line = scipy.stats.linregress(np.log(patches), np.log(seconds))
    assert fitted.get_label() == f"exponent {line.slope:.2f}"
    np.testing.assert_allclose(np.log(fitted.get_ydata()), line.intercept + line.slope * np.log(patches))
    assert axes.get_xscale() == axes.get_yscale() == "log"


def test_growth_needs_two_sizes():
    with pytest.raises(ValueError, match="two sizes"):
        draw_growth([16], {"seconds": [1.0]})


IMAGES = np.random.default_rng(0).uniform(-1, 1, (60, 8, 8, 3)).astype(np.float32)
LABELS = np.arange(60) % 3


def sheet(path, right: bool):
    answers = LABELS if right else (LABELS + 1) % 3
    predictor = Predictor("fixed", lambda images: np.eye(3)[answers])
    return np.asarray(
        Image.open(save_prediction_sheet(predictor, [(IMAGES, LABELS)], tuple("abc"), path)).convert("RGB")
    )


def red_above_the_first_image(picture: np.ndarray) -> bool:
    title = picture[: picture.shape[0] // 40, : picture.shape[1] // 8].astype(int)
    return bool(np.any((title[..., 0] > 200) & (title[..., 1] < 80) & (title[..., 2] < 80)))


def test_wrong_predictions_are_marked_in_red(tmp_path):
    assert red_above_the_first_image(sheet(tmp_path / "wrong.png", right=False))
    assert not red_above_the_first_image(sheet(tmp_path / "right.png", right=True))


def test_reads_no_further_once_wrong_and_right_fill_the_sheet(tmp_path):
    half_right = Predictor("fixed", lambda images: np.eye(3)[np.where(np.arange(60) % 2, LABELS, (LABELS + 1) % 3)])

    def batches():
        yield IMAGES, LABELS
        raise AssertionError("30 wrong and 30 right predictions are there")

    assert save_prediction_sheet(half_right, batches(), tuple("abc"), tmp_path / "sheet.png").stat().st_size


def test_an_empty_split_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no images"):
        save_prediction_sheet(Predictor("fixed", lambda images: images), [], tuple("abc"), tmp_path / "sheet.png")
