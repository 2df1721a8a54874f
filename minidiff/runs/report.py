"""report.html: a run on one page that opens in any browser, made of the files in its folder."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageSequence

from minidiff import files
from minidiff.evaluation import pages, tables
from minidiff.options import given
from minidiff.runs.folders import PREVIEWS

if TYPE_CHECKING:
    from minidiff.runs.run import Run

REPORT = "report.html"
FRAMES = 26  # of the trajectory, at most
REFRESH = 20  # seconds between two looks of a browser at a run that is being trained


def write(run: Run, training: bool = False) -> Path:
    """Write the report of a run into its folder. training: it will be written again, so browsers are to reload it."""
    title = f"{run.folder.resolve().name}: {run.settings.data}, {run.step:,} steps"
    page = pages.page(title, _blocks(run, training), REFRESH if training else None)
    files.replace(run.folder / REPORT, page.encode())
    return run.folder / REPORT


def _blocks(run: Run, training: bool) -> Iterator[str]:
    folder, settings = run.folder, run.settings
    if training:
        yield pages.paragraph(f"Training goes on; this page reloads every {REFRESH} seconds.")
    yield from _pictures(folder, "samples.png", "Samples", "Drawn from the weights' moving average (EMA).")
    names = f" {', '.join(run.class_names)}." if run.class_names else ""
    yield from _pictures(folder, "classes.png", "Samples by class", f"A row for each class, in order.{names}")
    if previews := sorted((folder / PREVIEWS).glob("step_*.png")):
        yield pages.heading("Samples in the course of training")
        yield pages.paragraph("The same noise, mapped to samples by the network as it was after each step.")
        steps = [int(path.stem.removeprefix("step_")) for path in previews]
        frames = [(path.read_bytes(), f"after step {n:,}") for path, n in zip(previews, steps, strict=True)]
        yield pages.slider("previews", frames)
    if (folder / "animation.gif").exists():
        yield pages.heading("From noise to samples")
        yield pages.paragraph("The states x_t of the reverse process, from x_T to x_0.")
        yield pages.slider("trajectory", _frames(folder / "animation.gif"))
    yield from _pictures(folder, "loss.png", "Loss", "The training loss, on logarithmic axes.")
    yield from _evaluation(folder / "evaluation.json", "Evaluation beside held-out data")
    yield from _evaluation(folder / "inception.json", "Evaluation by Inception features")
    yield pages.heading("Settings")
    rows = {
        "data": settings.data or "none",
        "read with": _line(given(settings.loading)),
        "left out": run.facts.left_out,
        "seed": str(settings.seed),
        "parameters": f"{run.net.count_parameters():,}",
        "network": _line(settings.net),
        "schedule": _line(asdict(settings.schedule)),
        "training": _line(asdict(settings.training)),
    }
    yield pages.table([(name, value) for name, value in rows.items() if value])


def _pictures(folder: Path, name: str, heading: str, caption: str) -> Iterator[str]:
    if (folder / name).exists():
        yield pages.heading(heading)
        yield pages.picture((folder / name).read_bytes(), caption)


def _frames(gif: Path) -> list[tuple[bytes, str]]:
    """Frames of an animation, evenly spaced, as PNGs."""
    with Image.open(gif) as animation:
        frames = ImageSequence.all_frames(animation)
    last = len(frames) - 1
    shown = np.unique(np.linspace(0, last, FRAMES).round().astype(int)).tolist()
    return [(_png(frames[i]), f"after step {i} of {last} of the sampler") for i in shown]


def _png(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


def _evaluation(path: Path, heading: str) -> Iterator[str]:
    """A row for each figure that `minidiff evaluate` wrote, its value for real data, and what it means."""
    if not path.exists():
        return
    yield pages.heading(heading)
    try:
        figures: Mapping[str, Any] = json.loads(path.read_text())
        of = f"{figures['count']} samples, after step {figures['step']:,}."
        rows = [(row.name, row.value, row.real, tables.MEANING[row.key]) for row in tables.rows(figures)]
    except (ValueError, KeyError, TypeError) as error:
        yield pages.paragraph(f"{path.name} is damaged: {error}")
        return
    yield pages.paragraph(of)
    yield pages.table(rows, ("", "samples", "real data", "meaning"))


def _line(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if value is not None)
