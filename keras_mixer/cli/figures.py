"""The figures that `keras-mixer benchmark` measures, as a table with those that the papers report beside them."""

from collections.abc import Iterator, Sequence

from keras_mixer.cli.growth import size_unit

PAPERS_IMAGE_SIZE = 224  # at which the papers count parameters and multiply-adds


def figures(measured: dict, published: Sequence, image_size: tuple[int, int]) -> list[dict]:
    """Returns the rows of the table.

    Args:
        measured: The command's JSON.
        published: Rows of `keras_mixer.reported` for the model.
        image_size: Height and width that the model was measured at. Nothing reported of another size stands beside.
    """
    beside = _reported(published, image_size)
    rows = []
    for key, quantity, value in _measured(measured):
        row = {"quantity": quantity, "measured": value}
        rows.append(row | {"reported": beside.get(key)} if beside else row)
    return rows


def _measured(measured: dict) -> Iterator[tuple[str, str, str]]:
    yield "parameters", "parameters", f"{measured['parameters']:,}"
    yield "parameters_without_head", "parameters without the head", f"{measured['parameters_without_head']:,}"
    yield "multiply_adds", "multiply-adds per image, by formula", f"{measured['multiply_adds']:,}"
    yield "", "operations per image, counted by TensorFlow", f"{measured['framework_operations']:,}"
    for size, rate in measured["by_batch_size"].items():
        yield "", f"images per second, batch of {size}", f"{rate:,.4g}"
    cores = "1 core" if measured["cores"] == 1 else f"{measured['cores']} cores"
    best = f"images per second and core, best (of {cores})"
    yield "images_per_second_per_core", best, f"{measured['images_per_second_per_core']:,.4g}"
    peak = f"{measured['matmul_peak'] / 1e9:,.4g} billion multiply-adds per second"
    yield "", "matrix product, fastest", peak
    yield "", "share of it that the model reaches", f"{100 * measured['fraction_of_peak']:.1f} %"
    growth = measured.get("growth", {})
    for name, exponent in growth.get("exponents", {}).items():
        yield "", f"{name}: exponent of growth with {size_unit(growth)}", f"{exponent:.2f}"


def _reported(published: Sequence, image_size: tuple[int, int]) -> dict[str, str]:
    """What the sources state of a model on images of this size, by the key of the measured figure."""
    from keras_mixer.reported import MIXER

    found: dict[str, list[str]] = {}

    def add(key: str, text: str) -> None:
        if text not in found.setdefault(key, []):
            found[key].append(text)

    for row in published:
        if tuple(image_size) != (row.image_size, row.image_size):
            continue
        if row.parameters and row.image_size == PAPERS_IMAGE_SIZE:
            # The Mixer's paper leaves the head out, those of its siblings do not.
            mixer = row.source.startswith(MIXER)
            add("parameters_without_head" if mixer else "parameters", f"{row.parameters:g} million")
        if row.multiply_adds:
            add("multiply_adds", f"{row.multiply_adds:g} billion")
        if row.images_per_second:
            add("images_per_second_per_core", f"{row.images_per_second:,} of a {row.hardware}")
    return {key: ", ".join(texts) for key, texts in found.items()}
