"""What the network learns, and at which times (EQUATIONS.md V8, V9, V5).

Algorithm 1: draw x₀ from the data, t from 1…T and ε from N(0, I); descend ∇‖ε − ε_θ(√ᾱ_t x₀ + √(1−ᾱ_t) ε, t)‖².

That is `simple_loss`. An `Objective` generalises it. The network may predict x₀ or v instead of ε. The loss may be
weighted differently at each t; as ‖ε − ε̂‖² = SNR ‖x₀ − x̂₀‖² and ‖x₀ − x̂₀‖² = (1−ᾱ) ‖v − v̂‖², one weight w_t of
‖x₀ − x̂₀‖² defines it for all three:

    simple    weight 1 on the loss of the predicted quantity, whichever it is
    min-snr   w = min(SNR, 5)                              Hang et al. 2023
    p2        w = SNR/(1 + SNR)                            Choi et al. 2022, with k = γ = 1
    bound     w = ᾱ_{t−1} β_t²/((1−ᾱ_t)² 2σ_t²) · T        the bound itself (V5), σ_t² = β_t

The variance of the reverse step may be learned too: L_simple + 0.001 L_vlb (Nichol & Dhariwal 2021).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from minidiff import autograd as ag
from minidiff.autograd import Tensor
from minidiff.diffusion import likelihood, noising
from minidiff.diffusion.denoiser import PREDICTIONS, learned_log_variance
from minidiff.diffusion.schedules import Schedule

WEIGHTINGS = ("simple", "min-snr", "p2", "bound")
MAX_SNR = 5.0  # γ of min-SNR
BOUND_WEIGHT = 1e-3  # λ of the hybrid loss


def simple_loss(
    net: Callable[..., Tensor],
    schedule: Schedule,
    x0: np.ndarray,
    t: np.ndarray,
    noise: np.ndarray,
    label: np.ndarray | None = None,
    rng: np.random.Generator | None = None,
) -> Tensor:
    """L_simple (V8): the mean over batch and coordinates of (ε − ε_θ(x_t, t))², a Tensor of one number.

    net: (Tensor x_t, t, label, rng) → ε_θ as a Tensor. x0, noise (B, …); t (B,) integers 1…T; rng: for dropout.
    """
    x_t = noising.diffuse(schedule, x0, t, noise)
    return ag.mse(net(Tensor(x_t), schedule.times[t], label, rng), noise)


@dataclass(frozen=True, eq=False)
class Objective:
    """The loss of a network's output.

    prediction: what the network predicts, "eps", "x0" or "v". weighting: one of `WEIGHTINGS`.

    Where the output has twice the channels, the second half interpolates log σ_t² in its range
    (`denoiser.learned_log_variance`). It is learned by 0.001 times the bound, with no gradient to the prediction; with
    the weighting "bound" the loss is the bound alone, and trains both.

    Raises ValueError for another prediction or weighting; for ε where ᾱ_T = 0: x_T is then pure noise, and ε
    determines nothing of x₀; and for the weighting "bound" of a single step.
    """

    schedule: Schedule
    prediction: str = "eps"
    weighting: str = "simple"

    def __post_init__(self) -> None:
        if self.prediction not in PREDICTIONS:
            raise ValueError(f"prediction must be one of {', '.join(PREDICTIONS)}; got {self.prediction!r}")
        if self.weighting not in WEIGHTINGS:
            raise ValueError(f"weighting must be one of {', '.join(WEIGHTINGS)}; got {self.weighting!r}")
        if self.prediction == "eps" and self.schedule.alpha_bar[-1] == 0:
            raise ValueError("ε determines nothing of x₀ at T, where ᾱ_T = 0: choose the prediction v or x0")
        if self.weighting == "bound" and self.schedule.T < 2:
            raise ValueError("the weighting bound needs T ≥ 2: a single step has no β̃_2 for its variance")

    @cached_property
    def weights(self) -> np.ndarray:
        """The weight of (output − target)² at each t, (T+1,), 0 at index 0."""
        snr, weights = self.schedule.snr[1:], np.zeros(self.schedule.T + 1)
        if self.weighting == "simple":
            weights[1:] = 1.0
        elif self.weighting == "bound":
            variance = likelihood.step_variances(self.schedule, "large")
            weights[1:] = self.schedule.T * self._to_mean[1:] ** 2 / (2 * variance[1:])
        else:
            of_x0 = np.minimum(snr, MAX_SNR) if self.weighting == "min-snr" else snr / (1 + snr)
            weights[1:] = of_x0 * self._to_x0[1:] ** 2
        return weights

    @cached_property
    def _to_x0(self) -> np.ndarray:
        """|x₀ − x̂₀| where |output − target| is 1."""
        if self.prediction == "x0":
            return np.ones(self.schedule.T + 1)
        sigma: np.ndarray = np.sqrt(self.schedule.one_minus_alpha_bar)
        return sigma if self.prediction == "v" else sigma / np.sqrt(self.schedule.alpha_bar)

    @cached_property
    def _to_mean(self) -> np.ndarray:
        """|μ̃_t − μ_θ| where |output − target| is 1 (R3); 0 at index 0."""
        factors, schedule = np.zeros(self.schedule.T + 1), self.schedule
        from_x0 = np.sqrt(schedule.alpha_bar[:-1]) * schedule.beta[1:] / schedule.one_minus_alpha_bar[1:]
        factors[1:] = from_x0 * self._to_x0[1:]
        return factors

    def losses(
        self,
        net: Callable[..., Tensor],
        x0: np.ndarray,
        t: np.ndarray,
        noise: np.ndarray,
        label: np.ndarray | None = None,
        rng: np.random.Generator | None = None,
    ) -> Tensor:
        """The loss of each sample, the mean over its coordinates: a Tensor (B,). Arguments as of `simple_loss`."""
        x_t = noising.diffuse(self.schedule, x0, t, noise)
        output = net(Tensor(x_t), self.schedule.times[t], label, rng)
        weights: np.ndarray = self.weights[t].astype(x0.dtype)
        target = self.target(x0, t, noise)
        if output.shape == x0.shape:
            return per_sample(squared(output, target)) * weights
        square, weight = squared(output[..., : x0.shape[-1]], target), output[..., x0.shape[-1] :]
        if self.weighting == "bound":
            return per_sample(self.bound_terms(square, weight, t))
        of_variance = per_sample(self.bound_terms(square.detach(), weight, t))
        return per_sample(square) * weights + of_variance * BOUND_WEIGHT

    def target(self, x0: np.ndarray, t: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """The target of the network's output, of the shape of x0."""
        if self.prediction == "v":
            return noising.v_from(self.schedule, x0, noise, t)
        return noise if self.prediction == "eps" else x0

    def bound_terms(self, square: Tensor, weight: Tensor, t: np.ndarray) -> Tensor:
        """T·L_{t−1}, and T·L_0 where t = 1, of each coordinate in nats, of the shape of `square` (V4, V7).

        The mean over t is the bound without L_T. L_0 is a density, as for continuous data: both are
        ½((μ̃−μ_θ)² + β̃)/σ² + ½ log σ² + a constant, with β̃_1 = 0. square: (output − target)². weight: the
        interpolation weight of log σ², −1…1.
        """
        schedule = self.schedule
        posterior, constant = schedule.posterior_variance, np.full(schedule.T + 1, math.log(2 * math.pi) / 2)
        constant[2:] = -(1 + np.log(posterior[2:])) / 2
        factor, posterior, constant = (
            noising.shaped(a[t], square) for a in (self._to_mean**2, posterior, constant)
        )
        log_variance = learned_log_variance(schedule, weight, t)
        quadratic = (square * factor + posterior) * ag.exp(-log_variance)
        return ((quadratic + log_variance) * 0.5 + constant) * float(schedule.T)


