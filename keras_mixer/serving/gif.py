"""The size of a GIF's first frame, which is the one that exported graphs decode.

Its blocks are followed and nothing is decompressed (GIF89a specification, section 12 onwards). Pillow would tell the
canvas's size, which says nothing of the frame's, and follow any number of blocks.
"""

import struct

# As exported graphs: of up to 255 bytes each, 32 MB together, but a file of many tiny ones may not hold a server up.
MAX_BLOCKS = 2**17

_EXTENSION, _FRAME = 0x21, 0x2C
_HEADER_SIZE, _FLAGS = 13, 10


def is_gif(data: bytes) -> bool:
    """Whether `data` begins as a GIF does."""
    return data.startswith(b"GIF8")


def first_frame_size(data: bytes) -> tuple[int, int]:
    """Returns the width and height that a GIF declares for its first frame.

    Raises:
        ValueError: If there is no frame, the file ends before its size, or more than `MAX_BLOCKS` blocks precede it.
    """
    try:
        start = _first_frame(data)
        return struct.unpack_from("<HH", data, start + 5)
    except (IndexError, struct.error):
        raise ValueError("the file ends before its first frame") from None


def _first_frame(data: bytes) -> int:
    """The byte at which the first frame's header begins."""
    flags = data[_FLAGS]
    at = _HEADER_SIZE + (6 << (flags & 7) if flags & 0x80 else 0)  # the colours of the whole file
    blocks = 0
    while data[at] == _EXTENSION:
        at += 2
        # Each block is its size and as many bytes; the last one's size is 0.
        while True:
            size = data[at]
            at, blocks = at + 1 + size, blocks + 1
            if blocks > MAX_BLOCKS:
                raise ValueError(f"more than {MAX_BLOCKS:,} blocks precede its first frame")
            if size == 0:
                break
    if data[at] != _FRAME:
        raise ValueError("it holds no frame")
    return at
