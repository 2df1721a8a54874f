import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidiff import schedules
from minidiff.diffusion.samplers.timesteps import (
    IN_LEVEL,
    IN_TIME,
    SPACINGS,
    explicit,
    karras,
    leading,
    linspace,
    log_snr,
    quadratic,
    spaced,
    trailing,
)

every_spacing = pytest.mark.parametrize("name", IN_TIME)
PAPER = schedules.linear()


@st.composite
def any_schedule(draw, max_T):
    """β in any range, in any order; often a very short schedule, sometimes one that ends in pure noise."""
    T = draw(st.one_of(st.integers(1, 5), st.integers(1, max_T)))
    low, high = sorted(draw(st.tuples(*[st.floats(-12, 6)] * 2)))
    betas = 1 / (1 + np.exp(-np.random.default_rng(draw(st.integers(0, 99))).uniform(low, high, T)))
    if draw(st.booleans()):
        betas[-1] = 1.0
    return schedules.from_betas(betas)


@every_spacing
@given(T=st.integers(1, 5000), data=st.data())
def test_a_spacing_gives_times_that_fall_strictly_to_0(name, T, data):
    steps = data.draw(st.one_of(st.integers(1, T), st.integers(max(1, T - 3), T)))
    times = IN_TIME[name](T, steps)
    assert len(times) == steps + 1
    assert times == explicit(T, times)  # integers from at most T, strictly falling, 0 at the end
    if name != "leading":
        assert times[0] == T


@every_spacing
def test_every_spacing_falls_strictly_for_every_number_of_steps(name):
    for T in (1, 2, 3, 7, 50, 97):
        for steps in range(1, T + 1):
            assert explicit(T, IN_TIME[name](T, steps)) == IN_TIME[name](T, steps)


@every_spacing
def test_with_T_steps_every_spacing_takes_every_time(name):
    assert IN_TIME[name](100, 100) == tuple(range(100, -1, -1))
    assert IN_TIME[name](1, 1) == (1, 0)


def test_the_spacings_by_example():
    assert trailing(1000, 4) == (1000, 750, 500, 250, 0)
    assert leading(1000, 4) == (751, 501, 251, 1, 0)
    assert linspace(1000, 4) == (1000, 667, 334, 1, 0)
    assert quadratic(1000, 4) == (1000, 563, 250, 63, 0)
    assert trailing(10, 4) == (10, 8, 5, 3, 0)  # halves go up
    assert leading(10, 4) == (7, 5, 3, 1, 0)
    assert linspace(10, 3) == (10, 6, 1, 0)
    assert quadratic(10, 8) == (10, 8, 6, 5, 4, 3, 2, 1, 0)  # (k/8)²·10 alone would repeat 1 and 2
    assert [rule(1000, 1) for rule in (trailing, linspace, quadratic)] == [(1000, 0)] * 3
    assert leading(1000, 1) == (1, 0)


def test_an_explicit_list_is_checked_and_none_means_every_time():
    assert explicit(10, [7, 3, 0]) == (7, 3, 0)
    assert explicit(3) == (3, 2, 1, 0)
    for bad in ([7, 7, 0], [3, 7, 0], [11, 0], [7, 3], [0], [], [1.5, 0]):
        with pytest.raises(ValueError, match="expected"):
            explicit(10, bad)


@every_spacing
@pytest.mark.parametrize("steps", [0, -1, 11])
def test_more_steps_than_times_or_no_steps_are_refused(name, steps):
    with pytest.raises(ValueError, match=f"expected between 1 and T = 10 sampling steps, got {steps}"):
        IN_TIME[name](10, steps)


@every_spacing
@pytest.mark.parametrize("steps", [2.5, "3", None])
def test_the_number_of_steps_is_an_integer(name, steps):
    with pytest.raises(ValueError, match="expected T and the number of steps as integers"):
        IN_TIME[name](10, steps)


# ---- spacings of the noise levels


@pytest.mark.parametrize("name", IN_LEVEL)
@given(schedule=any_schedule(max_T=400), data=st.data())
def test_noise_level_spacings_fall_strictly_from_the_last_time_with_signal_to_0(name, schedule, data):
    T = schedule.T
    steps = data.draw(st.one_of(st.integers(1, T), st.integers(max(1, T - 3), T)))
    times = IN_LEVEL[name](schedule, steps)
    assert len(times) == steps + 1
    if schedule.log_snr[T] >= -10.2 or schedule.snr[T] == 0:
        assert times[0] == T
    else:  # or from the number of steps, where more are requested than lie below it
        assert times[0] == steps or schedule.log_snr[times[0]] >= -10.2 > schedule.log_snr[times[0] + 1]
    assert times == explicit(T, times) and all(type(t) is int for t in times)
    if steps > 1:
        assert times[-2] == 1
    if steps == T:
        assert times == tuple(range(T, -1, -1))


