"""DDPM, Algorithm 2 of the paper (S2): walk the chain back, drawing each x_s from q(x_s | x_t, x̂_0).

With α = ᾱ_t/ᾱ_s and β = 1 − α of the kernel from s to t (for s = t−1 just α_t and β_t), R2 and R3 say

    x_s = √α(1−ᾱ_s)/(1−ᾱ_t) x_t + √ᾱ_s β/(1−ᾱ_t) x̂_0 + σ z

with σ² = β̃ = (1−ᾱ_s)/(1−ᾱ_t) β ("small", right if the data is a single point) or σ² = β ("large", right if
the data is N(0, I)). σ is the standard deviation. The last step, to clean data, adds no noise.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import sqrt

import numpy as np

from minidiff.denoiser import Denoiser
from minidiff.noising import Step
from minidiff.samplers.randomness import NoiseSource
from minidiff.samplers.state import State
from minidiff.samplers.timesteps import explicit
from minidiff.schedules import Schedule


def steps(schedule: Schedule, timesteps: Sequence[int] | None = None, variance: str = "small") -> list[Step]:
    """The coefficients of each step of `ddpm`, in float64.

    Raises ValueError for bad times or another variance.
    """
    if variance not in ("small", "large"):
        raise ValueError(f'expected variance to be "small" (β̃) or "large" (β), got {variance!r}')
    return [_step(schedule, t, s, variance) for t, s in pairwise(explicit(schedule.T, timesteps))]


def _step(schedule: Schedule, t: int, s: int, variance: str) -> Step:
    alpha, beta = schedule.kernel(s, t)
    noise_s, noise_t = float(schedule.one_minus_alpha_bar[s]), float(schedule.one_minus_alpha_bar[t])
    from_x_t = sqrt(alpha) * noise_s / noise_t
    from_x0 = sqrt(schedule.alpha_bar[s]) * beta / noise_t
    sigma2 = beta if variance == "large" else noise_s / noise_t * beta
    return Step(t, s, x=from_x_t, x0=from_x0, eps=0.0, sigma=sqrt(sigma2) if s > 0 else 0.0)


def ddpm(
    denoiser: Denoiser,
    x_T: np.ndarray,
    rng: np.random.Generator,
    timesteps: Sequence[int] | None = None,
    variance: str = "small",
) -> Iterator[State]:
    """DDPM from x_T (B, …), float32 or float64, over `timesteps` that fall strictly to 0 (None: all).

    Yields a State after each step, whose arrays are the receiver's own. Takes one child of `rng`.
    Raises ValueError (at the first step) for bad times or another variance.
    """
    plan = steps(denoiser.schedule, timesteps, variance)
    noise = NoiseSource(rng, x_T.shape, x_T.dtype)
    x = x_T
    for step in plan:
        x0 = denoiser(x, step.t).x0
        x = step.x * x + step.x0 * x0
        if step.sigma > 0:
            x += step.sigma * noise()
        yield State(step.s, x.copy(), x0)
