"""The front door: the words of `minidiff train`, `sample`, `evaluate` and the rest; `commands` carries them out.

Exit status: 0 done, 1 what was asked for could not be done, 2 what was asked for makes no sense, 130 interrupted.
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

from minidiff import datasets
from minidiff.cli import commands
from minidiff.cli.commands import EDIT_STEPS, PARTS, UsageError
from minidiff.diffusion import samplers, schedules
from minidiff.diffusion.denoiser import PREDICTIONS
from minidiff.diffusion.samplers.ancestral import VARIANCES
from minidiff.nn import NETWORKS
from minidiff.training.objectives import LOSS_AWARE, TIMES, WEIGHTINGS
from minidiff.training.trainer import Diverged

# How the options that samplers take are said here: an argument of the parser, and what it means.
YES, NO = ({"action": "store_const", "const": value} for value in (True, False))
SAMPLER_OPTIONS = {
    "variance": (
        {"choices": VARIANCES},
        "ddpm: σ² of its steps, β̃ (small, default), β, or as it was learned",
    ),
    "eta": ({"type": float}, "ddim: share of fresh noise, 0 (default) none, 1 as ddpm"),
    "sigma_hat": (YES, "ddim with --eta 1: the larger noise of ddpm with --variance large"),
    "sde": (YES, "dpmpp_2m: with fresh noise at each step"),
    "churn": ({"type": float}, "heun: noise added on the way, 0 (default) none"),
    "order": ({"type": int, "choices": (1, 2, 3)}, "unipc: its order p (2)"),
    "corrector": (NO, "unipc: leave out the corrector"),
    "corrections": ({"type": int}, "pc: Langevin steps at each time (1)"),
    "r": ({"type": float}, "pc: how long those are (0.16)"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a console that knows no β shows a question mark
    try:
        options = _parser().parse_args(arguments)
        return options.command(options)
    except (UsageError, datasets.UnknownDataset) as error:
        return _complain(error, 2)
    except (ValueError, OSError, Diverged) as error:
        return _complain(error, 1)
    except KeyboardInterrupt:
        return _complain("interrupted", 130)


def _complain(error: Exception | str, status: int) -> int:
    message = " ".join(str(error).split())
    print(f"minidiff: {message}", file=sys.stderr)
    return status


class _Parser(argparse.ArgumentParser):
    """Complains in one line, as everything else here does."""

    def error(self, message: str) -> None:
        """Raises UsageError, which `main` prints."""
        command = self.prog.partition(" ")[2]
        raise UsageError(f"{command}: {message}" if command else message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser("minidiff", description="Denoising diffusion from scratch.")
    known = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(function, *positional: str) -> argparse.ArgumentParser:
        added = known.add_parser(function.__name__, help=function.__doc__, description=function.__doc__)
        added.set_defaults(command=function)
        for name in positional:
            added.add_argument(name, metavar=name.upper(), type=Path, help="a run's folder")
        return added

    command(commands.quickstart).add_argument("--out", type=Path, metavar="RUN", help="the folder to make")

    add = command(commands.train).add_argument
    add("data", nargs="?", metavar="DATA", help="a name that `minidiff data` lists, or a path")
    add("--steps", type=_whole, help="how many steps in all, also when resumed")
    add("--minutes", type=_positive, help="how long to train, now; fractions are fine")
    add("--net", choices=NETWORKS, help="the kind of network; by default what suits the data")
    add("--width", type=_whole, help="its channels: 128 for the MLP, 32 for the U-Net, if not given")
    add(
        "--classes",
        action="store_true",
        default=None,
        help="tell the network the labels, so that it can be sampled by class and guided",
    )
    add("--batch", type=_whole, help="samples in a step: 512 for the MLP, 64 for the U-Net, if not given")
    add(
        "--lr",
        type=_positive,
        help="learning rate of Adam: 0.002 for the MLP, 0.001 for the U-Net, if not given",
    )
    add("--schedule", choices=schedules.SCHEDULES, help="the noise schedule (linear)")
    add("--T", type=_whole, help="its number of times (1000)")
    add("--beta-start", type=float, help="its first β, where it has one (0.0001)")
    add("--beta-end", type=float, help="its last β, where it has one (0.02)")
    add(
        "--zero-terminal-snr",
        action="store_true",
        default=None,
        help="change the schedule so that nothing is left of the data at T; not for --prediction eps",
    )
    add("--times", choices=(*TIMES, LOSS_AWARE), help="how the time of each sample is drawn (antithetic)")
    add("--prediction", choices=PREDICTIONS, help="what the network says of a noisy sample (eps)")
    add("--weighting", choices=WEIGHTINGS, help="what an error counts at each time (simple)")
    add(
        "--learn-variance",
        action="store_true",
        default=None,
        help="learn the variance of the step back too",
    )
    add("--seed", type=_seed, help="of everything that is drawn (0)")
    add("--out", type=Path, metavar="RUN", help="the folder to make (runs/DATA)")
    add("--resume", type=Path, metavar="RUN", help="go on with this run instead")

    def sampling(function) -> argparse.ArgumentParser:
        added = command(function, "run")
        add = added.add_argument
        add(
            "--sampler", choices=samplers.SAMPLERS, default="ddim", help="how to go from noise to data (ddim)"
        )
        add("--steps", type=_whole, help="how many steps: all T for ddpm and pc, 25 or 50 else, if not given")
        add("--spacing", choices=samplers.SPACING_NAMES, help="how the steps' times are spread over 1…T")
        added.set_defaults(sampler_options=tuple(SAMPLER_OPTIONS))
        for name, (kind, what) in SAMPLER_OPTIONS.items():
            flag = f"no-{name}" if kind is NO else name.replace("_", "-")
            add(f"--{flag}", dest=name, **kind, help=what)
        count = 64 if function is commands.sample else 1000
        add("--count", type=_whole, default=count, help=f"how many samples ({count})")
        add("--seed", type=_seed, default=0, help="of everything that is drawn (0)")
        return added

    def class_asked_for(parser: argparse.ArgumentParser, what: str) -> None:
        parser.add_argument("--class", dest="label", type=_seed, metavar="N", help=what)
        parser.add_argument(
            "--guidance",
            type=float,
            metavar="W",
            help="how strongly towards it: 0 any class, 1 (default) as learned",
        )

    added = sampling(commands.sample)
    class_asked_for(added, "the class to draw, counted from 0 (any)")
    added.add_argument("--out", type=Path, metavar="FILE", help="FILE.png, .npz or .gif (RUN/samples.png)")
    added = sampling(commands.evaluate)
    class_asked_for(added, "measure this class alone, counted from 0 (all, as often as in the data)")
    added.add_argument(
        "--compare",
        choices=samplers.SAMPLERS,
        nargs="*",
        metavar="SAMPLER",
        help="distance against 5, 10, 20, 50, 100 and T evaluations, of these samplers (all)",
    )

    def editing_of_images(function, what: str, count: int) -> argparse.ArgumentParser:
        added = command(function, "run")
        add = added.add_argument
        add(
            "--from",
            dest="source",
            type=Path,
            metavar="FILE",
            help="images: .npz, .npy, PNG, JPEG or a folder (those held out)",
        )
        add("--count", type=_whole, default=count, help=f"how many {what} ({count})")
        add("--steps", type=_whole, help=f"how many steps ({EDIT_STEPS}, or T if that is less)")
        class_asked_for(added, "the class that they are of, counted from 0 (any)")
        add("--out", type=Path, metavar="FILE", help="FILE.png or .npz (into the run's folder)")
        return added

    editing_of_images(commands.invert, "images", 8)
    add = editing_of_images(commands.interpolate, "images from end to end", 9).add_argument
    add(
        "--between",
        type=_seed,
        nargs=2,
        default=(0, 1),
        metavar=("A", "B"),
        help="numbers of two images (0 1)",
    )
    add("--noise", type=_whole, metavar="T", help="mix them at this time, noised, and not by their noises")
    add("--seed", type=_seed, default=0, help="of the noise (0)")
    added = editing_of_images(commands.inpaint, "images", 8)
    add, either = added.add_argument, added.add_mutually_exclusive_group().add_argument
    either("--hide", choices=PARTS, default="bottom", help="what to paint anew (bottom)")
    either(
        "--mask",
        type=Path,
        metavar="FILE",
        help="an image or .npy of their size: what is white, 1 or true is kept",
    )
    add("--resample", type=_whole, default=5, help="how often each step is gone, so that new and old fit (5)")
    add("--jump", type=_whole, default=5, help="how many steps are gone before the way back up (5)")
    add("--seed", type=_seed, default=0, help="of the noise (0)")
    command(commands.info, "run")
    command(commands.data)
    return parser


def _whole(text: str, least: int = 1) -> int:
    if not (text.isdecimal() and int(text) >= least):
        raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, got {text}")
    return int(text)


def _seed(text: str) -> int:
    return _whole(text, least=0)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return value
