"""Options and arguments that several sub-commands take: numbers, pictures, settings, a dataset, a model."""

import dataclasses
import logging
import math
import os
import pathlib
from typing import TYPE_CHECKING

import click

from keras_mixer.cli.output import notes_shown, start_keras
from keras_mixer.images import MAX_PIXELS

if TYPE_CHECKING:
    from keras_mixer.artefacts import Predictor
    from keras_mixer.card import ModelCard

_log = logging.getLogger(__name__)


def repeated(*names: str, help: str, **settings):
    """Makes an option that may be given several times."""
    return click.option(*names, multiple=True, help=f"{help}; may be repeated.", **settings)


def _split_settings(_context, _option, texts) -> dict[str, str]:
    for text in texts:
        if "=" not in text:
            raise ValueError(f"--set takes FIELD=VALUE, but got {text!r}.")
    return dict(text.split("=", 1) for text in texts)


model_help = "MODEL is a run folder, a .keras file, or the name of a variant such as mixer_b16."
weights_option = click.option("--weights", help="For the name of a variant: published set, path or hf://OWNER/REPO.")
data_dir_option = click.option("--data-dir", type=click.Path(file_okay=False), help="Folder of the TFDS datasets.")
settings_option = repeated(
    "--set",
    "settings",
    metavar="FIELD=VALUE",
    callback=_split_settings,
    help="Any field of the recipe, such as optimizer.learning_rate=0.01",
)


class EngineName(click.ParamType):
    """The name of an engine. Words in `further` are accepted too, but not mentioned."""

    name = "engine"

    def __init__(self, *further: str):
        self.further = further

    def _names(self) -> tuple[str, ...]:
        from keras_mixer.engines import ENGINES  # here, so that other commands start quickly

        return ("auto", *ENGINES)

    def get_metavar(self, param, ctx=None):
        return f"[{'|'.join(self._names())}]"

    def convert(self, value, param, ctx):
        if value not in (*self._names(), *self.further):
            self.fail(f"{value!r} is not one of {', '.join(self._names())}", param, ctx)
        return value


precision_option = click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16", "int8"]),
    default="float32",
    help="Precision of the computation. With float32, an exported file runs as it was exported.",
)


class PositiveNumber(click.FloatRange):
    """A finite number above 0. Click's own type also accepts `nan` and `inf`."""

    def __init__(self):
        super().__init__(min=0, min_open=True)

    def convert(self, value, param, ctx):
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


class Megapixels(PositiveNumber):
    """A number of megapixels. The command receives pixels."""

    def convert(self, value, param, ctx):
        return value if isinstance(value, int) else round(super().convert(value, param, ctx) * 1e6)


def max_megapixels_option(*names: str, about: str = "Largest image that is decoded", default: int | None = MAX_PIXELS):
    """Adds `--max-megapixels`, the limit on the size of images that all commands share, as `max_pixels`."""
    return click.option(
        "--max-megapixels",
        *names,
        "max_pixels",
        type=Megapixels(),
        metavar="N",
        default=default,
        show_default=False,  # Click would show pixels
        help=f"{about}, in megapixels; by default {MAX_PIXELS / 1e6:.0f}.",
    )


class PictureFile(click.Path):
    """A file with one of some suffixes. A command writes it at its end, but the path is checked at the start."""

    def __init__(self, *suffixes: str):
        super().__init__(dir_okay=False, writable=True)
        self.suffixes = suffixes

    def convert(self, value, param, ctx):
        path = os.fsdecode(super().convert(os.path.expanduser(value), param, ctx))
        if pathlib.Path(path).suffix not in self.suffixes:
            *most, last = self.suffixes
            self.fail(f"the file must end in {', '.join(most)} or {last}, but got {path}", param, ctx)
        folder = next(parent for parent in pathlib.Path(os.path.abspath(path)).parents if os.path.lexists(parent))
        if not folder.is_dir():
            self.fail(f"{path} cannot be written: {folder} is not a folder", param, ctx)
        if not os.access(folder, os.W_OK | os.X_OK):
            self.fail(f"{path} cannot be written: no permission to write to {folder}", param, ctx)
        return path


def corrupt_limit_option(images: str = "images"):
    """Adds `--corrupt-limit`, the number of unreadable images that a command leaves out."""
    return click.option(
        "--corrupt-limit",
        type=click.IntRange(min=0),
        default=0,
        metavar="N",
        help=f"Leave out up to N {images} that cannot be read, and name them.",
    )


def dataset_options(function):
    """Adds `--dataset`, `--split`, `--data-dir`, `--limit`, `--corrupt-limit` and `--max-megapixels` to a command."""
    options = (
        click.option("--dataset", metavar="NAME", help="TFDS name, or folder of images, instead of the card's."),
        click.option(
            "--split",
            metavar="SPLIT",
            help="Split, such as train[:10%]; by default test, or all images of a folder without splits.",
        ),
        data_dir_option,
        click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Read only the first N images."),
        corrupt_limit_option(),
        max_megapixels_option(),
    )
    for option in reversed(options):
        function = option(function)
    return function


def specification(card, dataset: str | None, split: str | None, data_dir: str | None):
    """Returns the card's dataset, with any given settings replaced; None if no dataset is named."""
    from keras_mixer.dataset import DatasetSpec

    given = {key: value for key, value in {"split": split, "data_dir": data_dir}.items() if value is not None}
    if dataset is not None:
        spec = DatasetSpec(dataset)
        own = _seen_in_training(card, spec)
        default = {"split": _evaluation_split(spec)} if own is None else {"split": own.split, "files": own.files}
        return dataclasses.replace(spec, **default | given)
    if card.dataset is None and given:
        raise ValueError(f"The card of {card.name!r} names no dataset: give --dataset too.")
    return card.dataset and dataclasses.replace(card.dataset, **given)


