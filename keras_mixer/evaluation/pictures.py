"""Draws what the experiments found, with Matplotlib."""

from collections.abc import Mapping, Sequence

from keras_mixer.evaluation.invariance import ORDERS, Curve
from keras_mixer.evaluation.throughput import growth_exponent


def draw_invariance(curves: Sequence[Curve]):
    """Draws accuracy over epochs for each order of pixels, one panel per architecture (figure 4 of the paper).

    Returns:
        A `matplotlib.figure.Figure`.
    """
    models = list(dict.fromkeys(curve.model for curve in curves))
    figure, panels = _axes(len(models), 3.4, sharey=True)
    for axes, model in zip(panels, models, strict=True):
        for curve in curves:
            if curve.model == model:
                style = dict(zip(ORDERS, ("-", "--", ":"), strict=True))[curve.order]
                epochs = range(1, len(curve.accuracy) + 1)
                axes.plot(epochs, [100 * value for value in curve.accuracy], style, marker=".", label=curve.order)
        axes.set(title=model, xlabel="epoch")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("test accuracy (%)")
    panels[0].legend(title="pixels", fontsize=8)
    return figure


def draw_growth(patches: Sequence[int], costs: Mapping[str, Sequence[float]]):
    """Draws costs against the number of patches on logarithmic scales, with the exponent of each.

    Args:
        patches: Patches of an image, rising.
        costs: Name and unit -> cost at each number of patches.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    figure, panels = _axes(len(costs), 3.6)
    for axes, (name, values) in zip(panels, costs.items(), strict=True):
        exponent = growth_exponent(patches, values)
        axes.plot(patches, values, "o", label="measured")
        centre = (values[0] * values[-1]) ** 0.5 / (patches[0] * patches[-1]) ** (exponent / 2)
        axes.plot(patches, [centre * count**exponent for count in patches], "-", label=f"exponent {exponent:.2f}")
        axes.set(xscale="log", yscale="log", xlabel="patches", ylabel=name)
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3, which="both")
    return figure


def _axes(columns: int, width: float, **options):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(columns * width + 0.4, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, columns, squeeze=False, **options)[0]
