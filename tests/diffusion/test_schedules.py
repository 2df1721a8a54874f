import pickle

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from minidiff import schedules
from minidiff.diffusion.schedules import SCHEDULES, Schedule, falling_times

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")  # 0 and ∞ are intended: no warning

betas = st.lists(st.floats(1e-9, 1 - 1e-9), min_size=1, max_size=60)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("T", [1, 2, 50, 1000])
def test_every_array_has_an_entry_for_clean_data_and_one_for_each_step(name, T):
    schedule = SCHEDULES[name](T)
    assert schedule.T == T
    for array in _arrays(schedule).values():
        assert array.shape == (T + 1,)
    assert (schedule.beta[0], schedule.alpha[0], schedule.alpha_bar[0]) == (0, 1, 1)
    assert (schedule.one_minus_alpha_bar[0], schedule.posterior_variance[0], schedule.times[0]) == (0, 0, 0)
    assert schedule.snr[0] == schedule.log_snr[0] == np.inf
    assert np.array_equal(schedule.times, np.arange(T + 1))


@given(betas)
def test_the_arrays_derived_from_beta_are_exact(betas):
    schedule = schedules.from_betas(betas)
    assert np.array_equal(schedule.beta[1:], betas)
    assert schedule.alpha_bar[1:] == pytest.approx(np.cumprod(1 - np.array(betas)), rel=1e-12, abs=1e-300)
    assert schedule.one_minus_alpha_bar[1] == pytest.approx(betas[0], rel=1e-15)
    assert np.exp(schedule.log_snr) == pytest.approx(schedule.snr, rel=1e-12)
    assert schedule.snr[1:] == pytest.approx(
        schedule.alpha_bar[1:] / schedule.one_minus_alpha_bar[1:], rel=1e-11, abs=1e-300
    )


def test_a_schedule_cannot_be_changed():
    schedule = schedules.linear(10)
    with pytest.raises(AttributeError):
        schedule.beta = schedule.alpha
    for array in _arrays(schedule).values():
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0.5


def test_a_schedule_does_not_share_memory_with_its_arguments():
    given_betas = np.full(3, 0.1)
    schedule = schedules.from_betas(given_betas)
    given_betas[:] = 0.9
    assert np.all(schedule.beta[1:] == 0.1)


def test_the_arrays_of_a_schedule_are_float64_and_its_times_int64():
    schedule = Schedule(np.array([0, 0.1, 0.5], np.float32), np.array([0, 3, 9], np.int16))
    assert schedule.times.dtype == np.int64
    assert {a.dtype for name, a in _arrays(schedule).items() if name != "times"} == {np.dtype(np.float64)}
    assert schedule.log_alpha_bar[1] == np.log1p(-np.float64(np.float32(0.1)))


@pytest.mark.parametrize("make", SCHEDULES.values())
def test_a_schedule_has_1000_steps_by_default(make):
    assert make().T == 1000


def test_a_beta_near_the_smallest_float():
    schedule = schedules.from_betas([1e-310, 0.5])
    assert schedule.beta[1] == schedule.one_minus_alpha_bar[1] == 1e-310
    assert schedule.snr[1] == np.inf and np.isfinite(schedule.log_snr[1])


def test_a_schedule_survives_pickle():
    schedule = schedules.cosine(20)
    assert np.array_equal(pickle.loads(pickle.dumps(schedule)).alpha_bar, schedule.alpha_bar)


def test_repr_is_one_line_with_the_final_alpha_bar():
    assert repr(schedules.linear()) == "Schedule(T=1000, β 0.0001…0.02, ᾱ_T 4.036e-05)"


