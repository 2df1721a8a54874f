"""`minidiff sample`."""

from __future__ import annotations

import argparse

import numpy as np

from minidiff.cli.arguments import (
    Subparsers,
    add_command,
    add_conditioning,
    add_precision,
    add_recipe,
    conditioning_of,
    natural,
    path,
    recipe_of,
    whole,
)
from minidiff.cli.output import output_folder, output_path, progress, write_npz
from minidiff.diffusion import generation
from minidiff.runs import Run


def add_commands(commands: Subparsers) -> None:
    """Add it to the parser."""
    parser = add_command(commands, sample, run=True)
    add_conditioning(parser, "the class to sample")
    parser.add_argument("--count", type=whole, default=64, help="number of samples (64)")
    parser.add_argument("--seed", type=natural, default=0, help="seed of everything random (0)")
    parser.add_argument(
        "--out",
        type=path,
        metavar="FILE",
        help="FILE.png, .npz or .gif (RUN/samples.png), or FOLDER/ for an image each",
    )
    add_recipe(parser)
    add_precision(parser)


def sample(options: argparse.Namespace) -> int:
    """Draw new samples from a run."""
    run = Run.open(options.run, options.precision)
    recipe, conditioning = recipe_of(options, run), conditioning_of(options, run)
    into_folder = options.out is not None and not options.out.suffix
    if into_folder:
        out = output_folder(options.out, run)
    else:
        out = output_path(options, run, "samples.png", ".png", ".npz", ".gif")
    denoiser, rng = run.denoiser(conditioning), np.random.default_rng(options.seed)
    if out.suffix == ".gif":
        from minidiff.evaluation import plots

        states = generation.trajectory(denoiser, run.shape, options.count, rng, recipe)
        plots.animate([plots.picture(state.x, run.units) for state in states], out)
        print(f"wrote {out}")
        return 0
    with progress(f"{recipe.sampler} step", f"{options.count} samples") as report:
        x = generation.generate(denoiser, run.shape, options.count, rng, recipe, report)
    if out.suffix == ".npz":
        write_npz(out, samples=run.units.to_units(x))
    else:
        from minidiff.evaluation import plots

        if into_folder:
            out.mkdir(exist_ok=True)
            plots.save_each(x, out)
        else:
            plots.save(plots.picture(x, run.units), out)
    print(f"wrote {out}")
    return 0
