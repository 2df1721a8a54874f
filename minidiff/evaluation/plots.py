"""Figures: losses, points, images, and the sampling trajectories to both. The only module that draws.

Images are (N, H, W, C) in [−1, 1], C = 1 or 3. Points are (N, 1) or (N, 2) in the data's own units. Every function
returns a frame, which a notebook shows; `save` and `animate` write frames to files.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from PIL import Image

from minidiff import files
from minidiff.datasets import Samples, Units
from minidiff.datasets.image_stream import as_bytes
from minidiff.diffusion.samplers import State

INK, ACCENT, PAPER = "#1f2933", "#d1495b", "#fbfaf7"
COLOURS = ("#1f2933", "#d1495b", "#00798c", "#d98e04", "#6a4c93", "#4f9d69", "#8d6a4f")  # of several lines
MARKERS = "osD^v<>"  # beside the colours, for readers who do not tell them apart
DISTANCES = {
    "wasserstein1": "Wasserstein-1 distance (data units)",
    "sliced_wasserstein": "sliced Wasserstein distance",
    "frechet_distance": "Fréchet distance (classifier features)",
}


class Frame(np.ndarray):
    """A picture, (height, width, 3) bytes, as which a notebook shows it."""

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        Image.fromarray(self).save(content, "PNG")
        return content.getvalue()


def figure(
    width: float, height: float, columns: int = 1, rows: int = 1, **options: Any
) -> tuple[Figure, Any]:
    """A figure of that size in inches, in the project's style, and its axes; options go to `subplots`."""
    drawn = Figure(figsize=(width, height), dpi=120, facecolor=PAPER, layout="constrained")
    axes = drawn.subplots(rows, columns, **options)
    for ax in np.ravel(axes):
        ax.set_facecolor(PAPER)
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(which="both", colors=INK, labelsize=9)
    return drawn, axes


def _log_ticks(axis: Axis, form: str = "{x:g}") -> None:
    """Plain numbers at the powers of 10; over 3½ decades or fewer also at 2 and 5, in one decade at all digits."""
    low, high = axis.get_view_interval()
    decades = np.log10(high / low)
    axis.set_major_locator(
        LogLocator(subs=range(1, 10) if decades < 1 else (1, 2, 5) if decades < 3.5 else (1,))
    )
    axis.set_major_formatter(form)
    axis.set_minor_formatter(NullFormatter())


def loss_curve(steps: Sequence[int], losses: Sequence[float]) -> Frame:
    """The loss against the training step, on logarithmic axes, with a running mean over the last tenth of the steps."""
    drawn, ax = figure(6, 3.5)
    ax.loglog(steps, losses, color=INK, alpha=0.25, linewidth=0.8, label="loss")
    ax.loglog(
        steps,
        _running_mean(np.asarray(losses)),
        color=ACCENT,
        linewidth=1.6,
        label="mean over the last tenth of the steps",
    )
    _log_ticks(ax.xaxis, "{x:,.0f}")
    _log_ticks(ax.yaxis)
    ax.set(xlabel="training step", ylabel="loss")
    ax.legend(frameon=False, fontsize=9)
    return frame_of(drawn)


