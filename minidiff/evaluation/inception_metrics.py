"""FID, KID and the Inception score: how good images are, from the features of `inception`.

Each is of the definition that published figures have; docs/measures.md says what it means. Features are (N, D) float32,
and everything is summed in float64. The order of the images does not matter but for rounding: halves, subsets and
splits are every 2nd or every 10th image, so that images in the order of their classes are balanced in each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from minidiff.datasets.image_stream import Images
from minidiff.evaluation.inception import BATCH, CLASSES, Inception
from minidiff.evaluation.metrics import gaussian_frechet, symmetric_root
from minidiff.evaluation.reports import BOOTSTRAP_RESAMPLES, Report

MIN_IMAGES = 20  # two in each subset of the KID
SUBSETS, SUBSET = 10, 1000  # of the KID: how many, and the most images in each
SPLITS = 10  # of the Inception score
KEPT = SUBSETS * SUBSET  # images whose features are kept
ROWS = 512  # features that are converted to float64 at a time


class Moments(NamedTuple):
    """The mean (D,) and the unbiased covariance (D, D) of the features of so many images, float64."""

    images: int
    mean: np.ndarray
    cov: np.ndarray

    def merged(self, other: Moments) -> Moments:
        """Those of the images of both, by the formula of Chan, Golub & LeVeque 1979."""
        images, step = self.images + other.images, other.mean - self.mean
        scatter = max(self.images - 1, 0) * self.cov
        scatter += max(other.images - 1, 0) * other.cov
        scatter += np.outer(step, step * (self.images * other.images / images))
        scatter /= max(images - 1, 1)
        return Moments(images, self.mean + step * (other.images / images), scatter)


class Reference(NamedTuple):
    """What images are compared with: moments, and the features (n, D) of some images; others' files have none."""

    moments: Moments
    features: np.ndarray


def moments(features: np.ndarray, counts: np.ndarray | None = None) -> Moments:
    """Those of features (N, D), each taken as often as counts (N,) say; None: once.

    Of a single image the covariance is 0.
    """
    counts = np.ones(len(features)) if counts is None else counts.astype(np.float64)
    blocks = [slice(start, start + ROWS) for start in range(0, len(features), ROWS)]
    images = int(counts.sum())
    mean = np.sum([counts[block] @ features[block].astype(np.float64) for block in blocks], axis=0) / images
    scatter = np.zeros((features.shape[1],) * 2)
    for block in blocks:
        centred = (features[block] - mean) * np.sqrt(counts[block])[:, None]
        scatter += centred.T @ centred
    scatter /= max(images - 1, 1)
    return Moments(images, mean, scatter)


def features_of(net: Inception, blocks: Iterable[Images]) -> Iterator[np.ndarray]:
    """Yields the features of each batch of images. Raises ValueError, with its name, for an image with NaN in them."""
    for names, pixels in blocks:
        for start in range(0, len(pixels), BATCH):
            features = net.features(pixels[start : start + BATCH])
            finite = np.isfinite(features).all(axis=1)
            if not finite.all():
                raise ValueError(f"{names[start + int(np.argmin(finite))]}: its features are not finite")
            yield features


