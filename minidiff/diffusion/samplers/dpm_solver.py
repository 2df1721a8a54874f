"""DPM-Solver++(2M) (Lu et al. 2022): the ODE, or the SDE, in λ = ½ log SNR, its linear part solved exactly.

With h = λ_s − λ_t the exact step from t to s is a weighted average of x̂_0 over it. With x̂_0 constant it is DDIM;
with a line through the last two x̂_0, where h' = λ_t − λ_r is the previous step (from r),

    D = x̂_0 + h/2h' (x̂_0 − x̂_0')
    x_s = √((1−ᾱ_s)/(1−ᾱ_t)) x_t + √ᾱ_s (1−e^(−h)) D                                    the ODE
    x_s = √((1−ᾱ_s)/(1−ᾱ_t)) e^(−h) x_t + √ᾱ_s (1−e^(−2h)) D + √(1−ᾱ_s) √(1−e^(−2h)) z     the SDE

at one evaluation of the network a step; for the ODE of second order in h. At the first step, and at the last, to
λ = ∞, D = x̂_0, which for the SDE is DDPM's step with variance β̃.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import exp, expm1, inf, sqrt

import numpy as np

from minidiff.diffusion.denoiser import Denoiser
from minidiff.diffusion.noising import AffineStep
from minidiff.diffusion.samplers.randomness import NoiseSource
from minidiff.diffusion.samplers.registry import Sampler
from minidiff.diffusion.samplers.state import State
from minidiff.diffusion.samplers.timesteps import explicit
from minidiff.diffusion.schedules import Schedule


def steps(
    schedule: Schedule, timesteps: Sequence[float] | None = None, sde: bool = False
) -> list[tuple[AffineStep, float]]:
    """Each step, with D in the place of x̂_0, and the weight h/2h' of x̂_0 − x̂_0' in D (0 where D = x̂_0), in float64.

    Raises ValueError for invalid times.
    """
    plan: list[tuple[AffineStep, float]] = []
    h_before = inf
    for t, s in pairwise(explicit(schedule.T, timesteps, whole=False)):
        at = schedule.at([t, s])
        (sigma_t, sigma_s), signal_s = np.sqrt(at.one_minus_alpha_bar).tolist(), sqrt(at.alpha_bar[1])
        h = float(at.log_snr[1] - at.log_snr[0]) / 2  # infinite from pure noise, and to clean data
        kept, new = (exp(-h), -expm1(-2 * h)) if sde else (1.0, -expm1(-h))
        step = AffineStep(
            t,
            s,
            x=sigma_s / sigma_t * kept,
            x0=signal_s * new,
            eps=0.0,
            sigma=sigma_s * sqrt(new) if sde else 0.0,
        )
        plan.append((step, h / (2 * h_before) if h < inf else 0.0))
        h_before = h
    return plan


def dpmpp_2m(
    denoiser: Denoiser,
    x_T: np.ndarray,
    rng: np.random.Generator,
    timesteps: Sequence[float] | None = None,
    sde: bool = False,
) -> Iterator[State]:
    """DPM-Solver++(2M) from x_T (B, …), float32 or float64, over `timesteps` that fall strictly to 0 (None: all).

    timesteps: may be real. sde: solve the SDE, with fresh noise at each step, instead of the ODE.

    Yields a State after each step, whose arrays the caller may keep or change. Spawns one child of `rng`, and draws
    from it only for the SDE. Raises ValueError (at the first step) for invalid times.
    """
    plan = steps(denoiser.schedule, timesteps, sde)
    noise = NoiseSource(rng, x_T.shape, x_T.dtype)
    x = before = x_T
    for step, weight in plan:
        x0 = denoiser(x, step.t).x0
        D = x0 + weight * (x0 - before) if weight > 0 else x0
        x = step.x * x + step.x0 * D
        if step.sigma > 0:
            x += step.sigma * noise()
        yield State(step.s, x.copy(), x0.copy())
        before = x0


DPMPP_2M = Sampler(
    dpmpp_2m, steps=25, spacing="logsnr", help={"sde": "solve the SDE, with fresh noise at each step"}
)
