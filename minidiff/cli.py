"""The front door: `minidiff quickstart | train | sample | evaluate | info | data`. It parses, calls and prints.

Exit status: 0 done, 1 what was asked for could not be done, 2 what was asked for makes no sense, 130 interrupted.
"""

from __future__ import annotations

import argparse
import inspect
import io
import json
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from minidiff import datasets, evaluation, files, generation, presets, samplers, schedules
from minidiff.nn import NETWORKS
from minidiff.objectives import TIMES
from minidiff.progress import Progress
from minidiff.runs import Run, Settings, schedule_of
from minidiff.samplers.ancestral import VARIANCES
from minidiff.training import Diverged

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


class UsageError(Exception):
    """The words of the command do not fit together, or do not fit the run."""


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


# ---- commands


def quickstart(options: argparse.Namespace) -> int:
    """Train on the built-in digits, draw new ones, and say how good they are."""
    data = datasets.load("digits")
    folder = options.out or _free_folder("quickstart")
    run = Run.create(folder, presets.quickstart(data), data)
    print(f"{len(data.x)} handwritten digits → {folder}")
    status = _train(run, presets.QUICKSTART_STEPS, presets.QUICKSTART_MINUTES)
    return status or _evaluate(run, generation.Recipe(), 1000, 0)


def train(options: argparse.Namespace) -> int:
    """Begin a run, or go on with one."""
    if options.resume:
        _refuse_settings(options)
        run = Run.resume(options.resume)
    else:
        if options.data is None:
            raise UsageError("train: say what data to train on (`minidiff data` lists it), or --resume RUN")
        data = datasets.load(options.data, options.seed or 0)
        folder = options.out or _free_folder(Path(options.data).resolve().stem)
        run = Run.create(folder, _settings(options, data), data)
    print(f"{run.settings.data}: {run.trainer.net.count_parameters():,} parameters → {run.folder}")
    left = run.schedule.alpha_bar[-1]
    if left > 0.01:
        print(
            f"note: ᾱ_T = {left:.2g}, so x_T is not yet noise, as sampling takes it to be; raise --T or --beta-end"
        )
    steps = options.steps
    if steps is None and options.minutes is None:
        steps = presets.STEPS[run.settings.net["kind"]]
    if steps is not None and run.step >= steps:
        print(f"nothing to do: {run.step} steps are made; ask for more with --steps, the total")
        return 0
    return _train(run, steps, options.minutes)


def _train(run: Run, steps: int | None, minutes: float | None) -> int:
    """Train, save, draw; on Ctrl-C finish the step, save, and say how to go on."""
    bar = Progress("step", sys.stderr, steps, run.step, None if minutes is None else 60 * minutes)
    with _interruptible() as interrupted:
        try:
            for step in run.train(steps, minutes):
                bar.update(step.step, f"loss {step.loss:.4f}")
                if interrupted:
                    break
        finally:
            bar.finish()
        run.save()
    if interrupted:
        more = f"--steps {steps}" if steps is not None else f"--minutes {minutes:g}"
        print(
            f"stopped after step {run.step}, saved; "
            f"go on with: minidiff train --resume {shlex.quote(str(run.folder))} {more}"
        )
        return 130
    for path in run.draw():
        print(f"wrote {path}")
    return 0


def sample(options: argparse.Namespace) -> int:
    """Draw new samples from a run."""
    run, recipe = _open(options)
    out = options.out or run.folder / "samples.png"
    if out.suffix not in (".png", ".npz", ".gif"):
        raise UsageError(f"sample: --out must end in .png, .npz or .gif, got {out}")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {out.parent} to write {out.name} into")
    rng = np.random.default_rng(options.seed)
    denoiser = run.denoiser()
    if out.suffix == ".gif":
        from minidiff import plots

        states = generation.trajectory(denoiser, run.shape, options.count, rng, recipe)
        plots.animate([plots.picture(state.x, run.units) for state in states], out)
    else:
        x = _generate(run, recipe, options.count, rng)
        if out.suffix == ".npz":
            content = io.BytesIO()
            np.savez(content, samples=run.units.to_units(x))
            files.replace(out, content.getvalue())
        else:
            from minidiff import plots

            plots.save(plots.picture(x, run.units), out)
    print(f"wrote {out}")
    return 0


