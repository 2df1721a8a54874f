"""How good a run is: metrics of its samples, each beside that of real data, and bits/dim of held-out data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from minidiff import memory
from minidiff.datasets import Dataset, Samples
from minidiff.datasets.samples import blocks
from minidiff.diffusion import generation, likelihood, noising
from minidiff.diffusion.denoiser import Denoiser
from minidiff.diffusion.samplers.timesteps import quadratic
from minidiff.evaluation import classifier, metrics

Report = dict[str, float | list[float] | None]  # None: what cannot be measured
Distance = Callable[[np.ndarray, np.ndarray], float]
NFES = (5, 10, 20, 50, 100)  # numbers of function evaluations at which samplers are compared, beside T
BOOTSTRAP_RESAMPLES = 20  # a standard error from so many is itself accurate to about a sixth
STRATA = 64  # of times, in each of which L_{t−1} is evaluated at one t


def labels_like(data: Dataset, count: int, seed: int = 0) -> np.ndarray:
    """(count,) classes to request: the training labels in a random order, repeated where there are too few.

    Raises ValueError for data without labels.
    """
    if data.labels is None:
        raise ValueError(f"expected data with labels, but {data.name} has none")
    memory.require(count, 3 * data.labels.itemsize, "labels")
    return np.resize(data.labels[np.random.default_rng(seed).permutation(len(data.labels))], count)


def evaluate(samples: np.ndarray, data: Dataset, seed: int = 0, labels: np.ndarray | None = None) -> Report:
    """Compare samples (N, …), in the network's range, with data that was held out from training.

    labels: the requested class of each sample (N,); they are compared with data of these classes only. None: with all.

    `…_floor` is the same distance with as many real training samples in place of the generated ones. Points are
    measured in the data's own units, images in the network's range or in a classifier's features. Raises ValueError
    where nothing is held out.
    """
    x, held_out, held_out_labels = reference(data, labels)
    real = x[np.random.default_rng(seed).permutation(len(x))[: len(samples)]]
    if samples.ndim == 2:
        return _point_metrics(samples, real, held_out, data)
    report = _image_metrics(samples, real, held_out, x)
    if data.labels is None or held_out_labels is None:
        return report
    net = classifier.fit(data.x, data.labels, data.classes, seed)
    return report | _class_metrics(net, samples, labels, real, held_out, held_out_labels)


def reference(data: Dataset, labels: np.ndarray | None) -> tuple[Samples, Samples, np.ndarray | None]:
    """Training samples, held-out samples and the labels of the latter: of the classes in `labels`, or of all.

    Raises ValueError where nothing is held out: before any sample is drawn, if it is called then.
    """
    if data.held_out is None:
        raise ValueError(f"{data.name} is too small: nothing of it is held out to compare with")
    if labels is None or data.labels is None or data.held_out_labels is None:
        return data.x, data.held_out, data.held_out_labels
    x, chosen = data.x.take(np.isin(data.labels, labels)), np.isin(data.held_out_labels, labels)
    if not (len(x) and chosen.any()):
        raise ValueError(f"{data.name} has nothing of class {np.unique(labels)} held out to compare with")
    return x, data.held_out.take(chosen), data.held_out_labels[chosen]


def compression(
    denoiser: Denoiser, data: Dataset, variance: str, seed: int = 0, labels: np.ndarray | None = None
) -> tuple[Report, np.ndarray, np.ndarray]:
    """The code length of held-out data under the model: bits/dim by term, and its rate–distortion curve.

    The report: the bound with its standard error, and its terms L_T (prior), Σ L_{t−1} (steps) and L_0 (data). Of
    images L_0 is a probability where their pixels have levels in their own units, else a density in [−1, 1]; of points
    it is a density in their own units, so that bits may be negative. The curve (EQUATIONS.md S8), from noise to
    data: the rate in bits/dim, and the root mean squared error in the data's own units.

    labels: classes; only held-out samples of these are encoded, each conditioned on its own class. None: all samples,
    unconditionally. It takes at most 256 images, fewer where they are large, or 2000 points. variance: as in
    `likelihood.bound`. With a single step, T = 1, there is no bound: the report's figures are None and the curve is
    empty. Raises ValueError where nothing is held out.
    """
    _, held_out, held_out_labels = reference(data, labels)
    if denoiser.schedule.T < 2:
        terms = (f"bits_per_dim_{name}" for name in likelihood.Bound._fields)
        return dict.fromkeys(("bits_per_dim", "bits_per_dim_error", *terms)), np.zeros(0), np.zeros(0)
    rng = np.random.default_rng(seed)
    size = held_out[0].size
    most = min(256, max(32, 65_536 // size), max(2, generation.MOST_IN_BATCH // size))
    most = 2000 if held_out.ndim == 2 else most
    chosen = rng.permutation(len(held_out))[:most]
    x0 = held_out[chosen]
    if labels is not None and held_out_labels is not None:
        denoiser = replace(denoiser, label=held_out_labels[chosen])
    scale = np.broadcast_to(data.units.scale, x0.shape[1:])
    costs, bound = _bound(denoiser, x0, rng, variance, levels(data))
    if x0.ndim == 2:
        bound = bound._replace(data=bound.data + np.log(scale).sum())  # the density in the data's own units
    bits = likelihood.Bound(*(likelihood.bits_per_dim(nats, x0) for nats in bound))
    mean, error = likelihood.mean_and_error(bits.total)
    report: Report = {"bits_per_dim": mean, "bits_per_dim_error": None if np.isnan(error) else error}
    report |= {f"bits_per_dim_{name}": float(term.mean()) for name, term in bits._asdict().items()}
    rate, distortion = likelihood.rate_distortion(denoiser.schedule, x0, costs)
    rmse: np.ndarray = np.sqrt(distortion) * np.sqrt((scale**2).mean())
    return report, likelihood.bits_per_dim(rate, x0), rmse


def _bound(
    denoiser: Denoiser, x0: np.ndarray, rng: np.random.Generator, variance: str, levels: int | None
) -> tuple[likelihood.Costs, likelihood.Bound]:
    """The costs of the chain in `STRATA` strata, dense near 0, and the bound in nats that they add up to."""
    schedule = denoiser.schedule
    times = quadratic(schedule.T, min(STRATA, schedule.T))
    costs = likelihood.chain(denoiser, x0, rng, variance, (*(t for t in times if t > 1), 1))
    x_1 = noising.diffuse(schedule, x0, 1, rng.standard_normal(x0.shape, x0.dtype))
    data_term = likelihood.data_term(denoiser, x0, x_1, variance, levels)
    steps = (costs.width[:, None] * costs.step).sum(axis=0)
    return costs, likelihood.Bound(likelihood.prior_term(schedule, x0), steps, data_term)


def levels(data: Dataset) -> int | None:
    """The number of levels of a pixel, if all held-out pixels are whole numbers in the data's own units; else None."""
    scale = data.units.scale
    if data.held_out is None or data.held_out.ndim != 4 or isinstance(scale, tuple) or (2 * scale) % 1:
        return None
    images = data.held_out
    pixels = (data.units.to_units(images[block]) for block in blocks(images.shape))
    return int(2 * scale) + 1 if all(np.array_equal(some, np.round(some)) for some in pixels) else None


