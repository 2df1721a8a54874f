"""The metrics against closed forms, brute force and their invariances."""

import tracemalloc
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidiff import datasets, metrics
from minidiff.datasets import samples as samples_module

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 40)
samples = st.lists(st.floats(-100, 100), min_size=1, max_size=30).map(np.array)
normal_quantiles = np.array([NormalDist().inv_cdf((i + 0.5) / 20_000) for i in range(20_000)])


def distribution_gap(a, b, power):
    """∫ |F − G|^power dx, from the distribution functions."""
    x = np.sort(np.concatenate([a, b]))
    F, G = (np.searchsorted(np.sort(s), x[:-1], side="right") / len(s) for s in (a, b))
    return np.sum(np.abs(F - G) ** power * np.diff(x))


def rotation(rng, d):
    return np.linalg.qr(rng.standard_normal((d, d)))[0]


def covariance(rng, d, rank):
    root = rng.standard_normal((d, rank))
    return root @ root.T


# Wasserstein-1


@given(samples, samples)
def test_wasserstein1_is_the_area_between_the_distribution_functions(a, b):
    w = metrics.wasserstein1(a, b)
    assert w == pytest.approx(distribution_gap(a, b, 1), abs=1e-10)
    assert w == pytest.approx(metrics.wasserstein1(b[:, None], a[:, None]), abs=1e-12)


@given(samples, st.integers(2, 5), st.floats(-50, 50))
def test_wasserstein1_depends_on_shift_and_scale_but_not_on_multiplicity(a, times, c):
    many = np.repeat(a, times)
    assert metrics.wasserstein1(a, many) == 0
    assert metrics.wasserstein1(a, many + c) == pytest.approx(abs(c), abs=1e-10)
    assert metrics.wasserstein1(c * a, np.zeros(1)) == pytest.approx(abs(c) * np.abs(a).mean(), abs=1e-9)


def test_wasserstein1_of_known_distributions():
    u = (np.arange(5000) + 0.5) / 5000
    v = (np.arange(7001) + 0.5) / 7001
    assert metrics.wasserstein1(u, v**2) == pytest.approx(1 / 6, abs=1e-4)
    z = normal_quantiles
    assert metrics.wasserstein1(z, 3 * z[::2]) == pytest.approx(2 * np.sqrt(2 / np.pi), abs=2e-3)


def test_wasserstein1_of_two_sets_of_the_1d_mixture_is_below_0_009():
    data = datasets.load("mixture1d")
    w = metrics.wasserstein1(data.units.to_units(data.held_out), data.units.to_units(data.x))
    assert w < 0.009


def test_wasserstein1_requires_1d_samples():
    with pytest.raises(ValueError, match="1-D"):
        metrics.wasserstein1(np.zeros((3, 2)), np.zeros((3, 2)))


# Sliced Wasserstein


@given(samples, samples, seeds)
def test_sliced_wasserstein_in_one_dimension_is_wasserstein1(a, b, seed):
    sliced = metrics.sliced_wasserstein(a, b, np.random.default_rng(seed), directions=3)
    assert sliced == pytest.approx(metrics.wasserstein1(a, b), abs=1e-10)


@pytest.mark.parametrize(("d", "mean_cosine"), [(2, 2 / np.pi), (3, 1 / 2)])
def test_sliced_wasserstein_of_a_shift_is_the_mean_cosine_times_its_length(d, mean_cosine):
    rng = np.random.default_rng(0)
    a, shift = rng.standard_normal((300, d)), rng.standard_normal(d)
    sliced = metrics.sliced_wasserstein(a, a + shift, rng, directions=4000)
    assert sliced == pytest.approx(mean_cosine * np.linalg.norm(shift), rel=0.03)


