"""How the cost of a model grows with its images, for `keras-mixer benchmark --growth`."""

import math

FACTORS = (1, 2, 3, 4)  # of the image's sides
BATCH_SIZE = 16


def growth_to_picture(model, path: str) -> dict:
    """Measures a model at several image sizes and draws its costs against these.

    Args:
        model: A model that `keras_mixer.weights.change_resolution` takes to other sizes.
        path: The picture, `.png` or `.svg`.

    Returns:
        By name: the sizes in "pixels", and in "patches" if the model cuts images into such; "multiply_adds" and
        "seconds" of an image at each; and the "exponents" of both.

    Raises:
        ValueError: If the weights of the model belong to one image size.
    """
    from keras_mixer import evaluation, weights
    from keras_mixer.evaluation.pictures import draw_growth
    from keras_mixer.models import multiply_adds
    from keras_mixer.visualization import save_figure

    sizes: dict[str, list[int]] = {}
    costs: list[float] = []
    seconds: list[float] = []
    for factor in FACTORS:
        height, width = (factor * side for side in model.input_shape[1:3])
        larger = weights.change_resolution(model, (height, width), method="resample")
        speed = evaluation.measure_throughput(larger, [BATCH_SIZE], max_seconds=float("inf"))
        for unit, size in _sizes(larger).items():
            sizes.setdefault(unit, []).append(size)
        costs.append(multiply_adds(larger))
        seconds.append(1.0 / speed.best)
    drawn: dict[str, list[float]] = {"multiply-adds per image": costs, "seconds per image": seconds}
    unit = size_unit(sizes)
    save_figure(draw_growth(sizes[unit], drawn, unit), path)
    exponents = {name: evaluation.growth_exponent(sizes[unit], values) for name, values in drawn.items()}
    return {**sizes, "multiply_adds": costs, "seconds": seconds, "exponents": exponents}


def size_unit(measured: dict) -> str:
    """Returns what costs are drawn against: the paper's patches, or pixels for a model of none."""
    return "patches" if "patches" in measured else "pixels"


def _sizes(model) -> dict[str, int]:
    from keras_mixer.layers import PatchEmbedding

    patches = [math.prod(layer.grid) for layer in model.layers if isinstance(layer, PatchEmbedding)]
    return {"pixels": math.prod(model.input_shape[1:3])} | ({"patches": patches[0]} if patches else {})
