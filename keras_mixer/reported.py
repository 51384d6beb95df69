"""What the papers report, as data to compare measurements with. A figure that a source does not state is None."""

import dataclasses

MIXER = "arXiv 2105.01601"
GMLP = "arXiv 2105.08050, tables 1 and 2"
RESMLP = "arXiv 2105.03404, table 1"
RESMLP_DISTILLED = "github.com/facebookresearch/deit, README_resmlp.md"
CONVMIXER = "arXiv 2201.09792; multiply-adds from github.com/open-mmlab/mmpretrain, configs/convmixer"
VISION_PERMUTATOR = "github.com/houqb/VisionPermutator, README.md"
CYCLEMLP = "github.com/ShoufaChen/CycleMLP, README.md"


@dataclasses.dataclass(frozen=True)
class Reported:
    """One row of a published table.

    Attributes:
        model: Name in the source, such as "Mixer-B/16".
        pretraining: Data set of the pre-training; "ImageNet" for training from scratch.
        image_size: Side of the images that it is fine-tuned and measured on, pixels.
        epochs: Epochs of the pre-training.
        imagenet: Top-1 on ImageNet, percent.
        real: Top-1 on ImageNet with ReaL labels, percent.
        average_5: Mean top-1 over five tasks (ImageNet, CIFAR-10, CIFAR-100, Pets, Flowers), percent.
        vtab: Mean over the 19 tasks of VTAB-1k, percent.
        images_per_second: Throughput on `hardware`.
        hardware: "TPUv3 core" or "V100".
        core_days: TPUv3 core-days of the pre-training.
        parameters: Millions.
        multiply_adds: Billions for one image; half of the operations if the source counts those.
        source: Paper and table.
    """

    model: str
    pretraining: str
    image_size: int | None
    epochs: int | None
    imagenet: float | None
    real: float | None = None
    average_5: float | None = None
    vtab: float | None = None
    images_per_second: float | None = None
    hardware: str | None = None
    core_days: float | None = None
    parameters: float | None = None
    multiply_adds: float | None = None
    source: str = ""


# Table 1, without the head, in millions.
_PARAMETERS = {
    "Mixer-S/32": 19, "Mixer-S/16": 18, "Mixer-B/32": 60, "Mixer-B/16": 59,
    "Mixer-L/32": 206, "Mixer-L/16": 207, "Mixer-H/14": 431,
}  # fmt: skip


def _table_2(pretraining: str, *rows) -> list[Reported]:
    """Returns rows of table 2, which has Mixers at 448 px and does not give the size of other models."""
    return [
        Reported(
            model, pretraining, 448 if model in _PARAMETERS else None, None, imagenet, real, average, vtab,
            speed, "TPUv3 core" if speed else None, core_days, _PARAMETERS.get(model), None, f"{MIXER}, table 2",
        )
        for model, imagenet, real, average, vtab, speed, core_days in rows
    ]  # fmt: skip


def _table_3(pretraining: str, *rows) -> list[Reported]:
    """Returns rows of table 3; the authors extrapolate the core-days of two data sets from JFT-300M."""
    return [
        Reported(
            model, pretraining, size, epochs, imagenet, real, average, None,
            speed, "TPUv3 core", core_days, _PARAMETERS.get(model), None, f"{MIXER}, table 3",
        )
        for model, size, epochs, imagenet, real, average, speed, core_days in rows
    ]  # fmt: skip


def _sibling(source: str, *rows, pretraining: str = "ImageNet") -> list[Reported]:
    """Returns rows of a sibling; throughput is that of a V100."""
    return [
        Reported(
            model, pretraining, 224, None, imagenet, images_per_second=speed, hardware="V100" if speed else None,
            parameters=parameters, multiply_adds=multiply_adds, source=source,
        )
        for model, imagenet, parameters, multiply_adds, speed in rows
    ]  # fmt: skip


