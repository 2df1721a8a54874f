"""Whether a PNG is whole: its checksums, its end, its palette and the number of its rows. Pillow checks none of these.

The format: "Portable Network Graphics (PNG) Specification (Third Edition)", W3C, sections 5, 7, 8 and 11.
"""

import struct
import zlib

BLOCK = 1 << 20
SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type: grey, RGB, palette, grey and alpha, RGB and alpha
# The passes of an interlaced PNG: the first column and row, and the steps from one to the next.
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def check_png(content: bytes) -> None:
    """Raises ValueError for a PNG that is cut short, has a wrong checksum, or lacks its palette or rows of pixels."""
    view, index = memoryview(content), len(SIGNATURE)
    header, pixels, kind = b"", list[memoryview](), b""
    palette = False
    while kind != b"IEND":
        if len(content) < index + 12:
            raise ValueError("the PNG is cut short")
        length, kind = struct.unpack_from(">I4s", content, index)
        body, index = view[index + 8 : index + 8 + length], index + 12 + length
        if view[index - 4 : index] != struct.pack(">I", zlib.crc32(body, zlib.crc32(kind))):
            raise ValueError("the PNG is cut short, or a checksum in it is wrong")
        if kind == b"IHDR":
            header = bytes(body)
        palette |= kind == b"PLTE"
        if kind == b"IDAT":
            pixels.append(body)
    if len(header) != 13:
        raise ValueError("the PNG has no header")
    if header[9] == 3 and not palette:
        raise ValueError("the PNG has no palette")
    if _inflates_to_less(pixels, _bytes_of_pixels(header)):
        raise ValueError("the PNG lacks rows of pixels")


def _bytes_of_pixels(header: bytes) -> int:
    """The bytes of all rows, each with the one of its filter."""
    width, height, bits, colour, interlaced = struct.unpack(">IIBBxxB", header)
    bits *= CHANNELS.get(colour, 0)
    total = 0
    for x, y, dx, dy in PASSES if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-max(0, width - x) // dx), -(-max(0, height - y) // dy)
        total += rows * (1 + (columns * bits + 7) // 8) if columns else 0
    return total


def _inflates_to_less(chunks: list[memoryview], expected: int) -> bool:
    inflater, found = zlib.decompressobj(), 0
    for chunk in chunks:
        waiting: bytes | memoryview = chunk
        while waiting and not inflater.eof and found < expected:
            found += len(inflater.decompress(waiting, BLOCK))
            waiting = inflater.unconsumed_tail
    while not inflater.eof and found < expected and (rest := inflater.decompress(b"", BLOCK)):
        found += len(rest)
    return found < expected
