"""Shapes, dtypes, draws and errors of the bound. Its mathematics is in properties/test_bound.py."""

import numpy as np
import pytest

from minidiff import likelihood, noising, schedules
from minidiff.diffusion.denoiser import Denoiser
from minidiff.diffusion.oracles import Gaussian

# Infinite weights are intended and give no warning.
pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

SCHEDULE = schedules.cosine(12)
SHAPES = [(3,), (4, 4, 1)]


def shrinking(x, t):
    """An arbitrary network for any shape."""
    return x * (0.5 + 0.01 * t).reshape(-1, *[1] * (x.ndim - 1))


def denoiser(**options):
    return Denoiser(shrinking, SCHEDULE, **options)


def some(shape, dtype=np.float64, seed=0):
    """Samples on the 256 levels of images, so that they are valid for every data term."""
    levels = np.random.default_rng(seed).integers(0, 256, (5, *shape))
    return (levels / 127.5 - 1).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("levels", [None, 256])
def test_every_term_is_float64_per_sample_and_x0_is_not_modified(shape, dtype, levels):
    x0 = some(shape, dtype)
    before = x0.copy()
    terms = likelihood.bound(denoiser(), x0, np.random.default_rng(0), "large", levels)
    for term in (*terms, terms.total, likelihood.bits_per_dim(terms.total, x0)):
        assert term.shape == (5,) and term.dtype == np.float64 and np.all(np.isfinite(term))
    np.testing.assert_array_equal(x0, before)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_sample_is_the_sum_of_its_coordinates(shape):
    x0, x_t = some(shape), some(shape, seed=1)
    network, flat = denoiser(), lambda x: x.reshape(len(x), -1)
    for term in (
        lambda x, y: likelihood.prior_term(SCHEDULE, x),
        lambda x, y: likelihood.step_term(network, x, y, 5),
        lambda x, y: likelihood.data_term(network, x, y),
        lambda x, y: likelihood.data_term(network, x, y, levels=256),
    ):
        np.testing.assert_allclose(term(x0, x_t), term(flat(x0), flat(x_t)), rtol=1e-12)
        one_by_one = [term(a.reshape(-1, 1), b.reshape(-1, 1)).sum() for a, b in zip(x0, x_t, strict=True)]
        np.testing.assert_allclose(term(x0, x_t), one_by_one, rtol=1e-12)


def test_each_sample_may_have_its_own_time():
    x0, x_t, t = some((3,)), some((3,), seed=1), np.array([2, 12, 7, 2, 3])
    together = likelihood.step_term(denoiser(), x0, x_t, t)
    one_by_one = [
        likelihood.step_term(denoiser(), x0[i : i + 1], x_t[i : i + 1], int(t[i])).item() for i in range(5)
    ]
    np.testing.assert_allclose(together, one_by_one, rtol=1e-12)


