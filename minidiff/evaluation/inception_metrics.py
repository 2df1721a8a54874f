"""FID, KID and the Inception score: how good images are, from the features of `inception`.

Each is of the definition that published figures have; docs/measures.md says what it means. Features are (N, D) float32,
and everything is summed in float64. The order of the images does not matter but for rounding: halves, subsets and
splits are every 2nd or every 10th image, so that images in the order of their classes are balanced in each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from minidiff.datasets.image_stream import Images
from minidiff.evaluation.inception import BATCH, Inception
from minidiff.evaluation.metrics import gaussian_frechet, symmetric_root
from minidiff.evaluation.reports import BOOTSTRAP_RESAMPLES, Report

MIN_IMAGES = 20  # two in each subset of the KID
SUBSETS, SUBSET = 10, 1000  # of the KID: how many, and the most images in each
SPLITS = 10  # of the Inception score
KEPT = 10_000  # images of the data whose features are kept, for the KID
ROWS = 512  # features that are converted to float64 at a time


class Statistics(NamedTuple):
    """The mean (D,) and the unbiased covariance (D, D) of the features of so many images, float64.

    features: those of the first `KEPT` images; none, (0, D), in statistics that others wrote.
    """

    images: int
    mean: np.ndarray
    cov: np.ndarray
    features: np.ndarray

    def extended(self, features: np.ndarray) -> Statistics:
        """Those with further features (n, D), by the formula of Chan, Golub & LeVeque 1979."""
        mean, cov = moments(features)
        added, count = len(features), self.images + len(features)
        step = mean - self.mean
        scatter = (self.images - 1) * self.cov + (added - 1) * cov
        scatter += np.outer(step, step * (self.images * added / count))
        kept = np.concatenate([self.features, features[: KEPT - len(self.features)]])
        return Statistics(count, self.mean + step * (added / count), scatter / (count - 1), kept)


def statistics(features: np.ndarray) -> Statistics:
    """Those of features (N, D)."""
    return Statistics(len(features), *moments(features), features[:KEPT])


def moments(features: np.ndarray, counts: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the unbiased covariance of features (N, D), each taken as often as counts (N,) say; None: once.

    Of one image the covariance is 0.
    """
    counts = np.ones(len(features)) if counts is None else counts.astype(np.float64)
    blocks = [slice(start, start + ROWS) for start in range(0, len(features), ROWS)]
    count = counts.sum()
    mean = sum(counts[block] @ features[block].astype(np.float64) for block in blocks) / count
    scatter = np.zeros((features.shape[1],) * 2)
    for block in blocks:
        centred = (features[block] - mean) * np.sqrt(counts[block])[:, None]
        scatter += centred.T @ centred
    scatter /= max(count - 1, 1)
    return mean, scatter


def measured(net: Inception, blocks: Iterable[Images]) -> Iterator[np.ndarray]:
    """Yields the features of each batch of images. Raises ValueError, with its name, for an image with NaN in them."""
    for names, pixels in blocks:
        for start in range(0, len(pixels), BATCH):
            features = net.features(pixels[start : start + BATCH])
            finite = np.isfinite(features).all(axis=1)
            if not finite.all():
                raise ValueError(f"{names[start + int(np.argmin(finite))]}: its features are not finite")
            yield features


def figures(
    net: Inception, features: np.ndarray, reference: Statistics, rng: np.random.Generator | None = None
) -> Report:
    """The figures of images with these features, beside those of a reference.

    rng: with it, each figure has its standard error, that of drawing so many images; the reference stays the same.
    Raises ValueError for fewer than `MIN_IMAGES`, and where all are the same.
    """
    if len(features) < MIN_IMAGES:
        raise ValueError(f"expected at least {MIN_IMAGES} images to measure, got {len(features)}")
    if (features.min(axis=0) == features.max(axis=0)).all():
        raise ValueError(f"expected images that vary, got {len(features)} that are all the same")
    fid, halves = _fid(features, reference), [_fid(features[half::2], reference) for half in (0, 1)]
    of_half = float(np.mean(halves))
    score, spread = inception_score(net.logits, features)
    report: Report = {"fid": fid, "fid_of_half_as_many": of_half, "fid_extrapolated": 2 * fid - of_half}
    report |= {"kid_times_1000": None, "inception_score": score}
    if len(reference.features) >= MIN_IMAGES:
        estimates = 1000 * kid(features, reference.features)
        report["kid_times_1000"] = float(estimates.mean())
        if rng:
            report["kid_times_1000_error"] = _bootstrap_error(
                lambda index: estimates[index].mean(), SUBSETS, rng
            )
    if rng:
        report["fid_error"] = fid_error(features, reference, rng)
        report["inception_score_error"] = spread
    return report


