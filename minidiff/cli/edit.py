"""`minidiff invert`, `interpolate` and `inpaint`: what a run does with given images."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minidiff import datasets, memory
from minidiff.cli.arguments import (
    Parser,
    Subparsers,
    UsageError,
    add_command,
    add_conditioning,
    add_moved_data,
    conditioning_of,
    data_of,
    natural,
    path,
    whole,
)
from minidiff.cli.output import output_path, write_rows
from minidiff.diffusion import editing, generation, samplers
from minidiff.diffusion.denoiser import Denoiser
from minidiff.runs import Run

REGIONS = ("top", "bottom", "left", "right", "middle")  # of an image
STEPS = 100  # by default, or T if that is fewer


def add_commands(commands: Subparsers) -> None:
    """Add the three to the parser."""
    _add_shared(add_command(commands, invert, run=True), "images", 8)
    parser = add_command(commands, interpolate, run=True)
    _add_shared(parser, "images from end to end", 9)
    add = parser.add_argument
    add(
        "--between",
        type=natural,
        nargs=2,
        default=(0, 1),
        metavar=("A", "B"),
        help="indices of two images (0 1)",
    )
    add("--noise", type=whole, metavar="T", help="interpolate between the images noised to this time instead")
    add("--seed", type=natural, default=0, help="seed of the noise (0)")
    parser = add_command(commands, inpaint, run=True)
    _add_shared(parser, "images", 8)
    add, either = parser.add_argument, parser.add_mutually_exclusive_group().add_argument
    either("--hide", choices=REGIONS, default="bottom", help="the region to inpaint (bottom)")
    either(
        "--mask",
        type=path,
        metavar="FILE",
        help="an image, reduced as those to edit, or .npy of their size: white, 1 or true is kept",
    )
    add("--resample", type=whole, default=5, help="RePaint resampling steps (5)")
    add("--jump", type=whole, default=5, help="RePaint jump length, in steps (5)")
    add("--seed", type=natural, default=0, help="seed of the noise (0)")


def _add_shared(parser: Parser, what: str, count: int) -> None:
    add = parser.add_argument
    add(
        "--from",
        dest="source",
        type=path,
        metavar="FILE",
        help="an image or a folder of such, reduced as those trained on, .npy or .npz (those held out from training)",
    )
    add("--count", type=whole, default=count, help=f"number of {what} ({count})")
    add("--steps", type=whole, help=f"number of steps ({STEPS}, or T if that is fewer)")
    add_moved_data(parser)
    add_conditioning(parser, "the class of the images")
    add("--out", type=path, metavar="FILE", help="FILE.png or .npz (into the run's folder)")


class _Edit(NamedTuple):
    """What an edit begins with. times: those that the sampler visits."""

    run: Run
    denoiser: Denoiser
    images: np.ndarray
    out: Path
    times: tuple[int, ...]


def invert(options: argparse.Namespace) -> int:
    """Find the noise that DDIM maps to images, and map it back."""
    run, denoiser, images, out, times = _begin(options, "inverted.png", options.count)
    noise = samplers.final(samplers.invert(denoiser, images, times))
    again = samplers.final(samplers.ddim(denoiser, noise, np.random.default_rng(0), times))
    error = np.sqrt(np.mean((run.units.to_units(again) - run.units.to_units(images)) ** 2))
    print(
        f"{len(images)} images, {len(times) - 1} steps up and down again: root mean squared error {error:.3g}"
    )
    # Three standard deviations of the noise fill the range of the picture.
    rows = {"images": images, "their noise": noise / 3, "reconstructions": again}
    return write_rows(out, rows, noise=noise, samples=run.units.to_units(again))


def interpolate(options: argparse.Namespace) -> int:
    """Draw images between two given ones."""
    first, second = options.between
    run, denoiser, images, out, times = _begin(options, "interpolation.png", 1 + max(first, second))
    for index in options.between:
        if index >= len(images):
            raise UsageError(f"interpolate: expected an index in 0…{len(images) - 1}, got {index}")
    if np.array_equal(images[first], images[second]):
        raise UsageError(
            f"interpolate: images {first} and {second} are the same, so there is nothing between them"
        )
    _require_memory(run, options.count)
    ends, weights = (images[first], images[second]), np.linspace(0, 1, options.count)
    if options.noise is None:
        x = editing.interpolate(denoiser, *ends, weights, times)
    else:
        if options.noise > run.schedule.T:
            raise UsageError(f"interpolate: --noise is a time, 1…{run.schedule.T}, got {options.noise}")
        below = (options.noise, *(t for t in times if t < options.noise))
        rng = np.random.default_rng(options.seed)
        x = editing.interpolate_by_noising(denoiser, *ends, weights, rng, below)
    return write_rows(out, {"interpolation": x}, samples=run.units.to_units(x))


def inpaint(options: argparse.Namespace) -> int:
    """Inpaint a region of images; the rest comes out exactly as it was."""
    run, denoiser, images, out, times = _begin(options, "inpainted.png", options.count)
    height, width = run.shape[:2]
    if options.mask is None:
        mask = ~_region(options.hide, height, width)
    else:
        mask = datasets.read_mask(options.mask, (height, width))
    if mask.all():
        raise ValueError(
            "every pixel would be kept and none inpainted; black, 0 or false in a mask is inpainted"
        )
    rng = np.random.default_rng(options.seed)
    x_T = samplers.initial_noise(rng, images.shape)
    kept = mask[..., None]
    x = samplers.final(
        editing.inpaint(denoiser, x_T, rng, images, kept, times, options.resample, options.jump)
    )
    rows = {"images": images, "what is kept": np.where(kept, images, 0), "inpainted": x}
    return write_rows(out, rows, samples=run.units.to_units(x))


def _region(name: str, height: int, width: int) -> np.ndarray:
    """True in one half of an image, or in its middle."""
    rows = {"top": slice(0, height // 2), "bottom": slice(height // 2, None)}
    columns = {"left": slice(0, width // 2), "right": slice(width // 2, None)}
    rows["middle"], columns["middle"] = slice(height // 4, -(height // 4)), slice(width // 4, -(width // 4))
    region = np.zeros((height, width), bool)
    region[rows.get(name, slice(None)), columns.get(name, slice(None))] = True
    return region


def _require_memory(run: Run, count: int) -> None:
    memory.require(count, generation.BYTES_IN_NETWORK * math.prod(run.shape), "images at once")


def _begin(options: argparse.Namespace, default: str, count: int | None) -> _Edit:
    if options.source is not None and options.moved_data is not None:
        raise UsageError(f"{options.command.__name__}: the images are those of --from; leave out --data")
    run = Run.open(options.run)
    denoiser = run.denoiser(conditioning_of(options, run))
    out = output_path(options, run, default, ".png", ".npz")
    if len(run.shape) != 3:
        raise UsageError(f"{run.folder} was trained on points; {options.command.__name__} takes images")
    T = run.schedule.T
    steps = min(STEPS, T) if options.steps is None else options.steps
    if steps > T:
        raise UsageError(f"expected between 1 and T = {T} steps, got {steps}")
    if options.source is not None:
        images = datasets.read_images(options.source, run.units, run.shape)
    else:
        data = data_of(options, run)
        if data.held_out is None:
            raise ValueError(f"{data.name} has no held-out images: give some with --from")
        images = data.held_out[:count]
    _require_memory(run, len(images[:count]))
    return _Edit(run, denoiser, images[:count], out, samplers.spaced(run.schedule, "trailing", steps))
