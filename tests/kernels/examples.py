"""Valid arguments for every public kernel, so that properties common to all kernels are tested on all of them.

A kernel with several code paths, chosen by shapes or arguments, has an example of each: a case is the kernel's name, or
its name, a colon and what is special.
"""

from collections.abc import Callable, Iterable

import numpy as np

from minidiff import kernels
from minidiff.kernels import reference
from minidiff.kernels.microkernel import NR

PUBLIC = [name for name, value in vars(reference).items() if hasattr(value, "shapes")]
CASES = [
    *PUBLIC,
    "conv2d:residual",
    "conv2d:bias of each image",
    "conv2d:narrow",
    "conv2d_backward_weight:narrow",
    "conv2d:winograd",
    "conv2d:winograd, residual and bias of each image",
    "conv2d_backward_input:winograd",
    "conv2d_backward_weight:winograd",
    "perceptron:nothing kept",
    "adam:no ema",
]
SAME = ((1, 1), (1, 1))
# The arguments that a kernel changes in place.
CHANGED = {
    "adam": ("parameter", "gradient", "moments[0]", "moments[1]", "ema"),
    "add_rows": ("out",),
    "perceptron_backward": ("z",),
}


def name_of(case: str) -> str:
    return case.partition(":")[0]


def kernel(case: str) -> Callable:
    return getattr(kernels, name_of(case))


def example(case: str, batch: int = 2, size: int = 3, dtype: type = np.float32) -> dict[str, object]:
    """The arguments of a case, drawn anew at each call; `batch` images of size × size pixels, or as many rows.

    Nothing here is computed with NumPy's BLAS, whose bits depend on the address of an array.
    """
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(dtype)

    name, _, special = case.partition(":")
    b, n = batch, size
    if name.startswith("conv2d"):
        return _convolution(name, special, draw, b, n)
    if name.startswith("attention"):
        images = dict(q=draw(b, n * n, 8), k=draw(b, n * n, 8), v=draw(b, n * n, 8))
        if name == "attention":
            return images | dict(heads=2)
        return dict(g=draw(b, n * n, 8)) | images | dict(weights=np.abs(draw(b, 2, n * n, n * n)))
    if name.startswith("group_norm"):
        images = dict(x=draw(b, n, n, 8), gamma=draw(8), beta=draw(8))
        if name == "group_norm":
            return images | dict(groups=4, eps=1e-5, silu=True)
        kept = dict(mean=draw(b, 4), rstd=np.abs(draw(b, 4)), silu=True)
        return dict(g=draw(b, n, n, 8)) | images | kept
    if name.startswith("perceptron"):
        weights = [draw(2, 24), draw(24, 24), draw(24, 3)]
        if name == "perceptron_backward":
            return dict(g=draw(b, 3), x=draw(b, 2), weights=weights, z=draw(b, 2, 24))
        tables = [draw(rows, 2 * 24) for rows in (9, 5)]
        index = np.array([rng.integers(0, rows, b) for rows in (9, 5)])
        network = dict(x=draw(b, 2), weights=weights, biases=[draw(24), draw(24), draw(3)], tables=tables)
        return network | dict(index=index, keep=special != "nothing kept")
    return {
        "linear": lambda: dict(x=draw(b, 24), w=draw(24, 40), b=draw(40)),
        "linear_backward_input": lambda: dict(g=draw(b, 40), w=draw(24, 40)),
        "linear_backward_weight": lambda: dict(x=draw(b, 24), g=draw(b, 40)),
        "sum_rows": lambda: dict(g=draw(b, 24)),
        "add": lambda: dict(a=draw(b, n, n, 5), b=draw(b, n, n, 5)),
        "silu": lambda: dict(x=draw(b, n, n, 5)),
        "silu_backward": lambda: dict(g=draw(b, n, n, 5), x=draw(b, n, n, 5)),
        "scatter_rows": lambda: dict(g=draw(b, 24), index=rng.integers(0, 9, b), rows=9),
        "add_rows": lambda: dict(out=draw(9, 24), g=draw(b, 24), index=rng.integers(0, 9, b)),
        "adam": lambda: (
            dict(parameter=draw(b), gradient=draw(b), moments=[draw(b), draw(b) ** 2])
            | dict(ema=None if special == "no ema" else draw(b), step=3, lr=0.1)
            | dict(betas=(0.9, 0.999), eps=1e-8, scale=0.5, ema_decay=0.9)
        ),
        "squared_norm": lambda: dict(vector=draw(b)),
    }[name]()


def _convolution(name: str, special: str, draw: Callable, b: int, n: int) -> dict[str, object]:
    """From 5 channels to 7; by Winograd's algorithm, whose channels fill registers; or to as few as `narrow` takes."""
    c, o = 5, 7
    if special.startswith("winograd"):
        c, o = NR, 2 * NR
    elif special == "narrow":
        c, o = NR, 3
    x, w, g, settings = draw(b, n, n, c), draw(3, 3, c, o), draw(b, n, n, o), dict(stride=1, padding=SAME)
    if name == "conv2d_backward_input":
        return dict(g=g, w=w, size=(n, n)) | settings
    if name == "conv2d_backward_weight":
        return dict(x=x, g=g, kernel=(3, 3)) | settings
    bias = draw(b, o) if "bias of each image" in special else draw(o)
    return dict(x=x, w=w, b=bias) | settings | (dict(residual=g) if "residual" in special else {})


def arrays(arguments: dict[str, object]) -> dict[str, np.ndarray]:
    """All arrays among them by name; an item of a list has a name like `tables[1]`."""
    found = {}

    def visit(name: str, value: object) -> None:
        if isinstance(value, np.ndarray):
            found[name] = value
        elif isinstance(value, list):
            for i, item in enumerate(value):
                visit(f"{name}[{i}]", item)

    for name, value in arguments.items():
        visit(name, value)
    return found


def replaced(arguments: dict[str, object], changes: dict[str, object]) -> dict[str, object]:
    """The arguments with some replaced, by the names that `arrays` gives them."""

    def put(old: object, indices: list[str], new: object) -> object:
        if not indices:
            return new
        i = int(indices[0])
        return [*old[:i], put(old[i], indices[1:], new), *old[i + 1 :]]

    arguments = dict(arguments)
    for name, value in changes.items():
        key, *indices = name.replace("]", "").split("[")
        arguments[key] = put(arguments.get(key), indices, value)
    return arguments


def changed(case: str) -> list[str]:
    """The names of the arrays that a case changes in place."""
    return [key for key in CHANGED.get(name_of(case), ()) if key in arrays(example(case))]


def results(case: str, returned: object, arguments: dict[str, object]) -> list[np.ndarray]:
    """All that a kernel has computed: what it returned, and what it changed in place."""
    return [*_flat(returned), *(arrays(arguments)[key] for key in changed(case))]


def _flat(returned: object) -> Iterable[np.ndarray]:
    if isinstance(returned, (tuple, list)):
        for item in returned:
            yield from _flat(item)
    elif returned is not None:
        yield np.asarray(returned)
