"""Bayes-optimal denoisers: data for which the marginal q_t of the forward process has a closed form.

A sampler with such an oracle in place of a network has no error but its own, and a trained network can be compared
with the optimum.

    O1   data N(m, S), or a mixture of such: q_t = Σ_k w_k N(√ᾱ m_k, ᾱ S_k + (1−ᾱ) I), and
         ε*(x, t) = −√(1−ᾱ) ∇log q_t(x)
    O2   a finite data set: x̂_0*(x, t) is the mean of the points, weighted by softmax(−‖x − √ᾱ x_i‖²/2(1−ᾱ))
    O3   on Gaussian data x̂_0* and ε* are affine in x, so an affine sampler maps Gaussians to Gaussians, and the mean
         and covariance of its output follow step by step, with no sampling: by `Gaussian.outcome` from the
         coefficients of its steps, by `outcome_of` from one run, for samplers with memory too

Each is computed directly: x̂_0 is never ε divided by √ᾱ, so no digits are lost at either end of time; the
responsibilities of mixture components go through log-sum-exp, so nothing underflows for an x far away. x is (B, D) in
float32 or float64, t one time or (B,), whole or real; results have the dtype of x, the arithmetic is float64.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import ArrayLike

from minidiff.diffusion import noising
from minidiff.diffusion.impulses import Impulses
from minidiff.diffusion.noising import AffineStep, Time
from minidiff.diffusion.schedules import Schedule

Network = Callable[..., np.ndarray]


class Oracle(ABC):
    """The Bayes-optimal (MMSE) denoiser of some data distribution in D dimensions.

    A subclass sets `dim`, D, and `first_time`, the first t at which q_t has a density (0 or 1), and implements
    `sample` and `_exact`; everything else follows from these.
    """

    dim: int
    first_time: int

    @abstractmethod
    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """n points of the data itself, (n, D) float64."""

    @abstractmethod
    def _exact(self, x: np.ndarray, alpha_bar: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, ...]:
        """log q_t(x) (B,), its gradient and E[x_0 | x_t = x], both (B, D); ᾱ and 1−ᾱ are (B, 1) or numbers."""

    def log_density(self, schedule: Schedule, x: np.ndarray, t: Time) -> np.ndarray:
        """log q_t(x), (B,), in nats."""
        return self._at(schedule, x, t)[0].astype(x.dtype)

    def score(self, schedule: Schedule, x: np.ndarray, t: Time) -> np.ndarray:
        """∇ log q_t(x), (B, D)."""
        return self._at(schedule, x, t)[1].astype(x.dtype)

    def x0(self, schedule: Schedule, x: np.ndarray, t: Time) -> np.ndarray:
        """E[x_0 | x_t = x], (B, D): the estimate of x_0 with the least mean squared error."""
        return self._at(schedule, x, t)[2].astype(x.dtype)

    def eps(self, schedule: Schedule, x: np.ndarray, t: Time) -> np.ndarray:
        """ε*(x, t) = E[ε | x_t = x] = −√(1−ᾱ) ∇ log q_t(x), (B, D) (O1): the output of the Bayes-optimal network."""
        _, score, _, _, noise = self._at(schedule, x, t)
        eps: np.ndarray = -np.sqrt(noise) * score
        return eps.astype(x.dtype)

    def v(self, schedule: Schedule, x: np.ndarray, t: Time) -> np.ndarray:
        """E[v | x_t = x] = √ᾱ ε* − √(1−ᾱ) x̂_0*, (B, D)."""
        _, score, x0, alpha_bar, noise = self._at(schedule, x, t)
        v: np.ndarray = -np.sqrt(alpha_bar * noise) * score - np.sqrt(noise) * x0
        return v.astype(x.dtype)

    def network(self, schedule: Schedule, prediction: str = "eps") -> Network:
        """This oracle as a network `net(x, t, label=None)` that predicts "eps", "x0" or "v"; labels are ignored."""
        outputs = {"eps": self.eps, "x0": self.x0, "v": self.v}
        if prediction not in outputs:
            raise ValueError(f"expected prediction to be one of {', '.join(outputs)}, got {prediction!r}")

        def net(x: np.ndarray, t: Time, label: object = None) -> np.ndarray:
            return outputs[prediction](schedule, x, t)

        return net

    def _at(self, schedule: Schedule, x: np.ndarray, t: Time) -> tuple[np.ndarray, ...]:
        """log q_t, score, x̂_0, ᾱ and 1−ᾱ, in float64."""
        level = noising.level(schedule, t, x, self.first_time)
        if x.ndim != 2 or x.shape[1] != self.dim:
            raise ValueError(f"expected x of shape (B, {self.dim}), got {x.shape}")
        x = x.astype(np.float64)
        alpha_bar, noise = (noising.shaped(each, x) for each in level)
        return *self._exact(x, alpha_bar, noise), alpha_bar, noise


class Mixture(Oracle):
    """Σ_k w_k N(m_k, S_k): weights (K,) that sum to 1, means (K, D), covariances (K, D, D).

    Covariances may be singular; the data then has no density at t = 0, and t begins at 1.

    Raises:
        ValueError: shapes that do not fit, weights that do not sum to 1, a covariance that is not symmetric and
            positive semi-definite.
    """

    def __init__(self, weights: ArrayLike, means: ArrayLike, covariances: ArrayLike) -> None:
        self.weights, self.means, self.covariances = (
            np.array(a, dtype=np.float64) for a in (weights, means, covariances)
        )
        if self.means.ndim != 2:
            raise ValueError(
                f"expected means of shape (K, D), got {self.means.shape}; for D = 1 pass means of shape (K, 1), "
                "such as [[0.5], [0.1]], and covariances of shape (K, 1, 1)"
            )
        K, D = self.means.shape
        if self.weights.shape != (K,) or self.covariances.shape != (K, D, D):
            got = f"{self.weights.shape} and {self.covariances.shape}"
            raise ValueError(f"expected weights ({K},) and covariances ({K}, {D}, {D}), got {got}")
        if not (np.all(self.weights > 0) and abs(self.weights.sum() - 1) < 1e-9):
            raise ValueError(f"expected positive weights that sum to 1, got {self.weights}")
        self._variances, self._axes = _principal_axes(self.covariances)
        self.dim = D
        self.first_time = 0 if np.all(self._variances > 0) else 1

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """n points of the data itself, (n, D) float64."""
        k = rng.choice(len(self.weights), size=n, p=self.weights)
        along_axes = np.sqrt(self._variances[k]) * rng.standard_normal((n, self.dim))
        samples: np.ndarray = self.means[k] + np.einsum("nij,nj->ni", self._axes[k], along_axes)
        return samples

    def _exact(self, x: np.ndarray, alpha_bar: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, ...]:
        # Along its principal axes each component is a product of 1-D normals of variance ᾱλ + 1−ᾱ.
        alpha_bar, noise = np.expand_dims(alpha_bar, -1), np.expand_dims(noise, -1)
        variance = alpha_bar * self._variances + noise
        offset = x[:, None, :] - np.sqrt(alpha_bar) * self.means
        along = np.einsum("kij,bki->bkj", self._axes, offset)
        log_component = -0.5 * (along**2 / variance + np.log(2 * np.pi * variance)).sum(axis=-1)
        log_density, responsibility = _log_sum_exp(log_component + np.log(self.weights))
        score = -np.einsum("bk,kij,bkj->bi", responsibility, self._axes, along / variance)
        shift = np.sqrt(alpha_bar) * self._variances * along / variance
        x0 = responsibility @ self.means + np.einsum("bk,kij,bkj->bi", responsibility, self._axes, shift)
        return log_density, score, x0


class Gaussian(Mixture):
    """N(m, S): mean (D,), covariance (D, D), which may be singular; zero makes the data a single point.

    Two numbers are the mean and the variance of a Gaussian in one dimension. Raises ValueError for other shapes, and
    for a covariance that is not symmetric and positive semi-definite.
    """

    def __init__(self, mean: ArrayLike, covariance: ArrayLike) -> None:
        m, S = _moments(mean, covariance)
        super().__init__([1.0], m[None], S[None])
        self.mean, self.covariance = self.means[0], self.covariances[0]

    def marginal(self, schedule: Schedule, t: float) -> tuple[np.ndarray, np.ndarray]:
        """Mean (D,) and covariance (D, D) of q_t = N(√ᾱ m, ᾱ S + (1−ᾱ) I)."""
        at = schedule.at(t)
        covariance = at.alpha_bar * self.covariance + at.one_minus_alpha_bar * np.eye(self.dim)
        return np.sqrt(at.alpha_bar) * self.mean, covariance

    def affine(self, schedule: Schedule, step: AffineStep) -> tuple[np.ndarray, np.ndarray]:
        """A (D, D) and b (D,) of a sampler's step with the exact denoiser: x_s = A x_t + b + sigma·z (O3).

        Its outputs are affine in x_t, with C the covariance of q_t:
        x̂_0 = m + √ᾱ S C⁻¹ (x_t − √ᾱ m),  ε̂ = √(1−ᾱ) C⁻¹ (x_t − √ᾱ m).
        """
        centre, covariance = self.marginal(schedule, step.t)
        at = schedule.at(step.t)
        signal, sigma = np.sqrt(at.alpha_bar), np.sqrt(at.one_minus_alpha_bar)
        output = step.x0 * signal * self.covariance + step.eps * sigma * np.eye(self.dim)
        gain = np.linalg.solve(covariance, output)  # S and C commute, since they have the same eigenvectors
        return step.x * np.eye(self.dim) + gain, step.x0 * self.mean - gain @ centre

    def outcome(
        self,
        schedule: Schedule,
        steps: Iterable[AffineStep],
        mean: ArrayLike | None = None,
        covariance: ArrayLike | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean (D,) and covariance (D, D) of the output of a sampler with these steps on this data (O3).

        steps: the AffineSteps of a sampler, such as `ancestral.steps(schedule)`; for a sampler whose steps depend on
        earlier ones, see `outcome_of`. x_T ~ N(mean, covariance), by default N(0, I), which makes this the integral R0.
        A step maps a mean μ to A μ + b and a covariance C to A C Aᵀ + sigma² I.

        Raises TypeError for anything but AffineSteps, ValueError for a mean or covariance of another dimension.
        """
        mu, C = _initial_moments(self.dim, mean, covariance)
        if callable(steps) or not isinstance(steps, Iterable):
            raise TypeError(
                "expected the AffineSteps of a sampler, such as ancestral.steps(schedule), got a "
                f"{type(steps).__name__}; for the sampler itself use outcome_of"
            )
        for step in steps:
            if not isinstance(step, AffineStep):
                raise TypeError(
                    f"expected each step to be an AffineStep, got a {type(step).__name__}: flatten nested lists, and "
                    "use outcome_of for a sampler whose steps depend on earlier ones"
                )
            A, b = self.affine(schedule, step)
            mu, C = A @ mu + b, A @ C @ A.T + step.sigma**2 * np.eye(self.dim)
        return mu, C


