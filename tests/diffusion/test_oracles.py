import re

import numpy as np
import pytest

from minidiff import schedules
from minidiff.diffusion.oracles import FiniteData, Gaussian, Mixture, Oracle, mixture1d
from minidiff.diffusion.samplers.ddim import steps as ddim_steps

SCHEDULE = schedules.linear(100, 1e-3, 0.1)
COVARIANCE = np.array([[0.5, 0.2], [0.2, 0.3]])
ORACLES = {
    "gaussian": Gaussian([0.5, -1.0], COVARIANCE),
    "mixture": Mixture([0.25, 0.75], [[0.0, 1.0], [1.0, 0.0]], [COVARIANCE, 0.1 * COVARIANCE]),
    "points": FiniteData([[0.0, 1.0], [1.0, 0.0], [-1.0, 0.5]]),
}
OUTPUTS = ("log_density", "score", "eps", "x0", "v")
every_oracle = pytest.mark.parametrize("name", ORACLES)


@every_oracle
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_outputs_have_the_shape_and_dtype_of_x_which_is_not_modified(name, dtype):
    x = np.random.default_rng(0).standard_normal((5, 2)).astype(dtype)
    x.setflags(write=False)
    for t in (7, np.array([1, 2, 50, 99, 100])):
        for output in OUTPUTS:
            got = getattr(ORACLES[name], output)(SCHEDULE, x, t)
            assert got.dtype == dtype and got.shape == ((5,) if output == "log_density" else (5, 2))


@every_oracle
def test_an_oracle_is_a_network_for_each_prediction(name):
    x, t = np.ones((3, 2)), np.array([1, 50, 100])
    for prediction in ("eps", "x0", "v"):
        net = ORACLES[name].network(SCHEDULE, prediction)
        expected = getattr(ORACLES[name], prediction)(SCHEDULE, x, t)
        assert np.array_equal(net(x, t), expected)
        assert np.array_equal(net(x, t, label=np.zeros(3, int)), expected)
    with pytest.raises(ValueError, match="expected prediction to be one of eps, x0, v, got 'score'"):
        ORACLES[name].network(SCHEDULE, "score")


@every_oracle
def test_samples_have_the_mean_and_covariance_of_the_data(name):
    oracle, n = ORACLES[name], 200_000
    x = oracle.sample(np.random.default_rng(0), n)
    assert x.shape == (n, 2) and x.dtype == np.float64
    # with ᾱ_t = 0, x_t is independent of x_0, whose expectation is the mean of the data
    mean = oracle.x0(schedules.from_betas([1.0]), np.zeros((1, 2)), 1)[0]
    assert x.mean(axis=0) == pytest.approx(mean, abs=0.01)
    if name == "gaussian":
        assert np.cov(x.T) == pytest.approx(COVARIANCE, abs=0.01)
    if name == "points":
        assert set(map(tuple, x[:100])) == set(map(tuple, oracle.points))


def test_samples_lie_along_the_axes_of_their_covariance():
    root = np.array([[1.0, 0.5, -0.3], [0.0, 0.4, 0.8], [0.0, 0.0, 0.2]])
    x = Gaussian(np.zeros(3), root @ root.T).sample(np.random.default_rng(0), 200_000)
    assert np.cov(x.T) == pytest.approx(root @ root.T, abs=0.02)


def test_at_zero_terminal_snr_the_outputs_are_finite_and_right():
    ended = schedules.zero_terminal_snr(SCHEDULE)
    x = np.array([[2.0, -3.0]])
    for oracle in ORACLES.values():
        assert oracle.eps(ended, x, 100) == pytest.approx(x, rel=1e-14)
        assert oracle.score(ended, x, 100) == pytest.approx(-x, rel=1e-14)
        assert oracle.v(ended, x, 100) == pytest.approx(-oracle.x0(ended, x, 100))
        assert oracle.log_density(ended, x, 100) == pytest.approx(-6.5 - np.log(2 * np.pi))


def test_the_density_at_time_0_where_it_exists():
    x = np.array([[0.5, -1.0]])
    expected = -0.5 * np.linalg.slogdet(2 * np.pi * COVARIANCE)[1]
    assert ORACLES["gaussian"].log_density(SCHEDULE, x, 0) == pytest.approx(expected)
    assert ORACLES["mixture"].x0(SCHEDULE, x, 0) == pytest.approx(x)
    for oracle in (ORACLES["points"], Gaussian([0.0, 0.0], np.ones((2, 2)))):
        with pytest.raises(ValueError, match=r"expected t in 1…100, got 0"):
            oracle.score(SCHEDULE, x, 0)


