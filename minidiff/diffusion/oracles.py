"""The exact answer, where there is one: data whose noised law q_t is known in closed form.

A sampler run on an oracle in place of a network makes no error but its own, and a network can be held
against what it ought to have learned.

    O1   data N(m, S), or a mixture of such: q_t = Σ_k w_k N(√ᾱ m_k, ᾱ S_k + (1−ᾱ) I), and
         ε*(x, t) = −√(1−ᾱ) ∇log q_t(x)
    O2   a finite data set: x̂_0*(x, t) is the mean of the points, weighted by softmax(−‖x − √ᾱ x_i‖²/2(1−ᾱ))
    O3   on Gaussian data x̂_0* and ε* are affine in x, so an affine sampler makes Gaussians of Gaussians, and
         the mean and covariance of what it yields follow step by step, with no sampling: by `Gaussian.outcome`
         from the coefficients of its steps, by `outcome_of` from a run, whatever it remembers between them

Each is computed directly: x̂_0 is never ε divided by √ᾱ, so nothing is lost at either end of time; weights
of components go through log-sum-exp, so nothing underflows for an x far away. x is (B, D) in float32 or
float64, t one time or (B,), whole or real; results have the dtype of x, the arithmetic is float64.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from minidiff.diffusion import noising
from minidiff.diffusion.noising import AffineStep, Time
from minidiff.diffusion.schedules import Schedule

Network = Callable[..., np.ndarray]


class Oracle:
    """What every oracle answers.

    A child knows `dim`, the first time at which it has a density, and `_exact`.
    """

    dim: int
    first_time: int

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """n points of the data itself, (n, D) float64."""
        raise NotImplementedError

    def _exact(self, x: np.ndarray, alpha_bar: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, ...]:
        """log q_t(x) (B,), its gradient and E[x_0 | x_t = x], both (B, D); ᾱ and 1−ᾱ are (B, 1) or numbers."""
        raise NotImplementedError

    def log_density(self, schedule: Schedule, x: np.ndarray, t: Time) -> np.ndarray:
        """log q_t(x), (B,), in nats."""
        return self._at(schedule, x, t)[0].astype(x.dtype)

    def score(self, schedule: Schedule, x: np.ndarray, t: Time) -> np.ndarray:
        """∇ log q_t(x), (B, D)."""
        return self._at(schedule, x, t)[1].astype(x.dtype)

    def x0(self, schedule: Schedule, x: np.ndarray, t: Time) -> np.ndarray:
        """E[x_0 | x_t = x], (B, D): the best guess at the data, in the sense of least squares."""
        return self._at(schedule, x, t)[2].astype(x.dtype)

    def eps(self, schedule: Schedule, x: np.ndarray, t: Time) -> np.ndarray:
        """ε*(x, t) = E[ε | x_t = x] = −√(1−ᾱ) ∇ log q_t(x), (B, D) (O1): what a perfect network says."""
        _, score, _, _, noise = self._at(schedule, x, t)
        return (-np.sqrt(noise) * score).astype(x.dtype)

    def v(self, schedule: Schedule, x: np.ndarray, t: Time) -> np.ndarray:
        """E[v | x_t = x] = √ᾱ ε* − √(1−ᾱ) x̂_0*, (B, D)."""
        _, score, x0, alpha_bar, noise = self._at(schedule, x, t)
        return (-np.sqrt(alpha_bar * noise) * score - np.sqrt(noise) * x0).astype(x.dtype)

    def network(self, schedule: Schedule, prediction: str = "eps") -> Network:
        """This oracle as a network `net(x, t, label=None)` that predicts "eps", "x0" or "v"; labels are ignored."""
        answers = {"eps": self.eps, "x0": self.x0, "v": self.v}
        if prediction not in answers:
            raise ValueError(f"expected prediction to be one of {', '.join(answers)}, got {prediction!r}")

        def net(x: np.ndarray, t: Time, label: object = None) -> np.ndarray:
            return answers[prediction](schedule, x, t)

        return net

    def _at(self, schedule: Schedule, x: np.ndarray, t: Time) -> tuple[np.ndarray, ...]:
        """log q_t, score, x̂_0, ᾱ and 1−ᾱ, in float64."""
        level = noising.level(schedule, t, x, self.first_time)
        if x.ndim != 2 or x.shape[1] != self.dim:
            raise ValueError(f"expected x of shape (B, {self.dim}), got {x.shape}")
        x = x.astype(np.float64)
        alpha_bar, noise = (noising.shaped(part, x) for part in level)
        return *self._exact(x, alpha_bar, noise), alpha_bar, noise


class Mixture(Oracle):
    """Σ_k w_k N(m_k, S_k): weights (K,) that sum to 1, means (K, D), covariances (K, D, D).

    Covariances may be singular; there is then no density at t = 0, and t begins at 1.

    Raises:
        ValueError: shapes that do not fit, weights that do not sum to 1, a covariance that is none.
    """

    def __init__(self, weights: np.ndarray, means: np.ndarray, covariances: np.ndarray):
        self.weights, self.means, self.covariances = (
            np.array(a, dtype=np.float64) for a in (weights, means, covariances)
        )
        if self.means.ndim != 2:
            raise ValueError(f"expected means of shape (K, D), got {self.means.shape}")
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
        return self.means[k] + np.einsum("nij,nj->ni", self._axes[k], along_axes)

    def _exact(self, x, alpha_bar, noise):
        # Along its principal axes each component is a product of 1-D normals of variance ᾱλ + 1−ᾱ.
        alpha_bar, noise = np.expand_dims(alpha_bar, -1), np.expand_dims(noise, -1)
        variance = alpha_bar * self._variances + noise
        offset = x[:, None, :] - np.sqrt(alpha_bar) * self.means
        along = np.einsum("kij,bki->bkj", self._axes, offset)
        log_component = -0.5 * (along**2 / variance + np.log(2 * np.pi * variance)).sum(axis=-1)
        log_density, share = _log_sum_exp(log_component + np.log(self.weights))
        score = -np.einsum("bk,kij,bkj->bi", share, self._axes, along / variance)
        pull = np.sqrt(alpha_bar) * self._variances * along / variance
        x0 = share @ self.means + np.einsum("bk,kij,bkj->bi", share, self._axes, pull)
        return log_density, score, x0


class Gaussian(Mixture):
    """N(m, S): mean (D,), covariance (D, D), which may be singular; zero makes the data a single point."""

    def __init__(self, mean: np.ndarray, covariance: np.ndarray):
        super().__init__([1.0], np.asarray(mean)[None], np.asarray(covariance)[None])
        self.mean, self.covariance = self.means[0], self.covariances[0]

    def marginal(self, schedule: Schedule, t: int) -> tuple[np.ndarray, np.ndarray]:
        """Mean (D,) and covariance (D, D) of q_t = N(√ᾱ m, ᾱ S + (1−ᾱ) I)."""
        alpha_bar, noise = schedule.alpha_bar[t], schedule.one_minus_alpha_bar[t]
        return np.sqrt(alpha_bar) * self.mean, alpha_bar * self.covariance + noise * np.eye(self.dim)

    def affine(self, schedule: Schedule, step: AffineStep) -> tuple[np.ndarray, np.ndarray]:
        """A (D, D) and b (D,) of a sampler's step given the exact answers: x_s = A x_t + b + sigma·z (O3).

        Both answers are affine in what x_t has beyond its mean, with C the covariance of q_t:
        x̂_0 = m + √ᾱ S C⁻¹ (x_t − √ᾱ m),  ε̂ = √(1−ᾱ) C⁻¹ (x_t − √ᾱ m).
        """
        centre, covariance = self.marginal(schedule, step.t)
        signal, sigma = np.sqrt(schedule.alpha_bar[step.t]), np.sqrt(schedule.one_minus_alpha_bar[step.t])
        answers = step.x0 * signal * self.covariance + step.eps * sigma * np.eye(self.dim)
        gain = np.linalg.solve(covariance, answers)  # S and C have the same axes, so the order is free
        return step.x * np.eye(self.dim) + gain, step.x0 * self.mean - gain @ centre

    def outcome(
        self,
        schedule: Schedule,
        steps: Iterable[AffineStep],
        mean: np.ndarray | None = None,
        covariance: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean (D,) and covariance (D, D) of what a sampler with these steps yields on this data (O3).

        `steps` come from a sampler's own `steps(...)`. x_T ~ N(mean, covariance), by default N(0, I), which
        makes this the integral R0. Each step makes of a mean μ and a covariance C: A μ + b and A C Aᵀ +
        sigma² I.
        """
        mean = np.zeros(self.dim) if mean is None else mean
        covariance = np.eye(self.dim) if covariance is None else covariance
        for step in steps:
            A, b = self.affine(schedule, step)
            mean = A @ mean + b
            covariance = A @ covariance @ A.T + step.sigma**2 * np.eye(self.dim)
        return mean, covariance