def _running_mean(values: np.ndarray) -> np.ndarray:
    """At index i the mean of the last tenth of values[: i + 1], of one value at least."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    end = np.arange(1, len(values) + 1)
    begin = end - np.maximum(1, end // 10)
    mean: np.ndarray = (total[end] - total[begin]) / (end - begin)
    return mean


def distances(
    found: Mapping[str, Mapping[int, float]],
    errors: Mapping[str, Mapping[int, float]],
    floor: float,
    name: str,
) -> Frame:
    """A distance against the NFE, on logarithmic axes: a line for each sampler, and the floor, that of real data.

    found, errors: distance and standard error by sampler and NFE; the bars are two errors to either side. name: of the
    distance, as in `reports.Comparison`.
    """
    drawn, ax = figure(7.5, 4.2)
    ax.set(xscale="log", yscale="log")
    for i, (sampler, by_nfe) in enumerate(found.items()):
        color = COLOURS[i % len(COLOURS)]
        # Slightly apart in x, or the error bars of all samplers would coincide.
        nfe = np.array(list(by_nfe)) * 1.025 ** (i - (len(found) - 1) / 2)
        two_errors = [2 * error for error in errors[sampler].values()]
        ax.errorbar(nfe, by_nfe.values(), two_errors, fmt="none", ecolor=color, elinewidth=1, alpha=0.6)
        marker = {"marker": MARKERS[i % len(MARKERS)], "markersize": 5.5, "markeredgecolor": PAPER}
        ax.plot(nfe, by_nfe.values(), color=color, linewidth=1.5, label=sampler, **marker)
    ax.axhline(floor, color=INK, linestyle=":", linewidth=1.2, zorder=1)
    ax.text(1.02, floor, "real data", color=INK, fontsize=9, va="center", transform=ax.get_yaxis_transform())
    # Set by the distances: on a logarithmic axis an error bar that reaches 0 has no end.
    values = [floor, *(value for by_nfe in found.values() for value in by_nfe.values())]
    positive = [value for value in values if value > 0] or [1.0]
    ax.set_ylim(min(positive) / 1.4, max(positive) * 1.4)
    nfes = sorted({nfe for by_nfe in found.values() for nfe in by_nfe})
    ticks = [nfe for nfe, following in pairwise([*nfes, np.inf]) if following > 1.15 * nfe]
    ax.set_xticks(ticks, labels=[str(tick) for tick in ticks])
    ax.set_xticks([], minor=True)
    ax.set_xlim(nfes[0] / 1.25, nfes[-1] * 1.25)
    _log_ticks(ax.yaxis)
    ax.grid(color=INK, alpha=0.1, linewidth=0.8)
    ax.set(
        xlabel="NFE (evaluations of the network per sample)",
        ylabel=DISTANCES.get(name, name.replace("_", " ")),
    )
    style: dict[str, Any] = {"frameon": False, "fontsize": 9, "title_fontsize": 9, "alignment": "left"}
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), title="sampler (± 2 s.e.)", **style)
    return frame_of(drawn)


def image_grid(images: np.ndarray, columns: int | None = None, side: int = 480) -> Frame:
    """All images in rows on one frame, about `side` wide: each pixel becomes a square of whole pixels."""
    count, height, width, _ = images.shape
    columns = columns or int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    scale = max(1, side // (columns * (width + 1)))
    gap = max(1, scale // 2)
    frame = np.full(
        (rows * (height * scale + gap) + gap, columns * (width * scale + gap) + gap, 3), 255, np.uint8
    )
    pixels = np.broadcast_to(_pixels(images), (count, height, width, 3))
    for i, image in enumerate(pixels.repeat(scale, axis=1).repeat(scale, axis=2)):
        top = gap + i // columns * (height * scale + gap)
        left = gap + i % columns * (width * scale + gap)
        frame[top : top + height * scale, left : left + width * scale] = image
    return frame.view(Frame)


def _pixels(images: np.ndarray) -> np.ndarray:
    """Images as bytes, of 1 or 3 channels: opacity, if any, is not drawn."""
    pixels = as_bytes(images)
    return pixels[..., :3] if pixels.shape[-1] >= 3 else pixels[..., :1]


def points(samples: np.ndarray, data: np.ndarray | None = None, title: str = "") -> Frame:
    """A frame of samples (N, 1) as a histogram or (N, 2) as dots, in red, over the data's, in grey."""
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
        ax.set(xlabel="x (data units)", ylabel="density")
    else:
        if data is not None:
            ax.scatter(*data[:5000, :2].T, s=2, color=INK, alpha=0.15, linewidths=0, label="data")
        ax.scatter(*samples[:5000, :2].T, s=3, color=ACCENT, alpha=0.5, linewidths=0, label="samples")
        ax.set(ylim=(low[1], high[1]), xlabel="$x_1$ (data units)", ylabel="$x_2$ (data units)")
    ax.set(xlim=(low[0], high[0]))
    ax.set_title(title, fontsize=10, color=INK)
    if data is not None:
        legend = drawn.legend(loc="outside upper right", ncols=2, frameon=False, fontsize=9, markerscale=4)
        for handle in filter(None, legend.legend_handles):
            handle.set_alpha(0.8)
    return frame_of(drawn)


def strip(states: Sequence[State], columns: int = 12) -> Frame:
    """A frame of the trajectories of images: for each sample a row of x_t and below it one of x̂_0, from T to 0.

    states: of the sampler, the first at T, where there is no x̂_0 yet; `columns` of them are shown, evenly spaced.
    """
    shown = _evenly(states, columns)
    rows = [
        image
        for i in range(len(shown[0].x))
        for image in (*(s.x[i] for s in shown), *(s.x0[i] for s in shown))
    ]
    return image_grid(np.stack(rows), len(shown), side=960)


def trajectories(states: Sequence[State], units: Units, data: np.ndarray | Samples | None = None) -> Frame:
    """A frame of the density of points, in their own units, from noise to data.

    In one dimension it is drawn over (t, x), with 40 trajectories; in two (of more, the first two coordinates) at six
    times side by side, and the data's own last where it is given.
    """
    if states[0].x.shape[1] == 1:
        return _density_over_time(states, units)
    shown = _evenly(states, 6)
    clouds = [(f"t = {s.t:g}", units.to_units(s.x)) for s in shown]
    clouds += [] if data is None else [("data", units.to_units(data[:20_000]))]
    low, high = (_quantile([cloud[:, :2] for _, cloud in clouds[-2:]], q) for q in (0.005, 0.995))
    margin = np.where(high > low, 0.3 * (high - low), 1.0)
    box = np.stack([low - margin, high + margin], axis=1)
    drawn, axes = figure(2 * len(clouds), 2.6, columns=len(clouds), sharey=True)
    for ax, (title, cloud) in zip(axes, clouds, strict=True):
        ax.hist2d(cloud[:, 0], cloud[:, 1], bins=64, range=box, cmap=_shades())
        ax.set(xlabel="$x_1$ (data units)")
        ax.set_title(title, fontsize=10, color=INK)
    axes[0].set(ylabel="$x_2$ (data units)")
    return frame_of(drawn)


