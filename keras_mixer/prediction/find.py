"""From what a user names to shards of images: files, folders, globs and parquet files."""

import logging
import os
from collections.abc import Iterable, Iterator

from keras_mixer.data.image_files import IMAGE_SUFFIXES
from keras_mixer.prediction.locations import Location, expand
from keras_mixer.prediction.shards import FileShard, ParquetShard, Shard

PARQUET_SUFFIX = ".parquet"
ROW_NUMBERS = "none"  # instead of the name of a column

_log = logging.getLogger(__name__)


def find_images(
    patterns: Iterable[str],
    *,
    image_column: str | None = None,
    id_column: str | None = None,
    leave_out: Location | None = None,
) -> list[Shard]:
    """Finds images.

    Args:
        patterns: Paths or URIs of image files, of folders with images or parquet files at any depth, of parquet files,
            and globs of all these. A file that is named itself may have any suffix.
        image_column: Column of encoded images in parquet files, with dots into its fields; None for the only one of
            bytes.
        id_column: Column of unique names in parquet files; None for `path` or `id` if there is one, else the file with
            the number of the row; "none" for the latter in any case.
        leave_out: A folder whose files are none of the images.

    Returns:
        Shards of them, each image once; an absolute path or URI names each file. A warning counts the files of folders
        that end otherwise.

    Raises:
        ValueError: If a folder or glob holds no image, a file that is named is not there, or a parquet file lacks the
            columns or repeats a name.
        OSError: If something cannot be read.
    """
    files: dict[str, Location] = {}
    tables: dict[str, Location] = {}
    inside = None if leave_out is None else leave_out.name.rstrip("/") + "/"
    for pattern in patterns:
        found: list[Location] = []
        others: list[Location] = []
        for place in expand(os.fspath(pattern)):
            for file, wanted in _files_at(place):
                if inside is None or not file.name.startswith(inside):
                    (found if wanted else others).append(file)
        if not found:
            kinds = ", ".join((*IMAGE_SUFFIXES, PARQUET_SUFFIX))
            outside = "" if leave_out is None else f" outside {leave_out.name}"
            raise ValueError(f"{pattern} holds no images: expected files that end in {kinds}{outside}.")
        if others:
            first = ", ".join(file.name for file in others[:3])
            _log.warning(f"In {pattern} {len(others)} files are no JPEG, PNG or GIF and are left out. First: {first}.")
        for file in found:
            (tables if _is_table(file) else files)[file.name] = file
    shards: list[Shard] = [FileShard(tuple(files.values()), tuple(files))] if files else []
    for table in tables.values():
        shards += _row_groups(table, image_column, id_column)
    _check_unique(shards)
    return shards


def _files_at(place: Location) -> Iterator[tuple[Location, bool]]:
    """The files at a place, and whether each is wanted: what is named itself, and images and tables of a folder."""
    place = place.looked_up()
    if place.is_folder():
        for file in place.files():
            yield file, file.path.lower().endswith((*IMAGE_SUFFIXES, PARQUET_SUFFIX))
    elif place.exists():
        yield place, True
    else:
        raise ValueError(f"There is no file or folder {place.name}.")


def _is_table(file: Location) -> bool:
    return file.path.lower().endswith(PARQUET_SUFFIX)


def _row_groups(table: Location, image_column: str | None, id_column: str | None) -> list[Shard]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with table.filesystem.open_input_file(table.path) as file:
            parquet = pq.ParquetFile(file)
            schema = parquet.schema_arrow
            images, ids = _image_column(table, schema, image_column), _id_column(table, schema, id_column)
            shards: list[Shard] = []
            before = 0
            for group in range(parquet.num_row_groups):
                rows = parquet.metadata.row_group(group).num_rows
                if ids is None:
                    names = [f"{table.name}#{row}" for row in range(before, before + rows)]
                else:
                    names = _names(table, ids, parquet.read_row_group(group, [ids]).column(0).to_pylist())
                shards.append(ParquetShard(table, group, tuple(range(rows)), images, tuple(names)))
                before += rows
            return shards
    except pa.ArrowInvalid as error:
        raise ValueError(f"{table.name} cannot be read as a parquet file: {error}") from error


def _image_column(table: Location, schema, wanted: str | None) -> str:
    columns = _columns_of_bytes(schema)
    if wanted is not None:
        within = [column for column in columns if column == wanted or column.startswith(f"{wanted}.")]
        columns = [wanted] if wanted in within else within
    if len(columns) != 1:
        raise ValueError(
            f"{table.name} has {len(columns)} columns of bytes{'' if wanted is None else f' called {wanted!r}'} where "
            f"one is expected to hold the encoded images. Its columns: {', '.join(map(str, schema))}. Name one by "
            f"--image-column."
        )
    return columns[0]


def _columns_of_bytes(fields, prefix: str = "") -> list[str]:
    """Dotted names of the binary columns, those in records included: `image.bytes` is what some libraries write."""
    import pyarrow as pa

    found = []
    for field in fields:
        if pa.types.is_struct(field.type):
            found += _columns_of_bytes(field.type, f"{prefix}{field.name}.")
        elif pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type):
            found.append(prefix + field.name)
    return found


def _id_column(table: Location, schema, wanted: str | None) -> str | None:
    if wanted is None:
        return next((name for name in ("path", "id") if name in schema.names), None)
    if wanted == ROW_NUMBERS:
        return None
    if wanted not in schema.names:
        raise ValueError(f"{table.name} has no column {wanted!r}, only {', '.join(schema.names)}.")
    return wanted


def _names(table: Location, column: str, values: list) -> list[str]:
    for value in values:
        if value is None or isinstance(value, bytes):
            kind = "no value" if value is None else f"the bytes {value!r}"
            raise ValueError(
                f"{table.name} has {kind} in the column {column!r}, where each image has its name. Name a column of "
                f"text or numbers by --id-column, or number the rows by --id-column {ROW_NUMBERS}."
            )
    return [str(value) for value in values]


def _check_unique(shards: list[Shard]) -> None:
    seen: set[str] = set()
    for shard in shards:
        for name in shard.names:
            if name in seen:
                raise ValueError(
                    f"Two images are called {name!r}, so their predictions could not be told apart. Name a column of "
                    f"unique values by --id-column, or number the rows by --id-column {ROW_NUMBERS}."
                )
            seen.add(name)
