"""What the network is asked, and what comes back; the formulas are held in properties/test_objective.py."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidiff import autograd as ag
from minidiff import likelihood, nn, noising, schedules
from minidiff.autograd import Tensor
from minidiff.autograd.check import check_gradient
from minidiff.diffusion.denoiser import Denoiser, learned_log_variance
from minidiff.diffusion.oracles import Gaussian
from minidiff.training.objectives import (
    TIMES,
    WEIGHTINGS,
    LossAware,
    Objective,
    antithetic_times,
    simple_loss,
    uniform_times,
)

SCHEDULE = schedules.linear(10, 0.01, 0.5)
X0 = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
T = np.array([1, 4, 7, 10])
NOISE = np.random.default_rng(0).standard_normal(X0.shape, dtype=np.float32)


def test_the_network_is_asked_with_a_tensor_the_times_the_labels_and_the_rng():
    asked = {}

    def net(x, t, label, rng):
        asked.update(x=x, t=t, label=label, rng=rng)
        return x * 0.0

    label, rng = np.arange(4), np.random.default_rng(0)
    loss = simple_loss(net, SCHEDULE, X0, T, NOISE, label, rng)
    assert isinstance(asked["x"], Tensor) and asked["x"].dtype == np.float32
    np.testing.assert_array_equal(asked["t"], T)
    assert asked["label"] is label and asked["rng"] is rng
    assert isinstance(loss, Tensor) and loss.shape == ()
    assert loss.item() == pytest.approx(np.mean(NOISE**2), rel=1e-6)


def test_an_objective_asks_the_network_just_so():
    asked, schedule = {}, schedules.respaced(SCHEDULE, (10, 5, 2, 0))

    def net(x, t, label, rng):
        asked.update(x=x, t=t, label=label, rng=rng)
        return x * 0.0

    t, label, rng = np.array([1, 3, 2, 2]), np.arange(4), np.random.default_rng(0)
    losses = Objective(schedule).losses(net, X0, t, NOISE, label, rng)
    np.testing.assert_array_equal(asked["x"].data, noising.diffuse(schedule, X0, t, NOISE))
    np.testing.assert_array_equal(asked["t"], [2, 10, 5, 5])
    assert asked["label"] is label and asked["rng"] is rng
    assert isinstance(losses, Tensor) and losses.shape == (4,)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("channels", [1, 2], ids=["fixed", "learned"])
def test_losses_are_in_the_dtype_of_the_data(weighting, channels):
    for dtype in (np.float32, np.float64):
        net = lambda x, *_: ag.concatenate(*[x] * channels, axis=1)  # noqa: E731
        losses = Objective(SCHEDULE, "eps", weighting).losses(net, X0.astype(dtype), T, NOISE.astype(dtype))
        assert losses.dtype == dtype


def test_a_respaced_schedule_asks_the_network_at_the_times_of_the_original():
    asked = []
    schedule = schedules.respaced(SCHEDULE, (10, 5, 2, 0))
    simple_loss(
        lambda x, t, label, rng: asked.append(t) or x, schedule, X0[:3], np.array([1, 2, 3]), NOISE[:3]
    )
    np.testing.assert_array_equal(asked[0], [2, 5, 10])


def test_dropout_is_drawn_from_the_rng_and_left_out_without_one():
    rng = np.random.default_rng(0)
    net = nn.UNet(rng, size=4, channels=1, width=8, multipliers=(1,), depth=1, groups=4, dropout=0.5)
    for p in net.named_parameters().values():  # the last layers begin at zero and would hide it
        p.data[...] = rng.standard_normal(p.shape)
    x0, noise = rng.standard_normal((2, 4, 4, 4, 1), dtype=np.float32)

    def loss(rng=None):
        return simple_loss(net, SCHEDULE, x0, T, noise, rng=rng).item()

    assert loss() == loss()
    assert loss(np.random.default_rng(1)) == loss(np.random.default_rng(1)) != loss()


@pytest.mark.parametrize(
    ("t", "noise"), [(np.array([0, 1, 2, 11]), NOISE), (T[:3], NOISE), (T, NOISE[:, :1])]
)
def test_times_out_of_range_and_shapes_that_do_not_match_are_refused(t, noise):
    with pytest.raises(ValueError):
        simple_loss(lambda x, t, label, rng: x, SCHEDULE, X0, t, noise)


def test_an_answer_of_another_shape_is_no_silent_broadcast():
    with pytest.raises(ValueError):
        simple_loss(lambda x, t, label, rng: x[:, :1], SCHEDULE, X0, T, NOISE)


def test_the_ways_to_draw_times_have_names():
    assert {"uniform": uniform_times, "antithetic": antithetic_times} == TIMES


@pytest.mark.parametrize("draw", TIMES.values())
def test_a_schedule_of_one_time_and_a_batch_of_one_are_drawn_too(draw):
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(draw(rng, 1, 5), np.ones(5))
    assert draw(rng, 9, 1).shape == (1,)


# ---- what is predicted and what an error counts

PREDICTED = ("eps", "x0", "v")
seeds = st.integers(0, 2**32 - 1)


def some(seed, *shape):
    return np.random.default_rng(seed).standard_normal((3, *shape))


def affine(x, t, label=None, rng=None):
    """A network of no merit, which tells the times apart; for arrays and tensors."""
    return x * (0.3 + 0.05 * t).reshape(-1, *[1] * (x.ndim - 1))


WEIGHT_OF_X0 = {
    "min-snr": lambda schedule, t: np.minimum(schedule.snr[t], 5),
    "p2": lambda schedule, t: schedule.snr[t] / (1 + schedule.snr[t]),
    "bound": lambda schedule, t: schedule.T * likelihood.eps_weights(schedule, "large")[t] * schedule.snr[t],
}


@pytest.mark.parametrize("weighting", WEIGHT_OF_X0)
@pytest.mark.parametrize("prediction", PREDICTED)
@given(seeds)
def test_a_weighted_loss_is_the_papers_weight_on_the_error_of_x0_whatever_is_predicted(
    prediction, weighting, seed
):
    x0, noise, _ = some(seed, 4, 3)
    x0_hat = Denoiser(affine, SCHEDULE, prediction)(noising.diffuse(SCHEDULE, x0, T, noise), T).x0
    losses = Objective(SCHEDULE, prediction, weighting).losses(affine, x0, T, noise)
    expected = WEIGHT_OF_X0[weighting](SCHEDULE, T) * ((x0 - x0_hat) ** 2).mean(axis=1)
    np.testing.assert_allclose(losses.data, expected, rtol=1e-10)


@pytest.mark.parametrize("prediction", PREDICTED)
def test_a_simple_loss_is_the_plain_error_of_what_is_predicted(prediction):
    x0, noise, _ = some(0, 4, 2, 2, 1)
    x_t = noising.diffuse(SCHEDULE, x0, T, noise)
    target = {"eps": noise, "x0": x0, "v": noising.v_from(SCHEDULE, x0, noise, T)}[prediction]
    losses = Objective(SCHEDULE, prediction).losses(affine, x0, T, noise)
    np.testing.assert_allclose(losses.data, ((target - affine(x_t, T)) ** 2).mean(axis=(1, 2, 3)), rtol=1e-12)


def test_the_plain_objective_is_l_simple():
    losses = Objective(SCHEDULE).losses(affine, X0, T, NOISE)
    assert losses.data.mean() == pytest.approx(simple_loss(affine, SCHEDULE, X0, T, NOISE).item(), rel=1e-6)


@pytest.mark.parametrize("prediction", PREDICTED)
def test_two_networks_differ_in_the_bound_as_an_objective_as_in_the_bound(prediction):
    """With a variance of its own choice a network changes the means alone; the rest is the same constant."""
    x0, noise, _ = some(1, 4, 3)
    x_t = noising.diffuse(SCHEDULE, x0, T, noise)
    of_objective, of_bound = [], []
    for net in (affine, lambda x, t, *_: affine(x, t) * 0.5):
        of_objective.append(Objective(SCHEDULE, prediction, "bound").losses(net, x0, T, noise).data)
        denoiser = Denoiser(net, SCHEDULE, prediction)
        terms = likelihood.step_term(denoiser, x0, x_t, np.maximum(T, 2), "large")
        terms[T == 1] = likelihood.data_term(denoiser, x0, x_t, "large")[T == 1]
        of_bound.append(SCHEDULE.T * terms / 3)
    np.testing.assert_allclose(np.subtract(*of_objective), np.subtract(*of_bound), rtol=1e-10)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("prediction", PREDICTED)
def test_the_gradient_through_the_engine_is_that_of_differences(prediction, weighting):
    x0, noise, weights = some(2, 4, 4)
    objective = Objective(SCHEDULE, prediction, weighting)
    check_gradient(lambda w: objective.losses(lambda x, *_: x @ w, x0, T, noise), weights)


def test_noise_as_the_answer_is_refused_where_there_is_only_noise():
    to_zero = schedules.zero_terminal_snr(SCHEDULE)
    with pytest.raises(ValueError) as raised:
        Objective(to_zero)
    assert str(raised.value) == "ε says nothing of x₀ at T, where ᾱ_T = 0: let the network predict v or x0"
    for prediction in ("x0", "v"):
        for weighting in WEIGHTINGS:
            losses = Objective(to_zero, prediction, weighting).losses(affine, X0, T, NOISE)
            assert np.all(np.isfinite(losses.data))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("noise",), "prediction must be one of eps, x0, v; got 'noise'"),
        (("eps", "heavy"), "weighting must be one of simple, min-snr, p2, bound; got 'heavy'"),
    ],
)
def test_an_objective_that_there_is_not_is_refused(words, message):
    with pytest.raises(ValueError) as raised:
        Objective(SCHEDULE, *words)
    assert str(raised.value) == message


def test_an_answer_of_a_strange_shape_is_refused_by_an_objective():
    with pytest.raises(ValueError, match="shape"):
        Objective(SCHEDULE).losses(lambda x, *_: x[:, :1], X0, T, NOISE)


# ---- a variance that is learned


def with_place(place):
    """A network that answers as `affine` and says the same place for every variance."""

    def net(x, t, label=None, rng=None):
        x = x.data if isinstance(x, Tensor) else x
        return Tensor(np.concatenate([affine(x, t), np.full_like(x, place)], axis=-1))

    return net


@pytest.mark.parametrize("prediction", PREDICTED)
@given(st.floats(-2, 2), seeds)
def test_with_a_learned_variance_the_bound_is_that_of_the_gaussians(prediction, place, seed):
    x0, noise, _ = some(seed, 4, 3)
    x_t = noising.diffuse(SCHEDULE, x0, T, noise)
    losses = Objective(SCHEDULE, prediction, "bound").losses(with_place(place), x0, T, noise)
    x0_hat, _, log_variance = Denoiser(lambda x, t: with_place(place)(x, t).data, SCHEDULE, prediction)(
        x_t, T
    )
    right = noising.posterior(SCHEDULE, x0, x_t, T)
    mean, variance = noising.posterior(SCHEDULE, x0_hat, x_t, T)[0], np.exp(log_variance)
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = likelihood.gaussian_kl(*right, mean, variance)
    expected[T == 1] = (((x0 - mean) ** 2 / variance + np.log(2 * np.pi * variance)) / 2)[T == 1]
    np.testing.assert_allclose(losses.data, SCHEDULE.T * expected.mean(axis=1), rtol=1e-8, atol=1e-8)


def test_the_range_of_the_variance_is_from_beta_tilde_to_beta():
    for place, ends in ((-1.0, SCHEDULE.posterior_variance), (1.0, SCHEDULE.beta)):
        learned = np.exp(
            [learned_log_variance(SCHEDULE, np.array([[place]]), t).item() for t in range(1, 11)]
        )
        ends = ends.copy()
        ends[1] = SCHEDULE.posterior_variance[2] if place < 0 else SCHEDULE.beta[1]
        np.testing.assert_allclose(learned, ends[1:], rtol=1e-12)


@pytest.mark.parametrize("weighting", ["simple", "min-snr", "p2"])
def test_the_hybrid_loss_moves_the_prediction_by_the_simple_loss_and_the_variance_by_the_bound(weighting):
    x0, noise, _ = some(3, 4, 2)
    both = Tensor(np.random.default_rng(4).standard_normal((4, 4)), requires_grad=True)
    objective = Objective(SCHEDULE, "eps", weighting)
    losses = objective.losses(lambda *_: both, x0, T, noise)
    losses.backward(np.ones(4))

    alone = Tensor(both.data[:, :2].copy(), requires_grad=True)
    simple = objective.losses(lambda *_: alone, x0, T, noise)
    simple.backward(np.ones(4))
    np.testing.assert_allclose(both.grad[:, :2], alone.grad, rtol=1e-12)

    of_bound = Tensor(both.data.copy(), requires_grad=True)
    bound = Objective(SCHEDULE, "eps", "bound").losses(lambda *_: of_bound, x0, T, noise)
    bound.backward(np.ones(4))
    np.testing.assert_allclose(both.grad[:, 2:], 1e-3 * of_bound.grad[:, 2:], rtol=1e-12)
    np.testing.assert_allclose(losses.data, simple.data + 1e-3 * bound.data, rtol=1e-12)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_of_images_the_variance_is_the_second_half_of_the_channels(weighting):
    x0, noise, guess = some(7, 4, 3, 5, 2)
    place = 0.3 * np.random.default_rng(8).standard_normal(x0.shape)
    flat = lambda a: a.reshape(4, -1)  # noqa: E731
    objective = Objective(SCHEDULE, "eps", weighting)
    image = objective.losses(lambda *_: Tensor(np.concatenate([guess, place], axis=-1)), x0, T, noise)
    row = Tensor(np.concatenate([flat(guess), flat(place)], axis=-1))
    np.testing.assert_allclose(
        image.data, objective.losses(lambda *_: row, flat(x0), T, flat(noise)).data, rtol=1e-12
    )


def test_the_gradient_of_the_bound_in_mean_and_variance_is_that_of_differences():
    x0, noise, _ = some(5, 4, 2)
    objective = Objective(SCHEDULE, "eps", "bound")
    answer = 0.5 * np.random.default_rng(6).standard_normal((4, 4))
    check_gradient(lambda a: objective.losses(lambda *_: a, x0, T, noise), answer)


@pytest.mark.parametrize("spread", [0.05, 1.0])
def test_on_gaussian_data_the_best_variance_is_that_of_the_step_back_given_x_t_alone(spread):
    """q(x_{t−1}|x_t) of N(0, s²) is Gaussian with a variance in closed form, and the exact ε gives its mean.

    The bound is a quadratic in x_0 and ε, and their mean over ±1 is that over the normal law.
    """
    law, t = Gaussian(np.zeros(1), spread**2 * np.eye(1)), 6
    signs = np.array([[a, b] for a in (-1, 1) for b in (-1, 1)], dtype=float)
    x0, noise = spread * signs[:, :1], signs[:, 1:]
    alpha, before = (
        SCHEDULE.alpha[t],
        SCHEDULE.alpha_bar[t - 1] * spread**2 + SCHEDULE.one_minus_alpha_bar[t - 1],
    )
    variance = before * SCHEDULE.beta[t] / (alpha * before + SCHEDULE.beta[t])
    low, high = (learned_log_variance(SCHEDULE, np.array(p), t) for p in (-1.0, 1.0))
    place = Tensor(np.full((1, 1), 2 * (np.log(variance) - low) / (high - low) - 1), requires_grad=True)

    def net(x, t, label, rng):
        exact = Tensor(law.eps(SCHEDULE, x.data, t))
        return ag.concatenate(exact, place + np.zeros((4, 1)), axis=1)

    losses = Objective(SCHEDULE, "eps", "bound").losses(net, x0, np.full(4, t), noise)
    losses.backward(np.ones(4))
    assert -1 < place.data.item() <= 1 + 1e-9
    assert abs(place.grad.item()) < 1e-9 * SCHEDULE.T


# ---- times drawn by their loss


def full_history(T=5, seed=0):
    aware = LossAware(T)
    rng = np.random.default_rng(seed)
    for _ in range(LossAware.KEPT):
        aware.record(np.arange(1, T + 1), rng.random(T) * np.arange(1, T + 1))
    return aware


def test_until_each_time_has_ten_losses_the_times_are_uniform_and_weigh_one():
    aware = LossAware(5)
    for _ in range(9):
        aware.record(np.arange(1, 6), np.arange(5.0))
    aware.record(np.arange(1, 5), np.arange(4.0))
    np.testing.assert_allclose(aware.probabilities(), 0.2)
    np.testing.assert_allclose(aware.weights(np.array([1, 5])), 1)
    aware.record(np.array([5]), np.array([9.0]))
    assert aware.probabilities()[4] > 0.3


def test_times_come_in_proportion_to_the_root_of_their_mean_squared_loss():
    aware = full_history()
    root = np.sqrt((aware.history**2).mean(axis=1))
    np.testing.assert_allclose(aware.probabilities(), 0.999 * root / root.sum() + 0.0002, rtol=1e-12)
    aware.history *= 1e-6  # it is the proportion that counts, however small the losses
    np.testing.assert_allclose(aware.probabilities(), 0.999 * root / root.sum() + 0.0002, rtol=1e-12)
    t = aware(np.random.default_rng(0), 5, 100_000)
    assert t.min() == 1 and t.max() == 5
    np.testing.assert_allclose(np.bincount(t)[1:] / 1e5, aware.probabilities(), atol=0.005)


@given(seeds)
def test_the_weighted_mean_over_such_times_is_the_mean_over_uniform_ones(seed):
    aware, losses = full_history(seed=seed), np.random.default_rng(seed).standard_normal(5)
    t = np.arange(1, 6)
    assert aware.probabilities().sum() == pytest.approx(1, rel=1e-12)
    assert (aware.probabilities() * aware.weights(t) * losses).sum() == pytest.approx(losses.mean(), rel=1e-9)


def test_the_last_ten_losses_are_kept_in_order_also_of_a_time_that_comes_twice():
    aware = LossAware(2)
    aware.record(np.array([2, 2, 1]), np.array([1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(aware.history[1, -2:], [1, 2])
    np.testing.assert_array_equal(aware.history[0, -1:], [3])
    assert np.isnan(aware.history[:, :8]).all()
    aware.record(np.full(12, 1), np.arange(12.0))
    np.testing.assert_array_equal(aware.history[0], np.arange(2.0, 12))


def test_a_loss_is_wanted_for_each_time():
    with pytest.raises(ValueError):
        LossAware(3).record(np.array([1, 2, 3]), np.ones(2))


def test_where_no_time_has_any_loss_they_are_uniform_again():
    aware = LossAware(3)
    for _ in range(10):
        aware.record(np.array([1, 2, 3]), np.zeros(3))
    np.testing.assert_allclose(aware.probabilities(), 1 / 3)
