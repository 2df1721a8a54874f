"""The likelihood of the probability-flow ODE, against distributions whose density is known."""

import numpy as np
import pytest

from minidiff import probability_flow, schedules
from minidiff.diffusion.denoiser import Denoiser
from minidiff.diffusion.oracles import Gaussian, Mixture

SCHEDULE = schedules.linear(1000, 1e-4, 0.03)  # ᾱ_T = 3e-7: x_T is noise to the accuracy of these tests
GAUSSIAN = Gaussian([0.4, -0.2], [[0.3, 0.1], [0.1, 0.6]])
PEAKS = Mixture([0.4, 0.6], [[-1.0, 0.0], [0.8, 0.5]], 0.1 * np.stack([np.eye(2)] * 2))
PREDICTED = ("eps", "x0", "v")


def differences(net, h=1e-5):
    """vᵀ ∂net/∂x by central differences, (f(x + h) − f(x − h)) / 2h."""

    def vjp(x, t, v):
        product = np.empty_like(x)
        for index in np.ndindex(*x.shape[1:]):
            step = np.zeros_like(x)
            step[(slice(None), *index)] = h
            derivative = (net(x + step, t) - net(x - step, t)) / (2 * h)
            product[(slice(None), *index)] = (derivative * v).reshape(len(x), -1).sum(axis=1)
        return product

    return vjp


def exact(oracle, prediction="eps", schedule=SCHEDULE):
    net = oracle.network(schedule, prediction)
    return Denoiser(net, schedule, prediction), differences(net)


@pytest.mark.parametrize("prediction", PREDICTED)
def test_on_gaussian_data_the_likelihood_is_exact_for_every_prediction(prediction):
    x0 = GAUSSIAN.sample(np.random.default_rng(0), 20)
    denoiser, vjp = exact(GAUSSIAN, prediction)
    got = probability_flow.log_likelihood(denoiser, x0, vjp)
    np.testing.assert_allclose(got, GAUSSIAN.log_density(SCHEDULE, x0, 0), atol=2e-3)


def test_the_likelihood_is_per_sample_and_over_every_time_by_default():
    x0, schedule = GAUSSIAN.sample(np.random.default_rng(0), 3), schedules.linear(20, 0.01, 0.5)
    denoiser, vjp = exact(GAUSSIAN, schedule=schedule)
    together = probability_flow.log_likelihood(denoiser, x0, vjp, range(20, -1, -1))
    alone = [probability_flow.log_likelihood(denoiser, x0[i : i + 1], vjp).item() for i in range(3)]
    np.testing.assert_allclose(alone, together, rtol=1e-12)


def test_on_a_mixture_the_likelihood_is_exact():
    x0 = PEAKS.sample(np.random.default_rng(0), 30)
    denoiser, vjp = exact(PEAKS)
    got = probability_flow.log_likelihood(denoiser, x0, vjp)
    np.testing.assert_allclose(got, PEAKS.log_density(SCHEDULE, x0, 0), atol=5e-3)


def test_between_two_noise_levels_the_error_is_of_second_order():
    """The step from clean data to the lowest level is the same in all and cancels in the differences."""
    oracle = Gaussian([0.3], [[0.5]])
    sigma_bar = np.geomspace(0.02, 20, 257)
    schedule = schedules.from_alpha_bar(1 / (1 + sigma_bar**2))
    x0 = oracle.sample(np.random.default_rng(0), 20)
    denoiser, vjp = exact(oracle, schedule=schedule)

    def at(length):
        return probability_flow.log_likelihood(denoiser, x0, vjp, (*range(257, 0, -length), 0))

    first, second = at(8) - at(4), at(4) - at(2)
    assert np.abs(first).mean() / np.abs(second).mean() == pytest.approx(4, rel=0.25)


