"""The pictures of a run: its loss, samples, and how they come to be."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from minidiff.diffusion import generation
from minidiff.diffusion.generation import Recipe
from minidiff.runs.folders import CHECKPOINT, PICTURES

if TYPE_CHECKING:
    from minidiff.runs.run import Run


def draw(run: Run, seed: int = 0) -> list[Path]:
    """Write the pictures into the run's folder; returns their paths."""
    from minidiff.evaluation import plots  # here, since matplotlib takes a while to import

    loss, samples, animation, trajectory = (run.folder / name for name in PICTURES)
    written = [samples, animation, trajectory]
    if rows := run.metrics():
        written.insert(0, loss)
        plots.loss_curve([int(row["step"]) for row in rows], [row["loss"] for row in rows], loss)
    data = None if run.trainer is None else run.trainer.x
    count = 64 if len(run.shape) == 3 else 4000
    rng = np.random.default_rng(seed)
    states = generation.trajectory(run.denoiser(), run.shape, count, rng, Recipe())
    frames = [plots.picture(state.x, run.units, data) for state in states]
    plots.save(frames[-1], samples)
    plots.animate(frames, animation)
    if len(run.shape) == 3:
        few = [state._replace(x=state.x[:6], x0=state.x0[:6]) for state in states]
        plots.save(plots.strip(few), trajectory)
    else:
        plots.save(plots.trajectories(states, run.units, data), trajectory)
    return written


def up_to_date(run: Run) -> bool:
    """Whether all pictures are there, and none is older than the checkpoint."""
    names = PICTURES if run.metrics() else PICTURES[1:]
    paths = [run.folder / name for name in names]
    saved = (run.folder / CHECKPOINT).stat().st_mtime_ns
    return all(path.exists() and path.stat().st_mtime_ns >= saved for path in paths)
