"""Every sampler against exact results: the distribution of its samples and the order of its convergence.

These samplers depend on the times through the noise levels alone, so that real times evenly spaced in λ = ½ log SNR are
a smooth list for any interpolation between the integer times.
"""

from itertools import pairwise
from math import erf

import numpy as np
import pytest

from minidiff import metrics, schedules
from minidiff.diffusion.denoiser import Denoiser
from minidiff.diffusion.oracles import Gaussian, Mixture, outcome_of
from minidiff.diffusion.samplers import (
    ddim,
    ddpm,
    dpmpp_2m,
    final,
    heun,
    initial_noise,
    invert,
    plms,
    predictor_corrector,
    spaced,
    unipc,
)
from minidiff.diffusion.samplers.langevin import steps as langevin_steps
from minidiff.diffusion.samplers.plms import ADAMS_BASHFORTH

PAPER = schedules.linear()
NORMAL = Gaussian([0.4], [[0.3]])
HILLS = Mixture([0.3, 0.7], [[-1.0], [0.8]], [[[0.09]], [[0.16]]])

# Sampler, options, and the order of its error
ORDERS = [
    (ddim, {}, 1),
    (plms, {}, 2),
    (dpmpp_2m, {}, 2),
    (heun, {}, 2),
    (unipc, {"order": 1, "corrector": False}, 1),
    (unipc, {"order": 2, "corrector": False}, 2),
    (unipc, {"order": 1}, 2),
    (unipc, {"order": 2}, 3),
]
QUIET = [*((sampler, options) for sampler, options, _ in ORDERS), (unipc, {"order": 3})]
NOISY = [
    (ddpm, {"variance": "small"}),
    (ddpm, {"variance": "large"}),
    (ddim, {"eta": 0.5}),
    (ddim, {"eta": 1.0, "sigma_hat": True}),
    (dpmpp_2m, {"sde": True}),
    (heun, {"churn": 20.0}),
    (predictor_corrector, {}),
    (predictor_corrector, {"corrections": 3, "snr": 0.05}),
]


def case_name(case):
    return "-".join([case[0].__name__, *map(str, case[1].values())])


def even_in_log_snr(first, last, steps):
    """Real times from λ = first to λ = last, and then 0."""
    return (*PAPER.time_of(np.exp(2 * np.linspace(first, last, steps + 1))).tolist(), 0)


def cumulative(oracle, t, x):
    """P(x_t ≤ x) of a mixture on the line."""
    at = PAPER.at(t)
    total = np.zeros(x.shape)
    for weight, mean, covariance in zip(oracle.weights, oracle.means, oracle.covariances, strict=True):
        sigma = np.sqrt(at.alpha_bar * covariance[0, 0] + at.one_minus_alpha_bar)
        standard = (x - np.sqrt(at.alpha_bar) * mean[0]) / sigma
        total += weight * 0.5 * (1 + np.vectorize(erf)(standard / np.sqrt(2)))
    return total


def ode_solution(oracle, t, s, x):
    """x_s of the probability-flow ODE from x_t, which in one dimension keeps every quantile; by bisection."""
    level, low, high = cumulative(oracle, t, x), np.full(x.shape, -9.0), np.full(x.shape, 9.0)
    for _ in range(60):
        middle = (low + high) / 2
        below = cumulative(oracle, s, middle) < level
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2


def error_between(sampler, options, oracle, steps, first=-1.5, last=1.5):
    """The error of the sampler between two times inside (0, T)."""
    times = even_in_log_snr(first, last, steps)
    x = np.array([[-1.3], [-0.2], [0.9]])
    denoiser = Denoiser(oracle.network(PAPER), PAPER)
    *_, inside, _ = sampler(denoiser, x, np.random.default_rng(0), times, **options)
    assert inside.t == times[-2]
    return np.abs(inside.x - ode_solution(oracle, times[0], times[-2], x)).max()


@pytest.mark.parametrize("oracle", [NORMAL, HILLS], ids=["normal", "hills"])
@pytest.mark.parametrize("case", ORDERS, ids=case_name)
def test_the_order_of_convergence_is_the_published_one(case, oracle):
    sampler, options, order = case
    errors = [error_between(sampler, options, oracle, steps) for steps in (80, 160, 320)]
    measured = [np.log2(coarse / fine) for coarse, fine in pairwise(errors)]
    assert measured == pytest.approx([order] * 2, abs=0.25)
    assert errors[-1] < {1: 1e-2, 2: 3e-4, 3: 1e-6}[order]


def test_ddim_is_an_euler_step_of_the_ode_in_sigma_over_signal():
    t, s = 700.5, 341.2
    (signal_t, signal_s), (sigma_t, sigma_s) = (
        np.sqrt(a) for a in (PAPER.at([t, s]).alpha_bar, PAPER.at([t, s]).one_minus_alpha_bar)
    )
    x = np.array([[0.3], [-2.0]])
    eps = HILLS.eps(PAPER, x, t)
    step = x / signal_t + (sigma_s / signal_s - sigma_t / signal_t) * eps
    first = next(ddim(Denoiser(HILLS.network(PAPER), PAPER), x, np.random.default_rng(0), (t, s, 0)))
    assert first.x / signal_s == pytest.approx(step, rel=1e-12)


def largest_error(sampler, options, oracle, times):
    """The largest error of mean and standard deviation at any time, against q_t, from q_T on; no sampling (O3)."""
    denoiser = Denoiser(oracle.network(PAPER), PAPER)
    start = oracle.marginal(PAPER, times[0])
    moments = outcome_of(lambda x_T, rng: sampler(denoiser, x_T, rng, times, **options), 1, *start)
    errors = []
    for t, mean, variance in moments:
        right_mean, right_variance = oracle.marginal(PAPER, t)
        errors += [abs(mean - right_mean).item(), abs(variance**0.5 - right_variance**0.5).item()]
    return max(errors)


