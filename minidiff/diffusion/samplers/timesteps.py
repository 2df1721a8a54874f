"""Which times a sampler visits: a strictly falling tuple that begins at some t ≤ T and ends in 0.

"The previous t" is always the next entry of the tuple, never a formula. A rule gives steps + 1 entries, whole
numbers, at which every network can be asked; with steps = T each of them is every time there is.

Rules of two kinds: those that space the times themselves take (T, steps), and those that space the levels of
noise take (schedule, steps). `spaced` knows both by name.

Some schedules end far deeper in noise than the paper's, whose log SNR at T is −10.1; the cosine's is −20. There is
nothing to be seen at those levels, but x̂_0 = (x_T − √(1−ᾱ_T) ε̂)/√ᾱ_T multiplies the error of ε̂ by 20 000, from
which a sampler of long steps does not recover; and they are a third of the way in log SNR. So the rules of levels, and
all rules where `spaced` applies them, begin at the last time whose log SNR is at least −10.2, as the authors of
DPM-Solver do, or at pure noise itself where the schedule ends in that (ᾱ_T = 0).
"""

import operator
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from minidiff.diffusion.schedules import Schedule, falling_times

Times = tuple[int, ...]
LEAST_LOG_SNR = -10.2


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
    """Evenly in log SNR from T (see above) to 1, then 0: equal steps for what solves the ODE in λ = ½ log SNR.

    From Lu et al. 2022.
    """
    return _by_level(schedule, steps, lambda part, least, most: least + part * (most - least))


def karras(schedule: Schedule, steps: int, rho: float = 7.0) -> Times:
    """Evenly in σ̃^(1/ρ) from T (see above) to 1, then 0, with σ̃ = √(1−ᾱ)/√ᾱ, noise over signal (Karras et al. 2022)."""

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
    """The times of the rule of that name, from where there is signal, unless they are more than lie below that.

    Raises ValueError for another name, or for more steps than T.
    """
    if spacing in SPACINGS:
        T, steps = _checked(schedule.T, steps)
        begin = _begin(schedule)
        return SPACINGS[spacing](begin if steps <= begin else T, steps)
    if spacing in LEVEL_SPACINGS:
        return LEVEL_SPACINGS[spacing](schedule, steps)
    raise ValueError(f"expected a spacing of {', '.join(SPACING_NAMES)}; got {spacing!r}")


def _by_level(
    schedule: Schedule, steps: int, level: Callable[[np.ndarray, float, float], np.ndarray]
) -> Times:
    """The whole times nearest to log SNRs level(part, the first, that of 1), part 0…1, moved apart where they meet."""
    _, steps = _checked(schedule.T, steps)
    begin = _begin(schedule)
    if steps == 1:
        return (begin, 0)
    least = schedule.log_snr[_last_with_signal(schedule)]
    log_snrs = level(np.linspace(0, 1, steps), least, schedule.log_snr[1])
    nearest, place = np.rint(schedule.time_of(np.exp(log_snrs)))[::-1].astype(int), np.arange(steps)
    nearest[-1] = begin
    apart = np.maximum.accumulate(nearest - place)  # not falling: once `place` is added again, rising
    rising = np.minimum(apart, max(begin, steps) - steps + 1) + place
    return (*rising[::-1].tolist(), 0)


def _last_with_signal(schedule: Schedule) -> int:
    """The last time at which there is any signal to speak of."""
    return max(1, int(np.flatnonzero(schedule.log_snr >= LEAST_LOG_SNR)[-1]))


def _begin(schedule: Schedule) -> int:
    """The time at which x is as good as pure noise, with which sampling begins."""
    return schedule.T if schedule.snr[-1] == 0 else _last_with_signal(schedule)


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
