"""Scaled dot-product attention, forward and backward, on the register tile.

LANES queries of one head lie across the lanes of a tile and the keys down it. So the softmax is a matter of whole
rows of lanes, and the block of weights, (keys, LANES), is as it stands the panel that the next product wants.
Forward keeps them for backward, one row a key. With S = q kᵀ / √d, P = softmax(S), out = P v:

    dP = g vᵀ      dS = P (dP − Σ_keys P dP) / √d      dq = dS k      dk = dSᵀ q      dv = Pᵀ g

Every sum runs in one
order, which the threads do not change: they share out blocks of queries, forward, and heads, backward.
"""

import math

import numpy as np
from numba import get_num_threads

from . import memory
from .jit import device, kernel
from .launch import launch
from .math32 import exp
from .tile import FLOAT, LANES, ROWS, address_of, columns_tile, copy_lanes, rows_tile

VECTOR = LANES // 2
REACH = 256  # rows of a panel that are used on all rows of A before the next: they stay in the L1 cache
SERIAL_BELOW = 250_000  # multiplications; fewer are done before the other threads have woken


@device
def _find_rows(source, at, stride, rows, columns, own, table):
    """table[r] = the address of row r, source[at + r · stride …], the first row's for r ≥ rows.

    Whole tiles are read: where `columns` is not a multiple of ROWS, the rows are copied to `own`, which is wider.
    """
    begin, step = address_of(source) + at * FLOAT, stride * FLOAT
    if columns % ROWS:
        begin, step = address_of(own), own.shape[1] * FLOAT
        for r in range(rows):
            for c in range(columns):
                own[r, c] = source[at + r * stride + c]
    for r in range(table.size):
        table[r] = begin + (r if r < rows else 0) * step


@device
def _addresses(array):
    """Where the rows of a (rows, LANES) array begin."""
    table = np.empty(array.shape[0], np.int64)
    for r in range(table.size):
        table[r] = address_of(array) + r * LANES * FLOAT
    return table


@device
def _add_product(rows, run, panel, out):
    """out[r, lane] += Σ_i A[r][i] · panel[i, lane], i < run; A[r] begins at the address rows[r]."""
    step = LANES * FLOAT
    for i in range(0, run, REACH):
        for r in range(0, out.shape[0], ROWS):
            here = address_of(out) + r * step
            rows_tile(
                address_of(rows) + r * 8, 0, 1, i * FLOAT, min(REACH, run - i),
                address_of(panel) + i * step, here, step, here, step,
            )  # fmt: skip


@device
def _add_transposed_product(rows, count, panel, out):
    """out[p, lane] += Σ_j A[j][p] · panel[j, lane], j < count; A[j] begins at the address rows[j]."""
    step = LANES * FLOAT
    for p in range(0, out.shape[0], ROWS):
        columns_tile(address_of(rows), p * FLOAT, count, address_of(panel), address_of(out) + p * step, step)


@device
def _lay_down(source, at, stride, count, width, panel):
    """panel[r, lane] = source[at + r · stride + lane], r < count and lane < width; other lanes hold anything."""
    for r in range(count):
        begin = at + r * stride
        if begin + LANES <= source.size:
            copy_lanes(address_of(source) + begin * FLOAT, address_of(panel) + r * LANES * FLOAT)
        else:
            for lane in range(width):
                panel[r, lane] = source[begin + lane]


@device
def _lay_across(source, at, stride, count, panel):
    """panel[c, lane] = source[at + lane · stride + c], zeros from lane = count on."""
    if count < LANES:
        panel[:] = 0
    for lane in range(count):
        there = source[at + lane * stride : at + lane * stride + panel.shape[0]]
        for c in range(there.size):
            panel[c, lane] = there[c]


@device
def _take_back(panel, size, out, at, stride, count):
    """out[at + lane · stride + c] = panel[c, lane], c < size and lane < count."""
    for lane in range(count):
        there = out[at + lane * stride : at + lane * stride + size]
        for c in range(size):
            there[c] = panel[c, lane]


@device
def _softmax(scores, keys, count, scale):
    """In each of the first `count` lanes: scores ← softmax(scale · scores) over the rows. NaN fills its lane."""
    top, total = np.empty(VECTOR, np.float32), np.empty(VECTOR, np.float32)
    for begin in range(0, count, VECTOR):
        top[:] = -np.inf
        total[:] = 0
        for j in range(keys):
            row = scores[j, begin : begin + VECTOR]
            for lane in range(VECTOR):
                top[lane] = row[lane] if row[lane] > top[lane] else top[lane]
        for j in range(keys):
            row = scores[j, begin : begin + VECTOR]
            for lane in range(VECTOR):
                row[lane] = exp((row[lane] - top[lane]) * scale)
                total[lane] += row[lane]
        for lane in range(VECTOR):
            total[lane] = np.float32(1) / total[lane]
        for j in range(keys):
            row = scores[j, begin : begin + VECTOR]
            for lane in range(VECTOR):
                row[lane] *= total[lane]