@pytest.mark.parametrize("case", [*NOISY, *QUIET], ids=case_name)
def test_the_moments_at_every_time_converge_to_the_noised_data(case):
    few, more, many = (largest_error(*case, NORMAL, spaced(PAPER, "logsnr", steps)) for steps in (10, 30, 90))
    langevin = case[0] is predictor_corrector  # its error falls with r, not with the steps
    assert many < (0.02 if langevin else 0.035)
    assert many < more < few or langevin


def test_langevin_steps_keep_a_normal_distribution_up_to_the_step_size():
    """The stationary variance of x' = x − δ/C x + √(2δ) z is C/(1 − δ/2C)."""
    for r in (0.05, 0.16, 0.3):
        _, step = langevin_steps(PAPER, (600, 300, 0), 1, r)[0]
        mean, covariance = NORMAL.marginal(PAPER, 300)
        delta, C = 2 * r**2 * PAPER.one_minus_alpha_bar[300], covariance[0, 0]
        got_mean, got_covariance = NORMAL.outcome(PAPER, [step] * 5000, mean + 1, 2 * covariance)
        assert got_mean == pytest.approx(mean, abs=1e-9)
        assert got_covariance[0, 0] == pytest.approx(C / (1 - delta / (2 * C)), rel=1e-9)


@pytest.mark.parametrize("case", [*NOISY, *QUIET], ids=case_name)
def test_on_a_mixture_many_steps_reach_the_data_and_few_are_worse(case):
    """2000 samples. Two such sets of true data differ by 0.03; the standard deviation of the data is 0.9."""
    sampler, options = case
    denoiser = Denoiser(HILLS.network(PAPER), PAPER)
    data = HILLS.sample(np.random.default_rng(1), 20_000)
    x_T = initial_noise(np.random.default_rng(2), (2000, 1), np.float64)

    def distance(steps):
        times = spaced(PAPER, "logsnr", steps)
        return metrics.wasserstein1(
            final(sampler(denoiser, x_T, np.random.default_rng(3), times, **options)), data
        )

    assert distance(60) < 0.06
    assert distance(4) > distance(60)


@pytest.mark.parametrize("oracle", [NORMAL, HILLS], ids=["normal", "hills"])
def test_inversion_then_sampling_has_an_error_of_first_order(oracle):
    denoiser = Denoiser(oracle.network(PAPER), PAPER)
    x_0 = np.array([[-1.1], [0.3], [0.9]])

    def error(steps):
        times = (*even_in_log_snr(-4.5, 4.6, steps)[:-1], 0)
        noise = final(invert(denoiser, x_0, times))
        return np.abs(final(ddim(denoiser, noise, np.random.default_rng(0), times)) - x_0).max()

    coarse, middle, fine = (error(steps) for steps in (100, 200, 400))
    assert [np.log2(coarse / middle), np.log2(middle / fine)] == pytest.approx([1, 1], abs=0.15)
    assert fine < 0.05


def test_inversion_converges_to_the_noise_of_the_exact_ode():
    denoiser = Denoiser(HILLS.network(PAPER), PAPER)
    x_0 = np.array([[-1.1], [0.3], [0.9]])
    exact = ode_solution(HILLS, 0, 1000, x_0)
    errors = [
        np.abs(final(invert(denoiser, x_0, spaced(PAPER, "logsnr", steps))) - exact).max()
        for steps in (50, 100, 200)
    ]
    assert errors[2] < errors[1] < errors[0] and errors[2] < 0.05


@pytest.mark.parametrize("h", [0.3, 2.35])
@pytest.mark.parametrize(("order", "corrector", "degree"), [(3, False, 2), (2, True, 2), (3, True, 3)])
def test_unipc_is_exact_where_x0_is_a_polynomial_in_lambda(order, corrector, degree, h):
    """x_s/√(1−ᾱ_s) − x_t/√(1−ᾱ_t) = ∫ e^λ x̂_0 dλ, from the step on that has as many x̂_0 as the order."""
    x0 = np.polynomial.Polynomial([0.5, -0.3, 0.2, 0.1][: degree + 1])
    of_integral = sum((-1) ** k * x0.deriv(k) for k in range(degree + 1))  # ∫ e^λ p = e^λ (p − p′ + p″ − …)
    times = even_in_log_snr(-4.9, -4.9 + 4 * h, 4)
    lam, sigma = PAPER.at(times[:-1]).log_snr / 2, np.sqrt(PAPER.at(times[:-1]).one_minus_alpha_bar)
    ahead = np.diff(np.exp(lam) * of_integral(lam))
    denoiser = Denoiser(lambda x, t: np.full_like(x, x0(PAPER.at(t[0]).log_snr / 2)), PAPER, "x0")
    states = unipc(denoiser, np.full((1, 1), 0.7), None, times, order, corrector)
    x = np.array([state.x.item() for state in states][:-1]) / sigma[1:]
    start = order - 1
    assert np.diff(x)[start - 1 :] == pytest.approx(ahead[start:], rel=1e-9)


@pytest.mark.parametrize("weights", ADAMS_BASHFORTH, ids=len)
def test_the_weights_of_plms_are_exact_for_polynomials(
    weights,
):
    """The mean of u^k over [0, 1] is 1/(k+1), from its values at u = 0, −1, −2, …"""
    at = -np.arange(len(weights))
    for k in range(len(weights)):
        assert np.dot(weights, at**k) == pytest.approx(1 / (k + 1), rel=1e-12)
