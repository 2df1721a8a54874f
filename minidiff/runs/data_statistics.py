"""The Inception statistics of a run's data: measured once, and kept in its folder in the usual form, `mu` and `sigma`.

Beside these a file has the `features` of some images, for the KID, how many were measured, the `count`, and a `key` by
which it is recognised: a checksum of the weights and of the data.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from minidiff import files
from minidiff.datasets import Samples, image_stream, numpy_files
from minidiff.evaluation import inception_metrics
from minidiff.evaluation.inception import Inception
from minidiff.evaluation.inception_metrics import KEPT, Moments, Reference

TRAINING, HELD_OUT = "inception_training.npz", "inception_held_out.npz"
USUAL, OURS = ("mu", "sigma"), ("count", "features", "key")


class Interrupted(KeyboardInterrupt):
    """Measuring was interrupted; what was measured is kept."""


def of_data(
    path: Path,
    net: Inception,
    samples: Samples,
    count: int,
    name: str,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Reference:
    """The statistics of `count` of the samples, drawn at random, that are kept in the file `path`, or measured now.

    name: of a sample, in errors. report(done, count) is called as images are measured. Raises `Interrupted` on
    Ctrl-C; what was measured is kept, and continued from the next time.
    """
    key = np.frombuffer(hashlib.sha256(f"{net.checksum} {samples.checksum}".encode()).digest(), np.uint8)
    known = _kept(path, net.width, key)
    done = known.moments.images if known else 0
    if known and done >= count:
        return known
    order = np.random.default_rng(0).permutation(len(samples))[done:count]
    block: list[np.ndarray] = []
    try:
        for features in inception_metrics.features_of(
            net, image_stream.of_samples(samples, order, name).blocks
        ):
            block.append(features)
            report(done := done + len(features), count)
            if sum(map(len, block)) >= image_stream.BLOCK:
                known, block = _extended(known, block), []
    except KeyboardInterrupt:
        known = _extended(known, block)
        if known is None:
            raise
        _keep(path, known, key)
        raise Interrupted(
            f"{known.moments.images} of {count} {name}s were measured, and are kept in {path}"
        ) from None
    known = _extended(known, block)
    assert known is not None  # a data set has at least one sample
    _keep(path, known, key)
    return known


def read(path: Path, width: int) -> Reference:
    """The statistics in the file `path`, ours or others': `mu` (width,) and `sigma` (width, width).

    Raises FileNotFoundError where there is none, and ValueError, in one line, for anything else.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; expected statistics, an .npz with mu and sigma")
    arrays = numpy_files.read_arrays(path, USUAL, OURS)
    mean, cov = (arrays[name].astype(np.float64) for name in USUAL)
    if mean.shape != (width,) or cov.shape != (width, width):
        raise ValueError(
            f"{path}: expected mu ({width},) and sigma ({width}, {width}), got {mean.shape} and {cov.shape}"
        )
    if not (np.isfinite(mean).all() and np.allclose(cov, cov.T, rtol=1e-6, atol=1e-6 * np.abs(cov).max())):
        raise ValueError(f"{path}: expected a finite mu and a symmetric sigma")
    features, count = arrays.get("features", np.zeros((0, width), np.float32)), arrays.get("count", [0])
    if features.shape[1:] != (width,):
        raise ValueError(f"{path}: expected features (n, {width}), got {features.shape}")
    return Reference(Moments(int(count[0]), mean, (cov + cov.T) / 2), features)


def _kept(path: Path, width: int, key: np.ndarray) -> Reference | None:
    """What the file has, if it is of these weights and this data."""
    try:
        if np.array_equal(numpy_files.read_arrays(path, OURS)["key"], key):
            return read(path, width)
    except (OSError, ValueError):  # none, a damaged one, or one of another version
        pass
    return None


def _keep(path: Path, known: Reference, key: np.ndarray) -> None:
    arrays = {"mu": known.moments.mean, "sigma": known.moments.cov, "features": known.features}
    with files.replacing(path) as file:
        files.write_npz(file, arrays | {"count": np.array([known.moments.images]), "key": key})


def _extended(known: Reference | None, block: list[np.ndarray]) -> Reference | None:
    if not block:
        return known
    features = np.concatenate(block)
    moments = inception_metrics.moments(features)
    if known is None:
        return Reference(moments, features[:KEPT])
    kept = np.concatenate([known.features, features[: KEPT - len(known.features)]])
    return Reference(known.moments.merged(moments), kept)
