"""Group norm with SiLU in the same pass, forward and backward.

A job is some whole groups of one image. Channels lie side by side, so sums are kept for every channel, where
the loops are vectors, and only then joined to groups. Mean first and then the centred squares: the
one-pass formula E x² − (E x)² loses everything where the mean is large. How groups are dealt to jobs changes no sum.
"""

import numpy as np
from numba import get_num_threads, prange

from . import memory
from .jit import device, device_inlined, kernel
from .math32 import sigmoid

ROWS = 32  # pixels summed in float32 before they join the float64 total
SERIAL_BELOW = 16_384  # numbers; fewer are done before the other threads have woken


@device
def _add_rows(x, first, last, low, high, totals):
    """totals[c] += Σ x[r, low + c], first ≤ r < last."""
    for begin in range(first, last, ROWS):
        sums = np.zeros(high - low, np.float32)
        end = min(last, begin + ROWS)
        r = begin
        while r + 4 <= end:
            r0, r1, r2, r3 = x[r, low:high], x[r + 1, low:high], x[r + 2, low:high], x[r + 3, low:high]
            for c in range(high - low):
                sums[c] += (r0[c] + r1[c]) + (r2[c] + r3[c])
            r += 4
        while r < end:
            row = x[r, low:high]
            for c in range(high - low):
                sums[c] += row[c]
            r += 1
        for c in range(high - low):
            totals[c] += sums[c]


@device
def _add_squares(x, first, last, low, high, mean, totals):
    """totals[c] += Σ (x[r, low + c] − mean[c])², first ≤ r < last."""
    for begin in range(first, last, ROWS):
        sums = np.zeros(high - low, np.float32)
        end = min(last, begin + ROWS)
        for r in range(begin, end):
            row = x[r, low:high]
            for c in range(high - low):
                sums[c] += (row[c] - mean[c]) * (row[c] - mean[c])
        for c in range(high - low):
            totals[c] += sums[c]


@device
def _join(totals, size, count, out, spread):
    """out[group] = Σ totals over the group's `size` channels / count; spread[c] = that of c's group."""
    for group in range(out.size):
        total = 0.0
        for c in range(group * size, (group + 1) * size):
            total += totals[c]
        out[group] = total / count
        for c in range(group * size, (group + 1) * size):
            spread[c] = total / count


@device
def _share(job, splits, x, means):
    """A job's image, its channels low … high − 1, rows first … last − 1 of x, a group's size, and its groups."""
    images, groups = means.shape
    pixels, size = x.shape[0] // images, x.shape[1] // groups
    image, split = job // splits, job % splits
    begin, end = groups * split // splits, groups * (split + 1) // splits
    return image, begin * size, end * size, image * pixels, (image + 1) * pixels, size, begin, end


