"""Convolution to a few channels, such as the last one of a U-Net: too few to fill the lanes of a register.

Here the channels of the input are the lanes instead. Forward, the products of a patch are summed over the taps lane by
lane, and over the lanes only at the end; for the gradient in the weights, each tap and output channel is summed over
all patches, with the input channels as lanes. Patches are found through the same tables as in `implicit_gemm`.
"""

import numpy as np

from . import memory
from .implicit_gemm import BLOCK, OUTSIDE, find_patches
from .jit import device, kernel
from .launch import launch
from .microkernel import FLOAT, MR, WIDTH, address_of, dot_microkernel

FEW = 4  # output channels, at most


@device
def _dots(block, x, image_bytes, zeros, offsets, run, w, bias, out, columns):
    """out[n, o] for a block of patches; w (columns, taps · run)."""
    taps, first = offsets.shape[0], block * BLOCK
    count = min(BLOCK, out.size // columns - first)
    addresses, sums = np.empty((taps, BLOCK), np.int64), np.empty(MR, np.float32)
    find_patches(x, image_bytes, zeros, offsets, first, count, addresses)
    for r in range(0, count, MR):
        rows = address_of(addresses) + 8 * r
        for o in range(columns):
            weights = address_of(w) + o * taps * run * FLOAT
            dot_microkernel(rows, 8 * BLOCK, taps, run // WIDTH, weights, address_of(sums))
            for p in range(min(MR, count - r)):
                out[(first + r + p) * columns + o] = sums[p] + bias[o]


@kernel
def _forward(x, image_bytes, zeros, offsets, run, w, bias, out, columns):
    patches = out.size // columns
    blocks = (patches + BLOCK - 1) // BLOCK
    launch(_dots, blocks, x, image_bytes, zeros, offsets, run, w, bias, out, columns)


@device
def _weights(job, x, image, offsets, run, g, columns, dw):
    """dw[tap, i, o] = Σ_n x[patch n, tap, i] · g[n, o]: in float32 over BLOCK patches, then in float64."""
    tap, o = job // columns, job % columns
    pixels = offsets.shape[1]
    sums, totals = np.empty(run, np.float32), np.zeros(run)
    for n in range(0, g.size // columns, BLOCK):
        sums[:] = 0
        for m in range(n, min(n + BLOCK, g.size // columns)):
            offset = offsets[tap, m % pixels]
            if offset != OUTSIDE:
                at, dy = m // pixels * image + offset // FLOAT, g[m * columns + o]
                channels = x[at : at + run]
                for i in range(run):
                    sums[i] += channels[i] * dy
        for i in range(run):
            totals[i] += sums[i]
    for i in range(run):
        dw[(tap * run + i) * columns + o] = totals[i]


@kernel
def _backward_weight(x, image, offsets, run, g, columns, dw):
    launch(_weights, offsets.shape[0] * columns, x, image, offsets, run, g, columns, dw)


def suits(channels: int, outputs: int) -> bool:
    """Whether these kernels are used for a layer with these numbers of channels."""
    return outputs <= FEW and channels % WIDTH == 0


def convolve(
    x: np.ndarray,
    image: int,
    offsets: np.ndarray,
    zeros: np.ndarray,
    w: np.ndarray,
    bias: np.ndarray,
    out: np.ndarray,
) -> None:
    """Fill `out` (..., O): arguments as for `implicit_gemm.product`, with w (kh, kw, C, O)."""
    run, columns = w.shape[2:]
    across = np.ascontiguousarray(np.moveaxis(w, 3, 0)).reshape(-1)
    _forward(x.reshape(-1), image * FLOAT, zeros, offsets, run, across, bias, out.reshape(-1), columns)


def backward_weight(
    x: np.ndarray, image: int, offsets: np.ndarray, g: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """The gradient in the weights, of `shape` (kh, kw, C, O)."""
    dw = memory.empty(shape)
    _backward_weight(x.reshape(-1), image, offsets, shape[2], g.reshape(-1), shape[3], dw.reshape(-1))
    return dw