def _fid(features: np.ndarray, reference: Statistics) -> float:
    return gaussian_frechet(*moments(features), reference.mean, reference.cov)


def fid_error(features: np.ndarray, reference: Statistics, rng: np.random.Generator) -> float:
    """The standard error of the FID by the bootstrap.

    The trace of the root of a product is here the sum of the roots of its eigenvalues, which takes a third of the time
    of `gaussian_frechet` and has five digits.
    """
    root, trace = symmetric_root(reference.cov), np.trace(reference.cov)

    def of_resample(index: np.ndarray) -> float:
        mean, cov = moments(features, np.bincount(index, minlength=len(features)))
        values = np.linalg.eigvalsh(root @ cov @ root)
        cross = np.sqrt(np.maximum(values, 0)).sum()
        return float(np.sum((mean - reference.mean) ** 2) + np.trace(cov) + trace - 2 * cross)

    return _bootstrap_error(of_resample, len(features), rng)


def _bootstrap_error(figure: Callable[[np.ndarray], float], count: int, rng: np.random.Generator) -> float:
    """The standard deviation of a figure of `count` indices that are drawn with replacement."""
    resampled = [figure(rng.integers(0, count, count)) for _ in range(BOOTSTRAP_RESAMPLES)]
    return float(np.std(resampled, ddof=1))


def kid(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(10,) unbiased estimates of the squared MMD between features (N, D) and (M, D), of disjoint subsets of both.

    The kernel is (x·y / D + 1)³ (Bińkowski et al. 2018). Their mean is the KID, whose expectation does not depend on
    how many images there are.
    """
    subsets = [(a[i::SUBSETS][:SUBSET], b[i::SUBSETS][:SUBSET]) for i in range(SUBSETS)]
    return np.array([_squared_mmd(x.astype(np.float64), y.astype(np.float64)) for x, y in subsets])


def _squared_mmd(x: np.ndarray, y: np.ndarray) -> float:
    """E k(x, x′) + E k(y, y′) − 2 E k(x, y), where x and x′ are different rows."""

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        values: np.ndarray = (a @ b.T / a.shape[1] + 1) ** 3
        return values

    def mean_of_pairs(a: np.ndarray) -> float:
        values = kernel(a, a)
        return float((values.sum() - np.trace(values)) / (len(a) * (len(a) - 1)))

    return mean_of_pairs(x) + mean_of_pairs(y) - 2 * float(kernel(x, y).mean())


def inception_score(logits: Callable[[np.ndarray], np.ndarray], features: np.ndarray) -> tuple[float, float]:
    """exp E KL(p(y|x) ‖ p(y)) of 10 splits of features (N, D): the mean and the standard deviation.

    logits: of features (n, D), those of all 1008 outputs. p(y) is the mean of p(y|x) in a split (Salimans et al. 2016).
    """
    scores = [_score(logits(features[i::SPLITS]).astype(np.float64)) for i in range(SPLITS)]
    return float(np.mean(scores)), float(np.std(scores))


def _score(logits: np.ndarray) -> float:
    log_p = logits - logits.max(axis=1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(axis=1, keepdims=True))
    p = np.exp(log_p)
    log_mean = np.log(np.maximum(p.mean(axis=0), np.finfo(np.float64).tiny))
    return float(np.exp((p * (log_p - log_mean)).sum(axis=1).mean()))
