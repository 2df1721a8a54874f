"""How good a run's samples are: a report of figures, each beside what real data would get."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from minidiff import classifier, generation, metrics
from minidiff.datasets import Dataset
from minidiff.denoiser import Denoiser

Report = dict[str, object]
Distance = Callable[[np.ndarray, np.ndarray], float]
EVALUATIONS = (5, 10, 20, 50, 100)  # of the network, for each sample; and T of them


def evaluate(samples: np.ndarray, data: Dataset, seed: int = 0) -> Report:
    """Compare samples (N, …), in the network's range, with data that was held out from training.

    A figure called `…_floor` is that of as many real training samples in the place of the generated ones.
    Points are measured in the data's own units, images in the network's range or in a classifier's features.
    """
    if data.held_out is None:
        raise ValueError(f"{data.name} has nothing held out to compare with")
    rng = np.random.default_rng(seed)
    real = data.x[rng.permutation(len(data.x))[: len(samples)]]
    if samples.ndim == 2:
        return _points(samples, real, data)
    report = _images(samples, real, data)
    return report if data.held_out_labels is None else report | _classes(samples, real, data, seed)


def _points(samples: np.ndarray, real: np.ndarray, data: Dataset) -> Report:
    samples, real, held_out = (data.units.to_units(x) for x in (samples, real, data.held_out))
    on_line = samples.shape[1] == 1
    transport = {"wasserstein1": metrics.wasserstein1} if on_line else {"sliced_wasserstein": _sliced}
    distances = {**transport, "energy_distance": metrics.energy_distance}
    return _beside_floor(distances, samples, real, held_out)


def _images(samples: np.ndarray, real: np.ndarray, data: Dataset) -> Report:
    nearest, of_held_out = (
        metrics.nearest_distances(x, data.x) for x in (samples, data.held_out[: len(samples)])
    )
    return {
        **_beside_floor({"sliced_wasserstein": _sliced}, samples, real, data.held_out),
        "nearest_training_image": float(np.median(nearest)),
        "nearest_training_image_of_held_out": float(np.median(of_held_out)),
    }


def _classes(samples: np.ndarray, real: np.ndarray, data: Dataset, seed: int) -> Report:
    judge = classifier.fit(data.x, data.labels, data.classes, seed)
    probabilities, of_held_out = judge.probabilities(samples), judge.probabilities(data.held_out)
    shares = np.bincount(probabilities.argmax(axis=1), minlength=data.classes) / len(samples)
    frechet = {"frechet_distance": metrics.frechet_distance}
    return {
        "classifier_accuracy": float((of_held_out.argmax(axis=1) == data.held_out_labels).mean()),
        "confidence": float(probabilities.max(axis=1).mean()),
        "confidence_of_held_out": float(of_held_out.max(axis=1).mean()),
        "class_shares": [round(float(share), 4) for share in shares],
        **_beside_floor(frechet, *(judge.features(x) for x in (samples, real, data.held_out))),
    }


def _sliced(a: np.ndarray, b: np.ndarray) -> float:
    return metrics.sliced_wasserstein(a, b, np.random.default_rng(0))


def _beside_floor(distances: dict, samples: np.ndarray, real: np.ndarray, held_out: np.ndarray) -> Report:
    """Each distance from the samples to the held-out data, and from real data to it."""
    report = {}
    for name, distance in distances.items():
        report[name] = float(distance(samples, held_out))
        report[f"{name}_floor"] = float(distance(real, held_out))
    return report


class Comparison(NamedTuple):
    """A distance to held-out data, by sampler and number of evaluations, and that of real data."""

    distance: str
    samplers: dict[str, dict[int, float]]
    floor: float


def compare(
    denoiser: Denoiser,
    data: Dataset,
    samplers: Sequence[str],
    count: int,
    seed: int = 0,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Comparison:
    """What each sampler, as its defaults have it, makes of 5, 10, 20, 50, 100 and T evaluations of the network.

    Each begins from the same `count` draws of noise. Where data has labels the distance is that of Fréchet between the
    features of a classifier, else that of Wasserstein. report(done, total) is called after each measurement.
    """
    if data.held_out is None:
        raise ValueError(f"{data.name} has nothing held out to compare with")
    name, distance = _one_distance(data, seed)
    T = denoiser.schedule.T
    budgets = [*(budget for budget in EVALUATIONS if budget < T), T]
    found: dict[str, dict[int, float]] = {sampler: {} for sampler in samplers}
    for i, sampler in enumerate(samplers):
        for j, budget in enumerate(budgets, 1):
            recipe = generation.within(budget, denoiser.schedule, sampler)
            x = generation.generate(denoiser, data.x.shape[1:], count, np.random.default_rng(seed), recipe)
            found[sampler][budget] = distance(x, data.held_out)
            report(i * len(budgets) + j, len(samplers) * len(budgets))
    real = data.x[np.random.default_rng(seed).permutation(len(data.x))[:count]]
    return Comparison(name, found, distance(real, data.held_out))


def _one_distance(data: Dataset, seed: int) -> tuple[str, Distance]:
    """The name of the distance that tells most of a kind of data, and the distance itself."""
    if data.x.ndim == 2:
        along = metrics.wasserstein1 if data.x.shape[1] == 1 else _sliced
        name = "wasserstein1" if data.x.shape[1] == 1 else "sliced_wasserstein"
        return name, lambda a, b: float(along(data.units.to_units(a), data.units.to_units(b)))
    if data.held_out_labels is None:
        return "sliced_wasserstein", _sliced
    judge = classifier.fit(data.x, data.labels, data.classes, seed)
    return "frechet_distance", lambda a, b: metrics.frechet_distance(judge.features(a), judge.features(b))


def comparison_table(comparison: Comparison) -> str:
    """A line a sampler, a column a number of evaluations, and the figure of real data."""
    budgets = list(next(iter(comparison.samplers.values())))
    lines = ["  evaluations  " + "".join(f"{budget:>9}" for budget in budgets)]
    for sampler, found in comparison.samplers.items():
        lines.append(f"  {sampler:13}" + "".join(f"{value:9.4f}" for value in found.values()))
    return "\n".join([*lines, f"  real data    {comparison.floor:9.4f}"])


def table(report: Report) -> str:
    """The report for a person: a line a figure, with its floor or the figure of held-out data beside it."""
    lines = []
    for name, value in report.items():
        if name.endswith(("_floor", "_of_held_out")):
            continue
        if isinstance(value, list):
            lines.append(f"{_words(name)}  " + " ".join(f"{100 * share:.1f}" for share in value) + "  %")
            continue
        real = report.get(f"{name}_floor", report.get(f"{name}_of_held_out"))
        lines.append(f"{_words(name)}  {value:<9.4f}" + ("" if real is None else f"  real data {real:.4f}"))
    return "\n".join(lines)


def _words(name: str) -> str:
    return f"  {name.replace('_', ' '):24}"