class Accumulator:
    """What the figures need of the features of images, as these come; its size does not depend on how many there are.

    count: how many will come, or a few less. halves: the moments of every second image, and of the others. features:
    of every so manieth image, at most `KEPT` of them. Of each split of the Inception score, the sums of p(y|x) and of
    Σ p log p over its images.
    """

    def __init__(self, net: Inception, count: int) -> None:
        nothing = Moments(0, np.zeros(net.width), np.zeros((net.width, net.width)))
        self.halves, self.images = [nothing, nothing], 0
        self._logits, self._stride = net.logits, math.ceil(count / KEPT)
        self._kept = np.empty((math.ceil(count / self._stride), net.width), np.float32)
        self._pending = list[np.ndarray]()
        self._probabilities, self._log_likelihoods = np.zeros((SPLITS, CLASSES)), np.zeros(SPLITS)

    def add(self, features: np.ndarray) -> None:
        """Take the features (n, D) of further images."""
        for start in range(0, len(features), ROWS):
            self._pending.append(features[start : start + ROWS])
            if sum(map(len, self._pending)) >= ROWS:
                self._sum()

    def finished(self) -> Accumulator:
        """The same, with the last images included."""
        if self._pending:
            self._sum()
        return self

    @property
    def features(self) -> np.ndarray:
        """(n, D)."""
        return self._kept[: math.ceil(self.images / self._stride)]

    def inception_score(self) -> tuple[float, float]:
        """exp E KL(p(y|x) ‖ p(y)) of the splits: the mean and the standard deviation (Salimans et al. 2016).

        p(y) is the mean of p(y|x) over the images of a split, and y one of all 1008 outputs.
        """
        images = np.bincount(np.arange(self.images) % SPLITS, minlength=SPLITS)
        mean = self._probabilities / images[:, None]
        log_mean = np.log(np.maximum(mean, np.finfo(np.float64).tiny))
        scores = np.exp(self._log_likelihoods / images - (mean * log_mean).sum(axis=1))
        return float(scores.mean()), float(scores.std())

    def _sum(self) -> None:
        features = np.concatenate(self._pending)
        index = self.images + np.arange(len(features))
        log_p = self._logits(features).astype(np.float64)
        log_p -= log_p.max(axis=1, keepdims=True)
        log_p -= np.log(np.exp(log_p).sum(axis=1, keepdims=True))
        p = np.exp(log_p)
        splits = [index % SPLITS == split for split in range(SPLITS)]
        probabilities = self._probabilities + [p[chosen].sum(axis=0) for chosen in splits]
        log_likelihoods = self._log_likelihoods + [(p[chosen] * log_p[chosen]).sum() for chosen in splits]
        halves = [
            half.merged(moments(features[index % 2 == parity])) if (index % 2 == parity).any() else half
            for parity, half in enumerate(self.halves)
        ]
        chosen = index % self._stride == 0
        self._kept[index[chosen] // self._stride] = features[chosen]
        # Only now, and with no call in between: Ctrl-C may come at any moment.
        self._probabilities, self._log_likelihoods, self.halves = probabilities, log_likelihoods, halves
        self._pending, self.images = [], self.images + len(index)


def figures(measured: Accumulator, reference: Reference, rng: np.random.Generator | None = None) -> Report:
    """The figures of images, beside those of a reference.

    rng: with it, each figure has its standard error, that of drawing so many images; the reference stays the same.
    Raises ValueError for fewer than `MIN_IMAGES`, and where all are the same.
    """
    if measured.images < MIN_IMAGES:
        raise ValueError(f"expected at least {MIN_IMAGES} images to measure, got {measured.images}")
    whole, features = measured.halves[0].merged(measured.halves[1]), measured.features
    if not np.trace(whole.cov):
        raise ValueError(f"expected images that vary, got {measured.images} that are all the same")
    fid = frechet(whole, reference.moments)
    of_half = float(np.mean([frechet(half, reference.moments) for half in measured.halves]))
    report: Report = {"fid": fid, "fid_of_half_as_many": of_half, "fid_extrapolated": 2 * fid - of_half}
    report["kid_times_1000"] = None
    score, spread = measured.inception_score()
    if len(reference.features) >= MIN_IMAGES:
        estimates = 1000 * kid(features, reference.features)
        report["kid_times_1000"] = float(estimates.mean())
        if rng:
            report["kid_times_1000_error"] = _bootstrap_error(
                lambda index: float(estimates[index].mean()), SUBSETS, rng
            )
    report["inception_score"] = score
    if rng:
        # Of the features that are kept; the error falls as one over the root of the number of images.
        error = fid_error(features, reference.moments, rng)
        report["fid_error"] = error * math.sqrt(len(features) / measured.images)
        report["inception_score_error"] = spread
    return report


def frechet(a: Moments, b: Moments) -> float:
    """The Fréchet distance between normal distributions with these moments: the FID."""
    return gaussian_frechet(a.mean, a.cov, b.mean, b.cov)


def fid_error(features: np.ndarray, reference: Moments, rng: np.random.Generator) -> float:
    """The standard error of the FID of features (N, D) by the bootstrap.

    The trace of the root of a product is here the sum of the roots of its eigenvalues, which takes a third of the time
    of `gaussian_frechet` and has five digits.
    """
    root, trace = symmetric_root(reference.cov), np.trace(reference.cov)

    def of_resample(index: np.ndarray) -> float:
        _, mean, cov = moments(features, np.bincount(index, minlength=len(features)))
        cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov @ root), 0)).sum()
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
