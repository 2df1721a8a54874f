"""Implicit GEMM: convolution and the linear layer, forward and backward, as two matrix products.

    for patch in range(patches):                        # the receptive field of an output pixel
        for tap in range(kh * kw):                      # a pixel of it
            for c in range(C):
                for o in range(O):
                    out[patch, o] += x[offsets[tap, patch] + c] * w[tap, c, o]

This is a matrix product. Its left matrix (that of im2col) has one row for each patch, with kh·kw·C numbers, and is
never built: the table `offsets` gives for each tap and each patch of an image where its run of C channels begins,
OUTSIDE standing for zeros. Other strides, paddings and kernels are other tables; the gradient in the input is the same
product with a table into the output's gradient; a linear layer has one tap. The loops do not run as written but in
blocks, for registers, caches and threads, as `packing` describes.

    product             out[patch, o]    = bias[o] + Σ_tap,c  x[offsets[tap, patch] + c] · w[tap, c, o]
    transposed_product  out[tap, c, o]   = Σ_patch  x[offsets[tap, patch] + c] · g[patch, o]

Patches are counted through the whole batch. Each sum runs in one order, which is determined by the shape of a patch
(and for the transposed product by that of the batch) and by nothing else: not by the threads, not by the block.
"""

import numpy as np

from . import memory
from .bf16 import PAIR, row_pairs
from .frozen import cache, cached
from .jit import device, kernel
from .launch import ceil_div, launch_ranges, workers_for
from .microkernel import FLOAT, MR, NR, address_of, load_float
from .packing import add_transposed, fill_addresses, multiply, pack

OUTSIDE = -1
BLOCK = 64  # patches that a job of `product` takes at a time: a multiple of MR on every machine
DEPTH = 192  # patches that `transposed_product` sums before it adds to memory: a micro-panel of so many fits in L1
SERIAL_BELOW = 1_000_000  # multiplications; fewer take less time than waking the other threads
NO_BIAS = np.zeros(0, np.float32)

# All images in one flat array; the bytes of an image; as many zeros as the run of a tap; and the table (taps, patches
# of an image), in bytes from the image's beginning.
Patches = tuple[np.ndarray, int, np.ndarray, np.ndarray]


@device
def find_patches(patches, first, count, addresses):
    """addresses[tap, r] = the address of tap `tap` of patch `first + r`, r < count; from there on that of zeros."""
    x, image_bytes, zeros, offsets = patches
    pixels, outside = offsets.shape[1], address_of(zeros)
    for tap in range(offsets.shape[0]):
        row = addresses[tap]
        done = 0
        image, pixel = divmod(first, pixels)
        while done < count:
            n = min(count - done, pixels - pixel)
            base = address_of(x) + image * image_bytes
            here, found = row[done : done + n], offsets[tap, pixel : pixel + n]
            for r in range(n):
                here[r] = base + found[r] if found[r] != OUTSIDE else outside
            done += n
            image += 1
            pixel = 0
        row[count:] = outside


@device
def _pack_range(worker, begin, end, w, taps, columns, transposed, packed):
    """packed[·, tap · run + i, lane] = w[tap, i, column], or w[tap, column, i] if transposed, of some micro-panels."""
    run = packed.shape[1] // taps
    stride = run if transposed else columns
    for index in range(begin, end):
        column = index * NR
        for tap in range(taps):
            at = tap * run * columns + column * (run if transposed else 1)
            rows = packed[index, tap * run : (tap + 1) * run]
            pack(w, at, stride, transposed, run, min(NR, columns - column), rows)


@device
def _product_range(worker, begin, end, patches, packed, start, out):
    """Of the products of BLOCK patches and a micro-panel, some."""
    _, _, zeros, offsets = patches
    micro_panels, columns, flat_out = packed.shape[0], out.shape[1], out.reshape(-1)
    addresses = np.empty((offsets.shape[0], BLOCK), np.int64)
    for job in range(begin, end):
        first, index = job // micro_panels * BLOCK, job % micro_panels
        count, column = min(BLOCK, out.shape[0] - first), index * NR
        if job == begin or index == 0:
            find_patches(patches, first, count, addresses)
        at, width = first * columns + column, min(NR, columns - column)
        multiply(addresses, count, zeros.size, packed[index], start[index], flat_out, at, width, columns)