def _density_over_time(states: Sequence[State], units: Units) -> Frame:
    drawn, ax = figure(7, 4)
    x = [units.to_units(s.x)[:, 0] for s in states]
    times = np.array([s.t for s in states])
    low, high = np.quantile(np.concatenate(x), [0.001, 0.999])
    margin = 0.1 * max(high - low, 1e-6)
    bins = np.linspace(low - margin, high + margin, 161)
    density = np.stack([np.histogram(x_t, bins)[0] for x_t in x], axis=1)
    # Each time relative to its own peak, or the narrow peaks of the data would outshine the rest.
    density = density / np.maximum(density.max(axis=0), 1)
    order = np.argsort(times)
    ax.pcolormesh(
        times[order], (bins[1:] + bins[:-1]) / 2, density[:, order], cmap=_shades(), shading="nearest"
    )
    ax.plot(times, np.stack([x_t[:40] for x_t in x]), color=INK, alpha=0.35, linewidth=0.6)
    ax.set(xlabel="t", ylabel="x (data units)", xlim=(times.max(), times.min()), ylim=(bins[0], bins[-1]))
    ax.set_title("density of $x_t$, relative to its peak at t, and 40 trajectories", fontsize=10, color=INK)
    return frame_of(drawn)


def rate_distortion(rate: np.ndarray, rmse: np.ndarray) -> Frame:
    """The RMSE of x̂_0(x_t), in the data's units, against the rate: the bits/dim that encode x_t (EQUATIONS.md S8).

    On a linear axis, which shows where most bits go, and on a logarithmic one, which shows the first few.
    """
    drawn, axes = figure(8, 3.5, columns=2, sharey=True)
    for ax, scale in zip(axes, ("linear", "log"), strict=True):
        ax.plot(rate, rmse, color=ACCENT, linewidth=1.6)
        ax.set(xlabel="rate (bits/dim)", xscale=scale, ylim=(0, None))
        ax.grid(color=INK, alpha=0.1, linewidth=0.8)
    _log_ticks(axes[1].xaxis)
    axes[0].set(ylabel="distortion: RMSE (data units)")
    return frame_of(drawn)


def _evenly(states: Sequence[State], count: int) -> list[State]:
    index = np.linspace(0, len(states) - 1, min(count, len(states))).round().astype(int)
    return [states[i] for i in index]


def _quantile(clouds: list[np.ndarray], q: float) -> np.ndarray:
    quantile: np.ndarray = np.quantile(np.concatenate(clouds), q, axis=0)
    return quantile


def _shades() -> LinearSegmentedColormap:
    return LinearSegmentedColormap.from_list("paper to accent", [PAPER, ACCENT])


def picture(x: np.ndarray, units: Units, data: np.ndarray | Samples | None = None) -> Frame:
    """A frame of samples in the network's range: images in a grid, points (over the data's) in their own units."""
    if x.ndim == 4:
        return image_grid(x)
    return points(units.to_units(x), None if data is None else units.to_units(data[:20_000]))


def frame_of(drawn: Figure) -> Frame:
    """A figure as a frame."""
    canvas: Any = FigureCanvasAgg(drawn)  # its methods are not typed
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy().view(Frame)


def save(frame: np.ndarray, path: Path) -> None:
    """Write one frame in the format of the suffix: PNG, JPEG or another that Pillow writes."""
    _write(Image.fromarray(frame), path)


def save_each(images: np.ndarray, folder: Path) -> None:
    """Write every image into the folder as a PNG of its own size: 0000.png, 0001.png, …"""
    digits = max(4, len(str(len(images) - 1)))
    for number, pixels in enumerate(_pixels(images)):
        grey = pixels.shape[2] == 1
        _write(Image.fromarray(pixels[..., 0] if grey else pixels), folder / f"{number:0{digits}}.png")


def animate(frames: Sequence[np.ndarray], path: Path, seconds: float = 4.0) -> None:
    """Write frames as a looping GIF of so many seconds; the last frame stays 1.5 s."""
    pictures = [Image.fromarray(frame).quantize(64) for frame in frames]
    milliseconds = max(20, round(1000 * seconds / len(frames)))
    durations = [milliseconds] * (len(frames) - 1) + [1500]
    _write(pictures[0], path, save_all=True, append_images=pictures[1:], duration=durations, loop=0)


def _write(picture: Image.Image, path: Path, **options: object) -> None:
    kind = Image.registered_extensions().get(Path(path).suffix.lower())
    if kind not in Image.SAVE:
        raise ValueError(f"expected the suffix of an image format, such as .png, got {path}")
    content = io.BytesIO()
    picture.save(content, kind, **options)
    files.replace(path, content.getvalue())
