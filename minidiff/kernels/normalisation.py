"""Group norm with SiLU in the same pass, forward and backward.

Channels lie side by side, so sums are kept for every channel, where the loops are vectors, and only then joined to
groups. Mean first and then the centred squares: the one-pass formula E x² − (E x)² loses everything where the mean is
large. A loop over few channels spends its time on beginning and ending: then several pixels make one *line*, and the
sums of a channel in all of them are joined at the end.

A job is an image or, where there are fewer images than threads, some whole groups of it, which changes no sum: lines
first … last − 1 of an array (lines, pixels of a line · channels), and of each the numbers low … high − 1. They are
cut out line by line: Numba knows of a slice of one line that it is contiguous, of a block it does not.
"""

import numpy as np
from numba import get_num_threads

from . import memory
from .jit import device, kernel
from .launch import launch
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
def _join_pixels(totals, channels):
    """totals[c] = the channel's sum over all pixels of the line, c < channels."""
    for pixel in range(channels, totals.size, channels):
        for c in range(channels):
            totals[c] += totals[pixel + c]


@device
def _for_all_pixels(values, out):
    """out = values, values, …: those of the channels for every pixel of the line."""
    for pixel in range(0, out.size, values.size):
        for c in range(values.size):
            out[pixel + c] = values[c]


@device
def _group_mean(totals, group, size, count):
    """Σ totals over the channels of a group / count."""
    total = 0.0
    for c in range(group * size, (group + 1) * size):
        total += totals[c]
    return total / count


@device
def _share(job, splits, x, groups_of_images, channels):
    """A job's image, its groups begin … end − 1, its lines first … last − 1, its numbers low … high − 1 of a line."""
    images, groups = groups_of_images.shape
    image, split = job // splits, job % splits
    begin, end = groups * split // splits, groups * (split + 1) // splits
    lines, size = x.shape[0] // images, channels // groups
    high = x.shape[1] if splits == 1 else end * size
    return image, begin, end, image * lines, (image + 1) * lines, begin * size, high


