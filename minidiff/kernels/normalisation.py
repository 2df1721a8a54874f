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
    """A job's image, its groups and channels, its block of x (first, last, low, high), and the numbers in a group."""
    images, groups = statistics.shape
    image, split = divmod(job, splits)
    begin, end = groups * split // splits, groups * (split + 1) // splits
    lines, size = x.shape[0] // images, channels // groups
    low, high = begin * size, x.shape[1] if splits == 1 else end * size
    block = image * lines, (image + 1) * lines, low, high
    return image, slice(begin, end), slice(low, end * size), block, lines * (high - low) // (end - begin)


@device
def _add_sums(sums, totals):
    for c in range(totals.size):
        totals[c] += sums[c]


@device
def _sum_lines(x, block, sums, totals):
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
    """totals = Σ_line dz · x̂, then Σ_line dz, each (high − low); and dx ← dz, the gradient before SiLU."""
    (g, x, dx), (first, last, low, high), (centre, scale, weight, shift) = images, block, line_values
    sums_a, sums_b = sums[: high - low], sums[high - low :]
    totals[:] = 0
    for begin in range(first, last, LINES):
        sums[:] = 0
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
        _add_sums(sums, totals)


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
    (x, y), (all_gamma, all_beta), (means, rstds) = images, parameters, statistics
    all_totals, all_values = np.empty(x.shape[1]), np.empty((4, x.shape[1]), np.float32)
    all_own, size = np.empty(all_gamma.size, np.float32), all_gamma.size // means.shape[1]
    for job in range(begin, end):
        image, groups, channels, block, count = _bounds(job, splits, x, all_gamma.size, means)
        first, last, low, high = block
        width = high - low
        totals, sums, centre = all_totals[:width], all_values[0, :width], all_values[1, :width]
        scale, shift = all_values[2, :width], all_values[3, :width]
        own, gamma = all_own[channels], all_gamma[channels]
        mean, rstd = means[image, groups], rstds[image, groups]
        _sum_lines(x, block, sums, totals)
        _sum_pixels(totals, own.size)
        for group in range(mean.size):
            mean[group] = _group_mean(totals, group, size, count)
        _repeat_for_channels(mean, own, centre)
        _sum_squares(x, block, centre, sums, totals)
        _sum_pixels(totals, own.size)
        for group in range(rstd.size):
            rstd[group] = 1 / np.sqrt(_group_mean(totals, group, size, count) + eps)
            for c in range(group * size, (group + 1) * size):
                own[c] = rstd[group] * gamma[c]
        _repeat_for_pixels(own, scale)
        _repeat_for_pixels(all_beta[channels], shift)
        for line in range(first, last):
            row, out = x[line, low:high], y[line, low:high]
            for c in range(out.size):
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
    (_, x, dx), (all_gamma, all_beta), (means, rstds) = images, parameters, statistics
    all_totals, all_values = np.empty(2 * x.shape[1]), np.empty(6 * x.shape[1], np.float32)
    all_own, size = np.empty(all_gamma.size, np.float32), all_gamma.size // means.shape[1]
    for job in range(begin, end):
        image, groups, channels, block, count = _bounds(job, splits, x, all_gamma.size, means)
        first, last, low, high = block
        width = high - low
        totals, values = all_totals[: 2 * width], all_values[: 6 * width].reshape(6, width)
        a, b, centre, scale, weight, shift = values[0], values[1], values[2], values[3], values[4], values[5]
        own, gamma, rstd = all_own[channels], all_gamma[channels], rstds[image, groups]
        _repeat_for_channels(means[image, groups], own, centre)
        _repeat_for_channels(rstd, own, scale)
        _repeat_for_pixels(gamma, weight)
        _repeat_for_pixels(all_beta[channels], shift)
        line_values = centre, scale, weight, shift
        _sum_gradients(images, block, line_values, silu, all_values[: 2 * width], totals)
        for i, line in enumerate((a, b)):
            of_line, dparameter = totals[i * width : (i + 1) * width], dparameters[image, i, channels]
            _sum_pixels(of_line, own.size)
            for c in range(own.size):
                dparameter[c] = of_line[c]
                of_line[c] *= gamma[c]
            for group in range(rstd.size):
                mean = _group_mean(of_line, group, size, count) * rstd[group]
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