def _point_metrics(samples: np.ndarray, real: np.ndarray, held_out: Samples, data: Dataset) -> Report:
    samples, real, of_held_out = (data.units.to_units(x) for x in (samples, real, held_out))
    name, wasserstein = _wasserstein(samples)
    distances = {name: wasserstein, "energy_distance": metrics.energy_distance}
    return _with_floors(distances, samples, real, of_held_out)


def _image_metrics(samples: np.ndarray, real: np.ndarray, held_out: Samples, training: Samples) -> Report:
    nearest = metrics.nearest_distances(samples, training)
    nearest_of_held_out = metrics.nearest_distances(held_out[: len(samples)], training)
    return {
        **_with_floors({"sliced_wasserstein": _sliced}, samples, real, np.asarray(held_out)),
        "nearest_training_image": float(np.median(nearest)),
        "nearest_training_image_of_held_out": float(np.median(nearest_of_held_out)),
    }


def _class_metrics(
    net: classifier.Classifier,
    samples: np.ndarray,
    labels: np.ndarray | None,
    real: np.ndarray,
    held_out: Samples,
    held_out_labels: np.ndarray,
) -> Report:
    probabilities, of_held_out = net.probabilities(samples), net.probabilities(held_out)
    predicted = probabilities.argmax(axis=1)
    fractions = np.bincount(predicted, minlength=net.classes) / len(samples)
    requested = {} if labels is None else {"classified_as_requested": float((predicted == labels).mean())}
    frechet = {"frechet_distance": metrics.frechet_distance}
    return {
        "classifier_accuracy": float((of_held_out.argmax(axis=1) == held_out_labels).mean()),
        **requested,
        "confidence": float(probabilities.max(axis=1).mean()),
        "confidence_of_held_out": float(of_held_out.max(axis=1).mean()),
        "class_fractions": [round(float(fraction), 4) for fraction in fractions],
        **_with_floors(frechet, *(net.features(x) for x in (samples, real, held_out))),
    }