def squared(output: Tensor, target: np.ndarray) -> Tensor:
    """(output − target)², elementwise. Raises ValueError for different shapes: nothing is broadcast."""
    if output.shape != target.shape:
        raise ValueError(f"expected an output of the shape of x, {target.shape}, got {output.shape}")
    error = output - target
    return error * error


def per_sample(values: Tensor) -> Tensor:
    """The mean over all axes but the first."""
    return ag.mean(values, axis=tuple(range(1, values.ndim)))


# ---- which times


def uniform_times(rng: np.random.Generator, T: int, batch: int) -> np.ndarray:
    """t (batch,) drawn uniformly from 1…T, both ends included."""
    return rng.integers(1, T + 1, batch)


def antithetic_times(rng: np.random.Generator, T: int, batch: int) -> np.ndarray:
    """t (batch,): the first half uniform on 1…T, the second half T + 1 − t of the first (V9).

    Each t is still uniform, and the mean time of a batch varies less. An odd batch has one time without a partner.
    """
    first = rng.integers(1, T + 1, (batch + 1) // 2)
    return np.concatenate([first, T + 1 - first[: batch // 2]])


class LossAware:
    """Importance sampling of t by the size of its loss (Nichol & Dhariwal 2021): called as those above.

    p_t ∝ √E[L_t²] over the last 10 losses at t, mixed with a uniform distribution of weight 0.001, so that no t is
    forgotten. A loss is weighted by 1/(T p_t), so its mean is that of uniform times. Until every t has 10 losses the
    times are uniform.

    history (T, 10): the losses, row t − 1 those at t, the latest last; NaN where there is none yet.
    """

    KEPT, UNIFORM_FRACTION = 10, 1e-3

    def __init__(self, T: int) -> None:
        self.history = np.full((T, self.KEPT), np.nan)

    def __call__(self, rng: np.random.Generator, T: int, batch: int) -> np.ndarray:
        """t (batch,), integers in 1…T."""
        return 1 + rng.choice(T, size=batch, p=self.probabilities())

    def probabilities(self) -> np.ndarray:
        """p_1…p_T, (T,), which sum to 1."""
        T = len(self.history)
        size = np.sqrt((self.history**2).mean(axis=1))
        if np.isnan(size).any() or not size.sum() > 0:
            return np.full(T, 1 / T)
        return np.asarray((1 - self.UNIFORM_FRACTION) * size / size.sum() + self.UNIFORM_FRACTION / T)

    def weights(self, t: np.ndarray) -> np.ndarray:
        """1/(T p_t) of each t (B,), which makes the mean over such times unbiased."""
        return np.asarray(1 / (len(self.history) * self.probabilities()[t - 1]))

    def record(self, t: np.ndarray, losses: np.ndarray) -> None:
        """Add the losses (B,) at t (B,), unweighted, to the history; t may repeat."""
        for row, loss in zip(t - 1, losses, strict=True):
            self.history[row, :-1] = self.history[row, 1:]
            self.history[row, -1] = loss


# By name: T → a function (rng, T, batch) → t (batch,).
DrawTimes = Callable[[np.random.Generator, int, int], np.ndarray]
TIMES: dict[str, Callable[[int], DrawTimes]] = {
    "uniform": lambda T: uniform_times,
    "antithetic": lambda T: antithetic_times,
    "loss-aware": LossAware,
}
