"""The forward process q: one step, many steps at once, and the posterior of a step given x_0.

    F1   x_t = √α_t x_{t−1} + √β_t z
    F4   x_t = √ᾱ_t x_0 + √(1−ᾱ_t) ε
    R2   β̃_t = (1−ᾱ_{t−1})/(1−ᾱ_t) β_t
    R3   μ̃_t = √α_t(1−ᾱ_{t−1})/(1−ᾱ_t) x_t + √ᾱ_{t−1}β_t/(1−ᾱ_t) x_0

F4 relates x_t, x_0 and ε, so x_t and one of x_0, ε, v and the score determine the others; the conversions are the
second half of this file.

Throughout, x is a float array (B, …) and t an int or a (B,) array of ints, a time for each sample; where
only ᾱ_t matters (F4 and the conversions) t may be real, with ᾱ_t interpolated as in `Schedule.at`.
Coefficients are computed in float64 and cast to the dtype of x, which is the dtype of the result. A t that is
not a number, out of range or not one for each sample raises ValueError; so does a second array whose shape is not
that of the first.
"""

from typing import NamedTuple, Protocol

import numpy as np

from minidiff.diffusion.schedules import Schedule

Time = int | float | np.ndarray


class AnyArray(Protocol):
    """The attributes that `shaped` reads: those of an array, or of a Tensor of the autograd engine."""

    @property
    def ndim(self) -> int: ...
    @property
    def dtype(self) -> np.dtype: ...


class AffineStep(NamedTuple):
    """One reverse step t → s, affine in x_t and the denoiser's outputs: x_s = x·x_t + x0·x̂_0 + eps·ε̂ + sigma·z."""

    t: float
    s: float
    x: float
    x0: float
    eps: float
    sigma: float


def step(schedule: Schedule, x_prev: np.ndarray, t: Time, noise: np.ndarray) -> np.ndarray:
    """x_t = √α_t x_{t−1} + √β_t z, t in 1…T (F1)."""
    index = time_index(schedule, t, x_prev, first=1)
    alpha, beta = schedule.alpha[index], schedule.beta[index]
    signal, sigma = shaped(np.sqrt(alpha), x_prev), shaped(np.sqrt(beta), x_prev)
    x_t: np.ndarray = signal * x_prev + sigma * _like(x_prev, noise)
    return x_t


def diffuse(schedule: Schedule, x0: np.ndarray, t: Time, noise: np.ndarray) -> np.ndarray:
    """x_t = √ᾱ_t x_0 + √(1−ᾱ_t) ε, t in 0…T: all t steps at once, for a whole batch (F4, F8)."""
    signal, sigma = _signal_and_sigma(schedule, t, x0, first=0)
    x_t: np.ndarray = signal * x0 + sigma * _like(x0, noise)
    return x_t


def marginal(schedule: Schedule, x0: np.ndarray, t: Time) -> tuple[np.ndarray, np.ndarray]:
    """Mean √ᾱ_t x_0 and variance 1−ᾱ_t of q(x_t | x_0), t in 0…T (F4)."""
    alpha_bar, noise = level(schedule, t, x0, first=0)
    return shaped(np.sqrt(alpha_bar), x0) * x0, shaped(noise, x0)


def posterior(schedule: Schedule, x0: np.ndarray, x_t: np.ndarray, t: Time) -> tuple[np.ndarray, np.ndarray]:
    """Mean μ̃_t and variance β̃_t of q(x_{t−1} | x_t, x_0), t in 1…T (R1–R3).

    At t = 1 they are x_0 and 0. The variance broadcasts against the mean.
    """
    index = time_index(schedule, t, x_t, first=1)
    noise, noise_before = schedule.one_minus_alpha_bar[index], schedule.one_minus_alpha_bar[index - 1]
    from_x_t = np.sqrt(schedule.alpha[index]) * noise_before / noise
    from_x0 = np.sqrt(schedule.alpha_bar[index - 1]) * schedule.beta[index] / noise
    mean = shaped(from_x_t, x_t) * x_t + shaped(from_x0, x_t) * _like(x_t, x0)
    return mean, shaped(schedule.posterior_variance[index], x_t)


def x0_from_eps(schedule: Schedule, x_t: np.ndarray, eps: np.ndarray, t: Time) -> np.ndarray:
    """x_0 = (x_t − √(1−ᾱ_t) ε)/√ᾱ_t (R5), t in 0…T.

    Raises ValueError where ᾱ_t = 0: there x_t is pure noise and carries no information about x_0.
    """
    signal, sigma = _signal_and_sigma(schedule, t, x_t, first=0)
    if np.any(signal == 0):
        raise ValueError(
            f"x0 does not follow from ε at t = {t}, where ᾱ_t = 0: predict v or x0 there, or start earlier"
        )
    x0: np.ndarray = (x_t - sigma * _like(x_t, eps)) / signal
    return x0


def eps_from_x0(schedule: Schedule, x_t: np.ndarray, x0: np.ndarray, t: Time) -> np.ndarray:
    """ε = (x_t − √ᾱ_t x_0)/√(1−ᾱ_t), t in 1…T: the inverse of R5."""
    signal, sigma = _signal_and_sigma(schedule, t, x_t, first=1)
    eps: np.ndarray = (x_t - signal * _like(x_t, x0)) / sigma
    return eps