@device
def _normalise(job, splits, x, gamma, beta, eps, silu, y, means, inverse_deviations):
    image, low, high, first, last, size, begin, end = _share(job, splits, x, means)
    pixels, mean, inverse_deviation = (
        last - first,
        means[image, begin:end],
        inverse_deviations[image, begin:end],
    )
    totals = np.zeros(high - low)
    centre = np.empty(high - low, np.float32)
    scale = np.empty(high - low, np.float32)
    _add_rows(x, first, last, low, high, totals)
    _join(totals, size, pixels * size, mean, centre)
    totals[:] = 0
    _add_squares(x, first, last, low, high, centre, totals)
    _join(totals, size, pixels * size, inverse_deviation, scale)
    for group in range(mean.size):
        inverse_deviation[group] = 1 / np.sqrt(np.float64(inverse_deviation[group]) + eps)
    for c in range(high - low):
        scale[c] = inverse_deviation[c // size] * gamma[low + c]
    shift = beta[low:high]
    for r in range(first, last):
        row, out = x[r, low:high], y[r, low:high]
        if silu:
            for c in range(high - low):
                z = (row[c] - centre[c]) * scale[c] + shift[c]
                out[c] = z * sigmoid(z)
        else:
            for c in range(high - low):
                out[c] = (row[c] - centre[c]) * scale[c] + shift[c]


@device
def _splits(mean, threads):
    """How many jobs share an image, so that a batch smaller than the threads still feeds them all."""
    images, groups = mean.shape
    return min(groups, (threads + images - 1) // max(images, 1))


@kernel
def _forward(x, gamma, beta, eps, silu, y, mean, inverse_deviation, threads):
    """x and y (images · pixels, channels); mean and inverse_deviation (images, groups)."""
    splits = _splits(mean, threads)
    jobs = mean.shape[0] * splits
    if threads == 1:
        for job in range(jobs):
            _normalise(job, splits, x, gamma, beta, eps, silu, y, mean, inverse_deviation)
    else:
        for index in prange(jobs):
            _normalise(np.int64(index), splits, x, gamma, beta, eps, silu, y, mean, inverse_deviation)


@device_inlined
def _differentiate(job, splits, g, x, gamma, beta, means, inverse_deviations, silu, dx, dgammas, dbetas):
    image, low, high, first, last, size, begin, end = _share(job, splits, x, means)
    pixels, mean, inverse_deviation = (
        last - first,
        means[image, begin:end],
        inverse_deviations[image, begin:end],
    )
    width, dgamma, dbeta = high - low, dgammas[image, low:high], dbetas[image, low:high]
    centre, scale = np.empty(width, np.float32), np.empty(width, np.float32)
    for c in range(width):
        centre[c], scale[c] = mean[c // size], inverse_deviation[c // size]
    weight, shift = gamma[low:high], beta[low:high]
    along, plain = np.zeros(width), np.zeros(width)
    for begin in range(first, last, ROWS):
        a, b = np.zeros(width, np.float32), np.zeros(width, np.float32)
        for r in range(begin, min(last, begin + ROWS)):
            row, grow, out = x[r, low:high], g[r, low:high], dx[r, low:high]
            for c in range(width):
                normal = (row[c] - centre[c]) * scale[c]
                slope = grow[c]
                if silu:
                    z = normal * weight[c] + shift[c]
                    s = sigmoid(z)
                    slope = slope * (s * (np.float32(1) + z * (np.float32(1) - s)))
                out[c] = slope
                a[c] += slope * normal
                b[c] += slope
        for c in range(width):
            along[c] += a[c]
            plain[c] += b[c]
    for c in range(width):
        dgamma[c], dbeta[c] = along[c], plain[c]
        along[c] *= weight[c]
        plain[c] *= weight[c]
    groups, spread_along, spread_plain = (
        np.empty(mean.size),
        np.empty(width, np.float32),
        np.empty(width, np.float32),
    )
    _join(along, size, pixels * size, groups, spread_along)
    _join(plain, size, pixels * size, groups, spread_plain)
    for r in range(first, last):
        row, out = x[r, low:high], dx[r, low:high]
        for c in range(width):
            normal = (row[c] - centre[c]) * scale[c]
            out[c] = (out[c] * weight[c] - spread_plain[c] - normal * spread_along[c]) * scale[c]


@device
def _sum_images(parts, out):
    totals = np.zeros(out.size)
    for image in range(parts.shape[0]):
        row = parts[image]
        for c in range(out.size):
            totals[c] += row[c]
    for c in range(out.size):
        out[c] = totals[c]


@kernel
def _backward(g, x, gamma, beta, mean, inverse_deviation, silu, dx, dgamma, dbeta, threads):
    splits = _splits(mean, threads)
    images, channels = mean.shape[0], x.shape[1]
    along, plain = np.empty((images, channels), np.float32), np.empty((images, channels), np.float32)
    jobs = images * splits
    if threads == 1:
        for job in range(jobs):
            _differentiate(job, splits, g, x, gamma, beta, mean, inverse_deviation, silu, dx, along, plain)
    else:
        for index in prange(jobs):
            job = np.int64(index)
            _differentiate(job, splits, g, x, gamma, beta, mean, inverse_deviation, silu, dx, along, plain)
    _sum_images(along, dgamma)
    _sum_images(plain, dbeta)


def _threads(x: np.ndarray) -> int:
    return 1 if x.size < SERIAL_BELOW else get_num_threads()


def group_norm(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, groups: int, eps: float, silu: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    y = memory.empty(x.shape)
    mean, inverse_deviation = np.empty((len(x), groups), np.float32), np.empty((len(x), groups), np.float32)
    rows = (-1, x.shape[-1])
    _forward(x.reshape(rows), gamma, beta, eps, silu, y.reshape(rows), mean, inverse_deviation, _threads(x))
    return y, mean, inverse_deviation


def group_norm_backward(
    g: np.ndarray,
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    mean: np.ndarray,
    inverse_deviation: np.ndarray,
    silu: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    dx, dgamma, dbeta = memory.empty(x.shape), np.empty_like(gamma), np.empty_like(beta)
    rows = (-1, x.shape[-1])
    _backward(
        g.reshape(rows), x.reshape(rows), gamma, beta, mean, inverse_deviation, silu,
        dx.reshape(rows), dgamma, dbeta, _threads(x),
    )  # fmt: skip
    return dx, dgamma, dbeta
