"""Drawn photographs as phones, cameras and programs store them.

- `photograph` draws one: an even class has red horizontal stripes, an odd one blue vertical stripes. A pale corner at
  the top left tells how it is turned.
- `turned` stores it in one of the eight EXIF orientations, so that a viewer that turns it shows the original.
- `exif` writes EXIF data in either byte order; `with_exif` puts any bytes into a JPEG, PNG or WebP file.
- `encoded` writes a photograph in any format (JPEG, MPO, PNG, WEBP, TIFF, GIF, BMP, JPEG2000, AVIF, HEIF) and any
  orientation, with its EXIF data where the format has it.
- `folder` writes a folder of photographs by class; `zoo` the odd files of every format that decoders meet.
- `still_life` draws a cup or a bottle before a background; `phone_folder` writes such photographs as a phone leaves
  them, among the other files that such folders have.
"""

import importlib.util
import io
import pathlib
import struct
import zlib
from collections.abc import Iterable, Mapping

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

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
    for tag, value in ((0x0112, orientation), (0x0128, 2)):
        entries.append(struct.pack(f"{order}HHLHH", tag, 3, 1, value, 0))
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
    """Puts EXIF data into a JPEG, PNG or WebP file.

    `late` puts it behind other segments of a JPEG, XMP and a misleading comment among them, or behind a PNG's pixels.
    """
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


def still_life(kind: int, size: tuple[int, int] = (4000, 3000), seed: int = 0) -> Image.Image:
    """Draws a cup (an even `kind`) or a bottle at a random place, size, slant and colour, in a random light."""
    rng = np.random.default_rng([seed, kind])
    drawn = min(800, 2 * max(size)) / max(size)  # small, because it is quicker and a phone's lens is soft too
    width, height = (round(side * drawn) for side in size)
    image = _background(rng, width, height)
    thing = (_cup if kind % 2 == 0 else _bottle)(rng).rotate(rng.uniform(-20, 20), Image.Resampling.BICUBIC)
    side = round(min(width, height) * rng.uniform(0.7, 1.0))
    thing = thing.resize((side, side), Image.Resampling.LANCZOS)
    left, top = ((length - side) // 2 + round(rng.uniform(-0.12, 0.12) * length) for length in (width, height))
    image.paste(thing, (left, top), thing)
    # A light that falls off in some direction, then the noise of the sensor.
    y, x = np.mgrid[:height, :width] / max(width, height) - 0.5
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.8)
    light = rng.uniform(0.6, 1.1) * (1 + strength * (x * np.cos(angle) + y * np.sin(angle)))
    lit = np.clip(np.asarray(image) * light[..., None], 0, 255).astype(np.uint8)
    image = Image.fromarray(lit).resize(size, Image.Resampling.BICUBIC)
    grain = rng.normal(128, rng.uniform(3, 12), (300, 400)).clip(0, 255).astype(np.uint8)
    noise = Image.fromarray(grain).resize(size, Image.Resampling.NEAREST)
    return ImageChops.add(image, Image.merge("RGB", [noise] * 3), 1, -128)


def _colour(rng, low: int = 20, high: int = 235) -> tuple[int, ...]:
    return tuple(int(value) for value in rng.integers(low, high, 3))


def _background(rng, width: int, height: int) -> Image.Image:
    """A wall, a table and some blurred things."""
    image = Image.new("RGB", (width, height), _colour(rng))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, round(height * rng.uniform(0.5, 0.85)), width, height), _colour(rng))
    for _ in range(rng.integers(3, 12)):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        across, down = rng.uniform(0.02, 0.3, 2) * width
        shape = (draw.rectangle, draw.ellipse)[rng.integers(2)]
        shape((x - across / 2, y - down / 2, x + across / 2, y + down / 2), _colour(rng))
    return image.filter(ImageFilter.GaussianBlur(width / 80))


