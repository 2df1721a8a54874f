"""Right arguments for every public kernel, so that what holds for all of them is asked of all of them."""

import inspect

import numpy as np

from minidiff.kernels import reference

PUBLIC = [name for name, value in vars(reference).items() if inspect.isfunction(value) and name[0] != "_"]
SAME = ((1, 1), (1, 1))


def example(name: str, batch: int = 2, size: int = 3, dtype: type = np.float32) -> dict[str, object]:
    """The arguments of a kernel, drawn anew at each call; `batch` images of size × size pixels, or as many rows.

    Nothing here is computed with NumPy's BLAS, whose bits hang on where in memory an array begins.
    """
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(dtype)

    b, n = batch, size
    if name.startswith("attention"):
        images = dict(q=draw(b, n * n, 8), k=draw(b, n * n, 8), v=draw(b, n * n, 8))
        if name == "attention":
            return images | dict(heads=2)
        return dict(g=draw(b, n * n, 8)) | images | dict(weights=np.abs(draw(b, 2, n * n, n * n)))
    if name.startswith("group_norm"):
        images = dict(x=draw(b, n, n, 8), gamma=draw(8), beta=draw(8))
        if name == "group_norm":
            return images | dict(groups=4, eps=1e-5, silu=True)
        kept = dict(mean=draw(b, 4), inverse_deviation=np.abs(draw(b, 4)), silu=True)
        return dict(g=draw(b, n, n, 8)) | images | kept
    of_windows = dict(stride=1, padding=SAME)
    return {
        "linear": lambda: dict(x=draw(b, 24), w=draw(24, 40), b=draw(40)),
        "linear_backward_input": lambda: dict(g=draw(b, 40), w=draw(24, 40)),
        "linear_backward_weight": lambda: dict(x=draw(b, 24), g=draw(b, 40)),
        "sum_rows": lambda: dict(g=draw(b, 24)),
        "conv2d": lambda: dict(x=draw(b, n, n, 5), w=draw(3, 3, 5, 7), b=draw(7)) | of_windows,
        "conv2d_backward_input": lambda: (
            dict(g=draw(b, n, n, 7), w=draw(3, 3, 5, 7), size=(n, n)) | of_windows
        ),
        "conv2d_backward_weight": lambda: (
            dict(x=draw(b, n, n, 5), g=draw(b, n, n, 7), kernel=(3, 3)) | of_windows
        ),
        "silu": lambda: dict(x=draw(b, n, n, 5)),
        "silu_backward": lambda: dict(g=draw(b, n, n, 5), x=draw(b, n, n, 5)),
        "scatter_rows": lambda: dict(g=draw(b, 24), index=rng.integers(0, 9, b), rows=9),
        "adam": lambda: (
            dict(parameter=draw(b), gradient=draw(b), first=draw(b), second=draw(b) ** 2, step=3, lr=0.1)
            | dict(beta1=0.9, beta2=0.999, eps=1e-8, scale=0.5)
        ),
        "ema": lambda: dict(average=draw(b), parameter=draw(b), decay=0.9),
        "squared_norm": lambda: dict(vector=draw(b)),
    }[name]()


CHANGED = {"adam": ("parameter", "first", "second"), "ema": ("average",)}  # what a kernel changes in place


def results(name: str, answer: object, arguments: dict[str, object]) -> list[np.ndarray]:
    """All that a kernel has computed: what it gave back, and what it changed."""
    back = answer if isinstance(answer, tuple) else () if answer is None else (answer,)
    return [np.asarray(part) for part in (*back, *(arguments[key] for key in CHANGED.get(name, ())))]
