"""UniPC (Zhao et al. 2023): a multistep predictor, and a corrector that needs no evaluation of its own.

Like DPM-Solver++ it solves the linear part of the ODE in λ = ½ log SNR exactly. With h = λ_s − λ_t, the x̂_0 of
earlier times gives differences D_m = x̂_0(λ_m) − x̂_0 at r_m = (λ_m − λ_t)/h, and

    x_s = √((1−ᾱ_s)/(1−ᾱ_t)) x_t + √ᾱ_s (1−e^(−h)) (x̂_0 + Σ_m a_m D_m/r_m)

UniP-p, the predictor, uses p−1 of them, all in the past (r_m < 0), and is of order p. UniC-p, the corrector,
evaluates the network at the predicted x_s, uses that difference too (r = 1), and is of order p + 1; this evaluation
serves as x̂_0 of the next step, so that a step still costs one. The weights solve

    Σ_m r_m^(i−1) a_m = i! ψ_i(−h)/(e^(−h)−1),  i = 1, 2, …,      ψ_i(z) = Σ_{k≥1} z^k/(k+i)!

which makes the step exact where x̂_0 is a polynomial in λ; if there is one weight alone it is ½, the paper's
approximation (B(h) = e^h − 1). UniP-2 is DPM-Solver++(2M).

The first steps, with fewer earlier x̂_0, are of lower order; the last, to λ = ∞, and one from pure noise, are DDIM's.
"""

from collections.abc import Iterator, Sequence
from math import exp, expm1, factorial, inf
from typing import Literal

import numpy as np

from minidiff.diffusion.denoiser import Denoiser
from minidiff.diffusion.samplers.registry import Sampler
from minidiff.diffusion.samplers.state import State
from minidiff.diffusion.samplers.timesteps import explicit


def unipc(
    denoiser: Denoiser,
    x_T: np.ndarray,
    rng: np.random.Generator | None = None,
    timesteps: Sequence[float] | None = None,
    order: Literal[1, 2, 3] = 2,
    corrector: bool = True,
) -> Iterator[State]:
    """UniPC from x_T (B, …), float32 or float64, over `timesteps` that fall strictly to 0 (None: all).

    timesteps: may be real. order: p, which is 1, 2 or 3. corrector: False is UniP-p alone.

    Yields a State after each step, whose arrays the caller may keep or change. Draws nothing; `rng` is part of every
    sampler's signature. Raises ValueError (at the first step) for invalid times or another order.
    """
    if order not in (1, 2, 3):
        raise ValueError(f"expected order 1, 2 or 3, got {order}")
    schedule = denoiser.schedule
    times = explicit(schedule.T, timesteps, whole=False)
    levels = schedule.at(np.array(times))
    lam = levels.log_snr / 2
    signal, sigma = np.sqrt(levels.alpha_bar).tolist(), np.sqrt(levels.one_minus_alpha_bar).tolist()
    x = x_T
    past: list[tuple[float, np.ndarray]] = []  # (λ, x̂_0) of p−1 earlier times, the latest first
    x0 = denoiser(x, times[0]).x0
    for i, s in enumerate(times[1:]):
        h = float(lam[i + 1] - lam[i])
        scale = -signal[i + 1] * expm1(-h)
        first_order = sigma[i + 1] / sigma[i] * x + scale * x0
        known = [
            ((before - lam[i]) / h, earlier - x0) for before, earlier in past if h < inf and before > -inf
        ]
        x = first_order + scale * _correction(known, h)
        yielded = x0.copy()
        if s > 0:
            past = [(lam[i], x0), *past][: order - 1]
            ahead = denoiser(x, s).x0
            if corrector and h < inf:
                x = first_order + scale * _correction([*known, (1.0, ahead - x0)], h)
            x0 = ahead
        yield State(s, x.copy(), yielded)


def _correction(differences: list[tuple[float, np.ndarray]], h: float) -> np.ndarray | float:
    """Σ_m a_m D_m/r_m of pairs (r_m, D_m); 0 of none."""
    r = np.array([ratio for ratio, _ in differences])
    if len(r) < 2:
        weights = np.full(len(r), 0.5)
    else:
        orders = range(1, len(r) + 1)
        target = [factorial(i) * _psi(i, -h) / expm1(-h) for i in orders]
        weights = np.linalg.solve([r ** (i - 1) for i in orders], target)
    terms = (w * D for w, (_, D) in zip((weights / r).tolist(), differences, strict=True))
    return sum(terms, start=0.0)


def _psi(i: int, z: float) -> float:
    """ψ_i(z) = Σ_{k≥1} z^k/(k+i)!, which is (e^z − Σ_{k≤i} z^k/k!)/z^i without its cancellation near 0."""
    if abs(z) < 2:
        return sum(z**k / factorial(k + i) for k in range(1, 25))
    return (exp(z) - sum(z**k / factorial(k) for k in range(i + 1))) / z**i


UNIPC = Sampler(
    unipc,
    steps=25,
    spacing="logsnr",
    help={"order": "order p of the predictor", "corrector": "apply the corrector UniC-p"},
)
