"""Convolution: Winograd's algorithm where it suits the shape, else implicit GEMM; the tables of patches for the latter.

With MINIDIFF_CONVOLUTION=direct in the environment every convolution is summed as it is defined, which is more exact
and takes two to three times as long.
"""

import os
from functools import lru_cache

import numpy as np

from . import bf16, memory, narrow, winograd, winograd_bf16
from .implicit_gemm import NO_BIAS, OUTSIDE, product, transposed_product
from .microkernel import FLOAT
from .reference import Padding

_CHOICE = os.environ.get("MINIDIFF_CONVOLUTION", "winograd")
if _CHOICE not in ("winograd", "direct"):
    raise ValueError(f"MINIDIFF_CONVOLUTION must be 'winograd' or 'direct', not {_CHOICE!r}")
WINOGRAD = _CHOICE == "winograd"


def _forward_lines(size: int, kernel: int, stride: int, before: int, after: int) -> np.ndarray:
    """(kernel, outputs): the line of the image that tap k of output line i reads, OUTSIDE if in the padding."""
    count = (size + before + after - kernel) // stride + 1
    line = np.arange(count) * stride + np.arange(kernel)[:, None] - before
    return np.where((line >= 0) & (line < size), line, OUTSIDE)


def _backward_lines(size: int, kernel: int, stride: int, before: int, after: int) -> np.ndarray:
    """(kernel, size): the output line that reads line i of the image through tap k, OUTSIDE if none does."""
    count = (size + before + after - kernel) // stride + 1
    line, remainder = np.divmod(np.arange(size) - np.arange(kernel)[:, None] + before, stride)
    return np.where((remainder == 0) & (line >= 0) & (line < count), line, OUTSIDE)


def _table(rows: np.ndarray, columns: np.ndarray, size: tuple[int, int], channels: int, dtype=np.float32):
    """Both axes combined: (kh · kw, patches) offsets into an image of this size; with what else is in `Patches`."""
    rows, columns = rows[:, None, :, None], columns[None, :, None, :]
    inside, pixels = (rows != OUTSIDE) & (columns != OUTSIDE), rows * size[1] + columns
    offsets = np.where(inside, pixels * (channels * FLOAT), OUTSIDE).reshape(
        inside.shape[0] * inside.shape[1], -1
    )
    image_bytes = size[0] * size[1] * channels * FLOAT
    return image_bytes, np.zeros(channels, dtype), np.ascontiguousarray(offsets, np.int64)


@lru_cache(maxsize=256)
def _forward(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: int,
    padding: Padding,
    channels: int,
    dtype=np.float32,
):
    """Height and width of the output, and what follows the images in `Patches`."""
    rows, columns = (
        _forward_lines(n, k, stride, *ends) for n, k, ends in zip(size, kernel, padding, strict=True)
    )
    return (rows.shape[1], columns.shape[1]), _table(rows, columns, size, channels, dtype)


@lru_cache(maxsize=256)
def _backward(size: tuple[int, int], kernel: tuple[int, int], stride: int, padding: Padding, channels: int):
    """What follows the output's gradients in `Patches`, one patch for each pixel of the image."""
    rows, columns = (
        _backward_lines(n, k, stride, *ends) for n, k, ends in zip(size, kernel, padding, strict=True)
    )
    height, width = (
        (n + sum(ends) - k) // stride + 1 for n, k, ends in zip(size, kernel, padding, strict=True)
    )
    return _table(rows, columns, (height, width), channels)


def _uses_winograd(
    kernel: tuple[int, int], stride: int, padding: Padding, channels: int, outputs: int, size
) -> bool:
    """Whether Winograd's algorithm is used: `size` is the height and width of the result, with `outputs` channels."""
    fits = kernel == (3, 3) and stride == 1 and max(padding[0] + padding[1]) <= 2
    return WINOGRAD and fits and winograd.suits(channels, outputs, size)


def conv2d(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray,
    stride: int,
    padding: Padding,
    residual: np.ndarray | None = None,
) -> np.ndarray:
    channels, outputs = w.shape[2:]
    size, table = _forward(x.shape[1:3], w.shape[:2], stride, padding, channels)
    in_bf16, shift = bf16.applies(w), (padding[0][0], padding[1][0])
    if _uses_winograd(w.shape[:2], stride, padding, channels, outputs, size):
        if in_bf16:
            return winograd_bf16.convolve(x, w, b, size, shift, residual)
        return winograd.convolve(x, w, b, size, shift, False, residual)
    few = narrow.suits(channels, outputs)
    if in_bf16 and not few:
        x = bf16.to_pairs(x)
        size, table = _forward(x.shape[1:3], w.shape[:2], stride, padding, x.shape[3], x.dtype)
    bias = b if b.ndim == 1 else np.zeros(outputs, np.float32)
    convolve = narrow.convolve if few else product
    out = convolve((x.reshape(-1), *table), w, bias, memory.empty((len(x), *size, outputs)))
    if b.ndim == 2:
        out += b[:, None, None, :]
    if residual is not None:
        out += residual
    return out


def conv2d_backward_input(
    g: np.ndarray, w: np.ndarray, size: tuple[int, int], stride: int, padding: Padding
) -> np.ndarray:
    channels, outputs = w.shape[2:]
    if _uses_winograd(w.shape[:2], stride, padding, outputs, channels, size):
        shift = 2 - padding[0][0], 2 - padding[1][0]
        return winograd.convolve(g, w, np.zeros(channels, np.float32), tuple(size), shift, True, None)
    table = _backward(tuple(size), w.shape[:2], stride, padding, outputs)
    return product(
        (g.reshape(-1), *table), w, NO_BIAS, memory.empty((len(g), *size, channels)), transposed=True
    )


def conv2d_backward_weight(
    x: np.ndarray, g: np.ndarray, kernel: tuple[int, int], stride: int, padding: Padding
) -> np.ndarray:
    channels, outputs = x.shape[3], g.shape[3]
    if _uses_winograd(tuple(kernel), stride, padding, channels, outputs, g.shape[1:3]):
        return winograd.backward_weight(x, g, (padding[0][0], padding[1][0]))
    _, table = _forward(x.shape[1:3], tuple(kernel), stride, padding, channels)
    sum_over_patches = narrow.backward_weight if narrow.suits(channels, outputs) else transposed_product
    return sum_over_patches((x.reshape(-1), *table), g, (*kernel, channels, outputs))