TABLE: tuple[Reported, ...] = (
    *_table_2(
        "ImageNet-21k",
        ("HaloNet", 85.8, None, None, None, 120, 100),
        ("Mixer-L/16", 84.15, 87.86, 93.91, 74.95, 105, 410),
        ("ViT-L/16", 85.30, 88.62, 94.39, 72.72, 32, 180),
        ("BiT-R152x4", 85.39, None, 94.04, 70.64, 26, 940),
    ),
    *_table_2(
        "JFT-300M",
        ("NFNet-F4+", 89.2, None, None, None, 46, 1860),
        ("Mixer-H/14", 87.94, 90.18, 95.71, 75.33, 40, 1010),
        ("BiT-R152x4", 87.54, 90.54, 95.33, 76.29, 26, 9900),
        ("ViT-H/14", 88.55, 90.72, 95.97, 77.63, 15, 2300),
    ),
    *_table_2("JFT-300M, pseudo-labelled", ("MPL", 90.0, 91.12, None, None, None, 20480)),
    *_table_2("web image-text pairs", ("ALIGN", 88.64, None, None, 79.99, 15, 14820)),
    *_table_3(
        "ImageNet",
        ("Mixer-B/16", 224, 300, 76.44, 82.36, 88.33, 1384, 10),
        ("ViT-B/16", 224, 300, 79.67, 84.97, 90.79, 861, 20),
        ("Mixer-L/16", 224, 300, 71.76, 77.08, 87.25, 419, 40),
        ("ViT-L/16", 224, 300, 76.11, 80.93, 89.66, 280, 50),
    ),
    *_table_3(
        "ImageNet-21k",
        ("Mixer-B/16", 224, 300, 80.64, 85.80, 92.50, 1384, 150),
        ("ViT-B/16", 224, 300, 84.59, 88.93, 94.16, 861, 180),
        ("Mixer-L/16", 224, 300, 82.89, 87.54, 93.63, 419, 410),
        ("ViT-L/16", 224, 300, 84.46, 88.35, 94.49, 280, 550),
        ("Mixer-L/16", 448, 300, 83.91, 87.75, 93.86, 105, 410),
    ),
    *_table_3(
        "JFT-300M",
        ("Mixer-S/32", 224, 5, 68.70, 75.83, 87.13, 11489, 10),
        ("Mixer-B/32", 224, 7, 75.53, 81.94, 90.99, 4208, 50),
        ("Mixer-S/16", 224, 5, 73.83, 80.60, 89.50, 3994, 30),
        ("BiT-R50x1", 224, 7, 73.69, 81.92, None, 2159, 80),
        ("Mixer-B/16", 224, 7, 80.00, 85.56, 92.60, 1384, 80),
        ("Mixer-L/32", 224, 7, 80.67, 85.62, 93.24, 1314, 120),
        ("BiT-R152x1", 224, 7, 79.12, 86.12, None, 932, 140),
        ("BiT-R50x2", 224, 7, 78.92, 86.06, None, 890, 140),
        ("BiT-R152x2", 224, 14, 83.34, 88.90, None, 356, 580),
        ("Mixer-L/16", 224, 7, 84.05, 88.14, 94.51, 419, 230),
        ("Mixer-L/16", 224, 14, 84.82, 88.48, 94.77, 419, 450),
        ("ViT-L/16", 224, 14, 85.63, 89.16, 95.21, 280, 650),
        ("Mixer-H/14", 224, 14, 86.32, 89.14, 95.49, 194, 1010),
        ("BiT-R200x3", 224, 14, 84.73, 89.58, None, 141, 1780),
        ("Mixer-L/16", 448, 14, 86.78, 89.72, 95.13, 105, 450),
        ("ViT-H/14", 224, 14, 86.65, 89.56, 95.57, 87, 2300),
        ("ViT-L/16", 512, 14, 87.76, 90.54, 95.63, 32, 650),
    ),
    *_sibling(
        GMLP,
        ("gMLP-Ti", 72.3, 6, 1.35, None),
        ("gMLP-S", 79.6, 20, 4.45, None),
        ("gMLP-B", 81.6, 73, 15.8, None),
    ),
    *_sibling(
        RESMLP,
        ("ResMLP-S12", 76.6, 15, 3.0, None),
        ("ResMLP-S24", 79.4, 30, 6.0, 715),
        ("ResMLP-S36", 79.7, 45, 8.9, None),
        ("ResMLP-B24", 81.0, 116, 23.0, 231),
    ),
    *_sibling(
        RESMLP_DISTILLED,
        ("ResMLP-S12, distilled", 77.8, 15, 3.0, None),
        ("ResMLP-S24, distilled", 80.8, 30, 6.0, None),
        # The table repeats the cost of ResMLP-B24 here.
        ("ResMLP-S36, distilled", 81.1, None, None, None),
        ("ResMLP-B24/8, distilled", 83.6, 129, 100.0, None),
    ),
    *_sibling(RESMLP_DISTILLED, ("ResMLP-B24/8", 84.4, 129, 100.0, None), pretraining="ImageNet-22k"),
    *_sibling(
        CONVMIXER,
        ("ConvMixer-1536/20", 81.37, 51.6, 48.71, None),
        ("ConvMixer-768/32", 80.16, 21.1, 19.62, None),
        ("ConvMixer-1024/20", 76.94, 24.4, 5.55, None),
    ),
    *_sibling(
        VISION_PERMUTATOR,
        ("ViP-Small/7", 81.5, 25, None, 719),
        ("ViP-Medium/7", 82.7, 55, None, 418),
        ("ViP-Large/7", 83.2, 88, None, 298),
    ),
    *_sibling(
        CYCLEMLP,
        ("CycleMLP-B1", 78.9, 15, 2.1, None),
        ("CycleMLP-B2", 81.6, 27, 3.9, None),
        ("CycleMLP-B3", 82.4, 38, 6.9, None),
        ("CycleMLP-B4", 83.0, 52, 10.1, None),
        ("CycleMLP-B5", 83.2, 76, 12.3, None),
    ),
)


