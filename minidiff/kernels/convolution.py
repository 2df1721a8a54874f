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
from .reference import Array, Padding, Size

_CHOICE = os.environ.get("MINIDIFF_CONVOLUTION", "winograd")
if _CHOICE not in ("winograd", "direct"):
    raise ValueError(f"MINIDIFF_CONVOLUTION must be 'winograd' or 'direct', not {_CHOICE!r}")
WINOGRAD = _CHOICE == "winograd"


def _forward_lines(size: int, kernel: int, outputs: int, stride: int, before: int) -> Array:
    """(kernel, outputs): the line of the image that tap k of output line i reads, OUTSIDE if in the padding."""
    line = np.arange(outputs) * stride + np.arange(kernel)[:, None] - before
    return np.where((line >= 0) & (line < size), line, OUTSIDE)


def _backward_lines(size: int, kernel: int, outputs: int, stride: int, before: int) -> Array:
    """(kernel, size): the output line that reads line i of the image through tap k, OUTSIDE if none does."""
    line, remainder = np.divmod(np.arange(size) - np.arange(kernel)[:, None] + before, stride)
    return np.where((remainder == 0) & (line >= 0) & (line < outputs), line, OUTSIDE)


@lru_cache(maxsize=256)
def _table(
    size: Size, kernel: Size, stride: int, padding: Padding, channels: int, backward=False, dtype=np.float32
):
    """Height and width of the output, and what follows the images in `Patches`.

    backward: these are the output's gradients, with a patch for each pixel of the input; `channels` are theirs.
    """
    axes = list(zip(size, kernel, padding, strict=True))
    outputs = tuple((n + sum(ends) - k) // stride + 1 for n, k, ends in axes)
    lines, image = (_backward_lines, outputs) if backward else (_forward_lines, size)
    rows, columns = (lines(n, k, m, stride, ends[0]) for (n, k, ends), m in zip(axes, outputs, strict=True))
    rows, columns, pixel_bytes = rows[:, None, :, None], columns[None, :, None, :], channels * FLOAT
    inside = (rows != OUTSIDE) & (columns != OUTSIDE)
    offsets = np.where(inside, (rows * image[1] + columns) * pixel_bytes, OUTSIDE).astype(np.int64)
    table = image[0] * image[1] * pixel_bytes, np.zeros(channels, dtype)
    return outputs, (*table, offsets.reshape(kernel[0] * kernel[1], -1))


def _uses_winograd(kernel: Size, stride: int, padding: Padding, channels: int, outputs: int, size) -> bool:
    """Whether Winograd's algorithm is used: `size` is the height and width of the result, with `outputs` channels."""
    fits = kernel == (3, 3) and stride == 1 and max(padding[0] + padding[1]) <= 2
    return WINOGRAD and fits and winograd.suits(channels, outputs, size)


def conv2d(
    x: Array, w: Array, b: Array, stride: int, padding: Padding, residual: Array | None = None
) -> Array:
    channels, outputs = w.shape[2:]
    size, table = _table(x.shape[1:3], w.shape[:2], stride, padding, channels)
    in_bf16, shift = bf16.applies(w), (padding[0][0], padding[1][0])
    if _uses_winograd(w.shape[:2], stride, padding, channels, outputs, size):
        if in_bf16:
            return winograd_bf16.convolve(x, w, b, size, shift, residual)
        return winograd.convolve(x, w, b, size, shift, False, residual)
    few = narrow.suits(channels, outputs)
    if in_bf16 and not few:
        x = bf16.to_pairs(x)
        _, table = _table(x.shape[1:3], w.shape[:2], stride, padding, x.shape[3], dtype=x.dtype)
    bias = b if b.ndim == 1 else np.zeros(outputs, np.float32)
    convolve = narrow.convolve if few else product
    out = convolve((x.reshape(-1), *table), w, bias, memory.empty((len(x), *size, outputs)))
    if b.ndim == 2:
        out += b[:, None, None, :]
    if residual is not None:
        out += residual
    return out


def conv2d_backward_input(g: Array, w: Array, size: Size, stride: int, padding: Padding) -> Array:
    channels, outputs = w.shape[2:]
    if _uses_winograd(w.shape[:2], stride, padding, outputs, channels, size):
        shift = 2 - padding[0][0], 2 - padding[1][0]
        return winograd.convolve(g, w, np.zeros(channels, np.float32), tuple(size), shift, True, None)
    _, table = _table(tuple(size), w.shape[:2], stride, padding, outputs, backward=True)
    return product(
        (g.reshape(-1), *table), w, NO_BIAS, memory.empty((len(g), *size, channels)), transposed=True
    )


def conv2d_backward_weight(x: Array, g: Array, kernel: Size, stride: int, padding: Padding) -> Array:
    channels, outputs = x.shape[3], g.shape[3]
    if _uses_winograd(tuple(kernel), stride, padding, channels, outputs, g.shape[1:3]):
        return winograd.backward_weight(x, g, (padding[0][0], padding[1][0]))
    _, table = _table(x.shape[1:3], tuple(kernel), stride, padding, channels)
    sum_over_patches = narrow.backward_weight if narrow.suits(channels, outputs) else transposed_product
    return sum_over_patches((x.reshape(-1), *table), g, (*kernel, channels, outputs))