@device
def _softmax_backward(weights, slopes, keys, count, scale):
    """slopes, which are ∂/∂weights, become ∂/∂scores: weights · (slopes − Σ_keys weights · slopes) · scale."""
    mean = np.empty(VECTOR, np.float32)
    for begin in range(0, count, VECTOR):
        mean[:] = 0
        for j in range(keys):
            weight, slope = weights[j, begin : begin + VECTOR], slopes[j, begin : begin + VECTOR]
            for lane in range(VECTOR):
                mean[lane] += weight[lane] * slope[lane]
        for j in range(keys):
            weight, slope = weights[j, begin : begin + VECTOR], slopes[j, begin : begin + VECTOR]
            for lane in range(VECTOR):
                slope[lane] = weight[lane] * (slope[lane] - mean[lane]) * scale


@device
def _whole_tiles(n):
    return (n + ROWS - 1) // ROWS * ROWS


@device
def _attend(begin, end, shape, q, k, v, out, kept, own_k, own_v, panel, weights, mixed):
    """Blocks begin … end − 1 of LANES queries, counted through all heads of all images."""
    _, heads, queries, keys, size = shape
    channels, blocks, loaded = heads * size, (queries + LANES - 1) // LANES, np.int64(-1)
    k_rows, v_rows = np.empty(own_k.shape[0], np.int64), np.empty(own_k.shape[0], np.int64)
    scale = np.float32(1 / math.sqrt(size))
    for job in range(begin, end):
        head, first = job // blocks, job % blocks * LANES
        image, channel = head // heads, head % heads * size
        count = min(LANES, queries - first)
        if head != loaded:
            k_at = image * keys * channels + channel
            _find_rows(k, k_at, channels, keys, size, own_k, k_rows)
            _find_rows(v, k_at, channels, keys, size, own_v, v_rows)
            loaded = head
        q_at = (image * queries + first) * channels + channel
        _lay_across(q, q_at, channels, count, panel)
        weights[:] = 0
        _add_product(k_rows, size, panel, weights)
        _softmax(weights, keys, count, scale)
        for j in range(keys):
            at = (head * keys + j) * queries + first
            there, row = kept[at : at + count], weights[j]
            for lane in range(count):
                there[lane] = row[lane]
        mixed[:] = 0
        _add_transposed_product(v_rows, keys, weights, mixed)
        _take_back(mixed, size, out, q_at, channels, count)


@device
def _matrix(scratch, at, rows, columns):
    """A matrix at `at` in the scratch, and where the next may begin."""
    end = at + rows * columns
    return scratch[at:end].reshape(rows, columns), end


@device
def _attend_share(share, shares, jobs, shape, q, k, v, out, kept, scratch):
    keys, size, scratch = shape[3], shape[4], scratch[share]
    tall, wide = _whole_tiles(keys), _whole_tiles(size)
    panel, at = _matrix(scratch, np.int64(0), size, LANES)
    weights, at = _matrix(scratch, at, tall, LANES)
    mixed, at = _matrix(scratch, at, wide, LANES)
    own_k, at = _matrix(scratch, at, tall, wide)
    own_v, at = _matrix(scratch, at, tall, wide)
    begin, end = jobs * share // shares, jobs * (share + 1) // shares
    _attend(begin, end, shape, q, k, v, out, kept, own_k, own_v, panel, weights, mixed)


