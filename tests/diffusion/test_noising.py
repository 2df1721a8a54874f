import numpy as np
import pytest

from minidiff import noising, schedules

SCHEDULE = schedules.linear(100, 1e-3, 0.1)
ENDS_IN_NOISE = schedules.zero_terminal_snr(SCHEDULE)
rng = np.random.default_rng(0)

# Each function as (schedule, x, other, t) → result, and its first valid time
FUNCTIONS = {
    "step": (lambda s, x, y, t: noising.step(s, x, t, y), 1),
    "diffuse": (lambda s, x, y, t: noising.diffuse(s, x, t, y), 0),
    "marginal": (lambda s, x, y, t: noising.marginal(s, x, t)[0], 0),
    "posterior": (lambda s, x, y, t: noising.posterior(s, y, x, t)[0], 1),
    "x0_from_eps": (noising.x0_from_eps, 0),
    "eps_from_x0": (noising.eps_from_x0, 1),
    "v_from": (noising.v_from, 0),
    "x0_from_v": (noising.x0_from_v, 0),
    "eps_from_v": (noising.eps_from_v, 0),
    "score_from_eps": (lambda s, x, y, t: noising.score_from_eps(s, x, t), 1),
    "eps_from_score": (lambda s, x, y, t: noising.eps_from_score(s, x, t), 1),
}
OF_TWO = [n for n in FUNCTIONS if n not in ("marginal", "score_from_eps", "eps_from_score")]
every_function = pytest.mark.parametrize("name", FUNCTIONS)


