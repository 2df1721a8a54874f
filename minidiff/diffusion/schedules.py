"""Noise schedules: β_t, and all that follows from it; how fast an image turns into noise.

One step of the forward process scales the signal by √α_t and adds noise of variance β_t = 1 − α_t (EQUATIONS.md F1).
Over t steps this gives (F4)

    ᾱ_t = α_1 α_2 … α_t,        x_t = √ᾱ_t x_0 + √(1−ᾱ_t) ε.

Time runs 1…T and 0 is clean data, so every array has T+1 entries, `alpha_bar[0] == 1`, and no formula needs
a ±1. Everything is float64 and computed from log ᾱ: near t = 0, `1 − alpha_bar` would keep only a few correct digits,
while `−expm1(log_alpha_bar)` keeps them all.

A common error (F6): the paper's range of β, 1e-4…0.02, belongs to T = 1000. With T = 50 the same range ends at
ᾱ_T ≈ 0.6, and a sampler that starts from pure noise starts from inputs that the network has never seen. `linear(50)`
does not correct this; its `repr` shows the resulting ᾱ_T. `cosine` suits any T.
"""

import math
import operator
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from minidiff import memory

BYTES_A_TIME = 160  # of all arrays of a schedule, and of what is computed on the way to them


class Level(NamedTuple):
    """One noise level, or an array of them: the quantities that follow from log ᾱ."""

    log_alpha_bar: np.ndarray
    alpha_bar: np.ndarray
    one_minus_alpha_bar: np.ndarray
    snr: np.ndarray  # ᾱ / (1−ᾱ): infinite for clean data, 0 for pure noise
    log_snr: np.ndarray


def _level(log_alpha_bar: np.ndarray) -> Level:
    one_minus_alpha_bar = -np.expm1(log_alpha_bar)
    with np.errstate(divide="ignore", over="ignore"):  # the SNR of clean data is ∞ by definition
        log_snr = log_alpha_bar - np.log(one_minus_alpha_bar)
        snr = np.exp(log_snr)
    return Level(log_alpha_bar, np.exp(log_alpha_bar), one_minus_alpha_bar, snr, log_snr)


@dataclass(frozen=True, eq=False, repr=False)
class Schedule:
    """β_1…β_T and the quantities derived from them, as read-only float64 arrays of T+1 entries (index 0: clean data).

    Built by the functions of this module rather than directly. `beta` holds 0 and then β_1…β_T, each in (0, 1); only
    the last may be 1 (zero terminal SNR). `times` are the times at which a network is evaluated: 0…T, or those of the
    original schedule for a `respaced` one.

    Raises:
        ValueError: a β outside (0, 1) or NaN, or no step at all.
    """

    beta: np.ndarray
    times: np.ndarray
    T: int = field(init=False)
    alpha: np.ndarray = field(init=False)  # 1 − β
    log_alpha_bar: np.ndarray = field(init=False)  # Σ log(1 − β), F4
    alpha_bar: np.ndarray = field(init=False)
    one_minus_alpha_bar: np.ndarray = field(init=False)
    posterior_variance: np.ndarray = field(init=False)  # β̃, R2
    snr: np.ndarray = field(init=False)
    log_snr: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        beta = np.array(self.beta, dtype=np.float64)
        _check_betas(beta[1:])
        with np.errstate(divide="ignore"):  # β_T = 1 gives log ᾱ_T = −∞
            level = _level(np.cumsum(np.log1p(-beta)))
        noise = level.one_minus_alpha_bar
        posterior_variance = np.zeros_like(beta)
        posterior_variance[1:] = noise[:-1] / noise[1:] * beta[1:]
        arrays = {
            "beta": beta,
            "times": np.array(self.times, dtype=np.int64),
            "alpha": 1.0 - beta,
            "posterior_variance": posterior_variance,
            **level._asdict(),
        }
        for name, array in arrays.items():
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        object.__setattr__(self, "T", len(beta) - 1)

    def __repr__(self) -> str:
        beta = self.beta[1:]
        return f"Schedule(T={self.T}, β {beta[0]:.4g}…{beta[-1]:.4g}, ᾱ_T {self.alpha_bar[-1]:.4g})"

    def kernel(self, s: float, t: float) -> tuple[float, float]:
        """α = ᾱ_t/ᾱ_s and β = 1−α of q(x_t | x_s) = N(√α x_s, β I), 0 ≤ s < t ≤ T (F3), whole or real as in `at`.

        The sum runs over these steps alone, since the difference of two large log ᾱ would lose a small β.
        """
        whole = np.arange(math.floor(s) + 1, math.ceil(t) + 1)
        fraction = np.minimum(whole, t) - np.maximum(whole - 1, s)  # of each step: 1, or less at either end
        with np.errstate(divide="ignore"):
            log_alpha = (fraction * np.log1p(-self.beta[whole])).sum()
        return float(np.exp(log_alpha)), float(-np.expm1(log_alpha))

    def at(self, t: float | Sequence[float] | np.ndarray) -> Level:
        """The noise level at real t in [0, T], with log ᾱ linear between integers.

        Where β_T = 1, log ᾱ_T is −∞, so all of (T−1, T] is pure noise. Raises ValueError outside [0, T].
        """
        t = np.asarray(t)
        if not np.all((t >= 0) & (t <= self.T)):
            raise ValueError(f"expected times in [0, {self.T}], got {_brief(t)}")
        return _level(np.interp(t, np.arange(self.T + 1), self.log_alpha_bar))

    def time_of(self, snr: float | np.ndarray) -> np.ndarray:
        """The real time t in [0, T] whose signal-to-noise ratio ᾱ/(1−ᾱ) is `snr`: the inverse of `at(t).snr`.

        Raises ValueError for a ratio below that of the last time with any signal left (except 0 itself, where the
        schedule ends in pure noise).
        """
        snr = np.asarray(snr, dtype=np.float64)
        lowest = self.snr[self.snr > 0].min()
        has_time = (snr >= lowest * (1 - 1e-12)) | ((snr == 0) & (self.snr[-1] == 0))
        if not np.all(has_time):
            raise ValueError(
                f"no time of this schedule has that SNR: expected {lowest:.4g} or more, got {_brief(snr)}"
            )
        with np.errstate(divide="ignore"):
            minus_log_alpha_bar = np.log1p(1.0 / snr)
        t: np.ndarray = np.interp(minus_log_alpha_bar, -self.log_alpha_bar, np.arange(self.T + 1.0))
        return t


