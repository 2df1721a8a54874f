"""Data in files, of every format that is read, and files that cannot be used; each function returns the path."""

import gzip
import os
import struct

import numpy as np
from PIL import Image


def random_bytes(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def write_idx(path, array, sizes=None):
    """sizes: of the header, if they are not those of the array."""
    sizes = array.shape if sizes is None else sizes
    magic = bytes([0, 0, 8, array.ndim])
    content = magic + struct.pack(f">{len(sizes)}I", *sizes) + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def write_png(path, pixels):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path.parent


# ---- usable: (folder for the files) → the path of the data


def colour_images(folder):
    for i, pixels in enumerate(random_bytes(12, 8, 8, 3)):
        write_png(folder / "images" / f"{i}.png", pixels)
    return folder / "images"


def idx_folder(folder):
    write_idx(folder / "train-images-idx3-ubyte.gz", random_bytes(30, 8, 8))
    write_idx(folder / "train-labels-idx1-ubyte", random_bytes(30) % 3)
    return folder


def npz_of_four_channels(folder):
    np.savez(folder / "a.npz", images=np.random.default_rng(0).random((20, 4, 4, 4)))
    return folder / "a.npz"


def npy_of_two_channels(folder):
    np.save(folder / "a.npy", np.random.default_rng(0).random((20, 4, 4, 2)))
    return folder / "a.npy"


def npy_of_points_in_5d(folder):
    np.save(folder / "a.npy", np.random.default_rng(0).standard_normal((20, 5)))
    return folder / "a.npy"


SHAPES = {  # of one sample
    colour_images: (8, 8, 3),
    idx_folder: (8, 8, 1),
    npz_of_four_channels: (4, 4, 4),
    npy_of_two_channels: (4, 4, 2),
    npy_of_points_in_5d: (5,),
}

# ---- unusable


def missing(folder):
    return folder / "none.npy"


def file_with(name, content):
    def make(folder):
        (folder / name).write_bytes(content)
        return folder / name

    return make


def empty_folder(folder):
    (folder / "empty").mkdir()
    return folder / "empty"


def truncated_npy(folder):
    np.save(folder / "a.npy", np.ones((9, 2)))
    os.truncate(folder / "a.npy", 200)
    return folder / "a.npy"


def truncated_npz(folder):
    np.savez(folder / "a.npz", images=np.random.default_rng(0).random((9, 4, 4)))
    os.truncate(folder / "a.npz", 400)
    return folder / "a.npz"


def truncated_gz(folder):
    path = write_idx(folder / "images-idx3-ubyte.gz", random_bytes(9, 8, 8))
    os.truncate(path, path.stat().st_size // 2)
    return path


def idx_with_header(*sizes):
    """An IDX file of 9 × 8 × 8 bytes whose header declares other sizes."""

    def make(folder):
        return write_idx(folder / "images-idx3-ubyte", np.ones((9, 8, 8), np.uint8), sizes)

    return make


def nan_points(folder):
    np.save(folder / "a.npy", np.array([[1.0], [np.nan], [2.0]]))
    return folder / "a.npy"


def images_of_unequal_size(folder):
    write_png(folder / "p" / "4.png", np.zeros((4, 4), np.uint8))
    return write_png(folder / "p" / "5.png", np.zeros((5, 5), np.uint8))


UNUSABLE = {
    "missing": missing,
    "empty folder": empty_folder,
    "empty": file_with("empty.npy", b""),
    "foreign": file_with("notes.txt", b"hello, this is no data at all"),
    "garbage": file_with("a.npy", b"\x93NUMPY\x01\x00 garbage"),
    "truncated npy": truncated_npy,
    "truncated npz": truncated_npz,
    "truncated gz": truncated_gz,
    "idx with too few bytes": idx_with_header(10, 8, 8),
    "idx with too many bytes": idx_with_header(8, 8, 8),
    "idx of terabytes": idx_with_header(2**32 - 1, 2**32 - 1, 2**32 - 1),
    "nan": nan_points,
    "unequal sizes": images_of_unequal_size,
}
