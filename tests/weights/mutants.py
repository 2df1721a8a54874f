"""Damaged files, and what reading them takes."""

import random
import tracemalloc

LIMIT = 4 << 20  # bytes, far above what reading a small file takes, far below what a header may claim


def mutants(content: bytes, count: int, important: int):
    """Copies with bytes changed, cut, repeated or moved, most of them among the first or last `important` bytes."""
    rng = random.Random(0)
    for _ in range(count):
        changed = bytearray(content)
        for _ in range(rng.choice((1, 1, 2, 8))):
            near = rng.randrange(min(important, len(changed)))
            at = rng.choice((near, len(changed) - 1 - near, rng.randrange(len(changed))))
            kind = rng.randrange(6)
            if kind == 0:
                changed[at] ^= 1 << rng.randrange(8)
            elif kind == 1:
                changed[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, *b'0919{}[]",:bR.\x85\x86'))
            elif kind == 2:
                del changed[at : at + rng.choice((1, 2, 9, 100))]
            elif kind == 3:
                changed[at:at] = bytes(rng.randrange(256) for _ in range(rng.choice((1, 4, 8))))
            elif kind == 4:
                changed[at:at] = changed[at : at + rng.choice((1, 8, 60))]
            else:
                changed[at : at + 4] = b"\xff\xff\xff\x7f"
            if not changed:
                changed = bytearray(b"\0")
        yield bytes(changed)


def outcomes(read, path, contents):
    """What `read(path)` raised for each content, or None; asserts that it is one line and took little memory."""
    found = []
    tracemalloc.start()
    try:
        for content in contents:
            path.write_bytes(content)
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            try:
                read(path)
                found.append(None)
            except ValueError as error:
                message = str(error)
                assert "\n" not in message and str(path.parent) in message and len(message) < 600, message
                found.append(message)
            assert tracemalloc.get_traced_memory()[1] - before < LIMIT
    finally:
        tracemalloc.stop()
    return found
