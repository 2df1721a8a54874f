"""DDIM (Song et al. 2021; S3): from any t to any s < t, with any amount of fresh noise and the same marginals.

    x_s = √(ᾱ_s/ᾱ_t) x_t + (√(1−ᾱ_s−σ²) − √(ᾱ_s(1−ᾱ_t)/ᾱ_t)) ε̂ + σ z,    σ = η √((1−ᾱ_s)/(1−ᾱ_t)) √(1−ᾱ_t/ᾱ_s)

which, with x̂_0 = (x_t − √(1−ᾱ_t) ε̂)/√ᾱ_t (R5), reads more simply

    x_s = √ᾱ_s x̂_0 + √(1−ᾱ_s−σ²) ε̂ + σ z:

the estimate of the data, noised to the level of s, partly with the noise already in x_t and partly with fresh
noise. This form needs no division by ᾱ_t, which may be 0. η = 0 draws nothing; η = 1 is DDPM with variance β̃ (S4).
The paper's σ̂ = √(1−ᾱ_t/ᾱ_s), with ε̂ weighted as for η = 1, is DDPM with variance β: too much noise, so that long
steps leave the marginals.

η = 0 is Euler's step, in σ̃ = √(1−ᾱ)/√ᾱ, of the ODE dx̃ = ε̂ dσ̃ for x̃ = x/√ᾱ, which can be integrated in both
directions (`invert`).
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import inf, sqrt

import numpy as np

from minidiff.diffusion.denoiser import Denoiser
from minidiff.diffusion.noising import AffineStep
from minidiff.diffusion.samplers.randomness import NoiseSource
from minidiff.diffusion.samplers.registry import Sampler
from minidiff.diffusion.samplers.state import State
from minidiff.diffusion.samplers.timesteps import explicit
from minidiff.diffusion.schedules import Schedule


def steps(
    schedule: Schedule, timesteps: Sequence[float] | None = None, eta: float = 0.0, sigma_hat: bool = False
) -> list[AffineStep]:
    """The coefficients of each step of `ddim`, in float64.

    Raises ValueError for invalid times, for an η that is negative, infinite or so large that σ² > 1−ᾱ_s at some step,
    and for σ̂ with an η other than 1.
    """
    if not 0 <= eta < inf:
        raise ValueError(f"expected eta of 0 (deterministic) or more (1: as DDPM), got {eta}")
    if sigma_hat and eta != 1:
        raise ValueError(f"sigma_hat requires eta = 1, got eta = {eta}")
    return [
        _step(schedule, t, s, eta, sigma_hat)
        for t, s in pairwise(explicit(schedule.T, timesteps, whole=False))
    ]


def _step(schedule: Schedule, t: float, s: float, eta: float, sigma_hat: bool) -> AffineStep:
    alpha, beta = schedule.kernel(s, t)
    noise_s, noise_t = schedule.at([s, t]).one_minus_alpha_bar.tolist()
    # σ² = η² · renewed · (1−ᾱ_s), and 1−ᾱ_s−σ² = kept · (1−ᾱ_s). At η = 1 both fractions are computed without a
    # subtraction: near ᾱ_t = 0 it would cancel half of the root's digits.
    renewed, kept = beta / noise_t, alpha * noise_s / noise_t
    kept += (1 - eta * eta) * renewed
    if s > 0 and kept < 0:
        limit = sqrt(noise_t / beta)
        raise ValueError(f"eta = {eta} is too large for the step {t} → {s}: expected at most {limit:.4g}")
    sigma = sqrt(beta) if sigma_hat and s > 0 else eta * sqrt(noise_s * renewed)
    signal = sqrt(schedule.at(s).alpha_bar)
    return AffineStep(t, s, x=0.0, x0=signal, eps=sqrt(noise_s * max(kept, 0.0)), sigma=sigma)


def ddim(
    denoiser: Denoiser,
    x_T: np.ndarray,
    rng: np.random.Generator,
    timesteps: Sequence[float] | None = None,
    eta: float = 0.0,
    sigma_hat: bool = False,
) -> Iterator[State]:
    """DDIM from x_T (B, …), float32 or float64, over `timesteps` that fall strictly to 0 (None: all).

    timesteps: may be real. eta: η ≥ 0. sigma_hat: with η = 1, σ̂ instead of σ.

    Yields a State after each step, whose arrays the caller may keep or change. Spawns one child of `rng`, and draws
    from it only if η > 0. Raises ValueError (at the first step) for invalid times or an η out of range.
    """
    plan = steps(denoiser.schedule, timesteps, eta, sigma_hat)
    noise = NoiseSource(rng, x_T.shape, x_T.dtype)
    x = x_T
    for step in plan:
        x0, eps, _ = denoiser(x, step.t)
        x = step.x0 * x0 + step.eps * eps
        if step.sigma > 0:
            x += step.sigma * noise()
        yield State(step.s, x.copy(), x0)


def invert(denoiser: Denoiser, x_0: np.ndarray, timesteps: Sequence[float] | None = None) -> Iterator[State]:
    """DDIM inversion, from data to the noise that η = 0 maps to it: the ODE integrated from x_0 (B, …) up.

    Song et al. 2021, section 4.3.

    x_t = √ᾱ_t x̂_0 + √(1−ᾱ_t) ε̂ with x̂_0 and ε̂ evaluated at s < t. At s = 0 x_0 is known, and ε̂ is the
    denoiser's for x_0 at t. Sampling returns to x_0 up to errors of first order in the step sizes.

    timesteps: those of the sampler, falling strictly to 0 (None: all); may be real.

    Yields a State after each step, whose arrays the caller may keep or change. Draws nothing. Raises ValueError
    (at the first step) for invalid times.
    """
    schedule = denoiser.schedule
    x = x_0
    for s, t in pairwise(explicit(schedule.T, timesteps, whole=False)[::-1]):
        x0, eps, _ = denoiser(x, s) if s > 0 else (x, denoiser(x, t).eps, None)
        level = schedule.at(t)
        x = sqrt(level.alpha_bar) * x0 + sqrt(level.one_minus_alpha_bar) * eps
        yield State(t, x.copy(), x0.copy())


DDIM = Sampler(
    ddim,
    steps=50,
    spacing="quadratic",
    help={
        "eta": "fraction η of fresh noise: 0 deterministic, 1 as DDPM",
        "sigma_hat": "with --eta 1: the larger noise σ̂, as DDPM with --variance large",
    },
)