@every_oracle
def test_at_a_real_time_an_oracle_is_that_of_the_interpolated_alpha_bar(name):
    x = np.random.default_rng(0).standard_normal((5, 2))
    only = schedules.from_alpha_bar([float(SCHEDULE.at(37.3).alpha_bar)])
    for output in OUTPUTS:
        exact = getattr(ORACLES[name], output)
        assert exact(SCHEDULE, x, 37.3) == pytest.approx(exact(only, x, 1), rel=1e-11)


def test_a_singular_covariance_is_noised_only_along_its_own_axes():
    line = Gaussian([0.0, 0.0], [[1.0, 1.0], [1.0, 1.0]])
    x0 = line.x0(SCHEDULE, np.random.default_rng(0).standard_normal((5, 2)), 30)
    assert x0[:, 0] == pytest.approx(x0[:, 1])
    samples = line.sample(np.random.default_rng(0), 10)
    assert samples[:, 0] == pytest.approx(samples[:, 1])


def test_between_far_modes_the_component_weights_do_not_underflow():
    """exp(−½ (x−m)²/σ²) underflows for both modes here; their posterior probabilities do not."""
    oracle = mixture1d()
    x0 = oracle.x0(schedules.linear(), np.array([[5.0], [-5.0]]), 1)
    assert np.all(np.isfinite(x0)) and x0[0] > 0.5 and x0[1] < -0.4


def test_outcome_starts_from_standard_noise_or_from_given_moments():
    data = ORACLES["gaussian"]
    mean, covariance = data.outcome(SCHEDULE, [])
    assert np.array_equal(mean, [0, 0]) and np.array_equal(covariance, np.eye(2))
    plan = ddim_steps(SCHEDULE, (100, 50, 0))
    A1, b1 = data.affine(SCHEDULE, plan[0])
    A2, b2 = data.affine(SCHEDULE, plan[1])
    m, C = np.array([1.0, 2.0]), 0.1 * np.eye(2)
    mean, covariance = data.outcome(SCHEDULE, plan, m, C)
    assert mean == pytest.approx(A2 @ (A1 @ m + b1) + b2)
    assert covariance == pytest.approx(A2 @ A1 @ C @ A1.T @ A2.T)


@pytest.mark.parametrize("x", [np.ones(2), np.ones((3, 1)), np.ones((3, 2, 1))])
@every_oracle
def test_x_of_another_dimension_is_refused(name, x):
    with pytest.raises(ValueError, match=r"expected x of shape \(B, 2\), got"):
        ORACLES[name].eps(SCHEDULE, x, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0], [0.0], [[[1.0]]]), r"expected means of shape \(K, D\), got \(1,\)"),
        (
            ([1.0], [[0.0]], [[1.0]]),
            r"expected weights \(1,\) and covariances \(1, 1, 1\), got \(1,\) and \(1, 1\)$",
        ),
        (([0.5, 0.5], [[0.0]], [[[1.0]]]), r"expected weights \(1,\)"),
        (([0.5, 0.4], [[0.0], [1.0]], np.ones((2, 1, 1))), "positive weights that sum to 1"),
        (([1.5, -0.5], [[0.0], [1.0]], np.ones((2, 1, 1))), "positive weights that sum to 1"),
        (([1.0, 0.0], [[0.0], [1.0]], np.ones((2, 1, 1))), "positive weights that sum to 1"),
        (([np.nan], [[0.0]], [[[1.0]]]), "positive weights that sum to 1"),
        (([1.0], [[0.0]], [[[-1.0]]]), "no negative variance, got -1"),
        (([1.0], [[0.0]], [[[np.nan]]]), "^expected covariances of finite numbers$"),
        (
            ([1.0], [[0.0, 0.0]], [[[1.0, 0.5], [0.0, 1.0]]]),
            "^expected symmetric covariances: S and its transpose must agree$",
        ),
    ],
)
def test_an_invalid_mixture_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Mixture(*arguments)


