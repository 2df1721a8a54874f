import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidiff import noising, schedules
from minidiff.diffusion.denoiser import Denoiser, Prediction
from minidiff.diffusion.oracles import mixture1d

SCHEDULE = schedules.linear(100, 1e-3, 0.1)
ENDS_IN_NOISE = schedules.zero_terminal_snr(SCHEDULE)


def half(x, t):
    return x / 2


@given(st.integers(1, 100), st.integers(0, 2**32 - 1))
def test_eps_x0_and_v_of_the_same_oracle_give_the_same_prediction(t, seed):
    x = np.random.default_rng(seed).standard_normal((4, 1))
    eps, x0, v = (
        Denoiser(mixture1d().network(SCHEDULE, prediction), SCHEDULE, prediction)(x, t)
        for prediction in ("eps", "x0", "v")
    )
    for other in (x0, v):
        assert other.x0 == pytest.approx(eps.x0, abs=1e-11)
        assert other.eps == pytest.approx(eps.eps, abs=1e-10)
    assert eps.log_variance is None


@given(
    st.sampled_from(["eps", "x0", "v"]),
    st.integers(1, 100),
    st.sampled_from([None, (-1.0, 1.0), (0.0, 0.1)]),
    st.integers(0, 2**32 - 1),
)
def test_x0_and_eps_combine_to_x_with_and_without_clipping(prediction, t, clip, seed):
    x = 3 * np.random.default_rng(seed).standard_normal((4, 3))
    x0, eps, _ = Denoiser(half, SCHEDULE, prediction, clip)(x, t)
    assert noising.diffuse(SCHEDULE, x0, t, eps) == pytest.approx(x, rel=1e-12, abs=1e-12)
    if clip is not None:
        assert clip[0] <= x0.min() and x0.max() <= clip[1]


def test_clipping_limits_x0_and_only_where_it_is_out_of_range():
    x = np.array([[0.01, 5.0]])
    free, clipped = Denoiser(half, SCHEDULE)(x, 50), Denoiser(half, SCHEDULE, clip=(-1, 1))(x, 50)
    assert free.x0[0, 1] > 1 and clipped.x0[0, 1] == 1
    assert clipped.x0[0, 0] == free.x0[0, 0]
    assert clipped.eps[0, 0] == pytest.approx(free.eps[0, 0], rel=1e-12)
    assert clipped.eps[0, 1] > free.eps[0, 1]


def test_the_network_is_evaluated_at_the_original_times_one_for_each_sample():
    times = []

    def net(x, t):
        times.append(t)
        return x

    short = schedules.respaced(SCHEDULE, (100, 40, 7, 0))
    denoiser = Denoiser(net, short)
    denoiser(np.ones((3, 2)), 2)
    denoiser(np.ones((3, 2)), np.array([1, 3, 2]))
    assert np.array_equal(times[0], [40, 40, 40]) and times[0].dtype.kind == "i"
    assert np.array_equal(times[1], [7, 100, 40])
    assert denoiser.schedule is short


@pytest.mark.parametrize(("label", "expected"), [(7, [7, 7, 7]), (np.array([1, 0, 2]), [1, 0, 2])])
def test_the_network_receives_one_label_for_each_sample_or_none(label, expected):
    received = []

    def net(x, t, label=None):
        received.append(label)
        return x

    Denoiser(net, SCHEDULE, label=label)(np.ones((3, 2)), 5)
    Denoiser(net, SCHEDULE)(np.ones((3, 2)), 5)
    assert np.array_equal(received[0], expected) and received[1] is None


def test_labels_for_another_number_of_samples_are_refused():
    denoiser = Denoiser(lambda x, t, label: x, SCHEDULE, label=np.zeros(4, int))
    with pytest.raises(ValueError, match=r"one for each of 3 samples, got \(4,\)"):
        denoiser(np.ones((3, 2)), 5)


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_is_that_of_x_whatever_the_dtype_of_the_network_output(prediction, dtype):
    x = np.ones((2, 4, 4, 1), dtype)
    x.setflags(write=False)
    for label in (None, 1):
        net = lambda x, t, label=None: x.astype(np.float64) * 0.5  # noqa: E731
        x0, eps, _ = Denoiser(net, SCHEDULE, prediction, (-1, 1), label)(x, 3)
        assert x0.dtype == eps.dtype == dtype and x0.shape == eps.shape == x.shape


def test_where_alpha_bar_is_0_eps_is_refused_but_x0_and_v_are_not():
    x = np.ones((2, 3))
    with pytest.raises(ValueError, match="predict v or x0"):
        Denoiser(half, ENDS_IN_NOISE)(x, 100)
    for prediction in ("x0", "v"):
        got = Denoiser(half, ENDS_IN_NOISE, prediction)(x, 100)
        assert np.array_equal(got.eps, x)
    assert np.array_equal(got.x0, -half(x, 100))
    assert np.all(np.isfinite(Denoiser(half, ENDS_IN_NOISE)(x, 99).x0))


