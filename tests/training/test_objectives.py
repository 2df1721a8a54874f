"""The losses: what the network is evaluated on, weightings, learned variances (see properties/test_objective.py)."""

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
from minidiff.training.objectives import WEIGHTINGS, Objective, simple_loss

SCHEDULE = schedules.linear(10, 0.01, 0.5)
X0 = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
T = np.array([1, 4, 7, 10])
NOISE = np.random.default_rng(0).standard_normal(X0.shape, dtype=np.float32)


def test_the_network_is_called_with_a_tensor_the_times_labels_and_rng():
    called = {}

    def net(x, t, label, rng):
        called.update(x=x, t=t, label=label, rng=rng)
        return x * 0.0

    label, rng = np.arange(4), np.random.default_rng(0)
    loss = simple_loss(net, SCHEDULE, X0, T, NOISE, label, rng)
    assert isinstance(called["x"], Tensor) and called["x"].dtype == np.float32
    np.testing.assert_array_equal(called["t"], T)
    assert called["label"] is label and called["rng"] is rng
    assert isinstance(loss, Tensor) and loss.shape == ()
    assert loss.item() == pytest.approx(np.mean(NOISE**2), rel=1e-6)


def test_an_objective_calls_the_network_in_the_same_manner():
    called, schedule = {}, schedules.respaced(SCHEDULE, (10, 5, 2, 0))

    def net(x, t, label, rng):
        called.update(x=x, t=t, label=label, rng=rng)
        return x * 0.0

    t, label, rng = np.array([1, 3, 2, 2]), np.arange(4), np.random.default_rng(0)
    losses = Objective(schedule).losses(net, X0, t, NOISE, label, rng)
    np.testing.assert_array_equal(called["x"].data, noising.diffuse(schedule, X0, t, NOISE))
    np.testing.assert_array_equal(called["t"], [2, 10, 5, 5])
    assert called["label"] is label and called["rng"] is rng
    assert isinstance(losses, Tensor) and losses.shape == (4,)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("channels", [1, 2], ids=["fixed", "learned"])
def test_losses_are_in_the_dtype_of_the_data(weighting, channels):
    for dtype in (np.float32, np.float64):
        net = lambda x, *_: ag.concatenate(*[x] * channels, axis=1)  # noqa: E731
        losses = Objective(SCHEDULE, "eps", weighting).losses(net, X0.astype(dtype), T, NOISE.astype(dtype))
        assert losses.dtype == dtype


def test_on_a_respaced_schedule_the_network_gets_the_original_times():
    called = []
    schedule = schedules.respaced(SCHEDULE, (10, 5, 2, 0))
    simple_loss(
        lambda x, t, label, rng: called.append(t) or x, schedule, X0[:3], np.array([1, 2, 3]), NOISE[:3]
    )
    np.testing.assert_array_equal(called[0], [2, 5, 10])


def test_dropout_is_drawn_from_the_rng_and_left_out_without_one():
    rng = np.random.default_rng(0)
    net = nn.UNet(rng, size=4, channels=1, width=8, multipliers=(1,), depth=1, groups=4, dropout=0.5)
    for p in net.named_parameters().values():  # the last layers start at zero and would hide it
        p.data[...] = rng.standard_normal(p.shape)
    x0, noise = rng.standard_normal((2, 4, 4, 4, 1), dtype=np.float32)

    def loss(rng=None):
        return simple_loss(net, SCHEDULE, x0, T, noise, rng=rng).item()

    assert loss() == loss()
    assert loss(np.random.default_rng(1)) == loss(np.random.default_rng(1)) != loss()


@pytest.mark.parametrize(
    ("t", "noise"), [(np.array([0, 1, 2, 11]), NOISE), (T[:3], NOISE), (T, NOISE[:, :1])]
)
def test_times_out_of_range_and_mismatched_shapes_are_refused(t, noise):
    with pytest.raises(ValueError):
        simple_loss(lambda x, t, label, rng: x, SCHEDULE, X0, t, noise)


def test_an_output_of_another_shape_is_not_broadcast():
    with pytest.raises(ValueError):
        simple_loss(lambda x, t, label, rng: x[:, :1], SCHEDULE, X0, T, NOISE)


# ---- predictions and weightings

PREDICTED = ("eps", "x0", "v")
seeds = st.integers(0, 2**32 - 1)


def some(seed, *shape):
    return np.random.default_rng(seed).standard_normal((3, *shape))


def affine(x, t, label=None, rng=None):
    """An untrained network whose output depends on the time; for arrays and tensors."""
    return x * (0.3 + 0.05 * t).reshape(-1, *[1] * (x.ndim - 1))


