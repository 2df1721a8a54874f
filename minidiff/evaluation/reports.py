"""How good a run is: figures of its samples, each beside what real data would get, and bits/dim of held-out data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from minidiff.datasets import Dataset
from minidiff.diffusion import generation, likelihood, noising
from minidiff.diffusion.denoiser import Denoiser
from minidiff.diffusion.samplers.timesteps import quadratic
from minidiff.evaluation import classifier, metrics

Report = dict[str, object]
Distance = Callable[[np.ndarray, np.ndarray], float]
EVALUATIONS = (5, 10, 20, 50, 100)  # of the network, for each sample; and T of them
BOOTSTRAPS = 20  # an error from so many is itself good to a sixth


def labels_like(data: Dataset, count: int, seed: int = 0) -> np.ndarray:
    """(count,) classes to ask for: those of training samples, in a random order, and from the start again."""
    return np.resize(data.labels[np.random.default_rng(seed).permutation(len(data.labels))], count)


def evaluate(samples: np.ndarray, data: Dataset, seed: int = 0, asked: np.ndarray | None = None) -> Report:
    """Compare samples (N, …), in the network's range, with data that was held out from training.

    asked: the classes (N,) that were asked for, which are then all that is compared with; None: any.

    A figure called `…_floor` is that of as many real training samples in the place of the generated ones.
    Points are measured in the data's own units, images in the network's range or in a classifier's features.
    Raises ValueError where nothing is held out.
    """
    x, held_out, held_out_labels = _to_compare_with(data, asked)
    real = x[np.random.default_rng(seed).permutation(len(x))[: len(samples)]]
    if samples.ndim == 2:
        return _points(samples, real, held_out, data)
    report = _images(samples, real, held_out, x)
    if held_out_labels is None:
        return report
    judge = classifier.fit(data.x, data.labels, data.classes, seed)
    return report | _classes(judge, samples, asked, real, held_out, held_out_labels)


def _to_compare_with(
    data: Dataset, asked: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Training samples, those held out and the labels of these: of the classes that were asked for, or all."""
    if data.held_out is None:
        raise ValueError(f"{data.name} has nothing held out to compare with")
    if asked is None or data.held_out_labels is None:
        return data.x, data.held_out, data.held_out_labels
    x, chosen = data.x[np.isin(data.labels, asked)], np.isin(data.held_out_labels, asked)
    if not (len(x) and chosen.any()):
        raise ValueError(f"{data.name} has nothing of class {np.unique(asked)} held out to compare with")
    return x, data.held_out[chosen], data.held_out_labels[chosen]


STRATA = 64  # of times, in each of which L_{t−1} is taken at one t