def test_a_network_output_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"in the shape of x, \(3, 2\), or .*, got \(3,\)"):
        Denoiser(lambda x, t: x[:, 0], SCHEDULE)(np.ones((3, 2)), 5)


def test_twice_the_channels_are_a_prediction_and_a_learned_variance():
    def net(x, t):
        return np.concatenate([x / 2, np.full_like(x, -1)], axis=-1)

    x = np.ones((3, 4, 4, 2))
    x0, eps, log_variance = Denoiser(net, SCHEDULE)(x, np.array([1, 2, 50]))
    alone = Denoiser(half, SCHEDULE)(x, np.array([1, 2, 50]))
    assert np.array_equal(x0, alone.x0) and np.array_equal(eps, alone.eps)
    beta_tilde = SCHEDULE.posterior_variance[[2, 2, 50]]  # β̃_2 stands for β̃_1 = 0
    assert log_variance == pytest.approx(np.broadcast_to(np.log(beta_tilde)[:, None, None, None], x.shape))
    assert Denoiser(net, SCHEDULE, clip=(-1, 1))(x, 5).log_variance.shape == x.shape


def test_the_learned_variance_of_a_respaced_schedule_is_that_of_its_own_steps():
    short = schedules.respaced(SCHEDULE, (100, 40, 7, 0))
    net = lambda x, t: np.concatenate([x, np.ones_like(x)], axis=-1)  # noqa: E731
    assert np.exp(Denoiser(net, short)(np.ones((1, 1)), 2).log_variance) == pytest.approx(short.beta[2])


def test_a_schedule_of_one_step_has_no_range_of_variances():
    net = lambda x, t: np.concatenate([x, x], axis=-1)  # noqa: E731
    with pytest.raises(ValueError) as raised:
        Denoiser(net, schedules.constant(1, 0.5))(np.ones((1, 1)), 1)
    assert str(raised.value) == "a learned variance needs a schedule of at least two steps: one has no β̃_2"
    two = schedules.constant(2, 0.5)
    learned = Denoiser(net, two)(np.ones((1, 1)), 2).log_variance
    assert learned == pytest.approx(np.log(two.beta[2]))


def test_a_clip_may_be_a_function_of_x0():
    x = np.array([[0.01, 5.0]])
    x0, eps, _ = Denoiser(half, SCHEDULE, clip=np.tanh)(x, 50)
    assert np.array_equal(x0, np.tanh(Denoiser(half, SCHEDULE)(x, 50).x0))
    assert noising.diffuse(SCHEDULE, x0, 50, eps) == pytest.approx(x, rel=1e-12)


def test_an_unknown_prediction_is_refused():
    with pytest.raises(ValueError, match="expected prediction to be one of eps, x0, v, got 'noise'"):
        Denoiser(half, SCHEDULE, "noise")


@pytest.mark.parametrize("clip", [(1, -1), (0, 0), (1,), (np.nan, 1)])
def test_a_clip_that_is_not_a_range_is_refused(clip):
    with pytest.raises(ValueError, match=r"expected clip as \(low, high\)"):
        Denoiser(half, SCHEDULE, clip=clip)


@pytest.mark.parametrize("t", [0, 101, -1])
def test_a_time_out_of_range_is_refused(t):
    with pytest.raises(ValueError, match="expected t in 1…100"):
        Denoiser(half, SCHEDULE)(np.ones((3, 2)), t)


def test_at_a_real_time_the_network_is_evaluated_there_and_x0_and_eps_combine_to_x():
    times = []

    def net(x, t):
        times.append(t)
        return x / 2

    x = np.random.default_rng(0).standard_normal((3, 2))
    x0, eps, _ = Denoiser(net, SCHEDULE)(x, 41.5)
    assert np.array_equal(times[0], [41.5] * 3)
    assert noising.diffuse(SCHEDULE, x0, 41.5, eps) == pytest.approx(x, rel=1e-12)
    with pytest.raises(ValueError, match="a respaced schedule has no times between its own"):
        Denoiser(net, schedules.respaced(SCHEDULE, (100, 40, 7, 0)))(x, 1.5)
    for t in (0.5, 100.5, np.nan):
        with pytest.raises(ValueError, match="expected t in 1…100"):
            Denoiser(net, SCHEDULE)(x, t)


def test_at_a_real_time_there_is_no_learned_variance():
    net = lambda x, t: np.concatenate([x / 2, x], axis=-1)  # noqa: E731
    assert Denoiser(net, SCHEDULE)(np.ones((3, 2)), 41.5).log_variance is None
    assert Denoiser(net, SCHEDULE)(np.ones((3, 2)), 41).log_variance is not None


def test_a_prediction_without_a_learned_variance_holds_none():
    assert Prediction(1, 2) == (1, 2, None)