def v_from(schedule: Schedule, x0: np.ndarray, eps: np.ndarray, t: Time) -> np.ndarray:
    """v = √ᾱ_t ε − √(1−ᾱ_t) x_0, t in 0…T: x_t rotated by 90° in (x_0, ε), and informative at every noise level."""
    signal, sigma = _signal_and_sigma(schedule, t, x0, first=0)
    v: np.ndarray = signal * _like(x0, eps) - sigma * x0
    return v


def x0_from_v(schedule: Schedule, x_t: np.ndarray, v: np.ndarray, t: Time) -> np.ndarray:
    """x_0 = √ᾱ_t x_t − √(1−ᾱ_t) v, t in 0…T."""
    signal, sigma = _signal_and_sigma(schedule, t, x_t, first=0)
    x0: np.ndarray = signal * x_t - sigma * _like(x_t, v)
    return x0


def eps_from_v(schedule: Schedule, x_t: np.ndarray, v: np.ndarray, t: Time) -> np.ndarray:
    """ε = √(1−ᾱ_t) x_t + √ᾱ_t v, t in 0…T."""
    signal, sigma = _signal_and_sigma(schedule, t, x_t, first=0)
    eps: np.ndarray = sigma * x_t + signal * _like(x_t, v)
    return eps


def score_from_eps(schedule: Schedule, eps: np.ndarray, t: Time) -> np.ndarray:
    """∇ log q_t(x_t) = −ε/√(1−ᾱ_t), t in 1…T (O1)."""
    _, sigma = _signal_and_sigma(schedule, t, eps, first=1)
    score: np.ndarray = -eps / sigma
    return score


def eps_from_score(schedule: Schedule, score: np.ndarray, t: Time) -> np.ndarray:
    """ε = −√(1−ᾱ_t) ∇ log q_t(x_t), t in 1…T (O1)."""
    _, sigma = _signal_and_sigma(schedule, t, score, first=1)
    eps: np.ndarray = -sigma * score
    return eps


def level(schedule: Schedule, t: Time, x: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
    """ᾱ_t and 1−ᾱ_t in float64, one number or (B,), at whole or real t. Raises as `time_index`."""
    t = time_index(schedule, t, x, first, whole=False)
    if t.dtype.kind == "f":
        at = schedule.at(t)
        return at.alpha_bar, at.one_minus_alpha_bar
    return schedule.alpha_bar[t], schedule.one_minus_alpha_bar[t]


def time_index(schedule: Schedule, t: Time, x: np.ndarray, first: int, whole: bool = True) -> np.ndarray:
    """t as an index into the arrays of `schedule`: an integer in first…T, or one for each sample of x.

    With whole=False a real t is accepted too: a time between two entries rather than an index.

    Raises:
        TypeError: x is not a float array (its dtype would truncate the coefficients to integers).
        ValueError: t is not a number, not one for each sample, or out of range.
    """
    if not (isinstance(x, np.ndarray) and x.dtype.kind == "f" and x.ndim >= 1):
        raise TypeError(
            f"expected a float array (B, …), got {getattr(x, 'dtype', type(x).__name__)}: convert it first"
        )
    index = np.asarray(t)
    if index.dtype.kind not in ("iu" if whole else "iuf"):
        kind = "an integer or an array of integers" if whole else "a number or an array of numbers"
        raise ValueError(f"expected t as {kind}, got {t!r:.80}")
    if index.shape not in ((), (len(x),)):
        raise ValueError(f"expected one t, or one for each of the {len(x)} samples, got shape {index.shape}")
    if index.size and not (first <= index.min() and index.max() <= schedule.T):
        raise ValueError(f"expected t in {first}…{schedule.T}, got {index.min()}…{index.max()}")
    return index


def shaped(coefficient: np.ndarray | float, x: AnyArray) -> np.ndarray:
    """A coefficient, one number or (B,), in the dtype of x and broadcastable against it: (B, 1, …, 1)."""
    coefficient = np.asarray(coefficient)
    return coefficient.reshape(coefficient.shape + (1,) * (x.ndim - 1) * coefficient.ndim).astype(x.dtype)


def _signal_and_sigma(
    schedule: Schedule, t: Time, x: np.ndarray, first: int
) -> tuple[np.ndarray, np.ndarray]:
    """√ᾱ_t and √(1−ᾱ_t), shaped for x."""
    alpha_bar, noise = level(schedule, t, x, first)
    return shaped(np.sqrt(alpha_bar), x), shaped(np.sqrt(noise), x)


def _like(x: np.ndarray, other: np.ndarray) -> np.ndarray:
    """`other` in the dtype of x.

    Shapes must be equal: (B,) against (B, 1) would silently broadcast to (B, B).
    """
    other = np.asarray(other, dtype=x.dtype)
    if other.shape != x.shape:
        raise ValueError(f"expected two arrays of one shape, got {x.shape} and {other.shape}")
    return other
