"""Which times a sampler visits: a strictly falling tuple that begins at some t ≤ T and ends in 0.

"The previous t" is always the next entry of the tuple, never a formula. A rule gives steps + 1 entries, whole
numbers, at which every network can be asked; with steps = T each of them is every time there is.

Rules of two kinds: those that space the times themselves take (T, steps), and those that space the levels of
noise take (schedule, steps). `spaced` knows both by name.
"""

import operator
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from minidiff.schedules import Schedule, falling_times

Times = tuple[int, ...]


def trailing(T: int, steps: int) -> Times:
    """T·k/steps, rounded: evenly from T, where the noise is, to 0; the last step is as long as any."""
    T, steps = _checked(T, steps)
    return tuple(_rounded(T * k, steps) for k in range(steps, -1, -1))


def leading(T: int, steps: int) -> Times:
    """1 + k·⌊T/steps⌋, then 0: the original DDIM's. Begins well below T, although x_T is pure noise."""
    T, steps = _checked(T, steps)
    return (*(1 + k * (T // steps) for k in range(steps - 1, -1, -1)), 0)


def linspace(T: int, steps: int) -> Times:
    """Evenly from T to 1, rounded, then 0; a single step goes from T."""
    T, steps = _checked(T, steps)
    if steps == 1:
        return (T, 0)
    return (*(1 + _rounded((T - 1) * k, steps - 1) for k in range(steps - 1, -1, -1)), 0)


def quadratic(T: int, steps: int) -> Times:
    """T·(k/steps)², rounded, and at least k: dense near 0, where the data takes shape, and always falling."""
    T, steps = _checked(T, steps)
    return tuple(max(k, _rounded(T * k * k, steps * steps)) for k in range(steps, -1, -1))


def log_snr(schedule: Schedule, steps: int) -> Times:
    """Evenly in log SNR from T to 1, then 0: equal steps for what solves the ODE in λ = ½ log SNR (Lu et al. 2022)."""
    return _by_level(schedule, steps, lambda part, least, most: least + part * (most - least))


def karras(schedule: Schedule, steps: int, rho: float = 7.0) -> Times:
    """Evenly in σ̃^(1/ρ) from T to 1, then 0, with σ̃ = √(1−ᾱ)/√ᾱ: noise over signal (Karras et al. 2022)."""

    def level(part: np.ndarray, least: float, most: float) -> np.ndarray:
        low, high = (np.exp(-log_snr / (2 * rho)) for log_snr in (most, least))  # σ̃^(1/ρ)
        return -2 * rho * np.log((1 - part) * high + part * low)

    return _by_level(schedule, steps, level)


def explicit(T: int, times: Sequence[float] | None = None, whole: bool = True) -> tuple[float, ...]:
    """A list of one's own, checked; None stands for every time T, T−1, …, 0.

    whole: False where a sampler can step between the whole times too.

    Raises ValueError unless the times are integers (or just numbers) that fall strictly from at most T to 0.
    """
    times = tuple(range(T, -1, -1) if times is None else times)
    if whole or all(isinstance(t, int) for t in times):
        return falling_times(T, times)
    try:
        real = np.array(times, np.float64).tolist()
    except (TypeError, ValueError):
        raise ValueError(f"expected a list of times, got {times!r:.80}") from None
    if len(real) < 2 or not (real[0] <= T and real[-1] == 0 and all(t > s for t, s in pairwise(real))):
        raise ValueError(f"expected times that fall strictly from at most T = {T} to 0, got {times!r:.80}")
    if real[-2] < 1:
        raise ValueError(
            f"expected no time between 1, the first that a network knows, and 0; got {real[-2]:g}"
        )
    return tuple(int(t) if t.is_integer() else t for t in real)


SPACINGS: dict[str, Callable[[int, int], Times]] = {
    "trailing": trailing,
    "leading": leading,
    "linspace": linspace,
    "quadratic": quadratic,
}
LEVEL_SPACINGS: dict[str, Callable[[Schedule, int], Times]] = {"logsnr": log_snr, "karras": karras}
SPACING_NAMES = (*SPACINGS, *LEVEL_SPACINGS)


def spaced(schedule: Schedule, spacing: str, steps: int) -> Times:
    """The times of the rule of that name. Raises ValueError for another name, or for more steps than T."""
    if spacing in SPACINGS:
        return SPACINGS[spacing](schedule.T, steps)
    if spacing in LEVEL_SPACINGS:
        return LEVEL_SPACINGS[spacing](schedule, steps)
    raise ValueError(f"expected a spacing of {', '.join(SPACING_NAMES)}; got {spacing!r}")


def _by_level(
    schedule: Schedule, steps: int, level: Callable[[np.ndarray, float, float], np.ndarray]
) -> Times:
    """The whole times nearest to log SNRs level(part, that of T, that of 1), part 0…1, moved apart where they meet.

    Where T is pure noise, which has no log SNR, it takes the place of the last time that has one.
    """
    T, steps = _checked(schedule.T, steps)
    if steps == 1:
        return (T, 0)
    last = T if schedule.snr[T] > 0 else T - 1
    log_snrs = level(np.linspace(0, 1, steps), schedule.log_snr[last], schedule.log_snr[1])
    nearest, place = np.rint(schedule.time_of(np.exp(log_snrs)))[::-1].astype(int), np.arange(steps)
    nearest[-1] = T
    apart = np.maximum.accumulate(nearest - place)  # not falling: once `place` is added again, rising
    rising = np.minimum(apart, T - steps + 1) + place
    return (*rising[::-1].tolist(), 0)


def _checked(T: int, steps: int) -> tuple[int, int]:
    try:
        T, steps = operator.index(T), operator.index(steps)
    except TypeError:
        raise ValueError(f"expected T and the number of steps as integers, got {T!r} and {steps!r}") from None
    if not 1 <= steps <= T:
        raise ValueError(f"expected between 1 and T = {T} sampling steps, got {steps}")
    return T, steps


def _rounded(numerator: int, denominator: int) -> int:
    """The nearest whole number, halves up."""
    return (2 * numerator + denominator) // (2 * denominator)
