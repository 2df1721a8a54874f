"""Damaged image files, made by a seed: bytes changed, cut out, put in, and sizes that claim too much."""

import struct
import zlib
from collections.abc import Iterator

import numpy as np
from image_examples import KINDS, encoded, photograph

EXTREMES = (
    b"\0",
    b"\xff",
    b"\x7f\xff",
    b"\xff\xff",
    b"\0\0\0\0",
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    b"\0\1\0\0",
    b"\0\0\x10\0",
)


def originals(ending: str) -> list[bytes]:
    """Small images of a format, one of each kind, and what else the format can hold."""
    rng = np.random.default_rng(0)
    images = [
        encoded(photograph(rng, 24, 16, mode), kind, **options)
        for kind, mode, options in KINDS
        if kind == ending
    ]
    frames = [photograph(rng, 24, 16) for _ in range(3)]
    if ending in ("png", "webp", "gif", "tif"):
        images.append(encoded(frames[0], ending, save_all=True, append_images=frames[1:]))
    if ending == "ppm":
        numbers = " ".join(map(str, np.asarray(frames[0]).ravel().tolist()))
        images += [f"P3\n# plain\n24 16\n255\n{numbers}\n".encode(), b"P5 24 16 4095\n" + bytes(768)]
    return images


def mutants(ending: str, count: int, seed: int = 0) -> Iterator[bytes]:
    """`count` damaged images of a format; each is determined by its number and the seed."""
    images = originals(ending)
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        content = damaged(images[rng.integers(len(images))], rng)
        yield _with_checksums(content) if ending == "png" and rng.random() < 0.8 else content


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """`content` with up to four changes of any kind."""
    changed = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        _change(changed, rng)
    return bytes(changed)


def _change(content: bytearray, rng: np.random.Generator) -> None:
    # Half of the changes are made to the first hundred bytes: headers are where the harm is done.
    end = len(content) if rng.random() < 0.5 else min(len(content), 100)
    start = int(rng.integers(0, max(1, end)))
    length = int(rng.integers(1, 32))
    change = rng.integers(6)
    if change == 0 and content:
        content[min(start, len(content) - 1)] ^= 1 << int(rng.integers(8))
    elif change == 1:
        content[start : start + length] = rng.bytes(length)
    elif change == 2:
        extreme = EXTREMES[rng.integers(len(EXTREMES))]
        content[start : start + len(extreme)] = extreme
    elif change == 3:
        del content[start : start + length]
    elif change == 4:
        content[start:start] = content[start : start + length] * int(rng.integers(1, 40))
    elif content and rng.random() < 0.3:
        del content[int(rng.integers(1, len(content) + 1)) :]


def _with_checksums(content: bytes) -> bytes:
    """A PNG with right checksums as far as it has chunks, so that the damage comes through to the decoder."""
    fixed, index = bytearray(content), 8
    while index + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, index)
        if index + 12 + length > len(content):
            break
        fixed[index + 8 + length : index + 12 + length] = struct.pack(
            ">I", zlib.crc32(content[index + 4 : index + 8 + length])
        )
        index += 12 + length
    return bytes(fixed)
