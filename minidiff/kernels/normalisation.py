"""Group norm with SiLU in the same pass, forward and backward.

Channels lie side by side, so sums are kept for every channel, where the loops are vectors, and only then joined to
groups. Mean first and then the centred squares: the one-pass formula E x² − (E x)² loses everything where the mean is
large. Loops over few channels are too short to be worth vectors: then several pixels make one *line*, and the sums
of a channel in all of them are joined at the end (`fold`).

A job is an image or, where there are fewer images than threads, some whole groups of it, which changes no sum: lines
first … last − 1 of an array (lines, pixels of a line · channels), and of each the numbers low … high − 1. They are
cut out line by line: Numba knows of a slice of one line that it is contiguous, of a block it does not.
"""

import numpy as np
from numba import get_num_threads, prange

from . import memory
from .jit import device, device_inlined, kernel
from .math32 import sigmoid
from .rows import fold

LINES = 32  # lines summed in float32 before they join the float64 total
SERIAL_BELOW = 16_384  # numbers; fewer are done before the other threads have woken


@device
def _add_lines(x, first, last, low, high, sums, totals):
    """totals[c] += Σ_line x[line, low + c]."""
    for begin in range(first, last, LINES):
        end = min(last, begin + LINES)
        sums[:] = 0
        for line in range(begin, end - 3, 4):
            x0, x1 = x[line, low:high], x[line + 1, low:high]
            x2, x3 = x[line + 2, low:high], x[line + 3, low:high]
            for c in range(sums.size):
                sums[c] += (x0[c] + x1[c]) + (x2[c] + x3[c])
        for line in range(end - (end - begin) % 4, end):
            row = x[line, low:high]
            for c in range(sums.size):
                sums[c] += row[c]
        for c in range(sums.size):
            totals[c] += sums[c]


@device
def _add_squares(x, first, last, low, high, centre, sums, totals):
    """totals[c] += Σ_line (x[line, low + c] − centre[c])²."""
    for begin in range(first, last, LINES):
        sums[:] = 0
        for line in range(begin, min(last, begin + LINES)):
            row = x[line, low:high]
            for c in range(sums.size):
                sums[c] += (row[c] - centre[c]) * (row[c] - centre[c])
        for c in range(sums.size):
            totals[c] += sums[c]


@device
def _mean_of_group(totals, first, size, channels, count):
    """Σ totals over a group's `size` channels from `first` on, in all pixels of the line, / count."""
    total = 0.0
    for pixel in range(first, totals.size, channels):
        for c in range(pixel, pixel + size):
            total += totals[c]
    return total / count


@device
def _spread(value, first, size, channels, out):
    """The opposite: the group's value to all its channels in all pixels of the line."""
    for pixel in range(first, out.size, channels):
        for c in range(pixel, pixel + size):
            out[c] = value


@device
def _repeat(values, out):
    """out = values, values, …: those of the channels for every pixel of the line."""
    for pixel in range(0, out.size, values.size):
        for c in range(values.size):
            out[pixel + c] = values[c]


@device
def _share(job, splits, x, groups_of_images, channels):
    """A job's image, its groups begin … end − 1, its lines first … last − 1, its numbers low … high − 1 of a line."""
    images, groups = groups_of_images.shape
    image, split = job // splits, job % splits
    begin, end = groups * split // splits, groups * (split + 1) // splits
    lines, size = x.shape[0] // images, channels // groups
    high = x.shape[1] if splits == 1 else end * size
    return image, begin, end, image * lines, (image + 1) * lines, begin * size, high


@device_inlined
def _normalise(
    x, first, last, low, high, gamma, beta, eps, silu, y, mean, inverse_deviation, scratch, totals
):
    """One job, with its own channels' gamma and beta, its own groups' mean and inverse_deviation."""
    channels, size = gamma.size, gamma.size // mean.size
    count = (last - first) * (high - low) // mean.size
    centre, scale, shift, sums = scratch[0], scratch[1], scratch[2], scratch[3]
    totals[:] = 0
    _add_lines(x, first, last, low, high, sums, totals)
    for group in range(mean.size):
        value = np.float32(_mean_of_group(totals, group * size, size, channels, count))
        mean[group] = value
        _spread(value, group * size, size, channels, centre)
    totals[:] = 0
    _add_squares(x, first, last, low, high, centre, sums, totals)
    _repeat(gamma, shift)
    for group in range(mean.size):
        variance = _mean_of_group(totals, group * size, size, channels, count)
        value = np.float32(1 / np.sqrt(variance + eps))
        inverse_deviation[group] = value
        _spread(value, group * size, size, channels, scale)
    for c in range(scale.size):
        scale[c] *= shift[c]
    _repeat(beta, shift)
    for line in range(first, last):
        row, out = x[line, low:high], y[line, low:high]
        if silu:
            for c in range(row.size):
                z = (row[c] - centre[c]) * scale[c] + shift[c]
                out[c] = z * sigmoid(z)
        else:
            for c in range(row.size):
                out[c] = (row[c] - centre[c]) * scale[c] + shift[c]