def _cup(rng) -> Image.Image:
    thing = Image.new("RGBA", (600, 600))
    draw = ImageDraw.Draw(thing)
    colour, dark = _colour(rng, 60), _colour(rng, 10, 70)
    half, foot, top, floor = rng.uniform(130, 170), rng.uniform(90, 125), rng.uniform(170, 210), rng.uniform(410, 450)
    side = rng.choice([-1, 1])
    handle = sorted((300 + side * (half - 45), 300 + side * (half + 85)))
    draw.ellipse((handle[0], top + 45, handle[1], floor - 55), outline=colour, width=26)
    draw.polygon([(300 - half, top), (300 + half, top), (300 + foot, floor), (300 - foot, floor)], colour)
    draw.ellipse((300 - foot, floor - 25, 300 + foot, floor + 25), colour)
    draw.ellipse((300 - half, top - 38, 300 + half, top + 38), colour)
    draw.ellipse((300 - half + 14, top - 26, 300 + half - 14, top + 30), dark)
    return thing


def _bottle(rng) -> Image.Image:
    thing = Image.new("RGBA", (600, 600))
    draw = ImageDraw.Draw(thing)
    colour = _colour(rng, 40)
    half, neck, shoulder = rng.uniform(62, 88), rng.uniform(20, 30), rng.uniform(200, 260)
    draw.rounded_rectangle((300 - half, shoulder, 300 + half, 560), 24, colour)
    draw.ellipse((300 - half, shoulder - 70, 300 + half, shoulder + 70), colour)
    draw.rectangle((300 - neck, 70, 300 + neck, shoulder), colour)
    draw.rectangle((300 - neck - 5, 40, 300 + neck + 5, 82), _colour(rng))
    draw.rectangle((300 - half, 340, 300 + half, 470), _colour(rng, 120, 250))
    return thing


def phone_folder(root: pathlib.Path, count: int = 300, size: tuple[int, int] = (4000, 3000)) -> pathlib.Path:
    """Writes `count` photographs to the folders `cups` and `bottles`, and what else phones and computers leave there.

    Three of five have an EXIF orientation. Two photographs of each class are there twice, one file is cut short, and
    two are HEIC if pillow-heif is installed.
    """
    for kind, name in enumerate(("cups", "bottles")):
        (root / name).mkdir(parents=True)
        for number in range(count // 2):
            data = phone_photograph(kind, number, size)
            path = root / name / f"IMG_{1000 + 2 * number + kind}.{'JPG' if number % 3 else 'jpg'}"
            path.write_bytes(data)
            if number in (2, 5):
                (root / name / f"{path.stem} (1).jpg").write_bytes(data)
    whole = phone_photograph(0, 4000, size)
    (root / "cups" / "IMG_2998.jpg").write_bytes(whole[: len(whole) // 3])
    if importlib.util.find_spec("pillow_heif"):
        for kind, name in enumerate(("cups", "bottles")):
            heic = encoded(still_life(kind, size, seed=5000), "HEIF", 6)
            (root / name / f"IMG_{3000 + kind}.HEIC").write_bytes(heic)
    (root / ".DS_Store").write_bytes(b"\0\0\0\1Bud1" + b"\0" * 100)
    (root / "bottles" / "notes.txt").write_text("bottles of last week\n")
    (root / "cups" / "IMG_1004.MOV").write_bytes(b"\0\0\0\x14ftypqt  " + b"\0" * 500)
    return root


def phone_photograph(kind: int, seed: int, size: tuple[int, int] = (4000, 3000)) -> bytes:
    """Returns a JPEG whose sensor has this size; three of five have an EXIF orientation, from 2 to 8 in turn."""
    orientation = 2 + (seed // 5 * 3 + seed % 5) % 7 if seed % 5 < 3 else None
    upright = size[::-1] if orientation is not None and orientation >= 5 else size
    image = still_life(kind, upright, seed)
    return encoded(image, "JPEG", orientation, byte_order=("II", "MM")[seed % 2], quality=90)
