"""Group norm and SiLU in one pass, forward and backward.

Channels are adjacent in memory, so sums are kept for every channel, where the loops vectorise, and only then combined
to sums of groups. The variance takes two passes, mean first and then centred squares: the one-pass formula
E x² − (E x)² cancels catastrophically where the mean is large. In a loop over few channels the overhead dominates: then
several pixels form one *line*, and a channel's sums over all of them are combined at the end.

A job is an image or, where there are fewer images than threads, some whole groups of it, which changes no sum: lines
first … last − 1 of an array (lines, pixels of a line · channels), and of each line the numbers low … high − 1. They
are sliced line by line: Numba infers that a slice of one line is contiguous, but not one of a block.
"""

import numpy as np

from . import memory, pool
from .jit import device, kernel
from .launch import launch
from .math32 import sigmoid
from .rows import fold

LINES = 32  # lines summed in float32 before they are added to the float64 total
SERIAL_BELOW = 16_384  # numbers; fewer take less time than waking the other threads


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
def _sum_pixels(totals, channels):
    """totals[c] ← the sum of channel c over all pixels of a line, c < channels."""
    for pixel in range(channels, totals.size, channels):
        for c in range(channels):
            totals[c] += totals[pixel + c]


@device
def _repeat_for_pixels(values, out):
    """out = values, values, …: one value for each channel, repeated for every pixel of a line."""
    for pixel in range(0, out.size, values.size):
        for c in range(values.size):
            out[pixel + c] = values[c]


@device
def _group_mean(totals, group, size, count):
    """(Σ totals over the channels of a group) / count."""
    total = 0.0
    for c in range(group * size, (group + 1) * size):
        total += totals[c]
    return total / count


@device
def _bounds(job, splits, x, groups_of_images, channels):
    """A job's image, groups begin … end − 1, lines first … last − 1, and numbers low … high − 1 of each line."""
    images, groups = groups_of_images.shape
    image, split = job // splits, job % splits
    begin, end = groups * split // splits, groups * (split + 1) // splits
    lines, size = x.shape[0] // images, channels // groups
    high = x.shape[1] if splits == 1 else end * size
    return image, begin, end, image * lines, (image + 1) * lines, begin * size, high


