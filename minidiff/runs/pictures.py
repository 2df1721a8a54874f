"""The pictures of a run: its loss, samples, and how they come out of noise."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from minidiff.diffusion import generation
from minidiff.diffusion.generation import Recipe
from minidiff.diffusion.guidance import Conditioning
from minidiff.runs import report
from minidiff.runs.folders import CHECKPOINT

if TYPE_CHECKING:
    from minidiff.runs.run import Run

IMAGES, POINTS = 64, 4000  # samples
MOST_NUMBERS = 64 * 128 * 128  # in them: all states on the way are held
CLASSES, PER_CLASS = 20, 10  # at most so many rows of so many images


def draw(run: Run, seed: int = 0) -> list[Path]:
    """Write the pictures into the run's folder, and the report with them in it; returns their paths."""
    from minidiff.evaluation import plots  # here, since matplotlib takes a while to import

    frames = {}
    if rows := run.metrics():
        frames["loss.png"] = plots.loss_curve(
            [int(row["step"]) for row in rows], [row["loss"] for row in rows]
        )
    data = None if run.trainer is None else run.trainer.x
    images = len(run.shape) == 3
    count = min(IMAGES, max(1, MOST_NUMBERS // math.prod(run.shape))) if images else POINTS
    states = generation.trajectory(run.denoiser(), run.shape, count, np.random.default_rng(seed), Recipe())
    animation = [plots.picture(state.x, run.units, data) for state in states]
    frames["samples.png"] = animation[-1]
    if images:
        few = [state._replace(x=state.x[:6], x0=state.x0[:6]) for state in states]
        frames["trajectory.png"] = plots.strip(few)
    else:
        frames["trajectory.png"] = plots.trajectories(states, run.units, data)
    if _shows_classes(run):
        labels = np.repeat(np.arange(min(CLASSES, run.net.classes)), PER_CLASS)
        denoiser = run.denoiser(Conditioning(labels))
        x = generation.generate(denoiser, run.shape, len(labels), np.random.default_rng(seed), Recipe())
        frames["classes.png"] = plots.image_grid(x, columns=PER_CLASS)
    for name, frame in frames.items():
        plots.save(frame, run.folder / name)
    plots.animate(animation, run.folder / "animation.gif")
    return [*(run.folder / name for name in (*frames, "animation.gif")), report.write(run)]


def up_to_date(run: Run) -> bool:
    """Whether all pictures are there, and none is older than the checkpoint."""
    names = ["samples.png", "trajectory.png", "animation.gif", report.REPORT]
    names += ["loss.png"] * bool(run.metrics()) + ["classes.png"] * _shows_classes(run)
    paths = [run.folder / name for name in names]
    saved = (run.folder / CHECKPOINT).stat().st_mtime_ns
    return all(path.exists() and path.stat().st_mtime_ns >= saved for path in paths)


def _shows_classes(run: Run) -> bool:
    return len(run.shape) == 3 and run.net.classes > 0
