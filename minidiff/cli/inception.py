"""`minidiff evaluate --inception`: FID, KID and the Inception score of samples, or of images that are already drawn."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from minidiff.cli.arguments import UsageError
from minidiff.cli.output import check_writable, write_json
from minidiff.datasets import Samples, image_stream
from minidiff.datasets.image_stream import ImageStream
from minidiff.diffusion import generation
from minidiff.diffusion.generation import Recipe
from minidiff.diffusion.guidance import Conditioning
from minidiff.evaluation import inception, inception_metrics, tables
from minidiff.evaluation.inception import Inception
from minidiff.evaluation.inception_metrics import MIN_IMAGES, Accumulator, Reference
from minidiff.evaluation.reports import Report
from minidiff.progress import Progress
from minidiff.runs import Run, data_statistics
from minidiff.runs import report as report_page
from minidiff.weights import bfloat16, reading


def check(options: argparse.Namespace, run: Run) -> None:
    """Raises UsageError for options that do not fit each other or the run."""
    if options.inception is None:
        for name in ("samples", "reference"):
            if getattr(options, name) is not None:
                raise UsageError(f"evaluate: --{name} needs --inception FILE, the weights to measure with")
        return
    if options.compare is not None or options.label is not None:
        other = "--class" if options.compare is None else "--compare"
        raise UsageError(f"evaluate: --inception measures all samples of one sampler; leave out {other}")
    if len(run.shape) != 3 or run.shape[2] not in (1, 3):
        raise UsageError(
            f"evaluate: --inception takes images of 1 or 3 channels, and {run.folder} has samples {run.shape}"
        )


def evaluate_images(
    run: Run, options: argparse.Namespace, recipe: Recipe, conditioning: Conditioning, count: int
) -> int:
    """Print the figures, and write them to inception.json and into the report."""
    file = run.folder / "inception.json"
    check_writable(file)
    given = None if options.samples is None else image_stream.of_path(options.samples, run.units)
    if given:
        count = min(given.total, options.count or given.total)
    if count < MIN_IMAGES:
        raise ValueError(f"expected at least {MIN_IMAGES} images to measure, got {count}")
    net = _network(options.inception)
    try:
        reference = _reference(run, net, options.reference)
        real = _figures_of_held_out(run, net, reference, count)
    except data_statistics.Interrupted as interrupted:
        print(f"{interrupted}; the same command continues from there")
        return 130
    bar = Progress("image", sys.stderr, total=count)
    stream = given or _drawn(run, recipe, conditioning, count, options.seed, bar)
    measured = _measured(net, stream, count, bar)
    report = inception_metrics.figures(measured, reference, np.random.default_rng(options.seed))
    report |= {f"{name}_of_held_out": value for name, value in real.items()}
    number = f"{count}" if measured.images == count else f"the first {measured.images} of {count}"
    source = f"images in {options.samples}" if options.samples else f"samples of {run.folder}"
    print(
        f"{number} {source} beside {reference.moments.images or 'an unknown number of'} images of the reference:"
    )
    print(tables.table(report))
    facts: dict[str, object] = {
        "step": run.step,
        "count": measured.images,
        "reference_count": reference.moments.images,
    }
    facts |= {"samples": str(options.samples)} if options.samples else vars(recipe)
    write_json(file, {**facts, "weights": net.checksum, "fingerprint": net.fingerprint, **report})
    print(f"wrote {file}\nwrote {report_page.write(run)}")
    return 0


def _network(path: Path) -> Inception:
    """The network in a file; a line says which it is, so that two people see whether they measure with the same."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected the weights of Inception-v3 for the FID")
    arrays = reading.read(path, inception.FIRST, "Inception-v3")
    try:
        net = Inception({name: bfloat16.widened(array) for name, array in arrays.items()})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    mean, std, largest = net.fingerprint
    print(
        f"Inception of {net.width} features, weights {net.checksum[:8]}; those of a fixed picture: mean {mean:.4g}, "
        f"standard deviation {std:.4g}, largest at {largest}"
    )
    return net


def _drawn(
    run: Run, recipe: Recipe, conditioning: Conditioning, count: int, seed: int, bar: Progress
) -> ImageStream:
    """Samples, drawn as they are measured."""

    def report(step: int, steps: int) -> None:
        bar.update(bar.done, f"{recipe.sampler} step {step}/{steps}")

    rng, denoiser = np.random.default_rng(seed), run.denoiser(conditioning)
    batches = generation.batches(denoiser, run.shape, count, rng, recipe, report)
    return image_stream.of_batches(batches, count)


def _measured(net: Inception, stream: ImageStream, count: int, bar: Progress) -> Accumulator:
    """The first `count` images; fewer, if Ctrl-C was pressed."""
    measured, done = Accumulator(net, count), 0
    try:
        for features in inception_metrics.features_of(net, stream.blocks):
            measured.add(features[: count - done])
            done += len(features)
            bar.update(min(done, count))
            if done >= count:
                break
    except KeyboardInterrupt:
        if done < MIN_IMAGES:
            raise
    finally:
        bar.finish()
    return measured.finished()


def _reference(run: Run, net: Inception, path: Path | None) -> Reference:
    """The statistics in a file, or of all training images."""
    if path is not None:
        return data_statistics.read(path, net.width)
    return _of_data(run, net, data_statistics.TRAINING, run.data().x, len(run.data().x), "training image")


def _figures_of_held_out(run: Run, net: Inception, reference: Reference, count: int) -> Report:
    """Those of `count` held-out images; none of a run without data, or with too few."""
    held_out = None if run.settings.data is None else run.data().held_out
    if held_out is None or len(held_out) < MIN_IMAGES:
        return {}
    most = min(len(held_out), inception_metrics.KEPT)
    measured = Accumulator(net, min(count, most))
    measured.add(
        _of_data(run, net, data_statistics.HELD_OUT, held_out, most, "held-out image").features[:count]
    )
    return inception_metrics.figures(measured.finished(), reference)


def _of_data(run: Run, net: Inception, file: str, samples: Samples, count: int, name: str) -> Reference:
    check_writable(run.folder / file)
    bar = Progress(name, sys.stderr, total=count)

    def report(done: int, total: int) -> None:
        bar.update(done)
        if done == total:
            bar.finish()

    return data_statistics.of_data(run.folder / file, net, samples, count, name, report)