@given(sizes, sizes, seeds)
def test_sliced_wasserstein_is_symmetric_and_zero_on_equal_sets(n, m, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((n, 2, 2)), rng.standard_normal((m, 2, 2))
    there, back = (metrics.sliced_wasserstein(*p, np.random.default_rng(seed), 5) for p in ((a, b), (b, a)))
    assert there == pytest.approx(back, rel=1e-12) and there > 0
    assert metrics.sliced_wasserstein(a, rng.permutation(a), rng) == pytest.approx(0, abs=1e-12)


def test_sliced_wasserstein_draws_from_the_given_generator_only():
    a, b = np.eye(3), np.ones((2, 3))
    first, again = (metrics.sliced_wasserstein(a, b, np.random.default_rng(1)) for _ in range(2))
    assert first == again
    with pytest.raises(ValueError, match="directions"):
        metrics.sliced_wasserstein(a, b, np.random.default_rng(1), directions=0)


# Energy distance


@given(samples, samples)
def test_energy_distance_in_one_dimension_is_twice_the_squared_gap(a, b):
    energy = metrics.energy_distance(a, b)
    assert energy == pytest.approx(2 * distribution_gap(a, b, 2), abs=1e-5)
    assert energy == pytest.approx(metrics.energy_distance(b, a), abs=1e-5)


@given(sizes, sizes, st.integers(1, 6), seeds)
def test_energy_distance_is_invariant_under_rigid_motions(n, m, d, seed):
    rng = np.random.default_rng(seed)
    a, b, turn, shift = rng.standard_normal((n, d)), rng.standard_normal((m, d)), rotation(rng, d), 1e3
    moved = metrics.energy_distance(a @ turn + shift, b @ turn + shift)
    assert moved == pytest.approx(metrics.energy_distance(a, b), abs=1e-4)


@given(sizes, st.integers(1, 6), seeds)
def test_energy_distance_is_zero_only_between_equal_distributions(n, d, seed):
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((n, d))
    assert metrics.energy_distance(a, a) == 0
    assert metrics.energy_distance(a, np.concatenate([a, a])) == pytest.approx(0, abs=1e-6)
    assert metrics.energy_distance(a, a + 0.5) > 1e-3


def test_energy_distance_of_two_points_is_twice_their_distance():
    assert metrics.energy_distance(np.array([[1.0, 2.0]]), np.array([[4.0, 6.0]])) == pytest.approx(10)


def test_distances_do_not_depend_on_how_they_are_blocked(monkeypatch):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((57, 4)), rng.standard_normal((33, 4))
    whole = metrics.energy_distance(a, b), metrics.nearest_distances(a, b)
    for entries in (1, 100, 33 * 57 - 1):
        monkeypatch.setattr(metrics, "BLOCK_ENTRIES", entries)
        # A point lies at the root of a rounding error from itself, and rounding depends on the blocks.
        assert metrics.energy_distance(a, b) == pytest.approx(whole[0], abs=1e-8)
        np.testing.assert_allclose(metrics.nearest_distances(a, b), whole[1], rtol=1e-10)


def test_distances_take_the_memory_of_a_block_only(monkeypatch):
    a = np.random.default_rng(0).standard_normal((1000, 2))
    monkeypatch.setattr(metrics, "BLOCK_ENTRIES", 10_000)
    tracemalloc.start()
    metrics.energy_distance(a, a)
    metrics.nearest_distances(a, a)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1000 * 1000 * 8 / 8


# Nearest neighbours


def test_nearest_distances_convert_a_block_of_a_data_set_at_a_time(monkeypatch):
    raw = np.random.default_rng(0).integers(0, 256, (4000, 8, 8, 3), np.uint8)
    x = datasets.from_raw("bytes", raw, held_out_fraction=0).x
    a = x[::400] + np.float32(0.01)
    whole = metrics.nearest_distances(a, x)
    np.testing.assert_array_equal(whole, metrics.nearest_distances(a, np.asarray(x)))
    monkeypatch.setattr(samples_module, "BLOCK_ENTRIES", 30_000)
    tracemalloc.start()
    in_blocks = metrics.nearest_distances(a, x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(in_blocks, whole)
    assert peak < raw.size * 4


@given(sizes, sizes, st.integers(1, 6), seeds, st.sampled_from([0.0, 1e6]))
def test_nearest_distances_are_those_of_brute_force(n, m, d, seed, far):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((n, d)) + far, rng.standard_normal((m, d)) + far
    brute = np.linalg.norm(a[:, None] - b[None], axis=2).min(axis=1)
    np.testing.assert_allclose(metrics.nearest_distances(a, b), brute, atol=1e-7)


def test_a_copy_is_at_distance_zero_exactly():
    b = np.random.default_rng(0).uniform(-1, 1, (300, 8, 8, 1)).astype(np.float32)
    near = metrics.nearest_distances(np.concatenate([b[::-1], b[:1] + 0.5]), b)
    assert near.shape == (301,) and (near[:300] == 0).all() and near[300] == pytest.approx(4)


# Fréchet


@given(st.integers(1, 8), seeds)
def test_frechet_of_normals_with_common_axes_is_a_sum_over_those(d, seed):
    rng = np.random.default_rng(seed)
    turn, a, b, mean = (
        rotation(rng, d),
        rng.uniform(0, 3, d),
        rng.uniform(0, 3, d),
        rng.standard_normal((2, d)),
    )
    distance = metrics.gaussian_frechet(mean[0], turn * a**2 @ turn.T, mean[1], turn * b**2 @ turn.T)
    assert distance == pytest.approx(np.sum((mean[0] - mean[1]) ** 2) + np.sum((a - b) ** 2), abs=1e-7)


@given(seeds)
def test_frechet_of_normals_in_the_plane_has_a_closed_form(seed):
    rng = np.random.default_rng(seed)
    A, B = covariance(rng, 2, 3), covariance(rng, 2, 3)
    cross = np.sqrt(np.trace(A @ B) + 2 * np.sqrt(np.linalg.det(A) * np.linalg.det(B)))
    distance = metrics.gaussian_frechet(np.zeros(2), A, np.ones(2), B)
    assert distance == pytest.approx(2 + np.trace(A) + np.trace(B) - 2 * cross, abs=1e-8)


@given(st.integers(2, 40), seeds)
def test_frechet_of_normals_on_two_lines_has_a_closed_form(d, seed):
    u, v = np.random.default_rng(seed).standard_normal((2, d))
    distance = metrics.gaussian_frechet(np.zeros(d), np.outer(u, u), np.zeros(d), np.outer(v, v))
    assert distance == pytest.approx(u @ u + v @ v - 2 * abs(u @ v), abs=1e-9 * d)


@given(st.integers(2, 30), seeds)
def test_frechet_of_normals_in_orthogonal_spaces_is_the_sum_of_their_variances(d, seed):
    rng = np.random.default_rng(seed)
    turn, variances = rotation(rng, d), rng.uniform(0.5, 2, d)
    A, B = (turn * (variances * mask) @ turn.T for mask in (np.arange(d) < d // 2, np.arange(d) >= d // 2))
    distance = metrics.gaussian_frechet(np.zeros(d), A, np.zeros(d), B)
    assert distance == pytest.approx(variances.sum(), abs=1e-11 * d)


@given(st.integers(2, 30), st.integers(1, 20), seeds)
def test_frechet_is_zero_between_equal_features_of_any_rank(n, d, seed):
    a = np.random.default_rng(seed).standard_normal((n, d))
    assert metrics.frechet_distance(a, a[::-1]) == pytest.approx(0, abs=1e-11 * d)


@given(st.integers(2, 30), st.integers(2, 30), st.integers(1, 12), seeds)
def test_frechet_of_a_shift_is_its_square_and_rigid_motions_do_not_change_it(n, m, d, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((n, d)), rng.standard_normal((m, d))
    shift, turn = rng.standard_normal(d), rotation(rng, d)
    distance = metrics.frechet_distance(a, b)
    assert metrics.frechet_distance(a, a + shift) == pytest.approx(shift @ shift, abs=1e-10 * d)
    assert metrics.frechet_distance(b, a) == pytest.approx(distance, abs=1e-9 * d)
    assert metrics.frechet_distance(a @ turn + shift, b @ turn + shift) == pytest.approx(distance, abs=1e-6)


def test_frechet_in_one_dimension_compares_means_and_unbiased_standard_deviations():
    a, b = np.array([0.0, 2.0]), np.array([5.0, 11.0])
    assert metrics.frechet_distance(a, b) == pytest.approx((1 - 8) ** 2 + (np.sqrt(2) - np.sqrt(18)) ** 2)


def test_frechet_of_large_samples_approaches_that_of_their_distributions():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((20_000, 3)), 1 + 2 * rng.standard_normal((20_000, 3))
    assert metrics.frechet_distance(a, b) == pytest.approx(3 + 3, rel=0.03)


# What cannot be compared


PAIRWISE = (
    metrics.energy_distance,
    metrics.nearest_distances,
    metrics.frechet_distance,
    metrics.wasserstein1,
)


@pytest.mark.parametrize("metric", PAIRWISE)
def test_samples_that_cannot_be_compared_are_refused(metric):
    good = np.arange(4.0)
    for bad in (np.array([]), np.array(1.0), np.array([0.0, np.nan, 1.0]), np.array([0.0, np.inf])):
        for pair in ((good, bad), (bad, good)):
            with pytest.raises(ValueError, match="expected"):
                metric(*pair)
    with pytest.raises(ValueError, match="rows of the same length"):
        metric(np.zeros((3, 2)), np.zeros((3, 3)))


def test_a_covariance_requires_two_samples_and_symmetry():
    with pytest.raises(ValueError, match="at least 2"):
        metrics.frechet_distance(np.zeros((1, 3)), np.zeros((5, 3)))
    for cov in (np.array([[1.0, 2.0], [0.0, 1.0]]), np.ones((2, 3)), np.ones(2), np.full((2, 2), np.nan)):
        with pytest.raises(ValueError, match="symmetric"):
            metrics.gaussian_frechet(np.zeros(2), np.eye(2), np.zeros(2), cov)
    with pytest.raises(ValueError, match="same D"):
        metrics.gaussian_frechet(np.zeros(3), np.eye(2), np.zeros(2), np.eye(2))
