"""Results that the papers report, for comparison with measurements. The figures are in `reported.csv`."""

import csv
import dataclasses
import json
from pathlib import Path

MIXER = "arXiv 2105.01601"
_FROM_TABLE_3 = {("BiT-R200x3", 224), ("ViT-L/16", 512), ("Mixer-L/16", 448)}  # pre-trained on JFT-300M, in figure 2
# Field of `Reported` -> title of its column in tables.
TITLES = {
    "model": "model",
    "pretraining": "data",
    "image_size": "px",
    "epochs": "epochs",
    "imagenet": "ImageNet",
    "real": "ReaL",
    "average_5": "avg 5",
    "vtab": "VTAB",
    "images_per_second": "img/s",
    "hardware": "on",
    "core_days": "core-days",
    "parameters": "M param.",
    "multiply_adds": "G MAdds",
    "coco_ap": "COCO AP",
    "ade20k_miou": "ADE20K mIoU",
}
_TEXTS = ("model", "pretraining", "hardware", "source")


@dataclasses.dataclass(frozen=True)
class Reported:
    """One row of a published table. A figure that the source does not state is None.

    Attributes:
        model: Name in the source, such as "Mixer-B/16".
        pretraining: Data set of the pre-training; "ImageNet" for training from scratch.
        image_size: Side of the images that the model is fine-tuned and measured on, in pixels.
        epochs: Epochs of the pre-training.
        imagenet: Top-1 on ImageNet, percent.
        real: Top-1 on ImageNet with ReaL labels, percent.
        average_5: Mean top-1 over five tasks (ImageNet, CIFAR-10, CIFAR-100, Pets, Flowers), percent.
        vtab: Mean over the 19 tasks of VTAB-1k, percent.
        images_per_second: Throughput on `hardware`.
        hardware: "TPUv3 core", "V100" or "RTX 8000" (in batches of 64).
        core_days: TPUv3 core-days of the pre-training. Those of ImageNet and ImageNet-21k in table 3 of the Mixer paper
            are extrapolated from JFT-300M by its authors.
        parameters: Millions. Those of Mixer exclude the head and come from table 1 of the paper.
        multiply_adds: Billions for one image. If the source counts operations, this is half their number.
        coco_ap: Average precision of object detection on COCO with the model as backbone, percent.
        ade20k_miou: Mean IoU of semantic segmentation on ADE20K with the model as backbone, percent.
        source: Paper and table.
    """

    model: str
    pretraining: str
    image_size: int | None = None
    epochs: int | None = None
    imagenet: float | None = None
    real: float | None = None
    average_5: float | None = None
    vtab: float | None = None
    images_per_second: float | None = None
    hardware: str | None = None
    core_days: float | None = None
    parameters: float | None = None
    multiply_adds: float | None = None
    coco_ap: float | None = None
    ade20k_miou: float | None = None
    source: str = ""


# "ResMLP-S36, distilled" has no cost, because its source repeats that of ResMLP-B24.
with open(Path(__file__).with_suffix(".csv"), newline="", encoding="utf-8") as _file:
    TABLE: tuple[Reported, ...] = tuple(
        Reported(**{name: text if name in _TEXTS else json.loads(text) for name, text in row.items() if text})  # type: ignore[arg-type]
        for row in csv.DictReader(_file)
    )


def reported(model: str) -> list[Reported]:
    """Returns the published rows of a model with any pre-training, distilled ones included.

    Args:
        model: The name in the source or in this package, such as "Mixer-B/16" or "mixer_b16". Case and punctuation are
            ignored. "ResMLP-S12, distilled" selects only the distilled model.

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
    from matplotlib.figure import Figure

    rows = [row for row in TABLE if row.source == f"{MIXER}, table 2"]
    jft = [row for row in TABLE if (row.source, row.pretraining) == (f"{MIXER}, table 3", "JFT-300M")]
    rows += [row for row in jft if (row.model, row.image_size) in _FROM_TABLE_3]
    points = sorted((row.core_days, row.imagenet, row) for row in rows if row.core_days and row.imagenet)
    figure = Figure(figsize=(7, 4.5), layout="constrained")
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


def _plain(name: str) -> str:
    # "ResMLP-S12" is "res_mlp_12" in this package, and "ViP-Small/7" is "vision_permutator_small_7".
    plain = "".join(character for character in name.lower() if character.isalnum())
    return plain.replace("resmlps", "resmlp").replace("visionpermutator", "vip")