class FiniteData(Oracle):
    """The empirical distribution of the points (N, D): the one that a network is trained on (O2).

    Sampling with the Bayes-optimal network would reproduce the training data and nothing else. Each call computes a
    (B, N) matrix.
    """

    first_time = 1

    def __init__(self, points: ArrayLike) -> None:
        self.points = np.array(points, dtype=np.float64)
        if self.points.ndim != 2 or len(self.points) == 0:
            raise ValueError(f"expected points of shape (N, D) with N ≥ 1, got {self.points.shape}")
        self.dim = self.points.shape[1]

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """n points of the data itself, with replacement, (n, D) float64."""
        samples: np.ndarray = self.points[rng.integers(len(self.points), size=n)]
        return samples

    def _exact(self, x: np.ndarray, alpha_bar: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, ...]:
        # ‖x − √ᾱ x_i‖² is expanded about the centre of the data; the term common to all points cancels in the softmax.
        signal = np.sqrt(alpha_bar)
        centre = self.points.mean(axis=0)
        points, offset = self.points - centre, x - signal * centre
        logits = (signal * (offset @ points.T) - alpha_bar * (points**2).sum(axis=1) / 2) / noise
        log_sum, responsibility = _log_sum_exp(logits)
        common = (offset**2 / noise + np.log(2 * np.pi * noise)).sum(axis=1) / 2
        x0 = centre + responsibility @ points
        return log_sum - np.log(len(points)) - common, (signal * x0 - x) / noise, x0


