"""Heun's method as in EDM (Karras et al. 2022, Algorithm 2), for variance-preserving noise.

In EDM's variables σ̃ = √(1−ᾱ)/√ᾱ and x̃ = x/√ᾱ, the ODE is dx̃ = ε̂ dσ̃. A step from t to s takes an Euler step with
the derivative ε̂ at t (which is DDIM), evaluates the derivative ε̂' at its end, and corrects to the mean of both:

    x_s = √ᾱ_s x̂_0 + √(1−ᾱ_s) ε̂,  then  x_s + ½ (√(1−ᾱ_s) − √ᾱ_s σ̃_t) (ε̂' − ε̂)

of second order, at two evaluations of the network a step. To clean data, where there is no ε̂', and from pure noise,
where σ̃ = ∞, it is DDIM.

Churn: before each of N steps noise is added, up to 1 + γ times σ̃_t, γ = min(churn/N, √2 − 1), which damps earlier
errors. This is the forward process q from t to the time with this σ̃, rounded to an integer, at which every network
can be evaluated, and at most T.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import inf, sqrt

import numpy as np

from minidiff.diffusion.denoiser import Denoiser
from minidiff.diffusion.samplers.randomness import NoiseSource
from minidiff.diffusion.samplers.registry import Sampler
from minidiff.diffusion.samplers.state import State
from minidiff.diffusion.samplers.timesteps import explicit
from minidiff.diffusion.schedules import Schedule


def heun(
    denoiser: Denoiser,
    x_T: np.ndarray,
    rng: np.random.Generator,
    timesteps: Sequence[float] | None = None,
    churn: float = 0.0,
) -> Iterator[State]:
    """Heun's method from x_T (B, …), float32 or float64, over `timesteps` that fall strictly to 0 (None: all).

    timesteps: may be real. churn: S_churn of EDM, 0 (none, the ODE) or more.

    Yields a State after each step, whose arrays the caller may keep or change. Spawns one child of `rng`, and draws
    from it only if there is churn. Raises ValueError (at the first step) for invalid times or a churn below 0.
    """
    if not 0 <= churn < inf:
        raise ValueError(f"expected churn of 0 (none) or more, got {churn}")
    schedule = denoiser.schedule
    times = explicit(schedule.T, timesteps, whole=False)
    gamma = min(churn / (len(times) - 1), sqrt(2) - 1)
    noise = NoiseSource(rng, x_T.shape, x_T.dtype)
    x = x_T
    for t, s in pairwise(times):
        above = _raised(schedule, t, gamma)
        if above > t:
            alpha, beta = schedule.kernel(t, above)
            x, t = sqrt(alpha) * x + sqrt(beta) * noise(), above
        x0, eps, _ = denoiser(x, t)
        at = schedule.at([t, s])
        (signal_t, signal_s), (sigma_t, sigma_s) = (
            np.sqrt(a).tolist() for a in (at.alpha_bar, at.one_minus_alpha_bar)
        )
        x = signal_s * x0 + sigma_s * eps
        if s > 0 and signal_t > 0:
            change = denoiser(x, s).eps - eps
            x += (sigma_s - signal_s * sigma_t / signal_t) / 2 * change
        yield State(s, x.copy(), x0)


def _raised(schedule: Schedule, t: float, gamma: float) -> float:
    """The integer time nearest to where σ̃ is 1 + γ times that of t, at most the last time with any signal."""
    if gamma == 0:
        return t
    lowest = schedule.snr[schedule.snr > 0].min()
    snr = max(schedule.at(t).snr / (1 + gamma) ** 2, lowest)
    return max(t, round(float(schedule.time_of(snr))))


HEUN = Sampler(
    heun, steps=25, spacing="logsnr", help={"churn": "S_churn of EDM: noise added before each step, 0 none"}
)
