"""The exact likelihood of a deterministic sampler: the probability-flow ODE (Song et al. 2021).

In the variables x̄ = x/√ᾱ and σ̄ = √((1−ᾱ)/ᾱ), q_t is the distribution of x_0 + σ̄ ε, and the ODE whose solutions have
these marginals is DDIM's,

    dx̄/dσ̄ = ε̂(x, t).

Its flow is one to one, so the log-density follows from the change of variables:

    log p_0(x_0) = log p_T(x̄_T) + ∫ g dσ̄/σ̄,    g = σ̄ div_x̄ ε̂,    p_T: x_T ~ N(0, I), hence x̄_T ~ N(0, I/ᾱ_T).

div_x̄ ε̂ is √ᾱ times the trace of ∂ε̂/∂x. In few dimensions the trace is computed entry by entry; in many it is estimated
as the mean of vᵀ(∂ε̂/∂x)v over random signs v (Hutchinson), which needs only the vector–Jacobian product of the network.
The steps are Heun's, between whole times, and of second order in their length. The divergence is integrated over log σ̄,
since g tends to the number of dimensions while σ̄ may grow a thousandfold in the last step. At t = 0 the drift ε̂ is 0:
without noise there is none to estimate. From there it grows like σ̄, and g like σ̄².
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from minidiff.diffusion.denoiser import Denoiser
from minidiff.diffusion.schedules import falling_times

VJP = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def log_likelihood(
    denoiser: Denoiser, x0: np.ndarray, vjp: VJP, timesteps: Sequence[int] | None = None
) -> np.ndarray:
    """log p_0(x_0) of the ODE, (B,) float64 in nats, with the exact trace.

    The trace takes D vector–Jacobian products per step for x0 (B, …) of D numbers each.

    vjp: (x (N, …), t (N,), v (N, …)) → vᵀ ∂net/∂x, (N, …), of the output of `denoiser.net`, whatever it predicts.
    timesteps: the whole times of the steps, decreasing strictly from T to 0; None: all.

    Raises ValueError for a denoiser that clips (the flow is then not one to one), for ᾱ_T = 0, where x̄ diverges, and
    for other times.
    """
    units = np.eye(x0[0].size).reshape(-1, 1, *x0.shape[1:])
    return _log_likelihood(denoiser, x0, vjp, timesteps, units)


def estimated_log_likelihood(
    denoiser: Denoiser,
    x0: np.ndarray,
    vjp: VJP,
    rng: np.random.Generator,
    probes: int = 1,
    timesteps: Sequence[int] | None = None,
) -> np.ndarray:
    """`log_likelihood` with the trace estimated by `probes` random vectors of ±1 for each sample, fixed over time.

    The estimate is unbiased. Raises ValueError as `log_likelihood`, and for less than one probe.
    """
    if probes < 1:
        raise ValueError(f"expected at least one probe, got {probes}")
    signs = rng.integers(0, 2, (probes, *x0.shape)) * 2.0 - 1
    return _log_likelihood(denoiser, x0, vjp, timesteps, signs, 1 / probes)


def _log_likelihood(
    denoiser: Denoiser,
    x0: np.ndarray,
    vjp: VJP,
    timesteps: Sequence[int] | None,
    probes: np.ndarray,
    weight: float = 1.0,
) -> np.ndarray:
    """probes (P, B or 1, …): the trace is computed as weight · Σ vᵀJv."""
    schedule, dim = denoiser.schedule, x0[0].size
    if denoiser.clip is not None:
        raise ValueError("a denoiser that clips is not one to one: leave out the clip for a likelihood")
    if schedule.alpha_bar[-1] == 0:
        raise ValueError("ᾱ_T = 0: the ODE in x/√ᾱ has no end there; take a schedule that leaves some signal")
    times = falling_times(schedule.T, range(schedule.T, -1, -1) if timesteps is None else timesteps)
    if times[0] != schedule.T:
        raise ValueError(
            f"expected times from T = {schedule.T} on, since p_T is what is known; got {times[0]}"
        )
    sigma = np.sqrt(schedule.one_minus_alpha_bar / schedule.alpha_bar)
    signal = np.sqrt(schedule.alpha_bar)

    x = x0.astype(np.float64)  # x̄
    drift, g, log_volume = np.zeros_like(x), np.zeros(len(x)), np.zeros(len(x))
    for s, t in pairwise(times[::-1]):
        h = sigma[t] - sigma[s]
        euler = x + h * drift
        x = x + h / 2 * (drift + denoiser(signal[t] * euler, t).eps)
        drift = denoiser(signal[t] * x, t).eps
        before, g = g, sigma[t] * signal[t] * _trace(denoiser, signal[t] * x, t, vjp, probes, weight)
        # In the first step g ∝ σ̄², so that ∫ g dσ̄/σ̄ is half its final value.
        log_volume += (before + g) / 2 * (np.log(sigma[t] / sigma[s]) if s > 0 else 1.0)
    x_T = signal[-1] * x
    log_prior = -((x_T**2).reshape(len(x), -1).sum(axis=1) + dim * np.log(2 * np.pi)) / 2
    log_p0: np.ndarray = log_prior + dim * np.log(signal[-1]) + log_volume
    return log_p0


def _trace(
    denoiser: Denoiser, x: np.ndarray, t: int, vjp: VJP, probes: np.ndarray, weight: float
) -> np.ndarray:
    """tr ∂ε̂/∂x at x (B, …), (B,)."""
    P, B, dim = len(probes), len(x), x[0].size
    v = np.broadcast_to(probes, (P, *x.shape)).reshape(P * B, *x.shape[1:])
    copies = np.broadcast_to(x, (P, *x.shape)).reshape(v.shape)
    product = np.asarray(vjp(copies, np.full(P * B, denoiser.schedule.times[t]), v))
    if product.shape != v.shape:
        raise ValueError(f"expected a vjp of the shape of x, {v.shape}, got {product.shape}")
    trace: np.ndarray = weight * (product * v).reshape(P, B, dim).sum(axis=(0, 2))
    signal = np.sqrt(denoiser.schedule.alpha_bar[t])
    sigma = np.sqrt(denoiser.schedule.one_minus_alpha_bar[t])
    if denoiser.prediction == "x0":  # ε̂ = (x − √ᾱ x̂_0)/√(1−ᾱ)
        trace = (dim - signal * trace) / sigma
    elif denoiser.prediction == "v":  # ε̂ = √(1−ᾱ) x + √ᾱ v̂
        trace = sigma * dim + signal * trace
    return trace
