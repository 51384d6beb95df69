"""The table of formats, and functions that open a trained classifier in any of them.

To add a format, write its file in this package and add its row to `FORMATS`.
"""

import hashlib
import os
import pathlib
from collections.abc import Mapping

from keras_mixer import wire
from keras_mixer.artefacts.coreml import COREML
from keras_mixer.artefacts.litert import LITERT
from keras_mixer.artefacts.onnx import ONNX
from keras_mixer.artefacts.openvino import OPENVINO, OPENVINO_INT8
from keras_mixer.artefacts.predictor import Predictor, Scores, keras_predictor
from keras_mixer.artefacts.record import Format, files_in
from keras_mixer.artefacts.saved_model import SAVED_MODEL
from keras_mixer.artefacts.web import WEB
from keras_mixer.card import CARD_FILE, ModelCard, check_ended


def _write_keras(model, path: pathlib.Path, card, _samples) -> pathlib.Path:
    from keras_mixer.data import save_model

    save_model(model, card, path.parent)
    return path


def _open_keras(path: pathlib.Path, _threads: int | None) -> Scores:
    from keras_mixer.data import load_model

    return keras_predictor(load_model(path)[0]).scores


# The file that training writes. It is opened and measured like an export, but it is not an export format.
KERAS_FILE = Format("keras", "model.keras", _write_keras, _open_keras, card="{stem}.json")
_EXPORTED = (SAVED_MODEL, *LITERT, ONNX, OPENVINO, OPENVINO_INT8, COREML, WEB)
FORMATS: dict[str, Format] = {form.name: form for form in _EXPORTED}


def register(form: Format) -> Format:
    """Adds a format of your own to those that can be exported, measured and opened.

    Args:
        form: The format.

    Returns:
        `form`.

    Raises:
        ValueError: If another format has that name or opens files with that suffix.

    Example:
        >>> hailo = Format("hailo", "model.hef", write=write_hailo, open=None, needs_to_write=("hailo_sdk_client",))
        >>> keras_mixer.artefacts.register(hailo)
    """
    others = (KERAS_FILE, *FORMATS.values())
    if form.name in {other.name for other in others}:
        raise ValueError(f"There is a format called {form.name!r} already: choose another name.")
    if form.suffix in {other.suffix for other in others}:
        raise ValueError(f"Another format opens {form.suffix or 'folders of versions'}: choose another suffix.")
    FORMATS[form.name] = form
    return form


def open_artefact(path: str | os.PathLike, *, threads: int | None = None) -> Predictor:
    """Opens a model: a run folder, a `.keras` file, or a file or folder that `keras-mixer export` wrote.

    Args:
        path: The model. For a folder of numbered versions, as TF Serving reads it, the newest version is opened.
        threads: CPU threads of LiteRT, ONNX Runtime and OpenVINO; None for the runtime's own choice.

    Returns:
        The classifier. Opening a LiteRT, ONNX or OpenVINO file imports neither Keras nor TensorFlow.

    Raises:
        ValueError: If there is no model at `path`, or it is damaged.
        ImportError: If the runtime is not installed.

    Example:
        >>> keras_mixer.artefacts.open_artefact("saved_models/digits/model.tflite").scores(images).argmax(axis=1)
    """
    form, path = find(path)
    return form.opened(path, threads)


def open_classifier(path: str | os.PathLike, *, threads: int | None = None) -> tuple[Predictor, ModelCard]:
    """Opens a model as `open_artefact` does, together with the card that says what its scores mean.

    Args:
        path: A run folder or a `.keras` file with its card; a SavedModel, whose assets hold the card, or a folder of
            its versions; or another exported file, such as LiteRT, ONNX or OpenVINO, with a card inside or with
            `model.json` beside it.
        threads: See `open_artefact`.

    Raises:
        ValueError: If there is no model or no card at `path`, or one of them is damaged.
        ImportError: If the runtime is not installed.
    """
    form, path = find(path)
    return form.opened(path, threads), _card(form, path)


