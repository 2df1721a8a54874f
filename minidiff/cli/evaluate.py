"""`minidiff evaluate`: a run's samples beside real data, or samplers beside each other.

With --inception it is `cli.inception`.
"""

from __future__ import annotations

import argparse

import numpy as np

from minidiff.cli import inception
from minidiff.cli.arguments import (
    Subparsers,
    UsageError,
    add_command,
    add_conditioning,
    add_moved_data,
    add_precision,
    add_recipe,
    checked_conditioning,
    data_of,
    label_of,
    natural,
    path,
    recipe_of,
    whole,
)
from minidiff.cli.output import check_writable, progress, write_json
from minidiff.diffusion import generation
from minidiff.diffusion.generation import Recipe
from minidiff.diffusion.guidance import Conditioning
from minidiff.diffusion.samplers import SAMPLERS
from minidiff.evaluation import reports, tables
from minidiff.runs import Run
from minidiff.runs import report as report_page

COUNT = 1000  # samples, by default


def add_commands(commands: Subparsers) -> None:
    """Add it to the parser."""
    parser = add_command(commands, evaluate, run=True)
    add_conditioning(parser, "measure this class alone")
    add_moved_data(parser)
    parser.add_argument("--count", type=whole, help=f"number of samples ({COUNT}; with --samples all)")
    parser.add_argument("--seed", type=natural, default=0, help="seed of everything random (0)")
    parser.add_argument(
        "--compare",
        action=_Compare,
        nargs="*",
        metavar="SAMPLER",
        help="distance against 5, 10, 20, 50, 100 and T evaluations of the network, of these samplers (all)",
    )
    parser.add_argument(
        "--inception",
        type=path,
        metavar="FILE",
        help="FID, KID and Inception score by these weights, .pth or .safetensors, instead of the other figures",
    )
    parser.add_argument(
        "--samples",
        type=path,
        metavar="PATH",
        help="measure these images, an .npz or a folder, and draw none",
    )
    parser.add_argument(
        "--reference",
        type=path,
        metavar="FILE",
        help="statistics to compare with, an .npz with mu and sigma (of the training data)",
    )
    add_recipe(parser)
    add_precision(parser)


class _Compare(argparse.Action):
    """Names of samplers; the run, where it stands among them: `evaluate --compare RUN`."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        given: list[str] = list(values) if isinstance(values, list) else []
        others = [name for name in given if name not in SAMPLERS]
        if len(others) == 1 and namespace.run is None:
            namespace.run = path(others.pop())
            next(action for action in parser._actions if action.dest == "run").required = False
        if others:
            raise argparse.ArgumentError(
                self, f"invalid choice: {others[0]!r} (choose from {', '.join(SAMPLERS)})"
            )
        namespace.compare = [name for name in given if name in SAMPLERS]


def evaluate(options: argparse.Namespace) -> int:
    """Measure a run's samples beside real data; with --compare, samplers beside each other."""
    run = Run.open(options.run, options.precision)
    recipe = recipe_of(options, run)
    inception.check(options, run)
    if options.reference is None or options.moved_data is not None:
        data_of(options, run)
    count = options.count or COUNT
    conditioning = Conditioning() if options.samples else _conditioning(options, run, count)
    if options.inception is not None:
        return inception.evaluate_images(run, options, recipe, conditioning, count)
    if options.compare is None:
        return evaluate_run(run, recipe, conditioning, count, options.seed)
    if recipe != Recipe():
        raise UsageError(
            "evaluate --compare takes each sampler with its defaults: leave out --steps and the like"
        )
    names = options.compare or list(SAMPLERS)
    return compare_samplers(run, names, conditioning, count, options.seed)


def evaluate_run(run: Run, recipe: Recipe, conditioning: Conditioning, count: int, seed: int) -> int:
    """Print the figures, write them to evaluation.json and draw the rate–distortion curve."""
    data = run.data()
    labels = _labels(conditioning, count)
    file, picture = run.folder / "evaluation.json", run.folder / "rate_distortion.png"
    reports.reference(data, labels)
    check_writable(file)
    with progress(f"{recipe.sampler} step", f"{count} samples") as report_progress:
        samples = generation.generate(
            run.denoiser(conditioning), run.shape, count, np.random.default_rng(seed), recipe, report_progress
        )
    report = reports.evaluate(samples, data, seed, labels)
    bits, rate, rmse = reports.compression(run.denoiser(), data, run.variance, seed, labels)
    report |= bits
    print(f"{count} samples{_of(conditioning)} of {run.folder} after {run.step} steps, beside held-out data:")
    print(tables.table(report))
    write_json(file, {"step": run.step, "count": count, **vars(recipe), **_facts(conditioning), **report})
    print(f"wrote {file}")
    if len(rate):
        from minidiff.evaluation import plots

        plots.save(plots.rate_distortion(rate, rmse), picture)
        print(f"wrote {picture}")
    print(f"wrote {report_page.write(run)}")
    return 0


def compare_samplers(run: Run, names: list[str], conditioning: Conditioning, count: int, seed: int) -> int:
    """Print distances by sampler and number of evaluations, write them to comparison.json and draw them."""
    from minidiff.evaluation import plots

    labels = _labels(conditioning, count)
    file, picture = run.folder / "comparison.json", run.folder / "comparison.png"
    check_writable(file)
    with progress("measurement") as report:
        found = reports.compare(run.denoiser(conditioning), run.data(), names, count, seed, labels, report)
    print(
        f"{found.distance} of {count} samples{_of(conditioning)} by each sampler, "
        "against evaluations of the network:"
    )
    print(tables.comparison_table(found))
    write_json(file, {"step": run.step, "count": count, **found._asdict()})
    plots.save(plots.distances(found.samplers, found.errors, found.floor, found.distance), picture)
    print(f"wrote {file}\nwrote {picture}")
    return 0


def _conditioning(options: argparse.Namespace, run: Run, count: int) -> Conditioning:
    """The class that was given; else, of a run with classes, those of the data; with guidance 0, any."""
    label: int | np.ndarray | None = label_of(options, run)
    if label is None and run.net.classes and options.guidance != 0:
        label = reports.labels_like(run.data(), count, options.seed)
    if label is None and options.guidance not in (None, 0):
        raise UsageError("--guidance needs a class to guide towards: give one with --class")
    return checked_conditioning(label, options.guidance, run)


def _labels(conditioning: Conditioning, count: int) -> np.ndarray | None:
    """The class of each sample."""
    return None if conditioning.label is None else np.broadcast_to(conditioning.label, count)


def _of(conditioning: Conditioning) -> str:
    if conditioning.label is None:
        return ""
    return f" of class {conditioning.label}" if np.ndim(conditioning.label) == 0 else " of the data's classes"


def _facts(conditioning: Conditioning) -> dict[str, object]:
    if conditioning.label is None:
        return {}
    label = conditioning.label if np.ndim(conditioning.label) == 0 else None
    return {"class": label, "guidance": conditioning.guidance}
