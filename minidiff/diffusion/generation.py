"""Many samples, by a sampler's name: which times and options it takes, and batches that do not change the result."""

from __future__ import annotations

import inspect
import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from minidiff.diffusion import samplers
from minidiff.diffusion.denoiser import Denoiser, Prediction
from minidiff.diffusion.samplers import State
from minidiff.diffusion.schedules import Schedule

# What each takes besides denoiser, x_T, rng and timesteps; and the steps (None: T) and spacing it has by default.
OPTIONS = {name: list(inspect.signature(s).parameters)[4:] for name, s in samplers.SAMPLERS.items()}
DEFAULTS = {
    "ddpm": (None, "trailing"),
    "ddim": (50, "quadratic"),
    "plms": (50, "logsnr"),
    "dpmpp_2m": (25, "logsnr"),
    "heun": (25, "logsnr"),
    "unipc": (25, "logsnr"),
    "pc": (None, "trailing"),
}


@dataclass(frozen=True)
class Recipe:
    """How to sample: by which of `samplers.SAMPLERS`, in how many steps, how spaced, and with which options.

    What is left out is as `DEFAULTS` says (T steps, if that is less) and as the sampler has it. Raises ValueError
    for an unknown name, or an option that the sampler does not take.
    """

    sampler: str = "ddim"
    steps: int | None = None
    spacing: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.sampler not in samplers.SAMPLERS:
            raise ValueError(f"expected a sampler of {', '.join(samplers.SAMPLERS)}; got {self.sampler!r}")
        if self.spacing is not None and self.spacing not in samplers.SPACING_NAMES:
            raise ValueError(
                f"expected a spacing of {', '.join(samplers.SPACING_NAMES)}; got {self.spacing!r}"
            )
        for option in self.options:
            if option not in OPTIONS[self.sampler]:
                takers = ", ".join(name for name, taken in OPTIONS.items() if option in taken) or "no sampler"
                raise ValueError(f"{self.sampler} takes no {option}; it is an option of {takers}")

    def times(self, schedule: Schedule) -> tuple[int, ...]:
        """The times that it visits on a schedule. Raises ValueError for more steps than T."""
        steps, spacing = DEFAULTS[self.sampler]
        if self.steps is not None:
            steps = self.steps
        elif steps is None or steps > schedule.T:
            steps = schedule.T
        return samplers.spaced(schedule, self.spacing or spacing, steps)

    def check(self, schedule: Schedule) -> None:
        """Raises ValueError where this cannot be done on the schedule: too many steps, or an option out of range."""
        next(self.states(_Listener(schedule), np.zeros((0, 1)), np.random.default_rng(0)))

    def evaluations(self, schedule: Schedule) -> int:
        """How often it asks the network, for each sample."""
        listener = _Listener(schedule)
        samplers.final(self.states(listener, np.zeros((0, 1)), np.random.default_rng(0)))
        return listener.asked

    def states(self, denoiser: Denoiser, x_T: np.ndarray, rng: np.random.Generator) -> Iterator[State]:
        """Run the sampler from x_T (B, …)."""
        times = self.times(denoiser.schedule)
        return samplers.SAMPLERS[self.sampler](denoiser, x_T, rng, times, **self.options)


class _Listener:
    """A denoiser that knows nothing, and counts how often it is asked."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule, self.asked = schedule, 0

    def __call__(self, x: np.ndarray, t: float) -> Prediction:
        self.asked += 1
        return Prediction(x, x, x)


def within(evaluations: int, schedule: Schedule, sampler: str, **details: object) -> Recipe:
    """The recipe of a sampler with the most steps that ask the network no more than so often, of those up to T."""

    def asks(steps: int) -> int:
        return Recipe(sampler, steps, **details).evaluations(schedule)

    steps = bisect_right(range(1, min(evaluations, schedule.T) + 1), evaluations, key=asks)
    return Recipe(sampler, max(1, steps), **details)


def generate(
    denoiser: Denoiser,
    shape: tuple[int, ...],
    count: int,
    rng: np.random.Generator,
    recipe: Recipe,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """(count, *shape) float32 samples in the network's range; the first n are the same whatever the count.

    They are drawn in batches, whose size depends on the shape alone, each with a child of `rng`. The denoiser's
    label may be one for all, or (count,) of them. report(done, total) is called after every step.
    """
    label = getattr(denoiser, "label", None)
    batch = max(128, 4096 // math.prod(shape))
    streams = rng.spawn(-(-count // batch))
    total = len(streams) * (len(recipe.times(denoiser.schedule)) - 1)
    samples, done = np.empty((count, *shape), np.float32), 0
    for i, stream in enumerate(streams):
        here = slice(i * batch, (i + 1) * batch)
        part, told = samples[here], replace(denoiser, label=label[here]) if np.ndim(label) else denoiser
        for state in recipe.states(told, samplers.initial_noise(stream, part.shape), stream):
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
    start = recipe.times(denoiser.schedule)[0]
    return [State(start, x_T, np.zeros_like(x_T)), *recipe.states(denoiser, x_T, rng)]
