"""Scaled dot-product attention, forward and backward; a job is a share of all the images' heads.

All four products of it run on the register tile, with keys, values and queries packed into panels for one head.
Heads may be tiny, so a job makes its buffers once, and scores lie in rows filled up to whole LANES, where every
loop has a length that vectors divide.
"""

import math

import numpy as np
from numba import get_num_threads, prange

from .jit import device, kernel
from .math32 import exp
from .panels import multiply, pack
from .tile import FLOAT, LANES, ROWS, address_of, columns_tile, copy

SERIAL_BELOW = 1_000_000  # multiplications; fewer are done before the other threads have woken


@device
def _filled(count, unit):
    """The count, filled up to a multiple of the unit."""
    return (count + unit - 1) // unit * unit


@device
def _find(array, at, stride, rows, addresses):
    """A table of addresses: rows of an array that begin `stride` numbers apart, filled up with the first."""
    for r in range(addresses.size):
        addresses[0, r] = address_of(array) + (at + (r if r < rows else 0) * stride) * FLOAT


@device
def _buffers(rows, keys, size):
    """Addresses of rows and of scores, and what a product of one head needs: panel, start and spare."""
    count = _filled(rows, ROWS)
    panel = np.empty((max(rows, keys, size), LANES), np.float32)
    start, spare = np.zeros(LANES, np.float32), np.empty((max(count, ROWS), LANES), np.float32)
    return np.empty((1, count), np.int64), np.empty((1, count), np.int64), (panel, start, spare)


@device
def _times(addresses, rows, run, b, b_at, b_row, b_lane, columns, out, at, stride, room, buffers):
    """out[at + r · stride + c] = Σ_i A[r][i] · b[b_at + i · b_row + c · b_lane], i < run.

    A row of out has room for `room` numbers; those from `columns` on become zero.
    """
    panel, start, spare = buffers
    for column in range(0, columns, LANES):
        pack(b, b_at + column * b_lane, b_row, b_lane, run, min(LANES, columns - column), panel)
        width = min(LANES, room - column)
        multiply(addresses, rows, run, panel, start, out, at + column, width, stride, spare)


@device
def _transposed_times(a, rows, depth, b, b_at, columns, out, at, stride, buffers):
    """out[at + r · stride + c] = Σ_j a[j, r] · b[b_at + j · stride + c], j < depth."""
    panel, _, spare = buffers
    for column in range(0, columns, LANES):
        width = min(LANES, columns - column)
        pack(b, b_at + column, stride, np.int64(1), depth, width, panel)
        for r in range(0, rows, ROWS):
            spare[:ROWS] = 0
            columns_tile(
                address_of(a) + r * FLOAT, a.shape[1] * FLOAT, depth, address_of(panel),
                address_of(spare), LANES * FLOAT,
            )  # fmt: skip
            for p in range(min(ROWS, rows - r)):
                to = address_of(out) + (at + (r + p) * stride + column) * FLOAT
                copy(address_of(spare) + p * LANES * FLOAT, to, width)


@device
def _softmax(row, keys, scale, largest):
    """row ← softmax(scale · row) of its first `keys` numbers, in place. A NaN makes them all NaN."""
    for i in range(keys, row.size):
        row[i] = -np.inf
    for lane in range(LANES):
        largest[lane] = row[lane]
    for begin in range(LANES, row.size, LANES):
        part = row[begin : begin + LANES]
        for lane in range(LANES):
            largest[lane] = part[lane] if part[lane] > largest[lane] else largest[lane]
    top = np.float32(-np.inf)
    for lane in range(LANES):
        top = largest[lane] if largest[lane] > top else top
    total = np.float32(0)
    for i in range(row.size):
        row[i] = exp((row[i] - top) * scale)
        total += row[i]
    share = np.float32(1) / total
    for i in range(row.size):
        row[i] *= share


@device
def _share(job, jobs, shape):
    """First and last head of a job's share, counted through all images."""
    count = shape[0] * shape[1]
    return count * job // jobs, count * (job + 1) // jobs


@device
def _place(head, shape):
    """Where in q (or what is like it), in k and in the weights a head begins."""
    _, heads, rows, keys, size = shape
    image, at = head // heads, head % heads * size
    return image * rows * heads * size + at, image * keys * heads * size + at, head * rows * keys


