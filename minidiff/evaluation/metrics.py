"""Distances between two sets of samples.

Every function takes plain arrays, one sample a row (images are flattened), computes in float64 and raises
ValueError for empty or non-finite samples and for rows of different length. F and G are the (cumulative) distribution
functions of the two sets.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from minidiff.datasets import Samples
from minidiff.datasets.samples import blocks

# Entries of a block of pairwise distances: 32 MB in float64, where all of 10 000 × 10 000 points would take 800 MB.
BLOCK_ENTRIES = 1 << 22


class TooFew(ValueError):
    """Fewer samples than a distance is defined for."""


def wasserstein1(a: np.ndarray, b: np.ndarray) -> float:
    """Wasserstein-1 of 1-D samples, (n,) or (n, 1) and (m,) or (m, 1): `∫₀¹ |F⁻¹(u) − G⁻¹(u)| du`."""
    a, b = _rows(a, b)
    if a.shape[1] != 1:
        raise ValueError(
            f"expected 1-D samples, got rows of {a.shape[1]} numbers; for those use sliced_wasserstein"
        )
    return _wasserstein1_sorted(np.sort(a[:, 0]), np.sort(b[:, 0]))


def _wasserstein1_sorted(a: np.ndarray, b: np.ndarray) -> float:
    if len(a) == len(b):
        return float(np.mean(np.abs(a - b)))
    # Both quantile functions are step functions: between two neighbouring levels each is constant, one of its samples.
    levels_a, levels_b = np.arange(1, len(a) + 1) / len(a), np.arange(1, len(b) + 1) / len(b)
    levels = np.union1d(levels_a, levels_b)
    gap = np.abs(a[np.searchsorted(levels_a, levels)] - b[np.searchsorted(levels_b, levels)])
    return float(gap @ np.diff(levels, prepend=0.0))


def sliced_wasserstein(
    a: np.ndarray, b: np.ndarray, rng: np.random.Generator, directions: int = 128
) -> float:
    """The mean `wasserstein1` of (n, …) and (m, …) projected on `directions` unit vectors, drawn uniformly."""
    a, b = _rows(a, b)
    if directions < 1:
        raise ValueError(f"expected directions ≥ 1, got {directions}")
    total = 0.0
    for direction in rng.standard_normal((directions, a.shape[1])):
        direction /= np.linalg.norm(direction)
        total += _wasserstein1_sorted(np.sort(a @ direction), np.sort(b @ direction))
    return total / directions


def energy_distance(a: np.ndarray, b: np.ndarray) -> float:
    """`2 E‖X − Y‖ − E‖X − X′‖ − E‖Y − Y′‖` of (n, …) and (m, …), as a V-statistic.

    The means are over all pairs, self-pairs included, so it is the energy distance of the two empirical distributions:
    never negative, and 0 only when they are equal. In one dimension it is `2 ∫ (F − G)² dx`.
    """
    a, b = _rows(a, b)
    return max(0.0, 2 * _mean_distance(a, b) - _mean_distance(a, a) - _mean_distance(b, b))


def _mean_distance(a: np.ndarray, b: np.ndarray) -> float:
    total = sum(np.sqrt(squares).sum() for squares in _squared_distances(a, b))
    return float(total / (len(a) * len(b)))


def nearest_distances(a: np.ndarray, b: np.ndarray | Samples) -> np.ndarray:
    """For each row of `a` (n, …) the Euclidean distance to the nearest row of `b` (m, …): (n,) float64.

    A test for memorisation: generated samples should lie no nearer to the training data than held-out ones do.
    """
    a, _ = _rows(a, b[:1] if b.ndim else b)  # refuses what cannot be compared
    nearest, least = np.zeros(len(a), int), np.full(len(a), np.inf)
    for block in blocks(b.shape):
        squares = [
            (part.argmin(axis=1), part.min(axis=1)) for part in _squared_distances(*_rows(a, b[block]))
        ]
        index, square = (np.concatenate(found) for found in zip(*squares, strict=True))
        nearer = square < least
        nearest[nearer], least[nearer] = block.start + index[nearer], square[nearer]
    # From the difference itself, so that a copy is at distance 0 and not at the root of a rounding error.
    distances: np.ndarray = np.linalg.norm(np.subtract(*_rows(a, b[nearest])), axis=1)
    return distances


def _squared_distances(a: np.ndarray, b: np.ndarray) -> Iterator[np.ndarray]:
    """Yields, block by block of the rows of `a`, their squared distances to all of `b`: ‖x‖² + ‖y‖² − 2 x·y."""
    # Centred, since far from the origin the subtraction would cancel most digits.
    centre = b.mean(axis=0)
    a, b = a - centre, b - centre
    a_squares, b_squares = np.square(a).sum(axis=1), np.square(b).sum(axis=1)
    minus_2b = -2 * b.T
    step = max(1, BLOCK_ENTRIES // len(b))
    for start in range(0, len(a), step):
        squares = a[start : start + step] @ minus_2b
        squares += b_squares
        squares += a_squares[start : start + step, None]
        yield np.maximum(squares, 0, out=squares)


def frechet_distance(features_a: np.ndarray, features_b: np.ndarray) -> float:
    """`gaussian_frechet` of the means and (unbiased) covariances of features (n, D) and (m, D); n, m ≥ 2, else TooFew.

    With Inception features this is the FID (Heusel et al. 2017). It depends on the features and is biased upwards for
    small n, so it means something only beside the same distance between as many real samples and real data.
    """
    a, b = _rows(features_a, features_b)
    if min(len(a), len(b)) < 2:
        raise TooFew(f"a covariance needs at least 2 samples; got {len(a)} and {len(b)}")
    return gaussian_frechet(
        a.mean(axis=0), np.atleast_2d(np.cov(a.T)), b.mean(axis=0), np.atleast_2d(np.cov(b.T))
    )


def gaussian_frechet(mean_a: np.ndarray, cov_a: np.ndarray, mean_b: np.ndarray, cov_b: np.ndarray) -> float:
    """Squared Wasserstein-2 between normal distributions: `‖m_a − m_b‖² + tr(C_a + C_b − 2 (√C_a C_b √C_a)^½)`.

    Means (D,), covariances (D, D), of any rank (Dowson & Landau 1982). The last trace is the sum of the singular values
    of `√C_a √C_b`, which, unlike a root of the product, does not turn rounding errors of 1e-16 into 1e-8.
    """
    mean_a, mean_b = np.asarray(mean_a, np.float64), np.asarray(mean_b, np.float64)
    root_a, root_b = symmetric_root(cov_a), symmetric_root(cov_b)
    if not mean_a.shape == mean_b.shape == root_a.shape[:1] == root_b.shape[:1]:
        shapes = ", ".join(str(array.shape) for array in (mean_a, root_a, mean_b, root_b))
        raise ValueError(f"expected means (D,) and covariances (D, D) of the same D, got {shapes}")
    cross = np.linalg.svd(root_a @ root_b, compute_uv=False).sum()
    covariance_term = np.trace(cov_a) + np.trace(cov_b) - 2 * cross
    return float(max(0.0, np.sum((mean_a - mean_b) ** 2) + covariance_term))


def symmetric_root(cov: np.ndarray) -> np.ndarray:
    """The positive semi-definite √C of a covariance (D, D), of any rank. Raises ValueError for anything else."""
    cov = np.asarray(cov, np.float64)
    square = cov.ndim == 2 and cov.shape[0] == cov.shape[1]
    # NaN fails the comparison too.
    if not square or not (np.abs(cov - cov.T) <= 1e-8 * np.abs(cov).max(initial=0)).all():
        raise ValueError(f"expected a symmetric and finite covariance (D, D), got an array {cov.shape}")
    values, vectors = np.linalg.eigh(cov)
    # An eigenvalue that is a rounding error of 0 would enter by its root: 1e-16 becomes 1e-8.
    noise = len(cov) * np.finfo(np.float64).eps * values.max(initial=0)
    root: np.ndarray = vectors * np.sqrt(np.where(values > noise, values, 0)) @ vectors.T
    return root


def _rows(*both: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    a, b = (np.asarray(samples, np.float64) for samples in both)
    for samples in (a, b):
        if samples.ndim == 0 or samples.size == 0:
            raise ValueError(f"expected samples (n, …) with n ≥ 1, got an array {samples.shape}")
        if not np.isfinite(samples).all():
            raise ValueError(f"expected finite samples, got NaN or infinity in an array {samples.shape}")
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"expected rows of the same length, got {a.shape[1]} and {b.shape[1]} numbers")
    return a, b