def test_the_shapes_of_the_shipped_schedules():
    T = 11
    assert np.diff(schedules.linear(T).beta[1:]) == pytest.approx((0.02 - 1e-4) / 10)
    assert np.diff(np.sqrt(schedules.quadratic(T).beta[1:])) == pytest.approx((0.02**0.5 - 0.01) / 10)
    assert schedules.quadratic(T).beta[[1, T]] == pytest.approx([1e-4, 0.02])
    logistic = schedules.sigmoid(T).beta[1:]
    assert logistic[5] == pytest.approx((0.02 + 1e-4) / 2)
    assert logistic[[0, -1]] == pytest.approx([1e-4 + 0.0199 / (1 + np.e**6), 0.02 - 0.0199 / (1 + np.e**6)])
    assert np.all(schedules.constant(T, 0.3).beta[1:] == 0.3)
    assert schedules.constant(T, 0.3).alpha_bar == pytest.approx(0.7 ** np.arange(T + 1))


def test_cosine_is_its_formula_until_beta_reaches_its_limit():
    T, s = 100, 0.008
    schedule = schedules.cosine(T)
    f = np.cos((np.arange(T + 1) / T + s) / (1 + s) * np.pi / 2) ** 2
    assert schedule.alpha_bar[:-1] == pytest.approx(f[:-1] / f[0], rel=1e-10)
    assert schedule.beta[-1] == 0.999
    assert schedules.cosine(T, beta_max=0.5).beta.max() == 0.5
    assert schedules.cosine(T, s=0.1).beta[1] > schedule.beta[1]


@given(betas)
def test_from_alpha_bar_inverts_alpha_bar(betas):
    schedule = schedules.from_betas(np.clip(betas, 1e-6, 0.9))
    again = schedules.from_alpha_bar(schedule.alpha_bar[1:])
    assert again.alpha_bar == pytest.approx(schedule.alpha_bar, rel=1e-12)
    assert again.beta == pytest.approx(schedule.beta, rel=1e-9)


def test_a_last_beta_of_one_ends_in_pure_noise():
    schedule = schedules.from_betas([0.1, 1.0])
    assert schedule.alpha_bar[-1] == schedule.snr[-1] == 0
    assert schedule.log_alpha_bar[-1] == schedule.log_snr[-1] == -np.inf
    assert schedule.one_minus_alpha_bar[-1] == 1
    assert schedule.posterior_variance[-1] == pytest.approx(0.1)
    assert schedules.from_alpha_bar([0.9, 0.0]).beta == pytest.approx([0, 0.1, 1])


@given(st.lists(st.floats(1e-6, 0.999), min_size=2, max_size=60))
def test_zero_terminal_snr_shifts_and_scales_the_signal_and_keeps_its_first_value(betas):
    schedule = schedules.from_betas(betas)
    ended = schedules.zero_terminal_snr(schedule)
    before, after = np.sqrt(schedule.alpha_bar[1:]), np.sqrt(ended.alpha_bar[1:])
    expected = before[0] * (before - before[-1]) / (before[0] - before[-1])
    assert after == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert ended.beta[1] == schedule.beta[1] and ended.beta[-1] == 1 and ended.alpha_bar[-1] == 0


def test_zero_terminal_snr_of_the_paper_and_of_itself():
    ended = schedules.zero_terminal_snr(schedules.linear())
    signal = np.sqrt(schedules.linear().alpha_bar[1:])
    expected = signal[0] * (signal - signal[-1]) / (signal[0] - signal[-1])
    assert np.sqrt(ended.alpha_bar[1:]) == pytest.approx(expected, rel=1e-9, abs=1e-15)
    assert schedules.zero_terminal_snr(ended).beta == pytest.approx(ended.beta, rel=1e-12)


def test_zero_terminal_snr_keeps_the_original_times():
    short = schedules.respaced(schedules.linear(100), (90, 50, 3, 0))
    assert np.array_equal(schedules.zero_terminal_snr(short).times, [0, 3, 50, 90])


@given(betas, st.data())
def test_respaced_keeps_alpha_bar_and_the_original_times(betas, data):
    schedule = schedules.from_betas(betas)
    times = sorted(data.draw(st.sets(st.integers(1, schedule.T), min_size=1)), reverse=True)
    short = schedules.respaced(schedule, (*times, 0))
    assert len(times) == short.T
    assert np.array_equal(short.times, [0, *times[::-1]])
    # a long step has β near 1, and 1−β then keeps its digits relative to 1
    assert short.alpha_bar == pytest.approx(schedule.alpha_bar[short.times], rel=1e-12, abs=1e-15)
    assert short.one_minus_alpha_bar == pytest.approx(schedule.one_minus_alpha_bar[short.times], rel=1e-12)


