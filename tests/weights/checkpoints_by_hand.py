"""PyTorch's checkpoints instruction by instruction, without PyTorch: sound ones, and what nobody should open."""

import pickle
import zipfile

import numpy as np

from minidiff.weights.torch_files import MAGIC, PROTOCOL

FORMS = ("zip", "older")


def plain(value):
    """The instructions that leave plain data on the stack."""
    return pickle.dumps(value, protocol=2)[2:-1]


def name(module, attribute):
    """A global name."""
    return f"c{module}\n{attribute}\n".encode()


def call(function, *arguments):
    """The call of a function with what other instructions leave."""
    return function + b"(" + b"".join(arguments) + b"tR"


FLOATS = name("torch", "FloatStorage")
NO_HOOKS = name("collections", "OrderedDict") + b")R"


def storage(count=4, key="0", kind=FLOATS, about="storage"):
    """A persistent id."""
    return b"(" + plain(about) + kind + plain(key) + plain("cpu") + plain(count) + b"tQ"


def tensor(stored=None, offset=0, shape=(2, 2), strides=(2, 1), hooks=NO_HOOKS):
    """A call of the function that makes a tensor."""
    rest = plain(offset), plain(shape), plain(strides), b"\x89", hooks
    return call(name("torch._utils", "_rebuild_tensor_v2"), storage() if stored is None else stored, *rest)


def table(**items):
    """A dictionary."""
    return b"}(" + b"".join(plain(key) + item for key, item in items.items()) + b"u"


def write(path, form, instructions, storages=None):
    """A checkpoint whose pickle has these instructions. storages: arrays by key."""
    storages = {"0": np.arange(4, dtype="<f4")} if storages is None else storages
    pickled = b"\x80\x02" + instructions + b"."
    if form == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", pickled)
            archive.writestr("archive/byteorder", "little")
            for key, array in storages.items():
                archive.writestr(f"archive/data/{key}", array.tobytes())
        return
    content = b"".join(pickle.dumps(first, 2) for first in (MAGIC, PROTOCOL, {"little_endian": True}))
    content += pickled + pickle.dumps(list(storages), 2)
    for array in storages.values():
        content += array.size.to_bytes(8, "little") + array.tobytes()
    path.write_bytes(content)