@device
def _normalise(share, shares, splits, x, gamma, beta, eps, silu, y, means, inverse_deviations):
    """A thread's share of the jobs."""
    jobs, channels, size = means.shape[0] * splits, gamma.size, gamma.size // means.shape[1]
    width = x.shape[1]
    all_totals, of_channel = np.empty(width), np.empty(channels, np.float32)
    all_sums, all_centre = np.empty(width, np.float32), np.empty(width, np.float32)
    all_scale, all_shift = np.empty(width, np.float32), np.empty(width, np.float32)
    for job in range(jobs * share // shares, jobs * (share + 1) // shares):
        image, begin, end, first, last, low, high = _share(job, splits, x, means, channels)
        width, channel, own = high - low, begin * size, of_channel[begin * size : end * size]
        count = (last - first) * width // (end - begin)
        totals, sums, centre = all_totals[:width], all_sums[:width], all_centre[:width]
        scale, shift = all_scale[:width], all_shift[:width]
        totals[:] = 0
        _add_lines(x, first, last, low, high, sums, totals)
        _join_pixels(totals, own.size)
        for group in range(end - begin):
            mean = np.float32(_group_mean(totals, group, size, count))
            means[image, begin + group] = mean
            own[group * size : (group + 1) * size] = mean
        _for_all_pixels(own, centre)
        totals[:] = 0
        _add_squares(x, first, last, low, high, centre, sums, totals)
        _join_pixels(totals, own.size)
        for group in range(end - begin):
            inverse_deviation = np.float32(1 / np.sqrt(_group_mean(totals, group, size, count) + eps))
            inverse_deviations[image, begin + group] = inverse_deviation
            for c in range(group * size, (group + 1) * size):
                own[c] = inverse_deviation * gamma[channel + c]
        _for_all_pixels(own, scale)
        _for_all_pixels(beta[channel : channel + own.size], shift)
        for line in range(first, last):
            row, out = x[line, low:high], y[line, low:high]
            if silu:
                for c in range(width):
                    z = (row[c] - centre[c]) * scale[c] + shift[c]
                    out[c] = z * sigmoid(z)
            else:
                for c in range(width):
                    out[c] = (row[c] - centre[c]) * scale[c] + shift[c]


@kernel
def _forward(x, gamma, beta, eps, silu, y, mean, inverse_deviation, splits, threads):
    """x and y (lines, pixels of a line · channels); mean and inverse_deviation (images, groups)."""
    launch(_normalise, threads, threads, splits, x, gamma, beta, eps, silu, y, mean, inverse_deviation)


@device
def _differentiate(
    share, shares, splits, g, x, gamma, beta, means, inverse_deviations, silu, dx, dgammas, dbetas
):
    """A thread's share of the jobs; dgammas and dbetas (images, channels)."""
    jobs, channels, size = means.shape[0] * splits, gamma.size, gamma.size // means.shape[1]
    width = x.shape[1]
    all_along, all_plain = np.empty(width), np.empty(width)
    all_a, all_b = np.empty(width, np.float32), np.empty(width, np.float32)
    all_centre, all_scale = np.empty(width, np.float32), np.empty(width, np.float32)
    all_weight, all_shift = np.empty(width, np.float32), np.empty(width, np.float32)
    of_channel, other = np.empty(channels, np.float32), np.empty(channels, np.float32)
    for job in range(jobs * share // shares, jobs * (share + 1) // shares):
        image, begin, end, first, last, low, high = _share(job, splits, x, means, channels)
        width, channel, groups = high - low, begin * size, end - begin
        count = (last - first) * width // groups
        own, two = of_channel[: groups * size], other[: groups * size]
        weights = gamma[channel : channel + own.size]
        along, plain, a, b = all_along[:width], all_plain[:width], all_a[:width], all_b[:width]
        centre, scale = all_centre[:width], all_scale[:width]
        weight, shift = all_weight[:width], all_shift[:width]
        for group in range(groups):
            own[group * size : (group + 1) * size] = means[image, begin + group]
            two[group * size : (group + 1) * size] = inverse_deviations[image, begin + group]
        _for_all_pixels(own, centre)
        _for_all_pixels(two, scale)
        _for_all_pixels(weights, weight)
        _for_all_pixels(beta[channel : channel + own.size], shift)
        along[:] = 0
        plain[:] = 0
        for start in range(first, last, LINES):
            a[:] = 0
            b[:] = 0
            for line in range(start, min(last, start + LINES)):
                row, grow, out = x[line, low:high], g[line, low:high], dx[line, low:high]
                for c in range(width):
                    normal = (row[c] - centre[c]) * scale[c]
                    slope = grow[c]
                    if silu:
                        z = normal * weight[c] + shift[c]
                        s = sigmoid(z)
                        slope *= s * (np.float32(1) + z * (np.float32(1) - s))
                    out[c] = slope
                    a[c] += slope * normal
                    b[c] += slope
            for c in range(width):
                along[c] += a[c]
                plain[c] += b[c]
        _join_pixels(along, own.size)
        _join_pixels(plain, own.size)
        for c in range(own.size):
            dgammas[image, channel + c], dbetas[image, channel + c] = along[c], plain[c]
            along[c] *= weights[c]
            plain[c] *= weights[c]
        for group in range(groups):
            inverse_deviation = inverse_deviations[image, begin + group]
            mean_along = _group_mean(along, group, size, count) * inverse_deviation * inverse_deviation
            mean_plain = _group_mean(plain, group, size, count) * inverse_deviation
            own[group * size : (group + 1) * size] = np.float32(mean_along)
            two[group * size : (group + 1) * size] = np.float32(mean_plain)
        _for_all_pixels(own, a)
        _for_all_pixels(two, b)
        for c in range(width):
            weight[c] *= scale[c]
        for line in range(first, last):
            row, out = x[line, low:high], dx[line, low:high]
            for c in range(width):
                out[c] = out[c] * weight[c] - b[c] - (row[c] - centre[c]) * a[c]


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
    launch(
        _differentiate, threads, threads, splits, g, x, gamma, beta, mean, inverse_deviation, silu, dx, along,
        plain,
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
