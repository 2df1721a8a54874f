"""The closed forms with which samplers and networks are compared (EQUATIONS.md O1–O3)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mathematics import any_schedule, assert_close, gentle_schedule, log_normal

from minidiff import noising, schedules
from minidiff.diffusion.denoiser import Denoiser
from minidiff.diffusion.noising import AffineStep
from minidiff.diffusion.oracles import FiniteData, Gaussian, Mixture, mixture1d, outcome_of
from minidiff.diffusion.samplers import (
    ddim,
    ddpm,
    dpmpp_2m,
    final,
    heun,
    initial_noise,
    plms,
    predictor_corrector,
    unipc,
)
from minidiff.diffusion.samplers.ancestral import steps as ddpm_steps
from minidiff.diffusion.samplers.ddim import steps as ddim_steps
from minidiff.diffusion.samplers.dpm_solver import steps as dpm_steps
from minidiff.diffusion.samplers.langevin import steps as pc_steps
from minidiff.diffusion.samplers.timesteps import trailing

PAPER = schedules.linear()


@st.composite
def any_gaussian(draw, max_D=3):
    """Any mean, and a covariance with any axes and variances from 1e-6 (or 0) to 4."""
    rng, D = np.random.default_rng(draw(st.integers(0, 2**32 - 1))), draw(st.integers(1, max_D))
    axes, _ = np.linalg.qr(rng.standard_normal((D, D)))
    variances = np.where(rng.random(D) < 0.1, 0.0, 10 ** rng.uniform(-6, 0.6, D))
    return Gaussian(rng.standard_normal(D), axes * variances @ axes.T)


@st.composite
def any_oracle(draw):
    """A Gaussian, a mixture of up to four of them, or a finite data set."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind, K, D = draw(st.sampled_from(["gaussian", "mixture", "points"])), draw(st.integers(1, 4)), 2
    if kind == "gaussian":
        return draw(any_gaussian())
    if kind == "points":
        return FiniteData(rng.standard_normal((K, D)))
    roots = rng.standard_normal((K, D, D)) * 10 ** rng.uniform(-2, 0, (K, 1, 1))
    return Mixture(rng.dirichlet(np.ones(K)), rng.standard_normal((K, D)), roots @ roots.swapaxes(1, 2))


@given(any_oracle(), gentle_schedule(), st.data(), st.integers(0, 2**32 - 1))
def test_O1_the_score_is_the_gradient_of_the_log_density(oracle, schedule, data, seed):
    rng, t = np.random.default_rng(seed), data.draw(st.integers(1, schedule.T))
    x0 = oracle.sample(rng, 3)
    x = noising.diffuse(schedule, x0, t, rng.standard_normal(x0.shape))
    score = oracle.score(schedule, x, t)
    h = 1e-3 * np.sqrt(schedule.one_minus_alpha_bar[t])
    for i in range(oracle.dim):
        at = [oracle.log_density(schedule, x + k * h * np.eye(oracle.dim)[i], t) for k in (-2, -1, 1, 2)]
        gradient = (at[0] - 8 * at[1] + 8 * at[2] - at[3]) / (12 * h)
        assert_close(score[:, i], gradient, np.abs(x).max() / schedule.one_minus_alpha_bar[t], 1e-7)


@given(any_oracle(), any_schedule(), st.data(), st.integers(0, 2**32 - 1))
def test_O1_eps_x0_and_v_follow_from_the_score_at_every_t(oracle, schedule, data, seed):
    rng = np.random.default_rng(seed)
    t = data.draw(st.integers(1, schedule.T))
    x0 = oracle.sample(rng, 4)
    x = noising.diffuse(schedule, x0, t, rng.standard_normal(x0.shape))
    eps, x0 = oracle.eps(schedule, x, t), oracle.x0(schedule, x, t)
    largest = np.abs(x).max() + np.abs(x0).max() + 1
    assert_close(eps, noising.eps_from_score(schedule, oracle.score(schedule, x, t), t))
    signal, sigma = np.sqrt(schedule.alpha_bar[t]), np.sqrt(schedule.one_minus_alpha_bar[t])
    assert_close(signal * x0 + sigma * eps, x, largest)
    assert_close(oracle.v(schedule, x, t), noising.v_from(schedule, x0, eps, t), largest)


