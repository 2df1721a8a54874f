"""Group norm and SiLU in one pass, forward and backward.

    for each image and each group of channels:
        mean, variance = over the group's channels at all pixels
        for each pixel and each channel c of the group:
            z = (x[pixel, c] - mean) / sqrt(variance + eps) * gamma[c] + beta[c]
            y[pixel, c] = z * sigmoid(z)

Written so, the inner loops would run over the few channels of a group. Channels are adjacent in memory, so sums are
kept for every channel, where the loops vectorise, and only then combined to sums of groups. In a loop over few channels
the overhead dominates: then several pixels form one *line*, and a channel's sums over all of them are combined at the
end. The variance takes two passes, mean first and then centred squares: the one-pass formula E x² − (E x)² cancels
catastrophically where the mean is large.

A job is an image or, where there are fewer images than threads, some whole groups of it, which changes no sum: lines
first … last − 1 of an array (lines, pixels of a line · channels), and of each line the numbers low … high − 1. They
are sliced line by line: Numba infers that a slice of one line is contiguous, but not one of a block.
"""

import numpy as np

from . import memory
from .jit import device, kernel
from .launch import launch_ranges, workers_for
from .math32 import sigmoid
from .reference import Array
from .rows import add_up, fold, sum_lines

LINES = 32  # lines summed in float32 before they are added to the float64 total
SERIAL_BELOW = 16_384  # numbers; fewer take less time than waking the other threads


@device
def _splits(x, channels, statistics, workers):
    """The number of jobs to an image."""
    images, groups = statistics.shape
    return 1 if images >= workers or x.shape[1] > channels else min(groups, workers)


@device
def _bounds(job, splits, x, channels, statistics):
    """A job's image, its groups begin … end − 1, and its block of x: first, last, low and high."""
    images, groups = statistics.shape
    image, split = divmod(job, splits)
    begin, end = groups * split // splits, groups * (split + 1) // splits
    lines, size = x.shape[0] // images, channels // groups
    high = x.shape[1] if splits == 1 else end * size
    return image, begin, end, (image * lines, (image + 1) * lines, begin * size, high)


@device
def _add_sums(sums, totals):
    for c in range(totals.size):
        totals[c] += sums[c]


@device
def _sum_block(x, block, sums, totals):
    """totals[c] = Σ_line x[line, low + c]."""
    first, last, low, high = block
    totals[:] = 0
    for begin in range(first, last, LINES):
        sum_lines(x, begin, min(last, begin + LINES), low, high, sums)
        _add_sums(sums, totals)


@device
def _sum_squares(x, block, centre, sums, totals):
    """totals[c] = Σ_line (x[line, low + c] − centre[c])²."""
    first, last, low, high = block
    totals[:] = 0
    for begin in range(first, last, LINES):
        sums[:] = 0
        for line in range(begin, min(last, begin + LINES)):
            row = x[line, low:high]
            for c in range(sums.size):
                sums[c] += (row[c] - centre[c]) * (row[c] - centre[c])
        _add_sums(sums, totals)


@device
def _sum_gradients(images, block, line_values, silu, sums, totals):
    """totals[0, c] = Σ_line dz · x̂ and totals[1, c] = Σ_line dz, and dx ← dz, the gradient before SiLU."""
    g, x, dx = images
    first, last, low, high = block
    centre, scale, weight, shift = line_values
    (sums_a, sums_b), (totals_a, totals_b) = sums, totals
    totals_a[:] = 0
    totals_b[:] = 0
    for begin in range(first, last, LINES):
        sums_a[:] = 0
        sums_b[:] = 0
        for line in range(begin, min(last, begin + LINES)):
            row, g_row, out = x[line, low:high], g[line, low:high], dx[line, low:high]
            for c in range(sums_a.size):
                x_hat = (row[c] - centre[c]) * scale[c]
                dz = g_row[c]
                if silu:
                    z = x_hat * weight[c] + shift[c]
                    s = sigmoid(z)
                    dz *= s * (np.float32(1) + z * (np.float32(1) - s))
                out[c] = dz
                sums_a[c] += dz * x_hat
                sums_b[c] += dz
        _add_sums(sums_a, totals_a)
        _add_sums(sums_b, totals_b)


