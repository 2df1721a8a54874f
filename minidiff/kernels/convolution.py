"""Convolution: Winograd's algorithm where it suits the shape, else implicit GEMM; the tables of patches for the latter.

With MINIDIFF_CONVOLUTION=direct in the environment every convolution is summed as it is defined, which is more exact
and takes two to three times as long.
"""

import os
from functools import lru_cache

import numpy as np

from . import memory, narrow, winograd
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


def _table(rows: np.ndarray, columns: np.ndarray, width: int, pixel_bytes: int) -> np.ndarray:
    """Both axes combined: (kh · kw, height · width) offsets in bytes into an image `width` pixels wide."""
    rows, columns = rows[:, None, :, None], columns[None, :, None, :]
    offsets = np.where(
        (rows != OUTSIDE) & (columns != OUTSIDE), (rows * width + columns) * pixel_bytes, OUTSIDE
    )
    return np.ascontiguousarray(offsets.reshape(rows.shape[0] * columns.shape[1], -1), np.int64)


@lru_cache(maxsize=256)
def _forward(size: tuple[int, int], kernel: tuple[int, int], stride: int, padding: Padding, channels: int):
    """Height and width of the output; the table of the image's patches, and zeros for what is in the padding."""
    rows, columns = (
        _forward_lines(n, k, stride, *ends) for n, k, ends in zip(size, kernel, padding, strict=True)
    )
    table = _table(rows, columns, size[1], channels * FLOAT)
    return (rows.shape[1], columns.shape[1]), table, np.zeros(channels, np.float32)


@lru_cache(maxsize=256)
def _backward(size: tuple[int, int], kernel: tuple[int, int], stride: int, padding: Padding, channels: int):
    """The table of patches of the output's gradient, one for each pixel of the image, and zeros for what is outside."""
    rows, columns = (
        _backward_lines(n, k, stride, *ends) for n, k, ends in zip(size, kernel, padding, strict=True)
    )
    width = (size[1] + sum(padding[1]) - kernel[1]) // stride + 1
    return _table(rows, columns, width, channels * FLOAT), np.zeros(channels, np.float32)


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
    batch, height, width, channels = x.shape
    size, *table = _forward((height, width), w.shape[:2], stride, padding, channels)
    if _uses_winograd(w.shape[:2], stride, padding, channels, w.shape[3], size):
        return winograd.convolve(x, w, b, size, (padding[0][0], padding[1][0]), False, residual)
    out = memory.empty((batch, *size, w.shape[3]))
    offsets, zeros = table
    bias = b if b.ndim == 1 else np.zeros(w.shape[3], np.float32)
    if narrow.suits(channels, w.shape[3]):
        narrow.convolve(x, height * width * channels, offsets, zeros, w, bias, out)
    else:
        product(x, height * width * channels, offsets, zeros, w, bias, out)
    if b.ndim == 2:
        out += b[:, None, None, :]
    if residual is not None:
        out += residual
    return out


def conv2d_backward_input(
    g: np.ndarray, w: np.ndarray, size: tuple[int, int], stride: int, padding: Padding
) -> np.ndarray:
    batch, rows, columns, channels = g.shape
    if _uses_winograd(w.shape[:2], stride, padding, channels, w.shape[2], size):
        shift = 2 - padding[0][0], 2 - padding[1][0]
        return winograd.convolve(g, w, np.zeros(w.shape[2], np.float32), tuple(size), shift, True, None)
    table = _backward(tuple(size), w.shape[:2], stride, padding, channels)
    out = memory.empty((batch, *size, w.shape[2]))
    return product(g, rows * columns * channels, *table, w, NO_BIAS, out, transposed=True)


def conv2d_backward_weight(
    x: np.ndarray, g: np.ndarray, kernel: tuple[int, int], stride: int, padding: Padding
) -> np.ndarray:
    _, height, width, channels = x.shape
    if _uses_winograd(tuple(kernel), stride, padding, channels, g.shape[3], g.shape[1:3]):
        return winograd.backward_weight(x, g, (padding[0][0], padding[1][0]))
    _, *table = _forward((height, width), tuple(kernel), stride, padding, channels)
    image, shape = height * width * channels, (*kernel, channels, g.shape[3])
    if narrow.suits(channels, g.shape[3]):
        return narrow.backward_weight(x, image, table[0], g, shape)
    return transposed_product(x, image, *table, g, shape)