def test_respaced_accepts_steps_so_long_that_beta_rounds_to_1():
    schedule = schedules.from_betas([1 - 1e-9] * 4)
    for times in ((4, 2, 0), (4, 0), (2, 0)):
        short = schedules.respaced(schedule, times)
        assert np.all(short.alpha_bar > 0)
        assert short.alpha_bar == pytest.approx(schedule.alpha_bar[short.times], abs=1e-15)
    ended = schedules.respaced(schedules.from_betas([1 - 1e-9] * 3 + [1.0]), (4, 2, 0))
    assert ended.beta[2] == 1 and 0 < ended.alpha_bar[1] < 1e-15 and ended.alpha_bar[2] == 0


@given(betas)
def test_respaced_to_all_times_is_the_schedule(betas):
    schedule = schedules.from_betas(betas)
    same = schedules.respaced(schedule, range(schedule.T, -1, -1))
    assert same.beta == pytest.approx(schedule.beta, rel=1e-12)
    assert np.array_equal(same.times, schedule.times)


def test_respacing_twice_keeps_the_times_of_the_first_schedule():
    half = schedules.respaced(schedules.linear(100), range(100, -1, -2))
    assert np.array_equal(schedules.respaced(half, (50, 10, 0)).times, [0, 20, 100])


def test_the_kernel_of_one_step_is_that_step():
    schedule = schedules.zero_terminal_snr(schedules.linear(30))
    for t in range(1, 31):
        assert schedule.kernel(t - 1, t) == pytest.approx((schedule.alpha[t], schedule.beta[t]), rel=1e-14)
    assert schedule.kernel(0, 30) == (0.0, 1.0)


@given(st.tuples(*[st.floats(0, 100)] * 3))
def test_kernels_between_real_times_compose_and_agree_with_at(times):
    schedule = schedules.linear(100, 1e-3, 0.1)
    r, s, t = sorted(times)
    assume(r < s < t)
    whole, first, second = (schedule.kernel(*ends)[0] for ends in ((r, t), (r, s), (s, t)))
    assert whole == pytest.approx(first * second, rel=1e-12)
    assert whole == pytest.approx(schedule.at(t).alpha_bar / schedule.at(r).alpha_bar, rel=1e-12)


def test_the_kernel_keeps_a_small_beta_beside_a_large_log_alpha_bar():
    schedule = schedules.from_betas([1 - 1e-9] * 100 + [1e-12])
    assert schedule.kernel(100, 101)[1] == pytest.approx(1e-12, rel=1e-12)


