"""Which times a sampler visits: a strictly falling tuple that begins at some t ≤ T and ends in 0.

"The previous t" is always the next entry of the tuple, never a formula. A spacing gives steps + 1 entries, whole
numbers, at which every network can be evaluated; with steps = T it is every time there is. `spaced` is the way to it
by name:

    trailing, leading, linspace, quadratic   spaced in time
    logsnr, karras                           spaced in noise level

Some schedules end far deeper in noise than the paper's, whose log SNR at T is −10.1; the cosine's is −20. x_T holds no
usable signal there, but x̂_0 = (x_T − √(1−ᾱ_T) ε̂)/√ᾱ_T multiplies the error of ε̂ by 20 000, from which a sampler with
long steps does not recover; and those levels are a third of the whole range of log SNR. So `spaced` begins at the last
time whose log SNR is at least −10.2, as the authors of DPM-Solver do, or at T where the schedule ends in pure noise
(ᾱ_T = 0).
"""

import operator
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import cast, overload

import numpy as np

from minidiff.diffusion.schedules import Schedule, falling_times

Times = tuple[int, ...]
MIN_LOG_SNR = -10.2


def trailing(T: int, steps: int) -> Times:
    """T·k/steps, rounded: evenly from T to 0, all steps equally long."""
    T, steps = _checked(T, steps)
    return tuple(_rounded(T * k, steps) for k in range(steps, -1, -1))


def leading(T: int, steps: int) -> Times:
    """1 + k·⌊T/steps⌋, then 0: the original DDIM's. It begins well below T, although x_T is pure noise."""
    T, steps = _checked(T, steps)
    return (*(1 + k * (T // steps) for k in range(steps - 1, -1, -1)), 0)


def linspace(T: int, steps: int) -> Times:
    """Evenly from T to 1, rounded, then 0; a single step goes from T."""
    T, steps = _checked(T, steps)
    if steps == 1:
        return (T, 0)
    return (*(1 + _rounded((T - 1) * k, steps - 1) for k in range(steps - 1, -1, -1)), 0)


def quadratic(T: int, steps: int) -> Times:
    """T·(k/steps)², rounded, and at least k: dense near 0, where details form, and strictly falling."""
    T, steps = _checked(T, steps)
    return tuple(max(k, _rounded(T * k * k, steps * steps)) for k in range(steps, -1, -1))


def log_snr(schedule: Schedule, steps: int) -> Times:
    """Evenly in log SNR from T (see above) to 1, then 0: equal steps for solvers of the ODE in λ = ½ log SNR.

    From Lu et al. 2022.
    """
    return _by_level(
        schedule, steps, lambda fraction, lowest, highest: lowest + fraction * (highest - lowest)
    )


def karras(schedule: Schedule, steps: int, rho: float = 7.0) -> Times:
    """Evenly in σ̃^(1/ρ) from T (see above) to 1, then 0, with σ̃ = √(1−ᾱ)/√ᾱ, noise over signal (Karras et al. 2022)."""

    def level(fraction: np.ndarray, lowest: float, highest: float) -> np.ndarray:
        low, high = (np.exp(-log_snr / (2 * rho)) for log_snr in (highest, lowest))  # σ̃^(1/ρ)
        result: np.ndarray = -2 * rho * np.log((1 - fraction) * high + fraction * low)
        return result

    return _by_level(schedule, steps, level)


@overload
def explicit(T: int, times: Sequence[float] | None = None) -> tuple[int, ...]: ...
@overload
def explicit(T: int, times: Sequence[float] | None = None, *, whole: bool) -> tuple[float, ...]: ...
def explicit(T: int, times: Sequence[float] | None = None, *, whole: bool = True) -> tuple[float, ...]:
    """The `timesteps` argument of a sampler, checked; None stands for every time T, T−1, …, 0.

    whole: False for a sampler that can step between the whole times too.

    Raises ValueError unless they are integers (or any numbers, if not `whole`) that fall strictly from at most T to 0.
    """
    times = tuple(range(T, -1, -1) if times is None else times)
    if whole or all(isinstance(t, int) for t in times):
        return falling_times(T, cast(Sequence[int], times))
    try:
        real = np.array(times, np.float64).tolist()
    except (TypeError, ValueError):
        raise ValueError(f"expected a list of times, got {times!r:.80}") from None
    if len(real) < 2 or not (real[0] <= T and real[-1] == 0 and all(t > s for t, s in pairwise(real))):
        raise ValueError(f"expected times that fall strictly from at most T = {T} to 0, got {times!r:.80}")
    if real[-2] < 1:
        raise ValueError(
            f"expected no time between 0 and 1, the first at which a network is trained; got {real[-2]:g}"
        )
    return tuple(int(t) if t.is_integer() else t for t in real)


IN_TIME: dict[str, Callable[[int, int], Times]] = {
    "trailing": trailing,
    "leading": leading,
    "linspace": linspace,
    "quadratic": quadratic,
}
IN_LEVEL: dict[str, Callable[[Schedule, int], Times]] = {"logsnr": log_snr, "karras": karras}
SPACINGS = (*IN_TIME, *IN_LEVEL)


def spaced(schedule: Schedule, spacing: str, steps: int) -> Times:
    """The times of `steps` steps on a schedule, by one of `SPACINGS`: steps + 1 integers that fall strictly to 0.

    They begin at the last time with a usable signal (see above), unless there are more steps than times below it.
    Raises ValueError for an unknown spacing, or for more steps than T.
    """
    check_spacing(spacing)
    if spacing in IN_LEVEL:
        return IN_LEVEL[spacing](schedule, steps)
    T, steps = _checked(schedule.T, steps)
    begin = _begin(schedule)
    return IN_TIME[spacing](begin if steps <= begin else T, steps)


def check_spacing(spacing: str) -> None:
    """Raises ValueError for a name that is not in `SPACINGS`."""
    if spacing not in SPACINGS:
        raise ValueError(f"expected a spacing of {', '.join(SPACINGS)}; got {spacing!r}")


def _by_level(
    schedule: Schedule, steps: int, level: Callable[[np.ndarray, float, float], np.ndarray]
) -> Times:
    """The integer times nearest to the log SNRs level(fraction, first, last), moved apart where they coincide."""
    _, steps = _checked(schedule.T, steps)
    begin = _begin(schedule)
    if steps == 1:
        return (begin, 0)
    lowest = float(schedule.log_snr[_last_with_signal(schedule)])
    log_snrs = level(np.linspace(0, 1, steps), lowest, float(schedule.log_snr[1]))
    nearest, index = np.rint(schedule.time_of(np.exp(log_snrs)))[::-1].astype(int), np.arange(steps)
    nearest[-1] = begin
    # Non-decreasing, so that adding `index` again makes it rise.
    apart = np.maximum.accumulate(nearest - index)
    rising = np.minimum(apart, max(begin, steps) - steps + 1) + index
    return (*rising[::-1].tolist(), 0)


def _last_with_signal(schedule: Schedule) -> int:
    """The last time with a usable signal, log SNR ≥ −10.2."""
    return max(1, int(np.flatnonzero(schedule.log_snr >= MIN_LOG_SNR)[-1]))


def _begin(schedule: Schedule) -> int:
    """Where sampling begins: T if ᾱ_T = 0, else the last time with a usable signal."""
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
