"""Products of windows: convolution and the linear layer, forward and backward, as two kernels.

A convolution is a matrix product. Its left matrix has a row for every window, the kh·kw·C numbers which the
kernel sees there, and is never built: a table says where in an image each *tap* of each window finds its run of C
channels, OUTSIDE standing for zeros. Other strides, paddings and kernels are other tables; the gradient in the
input is the same product with a table into the gradient; a linear layer is one tap.

    product             out[window, o]   = bias[o] + Σ_tap,c  x[offsets[tap, window] + c] · w[tap, c, o]
    transposed_product  out[tap, c, o]   = Σ_window  x[offsets[tap, window] + c] · g[window, o]

Windows are counted through the whole batch. Each sum runs in one order, which nothing but the shape of a window
(of the batch, for the transposed product) decides: not the threads, not the block.
"""

import numpy as np
from numba import get_num_threads

from . import memory
from .frozen import keep, kept
from .jit import device, kernel
from .launch import launch
from .panels import add_transposed, multiply, pack
from .tile import FLOAT, LANES, ROWS, address_of, load_float

OUTSIDE = -1
BLOCK = 64  # windows that a job of `product` takes at a time: a multiple of every tile's rows
DEPTH = 192  # windows that `transposed_product` sums before it adds to memory; so much of a panel fits in L1
SERIAL_BELOW = 1_000_000  # multiplications; fewer are done before the other threads have woken


@device
def find(x, image_bytes, zeros, offsets, first, count, addresses):
    """addresses[tap, r] = where tap `tap` of window `first + r` begins, r < count; from there on zeros."""
    pixels = offsets.shape[1]
    data, nothing = address_of(x), address_of(zeros)
    for tap in range(offsets.shape[0]):
        row = addresses[tap]
        done = 0
        image, pixel = divmod(first, pixels)
        while done < count:
            n = min(count - done, pixels - pixel)
            base = data + image * image_bytes
            here, found = row[done : done + n], offsets[tap, pixel : pixel + n]
            for r in range(n):
                here[r] = base + found[r] if found[r] != OUTSIDE else nothing
            done += n
            image += 1
            pixel = 0
        for r in range(count, row.size):
            row[r] = nothing