def compression(
    denoiser: Denoiser, data: Dataset, variance: str, seed: int = 0, asked: np.ndarray | None = None
) -> tuple[Report, np.ndarray, np.ndarray]:
    """What the model pays to describe held-out data: bits/dim by term, and the rate–distortion curve (S8).

    The report: the bound with its standard error, and its parts L_T (prior), Σ L_{t−1} (steps) and L_0 (data). Of
    images L_0 is a probability where their pixels have levels in their own units, else a density in [−1, 1]; of points
    it is a density in their own units, so that bits may be negative. The curve: the rate in bits/dim and, in the data's
    own units, the root of the mean squared error, from noise to data.

    asked: classes, of which alone samples are described, and which the network is told, each sample's own; None: of
    all, untold. It takes 256 images, of large ones fewer, or 2000 points. variance: as of `likelihood.bound`. Raises
    ValueError where nothing is held out.
    """
    _, held_out, labels = _to_compare_with(data, asked)
    rng = np.random.default_rng(seed)
    pixels = held_out[0].size
    most = 2000 if held_out.ndim == 2 else min(256, max(32, 65_536 // pixels))
    chosen = rng.permutation(len(held_out))[:most]
    x0 = held_out[chosen]
    if asked is not None and labels is not None:
        denoiser = replace(denoiser, label=labels[chosen])
    T = denoiser.schedule.T
    spaced = quadratic(T, min(STRATA, T))
    strata = (*(t for t in spaced if t > 1), 1)
    costs = likelihood.chain(denoiser, x0, rng, variance, strata)
    x_1 = noising.diffuse(denoiser.schedule, x0, 1, rng.standard_normal(x0.shape, x0.dtype))
    scale = np.broadcast_to(data.units.scale, x0.shape[1:])
    of_data = likelihood.data_term(denoiser, x0, x_1, variance, levels(data))
    parts = {
        "prior": likelihood.prior_term(denoiser.schedule, x0),
        "steps": (costs.width[:, None] * costs.step).sum(axis=0),
        "data": of_data if x0.ndim == 4 else of_data + np.log(scale).sum(),
    }
    bits = {name: likelihood.bits_per_dim(nats, x0) for name, nats in parts.items()}
    mean, error = likelihood.mean_and_error(sum(bits.values()))
    report = {"bits_per_dim": mean, "bits_per_dim_error": error}
    report |= {f"bits_per_dim_{name}": float(part.mean()) for name, part in bits.items()}
    rate, distortion = likelihood.rate_distortion(denoiser.schedule, x0, costs)
    rmse = np.sqrt(distortion) * np.sqrt((scale**2).mean())
    return report, likelihood.bits_per_dim(rate, x0), rmse


def levels(data: Dataset) -> int | None:
    """How many levels a pixel has, where those of the held-out images are whole numbers in their units; else None."""
    if data.held_out.ndim != 4 or np.ndim(data.units.scale) or (2 * data.units.scale) % 1:
        return None
    pixels = data.units.to_units(data.held_out)
    return int(2 * data.units.scale) + 1 if np.array_equal(pixels, np.round(pixels)) else None


def _points(samples: np.ndarray, real: np.ndarray, held_out: np.ndarray, data: Dataset) -> Report:
    samples, real, held_out = (data.units.to_units(x) for x in (samples, real, held_out))
    on_line = samples.shape[1] == 1
    transport = {"wasserstein1": metrics.wasserstein1} if on_line else {"sliced_wasserstein": _sliced}
    distances = {**transport, "energy_distance": metrics.energy_distance}
    return _beside_floor(distances, samples, real, held_out)


def _images(samples: np.ndarray, real: np.ndarray, held_out: np.ndarray, training: np.ndarray) -> Report:
    nearest, of_held_out = (
        metrics.nearest_distances(x, training) for x in (samples, held_out[: len(samples)])
    )
    return {
        **_beside_floor({"sliced_wasserstein": _sliced}, samples, real, held_out),
        "nearest_training_image": float(np.median(nearest)),
        "nearest_training_image_of_held_out": float(np.median(of_held_out)),
    }


def _classes(
    judge: classifier.Classifier,
    samples: np.ndarray,
    asked: np.ndarray | None,
    real: np.ndarray,
    held_out: np.ndarray,
    labels: np.ndarray,
) -> Report:
    probabilities, of_held_out = judge.probabilities(samples), judge.probabilities(held_out)
    seen = probabilities.argmax(axis=1)
    shares = np.bincount(seen, minlength=judge.classes) / len(samples)
    frechet = {"frechet_distance": metrics.frechet_distance}
    as_asked = {} if asked is None else {"seen_as_asked": float((seen == asked).mean())}
    return {
        "classifier_accuracy": float((of_held_out.argmax(axis=1) == labels).mean()),
        **as_asked,
        "confidence": float(probabilities.max(axis=1).mean()),
        "confidence_of_held_out": float(of_held_out.max(axis=1).mean()),
        "class_shares": [round(float(share), 4) for share in shares],
        **_beside_floor(frechet, *(judge.features(x) for x in (samples, real, held_out))),
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
    """A distance to held-out data by sampler and number of evaluations, its standard error, and that of real data.

    The error is that of drawing so many samples, by the bootstrap; the held-out data is the same for all.
    """

    distance: str
    samplers: dict[str, dict[int, float]]
    errors: dict[str, dict[int, float]]
    floor: float


def compare(
    denoiser: Denoiser,
    data: Dataset,
    samplers: Sequence[str],
    count: int,
    seed: int = 0,
    asked: np.ndarray | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Comparison:
    """What each sampler, as its defaults have it, makes of 5, 10, 20, 50, 100 and T evaluations of the network.

    Each begins from the same `count` draws of noise. Where data has labels the distance is that of Fréchet between the
    features of a classifier, else that of Wasserstein. asked: the classes that the denoiser draws, as in `evaluate`.
    report(done, total) is called after each measurement. Raises ValueError where nothing is held out.
    """
    x, held_out, _ = _to_compare_with(data, asked)
    name, seen, distance = _one_distance(data, seed)
    held_out, rng = seen(held_out), np.random.default_rng(seed)
    real = seen(x[rng.permutation(len(x))[:count]])
    T = denoiser.schedule.T
    budgets = [*(budget for budget in EVALUATIONS if budget < T), T]
    found: dict[str, dict[int, float]] = {sampler: {} for sampler in samplers}
    errors: dict[str, dict[int, float]] = {sampler: {} for sampler in samplers}
    for i, sampler in enumerate(samplers):
        for j, budget in enumerate(budgets, 1):
            recipe = generation.for_nfe(budget, denoiser.schedule, sampler)
            x = generation.generate(denoiser, data.x.shape[1:], count, np.random.default_rng(seed), recipe)
            x = seen(x)
            found[sampler][budget] = distance(x, held_out)
            again = [distance(x[rng.integers(0, count, count)], held_out) for _ in range(BOOTSTRAPS)]
            errors[sampler][budget] = float(np.std(again, ddof=1))
            report(i * len(budgets) + j, len(samplers) * len(budgets))
    return Comparison(name, found, errors, distance(real, held_out))


def _one_distance(data: Dataset, seed: int) -> tuple[str, Callable[[np.ndarray], np.ndarray], Distance]:
    """The distance that tells most of a kind of data: its name, what it looks at in samples, and itself."""
    if data.x.ndim == 2:
        on_line = data.x.shape[1] == 1
        name, along = ("wasserstein1", metrics.wasserstein1) if on_line else ("sliced_wasserstein", _sliced)
        return name, data.units.to_units, along
    if data.held_out_labels is None:
        return "sliced_wasserstein", lambda images: images, _sliced
    judge = classifier.fit(data.x, data.labels, data.classes, seed)
    return "frechet_distance", judge.features, metrics.frechet_distance


def comparison_table(comparison: Comparison) -> str:
    """A line a sampler and below it the standard errors, a column a number of evaluations, and real data's figure."""
    budgets = list(next(iter(comparison.samplers.values())))
    lines = ["  evaluations  " + "".join(f"{budget:>9}" for budget in budgets)]
    for sampler, found in comparison.samplers.items():
        lines.append(f"  {sampler:13}" + "".join(f"{value:9.4f}" for value in found.values()))
        lines.append(f"  {'±':>13}" + "".join(f"{e:9.4f}" for e in comparison.errors[sampler].values()))
    return "\n".join([*lines, f"  real data    {comparison.floor:9.4f}"])


def table(report: Report) -> str:
    """The report for a person: a line a figure, with its floor or the figure of held-out data beside it."""
    lines = []
    for name, value in report.items():
        if name.endswith(("_floor", "_of_held_out", "_error")):
            continue
        if f"{name}_error" in report:
            lines.append(f"{_words(name)}  {value:<9.4f}  ± {report[f'{name}_error']:.4f}")
            continue
        if isinstance(value, list):
            lines.append(f"{_words(name)}  " + " ".join(f"{100 * share:.1f}" for share in value) + "  %")
            continue
        real = report.get(f"{name}_floor", report.get(f"{name}_of_held_out"))
        lines.append(f"{_words(name)}  {value:<9.4f}" + ("" if real is None else f"  real data {real:.4f}"))
    return "\n".join(lines)


def _words(name: str) -> str:
    return f"  {name.replace('_', ' '):24}"
