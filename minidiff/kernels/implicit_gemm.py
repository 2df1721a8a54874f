"""Implicit GEMM: convolution and the linear layer, forward and backward, as two matrix products.

A convolution is a matrix product. Its left matrix (that of im2col) has one row for each patch of the image, the
kh·kw·C numbers in the receptive field of one output pixel, and is never built: a table gives for each *tap* (i, j) of
the kernel and each patch the offset in an image of its run of C channels, OUTSIDE standing for zeros. Other strides,
paddings and kernels are other tables; the gradient in the input is the same product with a table into the output's
gradient; a linear layer has one tap.

    product             out[patch, o]    = bias[o] + Σ_tap,c  x[offsets[tap, patch] + c] · w[tap, c, o]
    transposed_product  out[tap, c, o]   = Σ_patch  x[offsets[tap, patch] + c] · g[patch, o]

Patches are counted through the whole batch. Each sum runs in one order, which is determined by the shape of a patch
(and for the transposed product by that of the batch) and by nothing else: not by the threads, not by the block.
"""

import numpy as np

from . import memory, pool
from .frozen import cache, cached
from .jit import device, kernel
from .launch import launch
from .microkernel import FLOAT, MR, NR, address_of, load_float
from .packing import add_transposed, multiply, pack

OUTSIDE = -1
BLOCK = 64  # patches that a job of `product` takes at a time: a multiple of MR on every machine
DEPTH = 192  # patches that `transposed_product` sums before it adds to memory: a micro-panel of so many fits in L1
SERIAL_BELOW = 1_000_000  # multiplications; fewer take less time than waking the other threads


@device
def find_patches(x, image_bytes, zeros, offsets, first, count, addresses):
    """addresses[tap, r] = the address of tap `tap` of patch `first + r`, r < count; from there on that of zeros."""
    pixels = offsets.shape[1]
    data, outside = address_of(x), address_of(zeros)
    for tap in range(offsets.shape[0]):
        row = addresses[tap]
        done = 0
        image, pixel = divmod(first, pixels)
        while done < count:
            n = min(count - done, pixels - pixel)
            base = data + image * image_bytes
            here, found = row[done : done + n], offsets[tap, pixel : pixel + n]
            for r in range(n):
                here[r] = base + found[r] if found[r] != OUTSIDE else outside
            done += n
            image += 1
            pixel = 0
        for r in range(count, row.size):
            row[r] = outside