@pytest.mark.parametrize("name", IN_LEVEL)
@pytest.mark.parametrize("schedule", [PAPER, schedules.sigmoid(), schedules.linear(50, 0.001, 0.4)], ids=str)
def test_noise_level_spacings_are_even_up_to_rounding(name, schedule):
    """Each level differs from the evenly spaced one by no more than the rounding to integer times."""
    level = schedule.log_snr if name == "logsnr" else np.exp(-schedule.log_snr / 2) ** (1 / 7)
    times = IN_LEVEL[name](schedule, 8)
    expected = np.linspace(level[times[0]], level[1], 8)
    for t, target in zip(times[1:-2], expected[1:-1], strict=True):
        between = sorted((level[t - 1], level[t + 1]))
        assert between[0] <= target <= between[1]
        assert (
            abs(level[t] - target) <= max(abs(level[t] - level[t + 1]), abs(level[t] - level[t - 1])) * 0.75
        )


@pytest.mark.parametrize("name", IN_LEVEL)
def test_noise_level_spacings_start_at_pure_noise_where_the_schedule_does(name):
    ended = schedules.zero_terminal_snr(PAPER)
    for steps in (1, 2, 3, 10, 999, 1000):
        times = IN_LEVEL[name](ended, steps)
        assert times[0] == 1000 and times == explicit(1000, times) and len(times) == steps + 1
    assert IN_LEVEL[name](schedules.from_betas([1.0]), 1) == (1, 0)


@pytest.mark.parametrize("name", IN_LEVEL)
def test_levels_without_signal_are_left_out(name):
    """The cosine schedule has a log SNR of −20 at T, and below −10.2 at the last four times."""
    cosine = schedules.cosine(1000)
    assert cosine.log_snr[997] < -10.2 <= cosine.log_snr[996]
    for steps in (1, 2, 10, 100, 900, 996):
        assert IN_LEVEL[name](cosine, steps)[0] == 996
    assert log_snr(cosine, 3)[1] == round(float(cosine.time_of(np.exp(cosine.log_snr[[996, 1]].mean()))))


def test_at_zero_terminal_snr_levels_are_even_from_the_last_time_with_signal():
    ended = schedules.zero_terminal_snr(PAPER)
    (first,) = ended.log_snr[:-1][(ended.log_snr[:-1] >= -10.2) & (ended.log_snr[1:] < -10.2)]
    for steps in (3, 6):
        levels = np.linspace(first, ended.log_snr[1], steps)
        inner = np.rint(ended.time_of(np.exp(levels[1:])))
        assert IN_LEVEL["logsnr"](ended, steps) == (1000, *inner, 0)


def test_the_noise_level_spacings_by_example():
    assert log_snr(PAPER, 10) == (1000, 887, 758, 604, 411, 203, 74, 23, 6, 1, 0)
    assert karras(PAPER, 10) == (1000, 938, 865, 776, 664, 512, 302, 103, 19, 1, 0)
    assert log_snr(PAPER, 1) == karras(PAPER, 1) == (1000, 0)


def test_every_spacing_by_name():
    assert spaced(PAPER, "quadratic", 20) == quadratic(1000, 20)
    assert spaced(PAPER, "karras", 20) == karras(PAPER, 20)
    cosine = schedules.cosine(1000)
    for name, rule in IN_TIME.items():
        assert spaced(cosine, name, 20) == rule(996, 20)
        assert spaced(cosine, name, 996) == rule(996, 996) and spaced(cosine, name, 997) == rule(1000, 997)
        assert spaced(cosine, name, 1000) == tuple(range(1000, -1, -1))
        assert spaced(schedules.zero_terminal_snr(PAPER), name, 20) == rule(1000, 20)
    assert set(SPACINGS) == {"trailing", "leading", "linspace", "quadratic", "logsnr", "karras"}
    with pytest.raises(ValueError) as raised:
        spaced(PAPER, "even", 20)
    names = "trailing, leading, linspace, quadratic, logsnr, karras"
    assert str(raised.value) == f"expected a spacing of {names}; got 'even'"
    for name in SPACINGS:
        for steps in (0, -1, 1001, 2.5):
            with pytest.raises(ValueError, match="expected"):
                spaced(PAPER, name, steps)


# ---- real times


def test_an_explicit_list_may_have_real_times_on_request():
    assert explicit(10, [7.5, 3, 2.0, 0], whole=False) == (7.5, 3, 2, 0)
    assert explicit(10, np.array([10.0, 1.0, 0.0]), whole=False) == (10, 1, 0)
    assert [type(t) for t in explicit(10, np.array([7.5, 2, 0]), whole=False)] == [float, int, int]
    assert explicit(3, whole=False) == (3, 2, 1, 0)
    with pytest.raises(ValueError, match="integer"):
        explicit(10, [7.5, 3, 0])
    for bad in (
        [10.5, 0],
        [3, 7.5, 0],
        [7.5, 7.5, 0],
        [7.5, 1],
        [0.5, 0],
        [np.nan, 0],
        [np.inf, 0],
        [None, 0],
    ):
        with pytest.raises(ValueError, match="expected"):
            explicit(10, bad, whole=False)