class FiniteData(Oracle):
    """The points themselves, (N, D), each as likely as any other: what a network is trained on (O2).

    A perfect network would give back the training data and nothing else. Costs a (B, N) matrix at each call.
    """

    first_time = 1

    def __init__(self, points: np.ndarray):
        self.points = np.array(points, dtype=np.float64)
        if self.points.ndim != 2 or len(self.points) == 0:
            raise ValueError(f"expected points of shape (N, D) with N ≥ 1, got {self.points.shape}")
        self.dim = self.points.shape[1]

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """n points of the data itself, with replacement, (n, D) float64."""
        return self.points[rng.integers(len(self.points), size=n)]

    def _exact(self, x, alpha_bar, noise):
        # ‖x − √ᾱ x_i‖² is multiplied out about the centre of the data; what all points share leaves the softmax.
        signal = np.sqrt(alpha_bar)
        centre = self.points.mean(axis=0)
        points, offset = self.points - centre, x - signal * centre
        near = (signal * (offset @ points.T) - alpha_bar * (points**2).sum(axis=1) / 2) / noise
        log_sum, share = _log_sum_exp(near)
        shared = (offset**2 / noise + np.log(2 * np.pi * noise)).sum(axis=1) / 2
        x0 = centre + share @ points
        return log_sum - np.log(len(points)) - shared, (signal * x0 - x) / noise, x0


