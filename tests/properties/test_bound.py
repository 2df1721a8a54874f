"""The bound on −log p_θ(x_0) (EQUATIONS.md V1–V7) and the rate–distortion curve of its terms (S8).

On Gaussian data the exact x̂_0 is affine, so every term is a quadratic in x_0 and in the noise. The mean of a quadratic
over N(0, 1) is its mean over −1 and 1: the expectations of the package's own functions are exact, with no sampling.
"""

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from mathematics import any_schedule, assert_close, gentle_schedule, log_normal

from minidiff import likelihood, noising, schedules
from minidiff.diffusion.denoiser import Denoiser
from minidiff.diffusion.oracles import Gaussian
from minidiff.diffusion.samplers.ancestral import steps as ddpm_steps

seeds = st.integers(0, 2**32 - 1)
variances = st.sampled_from(["small", "large"])
LEVELS = np.arange(256) / 127.5 - 1


def signs(D):
    """All of {−1, 1}^D, (2^D, D)."""
    return np.array(list(itertools.product([-1.0, 1.0], repeat=D)))


def exact_denoiser(gaussian, schedule):
    return Denoiser(gaussian.network(schedule, "x0"), schedule, prediction="x0")


def expected_terms(gaussian, schedule, sigma2, x0):
    """E_q of L_T, of L_{t−1} for t = 2…T (T−1,) and of L_0, averaged over the points x0 (N, D)."""
    denoiser, eps = exact_denoiser(gaussian, schedule), signs(gaussian.dim)
    clean, noise = np.repeat(x0, len(eps), axis=0), np.tile(eps, (len(x0), 1))
    t = np.repeat(np.arange(2, schedule.T + 1), len(clean))
    many, noises = np.tile(clean, (schedule.T - 1, 1)), np.tile(noise, (schedule.T - 1, 1))
    x_t, x_1 = noising.diffuse(schedule, many, t, noises), noising.diffuse(schedule, clean, 1, noise)
    steps = likelihood.step_term(denoiser, many, x_t, t, sigma2).reshape(schedule.T - 1, -1).mean(axis=1)
    prior = likelihood.prior_term(schedule, clean).mean()
    return prior, steps, likelihood.data_term(denoiser, clean, x_1, sigma2).mean()


def data_points(gaussian):
    """Points over which the mean of any quadratic is its expectation."""
    return gaussian.mean + signs(gaussian.dim) @ np.linalg.cholesky(gaussian.covariance).T


def gap(gaussian, schedule, sigma2):
    """How far the expected bound lies above the entropy of the data, in nats per dimension."""
    prior, steps, data = expected_terms(gaussian, schedule, sigma2, data_points(gaussian))
    entropy = np.linalg.slogdet(2 * np.pi * np.e * gaussian.covariance)[1] / 2
    return (prior + steps.sum() + data - entropy) / gaussian.dim


def with_first(schedule, variance, first):
    """σ_t² by name, with the given σ_1²."""
    sigma2 = likelihood.step_variances(schedule, variance).copy()
    sigma2[1] = first
    return sigma2


# ---- V1