def load_card(path: str | os.PathLike) -> ModelCard:
    """Reads only the card of a model that `open_classifier` could open.

    Raises:
        ValueError: If there is no model at `path`, or its card is missing or unreadable.
    """
    return _card(*find(path))


def find(path: str | os.PathLike) -> tuple[Format, pathlib.Path]:
    """Finds the model at a path.

    Returns:
        The model's format and its file or folder: `model.keras` in a run folder, or the newest version in a folder of
        versions.

    Raises:
        ValueError: If there is no model at `path`.
    """
    path = pathlib.Path(os.path.expanduser(path))
    forms = {form.suffix: form for form in reversed([KERAS_FILE, *FORMATS.values()])}  # of one suffix, the first wins
    expected = f"a run folder, a SavedModel folder or a file in {', '.join(sorted(filter(None, forms)))}"
    if not path.exists():
        raise ValueError(f"There is no model at {path}: expected {expected}.")
    if (path / KERAS_FILE.file).is_file():
        return KERAS_FILE, path / KERAS_FILE.file
    if path.suffix and path.suffix in forms:
        return forms[path.suffix], path
    if path.is_file():
        raise ValueError(f"{path} is not a model: expected {expected}.")
    check_ended(path)
    return SAVED_MODEL, newest_version(path)


def newest_version(folder: pathlib.Path) -> pathlib.Path:
    """Returns the SavedModel in `folder`: itself, or the highest of the numbered versions in it.

    Raises:
        ValueError: If there is none.
    """
    if (folder / wire.SAVED_MODEL_FILE).is_file():
        return folder
    versions = wire.versions_in(folder)
    if not versions:
        raise ValueError(
            f"{folder} holds no SavedModel: neither {wire.SAVED_MODEL_FILE} nor a numbered version with one. A run "
            f"folder would hold {KERAS_FILE.file}."
        )
    return versions[max(versions)]


def _card(form: Format, path: pathlib.Path) -> ModelCard:
    file = form.card_of(path)
    if not file.is_file():
        if form.embedded_card and (text := form.embedded_card(path)):
            return ModelCard.from_json(text)
        raise ValueError(f"{path} has no card: expected {file}, as training and `keras-mixer export` write it.")
    card, beside = ModelCard.load(file), path.parent / CARD_FILE
    if form is SAVED_MODEL and beside.is_file():
        # Only the card beside the versions records the folder of the dataset.
        whole = ModelCard.load(beside)
        return whole if whole.for_others() == card else card
    return card


def model_files(path: str | os.PathLike) -> dict[str, pathlib.Path]:
    """Lists the files that `open_classifier` reads. Keys are names in the model's folder; the model comes first.

    Raises:
        ValueError: If there is no model at `path`.
    """
    form, path = find(path)
    base, parts = (path.parent, [*form.parts(path), form.card_of(path)]) if form.file else (path, [path])
    return {str(file.relative_to(base)): file for part in parts for file in files_in(part)}


def fingerprint(path: str | os.PathLike) -> str:
    """Returns the sha256 of a model's files and their names."""
    digest = hashlib.sha256()
    for name, file in sorted(model_files(path).items()):
        with open(file, "rb") as opened:
            digest.update(f"{name}\n{hashlib.file_digest(opened, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def packed(path: str | os.PathLike) -> dict[str, bytes]:
    """Returns the contents of a model's files, so that they can be sent to another machine."""
    return {name: file.read_bytes() for name, file in model_files(path).items()}


def unpacked(files: Mapping[str, bytes], folder: str | os.PathLike) -> pathlib.Path:
    """Writes the result of `packed` into a folder. Returns the path that `open_classifier` takes."""
    folder = pathlib.Path(folder)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    # If the model is a folder, its name is the first part of every path.
    return folder if wire.SAVED_MODEL_FILE in files else folder / pathlib.PurePath(next(iter(files))).parts[0]