def linear(T: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> Schedule:
    """The paper's schedule: T values of β, evenly spaced from `beta_start` to `beta_end` (F2).

    The default range belongs to T = 1000: for a small T see the note at the top of this module.
    """
    return from_betas(np.linspace(beta_start, beta_end, _count(T)))


def quadratic(T: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> Schedule:
    """√β evenly spaced from √beta_start to √beta_end; elsewhere called scaled-linear."""
    _check_betas(np.array([beta_start, beta_end]))
    return from_betas(np.linspace(beta_start**0.5, beta_end**0.5, _count(T)) ** 2)


def sigmoid(T: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> Schedule:
    """β follows a logistic curve over [−6, 6], which ends 0.25 % of the range short of either limit."""
    curve = 1.0 / (1.0 + np.exp(-np.linspace(-6.0, 6.0, _count(T))))
    return from_betas(beta_start + (beta_end - beta_start) * curve)


def constant(T: int = 1000, beta: float = 0.01) -> Schedule:
    """The same β at every step, ᾱ_t = (1−β)^t."""
    return from_betas(np.full(_count(T), beta))


def cosine(T: int = 1000, s: float = 0.008, beta_max: float = 0.999) -> Schedule:
    """ᾱ_t = f(t)/f(0), f(t) = cos²(π/2 · (t/T + s)/(1 + s)), with each β at most `beta_max`.

    From Nichol & Dhariwal 2021. Suits any T: ᾱ_T is near 0.
    """
    if not (s >= 0 and 0 < beta_max < 1):
        raise ValueError(f"expected s ≥ 0 and beta_max in (0, 1), got s = {s}, beta_max = {beta_max}")
    steps = _count(T)
    f = np.cos(np.pi / 2 * (np.arange(steps + 1) / steps + s) / (1 + s)) ** 2
    return from_betas(np.minimum(1 - f[1:] / f[:-1], beta_max))


def from_betas(betas: Sequence[float] | np.ndarray) -> Schedule:
    """The schedule with the given β_1…β_T, each in (0, 1), the last at most 1.

    Raises ValueError otherwise.
    """
    beta = np.concatenate([[0.0], _vector("betas", betas)])
    return Schedule(beta, np.arange(len(beta)))


def from_alpha_bar(alpha_bar: Sequence[float] | np.ndarray) -> Schedule:
    """The schedule with the given ᾱ_1…ᾱ_T, strictly decreasing and in (0, 1); the last may be 0."""
    after = _vector("alpha_bar", alpha_bar)
    before = np.concatenate([[1.0], after[:-1]])
    if not (np.all(after < before) and np.all(after >= 0)):
        raise ValueError(
            f"expected alpha_bar to fall strictly from below 1, at most the last 0, got {_brief(after)}"
        )
    return from_betas((before - after) / before)


def zero_terminal_snr(schedule: Schedule) -> Schedule:
    """`schedule`, T ≥ 2, with √ᾱ shifted and rescaled so that ᾱ_T = 0 while ᾱ_1 is unchanged (Lin et al. 2024).

    √ᾱ_t becomes proportional to √ᾱ_t − √ᾱ_T. A step reduces that by the fraction d_t = (√ᾱ_{t−1} − √ᾱ_t)/(√ᾱ_{t−1} −
    √ᾱ_T), a ratio of two expm1, which loses no digits, and β_t = 1 − (1−d_t)². At t = T the network must predict v or
    x0.
    """
    if schedule.T < 2:
        raise ValueError(
            "zero_terminal_snr keeps ᾱ_1 and sends ᾱ_T to 0: expected a schedule with T ≥ 2, got T = 1"
        )
    with np.errstate(divide="ignore"):
        log_alpha = np.log1p(-schedule.beta[1:])
    log_to_the_end = np.cumsum(log_alpha[::-1])[::-1]  # log ᾱ_T/ᾱ_{t−1}
    d = np.expm1(log_alpha / 2) / np.expm1(log_to_the_end / 2)
    beta = np.concatenate([schedule.beta[:2], d[1:] * (2 - d[1:])])
    return Schedule(beta, schedule.times)


def respaced(schedule: Schedule, timesteps: Sequence[int]) -> Schedule:
    """The schedule that visits only `timesteps` of `schedule`: strictly decreasing to 0, as samplers take them.

    Its step k leads from one chosen time to the next, β'_k = 1 − ᾱ_t/ᾱ_s, so that ᾱ is unchanged at the chosen times;
    `times` keeps the original times, so that the network is still evaluated at those.
    """
    rising = falling_times(schedule.T, timesteps)[::-1]
    betas = np.array([0.0, *(schedule.kernel(s, t)[1] for s, t in pairwise(rising))])
    # The β of a long step may round to 1 although some signal is left: then it is the largest number below 1.
    some_left = schedule.log_alpha_bar[list(rising)] > -np.inf
    betas[some_left] = np.minimum(betas[some_left], np.nextafter(1.0, 0.0))
    return Schedule(betas, schedule.times[list(rising)])


def falling_times(T: int, times: Sequence[int]) -> tuple[int, ...]:
    """`times` as a tuple. Raises ValueError unless they are integers that decrease strictly from at most T to 0."""
    try:
        checked = tuple(operator.index(t) for t in times)
    except TypeError:
        raise ValueError(f"expected a list of integer times, got {times!r:.80}") from None
    if len(checked) < 2 or checked[-1] != 0:
        raise ValueError(f"expected at least one time and then 0 at the end, got {_brief(checked)}")
    if checked[0] > T or any(t <= s for t, s in pairwise(checked)):
        raise ValueError(
            f"expected times that fall strictly from at most T = {T} to 0, got {_brief(checked)}"
        )
    return checked


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "linear": linear,
    "cosine": cosine,
    "quadratic": quadratic,
    "sigmoid": sigmoid,
    "constant": constant,
}


def _count(T: int) -> int:
    try:
        steps = operator.index(T)
    except TypeError:
        raise ValueError(f"expected the number of steps T as an integer, got {T!r}") from None
    if steps < 1:
        raise ValueError(f"expected a number of steps T of at least 1, got {steps}")
    memory.require(steps, BYTES_A_TIME, "times of a schedule")
    return steps


def _vector(name: str, values: Sequence[float] | np.ndarray) -> np.ndarray:
    try:
        vector = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"expected {name} as a list of numbers, got {values!r:.80}") from None
    if vector.ndim != 1 or vector.size == 0:
        raise ValueError(f"expected {name} as a list of T ≥ 1 numbers, got shape {vector.shape}")
    return vector


def _check_betas(betas: np.ndarray) -> None:
    inside = (betas > 0) & (betas < 1)
    inside[-1:] |= betas[-1:] == 1
    if not inside.all():
        t = int(np.argmin(inside)) + 1
        raise ValueError(f"every β must lie in (0, 1), only the last may be 1: got β_{t} = {betas[t - 1]:g}")


def _brief(values: Sequence[float] | np.ndarray) -> str:
    """Values for an error message, on one line however many there are."""
    return np.array2string(
        np.asarray(values), threshold=6, edgeitems=2, max_line_width=sys.maxsize, separator=", "
    )
