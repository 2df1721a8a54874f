"""Reports as text: a row for each figure, its value for real data beside it, and what it means in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from minidiff.evaluation.reports import Comparison

MEANING = {
    "wasserstein1": "How far, on average, a sample must be moved to turn the samples into held-out data; 0 is best.",
    "sliced_wasserstein": "The Wasserstein distance of their projections, averaged over random directions; 0 is best.",
    "energy_distance": "A distance between distributions made of mean distances between points; 0 is best.",
    "nearest_training_image": "How far a sample is from the training image nearest to it (the median). Far below real "
    "data means that training images are reproduced.",
    "classifier_accuracy": "How many held-out images the classifier, on which the next figures rest, gets right.",
    "classified_as_requested": "The fraction of samples that the classifier puts into the class that was requested.",
    "confidence": "How sure the classifier is of its class, on average: low for blurred or ambiguous images.",
    "class_fractions": "How many samples fall into each class, by the classifier.",
    "frechet_distance": "The Fréchet distance between Gaussians fitted to the classifier's features of samples and of "
    "held-out data; 0 is best. It compares with figures of the same data and count only.",
    "fid": "The Fréchet distance between Gaussians fitted to the Inception features of the images and of the training "
    "data; 0 is best. It compares with figures of as many images only.",
    "fid_of_half_as_many": "The same of half as many images: the fewer there are, the greater it is.",
    "fid_extrapolated": "What it would be of infinitely many images, if it falls as one over their number.",
    "kid_times_1000": "A thousand times the squared distance (MMD) of their Inception features to the training data's; "
    "0 is best, and the number of images does not matter.",
    "inception_score": "How sure Inception is of the class of each image, and how evenly the images are distributed "
    "over the classes: at least 1; higher is better.",
    "bits_per_dim": "An upper bound on the bits that encode a held-out sample, per dimension; lower is better.",
    "bits_per_dim_prior": "Its part for x_T: how far the noised data still is from pure noise.",
    "bits_per_dim_steps": "Its part for the steps of the reverse process.",
    "bits_per_dim_data": "Its part for the data given x_1.",
}


class Row(NamedTuple):
    """A figure of a report as text: its key, its name, its value, and that of real data, or ''."""

    key: str
    name: str
    value: str
    real: str


def rows(report: Mapping[str, Any]) -> list[Row]:
    """A row for each figure of a report that has a meaning; what else is in it, such as its settings, is left out."""
    return [
        Row(key, key.replace("_", " "), _value(report, key), _real(report, key))
        for key in report
        if key in MEANING
    ]


def _value(report: Mapping[str, Any], key: str) -> str:
    value = report[key]
    if value is None:
        return "not measured"
    if isinstance(value, list):
        return " ".join(f"{100 * fraction:.1f}" for fraction in value) + "  %"
    error = report.get(f"{key}_error")
    return f"{value:.4f}" if error is None else f"{value:<9.4f}  ± {error:.4f}"


def _real(report: Mapping[str, Any], key: str) -> str:
    real = report.get(f"{key}_floor", report.get(f"{key}_of_held_out"))
    return "" if real is None else f"{real:.4f}"


def table(report: Mapping[str, Any]) -> str:
    """The report as lines of text."""
    return "\n".join(
        f"  {row.name:24}  {row.value:9}" + (f"  real data {row.real}" if row.real else "")
        for row in rows(report)
    )


def comparison_table(comparison: Comparison) -> str:
    """For each sampler a row of distances and one of standard errors, a column for each NFE; the floor comes last."""
    nfes = list(next(iter(comparison.samplers.values())))
    lines = [f"  {'NFE':13}" + "".join(f"{nfe:>9}" for nfe in nfes)]
    for sampler, distances in comparison.samplers.items():
        lines.append(f"  {sampler:13}" + "".join(f"{distance:9.4f}" for distance in distances.values()))
        errors = comparison.errors[sampler].values()
        lines.append(f"  {'±':>13}" + "".join(f"{error:9.4f}" for error in errors))
    return "\n".join([*lines, f"  {'real data':13}{comparison.floor:9.4f}"])