@kernel
def _product(patches, w, transposed, packed, ready, bias, out, workers):
    micro_panels, taps = packed.shape[0], patches[3].shape[0]
    start = np.zeros((micro_panels, NR), np.float32)
    for column in range(bias.size):
        start[column // NR, column % NR] = bias[column]
    to_pack = 0 if ready else micro_panels
    launch_ranges(_pack_range, to_pack, workers, w, taps, out.shape[1], transposed, packed)
    jobs = ceil_div(out.shape[0], BLOCK) * micro_panels
    launch_ranges(_product_range, jobs, workers, patches, packed, start, out)


@device
def _gather(addresses, run, first, length, gathered, gathered_addresses):
    """gathered[j, p] = entry `first + p` of row j of the im2col matrix; zeros beyond its length."""
    fill_addresses(address_of(gathered), MR, gathered_addresses)
    for p in range(MR):
        tap, channel = divmod(first + p, run)
        for j in range(gathered_addresses.size):
            inside = first + p < length
            gathered[j, p] = load_float(addresses[tap, j] + channel * FLOAT) if inside else np.float32(0)


@device
def _transposed_range(worker, begin, end, patches, g, out):
    """Some of the MR × NR microtiles of the transposed product, counted down one micro-panel after another."""
    _, _, zeros, offsets = patches
    (length, columns), run = out.shape, zeros.size
    microtiles, flat_g, flat_out = ceil_div(length, MR), g.reshape(-1), out.reshape(-1)
    addresses = np.empty((offsets.shape[0], DEPTH), np.int64)
    packed = np.empty((ceil_div(columns, NR), DEPTH, NR), np.float32)
    gathered, gathered_addresses = np.empty((DEPTH, MR), np.float32), np.empty(DEPTH, np.int64)
    for first in range(0, g.shape[0], DEPTH):
        count = min(DEPTH, g.shape[0] - first)
        find_patches(patches, first, count, addresses)
        for index in range(begin // microtiles, (end - 1) // microtiles + 1):
            column = index * NR
            at, width = first * columns + column, min(NR, columns - column)
            pack(flat_g, at, columns, False, count, width, packed[index])
        for microtile in range(begin, end):
            index, row = microtile // microtiles, microtile % microtiles * MR
            tap, channel = divmod(row, run)
            rows, offset = addresses[tap], channel * FLOAT
            # Rows of a microtile that belong to more than one tap are not adjacent in memory.
            if channel + MR > run:
                _gather(addresses, run, row, length, gathered, gathered_addresses[:count])
                rows, offset = gathered_addresses, 0
            column = index * NR
            height, width = min(MR, length - row), min(NR, columns - column)
            at = row * columns + column
            add_transposed(rows, offset, count, packed[index], flat_out, at, height, width, columns)


@kernel
def _transposed_product(patches, g, out, workers):
    microtiles = ceil_div(out.shape[0], MR) * ceil_div(out.shape[1], NR)
    launch_ranges(_transposed_range, microtiles, workers, patches, g, out)


def product(
    patches: Patches, w: np.ndarray, bias: np.ndarray, out: np.ndarray, transposed: bool = False
) -> np.ndarray:
    """Fill `out` (..., columns) and return it. w holds (taps, run, columns), or (taps, columns, run) if transposed."""
    dtype, columns, depth = patches[0].dtype, out.shape[-1], w.size // out.shape[-1]
    packed, source = cached(w, ("packed", transposed)), w.reshape(-1)
    ready = packed is not None
    if not ready:
        source = row_pairs(w).reshape(-1) if dtype == PAIR else source
        packed = memory.empty((ceil_div(columns, NR), source.size // columns, NR)).view(dtype)
    workers, out_rows = workers_for(out.size * depth, SERIAL_BELOW), out.reshape(-1, columns)
    # Where the weights are packed already, the type of `source` alone matters.
    _product(patches, source.view(dtype), transposed, packed, ready, bias, out_rows, workers)
    cache(w, ("packed", transposed), packed)
    return out


def transposed_product(patches: Patches, g: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The transposed product, (taps · run, columns) reshaped to `shape`; g (..., columns)."""
    out, columns = memory.zeros(shape), g.shape[-1]
    # How the microtiles are divided among the threads changes no sum, so it may depend on the machine.
    workers = workers_for(g.size // columns * out.size, SERIAL_BELOW)
    _transposed_product(patches, g.reshape(-1, columns), out.reshape(-1, columns), workers)
    return out
