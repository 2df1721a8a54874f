"""The objective, its times and its units (EQUATIONS.md V8, V9, V11, S1), against NumPy formulas and closed forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mathematics import any_schedule, assert_close

from minidiff import datasets, nn, noising, schedules
from minidiff.autograd import Tensor
from minidiff.diffusion.denoiser import Denoiser
from minidiff.diffusion.oracles import Gaussian
from minidiff.diffusion.samplers import ddim, final, initial_noise
from minidiff.diffusion.samplers.ancestral import steps as ddpm_steps
from minidiff.training import Trainer, TrainingOptions
from minidiff.training.objectives import antithetic_times, simple_loss, uniform_times

seeds = st.integers(0, 2**32 - 1)

# Over all seeds a correct draw of times fails a chi-square test of this file once in a million runs; the seeds are
# fixed, so that it fails always or never.
ERROR_RATE = 1e-6


def chi_square_tail(chi_square, pairs):
    """P(χ² > chi_square) with 2·pairs degrees of freedom, a closed form: e^(−c/2) Σ_{k<pairs} (c/2)^k / k!."""
    term = total = np.exp(-chi_square / 2)
    for k in range(1, pairs):
        term *= chi_square / 2 / k
        total += term
    return total


def p_value(counts):
    """The p-value of χ² of counts (an odd number of them) against equal ones."""
    expected = counts.sum() / len(counts)
    return chi_square_tail(((counts - expected) ** 2 / expected).sum(), (len(counts) - 1) // 2)


# ---- V8


@given(any_schedule(max_T=50), st.integers(1, 6), st.integers(1, 4), seeds)
def test_V8_the_gradient_of_l_simple_for_a_linear_eps_theta_is_the_analytic_one(schedule, batch, dim, seed):
    rng = np.random.default_rng(seed)
    x0, noise = rng.standard_normal((2, batch, dim))
    t = rng.integers(1, schedule.T + 1, batch)
    weights = Tensor(rng.standard_normal((dim, dim)), requires_grad=True)
    offset = Tensor(rng.standard_normal(dim), requires_grad=True)

    loss = simple_loss(lambda x, t, label, rng: x @ weights + offset, schedule, x0, t, noise)
    loss.backward()

    x_t = noising.diffuse(schedule, x0, t, noise)
    error = noise - x_t @ weights.data - offset.data
    assert_close(loss.data, np.mean(error**2))
    assert_close(weights.grad, -2 / error.size * x_t.T @ error, scale=np.abs(x_t).T @ np.abs(error))
    assert_close(offset.grad, -2 / error.size * error.sum(axis=0), scale=np.abs(error).sum())


@given(any_schedule(max_T=50), st.integers(1, 5), seeds)
def test_V8_l_simple_is_its_formula_entry_by_entry(schedule, batch, seed):
    rng = np.random.default_rng(seed)
    x0, noise = rng.standard_normal((2, batch, 3, 3, 2))
    t = rng.integers(1, schedule.T + 1, batch)
    squares = []
    for i in range(batch):
        signal, sigma = schedule.alpha_bar[t[i]] ** 0.5, schedule.one_minus_alpha_bar[t[i]] ** 0.5
        for clean, eps in zip(x0[i].flat, noise[i].flat, strict=True):
            squares.append((eps - 0.3 * t[i] * (signal * clean + sigma * eps)) ** 2)
    loss = simple_loss(lambda x, t, label, rng: x * (0.3 * t[:, None, None, None]), schedule, x0, t, noise)
    assert_close(loss.item(), sum(squares) / len(squares))


def test_V8_the_exact_eps_has_the_lowest_loss_which_is_the_conditional_variance():
    """For N(0, s²) data E(ε − ε*)² = ᾱ s² / (ᾱ s² + 1 − ᾱ); 200 000 draws leave 0.3 % of error (1σ)."""
    schedule, spread, t = schedules.linear(20, 0.01, 0.4), 0.5, 6
    rng = np.random.default_rng(0)
    x0, noise = spread * rng.standard_normal((200_000, 1)), rng.standard_normal((200_000, 1))
    exact = Gaussian(np.zeros(1), spread**2 * np.eye(1)).network(schedule)

    def loss(factor):
        net = lambda x, t, label, rng: Tensor(factor * exact(x.data, t))  # noqa: E731
        return simple_loss(net, schedule, x0, np.full(len(x0), t), noise).item()

    signal = schedule.alpha_bar[t] * spread**2
    assert loss(1.0) == pytest.approx(signal / (signal + schedule.one_minus_alpha_bar[t]), rel=0.015)
    assert loss(1.0) < min(loss(0.9), loss(1.1))


def test_V8_erratum_learning_the_noise_of_one_step_ruins_the_samples():
    """E[z_t|x_t] = √(β_t/(1−ᾱ_t)) E[ε|x_t]: in place of ε̂ it removes too little of the noise."""
    schedule = schedules.linear(100, 1e-3, 0.1)
    gaussian = Gaussian(np.zeros(1), 0.01 * np.eye(1))
    exact = gaussian.network(schedule)

    # That ratio itself, by regression of both noises on the x_t of the same chains.
    rng, t = np.random.default_rng(1), 30
    x = x0 = gaussian.sample(rng, 200_000)
    for s in range(1, t + 1):
        z = rng.standard_normal(x.shape)
        x = noising.step(schedule, x, s, z)
    eps = (x - np.sqrt(schedule.alpha_bar[t]) * x0) / np.sqrt(schedule.one_minus_alpha_bar[t])
    shrink = np.sqrt(schedule.beta / np.maximum(schedule.one_minus_alpha_bar, 1e-300))
    assert (x * z).mean() / (x * eps).mean() == pytest.approx(shrink[t], rel=0.05)

    def spread_of(net):
        start = initial_noise(np.random.default_rng(2), (4000, 1), np.float64)
        return final(ddim(Denoiser(net, schedule), start, np.random.default_rng(3))).std()

    assert spread_of(exact) == pytest.approx(0.1, rel=0.15)
    assert spread_of(lambda x, t: exact(x, t) * shrink[t][:, None]) > 1.0


def test_V8_errata_a_wrong_sign_or_alpha_for_alpha_bar_in_the_input_ruin_the_samples():
    """Variance of the samples over that of N(0, ½²) data, ε learned exactly from the printed input, by recursion."""
    schedule = schedules.linear()

    def variance_ratio(learned):  # E[ε | x] per unit of x
        variance = 1.0
        for step in ddpm_steps(schedule):
            beta, noise = schedule.beta[step.t], schedule.one_minus_alpha_bar[step.t]
            factor = (1 - beta / np.sqrt(noise) * learned[step.t]) / np.sqrt(schedule.alpha[step.t])
            variance = factor**2 * variance + step.sigma**2
        return variance / 0.25

    def exact_eps(signal2, noise):
        return np.sqrt(noise) / (signal2 * 0.25 + noise)

    right = exact_eps(schedule.alpha_bar, schedule.one_minus_alpha_bar)
    assert variance_ratio(right) == pytest.approx(0.985, abs=1e-3)
    assert variance_ratio(exact_eps(schedule.alpha, schedule.beta)) == pytest.approx(84.9, abs=0.1)
    assert variance_ratio(-right) > 1e14


# ---- V9


@given(st.integers(1, 2000), st.integers(1, 65), seeds)
def test_V9_antithetic_times_fit_any_batch_size_and_pairs_sum_to_T_plus_1(T, batch, seed):
    t = antithetic_times(np.random.default_rng(seed), T, batch)
    half = batch // 2
    assert t.shape == (batch,) and t.dtype.kind == "i"
    assert t.min() >= 1 and t.max() <= T
    np.testing.assert_array_equal(t[:half] + t[batch - half :], T + 1)


@pytest.mark.parametrize("draw", [uniform_times, antithetic_times])
@pytest.mark.parametrize("batch", [1, 4, 5])
def test_V9_the_time_at_each_index_of_a_batch_is_uniform(draw, batch):
    T, rng = 7, np.random.default_rng(0)
    drawn = np.array([draw(rng, T, batch) for _ in range(4000)])
    for times in drawn.T:
        assert p_value(np.bincount(times, minlength=T + 1)[1:]) > ERROR_RATE / 6


@pytest.mark.parametrize("draw", [uniform_times, antithetic_times])
def test_V9_the_first_and_the_last_time_occur_as_often_as_any_other(draw):
    T, rng = 1001, np.random.default_rng(0)
    counts = np.bincount(draw(rng, T, 100_000), minlength=T + 1)
    assert counts[0] == 0 and len(counts) == T + 1
    ends = np.array([counts[1], counts[T], counts[2:T].mean()])
    # The mean over the others estimates the expected count; each end has a standard deviation of √100 = 10.
    assert np.abs(ends[:2] - ends[2]).max() < 5 * np.sqrt(ends[2])


def test_V9_antithetic_times_have_a_constant_batch_mean():
    rng = np.random.default_rng(0)
    assert all(antithetic_times(rng, 1000, 64).mean() == 500.5 for _ in range(20))
    assert np.std([uniform_times(rng, 1000, 64).mean() for _ in range(200)]) > 20


# ---- V11


def test_V11_all_256_levels_map_to_minus_one_to_one_and_back_exactly():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 4, 4, 1)
    data = datasets.from_raw("levels", levels, held_out=levels, limits=(0, 255))
    assert data.x.dtype == np.float32 and np.min(data.x) == -1 and np.max(data.x) == 1
    np.testing.assert_allclose(np.diff(np.ravel(data.x)), 2 / 255, rtol=1e-5)
    np.testing.assert_array_equal(data.units.to_units(data.x), levels)


# ---- S1


def test_S1_training_lowers_the_loss_and_eps_theta_approaches_the_closed_form():
    schedule, gaussian = schedules.linear(20, 0.01, 0.4), Gaussian(np.array([0.8]), np.array([[0.09]]))
    rng = np.random.default_rng(0)
    x = gaussian.sample(rng, 4000).astype(np.float32)
    trainer = Trainer(
        nn.MLP(rng, dim=1, width=32, depth=2, T=20),
        schedule,
        x,
        options=TrainingOptions(lr=5e-3, warmup=20, ema_decay=0.99),
        rng=rng,
    )
    exact = gaussian.network(schedule)
    t = np.tile(np.arange(1, 21), 100)
    noise = rng.standard_normal((2000, 1), dtype=np.float32)
    x_t = noising.diffuse(schedule, x[:2000], t, noise)

    def distance():
        return float(np.mean((trainer.ema_net(x_t, t) - exact(x_t, t)) ** 2))

    before = distance()
    losses = [step.loss for step in trainer.run(600)]
    assert np.mean(losses[-100:]) < 0.6 * np.mean(losses[:20])
    # The conditional variance of ε stays in the loss; the distance to ε* has fallen to less than a fiftieth.
    assert distance() < before / 50
