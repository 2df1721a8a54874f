"""Guidance against closed forms: mixtures, whose class probabilities follow by Bayes' rule."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidiff import guidance, noising, schedules
from minidiff.diffusion.denoiser import Denoiser, learned_log_variance
from minidiff.diffusion.oracles import Gaussian, Mixture

SCHEDULE = schedules.linear(50, 1e-3, 0.2)
WEIGHTS, MEANS = np.array([0.2, 0.5, 0.3]), np.array([[-1.0, 0.5], [0.7, 0.2], [0.1, -0.9]])
COVARIANCES = np.array([[[0.1, 0.02], [0.02, 0.2]], [[0.05, 0.0], [0.0, 0.3]], [[0.2, -0.1], [-0.1, 0.1]]])
ALL = Mixture(WEIGHTS, MEANS, COVARIANCES)
EACH = [Gaussian(m, c) for m, c in zip(MEANS, COVARIANCES, strict=True)]
NO_CLASS = 3
PREDICTED = ("eps", "x0", "v")
times, scales, seeds = st.integers(1, 50), st.floats(-2, 8), st.integers(0, 2**32 - 1)


def points(seed, n=5):
    return 2 * np.random.default_rng(seed).standard_normal((n, 2))


def by_class(prediction="eps", schedule=SCHEDULE):
    """The exact predictions as a class-conditional network: labels 0…2, or 3 for none."""
    nets = [oracle.network(schedule, prediction) for oracle in (*EACH, ALL)]

    def net(x, t, label):
        outputs = np.stack([exact(x, t) for exact in nets])
        return outputs[label, np.arange(len(x))]

    return net


def log_p_gradient(y, schedule=SCHEDULE):
    """∇ log p(y | x_t) = ∇ log q_t(x_t | y) − ∇ log q_t(x_t)."""
    return lambda x, t: EACH[y].score(schedule, x, t) - ALL.score(schedule, x, t)


# ---- classifier-free


@pytest.mark.parametrize("prediction", PREDICTED)
@given(times, scales, st.sampled_from([0, 1, 2]), seeds)
def test_classifier_free_guidance_mixes_the_two_scores(prediction, t, scale, label, seed):
    x = points(seed)
    guided = guidance.classifier_free(
        Denoiser(by_class(prediction), SCHEDULE, prediction), label, NO_CLASS, scale
    )
    score = noising.score_from_eps(SCHEDULE, guided(x, t).eps, t)
    given_y, free = EACH[label].score(SCHEDULE, x, t), ALL.score(SCHEDULE, x, t)
    expected = free + scale * (given_y - free)
    np.testing.assert_allclose(score, expected, rtol=1e-8, atol=1e-8 * np.abs(given_y).max())


def test_scale_0_is_unconditional_and_scale_1_conditional_in_one_evaluation_each():
    x, calls = points(0), []
    net = by_class()
    denoiser = Denoiser(lambda x, t, label: calls.append(len(x)) or net(x, t, label), SCHEDULE)
    for scale, oracle in ((0, ALL), (1, EACH[2])):
        eps = guidance.classifier_free(denoiser, 2, NO_CLASS, scale)(x, 9).eps
        np.testing.assert_allclose(eps, oracle.eps(SCHEDULE, x, 9), rtol=1e-12)
    assert calls == [5, 5]


def test_both_labels_are_evaluated_in_one_batch():
    calls = []
    net = by_class()
    denoiser = Denoiser(lambda x, t, label: calls.append((len(x), list(label))) or net(x, t, label), SCHEDULE)
    guidance.classifier_free(denoiser, 1, NO_CLASS, 2.0)(points(0, 3), 9)
    assert calls == [(6, [1, 1, 1, 3, 3, 3])]


def test_each_sample_may_have_its_own_class():
    x, label = points(1, 3), np.array([2, 0, 1])
    denoiser = Denoiser(by_class(), SCHEDULE)
    together = guidance.classifier_free(denoiser, label, NO_CLASS, 2.5)(x, 9).eps
    for i in range(3):
        alone = guidance.classifier_free(denoiser, label[i], NO_CLASS, 2.5)(x[i : i + 1], 9).eps
        np.testing.assert_allclose(together[i], alone[0], rtol=1e-12)
    with pytest.raises(ValueError, match="one for each of 5 samples"):
        guidance.classifier_free(denoiser, label, NO_CLASS, 2.5)(points(1, 5), 9)


def test_the_guided_prediction_is_clipped_and_eps_derived_again():
    x = 3 * points(2)
    free = guidance.classifier_free(Denoiser(by_class(), SCHEDULE), 0, NO_CLASS, 3.0)(x, 30)
    clipped = guidance.classifier_free(Denoiser(by_class(), SCHEDULE, clip=(-1, 1)), 0, NO_CLASS, 3.0)(x, 30)
    assert np.abs(free.x0).max() > 1
    np.testing.assert_allclose(clipped.x0, np.clip(free.x0, -1, 1), rtol=1e-12)
    np.testing.assert_allclose(noising.diffuse(SCHEDULE, clipped.x0, 30, clipped.eps), x, rtol=1e-12)


def test_a_learned_variance_is_that_of_the_class():
    def net(x, t, label):
        position = np.where(label == NO_CLASS, -1.0, 1.0)[:, None] * np.ones_like(x)
        return np.concatenate([by_class()(x, t, label), position], axis=1)

    guided = guidance.classifier_free(Denoiser(net, SCHEDULE), 1, NO_CLASS, 2.0)(points(0), 9)
    np.testing.assert_allclose(guided.log_variance, np.log(SCHEDULE.beta[9]))
    np.testing.assert_allclose(
        guided.eps,
        guidance.classifier_free(Denoiser(by_class(), SCHEDULE), 1, NO_CLASS, 2.0)(points(0), 9).eps,
    )


def test_for_images_the_prediction_is_guided_and_the_variance_is_that_of_the_class():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 4, 5, 2))
    outputs = rng.standard_normal((2, 4, 5, 4))  # of the class, and unconditional
    net = lambda x, t, label: outputs[label]  # noqa: E731
    guided = guidance.classifier_free(Denoiser(net, SCHEDULE), 0, 1, 2.5)(x, 9)
    (given_y, position), (free, _) = (np.split(output, 2, axis=-1) for output in outputs)
    np.testing.assert_allclose(guided.eps, np.tile(free + 2.5 * (given_y - free), (3, 1, 1, 1)))
    learned = learned_log_variance(SCHEDULE, np.tile(position, (3, 1, 1, 1)), 9)
    np.testing.assert_allclose(guided.log_variance, learned)


# ---- a classifier


@pytest.mark.parametrize("prediction", PREDICTED)
@given(times, st.sampled_from([0, 1, 2]), seeds)
def test_the_exact_classifier_at_scale_1_gives_the_distribution_of_the_class(prediction, t, y, seed):
    x = points(seed)
    free = Denoiser(ALL.network(SCHEDULE, prediction), SCHEDULE, prediction)
    guided = guidance.by_classifier(free, log_p_gradient(y), 1.0)(x, t)
    exact = Denoiser(EACH[y].network(SCHEDULE, prediction), SCHEDULE, prediction)(x, t)
    scale = np.abs(x).max() / np.sqrt(SCHEDULE.alpha_bar[t])
    np.testing.assert_allclose(guided.x0, exact.x0, rtol=1e-7, atol=1e-9 * scale)
    np.testing.assert_allclose(guided.eps, exact.eps, rtol=1e-7, atol=1e-9 * scale)


@given(times, scales, seeds)
def test_both_kinds_of_guidance_agree_where_both_are_exact(t, scale, seed):
    x = points(seed)
    free = guidance.classifier_free(Denoiser(by_class(), SCHEDULE), 1, NO_CLASS, scale)(x, t).eps
    by_gradient = guidance.by_classifier(Denoiser(ALL.network(SCHEDULE), SCHEDULE), log_p_gradient(1), scale)(
        x, t
    ).eps
    np.testing.assert_allclose(by_gradient, free, rtol=1e-7, atol=1e-8 * (1 + np.abs(free).max()))


def test_guidance_can_be_applied_to_a_guided_denoiser():
    x = points(3)
    once = guidance.classifier_free(Denoiser(by_class(), SCHEDULE), 1, NO_CLASS, 2.0)
    twice = guidance.by_classifier(once, lambda x, t: np.ones_like(x), 0.5)(x, 9).eps
    expected = once(x, 9).eps - 0.5 * np.sqrt(SCHEDULE.one_minus_alpha_bar[9])
    np.testing.assert_allclose(twice, expected, rtol=1e-10)


def test_on_a_respaced_schedule_the_gradient_is_evaluated_at_the_original_times():
    short, calls = schedules.respaced(SCHEDULE, (50, 20, 3, 0)), []
    free = Denoiser(lambda x, t: np.zeros_like(x), short)
    guided = guidance.by_classifier(free, lambda x, t: calls.append(t) or np.ones_like(x), 2.0)
    eps = guided(points(0, 3), np.array([1, 2, 3])).eps
    np.testing.assert_array_equal(calls[0], [3, 20, 50])
    np.testing.assert_allclose(eps[:, 0], -2 * np.sqrt(SCHEDULE.one_minus_alpha_bar[[3, 20, 50]]))


def test_for_images_the_gradient_moves_the_prediction_and_not_the_variance():
    x = np.random.default_rng(0).standard_normal((3, 4, 5, 2))
    free = Denoiser(lambda x, t: np.concatenate([x, x], axis=-1), SCHEDULE)
    guided = guidance.by_classifier(free, lambda x, t: np.ones_like(x), 0.5)(x, 9)
    np.testing.assert_allclose(guided.eps, x - 0.5 * np.sqrt(SCHEDULE.one_minus_alpha_bar[9]), rtol=1e-12)
    np.testing.assert_array_equal(guided.log_variance, free(x, 9).log_variance)


def test_at_a_real_time_the_gradient_is_scaled_by_the_noise_level_there():
    free = Denoiser(lambda x, t: np.zeros_like(x), SCHEDULE)
    eps = guidance.by_classifier(free, lambda x, t: np.ones_like(x), 2.0)(points(0), 20.5).eps
    np.testing.assert_allclose(eps, -2 * np.sqrt(SCHEDULE.at(20.5).one_minus_alpha_bar), rtol=1e-12)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("prediction", ["x0", "v"])
def test_samples_at_zero_snr_are_not_moved_and_the_others_are(prediction):
    to_zero, x, t = schedules.zero_terminal_snr(SCHEDULE), points(0, 3), np.array([50, 49, 50])
    free = Denoiser(lambda x, t: np.zeros_like(x), to_zero, prediction)
    guided = guidance.by_classifier(free, lambda x, t: np.ones_like(x), 2.0)
    np.testing.assert_array_equal((guided(x, t).x0 != free(x, t).x0).all(axis=1), [False, True, False])
    np.testing.assert_array_equal(guided(x, t).x0[[0, 2]], free(x, t).x0[[0, 2]])


def test_at_zero_snr_the_classifier_is_not_evaluated():
    to_zero = schedules.zero_terminal_snr(SCHEDULE)
    free = Denoiser(lambda x, t: x, to_zero, "v")
    guided = guidance.by_classifier(free, lambda x, t: 1 / 0, 2.0)
    x = points(0)
    np.testing.assert_array_equal(guided(x, 50).x0, free(x, 50).x0)


# ---- thresholds


def test_a_dynamic_threshold_follows_the_paper_for_each_sample():
    x0 = (
        np.random.default_rng(0).standard_normal((3, 4, 4, 2))
        * np.array([0.1, 1.0, 5.0])[:, None, None, None]
    )
    held = guidance.dynamic_threshold(0.9)(x0)
    for before, after in zip(x0, held, strict=True):
        s = max(1.0, np.quantile(np.abs(before), 0.9))
        np.testing.assert_allclose(after, np.clip(before, -s, s) / s)
        assert np.abs(after).max() <= 1
    np.testing.assert_array_equal(held[0], x0[0])  # in range already
    largest = guidance.dynamic_threshold(1)(x0)
    np.testing.assert_allclose(largest[2], x0[2] / np.abs(x0[2]).max())


def test_with_a_dynamic_threshold_x0_and_eps_combine_to_x():
    x = (5 * points(0)).astype(np.float32)
    x0, eps, _ = Denoiser(lambda x, t: x / 2, SCHEDULE, clip=guidance.dynamic_threshold())(x, 40)
    assert x0.dtype == eps.dtype == np.float32 and np.abs(x0).max() <= 1
    np.testing.assert_allclose(noising.diffuse(SCHEDULE, x0, 40, eps), x, rtol=1e-5, atol=1e-6)


# ---- invalid arguments


@pytest.mark.parametrize("scale", [np.nan, np.inf])
def test_a_scale_that_is_not_finite_is_refused(scale):
    denoiser = Denoiser(by_class(), SCHEDULE)
    for guide in (
        lambda: guidance.classifier_free(denoiser, 1, 3, scale),
        lambda: guidance.by_classifier(denoiser, log_p_gradient(1), scale),
    ):
        with pytest.raises(ValueError, match="scale"):
            guide()


@pytest.mark.parametrize("quantile", [0, 1.1, np.nan])
def test_a_quantile_out_of_range_is_refused(quantile):
    with pytest.raises(ValueError, match="quantile"):
        guidance.dynamic_threshold(quantile)


def test_a_gradient_of_another_shape_is_refused():
    denoiser = Denoiser(ALL.network(SCHEDULE), SCHEDULE)
    with pytest.raises(ValueError, match="gradient of the shape"):
        guidance.by_classifier(denoiser, lambda x, t: x[:, :1], 1.0)(points(0), 9)
