"""Samples in the course of training, drawn now and then from the same noise, for a small fraction of its time."""

from __future__ import annotations

import math
import time
import warnings
from typing import TYPE_CHECKING

import numpy as np

from minidiff.diffusion import generation
from minidiff.runs import report
from minidiff.runs.folders import PREVIEWS

if TYPE_CHECKING:
    from minidiff.runs.run import Run

IMAGES, POINTS, NFE = 16, 2000, 20  # samples, and evaluations of the network for each
FRACTION = 0.02  # of the time of training, at most
GROWTH = 1.25  # of the time from one preview to the next, so that a long training has some dozens


class Previews:
    """Draws a preview into a run's folder whenever one is due, and writes the report anew.

    minutes: from the begin of training to the first. The noise has a generator of its own, so that the bits of what is
    trained do not depend on previews.
    """

    def __init__(self, run: Run, minutes: float) -> None:
        self.run, self.due, self.spent = run, 60 * minutes, 0.0
        self.begin, self.first_step = time.monotonic(), run.step
        self.recipe = generation.for_nfe(NFE, run.schedule, "ddim")
        self.count = IMAGES if len(run.shape) == 3 else POINTS

    def after_step(self) -> None:
        """Draw a preview if one is due."""
        elapsed = time.monotonic() - self.begin
        if elapsed < self.due:
            return
        if self.spent + self._expected(elapsed) > FRACTION * elapsed:
            self.due = elapsed * GROWTH
            return
        try:
            self.draw()
        except (OSError, ValueError, ArithmeticError) as error:  # a full disk, weights that diverge
            warnings.warn(f"no more previews are drawn: {error}", RuntimeWarning, stacklevel=2)
            self.due = math.inf
            return
        self.spent += time.monotonic() - self.begin - elapsed
        self.due = max(elapsed * GROWTH, self.spent / FRACTION)

    def _expected(self, elapsed: float) -> float:
        """The seconds that a preview takes: per sample an evaluation costs a third of a training step, or less."""
        steps = max(1, self.run.step - self.first_step)
        return elapsed / steps / 3 * self.count * NFE / self.run.settings.training.batch

    def draw(self) -> None:
        """Draw a preview now."""
        from minidiff.evaluation import plots  # here, since matplotlib takes a while to import

        run = self.run
        x = generation.generate(run.denoiser(), run.shape, self.count, np.random.default_rng(0), self.recipe)
        folder = run.folder / PREVIEWS
        folder.mkdir(exist_ok=True)
        data = None if run.trainer is None else run.trainer.x
        plots.save(plots.picture(x, run.units, data), folder / f"step_{run.step:08}.png")
        report.write(run, training=True)