@device
def _sum_pixels(totals, channels):
    """totals[c] ← the sum of channel c over all pixels of a line, c < channels."""
    for pixel in range(channels, totals.size, channels):
        for c in range(channels):
            totals[c] += totals[pixel + c]


@device
def _group_mean(totals, group, size, count):
    """(Σ totals over the channels of a group) / count."""
    total = 0.0
    for c in range(group * size, (group + 1) * size):
        total += totals[c]
    return total / count


@device
def _repeat_for_pixels(of_channel, out):
    """One value for each channel, repeated for every pixel of a line."""
    for pixel in range(0, out.size, of_channel.size):
        for c in range(of_channel.size):
            out[pixel + c] = of_channel[c]


@device
def _repeat_for_channels(of_group, of_channel, out):
    """One value for each group, repeated for all of its channels, and these for every pixel of a line."""
    size = of_channel.size // of_group.size
    for group in range(of_group.size):
        of_channel[group * size : (group + 1) * size] = of_group[group]
    _repeat_for_pixels(of_channel, out)


@device
def _normalise(worker, begin, end, splits, images, parameters, eps, silu, statistics):
    """Jobs begin … end − 1: y, and the mean and rstd of their groups."""
    (x, y), (gamma, beta), (means, rstds) = images, parameters, statistics
    size = gamma.size // means.shape[1]
    all_totals, line_values = np.empty(x.shape[1]), np.empty((4, x.shape[1]), np.float32)
    channel_values = np.empty(gamma.size, np.float32)
    for job in range(begin, end):
        image, g0, g1, block = _bounds(job, splits, x, gamma.size, means)
        first, last, low, high = block
        width, c0, c1 = high - low, g0 * size, g1 * size
        count = (last - first) * width // (g1 - g0)
        totals, sums, centre = all_totals[:width], line_values[0, :width], line_values[1, :width]
        scale, shift = line_values[2, :width], line_values[3, :width]
        own, mean, rstd = channel_values[c0:c1], means[image, g0:g1], rstds[image, g0:g1]
        _sum_block(x, block, sums, totals)
        _sum_pixels(totals, own.size)
        for group in range(mean.size):
            mean[group] = _group_mean(totals, group, size, count)
        _repeat_for_channels(mean, own, centre)
        _sum_squares(x, block, centre, sums, totals)
        _sum_pixels(totals, own.size)
        for group in range(rstd.size):
            rstd[group] = 1 / np.sqrt(_group_mean(totals, group, size, count) + eps)
            for c in range(group * size, (group + 1) * size):
                own[c] = rstd[group] * gamma[c0 + c]
        _repeat_for_pixels(own, scale)
        _repeat_for_pixels(beta[c0:c1], shift)
        for line in range(first, last):
            row, out = x[line, low:high], y[line, low:high]
            for c in range(width):
                z = (row[c] - centre[c]) * scale[c] + shift[c]
                out[c] = z * sigmoid(z) if silu else z


@kernel
def _forward(x, gamma, beta, eps, silu, y, means, rstds, workers):
    """x and y (lines, pixels of a line · channels); means and rstds = 1 / √(variance + eps) (images, groups)."""
    splits = _splits(x, gamma.size, means, workers)
    jobs = means.shape[0] * splits
    launch_ranges(_normalise, jobs, workers, splits, (x, y), (gamma, beta), eps, silu, (means, rstds))


