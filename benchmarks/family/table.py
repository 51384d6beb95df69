"""The report of the family: Markdown and a picture, of what has been measured so far."""

import pathlib
from collections.abc import Collection, Sequence

HEADER = (
    "| model | parameters | MAdds, G | CPU, images/s | LiteRT, images/s | peak memory, MB | "
    "CIFAR-10 (small model) | reported ImageNet top-1 |"
)
NOT_MEASURED = "not measured"


def markdown(
    *, rows: Sequence[tuple], growth: dict, cycle_fc: dict, made: Collection[str], budget: str, picture: pathlib.Path
) -> str:
    """The whole report, of results as the measuring modules print them, None where there is none.

    Args:
        rows: Each a `benchmarks.family.rows.Row`, its speed and its training.
        growth: Title of a model -> side of the image -> cost.
        cycle_fc: Backend -> times.
        made: Days and machines of the measurements.
        budget: Of the trainings, in words.
        picture: The file that the growth is drawn to.
    """
    lines = [
        "# Mixer and its siblings",
        "",
        f"Made by `python -m benchmarks.family`; measured on {'; '.join(sorted(made))}.",
        "224 px and 1,000 classes, random weights, float32; CPU at batch 8 in graph mode, LiteRT one image at a time",
        "on all cores. MAdds are those of products and convolutions. Peak memory: what building the model and",
        "predicting at batch 8 added to the process.",
        "",
        HEADER,
        "|---|---:|---:|---:|---:|---:|---:|---:|",
        *(_row(*row) for row in rows),
        "",
        f"CIFAR-10: models of about 0.6 million parameters at 32 px, {budget}, seed 0, nothing tuned; see",
        "`benchmarks/family/cifar10.py`. Accuracy after so short a training ranks how fast they learn, not how far.",
        "Reported: trained on ImageNet-1k from scratch at 224 px, as each paper or its authors' code has it.",
        "",
        "## Growth with the image",
        "",
        *_growth(growth, picture),
        "## CycleFC and its naive forms",
        "",
        "Milliseconds for 8 feature maps, medians over alternating rounds.",
        "",
        *_cycle_fc(cycle_fc),
    ]
    return "\n".join(lines) + "\n"


def _row(row, speed: dict | None, trained: dict | None) -> str:
    cells = [NOT_MEASURED] * 5
    if speed:
        cells = [
            f"{speed['parameters']:,}",
            f"{speed['multiply_adds'] / 1e9:.2f}",
            f"{speed['images_per_second']:.1f}",
            f"{speed['litert_images_per_second']:.1f}",
            f"{speed['peak_bytes'] / 1e6:,.0f}",
        ]
    accuracy = f"{trained['accuracy']:.1%} ({trained['small_parameters'] / 1e6:.2f} M)" if trained else NOT_MEASURED
    return f"| {row.title} | {' | '.join(cells)} | {accuracy} | {row.reported_top1:.1f} % |"


def _growth(growth: dict, picture: pathlib.Path) -> list[str]:
    from keras_mixer.evaluation import growth_exponent

    if not all(cost for by_side in growth.values() for cost in by_side.values()):
        return [f"{NOT_MEASURED.capitalize()}.", ""]
    lines = ["| model | image | MAdds, G | ms per image |", "|---|---:|---:|---:|"]
    for title, by_side in growth.items():
        for side, cost in by_side.items():
            lines.append(f"| {title} | {side} | {cost['multiply_adds'] / 1e9:.2f} | {1e3 * cost['seconds']:,.1f} |")
    for title, by_side in growth.items():
        pixels = [side * side for side in by_side]
        by_time, by_operations = (
            growth_exponent(pixels, [cost[kind] for cost in by_side.values()]) for kind in ("seconds", "multiply_adds")
        )
        lines += ["", f"{title}: time grows as pixels to the power {by_time:.2f}, MAdds to {by_operations:.2f}."]
    _draw(growth, picture)
    return [*lines, "", f"![Time per image against its pixels]({picture.name})", ""]


def _draw(growth: dict, picture: pathlib.Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(8, 3.5), layout="constrained")
    for axis, kind, unit, label in (
        (axes[0], "seconds", 1e3, "ms per image"),
        (axes[1], "multiply_adds", 1e-9, "MAdds, G"),
    ):
        for title, by_side in growth.items():
            pixels = [side * side for side in by_side]
            costs = [cost[kind] * unit for cost in by_side.values()]
            axis.loglog(pixels, costs, "o-", label=title)
            axis.loglog(pixels, [costs[0] * count / pixels[0] for count in pixels], ":", color="grey", linewidth=1)
        sides = list(next(iter(growth.values())))
        axis.set_xticks([side * side for side in sides], [f"{side}²" for side in sides], minor=False)
        axis.set_xticks([], minor=True)
        axis.set(xlabel="pixels of the image", ylabel=label)
    axes[1].legend(title="dotted: linear")
    figure.savefig(picture, dpi=120)


def _cycle_fc(results: dict) -> list[str]:
    lines = ["| backend | map | CycleFC | sparse convolution | value by value |", "|---|---|---:|---:|---:|"]
    for backend, by_shape in results.items():
        for shape, times in (by_shape or {}).items():
            lines.append(f"| {backend} | {shape} | " + " | ".join(f"{time:.2f}" for time in times.values()) + " |")
    return lines
