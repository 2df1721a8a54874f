"""The pictures of a run: its loss, samples, and how they come out of noise."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from minidiff.diffusion import generation
from minidiff.diffusion.generation import Recipe
from minidiff.diffusion.guidance import Conditioning

if TYPE_CHECKING:
    from minidiff.runs.run import Run

IMAGES, POINTS = 64, 4000  # samples
CLASSES, PER_CLASS = 20, 10  # at most so many rows of so many images


def draw(run: Run, seed: int = 0) -> list[Path]:
    """Write loss.png, samples.png, animation.gif, trajectory.png and, with classes, classes.png; returns the paths."""
    from minidiff.evaluation import plots  # here, since matplotlib takes a while to import

    written = []
    if rows := run.metrics():
        written.append(run.folder / "loss.png")
        curve = plots.loss_curve([int(row["step"]) for row in rows], [row["loss"] for row in rows])
        plots.save(curve, written[-1])
    data = None if run.trainer is None else run.trainer.x
    images = len(run.shape) == 3
    rng = np.random.default_rng(seed)
    count = IMAGES if images else POINTS
    states = generation.trajectory(run.denoiser(), run.shape, count, rng, Recipe())
    frames = [plots.picture(state.x, run.units, data) for state in states]
    written += [run.folder / "samples.png", run.folder / "animation.gif"]
    plots.save(frames[-1], written[-2])
    plots.animate(frames, written[-1])
    written.append(run.folder / "trajectory.png")
    if images:
        few = [state._replace(x=state.x[:6], x0=state.x0[:6]) for state in states]
        plots.save(plots.strip(few), written[-1])
    else:
        plots.save(plots.trajectories(states, run.units, data), written[-1])
    if images and run.net.classes:
        written.append(run.folder / "classes.png")
        labels = np.repeat(np.arange(min(CLASSES, run.net.classes)), PER_CLASS)
        denoiser = run.denoiser(Conditioning(labels))
        x = generation.generate(denoiser, run.shape, len(labels), np.random.default_rng(seed), Recipe())
        plots.save(plots.image_grid(x, columns=PER_CLASS), written[-1])
    return written
