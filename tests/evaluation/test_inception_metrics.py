"""FID, KID and Inception score beside plain sums; moments of blocks beside those of all images at once."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidiff.evaluation import inception_metrics as metrics
from minidiff.evaluation.inception import CLASSES

with np.load(Path(__file__).parent / "inception" / "expected.npz") as archive:
    A, B, DISTANCE = archive["a"], archive["b"], float(archive["distance"])

WIDTH = 6
WEIGHTS = np.random.default_rng(9).standard_normal((WIDTH, CLASSES)).astype(np.float32)
NET = SimpleNamespace(width=WIDTH, logits=lambda features: features @ WEIGHTS)


def features(count, seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal((count, WIDTH)) @ np.random.default_rng(7).standard_normal((WIDTH, WIDTH))
    return (mixed + shift).astype(np.float32)


def accumulated(x, batch=7):
    found = metrics.Accumulator(NET, len(x))
    for start in range(0, len(x), batch):
        found.add(x[start : start + batch])
    return found.finished()


REFERENCE = metrics.Reference(metrics.moments(features(300, 1)), features(300, 1))


def test_the_frechet_distance_is_that_of_scipy():
    assert metrics.frechet(metrics.moments(A), metrics.moments(B)) == pytest.approx(DISTANCE, rel=1e-9)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(0, 99))
def test_merged_moments_are_those_of_all_images(sizes, seed):
    x = features(sum(sizes), seed, shift=100.0)
    found, start = metrics.Moments(0, np.zeros(WIDTH), np.zeros((WIDTH, WIDTH))), 0
    for size in sizes:
        found = found.merged(metrics.moments(x[start : start + size]))
        start += size
    assert found.images == len(x)
    np.testing.assert_allclose(found.mean, x.mean(axis=0, dtype=np.float64), rtol=1e-12)
    expected = np.cov(x.astype(np.float64).T) if len(x) > 1 else 0
    np.testing.assert_allclose(found.cov, np.broadcast_to(expected, found.cov.shape), atol=1e-9)


@given(st.integers(2, 30), st.integers(0, 99))
def test_counted_moments_are_those_of_repeated_images(count, seed):
    x, counts = features(count, seed), np.random.default_rng(seed).integers(0, 4, count)
    counts[0] += 2
    images, mean, cov = metrics.moments(x, counts)
    repeated = metrics.moments(np.repeat(x, counts, axis=0))
    assert images == repeated.images
    np.testing.assert_allclose(mean, repeated.mean, atol=1e-9)
    np.testing.assert_allclose(cov, repeated.cov, atol=1e-9)


def test_the_kid_is_a_plain_double_sum():
    a, b = A[:40].astype(np.float64), B[:30].astype(np.float64)
    kernel = np.array(
        [[(x @ y / 16 + 1) ** 3 for y in np.concatenate([a, b])] for x in np.concatenate([a, b])]
    )
    estimates = []
    for i in range(10):
        of_a, of_b = range(i, 40, 10), range(40 + i, 70, 10)
        of_first = np.mean([kernel[j, k] for j in of_a for k in of_a if j != k])
        of_second = np.mean([kernel[j, k] for j in of_b for k in of_b if j != k])
        between = np.mean([kernel[j, k] for j in of_a for k in of_b])
        estimates.append(of_first + of_second - 2 * between)
    np.testing.assert_allclose(metrics.kid(a, b), estimates, rtol=1e-9)


@pytest.mark.parametrize("count", [20, 1037])
def test_the_inception_score_is_that_of_its_splits_by_definition(count):
    x = features(count) / 4
    logits = (x @ WEIGHTS).astype(np.float64)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    scores = []
    for split in range(10):
        some = p[split::10]
        scores.append(np.exp((some * np.log(some / some.mean(axis=0))).sum(axis=1).mean()))
    mean, std = accumulated(x).inception_score()
    assert (mean, std) == pytest.approx((np.mean(scores), np.std(scores)), rel=1e-6)


def test_figures_are_whole_half_and_extrapolated_and_do_not_depend_on_the_batches():
    x = features(1111, 3, shift=0.5)
    report = metrics.figures(accumulated(x), REFERENCE, np.random.default_rng(0))
    whole, halves = (
        [metrics.frechet(metrics.moments(some), REFERENCE.moments) for some in parts]
        for parts in ([x], [x[::2], x[1::2]])
    )
    assert report["fid"] == pytest.approx(whole[0], rel=1e-9)
    assert report["fid_of_half_as_many"] == pytest.approx(np.mean(halves), rel=1e-9)
    assert report["fid_extrapolated"] == pytest.approx(2 * whole[0] - np.mean(halves), rel=1e-9)
    assert report["kid_times_1000"] == pytest.approx(1000 * metrics.kid(x, REFERENCE.features).mean())
    other = metrics.figures(accumulated(x, batch=400), REFERENCE)
    assert other["fid"] == pytest.approx(report["fid"], rel=1e-9)
    assert "fid_error" not in other


def test_errors_are_as_large_as_figures_scatter_between_samples():
    samples = [accumulated(features(400, seed, shift=1.0)) for seed in range(10, 40)]
    reports = [metrics.figures(some, REFERENCE, np.random.default_rng(0)) for some in samples]
    for name in ("fid", "kid_times_1000"):
        scatter = np.std([report[name] for report in reports], ddof=1)
        error = np.median([report[f"{name}_error"] for report in reports])
        assert 0.5 < error / scatter < 2, name


def test_of_many_images_every_second_or_third_is_kept(monkeypatch):
    monkeypatch.setattr(metrics, "KEPT", 100)
    x = features(250)
    np.testing.assert_array_equal(accumulated(x).features, x[::3])


def test_without_features_of_the_reference_there_is_no_kid():
    bare = metrics.Reference(REFERENCE.moments, np.zeros((0, WIDTH), np.float32))
    report = metrics.figures(accumulated(features(50)), bare, np.random.default_rng(0))
    assert report["kid_times_1000"] is None and report["fid"] > 0


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (features(1), "at least 20 images to measure, got 1"),
        (np.repeat(features(1), 30, axis=0), "expected images that vary, got 30 that are all the same"),
    ],
)
def test_too_few_and_constant_images_are_refused(x, message):
    with pytest.raises(ValueError, match=message):
        metrics.figures(accumulated(x), REFERENCE)