@device
def _attend(job, jobs, shape, q, k, v, weights, out):
    _, heads, rows, keys, size = shape
    channels, one = heads * size, np.int64(1)  # a literal 1 would be compiled for itself
    scale = np.float32(1 / math.sqrt(size))
    q_rows, p_rows, buffers = _buffers(rows, keys, size)
    p = np.empty((q_rows.size, _filled(keys, LANES)), np.float32)
    flat, room = p.reshape(-1), p.shape[1]
    largest = np.empty(LANES, np.float32)
    _find(flat, 0, room, rows, p_rows)
    begin, end = _share(job, jobs, shape)
    for head in range(begin, end):
        q_at, k_at, w_at = _place(head, shape)
        _find(q, q_at, channels, rows, q_rows)
        _times(q_rows, q_rows.size, size, k, k_at, one, channels, keys, flat, 0, room, room, buffers)
        for r in range(rows):
            _softmax(p[r], keys, scale, largest)
            copy(address_of(p[r]), address_of(weights) + (w_at + r * keys) * FLOAT, keys)
        _times(p_rows, rows, keys, v, k_at, channels, one, size, out, q_at, channels, size, buffers)


@kernel
def _forward(shape, q, k, v, weights, out, threads):
    jobs = min(threads, shape[0] * shape[1])
    if jobs == 1:
        for job in range(jobs):  # not the literal 0, for which Numba would compile it again
            _attend(job, jobs, shape, q, k, v, weights, out)
    else:
        for index in prange(jobs):
            _attend(np.int64(index), jobs, shape, q, k, v, weights, out)


@device
def _slopes(weight, slope, scale):
    """slope ← the scores' gradient, from the weights' in slope: scale · weight · (slope − Σ weight · slope)."""
    mean = np.float32(0)
    for i in range(slope.size):
        mean += weight[i] * slope[i]
    for i in range(slope.size):
        slope[i] = weight[i] * (slope[i] - mean) * scale


@device
def _differentiate(job, jobs, shape, g, q, k, v, weights, dq, dk, dv):
    _, heads, rows, keys, size = shape
    channels, one = heads * size, np.int64(1)
    scale = np.float32(1 / math.sqrt(size))
    g_rows, slope_rows, buffers = _buffers(rows, keys, size)
    p = np.zeros((g_rows.size, _filled(keys, LANES)), np.float32)
    slopes = np.zeros_like(p)
    flat, room = slopes.reshape(-1), p.shape[1]
    _find(flat, 0, room, rows, slope_rows)
    begin, end = _share(job, jobs, shape)
    for head in range(begin, end):
        q_at, k_at, w_at = _place(head, shape)
        _find(g, q_at, channels, rows, g_rows)
        _times(g_rows, g_rows.size, size, v, k_at, one, channels, keys, flat, 0, room, room, buffers)
        for r in range(rows):
            copy(address_of(weights) + (w_at + r * keys) * FLOAT, address_of(p[r]), keys)
            _slopes(p[r], slopes[r], scale)
        _times(slope_rows, rows, keys, k, k_at, channels, one, size, dq, q_at, channels, size, buffers)
        _transposed_times(slopes, keys, rows, q, q_at, size, dk, k_at, channels, buffers)
        _transposed_times(p, keys, rows, g, q_at, size, dv, k_at, channels, buffers)


@kernel
def _backward(shape, g, q, k, v, weights, dq, dk, dv, threads):
    jobs = min(threads, shape[0] * shape[1])
    if jobs == 1:
        for job in range(jobs):
            _differentiate(job, jobs, shape, g, q, k, v, weights, dq, dk, dv)
    else:
        for index in prange(jobs):
            _differentiate(np.int64(index), jobs, shape, g, q, k, v, weights, dq, dk, dv)


def _threads(q: np.ndarray, k: np.ndarray) -> int:
    """How the heads are dealt to threads changes no sum, so their number may come from the machine."""
    return 1 if q.size * k.shape[1] < SERIAL_BELOW else get_num_threads()


def _flat(*arrays: np.ndarray) -> list[np.ndarray]:
    return [array.reshape(-1) for array in arrays]


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int) -> tuple[np.ndarray, np.ndarray]:
    weights, out = np.empty((len(q), heads, q.shape[1], k.shape[1]), np.float32), np.empty_like(q)
    shape = (*weights.shape, q.shape[2] // heads)
    _forward(shape, *_flat(q, k, v, weights, out), _threads(q, k))
    return out, weights


def attention_backward(
    g: np.ndarray, q: np.ndarray, k: np.ndarray, v: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    dq, dk, dv = np.empty_like(q), np.empty_like(k), np.empty_like(v)
    shape = (*weights.shape, q.shape[2] // weights.shape[1])
    _backward(shape, *_flat(g, q, k, v, weights, dq, dk, dv), _threads(q, k))
    return dq, dk, dv
