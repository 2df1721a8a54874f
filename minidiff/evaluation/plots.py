"""Pictures: of losses, of points, of images and of the way from noise to both. The only room that draws.

Images are (N, H, W, C) in [−1, 1], C = 1 or 3. Points are (N, 1) or (N, 2) in the data's own units. Functions
write a file, whose suffix says its format, or return a frame: (height, width, 3) bytes.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from PIL import Image

from minidiff import files
from minidiff.datasets import Units
from minidiff.diffusion.samplers import State

INK, ACCENT, PAPER = "#1f2933", "#d1495b", "#fbfaf7"
COLOURS = ("#1f2933", "#d1495b", "#edae49", "#00798c", "#6a4c93", "#66a182", "#8d6a4f")  # of lines told apart


def figure(width: float, height: float, columns: int = 1, rows: int = 1, **options: object):
    """A figure of so many inches in the style of the house, and its axes; options go to `subplots`."""
    drawn = Figure(figsize=(width, height), dpi=120, facecolor=PAPER, layout="constrained")
    FigureCanvasAgg(drawn)
    axes = drawn.subplots(rows, columns, **options)
    for ax in np.ravel(axes):
        ax.set_facecolor(PAPER)
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(which="both", colors=INK, labelsize=8)
    return drawn, axes


def loss_curve(steps: Sequence[int], losses: Sequence[float], path: Path) -> None:
    """The loss against the step, on logarithmic axes, with a running mean over a tenth of what went before."""
    drawn, ax = figure(6, 3.5)
    ax.loglog(steps, losses, color=INK, alpha=0.25, linewidth=0.8)
    ax.loglog(steps, _running_mean(np.asarray(losses)), color=ACCENT, linewidth=1.6)
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter("{x:g}")
    ax.set(xlabel="step", ylabel="loss")
    save(frame_of(drawn), path)


def _running_mean(values: np.ndarray) -> np.ndarray:
    """At place i the mean of the last tenth of values[: i + 1], of one value at least."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    end = np.arange(1, len(values) + 1)
    begin = end - np.maximum(1, end // 10)
    return (total[end] - total[begin]) / (end - begin)


def distances(
    found: Mapping[str, Mapping[int, float]],
    errors: Mapping[str, Mapping[int, float]],
    floor: float,
    name: str,
    path: Path,
) -> None:
    """A distance against the number of evaluations, on logarithmic axes: a line a sampler, and that of real data.

    The bars are two standard errors to either side.
    """
    drawn, ax = figure(6, 4)
    ax.set(xscale="log", yscale="log")
    for i, (sampler, by_evaluations) in enumerate(found.items()):
        ax.errorbar(
            by_evaluations.keys(),
            by_evaluations.values(),
            [2 * error for error in errors[sampler].values()],
            color=COLOURS[i % len(COLOURS)],
            marker="o",
            markersize=3,
            linewidth=1.2,
            label=sampler,
        )
    ax.axhline(floor, color=INK, linestyle=":", linewidth=1, label="real data")
    ticks = sorted({evaluations for line in found.values() for evaluations in line})
    ax.set_xticks(ticks, labels=[str(tick) for tick in ticks])
    ax.set_xticks([], minor=True)
    ax.set(xlabel="evaluations of the network", ylabel=name.replace("_", " "))
    ax.legend(frameon=False, fontsize=8)
    save(frame_of(drawn), path)


def image_grid(images: np.ndarray, columns: int | None = None, side: int = 480) -> np.ndarray:
    """All images in rows on one frame, each pixel enlarged to whole squares so that the grid is about `side` wide."""
    count, height, width, channels = images.shape
    columns = columns or int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    scale = max(1, side // (columns * (width + 1)))
    gap = max(1, scale // 2)
    frame = np.full(
        (rows * (height * scale + gap) + gap, columns * (width * scale + gap) + gap, 3), 255, np.uint8
    )
    pixels = np.round((np.clip(images, -1, 1) + 1) * 127.5).astype(np.uint8)
    shown = pixels[..., :3] if channels >= 3 else pixels[..., :1]  # opacity, if any, is not drawn
    pixels = np.broadcast_to(shown, (count, height, width, 3))
    for i, image in enumerate(pixels.repeat(scale, axis=1).repeat(scale, axis=2)):
        top = gap + i // columns * (height * scale + gap)
        left = gap + i % columns * (width * scale + gap)
        frame[top : top + height * scale, left : left + width * scale] = image
    return frame


def points(samples: np.ndarray, data: np.ndarray | None = None, title: str = "") -> np.ndarray:
    """A frame of samples (N, 1) as a histogram or (N, 2) as dots, in red, before the data's, in grey."""
    drawn, ax = figure(5, 4)
    shown = samples if data is None else data
    low, high = shown.min(axis=0), shown.max(axis=0)
    margin = np.where(high > low, 0.15 * (high - low), 1.0)
    low, high = low - margin, high + margin
    if samples.shape[1] == 1:
        bins = np.linspace(low[0], high[0], 160)
        if data is not None:
            ax.hist(data[:, 0], bins, density=True, color=INK, alpha=0.3, label="data")
        ax.hist(
            samples[:, 0], bins, density=True, color=ACCENT, histtype="step", linewidth=1.4, label="samples"
        )
        ax.legend(frameon=False, fontsize=8)
    else:
        if data is not None:
            ax.scatter(*data[:5000, :2].T, s=2, color=INK, alpha=0.15, linewidths=0)
        ax.scatter(*samples[:5000, :2].T, s=3, color=ACCENT, alpha=0.5, linewidths=0)
        ax.set(ylim=(low[1], high[1]))
    ax.set(xlim=(low[0], high[0]))
    ax.set_title(title, fontsize=9, color=INK)
    return frame_of(drawn)


def strip(states: Sequence[State], columns: int = 12) -> np.ndarray:
    """A frame of the way from noise to images: for each sample a row of x_t and below it one of x̂_0, from T to 0.

    states: of the sampler, the first at T, where there is no x̂_0 yet; `columns` of them are shown, evenly chosen.
    """
    shown = _evenly(states, columns)
    rows = [
        image
        for i in range(len(shown[0].x))
        for image in (*(s.x[i] for s in shown), *(s.x0[i] for s in shown))
    ]
    return image_grid(np.stack(rows), len(shown), side=960)


def trajectories(states: Sequence[State], units: Units, data: np.ndarray | None = None) -> np.ndarray:
    """A frame of a density through time, from noise to points in their own units.

    In one dimension t runs along the axis, the shade is the density and the lines are 40 of the samples; in two (and of
    more, the first two coordinates) there are six densities side by side, the data's own last where there is some.
    """
    if states[0].x.shape[1] == 1:
        return _density_on_the_line(states, units)
    shown = _evenly(states, 6)
    clouds = [(f"t = {s.t}", units.to_units(s.x)) for s in shown]
    clouds += [] if data is None else [("data", units.to_units(data[:20_000]))]
    low, high = (f([cloud[:, :2] for _, cloud in clouds[-2:]]) for f in (_lowest, _highest))
    margin = np.where(high > low, 0.3 * (high - low), 1.0)
    box = np.stack([low - margin, high + margin], axis=1)
    drawn, axes = figure(2 * len(clouds), 2.2, columns=len(clouds))
    for ax, (title, cloud) in zip(axes, clouds, strict=True):
        ax.hist2d(cloud[:, 0], cloud[:, 1], bins=64, range=box, cmap=_shades())
        ax.set(xticks=[], yticks=[], aspect="equal" if np.ptp(box[0]) == np.ptp(box[1]) else "auto")
        ax.set_title(title, fontsize=9, color=INK)
    return frame_of(drawn)


def _density_on_the_line(states: Sequence[State], units: Units) -> np.ndarray:
    drawn, ax = figure(7, 4)
    places = [units.to_units(s.x)[:, 0] for s in states]
    times = np.array([s.t for s in states])
    low, high = np.quantile(np.concatenate(places), [0.001, 0.999])
    margin = 0.1 * max(high - low, 1e-6)
    bins = np.linspace(low - margin, high + margin, 161)
    density = np.stack([np.histogram(p, bins)[0] for p in places], axis=1)
    # Each time by its own peak, or the data would outshine the rest.
    density = density / np.maximum(density.max(axis=0), 1)
    order = np.argsort(times)
    ax.pcolormesh(
        times[order], (bins[1:] + bins[:-1]) / 2, density[:, order], cmap=_shades(), shading="nearest"
    )
    ax.plot(times, np.stack([p[:40] for p in places]), color=INK, alpha=0.35, linewidth=0.6)
    ax.set(xlabel="t", ylabel="x", xlim=(times.max(), times.min()), ylim=(bins[0], bins[-1]))
    return frame_of(drawn)


def rate_distortion(rate: np.ndarray, rmse: np.ndarray, path: Path) -> None:
    """How far x̂_0(x_t) is from x_0, in the data's units, against the bits/dim paid until x_t is known (S8)."""
    drawn, axes = figure(8, 3.5, columns=2)
    for ax, scale in zip(axes, ("linear", "log"), strict=True):
        ax.plot(rate, rmse, color=ACCENT, linewidth=1.6)
        ax.set(xlabel="rate, bits/dim", ylabel="root mean squared error", xscale=scale, ylim=(0, None))
    save(frame_of(drawn), path)


def _evenly(states: Sequence[State], count: int) -> list[State]:
    index = np.linspace(0, len(states) - 1, min(count, len(states))).round().astype(int)
    return [states[i] for i in index]


def _lowest(clouds: list[np.ndarray]) -> np.ndarray:
    return np.quantile(np.concatenate(clouds), 0.005, axis=0)


def _highest(clouds: list[np.ndarray]) -> np.ndarray:
    return np.quantile(np.concatenate(clouds), 0.995, axis=0)


def _shades() -> LinearSegmentedColormap:
    return LinearSegmentedColormap.from_list("paper to accent", [PAPER, ACCENT])


def picture(x: np.ndarray, units: Units, data: np.ndarray | None = None) -> np.ndarray:
    """A frame of samples in the network's range: images in a grid, points (before the data's) in their own units."""
    if x.ndim == 4:
        return image_grid(x)
    return points(units.to_units(x), None if data is None else units.to_units(data[:20_000]))


def frame_of(drawn: Figure) -> np.ndarray:
    """A figure as (height, width, 3) bytes."""
    drawn.canvas.draw()
    return np.asarray(drawn.canvas.buffer_rgba())[..., :3].copy()


def save(frame: np.ndarray, path: Path) -> None:
    """Write one frame; PNG, JPEG or what else the suffix says."""
    _write(Image.fromarray(frame), path)


def animate(frames: Sequence[np.ndarray], path: Path, seconds: float = 4.0) -> None:
    """Write frames as a looping GIF; the last one rests for a while."""
    pictures = [Image.fromarray(frame).quantize(64) for frame in frames]
    each = max(20, round(1000 * seconds / len(frames)))
    durations = [each] * (len(frames) - 1) + [1500]
    _write(pictures[0], path, save_all=True, append_images=pictures[1:], duration=durations, loop=0)


def _write(picture: Image.Image, path: Path, **options: object) -> None:
    kind = Image.registered_extensions().get(Path(path).suffix.lower())
    if kind not in Image.SAVE:
        raise ValueError(f"expected a name that ends as a picture's does, such as .png, got {path}")
    content = io.BytesIO()
    picture.save(content, kind, **options)
    files.replace(path, content.getvalue())
