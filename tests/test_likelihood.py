"""The bound as a room: shapes, dtypes, draws, refusals. Its mathematics is in properties/test_bound.py."""

import numpy as np
import pytest

from minidiff import likelihood, noising, schedules
from minidiff.denoiser import Denoiser
from minidiff.oracles import Gaussian

# An infinite weight is meant where it comes, and nobody is warned of it.
pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

SCHEDULE = schedules.cosine(12)
SHAPES = [(3,), (4, 4, 1)]


def shrinking(x, t):
    """A network of no merit, for any shape."""
    return x * (0.5 + 0.01 * t).reshape(-1, *[1] * (x.ndim - 1))


def denoiser(**options):
    return Denoiser(shrinking, SCHEDULE, **options)


def some(shape, dtype=np.float64, seed=0):
    """Samples whose every number is one of the 256 levels, so that either decoder takes them."""
    levels = np.random.default_rng(seed).integers(0, 256, (5, *shape))
    return (levels / 127.5 - 1).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("decoder", ["gaussian", "levels"])
def test_every_term_is_a_float64_for_each_sample_and_leaves_x0_alone(shape, dtype, decoder):
    x0 = some(shape, dtype)
    before = x0.copy()
    terms = likelihood.bound(denoiser(), x0, np.random.default_rng(0), "large", decoder)
    for term in (*terms, terms.total, likelihood.bits_per_dim(terms.total, x0)):
        assert term.shape == (5,) and term.dtype == np.float64 and np.all(np.isfinite(term))
    np.testing.assert_array_equal(x0, before)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_sample_is_the_sum_of_its_coordinates(shape):
    x0, x_t = some(shape), some(shape, seed=1)
    wide, line = denoiser(), lambda x: x.reshape(len(x), -1)
    for term in (
        lambda x, y: likelihood.prior_term(SCHEDULE, x),
        lambda x, y: likelihood.step_term(wide, x, y, 5),
        lambda x, y: likelihood.data_term(wide, x, y),
        lambda x, y: likelihood.data_term(wide, x, y, decoder="levels"),
    ):
        np.testing.assert_allclose(term(x0, x_t), term(line(x0), line(x_t)), rtol=1e-12)
        one_by_one = [term(a.reshape(-1, 1), b.reshape(-1, 1)).sum() for a, b in zip(x0, x_t, strict=True)]
        np.testing.assert_allclose(term(x0, x_t), one_by_one, rtol=1e-12)


def test_a_time_of_its_own_for_each_sample():
    x0, x_t, t = some((3,)), some((3,), seed=1), np.array([2, 12, 7, 2, 3])
    together = likelihood.step_term(denoiser(), x0, x_t, t)
    one_by_one = [
        likelihood.step_term(denoiser(), x0[i : i + 1], x_t[i : i + 1], int(t[i])).item() for i in range(5)
    ]
    np.testing.assert_allclose(together, one_by_one, rtol=1e-12)


