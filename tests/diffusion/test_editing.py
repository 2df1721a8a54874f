"""Inpainting, inversion and interpolation, against closed forms where the data are Gaussian."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidiff import editing, samplers, schedules
from minidiff.diffusion.denoiser import Denoiser
from minidiff.diffusion.oracles import Gaussian
from minidiff.diffusion.samplers import ddim, final
from minidiff.diffusion.samplers.randomness import NoiseSource

SCHEDULE = schedules.cosine(60)
COVARIANCE = np.array([[1.0, 0.8], [0.8, 1.0]])
GAUSSIAN = Gaussian([0.5, -0.5], COVARIANCE)


def exact(gaussian=GAUSSIAN, schedule=SCHEDULE, **options):
    return Denoiser(gaussian.network(schedule, "x0"), schedule, "x0", **options)


def shrinking(x, t):
    """An arbitrary network for any shape."""
    return x * (0.3 + 0.005 * t).reshape(-1, *[1] * (x.ndim - 1))


# ---- inpainting


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(st.integers(1, 3), st.integers(1, 3), st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 2**32 - 1))
def test_known_pixels_are_returned_unchanged(dtype, resample, jump, eta, seed):
    rng = np.random.default_rng(seed)
    known, x_T = rng.standard_normal((2, 3, 4, 4, 2)).astype(dtype)
    mask = rng.random((4, 4, 1)) < 0.5
    denoiser = Denoiser(shrinking, SCHEDULE, clip=(-1, 1))
    x = final(editing.inpaint(denoiser, x_T, rng, known, mask, (60, 30, 7, 0), resample, jump, eta))
    kept = np.broadcast_to(mask, x.shape)
    assert x.dtype == dtype and np.array_equal(x[kept], known[kept])
    assert not np.any(x[~kept] == known[~kept])


def test_with_an_empty_mask_inpainting_is_ddim():
    x_T, nothing = np.random.default_rng(0).standard_normal((5, 2)), np.zeros((1, 2), bool)
    painted = final(editing.inpaint(exact(), x_T, np.random.default_rng(1), x_T, nothing, eta=0.0))
    np.testing.assert_array_equal(painted, final(ddim(exact(), x_T, np.random.default_rng(1))))


def test_with_resampling_the_new_pixels_approach_their_conditional_distribution():
    """Of two coordinates with correlation 0.8 the first is known; the other then is N(m + 0.8 (x − m), 0.36)."""
    n, known = 4000, np.array([2.0, 0.0])
    right = -0.5 + 0.8 * (2.0 - 0.5)
    error = []
    for resample in (1, 5, 20):
        rng = np.random.default_rng(0)
        x_T = samplers.initial_noise(rng, (n, 2), np.float64)
        x = final(
            editing.inpaint(
                exact(), x_T, rng, np.tile(known, (n, 1)), np.array([True, False]), None, resample
            )
        )
        error.append(abs(x[:, 1].mean() - right))
    assert error[0] > 2 * error[1] > 4 * error[2] and error[2] < 0.06
    assert x[:, 1].var() == pytest.approx(0.36, abs=0.1)  # 60 steps with β̃ give a little too little


def evaluation_times(resample, jump):
    """The times at which the network is evaluated."""
    times_evaluated, x_T = [], np.zeros((1, 2))
    denoiser = Denoiser(lambda x, t: times_evaluated.append(t[0]) or x, SCHEDULE, "x0")
    mask, times = np.array([True, False]), (60, 50, 40, 30, 20, 0)
    states = list(editing.inpaint(denoiser, x_T, np.random.default_rng(0), x_T, mask, times, resample, jump))
    assert [state.t for state in states] == [50, 40, 30, 20, 0]
    return times_evaluated


def test_each_block_of_steps_is_repeated_as_requested_and_the_last_step_once():
    assert evaluation_times(1, 1) == evaluation_times(1, 3) == [60, 50, 40, 30, 20]
    assert evaluation_times(2, 1) == [60, 60, 50, 50, 40, 40, 30, 30, 20]
    assert evaluation_times(3, 2) == [60, 50] * 3 + [40, 30] * 3 + [20]
    assert evaluation_times(2, 3) == [60, 50, 40] * 2 + [30] * 2 + [20]  # the remainder is a block too
    assert evaluation_times(2, 99) == [60, 50, 40, 30] * 2 + [20]


def test_resampling_noises_again_by_the_forward_process_over_the_whole_jump(monkeypatch):
    """With x_0 = 1 known and all noise 0, x at the top is √ᾱ_top again, wherever the block ended."""
    monkeypatch.setattr(NoiseSource, "__call__", lambda self: np.zeros(self.shape, self.dtype))
    evaluations = []
    denoiser = Denoiser(lambda x, t: evaluations.append((t[0], x.copy())) or x, SCHEDULE, "x0")
    one, all_known = np.ones((1, 2)), np.array([True, True])
    list(editing.inpaint(denoiser, one, np.random.default_rng(0), one, all_known, (60, 40, 20, 0), 2, 2))
    assert [t for t, _ in evaluations] == [60, 40, 60, 40, 20]
    assert evaluations[2][1] == pytest.approx(np.sqrt(SCHEDULE.alpha_bar[60]) * one, rel=1e-9)


def test_at_equal_nfe_a_longer_jump_is_no_worse_than_single_steps():
    """As above, with 10 repetitions: the conditional mean, whose sampling error is 0.01."""
    known, mask, right = np.tile([2.0, 0.0], (4000, 1)), np.array([True, False]), -0.5 + 0.8 * 1.5

    def error(jump):
        rng = np.random.default_rng(0)
        x_T = samplers.initial_noise(rng, known.shape, np.float64)
        x = final(editing.inpaint(exact(), x_T, rng, known, mask, None, 10, jump))
        return abs(x[:, 1].mean() - right)

    assert error(10) < error(1) + 0.03


def test_a_sample_does_not_depend_on_the_number_of_samples():
    known = np.random.default_rng(0).standard_normal((2000, 2))
    mask = np.array([True, False])

    def first(n):
        rng = np.random.default_rng(5)
        x_T = samplers.initial_noise(rng, (n, 2), np.float64)
        return final(editing.inpaint(exact(), x_T, rng, known[:n], mask, (60, 20, 0), 2, 2))[:3]

    np.testing.assert_array_equal(first(3), first(2000))


def test_states_share_no_memory_and_the_last_is_at_0():
    rng = np.random.default_rng(0)
    x_T = rng.standard_normal((2, 2))
    states = list(editing.inpaint(exact(), x_T, rng, x_T, np.array([True, False]), (60, 20, 5, 0), 3, 2))
    assert [state.t for state in states] == [20, 5, 0]
    assert not any(np.shares_memory(a.x, b.x) for a in states for b in states if a is not b)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"known": np.zeros((3, 2))}, "known images"),
        ({"mask": np.zeros((2, 3), bool)}, "mask|broadcast"),
        ({"mask": np.zeros((7, 2, 2), bool)}, "mask"),
        ({"mask": np.zeros(2)}, "bools"),
        ({"resample": 0}, "at least 1, got 0 and 1"),
        ({"jump": 0}, "at least 1, got 1 and 0"),
        ({"timesteps": (60, 5)}, "0 at the end"),
        ({"eta": -1.0}, "eta"),
    ],
    ids=str,
)
def test_invalid_inpainting_arguments_are_refused(changes, message):
    x_T = np.zeros((2, 2))
    arguments = {"known": x_T, "mask": np.zeros(2, bool)} | changes
    with pytest.raises(ValueError, match=message):
        next(editing.inpaint(exact(), x_T, np.random.default_rng(0), **arguments))


# ---- inversion and interpolation


def test_the_error_of_inversion_and_sampling_falls_with_the_length_of_the_steps():
    x0 = GAUSSIAN.sample(np.random.default_rng(0), 50)
    off = []
    for steps in (50, 200, 800):
        schedule = schedules.linear(800, 1e-4, 0.03)
        times = samplers.spaced(schedule, "trailing", steps)
        denoiser = exact(schedule=schedule)
        noise = final(samplers.invert(denoiser, x0, times))
        again = final(ddim(denoiser, noise, np.random.default_rng(0), times))
        off.append(np.sqrt(np.mean((again - x0) ** 2)))
    assert off[0] > 2 * off[1] > 4 * off[2] and off[2] < 0.02


def test_inverted_data_are_normal():
    noise = final(samplers.invert(exact(), GAUSSIAN.sample(np.random.default_rng(0), 20_000)))
    np.testing.assert_allclose(np.cov(noise.T), np.eye(2), atol=0.12)
    np.testing.assert_allclose(noise.mean(axis=0), 0, atol=0.05)


def test_an_interpolation_of_noises_starts_and_ends_at_its_ends():
    first, second = np.array([1.0, 0.5]), np.array([-0.5, -1.5])
    path = editing.interpolate(exact(schedule=schedules.cosine(1000)), first, second, np.linspace(0, 1, 5))
    assert path.shape == (5, 2)
    np.testing.assert_allclose(path[[0, -1]], [first, second], atol=0.02)
    np.testing.assert_allclose(np.diff(path, axis=0).min(axis=0) < 0, True)


def test_interpolation_by_little_noise_is_linear_and_by_much_noise_gives_the_data():
    first, second, fractions = np.array([1.0, 0.5]), np.array([-0.5, -1.5]), np.linspace(0, 1, 4000)
    line = first + fractions[:, None] * (second - first)
    near = editing.interpolate_by_noising(exact(), first, second, fractions, np.random.default_rng(0), (1, 0))
    np.testing.assert_allclose(near, line, atol=0.1)
    far = editing.interpolate_by_noising(
        exact(), first, second, fractions, np.random.default_rng(0), range(60, -1, -1)
    )
    np.testing.assert_allclose(np.cov(far.T), COVARIANCE, atol=0.15)


def test_slerp_has_its_ends_and_keeps_the_norm():
    a, b = np.random.default_rng(0).standard_normal((2, 3, 4))
    np.testing.assert_allclose(editing.slerp(a, b, 0.0), a)
    np.testing.assert_allclose(editing.slerp(a, b, 1.0), b)
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    middle = editing.slerp(a, b, 0.5)
    assert np.linalg.norm(middle) == pytest.approx(1)
    assert np.vdot(middle, a) == pytest.approx(np.vdot(middle, b))
    assert editing.slerp(a.astype(np.float32), b.astype(np.float32), np.float64(0.3)).dtype == np.float32


@pytest.mark.parametrize("other", [1.0, 2.0, -1.0, 0.0])
def test_slerp_of_parallel_vectors_is_linear(other):
    a = np.array([1.0, 2.0])
    np.testing.assert_allclose(editing.slerp(a, other * a, 0.25), 0.75 * a + 0.25 * other * a)