def _generate(run: Run, recipe: generation.Recipe, count: int, rng: np.random.Generator) -> np.ndarray:
    bar = Progress(f"{recipe.sampler} step", sys.stderr)

    def report(done: int, total: int) -> None:
        bar.total = total
        bar.update(done)

    samples = generation.generate(run.denoiser(), run.shape, count, rng, recipe, report)
    bar.finish(f"{count} samples")
    return samples


def evaluate(options: argparse.Namespace) -> int:
    """Measure a run's samples beside real data; or, with --compare, samplers beside each other."""
    run, recipe = _open(options)
    if options.compare is None:
        return _evaluate(run, recipe, options.count, options.seed)
    if recipe != generation.Recipe():
        raise UsageError(
            "evaluate --compare takes each sampler as it is by default: say no --steps or the like"
        )
    return _compare(run, options.compare or list(samplers.SAMPLERS), options.count, options.seed)


def _compare(run: Run, names: list[str], count: int, seed: int) -> int:
    from minidiff import plots

    data = datasets.load(run.settings.data, run.settings.seed)
    bar = Progress("measurement", sys.stderr)

    def report(done: int, total: int) -> None:
        bar.total = total
        bar.update(done)

    found = evaluation.compare(run.denoiser(), data, names, count, seed, report)
    bar.finish()
    print(f"{found.distance} of {count} samples by each sampler, against evaluations of the network:")
    print(evaluation.comparison_table(found))
    path, picture = run.folder / "comparison.json", run.folder / "comparison.png"
    figures = {"step": run.step, "count": count, **found._asdict()}
    files.replace(path, (json.dumps(figures, indent=2) + "\n").encode())
    plots.distances(found.samplers, found.floor, found.distance, picture)
    print(f"wrote {path}\nwrote {picture}")
    return 0


def _evaluate(run: Run, recipe: generation.Recipe, count: int, seed: int) -> int:
    data = datasets.load(run.settings.data, run.settings.seed)
    samples = _generate(run, recipe, count, np.random.default_rng(seed))
    report = evaluation.evaluate(samples, data, seed)
    print(f"{count} samples of {run.folder} after {run.step} steps, beside {len(data.held_out)} held out:")
    print(evaluation.table(report))
    path = run.folder / "evaluation.json"
    figures = {"step": run.step, "count": count, **vars(recipe), **report}
    files.replace(path, (json.dumps(figures, indent=2) + "\n").encode())
    print(f"wrote {path}")
    return 0


def info(options: argparse.Namespace) -> int:
    """Say what a run is and how far it came."""
    run = Run.open(options.run)
    settings, rows = run.settings, run.metrics()
    print(f"{run.folder}: {run.step} steps on {settings.data}, samples of shape {run.shape}")
    print(f"network   {run.net.count_parameters():,} parameters  {_words(settings.net)}")
    print(f"schedule  {_words(settings.schedule)}")
    print(f"training  {_words({k: v for k, v in vars(settings).items() if not isinstance(v, dict)})}")
    if rows:
        print(
            f"loss      {np.mean([row['loss'] for row in rows[-10:]]):.4f}, mean of the last {len(rows[-10:])} lines"
        )
    return 0


def data(options: argparse.Namespace) -> int:
    """List the data sets that have a name."""
    for name, what in datasets.NAMES.items():
        print(f"{name:14} {what}")
    print(
        "or a path: IDX files as MNIST's (gz or not) or their folder, .npy, .npz, a folder of PNG or JPEG images"
    )
    return 0


# ---- what the words of a command mean


def _settings(options: argparse.Namespace, data: datasets.Dataset) -> Settings:
    """The settings of a new run; what the words cannot mean is a UsageError."""
    schedule = {"name": options.schedule or "linear", "T": options.T or 1000}
    takes = inspect.signature(schedules.SCHEDULES[schedule["name"]]).parameters
    for name in ("beta_start", "beta_end"):
        if getattr(options, name) is not None:
            if name not in takes:
                raise UsageError(f"train: the {schedule['name']} schedule takes no {name}")
            schedule[name] = getattr(options, name)
    asked = {name: getattr(options, name) for name in ("batch", "lr", "times", "seed")}
    try:
        schedule_of(schedule)
        net = presets.network(data, options.net, schedule["T"], options.width)
    except ValueError as error:
        raise UsageError(f"train: {error}") from error
    named = options.data in datasets.NAMES
    source = options.data if named else str(Path(options.data).expanduser().resolve())
    given = {name: value for name, value in asked.items() if value is not None}
    return Settings(source, net, schedule, **presets.TRAINING[net["kind"]] | given)