WEIGHT_OF_X0 = {
    "min-snr": lambda schedule, t: np.minimum(schedule.snr[t], 5),
    "p2": lambda schedule, t: schedule.snr[t] / (1 + schedule.snr[t]),
    "bound": lambda schedule, t: schedule.T * likelihood.eps_weights(schedule, "large")[t] * schedule.snr[t],
}


@pytest.mark.parametrize("weighting", WEIGHT_OF_X0)
@pytest.mark.parametrize("prediction", PREDICTED)
@given(seeds)
def test_a_weighted_loss_is_the_weight_of_its_paper_times_the_error_of_x0(prediction, weighting, seed):
    x0, noise, _ = some(seed, 4, 3)
    x0_hat = Denoiser(affine, SCHEDULE, prediction)(noising.diffuse(SCHEDULE, x0, T, noise), T).x0
    losses = Objective(SCHEDULE, prediction, weighting).losses(affine, x0, T, noise)
    expected = WEIGHT_OF_X0[weighting](SCHEDULE, T) * ((x0 - x0_hat) ** 2).mean(axis=1)
    np.testing.assert_allclose(losses.data, expected, rtol=1e-10)


@pytest.mark.parametrize("prediction", PREDICTED)
def test_a_simple_loss_is_the_unweighted_error_of_the_predicted_quantity(prediction):
    x0, noise, _ = some(0, 4, 2, 2, 1)
    x_t = noising.diffuse(SCHEDULE, x0, T, noise)
    target = {"eps": noise, "x0": x0, "v": noising.v_from(SCHEDULE, x0, noise, T)}[prediction]
    losses = Objective(SCHEDULE, prediction).losses(affine, x0, T, noise)
    np.testing.assert_allclose(losses.data, ((target - affine(x_t, T)) ** 2).mean(axis=(1, 2, 3)), rtol=1e-12)


def test_the_default_objective_is_l_simple():
    losses = Objective(SCHEDULE).losses(affine, X0, T, NOISE)
    assert losses.data.mean() == pytest.approx(simple_loss(affine, SCHEDULE, X0, T, NOISE).item(), rel=1e-6)


@pytest.mark.parametrize("prediction", PREDICTED)
def test_two_networks_differ_in_the_bound_objective_as_in_the_bound(prediction):
    """With a fixed variance the networks differ in their means alone; the rest is the same constant."""
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
def test_the_gradient_of_the_losses_equals_finite_differences(prediction, weighting):
    x0, noise, weights = some(2, 4, 4)
    objective = Objective(SCHEDULE, prediction, weighting)
    check_gradient(lambda w: objective.losses(lambda x, *_: x @ w, x0, T, noise), weights)


def test_eps_prediction_is_refused_where_the_terminal_snr_is_zero():
    to_zero = schedules.zero_terminal_snr(SCHEDULE)
    with pytest.raises(ValueError) as raised:
        Objective(to_zero)
    assert (
        str(raised.value) == "ε determines nothing of x₀ at T, where ᾱ_T = 0: choose the prediction v or x0"
    )
    for prediction in ("x0", "v"):
        for weighting in WEIGHTINGS:
            losses = Objective(to_zero, prediction, weighting).losses(affine, X0, T, NOISE)
            assert np.all(np.isfinite(losses.data))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("noise",), "prediction must be one of eps, x0, v; got 'noise'"),
        (("eps", "heavy"), "weighting must be one of simple, min-snr, p2, bound; got 'heavy'"),
    ],
)
def test_an_unknown_prediction_or_weighting_is_refused(arguments, message):
    with pytest.raises(ValueError) as raised:
        Objective(SCHEDULE, *arguments)
    assert str(raised.value) == message


def test_the_bound_of_a_single_step_is_refused_at_once():
    with pytest.raises(ValueError, match=r"bound needs T ≥ 2"):
        Objective(schedules.constant(1, 0.3), "v", "bound")
    for weighting in {*WEIGHTINGS} - {"bound"}:
        assert np.isfinite(Objective(schedules.constant(1, 0.3), "v", weighting).weights).all()


def test_an_objective_refuses_an_output_of_another_shape():
    with pytest.raises(ValueError, match="shape"):
        Objective(SCHEDULE).losses(lambda x, *_: x[:, :1], X0, T, NOISE)


# ---- a learned variance


def with_weight(weight):
    """A network that outputs `affine`, and the same interpolation weight for every variance."""

    def net(x, t, label=None, rng=None):
        x = x.data if isinstance(x, Tensor) else x
        return Tensor(np.concatenate([affine(x, t), np.full_like(x, weight)], axis=-1))

    return net


