import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidiff.samplers.timesteps import SPACINGS, explicit, leading, linspace, quadratic, trailing

every_rule = pytest.mark.parametrize("name", SPACINGS)


@every_rule
@given(T=st.integers(1, 5000), data=st.data())
def test_a_rule_gives_times_that_fall_strictly_to_0(name, T, data):
    steps = data.draw(st.one_of(st.integers(1, T), st.integers(max(1, T - 3), T)))
    times = SPACINGS[name](T, steps)
    assert len(times) == steps + 1
    assert times == explicit(T, times)  # whole numbers from at most T, strictly falling, 0 at the end
    if name != "leading":
        assert times[0] == T


@every_rule
def test_every_rule_falls_strictly_for_every_number_of_steps(name):
    for T in (1, 2, 3, 7, 50, 97):
        for steps in range(1, T + 1):
            assert explicit(T, SPACINGS[name](T, steps)) == SPACINGS[name](T, steps)


@every_rule
def test_with_T_steps_every_rule_takes_every_time(name):
    assert SPACINGS[name](100, 100) == tuple(range(100, -1, -1))
    assert SPACINGS[name](1, 1) == (1, 0)


def test_the_rules_by_example():
    assert trailing(1000, 4) == (1000, 750, 500, 250, 0)
    assert leading(1000, 4) == (751, 501, 251, 1, 0)
    assert linspace(1000, 4) == (1000, 667, 334, 1, 0)
    assert quadratic(1000, 4) == (1000, 563, 250, 63, 0)
    assert trailing(10, 4) == (10, 8, 5, 3, 0)  # halves go up
    assert leading(10, 4) == (7, 5, 3, 1, 0)
    assert linspace(10, 3) == (10, 6, 1, 0)
    assert quadratic(10, 8) == (10, 8, 6, 5, 4, 3, 2, 1, 0)  # (k/8)²·10 alone would stand still at 1 and 2
    assert [rule(1000, 1) for rule in (trailing, linspace, quadratic)] == [(1000, 0)] * 3
    assert leading(1000, 1) == (1, 0)


def test_a_list_of_ones_own_is_checked_and_none_is_every_time():
    assert explicit(10, [7, 3, 0]) == (7, 3, 0)
    assert explicit(3) == (3, 2, 1, 0)
    for bad in ([7, 7, 0], [3, 7, 0], [11, 0], [7, 3], [0], [], [1.5, 0]):
        with pytest.raises(ValueError, match="expected"):
            explicit(10, bad)


@every_rule
@pytest.mark.parametrize("steps", [0, -1, 11])
def test_more_steps_than_there_are_times_or_none_are_refused(name, steps):
    with pytest.raises(ValueError, match=f"expected between 1 and T = 10 sampling steps, got {steps}"):
        SPACINGS[name](10, steps)


@every_rule
@pytest.mark.parametrize("steps", [2.5, "3", None])
def test_steps_are_a_whole_number(name, steps):
    with pytest.raises(ValueError, match="expected T and the number of steps as integers"):
        SPACINGS[name](10, steps)