@given(betas, st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_at_interpolates_log_alpha_bar_and_agrees_at_integer_times(betas, fractions):
    schedule = schedules.from_betas(betas)
    whole = schedule.at(np.arange(schedule.T + 1))
    for name in ("log_alpha_bar", "alpha_bar", "one_minus_alpha_bar", "snr", "log_snr"):
        assert np.array_equal(getattr(whole, name), getattr(schedule, name))
    t = np.array(fractions) * schedule.T
    below = np.minimum(np.floor(t).astype(int), schedule.T - 1)
    expected = schedule.log_alpha_bar[below] + (t - below) * np.log1p(-schedule.beta[below + 1])
    assert schedule.at(t).log_alpha_bar == pytest.approx(expected, rel=1e-9, abs=1e-300)
    assert schedule.at(float(t[0])).snr == schedule.at(t).snr[0]


@given(st.sampled_from(sorted(SCHEDULES)), st.floats(1e-3, 1))
def test_time_of_inverts_at(name, fraction):
    schedule = SCHEDULES[name](200)
    t = fraction * schedule.T
    assert schedule.time_of(schedule.at(t).snr) == pytest.approx(t, rel=1e-9)


def test_time_of_at_both_ends():
    schedule = schedules.linear(100)
    assert schedule.time_of(np.inf) == 0
    assert schedule.time_of(schedule.snr[[0, 50, 100]]) == pytest.approx([0, 50, 100])
    ended = schedules.zero_terminal_snr(schedule)
    assert ended.time_of([np.inf, 0.0]) == pytest.approx([0, 100])
    assert np.array_equal(ended.at([99.5, 100]).alpha_bar, [0, 0])
    assert ended.at(99).alpha_bar == ended.alpha_bar[99] > 0


def test_time_of_accepts_a_float32_ratio():
    snr = schedules.linear().snr[[1, 500, 999]].astype(np.float32)
    assert np.array_equal(schedules.linear().time_of(snr), schedules.linear().time_of(snr.astype(np.float64)))


@pytest.mark.parametrize("snr", [np.nan, -1.0, 1e-9])
def test_time_of_refuses_a_ratio_out_of_range(snr):
    with pytest.raises(ValueError, match="no time of this schedule has that SNR"):
        schedules.linear().time_of(snr)
    with pytest.raises(ValueError, match="no time of this schedule has that SNR"):
        schedules.linear().time_of(0.999 * schedules.linear().snr[-1])
    with pytest.raises(ValueError, match="no time of this schedule has that SNR"):
        schedules.zero_terminal_snr(schedules.linear()).time_of(1e-12)


@pytest.mark.parametrize("t", [-0.1, 10.1, np.nan])
def test_at_refuses_times_out_of_range(t):
    with pytest.raises(ValueError, match=r"expected times in \[0, 10\]"):
        schedules.linear(10).at(t)


@pytest.mark.parametrize("bad", [0.0, -0.1, 1.0, 1.5, np.nan, np.inf])
def test_a_beta_out_of_range_is_refused_with_its_index(bad):
    with pytest.raises(ValueError, match=r"every β must lie in \(0, 1\).*β_2 = "):
        schedules.from_betas([0.1, bad, 0.2])


def test_the_second_to_last_beta_may_not_be_one():
    for bad in (1.0, 1.5, 0.0, np.nan):
        with pytest.raises(ValueError, match="β_2 = "):
            schedules.from_betas([0.1, bad, 1.0])


@pytest.mark.parametrize("bad", [0.0, 1.0000001, np.nan])
def test_the_last_beta_may_be_one_and_nothing_else(bad):
    with pytest.raises(ValueError, match="β_2"):
        schedules.from_betas([0.1, bad])


@pytest.mark.parametrize("bad", [[], [[0.1]], 0.1])
def test_betas_are_a_list_of_at_least_one(bad):
    with pytest.raises(ValueError, match="expected betas as a list of T ≥ 1 numbers"):
        schedules.from_betas(bad)


def test_betas_are_numbers():
    with pytest.raises(ValueError, match="expected betas as a list of numbers"):
        schedules.from_betas(["much"])


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(
    ("T", "message"), [(0, "at least 1"), (-3, "at least 1"), (2.5, "integer"), ("9", "integer")]
)
def test_T_is_an_integer_of_at_least_one(name, T, message):
    with pytest.raises(ValueError, match=message):
        SCHEDULES[name](T)


@pytest.mark.parametrize("make", [schedules.linear, schedules.quadratic, schedules.sigmoid])
@pytest.mark.parametrize("ends", [(-0.1, 0.02), (1e-4, 2.0), (np.nan, 0.02)])
def test_a_beta_range_outside_0_to_1_is_refused(make, ends):
    with pytest.raises(ValueError, match="every β must lie in"):
        make(10, *ends)


def test_other_parameters_out_of_range_are_refused():
    with pytest.raises(ValueError, match="every β must lie in"):
        schedules.constant(10, 0.0)
    with pytest.raises(ValueError, match="beta_max in"):
        schedules.cosine(10, beta_max=1.5)
    with pytest.raises(ValueError, match="s ≥ 0"):
        schedules.cosine(10, s=-1)
    with pytest.raises(ValueError, match="T ≥ 2"):
        schedules.zero_terminal_snr(schedules.from_betas([0.5]))


@pytest.mark.parametrize("bad", [[0.5, 0.5], [0.5, 0.6], [1.0, 0.5], [0.5, -0.1], [0.5, 0.0, 0.0], [np.nan]])
def test_alpha_bar_falls_from_below_one(bad):
    with pytest.raises(ValueError, match="expected alpha_bar to fall strictly"):
        schedules.from_alpha_bar(bad)


@pytest.mark.parametrize("bad", [(3, 3, 0), (2, 3, 0), (11, 5, 0), (5, 0, 0), (5, -1, 0)])
def test_times_fall_strictly_from_at_most_T(bad):
    with pytest.raises(ValueError, match="expected times that fall strictly from at most T = 10 to 0"):
        falling_times(10, bad)
    with pytest.raises(ValueError, match="expected times that fall strictly"):
        schedules.respaced(schedules.linear(10), bad)


@pytest.mark.parametrize("bad", [(), (0,), (5,), (5, 3)])
def test_times_end_in_zero(bad):
    with pytest.raises(ValueError, match="at least one time and then 0"):
        falling_times(10, bad)


@pytest.mark.parametrize("bad", [(2.5, 0), ("5", 0), 7])
def test_times_are_integers(bad):
    with pytest.raises(ValueError, match="expected a list of integer times"):
        falling_times(10, bad)


def test_the_limits_of_cosine_are_open_for_beta_max_and_closed_for_s():
    assert schedules.cosine(10, s=0).beta[1] == pytest.approx(1 - np.cos(np.pi / 20) ** 2)
    for beta_max in (0, 1):
        with pytest.raises(ValueError, match="beta_max in"):
            schedules.cosine(10, beta_max=beta_max)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: schedules.linear(10).at([1, 11.5]), "expected times in [0, 10], got [ 1. , 11.5]"),
        (
            lambda: schedules.from_betas([0.25, 0.5]).time_of([1.0, 0.125]),
            "no time of this schedule has that SNR: expected 0.6 or more, got [1.   , 0.125]",
        ),
        (
            lambda: schedules.from_alpha_bar([0.5, 0.75]),
            "expected alpha_bar to fall strictly from below 1, at most the last 0, got [0.5 , 0.75]",
        ),
        (lambda: schedules.from_alpha_bar("all"), "expected alpha_bar as a list of numbers, got 'all'"),
        (
            lambda: schedules.from_betas([0.5, 1.5, 0.25]),
            "every β must lie in (0, 1), only the last may be 1: got β_2 = 1.5",
        ),
        (
            lambda: schedules.zero_terminal_snr(schedules.from_betas([0.5])),
            "zero_terminal_snr keeps ᾱ_1 and sends ᾱ_T to 0: expected a schedule with T ≥ 2, got T = 1",
        ),
        (
            lambda: falling_times(10, [11, 5, 0]),
            "expected times that fall strictly from at most T = 10 to 0, got [11,  5,  0]",
        ),
        (
            lambda: falling_times(10, [9, 7, 5, 3, 2, 4]),
            "expected at least one time and then 0 at the end, got [9, 7, 5, 3, 2, 4]",
        ),
        (
            lambda: falling_times(10, [9, 8, 7, 6, 5, 4, 3]),
            "expected at least one time and then 0 at the end, got [9, 8, ..., 4, 3]",
        ),
        (
            lambda: schedules.linear(10).at(np.array([0.123456789] * 4 + [-1e300, 1e-300])),
            "expected times in [0, 10], got [ 1.23456789e-001,  1.23456789e-001,  1.23456789e-001,"
            "  1.23456789e-001, -1.00000000e+300,  1.00000000e-300]",
        ),
    ],
)
def test_error_messages_state_what_was_expected_and_what_was_given(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert str(error.value) == message


def test_error_messages_stay_on_one_line_however_long_the_list():
    for call in (
        lambda: falling_times(10, range(5000, -1, -1)),
        lambda: schedules.from_alpha_bar(np.ones(5000)),
    ):
        with pytest.raises(ValueError) as error:
            call()
        assert "\n" not in str(error.value) and len(str(error.value)) < 200


def _arrays(schedule):
    return {name: value for name, value in vars(schedule).items() if isinstance(value, np.ndarray)}