@pytest.mark.parametrize("prediction", PREDICTED)
@given(st.floats(-2, 2), seeds)
def test_with_a_learned_variance_the_bound_is_the_kl_of_the_gaussians(prediction, weight, seed):
    x0, noise, _ = some(seed, 4, 3)
    x_t = noising.diffuse(SCHEDULE, x0, T, noise)
    losses = Objective(SCHEDULE, prediction, "bound").losses(with_weight(weight), x0, T, noise)
    x0_hat, _, log_variance = Denoiser(lambda x, t: with_weight(weight)(x, t).data, SCHEDULE, prediction)(
        x_t, T
    )
    right = noising.posterior(SCHEDULE, x0, x_t, T)
    mean, variance = noising.posterior(SCHEDULE, x0_hat, x_t, T)[0], np.exp(log_variance)
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = likelihood.gaussian_kl(*right, mean, variance)
    expected[T == 1] = (((x0 - mean) ** 2 / variance + np.log(2 * np.pi * variance)) / 2)[T == 1]
    np.testing.assert_allclose(losses.data, SCHEDULE.T * expected.mean(axis=1), rtol=1e-8, atol=1e-8)


def test_the_range_of_the_variance_is_from_beta_tilde_to_beta():
    for weight, ends in ((-1.0, SCHEDULE.posterior_variance), (1.0, SCHEDULE.beta)):
        learned = np.exp(
            [learned_log_variance(SCHEDULE, np.array([[weight]]), t).item() for t in range(1, 11)]
        )
        ends = ends.copy()
        ends[1] = SCHEDULE.posterior_variance[2] if weight < 0 else SCHEDULE.beta[1]
        np.testing.assert_allclose(learned, ends[1:], rtol=1e-12)


@pytest.mark.parametrize("weighting", ["simple", "min-snr", "p2"])
def test_the_hybrid_loss_trains_the_variance_by_the_bound_alone(weighting):
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
def test_the_variance_of_images_is_the_second_half_of_the_channels(weighting):
    x0, noise, guess = some(7, 4, 3, 5, 2)
    weight = 0.3 * np.random.default_rng(8).standard_normal(x0.shape)
    flat = lambda a: a.reshape(4, -1)  # noqa: E731
    objective = Objective(SCHEDULE, "eps", weighting)
    image = objective.losses(lambda *_: Tensor(np.concatenate([guess, weight], axis=-1)), x0, T, noise)
    row = Tensor(np.concatenate([flat(guess), flat(weight)], axis=-1))
    np.testing.assert_allclose(
        image.data, objective.losses(lambda *_: row, flat(x0), T, flat(noise)).data, rtol=1e-12
    )


def test_the_gradient_of_the_bound_in_mean_and_variance():
    x0, noise, _ = some(5, 4, 2)
    objective = Objective(SCHEDULE, "eps", "bound")
    output = 0.5 * np.random.default_rng(6).standard_normal((4, 4))
    check_gradient(lambda a: objective.losses(lambda *_: a, x0, T, noise), output)


@pytest.mark.parametrize("spread", [0.05, 1.0])
def test_on_gaussian_data_the_best_variance_is_that_of_the_reverse_step(spread):
    """q(x_{t−1}|x_t) of N(0, s²) is Gaussian with a variance in closed form, and the exact ε gives its mean.

    The bound is a quadratic in x_0 and ε, and their mean over ±1 is that over the normal distribution.
    """
    data, t = Gaussian(np.zeros(1), spread**2 * np.eye(1)), 6
    signs = np.array([[a, b] for a in (-1, 1) for b in (-1, 1)], dtype=float)
    x0, noise = spread * signs[:, :1], signs[:, 1:]
    alpha, before = (
        SCHEDULE.alpha[t],
        SCHEDULE.alpha_bar[t - 1] * spread**2 + SCHEDULE.one_minus_alpha_bar[t - 1],
    )
    variance = before * SCHEDULE.beta[t] / (alpha * before + SCHEDULE.beta[t])
    low, high = (learned_log_variance(SCHEDULE, np.array(p), t) for p in (-1.0, 1.0))
    weight = Tensor(np.full((1, 1), 2 * (np.log(variance) - low) / (high - low) - 1), requires_grad=True)

    def net(x, t, label, rng):
        exact = Tensor(data.eps(SCHEDULE, x.data, t))
        return ag.concatenate(exact, weight + np.zeros((4, 1)), axis=1)

    losses = Objective(SCHEDULE, "eps", "bound").losses(net, x0, np.full(4, t), noise)
    losses.backward(np.ones(4))
    assert -1 < weight.data.item() <= 1 + 1e-9
    assert abs(weight.grad.item()) < 1e-9 * SCHEDULE.T
