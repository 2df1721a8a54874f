"""Scaled dot-product attention, forward and backward; a job is one head of one image.

All four products of it run on the register tile, with keys, values and queries packed into panels for the job.
"""

import math

import numpy as np
from numba import prange

from . import memory
from .jit import device, kernel
from .math32 import exp
from .panels import add_transposed, multiply, pack
from .tile import FLOAT, LANES, ROWS, address_of

SERIAL_BELOW = 1_000_000  # multiplications; fewer are done before the other threads have woken


@device
def _rows_of(array, at, stride, rows):
    """A table of addresses: rows of an array that begin `stride` numbers apart, filled up with the first."""
    table = np.empty((1, (rows + ROWS - 1) // ROWS * ROWS), np.int64)
    for r in range(table.size):
        table[0, r] = address_of(array) + (at + (r if r < rows else 0) * stride) * FLOAT
    return table


@device
def _times(a, a_at, a_stride, rows, run, b, b_at, b_row, b_lane, columns, out, at, stride):
    """out[at + r · stride + c] = Σ_i a[a_at + r · a_stride + i] · b[b_at + i · b_row + c · b_lane], i < run."""
    addresses = _rows_of(a, a_at, a_stride, rows)
    panel, start = np.empty((run, LANES), np.float32), np.zeros(LANES, np.float32)
    spare = np.empty((addresses.shape[1], LANES), np.float32)
    for column in range(0, columns, LANES):
        width = min(LANES, columns - column)
        pack(b, b_at + column * b_lane, b_row, b_lane, run, width, panel)
        multiply(addresses, rows, run, panel, start, out, at + column, width, stride, spare)


@device
def _transposed_times(a, a_stride, rows, depth, b, b_at, b_stride, columns, out, at, stride):
    """out[at + r · stride + c] += Σ_j a[j · a_stride + r] · b[b_at + j · b_stride + c], j < depth.

    Whole tiles are read: a_stride is a multiple of ROWS, and a is zero past its columns.
    """
    addresses = _rows_of(a, np.int64(0), a_stride, depth)
    panel, spare = np.empty((depth, LANES), np.float32), np.empty((ROWS, LANES), np.float32)
    for column in range(0, columns, LANES):
        width = min(LANES, columns - column)
        pack(b, b_at + column, b_stride, np.int64(1), depth, width, panel)
        for r in range(0, rows, ROWS):
            count = min(ROWS, rows - r)
            add_transposed(
                addresses[0],
                r * FLOAT,
                depth,
                panel,
                out,
                at + r * stride + column,
                count,
                width,
                stride,
                spare,
            )


@device
def _softmax(row, scale):
    """row ← softmax(scale · row), in place. A NaN makes the whole row NaN."""
    largest = np.full(LANES, -np.inf, np.float32)
    whole = row.size // LANES * LANES
    for begin in range(0, whole, LANES):
        part = row[begin : begin + LANES]
        for lane in range(LANES):
            largest[lane] = part[lane] if part[lane] > largest[lane] else largest[lane]
    for i in range(whole, row.size):
        largest[0] = row[i] if row[i] > largest[0] else largest[0]
    top = largest[0]
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
def _attend(job, shape, q, k, v, weights, out):
    _, heads, rows, keys, size = shape
    channels, one = heads * size, np.int64(1)  # a literal 1 would be compiled for itself
    q_at = job // heads * rows * channels + job % heads * size
    k_at = job // heads * keys * channels + job % heads * size
    w_at = job * rows * keys
    _times(q, q_at, channels, rows, size, k, k_at, one, channels, keys, weights, w_at, keys)
    scale = np.float32(1 / math.sqrt(size))
    for r in range(rows):
        _softmax(weights[w_at + r * keys : w_at + (r + 1) * keys], scale)
    _times(weights, w_at, keys, rows, keys, v, k_at, channels, one, size, out, q_at, channels)


@kernel
def _forward(shape, q, k, v, weights, out, serial):
    jobs = shape[0] * shape[1]
    if serial:
        for job in range(jobs):
            _attend(job, shape, q, k, v, weights, out)
    else:
        for index in prange(jobs):
            _attend(np.int64(index), shape, q, k, v, weights, out)


@device
def _differentiate(job, shape, g, q, k, v, weights, dq, dk, dv):
    _, heads, rows, keys, size = shape
    channels, zero, one = heads * size, np.int64(0), np.int64(1)  # literals would be compiled for themselves
    q_at = job // heads * rows * channels + job % heads * size
    k_at = job // heads * keys * channels + job % heads * size
    padded = (keys + ROWS - 1) // ROWS * ROWS
    p, dscores = np.zeros(rows * padded, np.float32), np.zeros(rows * padded, np.float32)
    _times(g, q_at, channels, rows, size, v, k_at, one, channels, keys, dscores, zero, padded)
    scale = np.float32(1 / math.sqrt(size))
    for r in range(rows):
        weight = weights[(job * rows + r) * keys : (job * rows + r + 1) * keys]
        copy, slope = p[r * padded : (r + 1) * padded], dscores[r * padded : (r + 1) * padded]
        mean = np.float32(0)
        for i in range(keys):
            copy[i] = weight[i]
            mean += weight[i] * slope[i]
        for i in range(keys):
            slope[i] = weight[i] * (slope[i] - mean) * scale
    _times(dscores, zero, padded, rows, keys, k, k_at, channels, one, size, dq, q_at, channels)
    _transposed_times(dscores, padded, keys, rows, q, q_at, channels, size, dk, k_at, channels)
    _transposed_times(p, padded, keys, rows, g, q_at, channels, size, dv, k_at, channels)


@kernel
def _backward(shape, g, q, k, v, weights, dq, dk, dv, serial):
    jobs = shape[0] * shape[1]
    if serial:
        for job in range(jobs):
            _differentiate(job, shape, g, q, k, v, weights, dq, dk, dv)
    else:
        for index in prange(jobs):
            _differentiate(np.int64(index), shape, g, q, k, v, weights, dq, dk, dv)


def _serial(q: np.ndarray, k: np.ndarray) -> bool:
    return q.size * k.shape[1] < SERIAL_BELOW


def _flat(*arrays: np.ndarray) -> list[np.ndarray]:
    return [array.reshape(-1) for array in arrays]


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int) -> tuple[np.ndarray, np.ndarray]:
    weights, out = memory.empty((len(q), heads, q.shape[1], k.shape[1])), memory.empty(q.shape)
    shape = (*weights.shape, q.shape[2] // heads)
    _forward(shape, *_flat(q, k, v, weights, out), _serial(q, k))
    return out, weights


def attention_backward(
    g: np.ndarray, q: np.ndarray, k: np.ndarray, v: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    dq, dk, dv = memory.empty(q.shape), memory.zeros(k.shape), memory.zeros(v.shape)
    shape = (*weights.shape, q.shape[2] // weights.shape[1])
    _backward(shape, *_flat(g, q, k, v, weights, dq, dk, dv), _serial(q, k))
    return dq, dk, dv