def mixture1d() -> Mixture:
    """A 1-D Gaussian mixture: 30 % N(0.5, 0.01²), 40 % N(0.1, 0.03²), 30 % N(−0.4, 0.01²) (S5)."""
    return Mixture(
        [0.3, 0.4, 0.3], [[0.5], [0.1], [-0.4]], np.array([0.01, 0.03, 0.01]).reshape(3, 1, 1) ** 2
    )


def outcome_of(
    run: Callable[[np.ndarray, np.random.Generator], Iterable[tuple[float, np.ndarray, np.ndarray]]],
    dim: int,
    mean: ArrayLike | None = None,
    covariance: ArrayLike | None = None,
) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """(t, mean (D,), covariance (D, D)) of a sampler's output at each time on Gaussian data, with no sampling (O3).

    The output is affine in x_T and in each normal number drawn, so one run of a batch yields all coefficients: a sample
    from 0 without noise, one from each unit vector, and the impulse response to each number drawn.

    run: (x_T (B, D) float64, rng) → a sampler with the exact denoiser, unclipped, which draws normal noise from rng: by
    NoiseSource, rng.standard_normal or rng.normal, with a row for each sample. x_T ~ N(mean, covariance), by default
    N(0, I). Raises ValueError if the output is not affine, or the noise is drawn in another way.
    """
    mu, C = _initial_moments(dim, mean, covariance)
    columns: dict[tuple[int, ...], range] = {}
    alone = [x[0].copy() for _, x, _ in run(np.zeros((1, dim)), Impulses(dim, 1, columns))]
    x_T = np.zeros((2 + dim + sum(map(len, columns.values())), dim))
    x_T[1 : 1 + dim], x_T[1 + dim] = np.eye(dim), 1
    for origin, (t, x, _) in zip(alone, run(x_T, Impulses(dim, len(x_T), columns)), strict=True):
        response = np.delete(x, [0, 1 + dim], axis=0) - x[0]
        errors = x[0] - origin, x[1 + dim] - x[0] - response.sum(axis=0)
        if not np.abs(errors).max() <= 1e-7 * np.abs(x).max():
            raise ValueError(
                f"expected a sampler that is affine in x_T and its noise: at t = {t} it is not. Use the exact denoiser "
                "of a Gaussian, without clipping, and draw all noise from the rng that is passed to the sampler"
            )
        of_x, of_noise = response[:dim], response[dim:]
        yield t, x[0] + mu @ of_x, of_x.T @ C @ of_x + of_noise.T @ of_noise