_SETTINGS = (
    "data",
    "net",
    "width",
    "batch",
    "lr",
    "schedule",
    "T",
    "beta_start",
    "beta_end",
    "times",
    "seed",
    "out",
)


def _refuse_settings(options: argparse.Namespace) -> None:
    given = [name for name in _SETTINGS if getattr(options, name) is not None]
    if given:
        raise UsageError(
            f"train --resume goes on with the run's own settings; leave out {', '.join(given)} "
            "(--steps and --minutes may be given)"
        )


def _open(options: argparse.Namespace) -> tuple[Run, generation.Recipe]:
    """The run and how to sample from it; what the options cannot mean for this run is a UsageError."""
    run = Run.open(options.run)
    try:
        given = {name: value for name, value in vars(options).items() if name in SAMPLER_OPTIONS}
        given = {name: value for name, value in given.items() if value is not None}
        recipe = generation.Recipe(options.sampler, options.steps, options.spacing, given)
        recipe.check(run.schedule)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return run, recipe


def _free_folder(name: str) -> Path:
    """runs/NAME, or runs/NAME-2 and so on where that is taken."""
    folder, number = Path("runs") / name, 1
    while folder.exists():
        number += 1
        folder = Path("runs") / f"{name}-{number}"
    return folder


def _words(settings: dict[str, object]) -> str:
    return "  ".join(f"{name} {value}" for name, value in settings.items())


@contextmanager
def _interruptible() -> Iterator[list[int]]:
    """A list that fills when the user presses Ctrl-C or the process is told to end; a second time stops at once."""
    received: list[int] = []

    def note(number: int, frame: object) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# ---- the words


class _Parser(argparse.ArgumentParser):
    """Complains in one line, as everything else here does."""

    def error(self, message: str) -> None:
        """Raises UsageError, which `main` prints."""
        command = self.prog.partition(" ")[2]
        raise UsageError(f"{command}: {message}" if command else message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser("minidiff", description="Denoising diffusion from scratch.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(function, *positional: str) -> argparse.ArgumentParser:
        added = commands.add_parser(function.__name__, help=function.__doc__, description=function.__doc__)
        added.set_defaults(command=function)
        for name in positional:
            added.add_argument(name, metavar=name.upper(), type=Path, help="a run's folder")
        return added

    command(quickstart).add_argument("--out", type=Path, metavar="RUN", help="the folder to make")

    add = command(train).add_argument
    add("data", nargs="?", metavar="DATA", help="a name that `minidiff data` lists, or a path")
    add("--steps", type=_whole, help="how many steps in all, also when resumed")
    add("--minutes", type=_positive, help="how long to train, now; fractions are fine")
    add("--net", choices=NETWORKS, help="the kind of network; by default what suits the data")
    add("--width", type=_whole, help="its channels: 128 for the MLP, 32 for the U-Net, if not given")
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
    add("--times", choices=TIMES, help="how the time of each sample is drawn (antithetic)")
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
        for name, (kind, what) in SAMPLER_OPTIONS.items():
            flag = f"no-{name}" if kind is NO else name.replace("_", "-")
            add(f"--{flag}", dest=name, **kind, help=what)
        add("--count", type=_whole, default=64 if function is sample else 1000, help="how many samples")
        add("--seed", type=_seed, default=0, help="of everything that is drawn (0)")
        return added

    sampling(sample).add_argument(
        "--out", type=Path, metavar="FILE", help="FILE.png, .npz or .gif (RUN/samples.png)"
    )
    sampling(evaluate).add_argument(
        "--compare",
        choices=samplers.SAMPLERS,
        nargs="*",
        metavar="SAMPLER",
        help="distance against 5, 10, 20, 50, 100 and T evaluations, of these samplers (all)",
    )
    command(info, "run")
    command(data)
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
