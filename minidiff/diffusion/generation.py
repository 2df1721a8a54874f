"""Many samples: a recipe that says how, and batches whose size does not change the result."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np

from minidiff import memory
from minidiff.diffusion.denoiser import Denoiser, Prediction
from minidiff.diffusion.samplers import SAMPLERS, Sampler, State, final, finite, initial_noise, spaced
from minidiff.diffusion.samplers.timesteps import check_spacing
from minidiff.diffusion.schedules import Schedule

# A float32, with what is made of it: float64 on the way to the data's own units, the content of a file, a picture.
BYTES_A_NUMBER = 40
BYTES_IN_NETWORK = (
    2000  # of each number of a sample while the network is evaluated, where all are in one batch
)


MOST_IN_BATCH = 128 * 64 * 64 * 3  # numbers, of many samples: of larger images there are fewer in a batch


@dataclass(frozen=True)
class Recipe:
    """How to sample: by which of `samplers.SAMPLERS`, in how many steps, how spaced, and with which options.

    What is left out is as the sampler's record has it (T steps, if that is fewer). Raises ValueError for an unknown
    sampler or spacing, or an option that the sampler does not have.
    """

    sampler: str = "ddim"
    steps: int | None = None
    spacing: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise ValueError(f"expected a sampler of {', '.join(SAMPLERS)}; got {self.sampler!r}")
        if not isinstance(SAMPLERS[self.sampler], Sampler):
            raise TypeError(
                f"SAMPLERS[{self.sampler!r}] is not a Sampler; write SAMPLERS[{self.sampler!r}] = Sampler(function)"
            )
        if self.spacing is not None:
            check_spacing(self.spacing)
        for option in self.options:
            if option not in SAMPLERS[self.sampler].options:
                owners = (
                    ", ".join(name for name, s in SAMPLERS.items() if option in s.options) or "no sampler"
                )
                raise ValueError(f"{self.sampler} has no option {option}; it is an option of {owners}")

    def times(self, schedule: Schedule) -> tuple[int, ...]:
        """The times that it visits on a schedule. Raises ValueError for more steps than T."""
        record = SAMPLERS[self.sampler]
        steps = self.steps
        if steps is None:
            steps = min(record.steps or schedule.T, schedule.T)
        return spaced(schedule, self.spacing or record.spacing, steps)

    def check(self, schedule: Schedule) -> None:
        """Raises ValueError where this cannot be done on the schedule: too many steps, or an option out of range."""
        next(self.states(_CountingDenoiser(schedule), np.zeros((0, 1)), np.random.default_rng(0)))

    def nfe(self, schedule: Schedule) -> int:
        """The number of function evaluations, of the network, for each sample."""
        counting = _CountingDenoiser(schedule)
        final(self.states(counting, np.zeros((0, 1)), np.random.default_rng(0)))
        return counting.nfe

    def states(
        self, denoiser: Denoiser | _CountingDenoiser, x_T: np.ndarray, rng: np.random.Generator
    ) -> Iterator[State]:
        """Run the sampler from x_T (B, …)."""
        times = self.times(denoiser.schedule)
        return SAMPLERS[self.sampler].function(denoiser, x_T, rng, times, **self.options)


class _CountingDenoiser:
    """A denoiser that returns its input, and counts its evaluations."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule, self.nfe = schedule, 0

    def __call__(self, x: np.ndarray, t: float) -> Prediction:
        self.nfe += 1
        return Prediction(x, x, x)


def for_nfe(nfe: int, schedule: Schedule, sampler: str, **details: Any) -> Recipe:
    """The recipe of a sampler with the most steps, up to T, that take at most `nfe` evaluations of the network."""

    def nfe_of(steps: int) -> int:
        return Recipe(sampler, steps, **details).nfe(schedule)

    steps = bisect_right(range(1, min(nfe, schedule.T) + 1), nfe, key=nfe_of)
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

    The denoiser's label may be one for all, or (count,) of them. report(done, total) is called after every step.

    Raises MemoryError for more samples than can be held and written, before one is drawn, and NotFinite for samples
    with NaN or infinity in them.
    """
    memory.require(count, BYTES_A_NUMBER * math.prod(shape), "samples")
    samples, done = np.empty((count, *shape), np.float32), 0
    for batch in batches(denoiser, shape, count, rng, recipe, report):
        samples[done : done + len(batch)] = batch
        done += len(batch)
    return samples


def batches(
    denoiser: Denoiser,
    shape: tuple[int, ...],
    count: int,
    rng: np.random.Generator,
    recipe: Recipe,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[np.ndarray]:
    """Yields the samples of `generate` as they are drawn, for those who need not hold all of them.

    The size of the batches depends on the shape alone, and each is drawn with a child of `rng`.
    """
    label = getattr(denoiser, "label", None)
    size = max(1, min(128, MOST_IN_BATCH // math.prod(shape)), 4096 // math.prod(shape))
    total = -(-count // size) * (len(recipe.times(denoiser.schedule)) - 1)
    done = 0
    for start in range(0, count, size):
        stream = rng.spawn(1)[0]
        index, conditioned = slice(start, min(start + size, count)), denoiser
        if np.ndim(cast(Any, label)):
            conditioned = replace(denoiser, label=cast(np.ndarray, label)[index])
        x = initial_noise(stream, (index.stop - start, *shape))
        for state in recipe.states(conditioned, x, stream):
            x = state.x
            done += 1
            report(done, total)
        yield finite(x)


def trajectory(
    denoiser: Denoiser, shape: tuple[int, ...], count: int, rng: np.random.Generator, recipe: Recipe
) -> list[State]:
    """The states from noise (first, at t = T, where x̂₀ is set to zero) to `count` samples.

    The first of them, as many as one batch holds, are those that `generate` makes with the same `rng`. Raises as that.
    """
    times = recipe.times(denoiser.schedule)
    bytes_each = (BYTES_A_NUMBER * len(times) + BYTES_IN_NETWORK) * math.prod(shape)
    memory.require(count, bytes_each, f"trajectories over {len(times)} times")
    rng = rng.spawn(1)[0]
    x_T = initial_noise(rng, (count, *shape))
    states = [State(times[0], x_T, np.zeros_like(x_T)), *recipe.states(denoiser, x_T, rng)]
    finite(states[-1].x)
    return states
