"""DDPM (Ho et al. 2020, Algorithm 2; S2): ancestral sampling, each x_s drawn from q(x_s | x_t, x̂_0).

With α = ᾱ_t/ᾱ_s and β = 1 − α of the kernel from s to t (for s = t−1 just α_t and β_t), R2 and R3 say

    x_s = √α(1−ᾱ_s)/(1−ᾱ_t) x_t + √ᾱ_s β/(1−ᾱ_t) x̂_0 + σ z

with σ² = β̃ = (1−ᾱ_s)/(1−ᾱ_t) β ("small", exact if the data is a single point), σ² = β ("large", exact if the data
is N(0, I)), or a variance predicted by the network ("learned", Nichol & Dhariwal 2021: log σ² = v log β +
(1−v) log β̃). σ is the standard deviation. The last step, to clean data, adds no noise.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import log, sqrt
from typing import Literal, get_args

import numpy as np

from minidiff.diffusion.denoiser import Denoiser
from minidiff.diffusion.noising import AffineStep
from minidiff.diffusion.samplers.randomness import NoiseSource
from minidiff.diffusion.samplers.registry import Sampler
from minidiff.diffusion.samplers.state import State
from minidiff.diffusion.samplers.timesteps import explicit
from minidiff.diffusion.schedules import Schedule

Variance = Literal["small", "large", "learned"]


def steps(
    schedule: Schedule, timesteps: Sequence[int] | None = None, variance: Variance = "small"
) -> list[AffineStep]:
    """The coefficients of each step of `ddpm`, in float64; for "learned" with the σ of "small", its lower bound.

    Raises ValueError for invalid times or an unknown variance.
    """
    if variance not in get_args(Variance):
        raise ValueError(
            f'expected variance to be "small" (β̃), "large" (β) or "learned" (between), got {variance!r}'
        )
    return [_step(schedule, t, s, variance) for t, s in pairwise(explicit(schedule.T, timesteps))]


def _step(schedule: Schedule, t: int, s: int, variance: Variance) -> AffineStep:
    alpha, beta = schedule.kernel(s, t)
    noise_s, noise_t = float(schedule.one_minus_alpha_bar[s]), float(schedule.one_minus_alpha_bar[t])
    from_x_t = sqrt(alpha) * noise_s / noise_t
    from_x0 = sqrt(schedule.alpha_bar[s]) * beta / noise_t
    sigma2 = beta if variance == "large" else noise_s / noise_t * beta
    return AffineStep(t, s, x=from_x_t, x0=from_x0, eps=0.0, sigma=sqrt(sigma2) if s > 0 else 0.0)


def ddpm(
    denoiser: Denoiser,
    x_T: np.ndarray,
    rng: np.random.Generator,
    timesteps: Sequence[int] | None = None,
    variance: Variance = "small",
) -> Iterator[State]:
    """DDPM from x_T (B, …), float32 or float64, over `timesteps` that fall strictly to 0 (None: all).

    variance: "small", "large" or "learned", which requires a denoiser with `log_variance`.

    Yields a State after each step, whose arrays the caller may keep or change. Spawns one child of `rng`. Raises
    ValueError (at the first step) for invalid times, an unknown variance, or "learned" without a learned variance.
    """
    plan = steps(denoiser.schedule, timesteps, variance)
    noise = NoiseSource(rng, x_T.shape, x_T.dtype)
    x = x_T
    for step in plan:
        x0, _, log_variance = denoiser(x, step.t)
        x = step.x * x + step.x0 * x0
        if step.sigma > 0:
            learned = variance == "learned"
            x += (_learned_sigma(denoiser.schedule, step, log_variance) if learned else step.sigma) * noise()
        yield State(step.s, x.copy(), x0)


def _learned_sigma(schedule: Schedule, step: AffineStep, log_variance: np.ndarray | None) -> np.ndarray:
    """σ of a step t → s from the log σ² that was learned for t → t−1.

    The interpolation weight between log β̃ and log β is that of t → t−1, clipped to [0, 1].
    """
    if log_variance is None:
        raise ValueError('the network of this denoiser has no learned variance: use "small" or "large"')
    if step.s == step.t - 1:
        return np.asarray(np.exp(log_variance / 2))
    low, high = (log(a[int(step.t)]) for a in (schedule.posterior_variance, schedule.beta))
    weight = np.clip((log_variance - low) / max(high - low, 1e-300), 0, 1)
    low, high = 2 * log(step.sigma), log(schedule.kernel(step.s, step.t)[1])
    sigma: np.ndarray = np.exp((low + weight * (high - low)) / 2)
    return sigma


DDPM = Sampler(ddpm, help={"variance": "σ² of each step: β̃ (small), β (large), or as the network learned it"})