@given(gentle_schedule(min_T=2, max_T=6), st.floats(0.1, 2), st.floats(-1, 1), st.floats(-2, 2), variances)
def test_V1_the_bound_is_the_nll_plus_the_kl_between_paths(schedule, spread, mean, x0, variance):
    """The sum of terms on one side, the joint Gaussians of all x_1…x_T on the other."""
    gaussian, T = Gaussian([mean], [[spread**2]]), schedule.T
    sigma2 = likelihood.step_variances(schedule, variance)
    prior, steps, data = expected_terms(gaussian, schedule, sigma2, np.array([[x0]]))

    # p_θ: (x_T, …, x_0) = offset + root · (T+1 independent normals)
    offset, root = np.zeros(T + 1), np.zeros((T + 1, T + 1))
    root[0, 0] = 1
    for k, step in enumerate(ddpm_steps(schedule), start=1):
        A, b = gaussian.affine(schedule, step)
        offset[k], root[k] = A.item() * offset[k - 1] + b.item(), A.item() * root[k - 1]
        root[k, k] = np.sqrt(sigma2[step.t])
    covariance = root @ root.T
    nll = -log_normal(x0, offset[-1], covariance[-1, -1])
    gain = covariance[:-1, -1] / covariance[-1, -1]
    p_mean = offset[:-1] + gain * (x0 - offset[-1])
    p_covariance = covariance[:-1, :-1] - np.outer(gain, covariance[-1, :-1])

    alpha_bar, noise = schedule.alpha_bar[:0:-1], schedule.one_minus_alpha_bar[:0:-1]
    q_covariance = np.zeros((T, T))
    for i, j in itertools.product(range(T), repeat=2):
        i, j = min(i, j), max(i, j)  # x_i is noisier
        q_covariance[i, j] = q_covariance[j, i] = np.sqrt(alpha_bar[i] / alpha_bar[j]) * noise[j]
    difference = p_mean - np.sqrt(alpha_bar) * x0
    kl = (
        np.trace(np.linalg.solve(p_covariance, q_covariance))
        - T
        + difference @ np.linalg.solve(p_covariance, difference)
    )
    kl += np.linalg.slogdet(p_covariance)[1] - np.linalg.slogdet(q_covariance)[1]
    scale = np.linalg.cond(p_covariance) * (1 + np.abs(nll))
    assert kl >= -1e-12 * scale
    assert_close(prior + steps.sum() + data, nll + kl / 2, scale)


@given(gentle_schedule(min_T=2, max_T=100), seeds, variances)
def test_V1_with_the_exact_eps_the_bound_is_above_the_entropy_of_the_data(schedule, seed, variance):
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((2, 2)) * 10 ** rng.uniform(-1, 0.5)
    gaussian = Gaussian(rng.standard_normal(2), root @ root.T + 1e-3 * np.eye(2))
    assert gap(gaussian, schedule, likelihood.step_variances(schedule, variance)) > 0


def test_V1_the_bound_closes_with_beta_and_keeps_a_gap_of_half_gamma_with_beta_tilde():
    gaussian = Gaussian([0.3], [[0.25]])
    large, small = {}, {}
    for T in (400, 3200, 25_600):
        schedule = schedules.constant(T, 12 / T)
        first = schedule.beta[1]
        large[T] = gap(gaussian, schedule, with_first(schedule, "large", first))
        small[T] = gap(gaussian, schedule, with_first(schedule, "small", first))
    assert large[400] > 7 * large[3200] > 49 * large[25_600] > 0 and large[25_600] < 0.01
    assert small[25_600] == pytest.approx(np.euler_gamma / 2, abs=0.01)
    assert abs(small[25_600] - np.euler_gamma / 2) < abs(small[3200] - np.euler_gamma / 2) / 3
    # σ_1² = β̃_2, the choice for images, is about β_1/2 and costs ½(1 − log 2) more on continuous data
    named = gap(gaussian, schedule, likelihood.step_variances(schedule, "large"))
    assert named - large[25_600] == pytest.approx((1 - np.log(2)) / 2, abs=0.01)


def test_V1_the_sampled_bound_has_that_expectation():
    """20 000 draws; the tolerance is five standard errors."""
    gaussian, schedule = Gaussian([0.3, -0.2], [[0.5, 0.2], [0.2, 0.3]]), schedules.linear(8, 0.05, 0.6)
    x0 = np.tile([[0.7, -0.4]], (20_000, 1))
    for variance in ("small", "large"):
        got = likelihood.bound(exact_denoiser(gaussian, schedule), x0, np.random.default_rng(0), variance)
        prior, steps, data = expected_terms(gaussian, schedule, variance, x0[:1])
        for draws, expected in zip(got, (prior, steps.sum(), data), strict=True):
            assert draws.mean() == pytest.approx(expected, abs=5 * draws.std() / np.sqrt(len(x0)) + 1e-12)
        assert_close(got.total, got.prior + got.steps + got.data)