def mixture1d() -> Mixture:
    """The documents' own data: 30 % N(0.5, 0.01²), 40 % N(0.1, 0.03²), 30 % N(−0.4, 0.01²) (S5)."""
    return Mixture(
        [0.3, 0.4, 0.3], [[0.5], [0.1], [-0.4]], np.array([0.01, 0.03, 0.01]).reshape(3, 1, 1) ** 2
    )


def outcome_of(
    run: Callable[[np.ndarray, np.random.Generator], Iterable[tuple[float, np.ndarray, np.ndarray]]],
    dim: int,
    mean: np.ndarray | None = None,
    covariance: np.ndarray | None = None,
) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """(t, mean (D,), covariance (D, D)) of what a sampler yields at each time on Gaussian data, with no sampling (O3).

    All it yields is affine in x_T and in each normal number it draws, so one run of a batch tells how: a sample from
    0 without noise, one from each unit vector, and one for each number drawn, which is 1 for it and 0 for the others.

    run: (x_T (B, D) float64, rng) → a sampler over exact answers, unclipped. x_T ~ N(mean, covariance), by default
    N(0, I). Raises ValueError where what is yielded is not affine.
    """
    mean = np.zeros(dim) if mean is None else mean
    covariance = np.eye(dim) if covariance is None else covariance
    silence = _OneInTurn(dim)
    for _ in run(np.zeros((1, dim)), silence):
        pass
    x_T = np.zeros((2 + dim + silence.draws[0] * dim, dim))
    x_T[1 : 1 + dim], x_T[1 + dim] = np.eye(dim), 1
    for t, x, _ in run(x_T, _OneInTurn(dim)):
        slopes = np.delete(x, [0, 1 + dim], axis=0) - x[0]
        if not np.abs(x[1 + dim] - x[0] - slopes.sum(axis=0)).max() <= 1e-7 * np.abs(x).max():
            raise ValueError(f"expected a sampler that is affine in x_T and its noise: at t = {t} it is not")
        of_x, of_noise = slopes[:dim], slopes[dim:]
        yield t, x[0] + mean @ of_x, of_x.T @ covariance @ of_x + of_noise.T @ of_noise


class _OneInTurn(np.random.Generator):
    """Noise for `outcome_of`, as `NoiseSource` draws it, in blocks of samples with a stream each.

    The k-th draw is 0 but for the D samples that stand for it, an axis each, and for sample D + 1, which has all of
    it. draws: how often the first block was drawn.
    """

    def __init__(self, dim: int, block: int = 0, draws: list[int] | None = None):
        super().__init__(np.random.PCG64(0))
        self.dim, self.block, self.draws = dim, block, [0] if draws is None else draws

    def spawn(self, n_children: int) -> list["_OneInTurn"]:
        """The streams of the first n blocks."""
        return [_OneInTurn(self.dim, i, self.draws if i == 0 else [0]) for i in range(n_children)]

    def standard_normal(self, size: tuple[int, int], dtype: type = np.float64) -> np.ndarray:
        """The next draw for this block, (samples, D)."""
        sample = self.block * size[0] + np.arange(size[0])
        axis = sample - (2 + self.dim + self.draws[0] * self.dim)
        self.draws[0] += 1
        noise = (axis[:, None] == np.arange(self.dim)).astype(dtype)
        noise[sample == 1 + self.dim] = 1
        return noise


def _log_sum_exp(log_terms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log Σ_k exp(l_k), (B,), and the share of each term, (B, K)."""
    largest = log_terms.max(axis=1, keepdims=True)
    terms = np.exp(log_terms - largest)
    total = terms.sum(axis=1, keepdims=True)
    return (largest + np.log(total))[:, 0], terms / total


def _principal_axes(covariances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Variances (K, D) along the axes (K, D, D), an axis a column; 1e-14 of the largest variance counts as 0."""
    if not np.all(np.isfinite(covariances)):
        raise ValueError("expected covariances of finite numbers")
    variances, axes = np.linalg.eigh(covariances)
    scale = np.abs(covariances).max(axis=(1, 2))[:, None]  # of each by its own, however small
    if np.any(np.abs(covariances - covariances.swapaxes(1, 2)) > 1e-9 * scale[:, None]):
        raise ValueError("expected symmetric covariances: S and its transpose must agree")
    if np.any(variances < -1e-9 * scale):
        raise ValueError(
            f"expected covariances with no negative variance, got {variances.min():.3g} along some axis"
        )
    return np.where(variances > 1e-14 * scale, variances, 0.0), axes