def _moments(mean: ArrayLike, covariance: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """mean (D,) and covariance (D, D) as float64 arrays; of two numbers, with D = 1."""
    m, S = np.array(mean, dtype=np.float64), np.array(covariance, dtype=np.float64)
    if m.ndim == S.ndim == 0:
        m, S = m.reshape(1), S.reshape(1, 1)
    if m.ndim != 1 or S.shape != 2 * m.shape:
        raise ValueError(
            "expected a mean of shape (D,) and a covariance of shape (D, D), or two numbers for D = 1, "
            f"got {m.shape} and {S.shape}"
        )
    return m, S


def _initial_moments(
    dim: int, mean: ArrayLike | None, covariance: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray]:
    """Those of x_T, which is N(0, I) by default."""
    mean, covariance = (
        np.zeros(dim) if mean is None else mean,
        np.eye(dim) if covariance is None else covariance,
    )
    m, S = _moments(mean, covariance)
    if len(m) != dim:
        raise ValueError(f"expected the mean and covariance of x_T in {dim} dimensions, got {len(m)}")
    return m, S


def _log_sum_exp(log_terms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log Σ_k exp(l_k), (B,), and the softmax of the terms, (B, K)."""
    largest = log_terms.max(axis=1, keepdims=True)
    terms = np.exp(log_terms - largest)
    total = terms.sum(axis=1, keepdims=True)
    return (largest + np.log(total))[:, 0], terms / total


def _principal_axes(covariances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Variances (K, D) along the axes, the columns of (K, D, D); up to 1e-14 of the largest entry counts as 0."""
    if not np.all(np.isfinite(covariances)):
        raise ValueError("expected covariances of finite numbers")
    variances, axes = np.linalg.eigh(covariances)
    scale = np.abs(covariances).max(axis=(1, 2))[:, None]  # each compared with its own size, however small
    if np.any(np.abs(covariances - covariances.swapaxes(1, 2)) > 1e-9 * scale[:, None]):
        raise ValueError("expected symmetric covariances: S and its transpose must agree")
    if np.any(variances < -1e-9 * scale):
        raise ValueError(
            f"expected covariances with no negative variance, got {variances.min():.3g} along some axis"
        )
    return np.where(variances > 1e-14 * scale, variances, 0.0), axes
