"""UniPC (Zhao et al. 2023): a multistep predictor, and a corrector that costs no evaluation of its own.

As DPM-Solver++ it solves the linear part of the ODE in λ = ½ log SNR exactly. With h = λ_s − λ_t, what x̂_0
was at earlier times gives differences D_m = x̂_0(λ_m) − x̂_0 at r_m = (λ_m − λ_t)/h, and

    x_s = √((1−ᾱ_s)/(1−ᾱ_t)) x_t + √ᾱ_s (1−e^(−h)) (x̂_0 + Σ_m a_m D_m/r_m)

UniP-p, the predictor, takes p−1 of them, all in the past (r_m < 0), and is of order p. UniC-p, the corrector,
asks at the predicted x_s, takes that difference too (r = 1), and is of order p + 1; what it asked serves as
x̂_0 of the next step, so a step costs one evaluation all the same. The weights solve

    Σ_m r_m^(i−1) a_m = i! ψ_i(−h)/(e^(−h)−1),  i = 1, 2, …,      ψ_i(z) = Σ_{k≥1} z^k/(k+i)!

which makes the step exact where x̂_0 is a polynomial of λ; a single weight is ½, which is near enough (the
paper's B(h) = e^h − 1). UniP-2 is DPM-Solver++(2M).

The first steps, with less of a past, are of lower order; the last, to λ = ∞, and one from pure noise, are
DDIM's.
"""

from collections.abc import Iterator, Sequence
from math import exp, expm1, factorial, inf

import numpy as np

from minidiff.diffusion.denoiser import Denoiser
from minidiff.diffusion.samplers.state import State
from minidiff.diffusion.samplers.timesteps import explicit


def unipc(
    denoiser: Denoiser,
    x_T: np.ndarray,
    rng: np.random.Generator | None = None,
    timesteps: Sequence[float] | None = None,
    order: int = 2,
    corrector: bool = True,
) -> Iterator[State]:
    """UniPC from x_T (B, …), float32 or float64, over `timesteps` that fall strictly to 0 (None: all).

    timesteps: real ones too. order: p, which is 1, 2 or 3. corrector: False is UniP-p alone.

    Yields a State after each step, whose arrays are the receiver's own. Draws nothing: `rng` is there since
    every sampler has it. Raises ValueError (at the first step) for bad times or another order.
    """
    if order not in (1, 2, 3):
        raise ValueError(f"expected order 1, 2 or 3, got {order}")
    schedule = denoiser.schedule
    times = explicit(schedule.T, timesteps, whole=False)
    levels = schedule.at(np.array(times))
    lam = levels.log_snr / 2
    signal, sigma = np.sqrt(levels.alpha_bar).tolist(), np.sqrt(levels.one_minus_alpha_bar).tolist()
    x, past = x_T, []  # past: (λ, x̂_0) of p−1 earlier times, the latest first
    x0 = denoiser(x, times[0]).x0
    for i, s in enumerate(times[1:]):
        h = float(lam[i + 1] - lam[i])
        grown = -signal[i + 1] * expm1(-h)
        first_order = sigma[i + 1] / sigma[i] * x + grown * x0
        known = [((before - lam[i]) / h, guess - x0) for before, guess in past if h < inf and before > -inf]
        x = first_order + grown * _curved(known, h)
        yielded = x0.copy()
        if s > 0:
            past = [(lam[i], x0), *past][: order - 1]
            ahead = denoiser(x, s).x0
            if corrector and h < inf:
                x = first_order + grown * _curved([*known, (1.0, ahead - x0)], h)
            x0 = ahead
        yield State(s, x.copy(), yielded)


def _curved(differences: list[tuple[float, np.ndarray]], h: float) -> np.ndarray | float:
    """Σ_m a_m D_m/r_m of pairs (r_m, D_m); 0 of none."""
    r = np.array([ratio for ratio, _ in differences])
    if len(r) < 2:
        weights = np.full(len(r), 0.5)
    else:
        orders = range(1, len(r) + 1)
        right = [factorial(i) * _psi(i, -h) / expm1(-h) for i in orders]
        weights = np.linalg.solve([r ** (i - 1) for i in orders], right)
    return sum(w * D for w, (_, D) in zip((weights / r).tolist(), differences, strict=True))


def _psi(i: int, z: float) -> float:
    """ψ_i(z) = Σ_{k≥1} z^k/(k+i)!, which is (e^z − Σ_{k≤i} z^k/k!)/z^i but for the digits lost near 0."""
    if abs(z) < 2:
        return sum(z**k / factorial(k + i) for k in range(1, 25))
    return (exp(z) - sum(z**k / factorial(k) for k in range(i + 1))) / z**i