def test_the_same_generator_gives_the_same_bound_and_another_one_another():
    first, again, other = (
        likelihood.bound(denoiser(), some((3,)), np.random.default_rng(seed)).total for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert np.all(first != other)


def test_of_some_times_the_mean_stands_for_all():
    x0, law = np.tile(some((1,))[:1], (20_000, 1)), Gaussian([0.0], [[0.3]])
    exact = Denoiser(law.network(SCHEDULE, "x0"), SCHEDULE, "x0")

    def steps(times):
        return likelihood.bound(exact, x0, np.random.default_rng(0), times=times).steps.mean()

    each = [steps([t]) for t in range(2, 13)]  # each is one term, times 11
    assert steps(None) == pytest.approx(np.mean(each), rel=0.05)
    assert steps([5, 5, 5]) == pytest.approx(each[3], rel=0.05)


def test_bits_per_dim_of_log_2_nats_a_coordinate_is_one():
    assert likelihood.bits_per_dim(np.array([48 * np.log(2)]), np.zeros((1, 4, 4, 3))) == pytest.approx(1.0)


def test_the_variances_by_name_have_beta_tilde_2_at_the_last_step_and_the_schedule_is_left_alone():
    for name, array in {"small": SCHEDULE.posterior_variance, "large": SCHEDULE.beta}.items():
        sigma2 = likelihood.step_variances(SCHEDULE, name)
        assert sigma2[0] == 0 and sigma2[1] == SCHEDULE.posterior_variance[2]
        np.testing.assert_array_equal(sigma2[2:], array[2:])
    assert SCHEDULE.posterior_variance[1] == 0


def test_where_only_noise_is_left_the_prior_costs_nothing_and_the_chain_is_priced_by_x0():
    schedule = schedules.zero_terminal_snr(SCHEDULE)
    x0 = some((3,))
    np.testing.assert_array_equal(likelihood.prior_term(schedule, x0), 0)
    assert likelihood.eps_weights(schedule)[-1] == np.inf
    terms = likelihood.bound(Denoiser(shrinking, schedule, "x0"), x0, np.random.default_rng(0))
    assert np.all(np.isfinite(terms.total))


def test_float32_images_are_read_as_the_levels_that_they_stand_for():
    levels = (np.arange(256) / 127.5 - 1)[:, None]
    mean = np.full_like(levels, 0.2)
    single = likelihood.log_level_mass(levels.astype(np.float32), mean, 1e-4)
    np.testing.assert_array_equal(single, likelihood.log_level_mass(levels, mean, 1e-4))


def test_a_batch_of_none_is_a_bound_of_none():
    for decoder in ("gaussian", "levels"):
        terms = likelihood.bound(denoiser(), np.zeros((0, 3)), np.random.default_rng(0), decoder=decoder)
        assert terms.total.shape == (0,)


@pytest.mark.parametrize(
    "x0", [np.array([[0.5]]), np.array([[1.0 + 2 / 255]]), np.array([[-1.1]]), np.array([[np.nan]])]
)
def test_pixels_that_are_on_no_level_are_refused(x0):
    with pytest.raises(ValueError, match="one of the 256 levels"):
        likelihood.log_level_mass(x0, np.zeros((1, 1)), 0.1)


@pytest.mark.parametrize("t", [0, 1, 13, 2.0])
def test_a_step_term_wants_a_time_from_2_to_T(t):
    with pytest.raises(ValueError, match="expected t"):
        likelihood.step_term(denoiser(), some((3,)), some((3,)), t)


@pytest.mark.parametrize("times", [[], [1], [13]])
def test_a_bound_wants_times_from_2_to_T(times):
    with pytest.raises(ValueError, match="expected"):
        likelihood.bound(denoiser(), some((3,)), np.random.default_rng(0), times=times)


def test_the_bound_takes_its_last_term_from_the_decoder_that_it_is_told():
    x0, rng = some((3,)), np.random.default_rng(0)
    terms = likelihood.bound(denoiser(), x0, rng, "large", "levels", times=[2])
    rng = np.random.default_rng(0)
    rng.standard_normal(x0.shape)
    x_1 = noising.diffuse(SCHEDULE, x0, 1, rng.standard_normal(x0.shape))
    for decoder in ("levels", "gaussian"):
        alone = likelihood.data_term(denoiser(), x0, x_1, "large", decoder)
        assert np.array_equal(alone, terms.data) == (decoder == "levels")


@pytest.mark.parametrize("variance", ["tiny", np.ones(12), np.zeros(13), np.array([1.0, 0.0] + [1.0] * 11)])
def test_variances_that_are_none_are_refused(variance):
    with pytest.raises(ValueError, match="expected"):
        likelihood.step_variances(SCHEDULE, variance)


def test_a_single_step_has_no_second_variance_to_take():
    one = schedules.constant(1, 0.5)
    with pytest.raises(ValueError, match="T ≥ 2"):
        likelihood.step_variances(one, "small")
    assert likelihood.data_term(Denoiser(shrinking, one), some((3,)), some((3,)), np.ones(2)).shape == (5,)


def test_a_decoder_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="decoder"):
        likelihood.data_term(denoiser(), some((3,)), some((3,)), decoder="bins")


def test_only_float_data_of_one_shape_is_taken():
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
            lambda: likelihood.bound(denoiser(), some((3,)), np.random.default_rng(0), times=[]),
            ValueError,
            "expected at least one t of 2…T at which to compute L_{t−1}, got none",
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
def test_an_error_says_what_was_expected_and_what_came(call, error, message):
    with pytest.raises(error) as raised:
        call()
    assert str(raised.value) == message