@kernel
def _forward(shape, q, k, v, out, kept, scratch):
    jobs, threads = shape[0] * shape[1] * ((shape[2] + LANES - 1) // LANES), scratch.shape[0]
    launch(_attend_share, threads, threads, jobs, shape, q, k, v, out, kept, scratch)


@device
def _differentiate(
    begin, end, shape, g, q, k, v, kept, dq, dk, dv,
    own_k, own_v, own_dk, own_dv, panel, across, weights, slopes, mixed,
):  # fmt: skip
    """Heads begin … end − 1, counted through all images."""
    _, heads, queries, keys, size = shape
    channels = heads * size
    k_rows, v_rows = np.empty(own_k.shape[0], np.int64), np.empty(own_k.shape[0], np.int64)
    weight_rows, slope_rows = _addresses(weights), _addresses(slopes)
    scale = np.float32(1 / math.sqrt(size))
    for head in range(begin, end):
        image, channel = head // heads, head % heads * size
        k_at = image * keys * channels + channel
        _find_rows(k, k_at, channels, keys, size, own_k, k_rows)
        _find_rows(v, k_at, channels, keys, size, own_v, v_rows)
        own_dk[:] = 0
        own_dv[:] = 0
        for first in range(0, queries, LANES):
            count = min(LANES, queries - first)
            q_at = (image * queries + first) * channels + channel
            _lay_down(kept, head * keys * queries + first, queries, keys, count, weights)
            _lay_across(g, q_at, channels, count, across)
            slopes[:] = 0
            _add_product(v_rows, size, across, slopes)
            _softmax_backward(weights, slopes, keys, count, scale)
            mixed[:] = 0
            _add_transposed_product(k_rows, keys, slopes, mixed)
            _take_back(mixed, size, dq, q_at, channels, count)
            for part in range(own_dk.shape[0]):
                column = part * LANES
                width = min(LANES, size - column)
                _lay_down(q, q_at + column, channels, count, width, panel)
                _add_product(slope_rows, count, panel, own_dk[part])
                _lay_down(g, q_at + column, channels, count, width, panel)
                _add_product(weight_rows, count, panel, own_dv[part])
        for part in range(own_dk.shape[0]):
            column = part * LANES
            width = min(LANES, size - column)
            for j in range(keys):
                at = k_at + j * channels + column
                dk_row, dv_row = dk[at : at + width], dv[at : at + width]
                for lane in range(width):
                    dk_row[lane], dv_row[lane] = own_dk[part, j, lane], own_dv[part, j, lane]


@device
def _differentiate_share(share, shares, shape, g, q, k, v, kept, dq, dk, dv, scratch):
    keys, size, scratch = shape[3], shape[4], scratch[share]
    tall, wide, parts = _whole_tiles(keys), _whole_tiles(size), (size + LANES - 1) // LANES
    across, at = _matrix(scratch, np.int64(0), size, LANES)
    panel, at = _matrix(scratch, at, np.int64(LANES), LANES)
    weights, at = _matrix(scratch, at, tall, LANES)
    slopes, at = _matrix(scratch, at, tall, LANES)
    mixed, at = _matrix(scratch, at, wide, LANES)
    own_dk, at = _matrix(scratch, at, parts * tall, LANES)
    own_dv, at = _matrix(scratch, at, parts * tall, LANES)
    own_k, at = _matrix(scratch, at, tall, wide)
    own_v, at = _matrix(scratch, at, tall, wide)
    jobs = shape[0] * shape[1]
    begin, end = jobs * share // shares, jobs * (share + 1) // shares
    _differentiate(
        begin, end, shape, g, q, k, v, kept, dq, dk, dv, own_k, own_v, own_dk.reshape(parts, tall, LANES),
        own_dv.reshape(parts, tall, LANES), panel, across, weights, slopes, mixed,
    )  # fmt: skip


@kernel
def _backward(shape, g, q, k, v, kept, dq, dk, dv, scratch):
    threads = scratch.shape[0]
    launch(_differentiate_share, threads, threads, shape, g, q, k, v, kept, dq, dk, dv, scratch)


def _scratch(q: np.ndarray, k: np.ndarray, heads: int) -> np.ndarray:
    """(threads, n): for each thread that is to work, room for all matrices of a job, forward or backward."""
    threads = 1 if q.size * k.shape[1] < SERIAL_BELOW else get_num_threads()
    size = q.shape[2] // heads
    tall, wide = k.shape[1] + ROWS, size + LANES
    room = (LANES + size + 2 * tall + wide) * LANES + 4 * tall * wide
    return memory.empty((threads, max(-(-room // LANES) * LANES, memory.SMALL // FLOAT)))


def _shape(q: np.ndarray, k: np.ndarray, heads: int) -> tuple[int, int, int, int, int]:
    """Images, heads, queries, keys, channels of a head."""
    return len(q), heads, q.shape[1], k.shape[1], q.shape[2] // heads


def _flat(*arrays: np.ndarray) -> list[np.ndarray]:
    return [array.reshape(-1) for array in arrays]


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int) -> tuple[np.ndarray, np.ndarray]:
    out, weights = memory.empty(q.shape), memory.empty((len(q), heads, k.shape[1], q.shape[1]))
    _forward(_shape(q, k, heads), *_flat(q, k, v, out, weights), _scratch(q, k, heads))
    return out, weights


def attention_backward(
    g: np.ndarray, q: np.ndarray, k: np.ndarray, v: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    dq, dk, dv = memory.empty(q.shape), memory.empty(k.shape), memory.empty(v.shape)
    heads = weights.shape[1]
    _backward(_shape(q, k, heads), *_flat(g, q, k, v, weights, dq, dk, dv), _scratch(q, k, heads))
    return dq, dk, dv