@pytest.mark.parametrize("size", [1e-9, 1.0, 1e9])
def test_a_covariance_is_checked_relative_to_its_own_size(size):
    """Beside a wide and a narrow component: asymmetric or negative by more than 1e-9 of its size is invalid."""

    def first_time(*covariance):
        others = [1e9 * np.eye(2), 1e-9 * np.eye(2)]
        return Mixture([0.4, 0.3, 0.3], np.zeros((3, 2)), [size * np.array(covariance), *others]).first_time

    assert first_time([1, 0.5], [0.5 + 1e-12, 1]) == 0
    assert first_time([1, 0], [0, 1e-13]) == 0  # a variance, if a small one
    assert first_time([1, 0], [0, 1e-15]) == first_time([1, 0], [0, -1e-11]) == 1  # none
    for covariance in ([1, 0.5], [0.5 + 1e-8, 1]), ([1, 0], [0, -1e-8]):
        with pytest.raises(ValueError, match="covariances"):
            first_time(*covariance)


@pytest.mark.parametrize("dtype", [int, np.float32])
def test_a_mixture_of_any_dtype_is_stored_as_float64(dtype):
    mixture = Mixture(np.ones(1, dtype), np.ones((1, 2), dtype), np.eye(2, dtype=dtype)[None])
    assert mixture.weights.dtype == mixture.means.dtype == mixture.covariances.dtype == np.float64


@pytest.mark.parametrize("points", [np.zeros(3), np.zeros((0, 2))])
def test_invalid_points_are_refused(points):
    with pytest.raises(ValueError, match=r"expected points of shape \(N, D\) with N ≥ 1"):
        FiniteData(points)


def test_an_oracle_does_not_share_memory_with_its_arguments():
    points = np.zeros((2, 1))
    oracle = FiniteData(points)
    points += 1
    assert np.all(oracle.points == 0)


def test_points_of_any_dtype_are_stored_as_float64():
    for points in ([[0, 1], [2, 3]], np.array([[0.1, 1.0]], np.float32)):
        oracle = FiniteData(points)
        assert oracle.sample(np.random.default_rng(0), 3).dtype == np.float64


def test_points_far_from_the_origin_and_from_each_axis_lose_no_digits():
    """Around (1e6, −1e6) the squares are 1e12 and the distances that count are 1e-2: about 1e-14 of them."""
    around, schedule, t = np.array([1e6, -1e6]), schedules.linear(1000), 1
    near = 0.01 * np.random.default_rng(0).standard_normal((5, 2))
    x = near[:3] + 0.005
    shifted = FiniteData(near + around).x0(schedule, x + np.sqrt(schedule.alpha_bar[t]) * around, t)
    assert shifted - around == pytest.approx(FiniteData(near).x0(schedule, x, t), abs=1e-6)


# ---- arguments that a first use gets wrong


def test_two_numbers_are_a_gaussian_in_one_dimension():
    numbers, arrays = Gaussian(0.3, 0.04), Gaussian([0.3], [[0.04]])
    x = np.array([[0.1], [2.0]])
    assert numbers.dim == 1 and numbers.mean.shape == (1,) and numbers.covariance.shape == (1, 1)
    assert np.array_equal(numbers.eps(SCHEDULE, x, 7), arrays.eps(SCHEDULE, x, 7))


@pytest.mark.parametrize(
    ("mean", "covariance"),
    [
        (0.3, [[1.0]]),
        ([0.3], 1.0),
        ([0.3, 0.1], [1.0, 1.0]),
        ([[0.3]], [[1.0]]),
        ([0.3], np.eye(2)),
        (0.3, [1.0]),
    ],
)
def test_a_gaussian_of_other_shapes_is_refused_in_its_own_terms(mean, covariance):
    shapes = re.escape(f"{np.shape(mean)} and {np.shape(covariance)}")
    expected = r"a mean of shape \(D,\) and a covariance of shape \(D, D\), or two numbers for D = 1"
    with pytest.raises(ValueError, match=f"^expected {expected}, got {shapes}$"):
        Gaussian(mean, covariance)


@pytest.mark.parametrize("means", [0.5, [0.5, 0.1]])
def test_means_that_are_numbers_are_refused_with_the_shape_to_pass(means):
    with pytest.raises(
        ValueError, match=r"for D = 1 pass means of shape \(K, 1\), such as \[\[0.5\], \[0.1\]\]"
    ):
        Mixture([0.5, 0.5], means, [0.1, 0.1])


def test_an_oracle_without_its_density_cannot_be_made():
    class Incomplete(Oracle):
        def sample(self, rng, n):
            return np.zeros((n, 1))

    with pytest.raises(TypeError, match="_exact"):
        Incomplete()
