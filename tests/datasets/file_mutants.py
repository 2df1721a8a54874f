"""Damaged data files of every format, made by a seed; zips and gzips are damaged within as well as without."""

import gzip
import io
import pickle
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import published_sets
from image_mutants import EXTREMES
from published_sets import HELD_OUT, HELD_OUT_LABELS, IMAGES, LABELS

SMALL = IMAGES[:, :4, :4]
TEXTS = (
    b"(",
    b")",
    b"True, ",
    b"-1",
    b"<f8",
    b"|O",
    b"9" * 30,
    b"'shape': (",
    b"labels",
    b"x_test",
    b"\n",
    b"c",
    b"R",
)


def _saved(save, **arrays) -> bytes:
    stream = io.BytesIO()
    save(stream, **arrays)
    return stream.getvalue()


def _file_of(write, name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), IMAGES[:4], LABELS[:4], HELD_OUT, HELD_OUT_LABELS)
        return (Path(folder) / name).read_bytes()


def _npy(array) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


# By the name of the file: what it may hold.
ORIGINALS = {
    "a.npy": [_npy(SMALL), _npy(np.asfortranarray(SMALL / 255)), _npy(np.arange(20.0).reshape(10, 2))],
    "a.npz": [
        _saved(np.savez, images=SMALL, labels=LABELS),
        _saved(np.savez_compressed, images=SMALL, labels=LABELS),
        _saved(np.savez, x_train=SMALL, y_train=LABELS, x_test=SMALL[:2], y_test=LABELS[:2]),
    ],
    "train-images-idx3-ubyte": [published_sets.idx(SMALL[..., 0])],
    "train-images-idx3-ubyte.gz": [gzip.compress(published_sets.idx(SMALL[..., 0]), mtime=0)],
    "data_batch_1.bin": [_file_of(published_sets.cifar10_binary, "data_batch_1.bin")],
    "data_batch_1": [_file_of(published_sets.cifar10_python, "data_batch_1")],
    "train": [_file_of(published_sets.cifar100_python, "train")],
    "batches.meta": [
        _file_of(published_sets.cifar10_python, "batches.meta"),
        pickle.dumps({"label_names": ["a"]}),
    ],
}


def mutants(name: str, count: int, seed: int = 0) -> Iterator[bytes]:
    """`count` damaged files; each is determined by its number and the seed."""
    originals = ORIGINALS[name]
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        content = originals[rng.integers(len(originals))]
        if name.endswith((".npz", ".gz")) and rng.random() < 0.6:
            yield _damaged_inside(name, content, rng)
        else:
            yield _damaged(content, rng)


def _damaged_inside(name: str, content: bytes, rng: np.random.Generator) -> bytes:
    """The same archive with right checksums around what is damaged."""
    if name.endswith(".gz"):
        return gzip.compress(_damaged(gzip.decompress(content), rng), mtime=0)
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(stream, "w") as target:
        members = source.infolist()
        chosen = members[rng.integers(len(members))]
        for member in members:
            inner = source.read(member)
            target.writestr(member.filename, _damaged(inner, rng) if member is chosen else inner)
    return stream.getvalue()


def _damaged(content: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        _change(changed, rng)
    return bytes(changed)


def _change(content: bytearray, rng: np.random.Generator) -> None:
    # Two thirds of the changes are made to the ends: there the headers are, and the directory of a zip.
    end = len(content)
    anywhere, first, last = (
        rng.integers(0, end + 1),
        rng.integers(0, min(end, 150) + 1),
        end - rng.integers(250),
    )
    start = max(0, int(rng.choice([anywhere, first, last])))
    change = rng.integers(6)
    if change == 0 and start < end:
        content[start] ^= 1 << int(rng.integers(8))
    elif change == 1:
        content[start : start + int(rng.integers(1, 16))] = rng.bytes(int(rng.integers(1, 16)))
    elif change == 2:
        extreme = EXTREMES[rng.integers(len(EXTREMES))]
        content[start : start + len(extreme)] = extreme
    elif change == 3:
        text = TEXTS[rng.integers(len(TEXTS))]
        content[start : start + int(rng.integers(0, len(text) + 1))] = text
    elif change == 4:
        content[start:start] = content[start : start + 30] * int(rng.integers(1, 20))
    else:
        del content[start : start + int(rng.integers(1, 32))]
