"""The table of export formats. To add one, write its file in this package and add its row here."""

from keras_mixer.artefacts.litert import LITERT
from keras_mixer.artefacts.onnx import ONNX
from keras_mixer.artefacts.openvino import OPENVINO
from keras_mixer.artefacts.record import Format
from keras_mixer.artefacts.saved_model import SAVED_MODEL

FORMATS: dict[str, Format] = {form.name: form for form in (SAVED_MODEL, *LITERT, ONNX, OPENVINO)}


def register(form: Format) -> Format:
    """Adds a format of your own to those that can be exported, measured and opened.

    Args:
        form: The format.

    Returns:
        `form`.

    Raises:
        ValueError: If there is a format of that name, or another one opens files with that suffix.

    Example:
        >>> coreml = Format("coreml", "model.mlpackage", write=write_coreml, open=None, needs=("coremltools",))
        >>> keras_mixer.artefacts.register(coreml)
    """
    taken = {other.name for other in FORMATS.values()} | {"keras"}
    if form.name in taken:
        raise ValueError(f"There is a format called {form.name!r} already: choose another name.")
    if form.suffix in {other.suffix for other in FORMATS.values()} | {".keras"}:
        raise ValueError(f"Another format opens {form.suffix or 'folders of versions'}: choose another suffix.")
    FORMATS[form.name] = form
    return form
