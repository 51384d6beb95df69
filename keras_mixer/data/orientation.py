"""Photos that were stored turned: EXIF says how to show them, which no reader of this package asks."""

import warnings
from collections.abc import Sequence

from keras_mixer.data.warn_once import warn_once

# Of a large folder so many files at most are opened, evenly spread, and their headers read.
SAMPLE = 100

_ORIENTATION, _UPRIGHT = 0x0112, (0, 1)  # 0: not known


def warn_of_turned_photos(folder: str, paths: Sequence[str]) -> None:
    """Logs a warning if JPEGs among `paths` are stored in another orientation than that in which they are shown.

    Args:
        folder: How to call the folder in the warning.
        paths: Image files; a sample of the JPEGs is opened.
    """
    jpegs = [str(path) for path in paths if str(path).lower().endswith((".jpg", ".jpeg"))]
    sample = jpegs[:: max(1, -(-len(jpegs) // SAMPLE))]
    turned = [path for path in sample if _orientation(path) not in _UPRIGHT]
    if turned:
        warn_once(
            f"{len(turned)} of {len(sample)} JPEGs looked at in {folder} carry an EXIF orientation, as {turned[0]}. It "
            f"is not applied: they are read as they are stored, on their side. Turn them first, for example by "
            f"PIL.ImageOps.exif_transpose."
        )


def _orientation(path: str) -> int:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=("JPEG",)) as image:
                return image.getexif().get(_ORIENTATION, _UPRIGHT[0])
    except Exception:  # damaged files are counted where they are decoded
        return _UPRIGHT[0]