def test_O1_x0_and_q_t_agree_with_numerical_integration_of_bayes_rule():
    data, x = mixture1d(), np.linspace(-1.5, 1.5, 7)[:, None]
    grid = np.linspace(-0.6, 0.7, 200_001)
    prior = np.exp(data.log_density(PAPER, grid[:, None], 0)) * (grid[1] - grid[0])
    for t in (1, 30, 300, 1000):
        alpha_bar, noise = PAPER.alpha_bar[t], PAPER.one_minus_alpha_bar[t]
        x_t = x if t > 100 else np.array([[-0.41], [0.07], [0.505]])
        joint = prior * np.exp(log_normal(x_t, np.sqrt(alpha_bar) * grid, noise))
        density = joint.sum(axis=1)
        assert data.log_density(PAPER, x_t, t) == pytest.approx(np.log(density), abs=1e-8)
        assert data.x0(PAPER, x_t, t)[:, 0] == pytest.approx(joint @ grid / density, abs=1e-8)


@pytest.mark.parametrize("t", [0, 1, 200, 1000])
def test_O1_the_density_integrates_to_one(t):
    x = np.linspace(-8, 8, 160_001)[:, None]
    mass = np.exp(mixture1d().log_density(PAPER, x, t)).sum() * (x[1] - x[0]).item()
    assert mass == pytest.approx(1.0, abs=1e-9)


@given(any_oracle(), st.sampled_from([1e3, 1e6, 1e10]), st.sampled_from([1, 2, 500, 1000]))
def test_O1_nothing_overflows_far_away_and_the_score_points_towards_the_data(oracle, distance, t):
    x = np.full((1, oracle.dim), distance)
    outputs = [f(PAPER, x, t) for f in (oracle.log_density, oracle.score, oracle.eps, oracle.x0, oracle.v)]
    assert all(np.all(np.isfinite(output)) for output in outputs)
    assert np.sum(outputs[1] * x) < 0
    # far from the data the norm of the score is at least the distance over the largest variance of q_t
    assert np.linalg.norm(outputs[1]) > 0.1 * distance / (1 + 40)


@given(any_schedule(max_T=100), st.integers(0, 2**32 - 1))
def test_O1_each_sample_may_have_its_own_time(schedule, seed):
    rng, oracle = np.random.default_rng(seed), mixture1d()
    x, t = rng.standard_normal((6, 1)), rng.integers(1, schedule.T + 1, 6)
    together = oracle.eps(schedule, x, t)
    assert_close(together, np.concatenate([oracle.eps(schedule, x[i : i + 1], int(t[i])) for i in range(6)]))


@given(any_gaussian(), gentle_schedule(), st.data(), st.sampled_from([1, 1e4, 1e8]))
def test_O1_a_gaussian_is_its_formula_even_far_away(oracle, schedule, data, distance):
    t = data.draw(st.integers(1, schedule.T))
    mean, covariance = oracle.marginal(schedule, t)
    assert_close(mean, np.sqrt(schedule.alpha_bar[t]) * oracle.mean)
    x = distance * np.random.default_rng(0).standard_normal((4, oracle.dim))
    solved = np.linalg.solve(covariance, (x - mean).T).T
    condition = np.linalg.cond(covariance)
    scale = condition * np.abs(solved).max()
    assert_close(oracle.score(schedule, x, t), -solved, scale)
    log_density = -0.5 * ((x - mean) * solved).sum(1) - 0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1]
    assert_close(oracle.log_density(schedule, x, t), log_density, condition * (np.abs(log_density) + 10))