@device
def _normalise(worker, workers, splits, x, gamma, beta, eps, silu, y, means, rstds):
    """The jobs of one worker: y, and the mean and rstd of their groups."""
    jobs, channels, size = means.shape[0] * splits, gamma.size, gamma.size // means.shape[1]
    width = x.shape[1]
    all_totals, of_channel = np.empty(width), np.empty(channels, np.float32)
    all_sums, all_centre = np.empty(width, np.float32), np.empty(width, np.float32)
    all_scale, all_shift = np.empty(width, np.float32), np.empty(width, np.float32)
    for job in range(jobs * worker // workers, jobs * (worker + 1) // workers):
        image, begin, end, first, last, low, high = _bounds(job, splits, x, means, channels)
        width, channel, own = high - low, begin * size, of_channel[begin * size : end * size]
        count = (last - first) * width // (end - begin)
        totals, sums, centre = all_totals[:width], all_sums[:width], all_centre[:width]
        scale, shift = all_scale[:width], all_shift[:width]
        totals[:] = 0
        _add_lines(x, first, last, low, high, sums, totals)
        _sum_pixels(totals, own.size)
        for group in range(end - begin):
            mean = np.float32(_group_mean(totals, group, size, count))
            means[image, begin + group] = mean
            own[group * size : (group + 1) * size] = mean
        _repeat_for_pixels(own, centre)
        totals[:] = 0
        _add_squares(x, first, last, low, high, centre, sums, totals)
        _sum_pixels(totals, own.size)
        for group in range(end - begin):
            rstd = np.float32(1 / np.sqrt(_group_mean(totals, group, size, count) + eps))
            rstds[image, begin + group] = rstd
            for c in range(group * size, (group + 1) * size):
                own[c] = rstd * gamma[channel + c]
        _repeat_for_pixels(own, scale)
        _repeat_for_pixels(beta[channel : channel + own.size], shift)
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
def _forward(x, gamma, beta, eps, silu, y, mean, rstd, splits, threads):
    """x and y (lines, pixels of a line · channels); mean and rstd = 1 / √(variance + eps) (images, groups)."""
    launch(_normalise, threads, threads, splits, x, gamma, beta, eps, silu, y, mean, rstd)


@device
def _differentiate(worker, workers, splits, g, x, gamma, beta, means, rstds, silu, dx, dgammas, dbetas):
    """The jobs of one worker: dx, and dgammas and dbetas (images, channels)."""
    jobs, channels, size = means.shape[0] * splits, gamma.size, gamma.size // means.shape[1]
    width = x.shape[1]
    all_dgamma, all_dbeta = np.empty(width), np.empty(width)
    all_a, all_b = np.empty(width, np.float32), np.empty(width, np.float32)
    all_centre, all_scale = np.empty(width, np.float32), np.empty(width, np.float32)
    all_weight, all_shift = np.empty(width, np.float32), np.empty(width, np.float32)
    of_channel, other = np.empty(channels, np.float32), np.empty(channels, np.float32)
    for job in range(jobs * worker // workers, jobs * (worker + 1) // workers):
        image, begin, end, first, last, low, high = _bounds(job, splits, x, means, channels)
        width, channel, groups = high - low, begin * size, end - begin
        count = (last - first) * width // groups
        a_channel, b_channel = of_channel[: groups * size], other[: groups * size]
        weights = gamma[channel : channel + a_channel.size]
        dgamma_sums, dbeta_sums, a, b = all_dgamma[:width], all_dbeta[:width], all_a[:width], all_b[:width]
        centre, scale = all_centre[:width], all_scale[:width]
        weight, shift = all_weight[:width], all_shift[:width]
        for group in range(groups):
            a_channel[group * size : (group + 1) * size] = means[image, begin + group]
            b_channel[group * size : (group + 1) * size] = rstds[image, begin + group]
        _repeat_for_pixels(a_channel, centre)
        _repeat_for_pixels(b_channel, scale)
        _repeat_for_pixels(weights, weight)
        _repeat_for_pixels(beta[channel : channel + a_channel.size], shift)
        dgamma_sums[:] = 0
        dbeta_sums[:] = 0
        for start in range(first, last, LINES):
            a[:] = 0
            b[:] = 0
            for line in range(start, min(last, start + LINES)):
                row, g_row, out = x[line, low:high], g[line, low:high], dx[line, low:high]
                for c in range(width):
                    x_hat = (row[c] - centre[c]) * scale[c]
                    dz = g_row[c]
                    if silu:
                        z = x_hat * weight[c] + shift[c]
                        s = sigmoid(z)
                        dz *= s * (np.float32(1) + z * (np.float32(1) - s))
                    out[c] = dz
                    a[c] += dz * x_hat
                    b[c] += dz
            for c in range(width):
                dgamma_sums[c] += a[c]
                dbeta_sums[c] += b[c]
        _sum_pixels(dgamma_sums, a_channel.size)
        _sum_pixels(dbeta_sums, a_channel.size)
        for c in range(a_channel.size):
            dgammas[image, channel + c], dbetas[image, channel + c] = dgamma_sums[c], dbeta_sums[c]
            dgamma_sums[c] *= weights[c]
            dbeta_sums[c] *= weights[c]
        for group in range(groups):
            rstd = rstds[image, begin + group]
            mean_a = _group_mean(dgamma_sums, group, size, count) * rstd * rstd
            mean_b = _group_mean(dbeta_sums, group, size, count) * rstd
            a_channel[group * size : (group + 1) * size] = np.float32(mean_a)
            b_channel[group * size : (group + 1) * size] = np.float32(mean_b)
        _repeat_for_pixels(a_channel, a)
        _repeat_for_pixels(b_channel, b)
        for c in range(width):
            weight[c] *= scale[c]
        for line in range(first, last):
            row, out = x[line, low:high], dx[line, low:high]
            for c in range(width):
                out[c] = out[c] * weight[c] - b[c] - (row[c] - centre[c]) * a[c]


@device
def _sum_images(per_image, out):
    """out[c] = Σ_image per_image[image, c]."""
    totals = np.zeros(out.size)
    for image in range(per_image.shape[0]):
        row = per_image[image]
        for c in range(out.size):
            totals[c] += row[c]
    for c in range(out.size):
        out[c] = totals[c]


@kernel
def _backward(g, x, gamma, beta, mean, rstd, silu, dx, dgamma, dbeta, splits, threads):
    dgammas = np.empty((mean.shape[0], gamma.size), np.float32)
    dbetas = np.empty((mean.shape[0], gamma.size), np.float32)
    launch(
        _differentiate, threads, threads, splits, g, x, gamma, beta, mean, rstd, silu, dx, dgammas, dbetas,
    )  # fmt: skip
    _sum_images(dgammas, dgamma)
    _sum_images(dbetas, dbeta)


def _plan(x: np.ndarray, groups: int) -> tuple[tuple[int, int], int, int]:
    """The shape (lines, width) of x, the number of jobs to an image, and the number of threads."""
    images, channels = len(x), x.shape[-1]
    pixels = x.size // max(images * channels, 1)
    line = fold(pixels, channels)
    threads = 1 if x.size < SERIAL_BELOW else pool.size()
    splits = 1 if images >= threads or line > 1 else min(groups, threads)
    return (images * pixels // line, line * channels), splits, threads


def group_norm(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, groups: int, eps: float, silu: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    y, mean, rstd = (memory.empty(s) for s in (x.shape, (len(x), groups), (len(x), groups)))
    shape, *plan = _plan(x, groups)
    _forward(x.reshape(shape), gamma, beta, eps, silu, y.reshape(shape), mean, rstd, *plan)
    return y, mean, rstd


def group_norm_backward(
    g: np.ndarray,
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    mean: np.ndarray,
    rstd: np.ndarray,
    silu: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    dx, dgamma, dbeta = (memory.empty(a.shape) for a in (x, gamma, beta))
    shape, *plan = _plan(x, mean.shape[1])
    _backward(
        g.reshape(shape), x.reshape(shape), gamma, beta, mean, rstd, silu,
        dx.reshape(shape), dgamma, dbeta, *plan,
    )  # fmt: skip
    return dx, dgamma, dbeta
