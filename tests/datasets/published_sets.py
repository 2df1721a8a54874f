"""CIFAR, MNIST, and the archives of Keras and MedMNIST as they are published, with the given images of 32 × 32."""

import gzip
import pickle
import struct

import numpy as np

RNG = np.random.default_rng(3)
IMAGES = RNG.integers(0, 256, (6, 32, 32, 3), np.uint8)
LABELS = np.array([2, 0, 1, 1, 0, 2])
HELD_OUT = RNG.integers(0, 256, (2, 32, 32, 3), np.uint8)
HELD_OUT_LABELS = np.array([1, 2])
NAMES = ("ant", "bee", "cat")


def rows_of(images):
    """Images as CIFAR has them: red, green and blue planes."""
    return np.ascontiguousarray(np.moveaxis(images, -1, 1)).reshape(len(images), -1)


def idx(array):
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def pickled_by_python_2(value):
    """`value` as Python 2 pickles it with protocol 2: text is bytes, and an array is rebuilt and given its state."""
    return b"\x80\x02" + _instructions(value) + b"."


def _instructions(value):
    if isinstance(value, bytes):
        short = len(value) < 256
        return (b"U" + bytes([len(value)]) if short else b"T" + struct.pack("<i", len(value))) + value
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, list):
        return b"](" + b"".join(map(_instructions, value)) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(_instructions(item) for pair in value.items() for item in pair) + b"u"
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shape = b"".join(_instructions(size) for size in value.shape) + b"\x86"
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    return empty + b"(K\x01" + shape + dtype + b"\x89" + _instructions(value.tobytes()) + b"tb"


# ---- (folder, images, labels, images to hold out, their labels) → the path of the set


def cifar10_binary(folder, images, labels, held_out, held_out_labels):
    halves = np.array_split(np.arange(len(images)), 2)
    for number, rows in enumerate(halves, 1):
        _write_records(folder / f"data_batch_{number}.bin", images[rows], [labels[rows]])
    _write_records(folder / "test_batch.bin", held_out, [held_out_labels])
    (folder / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n")
    return folder


def cifar100_binary(folder, images, labels, held_out, held_out_labels):
    _write_records(folder / "train.bin", images, [labels // 2, labels])
    _write_records(folder / "test.bin", held_out, [held_out_labels // 2, held_out_labels])
    (folder / "fine_label_names.txt").write_text("\n".join(NAMES))
    return folder


def _write_records(path, images, labels):
    path.write_bytes(np.column_stack([*labels, rows_of(images)]).astype(np.uint8).tobytes())


def cifar10_python(folder, images, labels, held_out, held_out_labels):
    halves = np.array_split(np.arange(len(images)), 2)
    for number, rows in enumerate(halves, 1):
        batch = {b"data": rows_of(images[rows]), b"labels": labels[rows].tolist(), b"batch_label": b"a batch"}
        (folder / f"data_batch_{number}").write_bytes(pickled_by_python_2(batch))
    batch = {b"data": rows_of(held_out), b"labels": held_out_labels.tolist()}
    (folder / "test_batch").write_bytes(pickled_by_python_2(batch))
    names = {b"label_names": [name.encode() for name in NAMES], b"num_cases_per_batch": 3}
    (folder / "batches.meta").write_bytes(pickled_by_python_2(names))
    return folder


def cifar100_python(folder, images, labels, held_out, held_out_labels):
    """As Python 3 pickles it, which some have done again."""
    for name, some, classes in (("train", images, labels), ("test", held_out, held_out_labels)):
        batch = {"data": rows_of(some), "fine_labels": classes.tolist(), "coarse_labels": [0] * len(some)}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=4))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [*NAMES]}, protocol=4))
    return folder


def keras(folder, images, labels, held_out, held_out_labels):
    np.savez(
        folder / "keras.npz", x_train=images, y_train=labels[:, None], x_test=held_out, y_test=held_out_labels
    )
    return folder / "keras.npz"


def medmnist(folder, images, labels, held_out, held_out_labels):
    arrays = {"train": (images, labels), "val": (images[:2], labels[:2]), "test": (held_out, held_out_labels)}
    np.savez_compressed(
        folder / "medmnist.npz",
        **{f"{name}_images": some for name, (some, _) in arrays.items()},
        **{f"{name}_labels": some[:, None].astype(np.uint8) for name, (_, some) in arrays.items()},
    )
    return folder / "medmnist.npz"


def _mnist(name, pack=bytes):
    """Writes the four files of MNIST; name: where each lies, of its name."""

    def write(folder, images, labels, held_out, held_out_labels):
        parts = {"train": (images, labels), "t10k": (held_out, held_out_labels)}
        for part, (some, classes) in parts.items():
            for kind, array in (("images-idx3-ubyte", some[..., 0]), ("labels-idx1-ubyte", classes)):
                path = folder / name.format(f"{part}-{kind}")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(pack(idx(array)))
                path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7 what macOS adds")
        return folder

    return write


COLOURED = {
    "CIFAR-10, binary": cifar10_binary,
    "CIFAR-10, pickled": cifar10_python,
    "CIFAR-100, binary": cifar100_binary,
    "CIFAR-100, pickled": cifar100_python,
    "Keras": keras,
    "MedMNIST": medmnist,
}
GREY = {
    "MNIST": _mnist("{}.gz", gzip.compress),
    "MNIST, unpacked": _mnist("{}"),
    "MNIST in folders of the files' names": _mnist("{0}/{0}"),
    "MNIST of torchvision": _mnist("MNIST/raw/{}"),
    "MNIST of torchvision, its folder": lambda folder, *arrays: (
        _mnist("MNIST/raw/{}")(folder, *arrays) / "MNIST"
    ),
    "Keras": keras,
    "MedMNIST": medmnist,
}
