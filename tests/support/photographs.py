"""Drawn photographs as phones, cameras and programs store them.

- `photograph` draws one: an even class has red horizontal stripes, an odd one blue vertical stripes; a pale corner at the
  top left tells how it is turned.
- `turned` stores it in one of the eight EXIF orientations, so that a viewer that turns it shows the original.
- `exif` writes EXIF data in either byte order; `with_exif` puts any bytes into a JPEG, PNG or WebP file.
- `encoded` writes a photograph in any format (JPEG, MPO, PNG, WEBP, TIFF, GIF, BMP, JPEG2000, AVIF, HEIF) and any
  orientation, with its EXIF data where the format has it.
- `folder` writes a folder of photographs by class; `zoo` the odd files of every format that decoders meet.
"""

import io
import pathlib
import struct
import zlib
from collections.abc import Iterable, Mapping

import numpy as np
from PIL import Image

ORIENTATIONS = range(1, 9)
_COLOURS = ((200, 60, 60), (60, 60, 200), (60, 190, 60), (200, 200, 40), (180, 60, 200), (60, 200, 200))
# From the upright picture to what is stored; each undoes the turn of its orientation.
_STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
_BIG_ENDIAN = "MM"


def photograph(kind: int = 0, size: tuple[int, int] = (64, 48), seed: int = 0) -> Image.Image:
    """Draws a photograph of class `kind`; `size` is width and height."""
    rng = np.random.default_rng(seed * 101 + kind)
    width, height = size
    y, x = np.mgrid[:height, :width]
    along, length = (y, height) if kind % 2 == 0 else (x, width)
    wave = np.sin(along * (2 * np.pi * 4 / length) + rng.uniform(0, 6))
    pixels = np.array(_COLOURS[kind % len(_COLOURS)]) + 45 * wave[..., None] + rng.normal(0, 6, (height, width, 3))
    pixels[: height // 4, : width // 4] += 60
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """Returns the picture as a camera stores it that writes this EXIF orientation."""
    return image if orientation == 1 else image.transpose(_STORED[orientation])


def exif(orientation: int, byte_order: str = "II", others: int = 2) -> bytes:
    """Returns EXIF data, without the mark `Exif`, of `others` tags before the orientation and one behind it."""
    order = ">" if byte_order == _BIG_ENDIAN else "<"
    entries = [struct.pack(f"{order}HHLHH", 0x0100 + tag, 3, 1, 7, 0) for tag in range(others)]
    entries += [
        struct.pack(f"{order}HHLHH", tag, 3, 1, value, 0) for tag, value in ((0x0112, orientation), (0x0128, 2))
    ]
    directory = struct.pack(f"{order}H", len(entries)) + b"".join(entries) + b"\0" * 4
    return byte_order.encode() + struct.pack(f"{order}HL", 42, 8) + directory


def segment(marker: int, content: bytes) -> bytes:
    """Returns a segment of a JPEG file."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def chunk(kind: bytes, content: bytes) -> bytes:
    """Returns a chunk of a PNG file."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def after_jfif(jpeg: bytes) -> int:
    """Returns the place after the first segment of a JPEG file."""
    return 4 + struct.unpack_from(">H", jpeg, 4)[0]


def with_exif(data: bytes, content: bytes, *, late: bool = False) -> bytes:
    """Puts EXIF data into a JPEG (`late`: after other segments, XMP among them), PNG (`late`: after the pixels) or WebP."""
    if data.startswith(b"\xff\xd8"):
        app1 = segment(0xE1, b"Exif\0\0" + content)
        place = after_jfif(data) if late else 2
        xmp = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>") + segment(0xFE, b"Exif\0\0, a comment")
        return data[:place] + (xmp if late else b"") + app1 + data[place:]
    if data.startswith(b"\x89PNG"):
        place = len(data) - 12 if late else 33
        return data[:place] + chunk(b"eXIf", content) + data[place:]
    file = io.BytesIO()
    Image.open(io.BytesIO(data)).save(file, "WEBP", lossless=True, exif=content)
    return file.getvalue()


def encoded(
    image: Image.Image,
    file_format: str = "JPEG",
    orientation: int | None = None,
    byte_order: str = "II",
    late: bool = False,
    **options,
) -> bytes:
    """Returns the file of a photograph in a format and an orientation; None writes no orientation."""
    stored = image if orientation is None else turned(image, orientation)
    file = io.BytesIO()
    if file_format == "HEIF":
        import pillow_heif

        if orientation is not None:
            options["exif"] = b"Exif\0\0" + exif(orientation, byte_order)
        pillow_heif.from_pillow(stored).save(file, quality=90, **options)
        return file.getvalue()
    if file_format in ("JPEG", "MPO"):
        options = {"quality": 95} | options
    if orientation is not None and file_format in ("TIFF", "AVIF"):
        tags = Image.Exif()
        tags[0x0112] = orientation
        options["exif"] = tags
    if file_format == "TIFF":
        options["big_tiff"] = False
    stored.save(file, file_format, **options)
    data = file.getvalue()
    if orientation is not None and file_format in ("JPEG", "MPO", "PNG", "WEBP"):
        return with_exif(data, exif(orientation, byte_order), late=late)
    return data


def folder(
    root: pathlib.Path,
    layout: Mapping[str, int],
    count: int = 6,
    suffix: str = "jpg",
    file_format: str = "JPEG",
    size: tuple[int, int] = (64, 48),
    orientations: Iterable[int | None] = (None,),
) -> pathlib.Path:
    """Writes `count` photographs into each folder of a layout such as `{"train/cat": 0, "test/cat": 0}`.

    The photographs of a folder take the orientations in turn. Two folders of one class hold different photographs.
    """
    orientations = tuple(orientations)
    for place, (name, kind) in enumerate(layout.items()):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            image = photograph(kind, size, seed=100 * place + number)
            data = encoded(image, file_format, orientations[number % len(orientations)])
            (root / name / f"{number:03}.{suffix}").write_bytes(data)
    return root


def zoo(size: tuple[int, int] = (48, 32)) -> dict[str, bytes]:
    """Returns the kinds of files that decoders meet, by a name."""
    image = photograph(0, size, 3)
    grey, palette = image.convert("L"), image.convert("P", palette=Image.Palette.ADAPTIVE, colors=16)
    width, height = size
    alpha = Image.fromarray(np.tile(np.linspace(0, 255, width).astype(np.uint8), (height, 1)))
    clear, faint = image.copy(), grey.copy()
    clear.putalpha(alpha)
    faint.putalpha(alpha)
    deep = np.asarray(grey, np.uint16) << 8 | np.random.default_rng(0).integers(0, 255, (height, width), np.uint16)
    frames = [photograph(kind, size, 1).convert("P") for kind in range(3)]
    files = {
        "plain.jpg": encoded(image),
        "progressive.jpg": encoded(image, progressive=True),
        "coarse.jpg": encoded(image, quality=10),
        "grey.jpg": encoded(grey),
        "cmyk.jpg": encoded(image.convert("CMYK")),
        "full_chroma.jpg": encoded(image, subsampling=0),
        "rgb.jpg": encoded(image, keep_rgb=True),
        "trailing.jpg": encoded(image) + b"\0\0\0\x18ftypmp42" * 90,  # a motion photo
        "several.jpg": encoded(image, "MPO", save_all=True, append_images=[photograph(1, size)]),
        "late_exif.jpg": encoded(image, orientation=6, byte_order="MM", late=True),
        "plain.png": encoded(image, "PNG"),
        "grey.png": encoded(grey, "PNG"),
        "bits.png": encoded(image.convert("1"), "PNG"),
        "palette.png": encoded(palette, "PNG"),
        "palette_clear.png": encoded(palette, "PNG", transparency=0),
        "colour_clear.png": encoded(image, "PNG", transparency=image.getpixel((0, 0))),
        "clear.png": encoded(clear, "PNG"),
        "grey_clear.png": encoded(faint, "PNG"),
        "grey16.png": encoded(Image.fromarray(deep), "PNG"),
        "rgb16.png": _rgb16(np.asarray(image)),
        "frames.png": encoded(image, "PNG", save_all=True, append_images=[photograph(1, size)]),
        "trailing.png": encoded(image, "PNG") + b"more",
        "late_exif.png": encoded(image, "PNG", orientation=8, late=True),
        "still.gif": encoded(image.convert("P"), "GIF"),
        "moving.gif": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "clear.gif": encoded(palette, "GIF", transparency=3),
        "interlaced.gif": encoded(grey, "GIF", interlace=1, comment=b"c" * 600),
        "plain.bmp": encoded(image, "BMP"),
        "grey.bmp": encoded(grey, "BMP"),
        "palette.bmp": encoded(palette, "BMP"),
        "four.bmp": encoded(image.convert("RGBA"), "BMP"),
        "bits.bmp": encoded(image.convert("1"), "BMP"),
        "plain.webp": encoded(image, "WEBP", orientation=6, lossless=True),
        "clear.webp": encoded(clear, "WEBP", lossless=True, exact=True),
        "moving.webp": encoded(image, "WEBP", save_all=True, append_images=[photograph(1, size)], lossless=True),
        "plain.tiff": encoded(image, "TIFF", orientation=5),
        "packed.tiff": encoded(grey, "TIFF", compression="tiff_deflate"),
        "deep.tiff": encoded(Image.fromarray(deep), "TIFF"),
        "plain.jp2": encoded(image, "JPEG2000"),
        "plain.j2k": encoded(image, "JPEG2000", no_jp2=True),
        "plain.avif": encoded(image, "AVIF", orientation=7, quality=90),
        "plain.heic": encoded(image, "HEIF", orientation=6),
    }
    files["jpeg_named.png"], files["png_named.jpg"] = files["plain.jpg"], files["plain.png"]
    return files


def _rgb16(pixels: np.ndarray) -> bytes:
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in (pixels.astype(np.uint16) << 8) + 77)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