@device
def _pack_share(share, shares, w, taps, run, columns, transposed, panels):
    """panels[·, tap · run + i, lane] = w[tap, i, column], or w[tap, column, i] if transposed, of some panels."""
    count = panels.shape[0]
    for panel in range(count * share // shares, count * (share + 1) // shares):
        column = panel * LANES
        width = min(LANES, columns - column)
        row_step, lane_step = (1, run) if transposed else (columns, 1)
        for tap in range(taps):
            at = tap * run * columns + column * lane_step
            rows = panels[panel, tap * run : (tap + 1) * run]
            pack(w, at, row_step, lane_step, run, width, rows)


@device
def _block(job, x, image_bytes, zeros, offsets, run, panels, start, out, windows, columns):
    """BLOCK windows times one panel."""
    first = job // panels.shape[0] * BLOCK
    panel = job % panels.shape[0]
    count = min(BLOCK, windows - first)
    addresses = np.empty((offsets.shape[0], BLOCK), np.int64)
    spare = np.empty((BLOCK, LANES), np.float32)
    find(x, image_bytes, zeros, offsets, first, count, addresses)
    column = panel * LANES
    width = min(LANES, columns - column)
    multiply(
        addresses,
        count,
        run,
        panels[panel],
        start[panel],
        out,
        first * columns + column,
        width,
        columns,
        spare,
    )


@device
def _product_share(
    share, shares, jobs, x, image_bytes, zeros, offsets, run, panels, start, out, windows, columns
):
    for job in range(jobs * share // shares, jobs * (share + 1) // shares):
        _block(job, x, image_bytes, zeros, offsets, run, panels, start, out, windows, columns)


@kernel
def _product(
    x, image_bytes, zeros, offsets, run, w, transposed, panels, ready, bias, out, windows, columns, threads
):
    count = panels.shape[0]
    start = np.zeros((count, LANES), np.float32)
    for column in range(bias.size):
        start[column // LANES, column % LANES] = bias[column]
    shares = 0 if ready else min(count, threads)
    launch(_pack_share, shares, shares, w, offsets.shape[0], run, columns, transposed, panels)
    jobs = (windows + BLOCK - 1) // BLOCK * count
    shares = min(jobs, threads)
    launch(
        _product_share, shares, shares, jobs, x, image_bytes, zeros, offsets, run, panels, start, out,
        windows, columns,
    )  # fmt: skip


@device
def _gather(addresses, count, run, first, rows, gathered, gathered_addresses):
    """gathered[j, p] = number `first + p` of window j, its taps' channels in a row; zeros from p = rows on."""
    for j in range(count):
        gathered_addresses[j] = address_of(gathered) + j * ROWS * FLOAT
    for p in range(ROWS):
        if p < rows:
            tap, channel = divmod(first + p, run)
            for j in range(count):
                gathered[j, p] = load_float(addresses[tap, j] + channel * FLOAT)
        else:
            for j in range(count):
                gathered[j, p] = np.float32(0)


@device
def _share(job, jobs, x, image_bytes, zeros, offsets, run, g, out, windows, columns):
    """A job's share of the tiles of the transposed product, counted down one panel of columns after another."""
    length = offsets.shape[0] * run
    tiles, across = (length + ROWS - 1) // ROWS, (columns + LANES - 1) // LANES
    begin, end = tiles * across * job // jobs, tiles * across * (job + 1) // jobs
    addresses = np.empty((offsets.shape[0], DEPTH), np.int64)
    panels = np.empty((across, DEPTH, LANES), np.float32)
    gathered = np.empty((DEPTH, ROWS), np.float32)
    gathered_addresses = np.empty(DEPTH, np.int64)
    spare = np.empty((ROWS, LANES), np.float32)
    for first in range(0, windows, DEPTH):
        count = min(DEPTH, windows - first)
        find(x, image_bytes, zeros, offsets, first, count, addresses)
        for panel in range(begin // tiles, (end - 1) // tiles + 1):
            column = panel * LANES
            width = min(LANES, columns - column)
            pack(g, first * columns + column, columns, np.int64(1), count, width, panels[panel])
        for tile in range(begin, end):
            column, row = tile // tiles * LANES, tile % tiles * ROWS
            rows, width, at = min(ROWS, length - row), min(LANES, columns - column), row * columns + column
            tap, channel = divmod(row, run)
            panel = panels[tile // tiles]
            if channel + ROWS <= run:
                add_transposed(
                    addresses[tap], channel * FLOAT, count, panel, out, at, rows, width, columns, spare
                )
            else:  # the tile's rows are not side by side in memory
                _gather(addresses, count, run, row, rows, gathered, gathered_addresses)
                add_transposed(
                    gathered_addresses, np.int64(0), count, panel, out, at, rows, width, columns, spare
                )


@kernel
def _transposed_product(x, image_bytes, zeros, offsets, run, g, out, windows, columns, threads):
    tiles = (offsets.shape[0] * run + ROWS - 1) // ROWS * ((columns + LANES - 1) // LANES)
    jobs = min(tiles, threads)
    launch(_share, jobs, jobs, x, image_bytes, zeros, offsets, run, g, out, windows, columns)


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

    `image` counts the numbers of an image of x; `offsets` (taps, windows of an image) are in bytes from its
    beginning; `zeros` are as many as a tap's run. w holds (taps, run, columns), or (taps, columns, run) if
    transposed.
    """
    columns, run, taps = out.shape[-1], zeros.size, len(offsets)
    threads = 1 if out.size * run * taps < SERIAL_BELOW else get_num_threads()
    panels = kept(w, ("panels", transposed))
    ready = panels is not None
    if not ready:
        panels = memory.empty((-(-columns // LANES), taps * run, LANES))
    flat_x, flat_w, flat = x.reshape(-1), w.reshape(-1), out.reshape(-1)
    _product(
        flat_x, image * FLOAT, zeros, offsets, run, flat_w, transposed, panels, ready, bias, flat,
        out.size // columns, columns, threads,
    )  # fmt: skip
    keep(w, ("panels", transposed), panels)
    return out


def transposed_product(
    x: np.ndarray, image: int, offsets: np.ndarray, zeros: np.ndarray, g: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """The transposed product, (taps · run, columns) in the form of `shape`; arguments as for `product`."""
    out = memory.zeros(shape)
    columns, run = g.shape[-1], zeros.size
    windows = g.size // columns
    # How the threads share out the tiles of `out` changes no sum, so their number may come from the machine.
    threads = 1 if windows * out.size < SERIAL_BELOW else get_num_threads()
    flat_x, flat_g, flat = x.reshape(-1), g.reshape(-1), out.reshape(-1)
    _transposed_product(flat_x, image * FLOAT, zeros, offsets, run, flat_g, flat, windows, columns, threads)
    return out