@given(gentle_schedule(), st.data(), st.integers(1, 4), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_O1_a_mixture_averages_its_gaussians_by_their_posterior_probabilities(schedule, data, K, D, seed):
    t, rng = data.draw(st.integers(1, schedule.T)), np.random.default_rng(seed)
    weights, means = rng.dirichlet(np.ones(K)), rng.standard_normal((K, D))
    roots = rng.standard_normal((K, D, D)) * 10 ** rng.uniform(-2, 0, (K, 1, 1))
    covariances = roots @ roots.swapaxes(1, 2)
    mixture = Mixture(weights, means, covariances)
    components = [Gaussian(m, S) for m, S in zip(means, covariances, strict=True)]
    x = noising.diffuse(schedule, mixture.sample(rng, 4), t, rng.standard_normal((4, D)))
    joint = (
        np.stack([component.log_density(schedule, x, t) for component in components])
        + np.log(weights)[:, None]
    )
    log_density = np.logaddexp.reduce(joint, axis=0)
    digits = 1 + np.abs(joint).max()  # the digits that an exponential loses
    assert_close(mixture.log_density(schedule, x, t), log_density, digits)
    posterior = np.exp(joint - log_density)
    for output in ("score", "x0", "eps", "v"):
        each = np.stack([getattr(component, output)(schedule, x, t) for component in components])
        expected = np.einsum("kb,kbd->bd", posterior, each)
        assert_close(getattr(mixture, output)(schedule, x, t), expected, digits * np.abs(each).max())


@given(any_schedule(), st.data(), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_O2_x0_of_a_finite_data_set_is_the_softmax_weighted_mean(schedule, data, N, seed):
    t, rng = data.draw(st.integers(1, schedule.T)), np.random.default_rng(seed)
    points = rng.standard_normal((N, 3))
    noise = schedule.one_minus_alpha_bar[t]
    x = np.sqrt(schedule.alpha_bar[t]) * points[:1] + np.sqrt(noise) * rng.standard_normal((1, 3))
    squares = ((x - np.sqrt(schedule.alpha_bar[t]) * points) ** 2).sum(1)
    weights = np.exp((squares.min() - squares) / (2 * noise))
    scale = np.abs(points).max() * (1 + np.abs(points).max() ** 2 / noise)
    oracle = FiniteData(points)
    assert_close(oracle.x0(schedule, x, t)[0], weights @ points / weights.sum(), scale)
    log_density = np.log(weights.mean()) - squares.min() / (2 * noise) - 1.5 * np.log(2 * np.pi * noise)
    assert_close(oracle.log_density(schedule, x, t)[0], log_density, 100 * (1 + 1 / noise))


def test_O2_a_finite_data_set_is_a_mixture_of_zero_covariance():
    points = np.random.default_rng(0).standard_normal((5, 2))
    finite, mixture = FiniteData(points), Mixture(np.full(5, 0.2), points, np.zeros((5, 2, 2)))
    x = np.random.default_rng(1).standard_normal((6, 2))
    for t in (1, 10, 500, 1000):
        assert_close(finite.x0(PAPER, x, t), mixture.x0(PAPER, x, t), 10, 1e-10)
        assert_close(finite.score(PAPER, x, t), mixture.score(PAPER, x, t), 1e5, 1e-10)
        assert_close(finite.log_density(PAPER, x, t), mixture.log_density(PAPER, x, t), 10, 1e-10)


def test_O2_the_exact_sampler_reproduces_the_training_data():
    points = np.random.default_rng(0).uniform(-1, 1, (10, 4))
    denoiser = Denoiser(FiniteData(points).network(PAPER), PAPER)
    x_T = initial_noise(np.random.default_rng(1), (50, 4), np.float64)
    samples = final(ddpm(denoiser, x_T, np.random.default_rng(2), trailing(1000, 200)))
    distance = np.linalg.norm(samples[:, None] - points, axis=2).min(axis=1)
    assert distance.max() < 1e-6


@given(any_gaussian(), gentle_schedule(), st.data())
def test_O3_the_affine_map_of_a_step_is_the_step_of_the_sampler(oracle, schedule, data):
    t = data.draw(st.integers(1, schedule.T))
    x = np.random.default_rng(0).standard_normal((4, oracle.dim))
    denoiser = Denoiser(oracle.network(schedule, "v"), schedule, prediction="v")
    prediction = denoiser(x, t)
    for step in (ddim_steps(schedule, (t, 0))[0], ddpm_steps(schedule, (t, 0))[0], *_between(schedule, t)):
        A, b = oracle.affine(schedule, step)
        expected = step.x * x + step.x0 * prediction.x0 + step.eps * prediction.eps
        scale = np.linalg.cond(oracle.marginal(schedule, t)[1]) * (
            np.abs(x).max() + np.abs(oracle.mean).max()
        )
        assert_close(x @ A.T + b, expected, scale)


PLANE = Gaussian([0.4, -1.0], [[0.5, 0.3], [0.3, 0.4]])
WITHOUT_MEMORY = [
    (ddpm, ddpm_steps, {"variance": "small"}),
    (ddpm, ddpm_steps, {"variance": "large"}),
    (ddim, ddim_steps, {"eta": 0.0}),
    (ddim, ddim_steps, {"eta": 0.7}),
    (ddim, ddim_steps, {"eta": 1.0, "sigma_hat": True}),
    (predictor_corrector, pc_steps, {"corrections": 2}),
]
HIGHER_ORDER = [
    (plms, {}),
    (dpmpp_2m, {}),
    (dpmpp_2m, {"sde": True}),
    (heun, {}),
    (heun, {"churn": 5.0}),
    (unipc, {}),
    (unipc, {"order": 3}),
]


def sampler_run(sampler, times, options, oracle=PLANE):
    denoiser = Denoiser(oracle.network(PAPER), PAPER)
    return lambda x_T, rng: sampler(denoiser, x_T, rng, times, **options)


@pytest.mark.parametrize(("sampler", "plan", "options"), WITHOUT_MEMORY)
@pytest.mark.parametrize("start", [(None, None), (np.array([1.0, 2.0]), np.array([[2.0, 0.5], [0.5, 0.3]]))])
def test_O3_the_moments_of_a_run_are_those_of_the_recursion(sampler, plan, options, start):
    times = trailing(1000, 20)
    moments = list(outcome_of(sampler_run(sampler, times, options), 2, *start))
    assert [t for t, *_ in moments] == list(times[1:])
    steps, done = plan(PAPER, times, **options), []
    for (_, mean, covariance), step in zip(moments, steps, strict=True):
        done += step if isinstance(step, list) else [step]
        expected_mean, expected_covariance = PLANE.outcome(PAPER, done, *start)
        assert_close(mean, expected_mean, 1.0, 1e-11)
        assert_close(covariance, expected_covariance, 1.0, 1e-11)


@pytest.mark.parametrize("sde", [False, True])
def test_O3_the_moments_of_dpm_solver_follow_the_recursion_of_x_and_the_last_x0(sde):
    times, eye, none = trailing(1000, 12), np.eye(2), np.zeros((2, 2))
    mean, covariance = np.zeros(4), np.diag([1.0, 1.0, 0.0, 0.0])
    moments = outcome_of(sampler_run(dpmpp_2m, times, {"sde": sde}), 2)
    for (step, ratio), (_, got_mean, got_covariance) in zip(
        dpm_steps(PAPER, times, sde), moments, strict=True
    ):
        # x̂_0 of x_t
        gain, offset = PLANE.affine(PAPER, AffineStep(step.t, step.s, x=0.0, x0=1.0, eps=0.0, sigma=0.0))
        A = np.block([[step.x * eye + step.x0 * (1 + ratio) * gain, -step.x0 * ratio * eye], [gain, none]])
        mean = A @ mean + np.concatenate([step.x0 * (1 + ratio) * offset, offset])
        covariance = A @ covariance @ A.T
        covariance[:2, :2] += step.sigma**2 * eye
        assert_close(got_mean, mean[:2], 1.0, 1e-11)
        assert_close(got_covariance, covariance[:2, :2], 1.0, 1e-11)


@pytest.mark.parametrize(("sampler", "options"), [*((s, o) for s, _, o in WITHOUT_MEMORY), *HIGHER_ORDER])
def test_O3_the_exact_mean_and_covariance_are_those_of_a_large_run(sampler, options):
    """50 000 samples: five standard errors on five numbers, a false alarm in about 1 of 300 000 seeds."""
    run, n = sampler_run(sampler, trailing(1000, 20), options), 50_000
    *_, (_, mean, covariance) = outcome_of(run, 2)
    samples = final(
        run(initial_noise(np.random.default_rng(0), (n, 2), np.float64), np.random.default_rng(1))
    )
    variances = np.diag(covariance)
    assert np.all(np.abs(samples.mean(axis=0) - mean) < 5 * np.sqrt(variances / n))
    error = np.sqrt((np.outer(variances, variances) + covariance**2) / n)
    assert np.all(np.abs(np.cov(samples.T) - covariance) < 5 * error)


def test_O3_many_dimensions_and_many_draws_are_all_counted():
    """More samples than the 512 of 8 numbers in one block of a sampler's noise."""
    oracle, times = Gaussian(np.linspace(-1, 1, 8), np.diag(np.geomspace(0.01, 2, 8))), trailing(1000, 200)
    *_, (_, mean, covariance) = outcome_of(sampler_run(ddpm, times, {}, oracle), 8)
    expected_mean, expected_covariance = oracle.outcome(PAPER, ddpm_steps(PAPER, times))
    assert_close(mean, expected_mean, 1.0, 1e-10)
    assert_close(covariance, expected_covariance, 1.0, 1e-10)


def test_O3_data_of_any_scale_are_accepted():
    for size in (1e-4, 1e6):
        oracle = Gaussian([size], [[size**2]])
        *_, (_, mean, variance) = outcome_of(sampler_run(ddpm, trailing(1000, 10), {}, oracle), 1)
        expected_mean, expected_variance = oracle.outcome(PAPER, ddpm_steps(PAPER, trailing(1000, 10)))
        assert_close(mean, expected_mean, size)
        assert_close(variance, expected_variance, size**2)


def test_O3_a_sampler_that_is_not_affine_is_refused():
    for denoiser in (
        Denoiser(mixture1d().network(PAPER), PAPER),
        Denoiser(Gaussian([0.0], [[1.0]]).network(PAPER), PAPER, clip=(-0.1, 0.1)),
    ):
        with pytest.raises(ValueError, match="expected a sampler that is affine"):
            list(outcome_of(lambda x, rng, d=denoiser: ddpm(d, x, rng, trailing(1000, 10)), 1))


@pytest.mark.parametrize("plan", [ddpm_steps(PAPER), ddpm_steps(PAPER, variance="large"), ddim_steps(PAPER)])
def test_O3_with_all_steps_the_recursion_stays_near_the_analytic_marginals(plan):
    oracle = Gaussian([0.4, -1.0], [[0.5, 0.3], [0.3, 0.4]])
    for k in (250, 500, 750, 1000):
        mean, covariance = oracle.outcome(PAPER, plan[:k])
        expected_mean, expected_covariance = oracle.marginal(PAPER, 1000 - k)
        assert np.abs(mean - expected_mean).max() < 0.01
        assert np.abs(covariance - expected_covariance).max() < 0.01


def _between(schedule, t):
    """Steps that end before clean data; none from t = 1."""
    if t == 1:
        return []
    return [ddim_steps(schedule, (t, t // 2, 0), 0.5)[0], ddpm_steps(schedule, (t, t // 2, 0), "large")[0]]