@every_function
@pytest.mark.parametrize("shape", [(), (3,), (4, 4, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_shape_and_dtype_are_those_of_x_for_one_time_or_many(name, shape, dtype):
    function, first = FUNCTIONS[name]
    x = rng.standard_normal((5, *shape)).astype(dtype)
    other = rng.standard_normal((5, *shape))  # float64 noise beside float32 data is common
    x.setflags(write=False)
    other.setflags(write=False)
    t = np.array([first, 1, 50, 99, 100])
    together = function(SCHEDULE, x, other, t)
    assert together.shape == x.shape and together.dtype == dtype
    for i in range(5):
        alone = function(SCHEDULE, x[i : i + 1], other[i : i + 1], int(t[i]))
        assert alone.dtype == dtype and np.array_equal(alone[0], together[i])


@every_function
def test_an_empty_batch_stays_empty(name):
    empty = np.zeros((0, 3))
    assert FUNCTIONS[name][0](SCHEDULE, empty, empty, np.zeros(0, int)).shape == (0, 3)


@every_function
def test_a_time_out_of_range_is_refused(name):
    function, first = FUNCTIONS[name]
    x = np.ones((2, 3))
    for t in (first - 1, 101, np.array([1, 101]), np.array([first - 1, 5])):
        with pytest.raises(ValueError, match=rf"expected t in {first}…100, got"):
            function(SCHEDULE, x, x, t)


@every_function
@pytest.mark.parametrize("t", ["1", None, True])
def test_a_time_that_is_not_a_number_is_refused(name, t):
    x, integer_only = np.ones((2, 3)), name in ("step", "posterior")
    kind = "an integer or an array of integers" if integer_only else "a number or an array of numbers"
    with pytest.raises(ValueError, match=f"expected t as {kind}, got"):
        FUNCTIONS[name][0](SCHEDULE, x, x, t)


@pytest.mark.parametrize("name", ["step", "posterior"])
@pytest.mark.parametrize("t", [1.0, np.array([1.0, 2.0])])
def test_single_steps_require_integer_times(name, t):
    x = np.ones((2, 3))
    with pytest.raises(ValueError, match="expected t as an integer or an array of integers, got"):
        FUNCTIONS[name][0](SCHEDULE, x, x, t)


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in ("step", "posterior")])
def test_at_a_real_time_alpha_bar_is_interpolated_by_the_schedule(name):
    """The same as on a schedule with an integer time at this ᾱ."""
    x, y = rng.standard_normal((2, 3, 2))
    finer = schedules.from_alpha_bar(SCHEDULE.at(np.arange(0.25, 100.01, 0.25)).alpha_bar)
    function = FUNCTIONS[name][0]
    for t in (37.25, np.array([1.5, 37.25, 99.0])):
        at_integer = function(finer, x, y, np.asarray(4 * t).astype(int))
        assert function(SCHEDULE, x, y, t) == pytest.approx(at_integer, rel=1e-9)
    assert function(SCHEDULE, x, y, 50.0) == pytest.approx(function(SCHEDULE, x, y, 50), rel=1e-12)


@every_function
@pytest.mark.parametrize("shape", [(1,), (3,), (2, 1)])
def test_one_time_per_sample_or_one_for_all(name, shape):
    x = np.ones((2, 3))
    with pytest.raises(ValueError, match="one for each of the 2 samples"):
        FUNCTIONS[name][0](SCHEDULE, x, x, np.ones(shape, int))


@every_function
@pytest.mark.parametrize("x", [np.ones((2, 3), int), [[1.0]], np.float64(1.0), np.array(1.0)])
def test_only_float_arrays_with_a_batch_axis_are_accepted(name, x):
    with pytest.raises(TypeError, match="expected a float array"):
        FUNCTIONS[name][0](SCHEDULE, x, x, 1)


@pytest.mark.parametrize("name", OF_TWO)
def test_two_arrays_that_would_broadcast_are_refused(name):
    with pytest.raises(ValueError, match=r"one shape, got \(4, 1\) and \(4,\)"):
        FUNCTIONS[name][0](SCHEDULE, np.ones((4, 1)), np.ones(4), 1)


def test_variances_broadcast_against_x():
    x = np.ones((4, 2, 2, 1), np.float32)
    t = np.array([1, 2, 3, 100])
    for _, variance in (noising.marginal(SCHEDULE, x, t), noising.posterior(SCHEDULE, x, x, t)):
        assert variance.shape == (4, 1, 1, 1) and variance.dtype == np.float32
    assert noising.marginal(SCHEDULE, x, t)[1].ravel() == pytest.approx(SCHEDULE.one_minus_alpha_bar[t])
    assert noising.posterior(SCHEDULE, x, x, t)[1].ravel() == pytest.approx(SCHEDULE.posterior_variance[t])
    assert noising.marginal(SCHEDULE, x, 5)[1].shape == ()


def test_time_0_is_clean_data():
    x, noise = rng.standard_normal((2, 3, 2))
    assert np.array_equal(noising.diffuse(SCHEDULE, x, 0, noise), x)
    assert np.array_equal(noising.x0_from_eps(SCHEDULE, x, noise, 0), x)
    mean, variance = noising.marginal(SCHEDULE, x, 0)
    assert np.array_equal(mean, x) and variance == 0


def test_the_posterior_at_time_1_is_the_data():
    x0, x_1 = rng.standard_normal((2, 3, 2))
    mean, variance = noising.posterior(SCHEDULE, x0, x_1, 1)
    assert mean == pytest.approx(x0, rel=1e-14) and variance == 0


def test_x0_from_eps_is_refused_where_alpha_bar_is_0():
    x = np.ones((2, 3))
    for t in (100, np.array([1, 100])):
        with pytest.raises(ValueError, match="ᾱ_t = 0: predict v or x0"):
            noising.x0_from_eps(ENDS_IN_NOISE, x, x, t)
    vanishing = schedules.from_betas([0.5, 1 - 1e-16] + [0.9999] * 20)
    assert np.all(np.isfinite(noising.x0_from_eps(vanishing, x, x, 22)))
    with pytest.raises(ValueError, match="ᾱ_t = 0"):  # √ᾱ_t ≈ 1e-48 underflows in float32
        noising.x0_from_eps(vanishing, x.astype(np.float32), x, 22)


def test_all_other_conversions_work_where_alpha_bar_is_0():
    x0, eps = rng.standard_normal((2, 3, 2))
    assert np.array_equal(noising.diffuse(ENDS_IN_NOISE, x0, 100, eps), eps)
    v = noising.v_from(ENDS_IN_NOISE, x0, eps, 100)
    assert np.array_equal(v, -x0)
    assert np.array_equal(noising.x0_from_v(ENDS_IN_NOISE, eps, v, 100), x0)
    assert np.array_equal(noising.eps_from_v(ENDS_IN_NOISE, eps, v, 100), eps)
    assert np.array_equal(noising.eps_from_x0(ENDS_IN_NOISE, eps, x0, 100), eps)