@device
def _pack_worker(worker, workers, w, taps, run, columns, transposed, packed):
    """packed[·, tap · run + i, lane] = w[tap, i, column], or w[tap, column, i] if transposed, of some micro-panels."""
    count = packed.shape[0]
    for index in range(count * worker // workers, count * (worker + 1) // workers):
        column = index * NR
        width = min(NR, columns - column)
        row_step, lane_step = (1, run) if transposed else (columns, 1)
        for tap in range(taps):
            at = tap * run * columns + column * lane_step
            rows = packed[index, tap * run : (tap + 1) * run]
            pack(w, at, row_step, lane_step, run, width, rows)


@device
def _block(job, x, image_bytes, zeros, offsets, run, packed, start, out, patches, columns):
    """BLOCK patches times one micro-panel."""
    first = job // packed.shape[0] * BLOCK
    index = job % packed.shape[0]
    count = min(BLOCK, patches - first)
    addresses = np.empty((offsets.shape[0], BLOCK), np.int64)
    scratch = np.empty((BLOCK, NR), np.float32)
    find_patches(x, image_bytes, zeros, offsets, first, count, addresses)
    column = index * NR
    width = min(NR, columns - column)
    multiply(
        addresses,
        count,
        run,
        packed[index],
        start[index],
        out,
        first * columns + column,
        width,
        columns,
        scratch,
    )


@device
def _product_worker(
    worker, workers, jobs, x, image_bytes, zeros, offsets, run, packed, start, out, patches, columns
):
    for job in range(jobs * worker // workers, jobs * (worker + 1) // workers):
        _block(job, x, image_bytes, zeros, offsets, run, packed, start, out, patches, columns)


@kernel
def _product(
    x, image_bytes, zeros, offsets, run, w, transposed, packed, ready, bias, out, patches, columns, threads
):
    count = packed.shape[0]
    start = np.zeros((count, NR), np.float32)
    for column in range(bias.size):
        start[column // NR, column % NR] = bias[column]
    workers = 0 if ready else min(count, threads)
    launch(_pack_worker, workers, workers, w, offsets.shape[0], run, columns, transposed, packed)
    jobs = (patches + BLOCK - 1) // BLOCK * count
    workers = min(jobs, threads)
    launch(
        _product_worker, workers, workers, jobs, x, image_bytes, zeros, offsets, run, packed, start, out,
        patches, columns,
    )  # fmt: skip


@device
def _gather(addresses, count, run, first, rows, gathered, gathered_addresses):
    """gathered[j, p] = entry `first + p` of row j of the im2col matrix; zeros from p = rows on."""
    for j in range(count):
        gathered_addresses[j] = address_of(gathered) + j * MR * FLOAT
    for p in range(MR):
        if p < rows:
            tap, channel = divmod(first + p, run)
            for j in range(count):
                gathered[j, p] = load_float(addresses[tap, j] + channel * FLOAT)
        else:
            for j in range(count):
                gathered[j, p] = np.float32(0)


@device
def _transposed_worker(worker, workers, x, image_bytes, zeros, offsets, run, g, out, patches, columns):
    """A worker's MR × NR microtiles of the transposed product, counted down one micro-panel after another."""
    length = offsets.shape[0] * run
    microtiles, across = (length + MR - 1) // MR, (columns + NR - 1) // NR
    begin, end = microtiles * across * worker // workers, microtiles * across * (worker + 1) // workers
    addresses = np.empty((offsets.shape[0], DEPTH), np.int64)
    packed = np.empty((across, DEPTH, NR), np.float32)
    gathered = np.empty((DEPTH, MR), np.float32)
    gathered_addresses = np.empty(DEPTH, np.int64)
    scratch = np.empty((MR, NR), np.float32)
    for first in range(0, patches, DEPTH):
        count = min(DEPTH, patches - first)
        find_patches(x, image_bytes, zeros, offsets, first, count, addresses)
        for index in range(begin // microtiles, (end - 1) // microtiles + 1):
            column = index * NR
            width = min(NR, columns - column)
            pack(g, first * columns + column, columns, np.int64(1), count, width, packed[index])
        for microtile in range(begin, end):
            column, row = microtile // microtiles * NR, microtile % microtiles * MR
            rows, width, at = min(MR, length - row), min(NR, columns - column), row * columns + column
            tap, channel = divmod(row, run)
            micro_panel = packed[microtile // microtiles]
            if channel + MR <= run:
                add_transposed(
                    addresses[tap],
                    channel * FLOAT,
                    count,
                    micro_panel,
                    out,
                    at,
                    rows,
                    width,
                    columns,
                    scratch,
                )
            else:  # the rows of the microtile belong to more than one tap: they are not adjacent in memory
                _gather(addresses, count, run, row, rows, gathered, gathered_addresses)
                add_transposed(
                    gathered_addresses,
                    np.int64(0),
                    count,
                    micro_panel,
                    out,
                    at,
                    rows,
                    width,
                    columns,
                    scratch,
                )


@kernel
def _transposed_product(x, image_bytes, zeros, offsets, run, g, out, patches, columns, threads):
    microtiles = (offsets.shape[0] * run + MR - 1) // MR * ((columns + NR - 1) // NR)
    workers = min(microtiles, threads)
    launch(
        _transposed_worker, workers, workers, x, image_bytes, zeros, offsets, run, g, out, patches, columns
    )


NO_BIAS = np.zeros(0, np.float32)


def product(
    x: np.ndarray,
    image: int,
    offsets: np.ndarray,
    zeros: np.ndarray,
    w: np.ndarray,
    bias: np.ndarray,
    out: np.ndarray,
    transposed: bool = False,
) -> np.ndarray:
    """Fill `out` (..., columns) and return it.

    `image` is the number of elements in an image of x; `offsets` (taps, patches of an image) are in bytes from its
    beginning; `zeros` are as many as the run of a tap. w holds (taps, run, columns), or (taps, columns, run) if
    transposed.
    """
    columns, run, taps = out.shape[-1], zeros.size, len(offsets)
    threads = 1 if out.size * run * taps < SERIAL_BELOW else pool.size()
    packed = cached(w, ("packed", transposed))
    ready = packed is not None
    if not ready:
        packed = memory.empty((-(-columns // NR), taps * run, NR))
    flat_x, flat_w, flat = x.reshape(-1), w.reshape(-1), out.reshape(-1)
    _product(
        flat_x, image * FLOAT, zeros, offsets, run, flat_w, transposed, packed, ready, bias, flat,
        out.size // columns, columns, threads,
    )  # fmt: skip
    cache(w, ("packed", transposed), packed)
    return out


def transposed_product(
    x: np.ndarray, image: int, offsets: np.ndarray, zeros: np.ndarray, g: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """The transposed product, (taps · run, columns) reshaped to `shape`; arguments as for `product`."""
    out = memory.zeros(shape)
    columns, run = g.shape[-1], zeros.size
    patches = g.size // columns
    # How the microtiles are divided among the threads changes no sum, so it may depend on the machine.
    threads = 1 if patches * out.size < SERIAL_BELOW else pool.size()
    flat_x, flat_g, flat = x.reshape(-1), g.reshape(-1), out.reshape(-1)
    _transposed_product(flat_x, image * FLOAT, zeros, offsets, run, flat_g, flat, patches, columns, threads)
    return out