def test_the_same_seed_gives_the_same_bound_and_another_seed_another():
    first, again, other = (
        likelihood.bound(denoiser(), some((3,)), np.random.default_rng(seed)).total for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert np.all(first != other)


@pytest.mark.parametrize("strata", [(12, 1), (12, 8, 2, 1), (12, 11, 10, 3, 1)])
def test_one_time_per_stratum_estimates_the_whole_stratum(strata):
    x0, gaussian = np.tile(some((1,))[:1], (20_000, 1)), Gaussian([0.0], [[0.3]])
    exact = Denoiser(gaussian.network(SCHEDULE, "x0"), SCHEDULE, "x0")

    def steps(strata):
        return likelihood.mean_and_error(
            likelihood.bound(exact, x0, np.random.default_rng(0), strata=strata).steps
        )

    (whole, error), (estimate, its_error) = steps(None), steps(strata)
    assert 0 < error < its_error < 0.05 * whole
    assert abs(estimate - whole) < 5 * np.hypot(error, its_error)


def test_log_2_nats_per_coordinate_are_one_bit_per_dim():
    assert likelihood.bits_per_dim(np.array([48 * np.log(2)]), np.zeros((1, 4, 4, 3))) == pytest.approx(1.0)


def test_named_variances_have_beta_tilde_2_at_the_last_step():
    for name, array in {"small": SCHEDULE.posterior_variance, "large": SCHEDULE.beta}.items():
        sigma2 = likelihood.step_variances(SCHEDULE, name)
        assert sigma2[0] == 0 and sigma2[1] == SCHEDULE.posterior_variance[2]
        np.testing.assert_array_equal(sigma2[2:], array[2:])
    assert SCHEDULE.posterior_variance[1] == 0


def test_at_zero_terminal_snr_the_prior_term_is_0_and_the_bound_is_finite():
    schedule = schedules.zero_terminal_snr(SCHEDULE)
    x0 = some((3,))
    np.testing.assert_array_equal(likelihood.prior_term(schedule, x0), 0)
    assert likelihood.eps_weights(schedule)[-1] == np.inf
    terms = likelihood.bound(Denoiser(shrinking, schedule, "x0"), x0, np.random.default_rng(0))
    assert np.all(np.isfinite(terms.total))


def test_float32_images_are_rounded_to_their_levels():
    levels = (np.arange(256) / 127.5 - 1)[:, None]
    mean = np.full_like(levels, 0.2)
    from_float32 = likelihood.log_level_mass(levels.astype(np.float32), mean, 1e-4)
    np.testing.assert_array_equal(from_float32, likelihood.log_level_mass(levels, mean, 1e-4))


def test_the_bound_of_an_empty_batch_is_empty():
    for levels in (None, 256):
        terms = likelihood.bound(denoiser(), np.zeros((0, 3)), np.random.default_rng(0), levels=levels)
        assert terms.total.shape == (0,)


@pytest.mark.parametrize(
    "x0", [np.array([[0.5]]), np.array([[1.0 + 2 / 255]]), np.array([[-1.1]]), np.array([[np.nan]])]
)
def test_pixels_between_levels_are_refused(x0):
    with pytest.raises(ValueError, match="one of the 256 levels"):
        likelihood.log_level_mass(x0, np.zeros((1, 1)), 0.1)


@pytest.mark.parametrize("t", [0, 1, 13, 2.0])
def test_a_step_term_requires_a_time_from_2_to_T(t):
    with pytest.raises(ValueError, match="expected t"):
        likelihood.step_term(denoiser(), some((3,)), some((3,)), t)


@pytest.mark.parametrize("strata", [[], [12], [1], [13, 1], [12, 0], [12, 5, 5, 1], [11, 1]])
def test_strata_fall_from_T_to_1(strata):
    with pytest.raises(ValueError, match="strata"):
        likelihood.bound(denoiser(), some((3,)), np.random.default_rng(0), strata=strata)


def test_the_bound_is_the_sum_of_the_step_costs_of_the_chain():
    costs = likelihood.chain(denoiser(), some((3,)), np.random.default_rng(0), "large")
    assert costs.step.shape == costs.distortion.shape == (11, 5) and np.all(costs.width == 1)
    terms = likelihood.bound(denoiser(), some((3,)), np.random.default_rng(0), "large")
    np.testing.assert_allclose(costs.step.sum(axis=0), terms.steps, rtol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_distortion_is_the_mean_square_over_all_coordinates(shape):
    zero, x0 = Denoiser(lambda x, t: np.zeros_like(x), SCHEDULE, "x0"), some(shape)
    distortion = likelihood.chain(zero, x0, np.random.default_rng(0)).distortion
    np.testing.assert_allclose(
        distortion, np.tile((x0.reshape(5, -1) ** 2).mean(axis=1), (11, 1)), rtol=1e-12
    )


def test_the_default_variance_of_the_chain_is_small():
    explicit, default = (
        likelihood.chain(denoiser(), some((3,)), np.random.default_rng(0), *variance).step
        for variance in (["small"], [])
    )
    np.testing.assert_array_equal(explicit, default)


def test_the_rate_at_a_stratum_counts_half_of_its_other_times():
    x0, step = some((3,)), np.arange(1.0, 16.0).reshape(3, 5)
    costs = likelihood.Costs(np.array([1, 4, 6]), step, np.zeros((3, 5)))
    rate, _ = likelihood.rate_distortion(SCHEDULE, x0, costs)
    prior, (first, second, third) = likelihood.prior_term(SCHEDULE, x0).mean(), step.mean(axis=1)
    expected = [prior, prior + first + 1.5 * second, prior + first + 4 * second + 2.5 * third]
    np.testing.assert_allclose(rate, expected, rtol=1e-12)


def test_rate_and_distortion_agree_with_their_closed_forms():
    """Rate and distortion of 40 000 samples against the closed forms of Gaussian data."""
    gaussian, schedule = Gaussian([0.0], [[0.25]]), SCHEDULE
    exact = Denoiser(gaussian.network(schedule, "x0"), schedule, "x0")
    x0 = gaussian.sample(np.random.default_rng(0), 40_000)
    costs = likelihood.chain(exact, x0, np.random.default_rng(1), "large")
    rate, distortion = likelihood.rate_distortion(schedule, x0, costs)
    prior = likelihood.prior_term(schedule, x0).mean()
    assert rate[0] == pytest.approx(prior) and np.all(np.diff(rate) > 0) and np.all(np.diff(distortion) < 0)
    assert rate[-1] == pytest.approx(prior + costs.step.mean(axis=1)[:-1].sum())
    ab, noise = schedule.alpha_bar[12:1:-1], schedule.one_minus_alpha_bar[12:1:-1]
    np.testing.assert_allclose(distortion, 0.25 * noise / (0.25 * ab + noise), rtol=0.03)  # Var[x_0 | x_t]

    rough = likelihood.chain(exact, x0, np.random.default_rng(2), "large", (12, 9, 6, 3, 1))
    at, _ = likelihood.rate_distortion(schedule, x0, rough)
    for found, k in zip(at, (0, 3, 6, 9), strict=True):
        assert rate[k] < found < rate[min(k + 2, 10)]


def test_a_learned_variance_is_used_where_it_exists_and_refused_elsewhere():
    def net(x, t):
        return np.concatenate([shrinking(x, t), np.ones_like(x)], axis=-1)

    x0, x_t = some((3,)), some((3,), seed=1)
    learned = Denoiser(net, SCHEDULE)
    for t in (2, 7, 12):
        large = likelihood.step_term(denoiser(), x0, x_t, t, "large")
        np.testing.assert_allclose(likelihood.step_term(learned, x0, x_t, t, "learned"), large, rtol=1e-12)
    first = np.where(np.arange(13) == 1, SCHEDULE.beta[1], 1.0)
    expected = likelihood.data_term(denoiser(), x0, x_t, first, 256)
    np.testing.assert_allclose(likelihood.data_term(learned, x0, x_t, "learned", 256), expected, rtol=1e-12)
    with pytest.raises(ValueError, match="no learned variance"):
        likelihood.step_term(denoiser(), x0, x_t, 5, "learned")


def test_the_masses_of_any_number_of_levels_sum_to_1():
    for levels in (2, 17, 256):
        every = (2 * np.arange(levels) / (levels - 1) - 1)[:, None]
        mass = np.exp(likelihood.log_level_mass(every, np.full((levels, 1), 0.3), 0.05, levels))
        assert mass.sum() == pytest.approx(1, rel=1e-12)


def test_the_standard_error_is_the_standard_deviation_over_the_root_of_n():
    mean, error = likelihood.mean_and_error(np.array([1.0, 2.0, 3.0, 6.0]))
    assert mean == 3 and error == pytest.approx(np.sqrt(14 / 3 / 4))
    assert likelihood.mean_and_error(np.array([1.0, 3.0])) == (2, pytest.approx(1))
    assert np.isnan(likelihood.mean_and_error(np.ones(1))[1])


def test_the_data_term_of_the_bound_uses_the_given_number_of_levels():
    x0, rng = np.clip(np.round(some((3,))), -1, 1), np.random.default_rng(0)
    strata = [SCHEDULE.T, 1]
    terms = likelihood.bound(denoiser(), x0, rng, "large", 17, strata)
    rng = np.random.default_rng(0)
    likelihood.chain(denoiser(), x0, rng, "large", strata)
    x_1 = noising.diffuse(SCHEDULE, x0, 1, rng.standard_normal(x0.shape))
    for levels in (17, 3, None):
        alone = likelihood.data_term(denoiser(), x0, x_1, "large", levels)
        assert np.array_equal(alone, terms.data) == (levels == 17)


@pytest.mark.parametrize("variance", ["tiny", np.ones(12), np.zeros(13), np.array([1.0, 0.0] + [1.0] * 11)])
def test_invalid_variances_are_refused(variance):
    with pytest.raises(ValueError, match="expected"):
        likelihood.step_variances(SCHEDULE, variance)


def test_a_schedule_of_one_step_has_no_second_variance():
    one = schedules.constant(1, 0.5)
    with pytest.raises(ValueError, match="T ≥ 2"):
        likelihood.step_variances(one, "small")
    assert likelihood.data_term(Denoiser(shrinking, one), some((3,)), some((3,)), np.ones(2)).shape == (5,)


def test_only_float_data_of_equal_shape_are_accepted():
    with pytest.raises(TypeError, match="float array"):
        likelihood.prior_term(SCHEDULE, np.ones((2, 3), dtype=int))
    with pytest.raises(TypeError, match="float array"):
        likelihood.bound(denoiser(), np.ones((2, 3), dtype=int), np.random.default_rng(0))
    with pytest.raises(ValueError, match="one shape"):
        likelihood.step_term(denoiser(), some((3,)), some((3,))[:, :1], 5)
    with pytest.raises(ValueError, match="one shape"):
        likelihood.data_term(denoiser(), some((3,)), some((3,))[:, :1])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: likelihood.bound(denoiser(), some((3,)), np.random.default_rng(0), strata=[]),
            ValueError,
            "expected strata that fall strictly from T = 12 to 1, got ()",
        ),
        (
            lambda: likelihood.step_variances(SCHEDULE, np.ones(12)),
            ValueError,
            "expected σ² of shape (13,), positive from t = 1 on, got (12,)",
        ),
        (
            lambda: likelihood.step_variances(schedules.constant(1), "small"),
            ValueError,
            "one step has no β̃_2 for σ_1²: give the σ² as an array, or take T ≥ 2",
        ),
        (
            lambda: likelihood.log_level_mass(np.full((1, 1), 0.5), np.zeros((1, 1)), 0.1),
            ValueError,
            "expected images whose every pixel is one of the 256 levels −1 + 2k/255, got others",
        ),
        (
            lambda: likelihood.step_term(denoiser(), some((3,)), some((3,)), 5, "learned"),
            ValueError,
            'the network has no learned variance: take "small" (β̃) or "large" (β)',
        ),
        (
            lambda: likelihood.prior_term(SCHEDULE, np.ones((2, 3), np.int32)),
            TypeError,
            "expected a float array (B, …), got int32",
        ),
        (
            lambda: likelihood.prior_term(SCHEDULE, [[0.5]]),
            TypeError,
            "expected a float array (B, …), got list",
        ),
    ],
)
def test_error_messages_state_what_was_expected_and_what_was_given(call, error, message):
    with pytest.raises(error) as raised:
        call()
    assert str(raised.value) == message