@device
def _normalise_share(share, shares, splits, x, gamma, beta, eps, silu, y, means, inverse_deviations):
    jobs, size = means.shape[0] * splits, gamma.size // means.shape[1]
    for job in range(jobs * share // shares, jobs * (share + 1) // shares):
        image, begin, end, first, last, low, high = _share(job, splits, x, means, gamma.size)
        scratch, totals = np.empty((4, high - low), np.float32), np.empty(high - low)
        own = slice(begin * size, end * size)
        _normalise(
            x, first, last, low, high, gamma[own], beta[own], eps, silu, y,
            means[image, begin:end], inverse_deviations[image, begin:end], scratch, totals,
        )  # fmt: skip


@kernel
def _forward(x, gamma, beta, eps, silu, y, mean, inverse_deviation, splits, threads):
    """x and y (lines, pixels of a line · channels); mean and inverse_deviation (images, groups)."""
    for share in prange(threads):
        _normalise_share(
            np.int64(share), threads, splits, x, gamma, beta, eps, silu, y, mean, inverse_deviation
        )


@device_inlined
def _differentiate(
    g, x, first, last, low, high, gamma, beta, mean, inverse_deviation, silu, dx, dgamma, dbeta, scratch, totals
):  # fmt: skip
    """One job; dgamma and dbeta are what it adds to them."""
    channels, size = gamma.size, gamma.size // mean.size
    count = (last - first) * (high - low) // mean.size
    centre, scale, weight, shift = scratch[0], scratch[1], scratch[2], scratch[3]
    along, plain, along_totals, plain_totals = scratch[4], scratch[5], totals[0], totals[1]
    for group in range(mean.size):
        _spread(mean[group], group * size, size, channels, centre)
        _spread(inverse_deviation[group], group * size, size, channels, scale)
    _repeat(gamma, weight)
    _repeat(beta, shift)
    totals[:] = 0
    for begin in range(first, last, LINES):
        along[:] = 0
        plain[:] = 0
        for line in range(begin, min(last, begin + LINES)):
            row, grow, out = x[line, low:high], g[line, low:high], dx[line, low:high]
            if silu:
                for c in range(row.size):
                    normal = (row[c] - centre[c]) * scale[c]
                    z = normal * weight[c] + shift[c]
                    s = sigmoid(z)
                    slope = grow[c] * (s * (np.float32(1) + z * (np.float32(1) - s)))
                    out[c] = slope
                    along[c] += slope * normal
                    plain[c] += slope
            else:
                for c in range(row.size):
                    out[c] = grow[c]
                    along[c] += grow[c] * ((row[c] - centre[c]) * scale[c])
                    plain[c] += grow[c]
        for c in range(along.size):
            along_totals[c] += along[c]
            plain_totals[c] += plain[c]
    for c in range(channels):
        a, b = 0.0, 0.0
        for pixel in range(c, along.size, channels):
            a += along_totals[pixel]
            b += plain_totals[pixel]
        dgamma[c], dbeta[c] = a, b
    for c in range(along.size):
        along_totals[c] *= weight[c]
        plain_totals[c] *= weight[c]
    for group in range(mean.size):
        a = _mean_of_group(along_totals, group * size, size, channels, count)
        b = _mean_of_group(plain_totals, group * size, size, channels, count)
        _spread(np.float32(a), group * size, size, channels, along)
        _spread(np.float32(b), group * size, size, channels, plain)
    for c in range(along.size):
        weight[c] *= scale[c]
        plain[c] *= scale[c]
        along[c] *= scale[c] * scale[c]
    for line in range(first, last):
        row, out = x[line, low:high], dx[line, low:high]
        for c in range(row.size):
            out[c] = out[c] * weight[c] - plain[c] - (row[c] - centre[c]) * along[c]


@device
def _differentiate_share(
    share, shares, splits, g, x, gamma, beta, means, inverse_deviations, silu, dx, dgammas, dbetas
):
    jobs, size = means.shape[0] * splits, gamma.size // means.shape[1]
    for job in range(jobs * share // shares, jobs * (share + 1) // shares):
        image, begin, end, first, last, low, high = _share(job, splits, x, means, gamma.size)
        scratch, totals = np.empty((6, high - low), np.float32), np.empty((2, high - low))
        own = slice(begin * size, end * size)
        _differentiate(
            g, x, first, last, low, high, gamma[own], beta[own],
            means[image, begin:end], inverse_deviations[image, begin:end], silu, dx,
            dgammas[image, own], dbetas[image, own], scratch, totals,
        )  # fmt: skip


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
def _backward(g, x, gamma, beta, mean, inverse_deviation, silu, dx, dgamma, dbeta, splits, threads):
    along = np.empty((mean.shape[0], gamma.size), np.float32)
    plain = np.empty((mean.shape[0], gamma.size), np.float32)
    for share in prange(threads):
        _differentiate_share(
            np.int64(share), threads, splits, g, x, gamma, beta, mean, inverse_deviation, silu, dx, along, plain
        )  # fmt: skip
    _sum_images(along, dgamma)
    _sum_images(plain, dbeta)


def _plan(x: np.ndarray, groups: int) -> tuple[tuple[int, int], int, int]:
    """The form (lines, width) of x, into how many jobs an image is split, and on how many threads."""
    images, channels = len(x), x.shape[-1]
    pixels = x.size // max(images * channels, 1)
    together = fold(pixels, channels)
    threads = 1 if x.size < SERIAL_BELOW else get_num_threads()
    splits = 1 if images >= threads or together > 1 else min(groups, threads)
    return (images * pixels // together, together * channels), splits, threads


def group_norm(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, groups: int, eps: float, silu: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    y, mean, inverse_deviation = (memory.empty(s) for s in (x.shape, (len(x), groups), (len(x), groups)))
    form, *plan = _plan(x, groups)
    _forward(x.reshape(form), gamma, beta, eps, silu, y.reshape(form), mean, inverse_deviation, *plan)
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
    dx, dgamma, dbeta = (memory.empty(a.shape) for a in (x, gamma, beta))
    form, *plan = _plan(x, mean.shape[1])
    _backward(
        g.reshape(form), x.reshape(form), gamma, beta, mean, inverse_deviation, silu,
        dx.reshape(form), dgamma, dbeta, *plan,
    )  # fmt: skip
    return dx, dgamma, dbeta
