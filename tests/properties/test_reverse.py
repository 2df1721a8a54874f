"""The posterior and the reverse step (EQUATIONS.md R0–R7)."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from mathematics import any_schedule, assert_close, gentle_schedule, log_normal

from minidiff import noising, schedules
from minidiff.diffusion.denoiser import Denoiser
from minidiff.diffusion.oracles import Gaussian, mixture1d
from minidiff.diffusion.samplers import ddpm, final, initial_noise
from minidiff.diffusion.samplers.ancestral import steps as ddpm_steps

values = st.floats(-5, 5)


def test_R0_the_recursion_is_the_integral_over_all_paths():
    """∫ p(x_t) p_θ(x_{t−1}|x_t) dx_t on a grid, one t after another, with μ_θ from the exact ε by R3."""
    schedule, data = schedules.linear(4, 0.1, 0.6), Gaussian([0.4], [[0.3]])
    x, width = np.linspace(-9, 9, 1801, retstep=True)
    density, plan = np.exp(log_normal(x, 0, 1)), ddpm_steps(schedule)
    for k, t in enumerate((4, 3, 2, 1)):
        x0 = noising.x0_from_eps(schedule, x[:, None], data.eps(schedule, x[:, None], t), t)
        mean, variance = noising.posterior(schedule, x0, x[:, None], t)
        got_mean, got_variance = (a.item() for a in data.outcome(schedule, plan[: k + 1]))
        if t > 1:
            density = width * np.exp(log_normal(x[:, None], mean[:, 0], variance.item())) @ density
            assert density == pytest.approx(np.exp(log_normal(x, got_mean, got_variance)), abs=1e-10)
        else:  # the last step adds no noise
            x0_mean = width * density @ mean[:, 0]
            assert got_mean == pytest.approx(x0_mean, rel=1e-10)
            assert got_variance == pytest.approx(width * density @ (mean[:, 0] - x0_mean) ** 2, rel=1e-10)


@given(any_schedule(min_T=2), st.data(), values, values, st.lists(values, min_size=2, max_size=4))
def test_R1_bayes_rule_holds_and_R6_its_constant_is_the_same_at_every_x(schedule, data, x_t, x0, xs):
    t = data.draw(st.integers(2, schedule.T))
    x_prev, x_t, x0 = np.array(xs), np.full(len(xs), x_t), np.full(len(xs), x0)
    mean, variance = noising.posterior(schedule, x0, x_t, t)
    alpha, beta = schedule.alpha[t], schedule.beta[t]
    before_mean, before_variance = noising.marginal(schedule, x0, t - 1)
    marginal_mean, marginal_variance = noising.marginal(schedule, x0, t)
    left = log_normal(x_prev, mean, variance)
    product = log_normal(x_t, np.sqrt(alpha) * x_prev, beta) + log_normal(
        x_prev, before_mean, before_variance
    )
    # The largest term is an exponent: a squared difference divided by a variance.
    scale = 100 * (1 / variance + 1 / beta + 1 / before_variance)
    assert_close(left, product - log_normal(x_t, marginal_mean, marginal_variance), scale)
    constant = product - left
    assert_close(constant, constant[0], scale)


def test_R1_erratum_without_x0_the_posterior_is_twice_as_wide_at_t_2():
    """The variance of q(x_{t−1}|x_t) over that of q(x_{t−1}|x_t, x_0), N(0, ½²) data: 1 only in the limit of noise."""
    schedule = schedules.linear()
    marginal = schedule.alpha_bar * 0.25 + schedule.one_minus_alpha_bar
    ratio = schedule.beta[2:] * marginal[1:-1] / marginal[2:] / schedule.posterior_variance[2:]
    assert ratio[0] == pytest.approx(2.198, abs=1e-3) and ratio[10 - 2] == pytest.approx(1.172, abs=1e-3)
    assert np.all(ratio > 1) and ratio[500 - 2] < 1.001


@given(any_schedule())
def test_R2_both_forms_of_the_posterior_variance_agree(schedule):
    assert schedule.posterior_variance[0] == schedule.posterior_variance[1] == 0
    beta, alpha, before = schedule.beta[2:], schedule.alpha[2:], schedule.one_minus_alpha_bar[1:-1]
    assert_close(schedule.posterior_variance[2:], 1 / (alpha / beta + 1 / before))
    t = np.arange(1, schedule.T + 1)
    _, variance = noising.posterior(schedule, np.zeros(len(t)), np.zeros(len(t)), t)
    assert np.array_equal(variance, schedule.posterior_variance[1:])


def test_R2_erratum_beta_tilde_as_a_standard_deviation_gives_almost_no_noise():
    schedule, data = schedules.linear(), Gaussian([0.0], [[0.25]])
    right = ddpm_steps(schedule)
    wrong = [step._replace(sigma=step.sigma**2) for step in right]
    assert data.outcome(schedule, right)[1].item() == pytest.approx(0.25, rel=0.02)
    assert data.outcome(schedule, wrong)[1].item() < 0.25 / 100


@given(any_schedule(min_T=2), st.data(), values, values)
def test_R3_the_mean_maximises_the_right_side_of_bayes_rule(schedule, data, x_t, x0):
    t = data.draw(st.integers(2, schedule.T))
    mean = noising.posterior(schedule, np.array([x0]), np.array([x_t]), t)[0].item()
    alpha, beta, before = schedule.alpha[t], schedule.beta[t], schedule.one_minus_alpha_bar[t - 1]
    from_step = np.sqrt(alpha) * (x_t - np.sqrt(alpha) * mean) / beta
    from_data = (np.sqrt(schedule.alpha_bar[t - 1]) * x0 - mean) / before
    scale = (abs(x_t) + abs(mean)) / beta + (abs(x0) + abs(mean)) / before
    assert_close(from_step, -from_data, scale)


def test_R3_erratum_completing_the_square_without_the_minus_flips_the_mean():
    schedule, t, x_t, x0 = schedules.linear(), 500, 0.8, 0.5
    # A x² + B x in x = x_{t−1}, from the exponents of R1
    A = -0.5 * (schedule.alpha[t] / schedule.beta[t] + 1 / schedule.one_minus_alpha_bar[t - 1])
    from_x0 = np.sqrt(schedule.alpha_bar[t - 1]) * x0 / schedule.one_minus_alpha_bar[t - 1]
    B = np.sqrt(schedule.alpha[t]) * x_t / schedule.beta[t] + from_x0
    mean = noising.posterior(schedule, np.array([x0]), np.array([x_t]), t)[0].item()
    assert mean == pytest.approx(-B / (2 * A), rel=1e-12)
    assert mean != pytest.approx(B / (2 * A), abs=1.0)


@given(any_schedule(extreme=8.0), st.data(), values, values)
def test_R4_the_mean_in_terms_of_eps_equals_the_mean_in_terms_of_x0(schedule, data, x_t, eps):
    t = data.draw(st.integers(1, schedule.T))
    assume(schedule.alpha_bar[t] > 1e-12)
    x_t, eps = np.array([x_t]), np.array([eps])
    alpha, beta, noise = schedule.alpha[t], schedule.beta[t], schedule.one_minus_alpha_bar[t]
    x0 = noising.x0_from_eps(schedule, x_t, eps, t)
    mean, _ = noising.posterior(schedule, x0, x_t, t)
    scale = (np.abs(x_t) + np.abs(eps)) / np.sqrt(alpha)
    assert_close(mean, (x_t - beta / np.sqrt(noise) * eps) / np.sqrt(alpha), scale)


def test_R4_errata_a_wrong_sign_or_alpha_bar_for_alpha_make_the_chain_diverge():
    schedule, data = schedules.linear(), Gaussian([0.3], [[0.04]])
    alpha, alpha_bar = schedule.alpha, schedule.alpha_bar
    noise = np.sqrt(schedule.one_minus_alpha_bar)

    def variance(x_factor, sign):
        plan = [
            step._replace(
                x=x_factor[step.t],
                x0=0.0,
                eps=sign * schedule.beta[step.t] / noise[step.t] / np.sqrt(alpha[step.t]),
            )
            for step in ddpm_steps(schedule)
        ]
        return data.outcome(schedule, plan)[1].item()

    assert variance(alpha**-0.5, -1) == pytest.approx(0.04, rel=0.05)
    assert variance(alpha**-0.5, +1) > 1e3
    with np.errstate(over="ignore", invalid="ignore"):
        assert not np.isfinite(variance(alpha_bar**-0.5, -1))


@given(any_schedule(), st.data(), st.sampled_from([(), (3,), (2, 2, 1)]), st.integers(0, 2**32 - 1))
def test_R5_x0_eps_v_and_score_each_follow_from_any_other(schedule, data, shape, seed):
    t = data.draw(st.integers(1, schedule.T))
    assume(schedule.alpha_bar[t] > 1e-12)
    x0, eps = np.random.default_rng(seed).standard_normal((2, 5, *shape))
    x_t = noising.diffuse(schedule, x0, t, eps)
    v = noising.v_from(schedule, x0, eps, t)
    signal, sigma = np.sqrt(schedule.alpha_bar[t]), np.sqrt(schedule.one_minus_alpha_bar[t])
    largest = np.abs(x0) + np.abs(eps)
    assert_close(noising.x0_from_eps(schedule, x_t, eps, t), x0, largest / signal)
    assert_close(noising.eps_from_x0(schedule, x_t, x0, t), eps, largest / sigma)
    assert_close(noising.x0_from_v(schedule, x_t, v, t), x0, largest)
    assert_close(noising.eps_from_v(schedule, x_t, v, t), eps, largest)
    assert_close(v, (signal * x_t - x0) / sigma, largest / sigma)
    score = noising.score_from_eps(schedule, eps, t)
    assert_close(score, -(x_t - signal * x0) / schedule.one_minus_alpha_bar[t], largest / sigma**2)
    assert_close(noising.eps_from_score(schedule, score, t), eps)


@given(gentle_schedule(min_T=50), st.floats(0.01, 1.0), st.floats(-1, 1))
def test_R7_one_jump_from_noise_to_data_is_worse_than_the_chain(schedule, variance, mean):
    data = Gaussian([mean], [[variance]])

    def distance(timesteps):
        m, C = data.outcome(schedule, ddpm_steps(schedule, timesteps))
        return np.hypot(m.item() - mean, np.sqrt(C.item()) - np.sqrt(variance))  # Wasserstein-2

    assume(schedule.alpha_bar[-1] < 0.05)
    assert distance((schedule.T, 0)) > distance(None)


def test_R7_one_jump_is_worse_on_the_1d_mixture_too():
    schedule, data = schedules.linear(), mixture1d()
    denoiser = Denoiser(data.network(schedule), schedule)
    x_T = initial_noise(np.random.default_rng(0), (4000, 1), np.float64)
    truth = np.sort(data.sample(np.random.default_rng(1), 4000), axis=0)

    def distance(timesteps):
        samples = final(ddpm(denoiser, x_T, np.random.default_rng(2), timesteps))
        return np.abs(np.sort(samples, axis=0) - truth).mean()  # Wasserstein-1

    assert distance((1000, 0)) > 0.25
    assert distance(range(1000, -1, -4)) < 0.05
