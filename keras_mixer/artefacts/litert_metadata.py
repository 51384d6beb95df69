"""TFLite metadata, which tells MediaPipe and Android Studio about the classes and images of a LiteRT file.

Class names and the model's card are in a zip archive appended to the model. TFLite's tools look for associated files
there.
"""

import io
import pathlib
import zipfile

import numpy as np

from keras_mixer import wire
from keras_mixer.card import CARD_FILE, ModelCard

_NAME = "TFLITE_METADATA"
_LABELS = "labels.txt"
# Tables of TFLite's `metadata_schema.fbs`, with their fields in order up to the last one that is written. A union takes
# two fields, its type and its value.
_FIELDS = {
    "AssociatedFile": ("name", "description", "type"),
    "Content": ("type", "properties"),
    "FeatureProperties": (),
    "ImageProperties": ("color_space",),
    "ModelMetadata": (
        *("name", "description", "version", "subgraph_metadata", "author", "license"),
        *("associated_files", "min_parser_version"),
    ),
    "NormalizationOptions": ("mean", "std"),
    "ProcessUnit": ("type", "options"),
    "Stats": ("max", "min"),
    "SubGraphMetadata": ("name", "description", "input_tensor_metadata", "output_tensor_metadata"),
    "TensorMetadata": (
        "name",
        "description",
        "dimension_names",
        "content",
        "process_units",
        "stats",
        "associated_files",
    ),
}
# Values of the schema's enumerations.
_FEATURES, _IMAGE = 1, 2
_COLOURS = {3: 1, 1: 2}  # RGB, grey
_NORMALIZATION = 1
_DESCRIPTIONS, _AXIS_LABELS = 1, 2
_ALIGNMENT = 16  # of the weights, in bytes, as the schema of LiteRT files requires


def described(content: bytes, card: ModelCard) -> bytes:
    """Adds metadata, class names and the card to a LiteRT file.

    Args:
        content: The bytes of the file without metadata.
        card: The card of its model.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content)
    if any(buffer.offset for buffer in model.buffers):  # from 2 GB on, the weights follow the FlatBuffer
        return content

    class Buffer(schema.BufferT):
        """A buffer that keeps its alignment, which the generated `Pack` would lose."""

        def Pack(self, builder):  # noqa: N802
            data = None if self.data is None else _bytes(builder, np.asarray(self.data, np.uint8).tobytes())
            schema.BufferStart(builder)
            if data is not None:
                schema.BufferAddData(builder, data)
            return schema.BufferEnd(builder)

    model.buffers = [Buffer(buffer.data) for buffer in model.buffers]
    model.buffers.append(Buffer(np.frombuffer(_metadata(card), np.uint8)))
    entry = schema.MetadataT()
    entry.name, entry.buffer = _NAME, len(model.buffers) - 1
    model.metadata = [*(model.metadata or ()), entry]
    builder = flatbuffers.Builder(len(content) + 2**16)
    builder.Finish(model.Pack(builder), b"TFL3")
    file = io.BytesIO(builder.Output())
    file.seek(0, io.SEEK_END)
    with zipfile.ZipFile(file, "a") as archive:
        for name, text in {
            _LABELS: "\n".join(map(_line, card.class_names)),
            CARD_FILE: card.for_others().to_json(),
        }.items():
            archive.writestr(zipfile.ZipInfo(name), text + "\n")  # without a time, to be reproducible
    return file.getvalue()


def _line(name: str) -> str:
    return " ".join(name.split())


def embedded_card(path: pathlib.Path) -> str | None:
    """Returns the text of the card in a LiteRT file; None if there is none."""
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        return archive.read(CARD_FILE).decode() if CARD_FILE in archive.namelist() else None


def _metadata(card: ModelCard) -> bytes:
    """Returns the FlatBuffer of the metadata."""
    import flatbuffers

    builder = flatbuffers.Builder()
    preprocessing = card.preprocessing
    mean, std = (np.atleast_1d(np.asarray(value, np.float32)) for value in (preprocessing.mean, preprocessing.std))
    # MediaPipe subtracts and divides pixels on the [0, 255] scale.
    scaling = _table(builder, "NormalizationOptions", mean=255 * mean, std=255 * std)
    colours = _table(builder, "ImageProperties", color_space=_COLOURS.get(preprocessing.channels, 0))
    images = _table(
        builder,
        "TensorMetadata",
        name=wire.IMAGES,
        description=f"Image files are resized by {preprocessing.resize!r}; {CARD_FILE} in this file has the details.",
        content=_table(builder, "Content", type=_IMAGE, properties=colours),
        process_units=[_table(builder, "ProcessUnit", type=_NORMALIZATION, options=scaling)],
        stats=_table(builder, "Stats", max=(1 - mean) / std, min=-mean / std),
    )
    labels = _table(builder, "AssociatedFile", name=_LABELS, description="The class names", type=_AXIS_LABELS)
    scores = _table(
        builder,
        "TensorMetadata",
        name=wire.SCORES,
        description="One score for each class",
        content=_table(builder, "Content", type=_FEATURES, properties=_table(builder, "FeatureProperties")),
        associated_files=[labels],
    )
    described = _table(builder, "AssociatedFile", name=CARD_FILE, description="The model's card", type=_DESCRIPTIONS)
    root = _table(
        builder,
        "ModelMetadata",
        name=card.name,
        subgraph_metadata=[
            _table(builder, "SubGraphMetadata", input_tensor_metadata=[images], output_tensor_metadata=[scores])
        ],
        associated_files=[described],
        min_parser_version="1.0.0",
    )
    builder.Finish(root, b"M001")
    return bytes(builder.Output())


class _Place(int):
    """The offset at which the builder wrote a table."""


def _table(builder, table: str, /, **values: str | int | np.ndarray | list[_Place]) -> _Place:
    """Writes a table of the schema. Values may be strings, enumerators, float vectors, tables or lists of tables."""

    def written(value) -> tuple[str, int]:
        match value:
            case _Place():
                return "UOffsetTRelative", value
            case int():
                return "Int8", value
            case str():
                return "UOffsetTRelative", builder.CreateString(value)
            case np.ndarray():
                return "UOffsetTRelative", builder.CreateNumpyVector(value)
        builder.StartVector(4, len(value), 4)
        for offset in reversed(value):
            builder.PrependUOffsetTRelative(offset)
        return "UOffsetTRelative", builder.EndVector()

    fields = _FIELDS[table]
    places = {fields.index(field): written(value) for field, value in values.items()}
    builder.StartObject(len(fields))
    for slot, (kind, value) in places.items():
        getattr(builder, f"Prepend{kind}Slot")(slot, value, 0)
    return _Place(builder.EndObject())


def _bytes(builder, content: bytes) -> int:
    """Writes the bytes of a weight."""
    builder.StartVector(1, len(content), _ALIGNMENT)
    builder.head -= len(content)
    builder.Bytes[builder.head : builder.head + len(content)] = content
    return builder.EndVector()