def _wasserstein(points: np.ndarray | Samples) -> tuple[str, Distance]:
    """The name and the function of the Wasserstein distance between points (N, D)."""
    return ("wasserstein1", metrics.wasserstein1) if points.shape[1] == 1 else ("sliced_wasserstein", _sliced)


def _sliced(a: np.ndarray, b: np.ndarray) -> float:
    return metrics.sliced_wasserstein(a, b, np.random.default_rng(0))


def _with_floors(
    distances: Mapping[str, Distance], samples: np.ndarray, real: np.ndarray, held_out: np.ndarray
) -> Report:
    """Each distance of the samples to the held-out data, and its floor, that of real samples."""
    report: Report = {}
    for name, distance in distances.items():
        report[name] = _measured(distance, samples, held_out)
        report[f"{name}_floor"] = _measured(distance, real, held_out)
    return report


def _measured(distance: Distance, a: np.ndarray, b: np.ndarray) -> float | None:
    try:
        return float(distance(a, b))
    except metrics.TooFew:
        return None


class Comparison(NamedTuple):
    """A distance to held-out data by sampler and NFE, its standard error, and the floor, that of real data.

    The error is that of drawing so many samples, by the bootstrap; the held-out data is the same for all.
    """

    distance: str
    samplers: dict[str, dict[int, float]]
    errors: dict[str, dict[int, float]]
    floor: float


def compare(
    denoiser: Denoiser,
    data: Dataset,
    names: Sequence[str],
    count: int,
    seed: int = 0,
    labels: np.ndarray | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Comparison:
    """Compare samplers, each with its defaults, at 5, 10, 20, 50, 100 and T evaluations of the network (NFE).

    Each starts from the same `count` draws of noise. The distance is the Fréchet distance of a classifier's features
    where data has labels, else Wasserstein. labels: the classes that `denoiser` is conditioned on, as in `evaluate`.
    report(done, total) is called after each measurement. Raises ValueError where nothing is held out, and
    metrics.TooFew, both before anything is sampled.
    """
    training, held_out, _ = reference(data, labels)
    name, features, distance = _main_distance(data, seed)
    real, rng = features(held_out), np.random.default_rng(seed)
    floor = distance(features(training[rng.permutation(len(training))[:count]]), real)
    T = denoiser.schedule.T
    nfes = [*(nfe for nfe in NFES if nfe < T), T]
    distances: dict[str, dict[int, float]] = {sampler: {} for sampler in names}
    errors: dict[str, dict[int, float]] = {sampler: {} for sampler in names}
    for i, sampler in enumerate(names):
        for j, nfe in enumerate(nfes, 1):
            recipe = generation.for_nfe(nfe, denoiser.schedule, sampler)
            x = generation.generate(denoiser, data.x.shape[1:], count, np.random.default_rng(seed), recipe)
            x = features(x)
            distances[sampler][nfe] = distance(x, real)
            resampled = [distance(x[rng.integers(0, count, count)], real) for _ in range(BOOTSTRAP_RESAMPLES)]
            errors[sampler][nfe] = float(np.std(resampled, ddof=1))
            report(i * len(nfes) + j, len(names) * len(nfes))
    return Comparison(name, distances, errors, floor)


def _main_distance(
    data: Dataset, seed: int
) -> tuple[str, Callable[[np.ndarray | Samples], np.ndarray], Distance]:
    """The most informative distance for a kind of data: its name, the map from samples to its arguments, and itself."""
    if data.x.ndim == 2:
        name, wasserstein = _wasserstein(data.x)
        return name, data.units.to_units, wasserstein
    if data.labels is None or data.held_out_labels is None:
        return "sliced_wasserstein", np.asarray, _sliced
    net = classifier.fit(data.x, data.labels, data.classes, seed)
    return "frechet_distance", net.features, metrics.frechet_distance