def test_V1_erratum_with_an_extra_factor_q_the_kl_may_be_negative():
    x = np.linspace(-12, 12, 100_001)
    q, log_ratio = np.exp(log_normal(x, 0, 1)), log_normal(x, 0, 1) - log_normal(x, 0, 0.5)
    h = x[1] - x[0]
    kl = np.sum(q * log_ratio) * h
    assert kl == pytest.approx(likelihood.gaussian_kl(0.0, 1.0, 0.0, 0.5), abs=1e-10)
    assert kl == pytest.approx(0.1534, abs=1e-4)
    printed = np.sum(q * q * log_ratio) * h  # E_q[q · log q/p]
    assert printed == pytest.approx(-0.0272, abs=1e-4)
    assert log_ratio[len(x) // 2] < -0.3  # and a log-ratio at one point is not a KL


# ---- V2


@given(any_schedule(), seeds)
def test_V2_the_prior_term_is_the_closed_form(schedule, seed):
    x0 = 3 * np.random.default_rng(seed).standard_normal((4, 2, 3))
    alpha_bar, log_noise = schedule.alpha_bar[-1], np.log(schedule.one_minus_alpha_bar[-1])
    expected = ((alpha_bar * x0**2 - alpha_bar - log_noise) / 2).sum(axis=(1, 2))
    got = likelihood.prior_term(schedule, x0)
    assert_close(got, expected, scale=6.0)
    assert np.all(got >= -6e-12)


def test_V2_is_about_1e_5_bits_per_dim_for_the_paper_schedule_on_images():
    images = np.random.default_rng(0).choice(LEVELS, (4, 16, 16, 3))
    bits = likelihood.bits_per_dim(likelihood.prior_term(schedules.linear(), images), images)
    assert np.all((bits > 0.8e-5) & (bits < 1.2e-5))
    white = np.ones((1, 16, 16, 3))
    assert likelihood.bits_per_dim(likelihood.prior_term(schedules.linear(), white), white) < 3e-5


# ---- V3


def paths(schedule, rng, n=3):
    """Arbitrary x_0…x_T, (T+1, n): identities in log space hold for any path."""
    return rng.standard_normal((schedule.T + 1, n)) * 2


@given(any_schedule(min_T=2, max_T=60, extreme=6.0), seeds)
def test_V3_the_forward_and_backward_factorisations_of_q_agree(schedule, seed):
    x = paths(schedule, np.random.default_rng(seed))
    forwards = backwards = ratios = largest = 0.0
    for t in range(1, schedule.T + 1):
        step = log_normal(x[t], np.sqrt(schedule.alpha[t]) * x[t - 1], schedule.beta[t])
        forwards, largest = forwards + step, largest + np.abs(step)
    for t in range(2, schedule.T + 1):
        step = log_normal(x[t - 1], *noising.posterior(schedule, x[0], x[t], t))
        backwards, largest = backwards + step, largest + np.abs(step)
        before, now = (log_normal(x[s], *noising.marginal(schedule, x[0], s)) for s in (t - 1, t))
        ratios, largest = ratios + now - before, largest + np.abs(now) + np.abs(before)
    first, last = (log_normal(x[t], *noising.marginal(schedule, x[0], t)) for t in (1, schedule.T))
    assert_close(ratios, last - first, largest)
    # the largest terms are squares over a variance, each with rounding errors of its own
    assert_close(forwards, backwards + last, 10 * largest + 100 / schedule.one_minus_alpha_bar[1])


def log_ratios(schedule, x, x0_of):
    """log q(x_{1:T}|x_0)/p_θ(x_{0:T}) along a path, and its decomposition as in V1: prior, steps, data."""
    sigma2 = likelihood.step_variances(schedule, "large")
    whole = -log_normal(x[schedule.T], 0, 1)
    steps = 0.0
    for t in range(1, schedule.T + 1):
        model = log_normal(x[t - 1], noising.posterior(schedule, x0_of(x[t], t), x[t], t)[0], sigma2[t])
        whole += log_normal(x[t], np.sqrt(schedule.alpha[t]) * x[t - 1], schedule.beta[t]) - model
        if t >= 2:
            steps += log_normal(x[t - 1], *noising.posterior(schedule, x[0], x[t], t)) - model
        else:
            data = -model
    prior = log_normal(x[-1], *noising.marginal(schedule, x[0], schedule.T)) - log_normal(x[-1], 0, 1)
    return whole, prior, steps, data


@given(gentle_schedule(min_T=2, max_T=40), seeds)
def test_V3_the_log_ratio_of_a_path_is_the_sum_of_prior_step_and_data_terms(schedule, seed):
    x = paths(schedule, np.random.default_rng(seed))
    whole, prior, steps, data = log_ratios(schedule, x, lambda x_t, t: np.tanh(x_t) + 0.01 * t)
    largest = np.abs(whole) + np.abs(prior) + np.abs(steps) + np.abs(data)
    assert_close(whole, prior + steps + data, 10 * largest + 100 / schedule.one_minus_alpha_bar[1])
    # The erratum drops 1/p_θ(x_0|x_1) at t = 1: the difference is exactly that term
    assert_close(whole - (prior + steps), data, 10 * largest + 100 / schedule.one_minus_alpha_bar[1])
    assert np.all(np.abs(data) > 1e-6)


def test_V3_erratum_without_the_data_term_the_sum_is_no_bound():
    """Wide data and few, large steps: L_0 is half of the bound."""
    gaussian, schedule = Gaussian([0.0], [[9.0]]), schedules.constant(20, 0.4)
    prior, steps, data = expected_terms(gaussian, schedule, "large", data_points(gaussian))
    entropy = np.log(2 * np.pi * np.e * 9.0) / 2
    assert prior + steps.sum() + data > entropy
    assert prior + steps.sum() < entropy - 0.5


# ---- V4 and V5


@given(st.floats(-2, 2), st.floats(0.05, 3), st.floats(-2, 2), st.floats(0.05, 3))
def test_V4_the_kl_of_two_gaussians_equals_the_integral(mean, sigma, other_mean, other_sigma):
    x, h = np.linspace(mean - 12 * sigma, mean + 12 * sigma, 4001, retstep=True)
    log_q, log_p = log_normal(x, mean, sigma**2), log_normal(x, other_mean, other_sigma**2)
    integral = np.sum(np.exp(log_q) * (log_q - log_p)) * h
    largest = 1 + ((mean - other_mean) ** 2 + sigma**2) / other_sigma**2
    assert_close(likelihood.gaussian_kl(mean, sigma**2, other_mean, other_sigma**2), integral, largest)


@given(any_schedule(min_T=2), st.data(), variances, seeds)
def test_V4_is_the_squared_distance_of_the_means_plus_a_constant_in_theta(schedule, data, variance, seed):
    t = data.draw(st.integers(2, schedule.T))
    rng = np.random.default_rng(seed)
    x0, x_t, guess = rng.standard_normal((3, 4, 2, 3))
    got = likelihood.step_term(Denoiser(lambda x, t: guess, schedule, "x0"), x0, x_t, t, variance)
    beta_tilde = schedule.posterior_variance[t]
    sigma2 = beta_tilde if variance == "small" else schedule.beta[t]
    from_x0 = np.sqrt(schedule.alpha_bar[t - 1]) * schedule.beta[t] / schedule.one_minus_alpha_bar[t]
    distance = (from_x0**2 * (x0 - guess) ** 2).sum(axis=(1, 2)) / (2 * sigma2)
    constant = 3 * (beta_tilde / sigma2 - 1 - np.log(beta_tilde / sigma2))
    # beside the width of the step, the two means are close to each other and far from 0
    scale = ((np.abs(x0) + np.abs(guess) + np.abs(x_t)) ** 2).sum(axis=(1, 2)) / sigma2
    assert_close(got, distance + constant, scale + 6 * (1 + abs(np.log(beta_tilde / sigma2))))


@given(any_schedule(min_T=2), st.data(), variances, seeds)
def test_V5_in_eps_the_step_term_has_the_weight_of_the_paper(schedule, data, variance, seed):
    t = data.draw(st.integers(2, schedule.T))
    assume(schedule.alpha_bar[t] > 1e-12)
    x0, eps, guess = np.random.default_rng(seed).standard_normal((3, 4, 2, 3))
    x_t = noising.diffuse(schedule, x0, t, eps)
    sigma2 = schedule.posterior_variance[t] if variance == "small" else schedule.beta[t]
    weight = schedule.beta[t] ** 2 / (2 * sigma2 * schedule.alpha[t] * schedule.one_minus_alpha_bar[t])
    assert_close(likelihood.eps_weights(schedule, variance)[t], weight)

    def term(output):
        return likelihood.step_term(Denoiser(lambda x, t: output, schedule), x0, x_t, t, variance)

    scale = ((np.abs(x0) + np.abs(eps) + np.abs(guess)) ** 2).sum(axis=(1, 2)) / sigma2 / schedule.alpha[t]
    assert_close(term(guess) - term(eps), weight * ((eps - guess) ** 2).sum(axis=(1, 2)), scale)


# ---- V6


@given(st.floats(-4, 4), st.floats(-9, 9))
def test_V6_the_masses_of_the_256_levels_sum_to_1(mean, log_sigma):
    log_mass = likelihood.log_level_mass(LEVELS, np.full(256, mean), np.exp(2 * log_sigma))
    assert log_mass.shape == (256,) and np.all(log_mass <= 0)
    assert abs(np.exp(log_mass).sum() - 1) < 1e-12


@given(st.integers(1, 254), st.floats(-4, 4), st.floats(np.log(0.003), np.log(5.0)))
def test_V6_a_mass_is_the_integral_over_its_bin_even_in_the_far_tails(level, mean, log_sigma):
    sigma, x = np.exp(log_sigma), LEVELS[level]
    low, high = sorted(((x - 1 / 255 - mean) / sigma, (x + 1 / 255 - mean) / sigma), key=abs)  # near, far
    if low * high > 0:  # the mean is outside: beyond 40/|z| from the near edge there is no mass
        high = low + np.sign(high - low) * min(abs(high - low), 40 / abs(low))
    nodes, weights = np.polynomial.legendre.leggauss(100)
    z = low + (nodes + 1) / 2 * (high - low)
    integral = np.sum(weights * np.exp((low**2 - z**2) / 2)) * abs(high - low) / 2
    expected = np.log(integral) - low**2 / 2 - np.log(2 * np.pi) / 2
    got = likelihood.log_level_mass(np.array([x]), np.array([mean]), sigma**2)[0]
    # the difference of two Φ loses digits where a bin is narrow beside σ
    assert_close(got, expected, 1 + sigma + abs(low) * (1 + abs(mean)) / sigma)


def test_V6_the_end_bins_are_open_and_the_far_tails_have_a_finite_logarithm():
    ends = np.array([-1.0, 1.0])
    beyond = likelihood.log_level_mass(ends, np.array([-50.0, 50.0]), 0.01)
    assert np.array_equal(beyond, [0.0, 0.0])
    far = likelihood.log_level_mass(ends, np.array([1.0, -1.0]), 1e-6)  # 1996 standard deviations away
    z = (2 - 1 / 255) / 1e-3
    assert_close(far, -(z**2) / 2 - np.log(z * np.sqrt(2 * np.pi)), tolerance=1e-10)
    assert_close(
        likelihood.log_level_mass(LEVELS, 0 * LEVELS, 0.04),
        likelihood.log_level_mass(-LEVELS, 0 * LEVELS, 0.04),
    )


def test_V6_no_digits_are_lost_where_one_formula_replaces_another():
    for z in (29.9, 30.1, 31.0, 35.0):  # an open bin is one Φ, still within the range of erfc
        got = likelihood.log_level_mass(np.array([-1.0]), np.array([-1 + 1 / 255 + z * 0.1]), 0.01)
        assert got.item() == pytest.approx(math.log(math.erfc(z / math.sqrt(2)) / 2), abs=1e-10)
    sigma = 1 / 255 / 19  # nearly all of the mass in one bin: the remainder is accurate too
    got = likelihood.log_level_mass(LEVELS[100:101], LEVELS[100:101], sigma**2)
    assert_close(got, -math.erfc(19 / math.sqrt(2)), tolerance=1e-10)


@given(seeds, st.floats(-5, 0))
def test_V6_the_data_term_of_images_is_the_sum_of_the_log_masses_at_sigma_1(seed, log_sigma):
    rng, schedule = np.random.default_rng(seed), schedules.linear(50)
    x0, guess = rng.choice(LEVELS, (3, 4, 4, 1)), rng.uniform(-1, 1, (3, 4, 4, 1))
    denoiser = Denoiser(lambda x, t: guess, schedule, "x0")
    sigma2 = with_first(schedule, "small", np.exp(2 * log_sigma))
    got = likelihood.data_term(denoiser, x0, x0, sigma2, levels=256)
    assert_close(got, -likelihood.log_level_mass(x0, guess, sigma2[1]).sum(axis=(1, 2, 3)))


# ---- V7


@given(any_schedule(min_T=2), variances, seeds)
def test_V7_the_data_term_is_V5_at_t_1_up_to_a_constant(schedule, variance, seed):
    assume(schedule.alpha_bar[1] > 1e-12)
    x0, eps, guess = np.random.default_rng(seed).standard_normal((3, 4, 5))
    x_1 = noising.diffuse(schedule, x0, 1, eps)
    sigma2, alpha = likelihood.step_variances(schedule, variance)[1], schedule.alpha[1]
    assert sigma2 == schedule.posterior_variance[2]
    weight = schedule.beta[1] / (2 * alpha * sigma2)
    assert_close(likelihood.eps_weights(schedule, variance)[1], weight)
    got = likelihood.data_term(Denoiser(lambda x, t: guess, schedule), x0, x_1, variance)
    constant = 2.5 * np.log(2 * np.pi * sigma2)
    scale = ((np.abs(x0) + np.abs(eps) + np.abs(guess)) ** 2).sum(axis=1) / sigma2 / alpha
    assert_close(got, weight * ((eps - guess) ** 2).sum(axis=1) + constant, scale + abs(constant))


def test_V7_erratum_x_t_in_place_of_x_1_costs_thousands_of_nats():
    """ε_θ(√ᾱ_t x_0 + √(1−ᾱ_t) ε, 1) as printed, with the exact network for a peak as narrow as those of S5."""
    gaussian, schedule = Gaussian([0.0], [[0.01**2]]), schedules.linear()
    denoiser, x0 = exact_denoiser(gaussian, schedule), data_points(gaussian)
    clean, eps = np.repeat(x0, 2, axis=0), np.tile(signs(1), (2, 1))

    def cost(t):
        eps_theta = denoiser(noising.diffuse(schedule, clean, t, eps), 1).eps
        return likelihood.eps_weights(schedule)[1] * np.mean((eps - eps_theta) ** 2)

    assert cost(1) == pytest.approx(0.46, abs=0.01)
    assert cost(500) > 1000


# ---- S8


def test_S8_the_rate_rises_the_distortion_falls_and_shannons_bound_holds():
    """No code for N(0, s²) has a distortion D at less than ½ log(s²/D) nats; with σ_t² = β_t the chain comes close."""
    gaussian, T = Gaussian([0.0], [[0.25]]), 1000
    schedule = schedules.linear(T)
    prior, steps, _ = expected_terms(gaussian, schedule, "large", data_points(gaussian))
    rate = prior + np.cumsum(steps[::-1])  # once x_{T−1}, …, x_1 are known
    t = np.arange(T - 1, 0, -1)
    alpha_bar, noise = schedule.alpha_bar[t], schedule.one_minus_alpha_bar[t]
    distortion = 0.25 * noise / (alpha_bar * 0.25 + noise)  # E(x_0 − x̂_0(x_t))²
    shannon = np.log(0.25 / distortion) / 2
    assert np.all(np.diff(rate) > 0) and np.all(np.diff(distortion) < 0)
    assert np.all(rate >= shannon)
    assert np.all(rate - shannon < 0.002)