def reported(model: str) -> list[Reported]:
    """Returns the published rows of a model with any pre-training, distilled ones included.

    Args:
        model: The source's name or this package's, such as "Mixer-B/16" or "mixer_b16". Case and punctuation do not
            count. "ResMLP-S12, distilled" stands for the distilled model alone.

    Returns:
        The rows, in the order of the sources; an empty list if the model is unknown.

    Example:
        >>> [row.imagenet for row in keras_mixer.reported.reported("mixer_b16")]
        [76.44, 80.64, 80.0]
    """
    return [row for row in TABLE if _plain(model) in (_plain(row.model), _plain(row.model.removesuffix(", distilled")))]


def accuracy_cost_figure():
    """Draws ImageNet accuracy against the cost of pre-training, with its frontier (figure 2, left, of the paper).

    Returns:
        A `matplotlib.figure.Figure` of the rows of table 2 and the three of table 3 that section 3.1 adds to them.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [row for row in TABLE if row.source == f"{MIXER}, table 2" or _added_to_figure_2(row)]
    points = sorted((row.core_days, row.imagenet, row) for row in rows if row.core_days and row.imagenet)
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for number, data in enumerate(dict.fromkeys(row.pretraining for *_, row in points)):
        chosen = [(cost, accuracy) for cost, accuracy, row in points if row.pretraining == data]
        costs, accuracies = zip(*chosen, strict=True)
        axes.scatter(costs, accuracies, s=40, color=f"C{number}", label=data)
    frontier: list[tuple[float, float]] = []
    for cost, accuracy, row in points:
        weight = "bold" if row.model.startswith("Mixer") else "normal"
        # Below and to the right, away from the frontier.
        axes.annotate(row.model, (cost, accuracy), (5, -10), textcoords="offset points", size=8, weight=weight)
        if not frontier or accuracy > frontier[-1][1]:
            frontier.append((cost, accuracy))
    axes.plot(*zip(*frontier, strict=True), "--", color="grey", zorder=0)
    axes.margins(x=0.12)
    axes.set(xscale="log", xlabel="pre-training cost (TPUv3 core-days)", ylabel="ImageNet top-1 (%)")
    axes.legend(title="pre-training data", fontsize=8)
    axes.grid(alpha=0.3)
    return figure


def _added_to_figure_2(row: Reported) -> bool:
    chosen = {("BiT-R200x3", 224), ("ViT-L/16", 512), ("Mixer-L/16", 448)}
    from_jft = row.source == f"{MIXER}, table 3" and row.pretraining == "JFT-300M"
    return from_jft and (row.model, row.image_size) in chosen


def _plain(name: str) -> str:
    # "ResMLP-S12" is "res_mlp_12" in this package, and "ViP-Small/7" is "vision_permutator_small_7".
    plain = "".join(character for character in name.lower() if character.isalnum())
    return plain.replace("resmlps", "resmlp").replace("visionpermutator", "vip")