def _seen_in_training(card, spec):
    """Returns the card's dataset if `spec` is the same folder, or one that holds all images of the run's list."""
    from keras_mixer.data.sources.folder import images_of_run, is_folder_of_run
    from keras_mixer.data.sources.layout import scan

    own = card.dataset
    kept = images_of_run(own, scan(spec.name)) if spec.is_folder else None
    if kept is None:
        return None
    images = sum(map(len, kept.images.values()))
    if is_folder_of_run(own, spec.name, kept):
        return own
    if len(kept.gone) < images:
        _log.warning(
            "%s holds %d of the %d images of the run %s. They count too, though it may have trained on them.",
            spec.name,
            images - len(kept.gone),
            images,
            own.files,
        )
    return None


def _evaluation_split(spec) -> str:
    """Chooses the split of a dataset to measure on: `test`, or what is closest to it in a folder."""
    from keras_mixer.data.sources.layout import TEST, TRAIN, VALIDATION, in_role, scan

    if not spec.is_folder:
        return TEST
    layout = scan(spec.name)
    found = [*in_role(layout.sizes, TEST), *in_role(layout.sizes, VALIDATION)]
    return found[0] if found else TEST if layout.divided else TRAIN


@dataclasses.dataclass(frozen=True)
class Opened:
    """A classifier that is ready to run: `digest` tells its model and precision from others."""

    predictor: "Predictor"
    card: "ModelCard"
    digest: str


def open_classifier(
    name: str, weights: str | None, engine: str | None, precision: str, batch_size: int, *, untrained: bool = False
) -> Opened:
    """Opens a run folder, an exported file or a variant with published weights.

    Args:
        name: Path, or name of a variant.
        weights: For a variant, its weights.
        engine: What runs it. None runs a trained model on Keras, and an exported file on its own runtime.
        precision: Precision of the computation.
        batch_size: Images per call.
        untrained: Whether a variant may have random weights.
    """
    from keras_mixer import artefacts

    if engine is None and precision != "float32":
        engine = "auto"
    model, of_precision = None, "" if precision == "float32" else f" {precision}"
    if names_variant(name, weights, untrained=untrained):
        from keras_mixer.engines.conversion import digest_of

        model, card = open_variant(name, weights)
        if not card.class_names:
            names = tuple(str(index) for index in range(model.output_shape[-1]))
            card = dataclasses.replace(card, class_names=names)
        digest = digest_of(model) + of_precision
    else:
        card, digest = artefacts.load_card(name), artefacts.fingerprint(name) + of_precision
    if engine is not None:
        from keras_mixer.engines import open_engine

        with notes_shown():
            return Opened(open_engine(model or name, engine, precision, batch_size=batch_size), card, digest)
    if model is not None:
        return Opened(artefacts.keras_predictor(model), card, digest)
    # A LiteRT, ONNX or OpenVINO file needs neither Keras nor TensorFlow, which take seconds to start.
    if artefacts.find(name)[0].name in ("keras", "saved_model"):
        start_keras()
    return Opened(artefacts.open_artefact(name), card, digest)


def names_variant(model: str, weights: str | None, *, untrained: bool = False) -> bool:
    """Returns whether the argument MODEL is the name of a variant. If a file or folder has that name, it is not.

    Args:
        model: The argument.
        weights: The value of `--weights`.
        untrained: Whether a variant may have random weights.

    Raises:
        ValueError: If a variant lacks `--weights`, or anything else has them.
    """
    from keras_mixer.models.catalogue import ARCHITECTURES

    if os.path.exists(model) or model not in ARCHITECTURES:
        if weights is not None:
            raise ValueError("--weights is for the name of a variant: a trained model has its own weights.")
        return False
    if weights is None and not untrained:
        from keras_mixer.weights import available

        example = next((entry.name for entry in available(model)), "a file of weights")
        raise ValueError(f"{model} is the name of a variant: give its --weights, such as {example}.")
    return True


def open_variant(name: str, weights: str | None = None):
    """Builds a variant, and returns the model and its card.

    The card does not name a dataset. It has class names only if the weights provide them.
    """
    start_keras()
    from keras_mixer.applications import CONSTRUCTORS
    from keras_mixer.card import ModelCard
    from keras_mixer.weights import change_resolution
    from keras_mixer.weights.published.cache import set_of

    model = CONSTRUCTORS[name](weights=weights)
    if None in model.input_shape[1:]:  # a card names one size
        model = change_resolution(model, model.preprocessing.image_size)
    published = set_of(name, weights)
    return model, ModelCard(name, published.class_names if published else (), model.preprocessing)


def open_model(name: str, weights: str | None = None, *, untrained: bool = False):
    """Opens a trained model by its path, or a variant by its name (see `names_variant`), with its card."""
    start_keras()
    if names_variant(name, weights, untrained=untrained):
        return open_variant(name, weights)
    from keras_mixer.data import load_model
    from keras_mixer.models import ARCHITECTURES

    try:
        return load_model(name)
    except ValueError as error:
        if os.path.exists(name):
            raise
        raise ValueError(f"{error} Variants: {', '.join(ARCHITECTURES)}.") from error
