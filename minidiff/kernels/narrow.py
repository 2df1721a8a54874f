"""Convolution to a few channels, such as the last one of a U-Net: too few to fill the lanes of a register.

    for patch in range(patches):
        for o in range(O):
            out[patch, o] = bias[o] + sum(x[offsets[tap, patch] + c] * w[tap, c, o] for tap … for c …)

Here the channels of the input are the lanes instead. Forward, the products of a patch are summed over the taps lane by
lane, and over the lanes only at the end; for the gradient in the weights, each tap and output channel is summed over
all patches, with the input channels as lanes. Patches are found through the same tables as in `implicit_gemm`.
"""

import numpy as np

from . import memory
from .implicit_gemm import BLOCK, OUTSIDE, Patches, find_patches
from .jit import device, kernel
from .launch import ceil_div, launch
from .microkernel import FLOAT, MR, WIDTH, address_of, dot_microkernel

FEW = 4  # output channels, at most


@device
def _dots(block, patches, w, bias, out):
    """out[n, o] for a block of patches; w (columns, taps · run)."""
    _, _, zeros, offsets = patches
    taps, first = offsets.shape[0], block * BLOCK
    count = min(BLOCK, out.shape[0] - first)
    addresses, sums = np.empty((taps, BLOCK), np.int64), np.empty(MR, np.float32)
    find_patches(patches, first, count, addresses)
    for r in range(0, count, MR):
        rows = address_of(addresses) + 8 * r
        for o in range(out.shape[1]):
            weights = address_of(w) + o * w.shape[1] * FLOAT
            dot_microkernel(rows, 8 * BLOCK, taps, zeros.size // WIDTH, weights, address_of(sums))
            for p in range(min(MR, count - r)):
                out[first + r + p, o] = sums[p] + bias[o]


@kernel
def _forward(patches, w, bias, out):
    launch(_dots, ceil_div(out.shape[0], BLOCK), patches, w, bias, out)


@device
def _weights(job, patches, g, dw):
    """dw[tap, i, o] = Σ_n x[patch n, tap, i] · g[n, o]: in float32 over BLOCK patches, then in float64."""
    x, image_bytes, _, offsets = patches
    (count, columns), run, pixels = g.shape, dw.shape[1], offsets.shape[1]
    tap, o = job // columns, job % columns
    sums, totals = np.empty(run, np.float32), np.zeros(run)
    for n in range(0, count, BLOCK):
        sums[:] = 0
        for m in range(n, min(n + BLOCK, count)):
            image, pixel = divmod(m, pixels)
            offset, dy = offsets[tap, pixel], g[m, o]
            if offset != OUTSIDE:
                first = (image * image_bytes + offset) // FLOAT
                channels = x[first : first + run]
                for i in range(run):
                    sums[i] += channels[i] * dy
        for i in range(run):
            totals[i] += sums[i]
    for i in range(run):
        dw[tap, i, o] = totals[i]


@kernel
def _backward_weight(patches, g, dw):
    launch(_weights, dw.shape[0] * dw.shape[2], patches, g, dw)


def suits(channels: int, outputs: int) -> bool:
    """Whether these kernels are used for a layer with these numbers of channels."""
    return outputs <= FEW and channels % WIDTH == 0


def convolve(patches: Patches, w: np.ndarray, bias: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Fill `out` (..., O) and return it; w (kh, kw, C, O)."""
    columns = w.shape[3]
    across = np.ascontiguousarray(np.moveaxis(w, 3, 0)).reshape(columns, -1)
    _forward(patches, across, bias, out.reshape(-1, columns))
    return out


def backward_weight(patches: Patches, g: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The gradient in the weights, of `shape` (kh, kw, C, O)."""
    dw = memory.empty(shape)
    _backward_weight(patches, g.reshape(-1, shape[3]), dw.reshape(-1, *shape[2:]))
    return dw
