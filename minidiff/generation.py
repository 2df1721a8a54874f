"""Many samples, by a sampler's name: which times and options it takes, and batches that do not change the result."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from minidiff import samplers
from minidiff.denoiser import Denoiser
from minidiff.samplers import State
from minidiff.samplers.ddim import steps as ddim_steps
from minidiff.schedules import Schedule

DDIM_STEPS, DDIM_SPACING = 50, "quadratic"


@dataclass(frozen=True)
class Recipe:
    """How to sample: 'ddpm' or 'ddim', the number of steps, their spacing, and DDIM's η.

    What is left out is: for DDPM every time; for DDIM 50 steps (or T, if that is less), dense near 0
    (`timesteps.quadratic`), and η = 0. Raises ValueError for an unknown name, or an η that DDPM does not take.
    """

    sampler: str = "ddim"
    steps: int | None = None
    spacing: str | None = None
    eta: float | None = None

    def __post_init__(self) -> None:
        if self.sampler not in samplers.SAMPLERS:
            raise ValueError(f"expected a sampler of {', '.join(samplers.SAMPLERS)}; got {self.sampler!r}")
        if self.spacing is not None and self.spacing not in samplers.SPACINGS:
            raise ValueError(f"expected a spacing of {', '.join(samplers.SPACINGS)}; got {self.spacing!r}")
        if self.eta is not None and self.sampler != "ddim":
            raise ValueError(f"{self.sampler} takes no eta; it is an option of ddim")

    def times(self, T: int) -> tuple[int, ...]:
        """The times that it visits on a schedule of T. Raises ValueError for more steps than T."""
        ddim = self.sampler == "ddim"
        steps = self.steps if self.steps is not None else min(DDIM_STEPS, T) if ddim else T
        return samplers.SPACINGS[self.spacing or (DDIM_SPACING if ddim else "trailing")](T, steps)

    def check(self, schedule: Schedule) -> None:
        """Raises ValueError where this cannot be done on the schedule: too many steps, or too large an η."""
        times = self.times(schedule.T)
        if self.sampler == "ddim":
            ddim_steps(schedule, times, self.eta or 0.0)

    def states(self, denoiser: Denoiser, x_T: np.ndarray, rng: np.random.Generator) -> Iterator[State]:
        """Run the sampler from x_T (B, …)."""
        options = {} if self.eta is None else {"eta": self.eta}
        times = self.times(denoiser.schedule.T)
        return samplers.SAMPLERS[self.sampler](denoiser, x_T, rng, times, **options)


def generate(
    denoiser: Denoiser,
    shape: tuple[int, ...],
    count: int,
    rng: np.random.Generator,
    recipe: Recipe,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """(count, *shape) float32 samples in the network's range; the first n are the same whatever the count.

    They are drawn in batches, whose size depends on the shape alone, each with a child of `rng`.
    report(done, total) is called after every step.
    """
    batch = max(128, 4096 // math.prod(shape))
    streams = rng.spawn(-(-count // batch))
    total = len(streams) * (len(recipe.times(denoiser.schedule.T)) - 1)
    samples, done = np.empty((count, *shape), np.float32), 0
    for i, stream in enumerate(streams):
        part = samples[i * batch : (i + 1) * batch]
        for state in recipe.states(denoiser, samplers.initial_noise(stream, part.shape), stream):
            done += 1
            report(done, total)
            if state.t == 0:
                part[...] = state.x
    return samples


def trajectory(
    denoiser: Denoiser, shape: tuple[int, ...], count: int, rng: np.random.Generator, recipe: Recipe
) -> list[State]:
    """The states from noise (first, at t = T, where x̂₀ is all zero) to `count` samples.

    The first of them, as many as one batch holds, are those that `generate` makes with the same `rng`.
    """
    rng = rng.spawn(1)[0]
    x_T = samplers.initial_noise(rng, (count, *shape))
    start = recipe.times(denoiser.schedule.T)[0]
    return [State(start, x_T, np.zeros_like(x_T)), *recipe.states(denoiser, x_T, rng)]
