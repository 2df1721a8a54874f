"""The bound on −log p_θ(x_0): what a diffusion model pays, in nats, to describe its data (EQUATIONS.md V1–V7).

The model's chain starts from p(x_T) = N(0, I), with reverse steps p_θ(x_{t−1}|x_t) = N(μ_θ(x_t, t), σ_t² I). Its
likelihood is an integral over all paths; its negative logarithm is bounded from above by a sum along the paths of q,

    V1   −log p_θ(x_0) ≤ E_q[L_T + Σ_{t≥2} L_{t−1} + L_0]
    V2   L_T = KL(q(x_T|x_0) ‖ N(0, I))                       has no parameters
    V4   L_{t−1} = KL(q(x_{t−1}|x_t, x_0) ‖ N(μ_θ, σ_t² I)) = ‖μ̃_t − μ_θ‖²/2σ_t² + terms independent of θ
    V5   ‖μ̃_t − μ_θ‖²/2σ_t² = β_t²/(2σ_t² α_t (1−ᾱ_t)) ‖ε − ε_θ‖²
    V6   L_0 = −log p_θ(x_0|x_1): for images, the mass of a level's bin; for continuous data, a density

since by Bayes the product of the q(x_t|x_{t−1}) is that of the q(x_{t−1}|x_t, x_0) times q(x_T|x_0) (V3). E_q matters:
the log-ratio along a single path is not a KL divergence, and may be negative.

x_0 is a float array (B, …); a term is (B,) float64, summed over coordinates. Only x_t is sampled: given x_t, each
term has a closed form.

Read from T down, the same terms are a code length: L_T + Σ_{s>t} L_{s−1} nats transmit x_t to a receiver, who estimates
x̂_0 from it. Its error against x_0, as a function of the nats paid, is the rate–distortion curve (S8).
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from minidiff.diffusion import noising
from minidiff.diffusion.denoiser import Denoiser, Prediction
from minidiff.diffusion.schedules import Schedule

Variance = str | np.ndarray


class Bound(NamedTuple):
    """The three terms of V1, each (B,) in nats: L_T, Σ_{t≥2} L_{t−1} and L_0."""

    prior: np.ndarray
    steps: np.ndarray
    data: np.ndarray

    @property
    def total(self) -> np.ndarray:
        """Their sum, whose expectation over x_t is at least −log p_θ(x_0)."""
        total: np.ndarray = self.prior + self.steps + self.data
        return total


def bound(
    denoiser: Denoiser,
    x0: np.ndarray,
    rng: np.random.Generator,
    variance: Variance = "small",
    levels: int | None = None,
    strata: Sequence[int] | None = None,
) -> Bound:
    """L_T + Σ L_{t−1} + L_0 of each x_0, with one x_t drawn for each t (V1).

    variance: see `step_variances`. levels: see `data_term`. strata: see `chain`. Raises what those raise.
    """
    costs = chain(denoiser, x0, rng, variance, strata)
    x_1 = noising.diffuse(denoiser.schedule, _double(x0), 1, rng.standard_normal(x0.shape))
    data = data_term(denoiser, x0, x_1, variance, levels)
    return Bound(prior_term(denoiser.schedule, x0), (costs.width[:, None] * costs.step).sum(axis=0), data)


class Costs(NamedTuple):
    """What the chain pays, stratum by stratum from T down: K strata of times for each of B samples.

    width (K,): the number of times in each. step (K, B): L_{t−1} in nats at one t of it. distortion (K, B): the mean
    over coordinates of (x_0 − x̂_0(x_t))².
    """

    width: np.ndarray
    step: np.ndarray
    distortion: np.ndarray


def chain(
    denoiser: Denoiser,
    x0: np.ndarray,
    rng: np.random.Generator,
    variance: Variance = "small",
    strata: Sequence[int] | None = None,
) -> Costs:
    """L_{t−1} for t from T down to 2, and the distortion of x̂_0 there.

    strata: strictly decreasing from T to 1; the times t with strata[k] ≥ t > strata[k+1] are one stratum, in which a t
    is drawn for each sample. Its L_{t−1} times the width of the stratum is an unbiased estimate of the sum over the
    stratum, for one evaluation of the network. None: every t is a stratum. Raises ValueError for other strata.
    """
    schedule, x0 = denoiser.schedule, _double(x0)
    edges = tuple(range(schedule.T, 0, -1) if strata is None else strata)
    if not (edges and edges[0] == schedule.T and edges[-1] == 1 and all(a > b for a, b in pairwise(edges))):
        raise ValueError(f"expected strata that fall strictly from T = {schedule.T} to 1, got {edges!s:.80}")
    width = -np.diff(edges)
    step, distortion = np.empty((2, len(width), len(x0)))
    for k, (top, bottom) in enumerate(pairwise(edges)):
        t = rng.integers(bottom + 1, top + 1, len(x0))
        x_t = noising.diffuse(schedule, x0, t, rng.standard_normal(x0.shape))
        prediction = denoiser(x_t, t)
        step[k] = _step_cost(schedule, prediction, x0, x_t, t, variance)
        distortion[k] = _per_sample((x0 - prediction.x0) ** 2) / math.prod(x0.shape[1:])
    return Costs(width, step, distortion)


def rate_distortion(schedule: Schedule, x0: np.ndarray, costs: Costs) -> tuple[np.ndarray, np.ndarray]:
    """Rate, in nats per sample, and distortion, both (K,), averaged over samples: the curve of S8, from T down.

    The rate is what is paid until x_t is known: L_T and all L_{s−1} with s > t. Of the stratum of t itself it counts
    (width − 1)/2 terms, the expected number before the t drawn; it is exact where every t is a stratum.
    """
    step = costs.step.mean(axis=1)
    before = np.cumsum(costs.width * step) - costs.width * step
    rate = prior_term(schedule, x0).mean() + before + (costs.width - 1) / 2 * step
    return rate, costs.distortion.mean(axis=1)


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """The mean of values (B,) and its standard error, their standard deviation over √B; NaN for one value."""
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return float(values.mean()), float(error)


def bits_per_dim(nats: np.ndarray, x0: np.ndarray) -> np.ndarray:
    """Nats per sample as bits per coordinate of x_0 (B, …): divided by the number of coordinates and by log 2."""
    bits: np.ndarray = nats / (math.prod(x0.shape[1:]) * math.log(2))
    return bits


def prior_term(schedule: Schedule, x0: np.ndarray) -> np.ndarray:
    """L_T = KL(q(x_T|x_0) ‖ N(0, I)) = ½ Σ (ᾱ_T x_0² − ᾱ_T − log(1−ᾱ_T)), (B,) (V2)."""
    mean, variance = noising.marginal(schedule, _double(x0), schedule.T)
    return _per_sample(gaussian_kl(mean, variance, 0.0, 1.0))


def step_term(
    denoiser: Denoiser, x0: np.ndarray, x_t: np.ndarray, t: int | np.ndarray, variance: Variance = "small"
) -> np.ndarray:
    """L_{t−1} = KL(q(x_{t−1}|x_t, x_0) ‖ N(μ_θ(x_t, t), σ_t² I)), (B,), for t in 2…T, one or (B,) (V4).

    μ_θ is the mean of R3 with the denoiser's x̂_0 for x_0. Raises ValueError for another t or shape.
    """
    noising.time_index(denoiser.schedule, t, x0, first=2)
    x_t = _double(x_t)
    return _step_cost(denoiser.schedule, denoiser(x_t, t), _double(x0), x_t, t, variance)


def data_term(
    denoiser: Denoiser,
    x0: np.ndarray,
    x_1: np.ndarray,
    variance: Variance = "small",
    levels: int | None = None,
) -> np.ndarray:
    """L_0 = −log p_θ(x_0|x_1), (B,): the code length of the data itself, given x_1.

    levels: None, for continuous data: the density of N(μ_θ(x_1, 1), σ_1²) at x_0 (up to a constant V7); for images
    the number of levels of a pixel, such as 256: the mass of the bin of x_0 (V6).
    """
    if x_1.shape != x0.shape:
        raise ValueError(f"expected x_0 and x_1 of one shape, got {x0.shape} and {x_1.shape}")
    prediction = denoiser(_double(x_1), 1)
    mean, sigma2 = prediction.x0, _variance_of(denoiser.schedule, prediction, 1, variance)
    if levels is not None:
        return -_per_sample(log_level_mass(x0, mean, sigma2, levels))
    return _per_sample((_double(x0) - mean) ** 2 / sigma2 + np.log(2 * np.pi * sigma2)) / 2


def step_variances(schedule: Schedule, variance: Variance) -> np.ndarray:
    """σ_t² of the model's steps, (T+1,) with 0 at index 0: "small", β̃_t, or "large", β_t; or an array, checked.

    The terms of the bound also take "learned", the variance of `Prediction.log_variance`.

    With either name σ_1² is β̃_2, as in the paper's code. The step to clean data has β̃_1 = 0, with which p_θ(x_0|x_1)
    would have no density; β̃_2 is the smallest nonzero variance of the chain. (A sampler adds no noise there.)

    Raises ValueError for another name, for a schedule of one step, which has no β̃_2, and for an array that is not
    (T+1,) or not positive from index 1 on.
    """
    if isinstance(variance, np.ndarray):
        if variance.shape != (schedule.T + 1,) or not np.all(variance[1:] > 0):
            raise ValueError(
                f"expected σ² of shape ({schedule.T + 1},), positive from t = 1 on, got {variance.shape}"
            )
        return variance
    arrays = {"small": schedule.posterior_variance, "large": schedule.beta}
    if variance not in arrays:
        raise ValueError(
            f'expected variance to be "small" (β̃), "large" (β) or an array of σ², got {variance!r}'
        )
    if schedule.T < 2:
        raise ValueError("one step has no β̃_2 for σ_1²: give the σ² as an array, or take T ≥ 2")
    sigma2 = arrays[variance].copy()
    sigma2[1] = schedule.posterior_variance[2]
    return sigma2


def eps_weights(schedule: Schedule, variance: Variance = "small") -> np.ndarray:
    """β_t²/(2σ_t² α_t (1−ᾱ_t)), (T+1,) with 0 at index 0: what the bound pays for ‖ε − ε_θ‖² (V5; V7 at t = 1).

    Infinite at T where β_T = 1: there ε carries no information about x_0.
    """
    sigma2, weights = step_variances(schedule, variance), np.zeros(schedule.T + 1)
    alpha, beta, noise = schedule.alpha[1:], schedule.beta[1:], schedule.one_minus_alpha_bar[1:]
    with np.errstate(divide="ignore"):
        weights[1:] = beta**2 / (2 * sigma2[1:] * alpha * noise)
    return weights


def gaussian_kl(
    mean: np.ndarray, variance: np.ndarray, other_mean: np.ndarray | float, other_variance: np.ndarray | float
) -> np.ndarray:
    """KL(N(mean, variance) ‖ N(other_mean, other_variance)) of each coordinate, in nats.

    ½ ((μ − μ')²/v' + v/v' − 1 − log(v/v')), with v/v' − 1 computed as (v − v')/v' so that equal variances give 0.
    """
    excess = (variance - other_variance) / other_variance
    ratio = variance / other_variance
    kl: np.ndarray = ((mean - other_mean) ** 2 / other_variance + excess - np.log(ratio)) / 2
    return kl


def log_level_mass(
    x0: np.ndarray, mean: np.ndarray, variance: float | np.ndarray, levels: int = 256
) -> np.ndarray:
    """log of the mass of N(mean, variance) in the bin x_0 ± 1/255; the bins of −1 and 1 extend to ∓∞ (V6).

    All are (B, …), the variance may be one number. The masses of all levels sum to 1, and the logarithm is right even
    for tails whose mass underflows. For n levels the bin is x_0 ± 1/(n−1). Raises ValueError where x_0 is not one of
    the levels −1, −1 + 2/(n−1), …, 1.
    """
    last = levels - 1
    level = np.rint((_double(x0) + 1) / 2 * last)
    centre = 2 * level / last - 1
    if not np.all((level >= 0) & (level <= last) & (np.abs(x0 - centre) < 1e-5)):
        raise ValueError(
            f"expected images whose every pixel is one of the {levels} levels −1 + 2k/{last}, got others"
        )
    half, sigma = 1 / last, np.sqrt(variance)
    low = np.where(level == 0, -np.inf, (centre - half - mean) / sigma)
    high = np.where(level == last, np.inf, (centre + half - mean) / sigma)
    # Φ is accurate in the lower tail and rounds to 1 in the upper: so bins above the mean are mirrored.
    mirrored = centre > mean
    low, high = np.where(mirrored, -high, low), np.where(mirrored, -low, high)
    log_high = _log_cdf(high)
    log_mass: np.ndarray = log_high + np.log1p(-np.exp(_log_cdf(low) - log_high))
    return log_mass


@np.vectorize(otypes=[np.float64])
def _log_cdf(z: float) -> float:
    """log Φ(z) of the standard normal: by erfc, and below −30, where that would underflow, by its asymptotic series."""
    if z < -30:
        w = 1 / (z * z)
        series = math.log1p(-w * (1 - 3 * w * (1 - 5 * w * (1 - 7 * w))))
        return -z * z / 2 - math.log(-z * math.sqrt(2 * math.pi)) + series
    tail = math.erfc(abs(z) / math.sqrt(2)) / 2
    return math.log1p(-tail) if z > 0 else math.log(tail)


def _step_cost(
    schedule: Schedule,
    prediction: Prediction,
    x0: np.ndarray,
    x_t: np.ndarray,
    t: int | np.ndarray,
    variance: Variance,
) -> np.ndarray:
    exact = noising.posterior(schedule, x0, x_t, t)
    mean, _ = noising.posterior(schedule, prediction.x0, x_t, t)
    return _per_sample(gaussian_kl(*exact, mean, _variance_of(schedule, prediction, t, variance)))


def _variance_of(
    schedule: Schedule, prediction: Prediction, t: int | np.ndarray, variance: Variance
) -> np.ndarray:
    """σ_t² of the model's step from t, broadcastable against x."""
    if isinstance(variance, str) and variance == "learned":
        if prediction.log_variance is None:
            raise ValueError('the network has no learned variance: take "small" (β̃) or "large" (β)')
        learned: np.ndarray = np.exp(prediction.log_variance)
        return learned
    return noising.shaped(step_variances(schedule, variance)[t], prediction.x0)


def _per_sample(terms: np.ndarray) -> np.ndarray:
    """The sum over all axes but the first."""
    total: np.ndarray = terms.sum(axis=tuple(range(1, terms.ndim)))
    return total


def _double(x: np.ndarray) -> np.ndarray:
    if not (isinstance(x, np.ndarray) and x.dtype.kind == "f" and x.ndim >= 1):
        raise TypeError(f"expected a float array (B, …), got {getattr(x, 'dtype', type(x).__name__)}")
    return x.astype(np.float64)