@device
def _differentiate(worker, begin, end, splits, images, parameters, statistics, silu, dparameters):
    """Jobs begin … end − 1: dx, and dgamma and dbeta of each image, (images, 2, channels)."""
    (_, x, dx), (gamma, beta), (means, rstds) = images, parameters, statistics
    size = gamma.size // means.shape[1]
    all_totals, line_values = np.empty((2, x.shape[1])), np.empty((6, x.shape[1]), np.float32)
    channel_values = np.empty(gamma.size, np.float32)
    for job in range(begin, end):
        image, g0, g1, block = _bounds(job, splits, x, gamma.size, means)
        first, last, low, high = block
        width, c0, c1 = high - low, g0 * size, g1 * size
        count = (last - first) * width // (g1 - g0)
        totals = all_totals[0, :width], all_totals[1, :width]
        a, b, centre = line_values[0, :width], line_values[1, :width], line_values[2, :width]
        scale, weight, shift = line_values[3, :width], line_values[4, :width], line_values[5, :width]
        own, rstd = channel_values[c0:c1], rstds[image, g0:g1]
        _repeat_for_channels(means[image, g0:g1], own, centre)
        _repeat_for_channels(rstd, own, scale)
        _repeat_for_pixels(gamma[c0:c1], weight)
        _repeat_for_pixels(beta[c0:c1], shift)
        _sum_gradients(images, block, (centre, scale, weight, shift), silu, (a, b), totals)
        for i, line in enumerate((a, b)):
            _sum_pixels(totals[i], own.size)
            for c in range(own.size):
                dparameters[image, i, c0 + c] = totals[i][c]
                totals[i][c] *= gamma[c0 + c]
            for group in range(rstd.size):
                mean = _group_mean(totals[i], group, size, count) * rstd[group]
                own[group * size : (group + 1) * size] = mean * rstd[group] if i == 0 else mean
            _repeat_for_pixels(own, line)
        for c in range(width):
            weight[c] *= scale[c]
        for line in range(first, last):
            row, out = x[line, low:high], dx[line, low:high]
            for c in range(width):
                out[c] = out[c] * weight[c] - b[c] - (row[c] - centre[c]) * a[c]


@kernel
def _backward(g, x, gamma, beta, means, rstds, silu, dx, dparameters, workers):
    """As for `_forward`; dparameters: dgamma and dbeta, (2 · channels)."""
    of_image = np.empty((means.shape[0], 2, gamma.size), np.float32)
    splits = _splits(x, gamma.size, means, workers)
    jobs = means.shape[0] * splits
    images, parameters, statistics = (g, x, dx), (gamma, beta), (means, rstds)
    launch_ranges(_differentiate, jobs, workers, splits, images, parameters, statistics, silu, of_image)
    add_up(of_image.reshape(of_image.shape[0], dparameters.size), dparameters)


def _lines(x: Array) -> tuple[int, int]:
    """The shape of x as the kernels take it: (lines, pixels of a line · channels)."""
    images, channels = len(x), x.shape[-1]
    pixels = x.size // max(images * channels, 1)
    line = fold(pixels, channels)
    return images * pixels // line, line * channels


def group_norm(
    x: Array, gamma: Array, beta: Array, groups: int, eps: float, silu: bool
) -> tuple[Array, Array, Array]:
    y, mean, rstd = (memory.empty(s) for s in (x.shape, (len(x), groups), (len(x), groups)))
    shape, workers = _lines(x), workers_for(x.size, SERIAL_BELOW)
    _forward(x.reshape(shape), gamma, beta, eps, silu, y.reshape(shape), mean, rstd, workers)
    return y, mean, rstd


def group_norm_backward(
    g: Array, x: Array, gamma: Array, beta: Array, mean: Array, rstd: Array, silu: bool
) -> tuple[Array, Array, Array]:
    dx, dparameters = memory.empty(x.shape), memory.empty((2, gamma.size))
    shape, workers = _lines(x), workers_for(x.size, SERIAL_BELOW)
    lines = g.reshape(shape), x.reshape(shape), dx.reshape(shape)
    _backward(*lines[:2], gamma, beta, mean, rstd, silu, lines[2], dparameters.reshape(-1), workers)
    return dx, dparameters[0], dparameters[1]