def test_a_large_first_step_is_integrated_from_zero_noise():
    """From clean data to σ̄ = 0.2 the volume grows by ½ log(1 + 0.2²/0.5) = 0.038 nats."""
    oracle, sigma_bar = Gaussian([0.3], [[0.5]]), np.geomspace(0.2, 2000, 400)
    schedule = schedules.from_alpha_bar(1 / (1 + sigma_bar**2))
    x0 = oracle.sample(np.random.default_rng(0), 20)
    denoiser, vjp = exact(oracle, schedule=schedule)
    got = probability_flow.log_likelihood(denoiser, x0, vjp)
    np.testing.assert_allclose(got, oracle.log_density(schedule, x0, 0), atol=0.01)


def test_the_mean_of_the_estimate_is_the_exact_likelihood():
    """The trace over signs of a full 2 × 2 Jacobian takes two values, each half the time; all four signs average it."""
    x0 = GAUSSIAN.sample(np.random.default_rng(0), 3)
    denoiser, vjp = exact(GAUSSIAN)
    times = (*range(1000, 0, -50), 20, 5, 0)
    exactly = probability_flow.log_likelihood(denoiser, x0, vjp, times)
    got = [
        probability_flow.estimated_log_likelihood(denoiser, x0, vjp, np.random.default_rng(s), 8, times)
        for s in range(60)
    ]
    error = np.std(got, axis=0) / np.sqrt(60)
    assert np.all(error > 0) and np.all(np.abs(np.mean(got, axis=0) - exactly) < 4 * error)


def test_the_default_is_one_probe():
    x0 = GAUSSIAN.sample(np.random.default_rng(0), 3)

    def estimate(*probes):
        denoiser, vjp = exact(GAUSSIAN)
        rng, times = np.random.default_rng(1), (1000, 500, 100, 0)
        return probability_flow.estimated_log_likelihood(denoiser, x0, vjp, rng, *probes, timesteps=times)

    np.testing.assert_array_equal(estimate(), estimate(1))
    assert np.any(estimate() != estimate(2))


def test_the_likelihood_of_an_image_is_that_of_its_pixels():
    oracle = Gaussian(np.zeros(4), np.diag([0.2, 0.5, 1.0, 2.0]))
    schedule = schedules.linear(40, 1e-3, 0.4)
    net = oracle.network(schedule)
    image_net = lambda x, t: net(x.reshape(len(x), 4), t).reshape(x.shape)  # noqa: E731
    x0 = oracle.sample(np.random.default_rng(0), 5)
    flat = probability_flow.log_likelihood(Denoiser(net, schedule), x0, differences(net))
    image = probability_flow.log_likelihood(
        Denoiser(image_net, schedule), x0.reshape(5, 2, 2, 1), differences(image_net)
    )
    np.testing.assert_allclose(image, flat, rtol=1e-9)


def test_denoisers_and_times_without_a_likelihood_are_refused():
    net, x0 = GAUSSIAN.network(SCHEDULE), np.zeros((2, 2))
    for denoiser, times, message in [
        (
            Denoiser(net, SCHEDULE, clip=(-1, 1)),
            None,
            "a denoiser that clips is not one to one: leave out the clip for a likelihood",
        ),
        (
            Denoiser(net, schedules.zero_terminal_snr(SCHEDULE), "v"),
            None,
            "ᾱ_T = 0: the ODE in x/√ᾱ has no end there; take a schedule that leaves some signal",
        ),
        (
            Denoiser(net, SCHEDULE),
            (999, 0),
            "expected times from T = 1000 on, since p_T is what is known; got 999",
        ),
        (
            Denoiser(net, SCHEDULE),
            (1000, 5),
            "expected at least one time and then 0 at the end, got [1000,    5]",
        ),
    ]:
        with pytest.raises(ValueError) as raised:
            probability_flow.log_likelihood(denoiser, x0, differences(net), times)
        assert str(raised.value) == message
    with pytest.raises(ValueError, match="probe"):
        probability_flow.estimated_log_likelihood(
            Denoiser(net, SCHEDULE), x0, differences(net), np.random.default_rng(0), 0
        )
    with pytest.raises(ValueError, match="vjp of the shape"):
        probability_flow.log_likelihood(Denoiser(net, SCHEDULE), x0, lambda x, t, v: v[:1], (1000, 0))
