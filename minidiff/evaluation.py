"""How good a run's samples are: a report of figures, each beside what real data would get."""

from __future__ import annotations

import numpy as np

from minidiff import classifier, metrics
from minidiff.datasets import Dataset

Report = dict[str, object]


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
