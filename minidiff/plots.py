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
from matplotlib.figure import Figure
from PIL import Image

from minidiff import files
from minidiff.datasets import Units

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
    ax.set(xlabel="step", ylabel="L_simple")
    save(frame_of(drawn), path)


def _running_mean(values: np.ndarray) -> np.ndarray:
    """At place i the mean of the last tenth of values[: i + 1], of one value at least."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    end = np.arange(1, len(values) + 1)
    begin = end - np.maximum(1, end // 10)
    return (total[end] - total[begin]) / (end - begin)


def distances(found: Mapping[str, Mapping[int, float]], floor: float, name: str, path: Path) -> None:
    """A distance against the number of evaluations, on logarithmic axes: a line a sampler, and that of real data."""
    drawn, ax = figure(6, 4)
    for i, (sampler, by_evaluations) in enumerate(found.items()):
        colour = COLOURS[i % len(COLOURS)]
        ax.loglog(
            *zip(*by_evaluations.items(), strict=True), color=colour, marker="o", markersize=3, label=sampler
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
