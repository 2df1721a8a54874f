"""What each command of `minidiff` does, from the options that `cli` has read: a run is opened or made.

A command returns the exit status; its docstring is what the help says of it.
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

from minidiff import datasets, files
from minidiff.diffusion import editing, generation, samplers, schedules
from minidiff.diffusion.denoiser import Denoiser
from minidiff.evaluation import reports
from minidiff.progress import Progress
from minidiff.runs import presets
from minidiff.runs.run import Run, Settings, schedule_of
from minidiff.training.objectives import Objective

PARTS = ("top", "bottom", "left", "right", "middle")  # of an image
EDIT_STEPS = 100  # of the commands that work on images, or T if that is less


class UsageError(Exception):
    """The words of the command do not fit together, or do not fit the run."""


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
    denoiser = _denoiser(run, options.label, options.guidance)
    out = _out(options, run, "samples.png", ".png", ".npz", ".gif")
    rng = np.random.default_rng(options.seed)
    if out.suffix == ".gif":
        from minidiff.evaluation import plots

        states = generation.trajectory(denoiser, run.shape, options.count, rng, recipe)
        plots.animate([plots.picture(state.x, run.units) for state in states], out)
    else:
        x = _generate(run, denoiser, recipe, options.count, rng)
        if out.suffix == ".npz":
            _write_npz(out, samples=run.units.to_units(x))
        else:
            from minidiff.evaluation import plots

            plots.save(plots.picture(x, run.units), out)
    print(f"wrote {out}")
    return 0


def _generate(
    run: Run, denoiser: Denoiser, recipe: generation.Recipe, count: int, rng: np.random.Generator
) -> np.ndarray:
    bar = Progress(f"{recipe.sampler} step", sys.stderr)

    def report(done: int, total: int) -> None:
        bar.total = total
        bar.update(done)

    samples = generation.generate(denoiser, run.shape, count, rng, recipe, report)
    bar.finish(f"{count} samples")
    return samples


def evaluate(options: argparse.Namespace) -> int:
    """Measure a run's samples beside real data; or, with --compare, samplers beside each other."""
    run, recipe = _open(options)
    if options.compare is None:
        return _evaluate(run, recipe, options.count, options.seed, options.label, options.guidance)
    if recipe != generation.Recipe():
        raise UsageError(
            "evaluate --compare takes each sampler as it is by default: say no --steps or the like"
        )
    names = options.compare or list(samplers.SAMPLERS)
    return _compare(run, names, options.count, options.seed, options.label, options.guidance)


def _compare(
    run: Run, names: list[str], count: int, seed: int, label: int | None, guidance: float | None
) -> int:
    from minidiff.evaluation import plots

    data = datasets.load(run.settings.data, run.settings.seed)
    asked, denoiser = _to_measure(run, data, count, seed, label, guidance)
    bar = Progress("measurement", sys.stderr)

    def report(done: int, total: int) -> None:
        bar.total = total
        bar.update(done)

    found = reports.compare(denoiser, data, names, count, seed, asked, report)
    bar.finish()
    print(
        f"{found.distance} of {count} samples{_of(label, asked)} by each sampler, against evaluations of the network:"
    )
    print(reports.comparison_table(found))
    path, picture = run.folder / "comparison.json", run.folder / "comparison.png"
    figures = {"step": run.step, "count": count, **found._asdict()}
    files.replace(path, (json.dumps(figures, indent=2) + "\n").encode())
    plots.distances(found.samplers, found.errors, found.floor, found.distance, picture)
    print(f"wrote {path}\nwrote {picture}")
    return 0


def _evaluate(
    run: Run,
    recipe: generation.Recipe,
    count: int,
    seed: int,
    label: int | None = None,
    guidance: float | None = None,
) -> int:
    data = datasets.load(run.settings.data, run.settings.seed)
    asked, denoiser = _to_measure(run, data, count, seed, label, guidance)
    samples = _generate(run, denoiser, recipe, count, np.random.default_rng(seed))
    report = reports.evaluate(samples, data, seed, asked)
    bits, rate, rmse = reports.compression(run.denoiser(), data, run.variance, seed, asked)
    report |= bits
    print(f"{count} samples{_of(label, asked)} of {run.folder} after {run.step} steps, beside held-out data:")
    print(reports.table(report))
    path = run.folder / "evaluation.json"
    told = {} if asked is None else {"class": label, "guidance": 1.0 if guidance is None else guidance}
    figures = {"step": run.step, "count": count, **vars(recipe), **told, **report}
    files.replace(path, (json.dumps(figures, indent=2) + "\n").encode())
    from minidiff.evaluation import plots

    plots.rate_distortion(rate, rmse, run.folder / "rate_distortion.png")
    print(f"wrote {path}\nwrote {run.folder / 'rate_distortion.png'}")
    return 0


def _to_measure(
    run: Run, data: datasets.Dataset, count: int, seed: int, label: int | None, guidance: float | None
) -> tuple[np.ndarray | None, Denoiser]:
    """The class of each sample, and what draws it: the one asked for, else as in the data where the run knows classes.

    With guidance 0, which is any class, none need be named, and none is told.
    """
    if label is not None:
        asked = np.full(count, label)
    elif run.net.classes and guidance != 0:
        asked = reports.labels_like(data, count, seed)
    else:
        asked, guidance = None, guidance or None
    return asked, _denoiser(run, asked, guidance)


def _of(label: int | None, asked: np.ndarray | None) -> str:
    if asked is None:
        return ""
    return " of the data's classes" if label is None else f" of class {label}"


def invert(options: argparse.Namespace) -> int:
    """Find the noise of images: what DDIM makes them of."""
    run, denoiser, images, out, times = _edit(options, "inverted.png", options.count)
    noise = samplers.final(samplers.invert(denoiser, images, times))
    again = samplers.final(samplers.ddim(denoiser, noise, np.random.default_rng(0), times))
    error = np.sqrt(np.mean((run.units.to_units(again) - run.units.to_units(images)) ** 2))
    print(
        f"{len(images)} images, {len(times) - 1} steps up and down again: off by {error:.3g} (root mean square)"
    )
    # Three deviations of the noise fill the range of the picture.
    rows = {"the images": images, "their noise": noise / 3, "what comes back": again}
    return _write(out, rows, noise=noise, samples=run.units.to_units(again))


def interpolate(options: argparse.Namespace) -> int:
    """Draw images on the way from one to another."""
    first, second = options.between
    run, denoiser, images, out, times = _edit(options, "interpolation.png", None)
    for number in options.between:
        if number >= len(images):
            raise UsageError(f"interpolate: there are the images 0…{len(images) - 1}, not {number}")
    ends, shares = (images[first], images[second]), np.linspace(0, 1, options.count)
    if options.noise is None:
        x = editing.interpolate(denoiser, *ends, shares, times)
    else:
        if options.noise > run.schedule.T:
            raise UsageError(f"interpolate: --noise is a time, 1…{run.schedule.T}, got {options.noise}")
        below = (options.noise, *(t for t in times if t < options.noise))
        rng = np.random.default_rng(options.seed)
        x = editing.interpolate_by_noising(denoiser, *ends, shares, rng, below)
    return _write(out, {"the way": x}, samples=run.units.to_units(x))


def inpaint(options: argparse.Namespace) -> int:
    """Paint a part of images anew, and leave the rest exactly as it is."""
    run, denoiser, images, out, times = _edit(options, "inpainted.png", options.count)
    if options.mask is None:
        mask = ~_part(options.hide, run.shape[:2])
    else:
        mask = datasets.read_mask(options.mask, run.shape[:2])
    rng = np.random.default_rng(options.seed)
    x_T = samplers.initial_noise(rng, images.shape)
    kept = mask[..., None]
    x = samplers.final(
        editing.inpaint(denoiser, x_T, rng, images, kept, times, options.resample, options.jump)
    )
    rows = {"the images": images, "what is kept": np.where(kept, images, 0), "painted anew": x}
    return _write(out, rows, samples=run.units.to_units(x))


def _part(name: str, size: tuple[int, int]) -> np.ndarray:
    """True in a half of an image, or in its middle."""
    height, width = size
    rows = {"top": slice(0, height // 2), "bottom": slice(height // 2, None)}
    columns = {"left": slice(0, width // 2), "right": slice(width // 2, None)}
    rows["middle"], columns["middle"] = slice(height // 4, -(height // 4)), slice(width // 4, -(width // 4))
    part = np.zeros(size, bool)
    part[rows.get(name, slice(None)), columns.get(name, slice(None))] = True
    return part


def _edit(
    options: argparse.Namespace, default: str, count: int | None
) -> tuple[Run, Denoiser, np.ndarray, Path, tuple[int, ...]]:
    """What the commands that work on images begin with: run, denoiser, images, where to write, the times to visit."""
    run = Run.open(options.run)
    denoiser = _denoiser(run, options.label, options.guidance)
    out = _out(options, run, default, ".png", ".npz")
    if len(run.shape) != 3:
        raise UsageError(f"{run.folder} was trained on points; this works on images")
    T = run.schedule.T
    steps = min(EDIT_STEPS, T) if options.steps is None else options.steps
    if steps > T:
        raise UsageError(f"expected between 1 and T = {T} steps, got {steps}")
    if options.source is not None:
        images = datasets.read_images(options.source, run.units, run.shape)
    else:
        images = datasets.load(run.settings.data, run.settings.seed).held_out
        if images is None:
            raise ValueError(f"{run.settings.data} has no held-out images: say which to take, with --from")
    return run, denoiser, images[:count], out, samplers.spaced(run.schedule, "trailing", steps)


def _out(options: argparse.Namespace, run: Run, default: str, *endings: str) -> Path:
    """Where to write to, by default into the run's folder; UsageError for another ending."""
    out = options.out or run.folder / default
    if out.suffix not in endings:
        ends = f"{', '.join(endings[:-1])} or {endings[-1]}"
        raise UsageError(f"{options.command.__name__}: --out must end in {ends}, got {out}")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {out.parent} to write {out.name} into")
    return out


def _write(out: Path, rows: dict[str, np.ndarray], **arrays: np.ndarray) -> int:
    """A picture with the images of each row side by side, or the arrays, as the file's ending says."""
    if out.suffix == ".npz":
        _write_npz(out, **arrays)
        print(f"wrote {out}: {', '.join(arrays)}")
        return 0
    from minidiff.evaluation import plots

    images = list(rows.values())
    plots.save(plots.image_grid(np.concatenate(images), columns=len(images[0]), side=960), out)
    print(f"wrote {out}: {', '.join(rows)}, row by row" if len(rows) > 1 else f"wrote {out}")
    return 0


def _write_npz(out: Path, **arrays: np.ndarray) -> None:
    content = io.BytesIO()
    np.savez(content, **arrays)
    files.replace(out, content.getvalue())


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
    if options.zero_terminal_snr:
        schedule["zero_terminal_snr"] = True
    names = ("batch", "lr", "times", "prediction", "weighting", "seed")
    asked = {name: getattr(options, name) for name in names}
    try:
        Objective(schedule_of(schedule), options.prediction or "eps")
        net = presets.network(
            data,
            options.net,
            schedule["T"],
            options.width,
            bool(options.classes),
            bool(options.learn_variance),
        )
    except ValueError as error:
        raise UsageError(f"train: {error}") from error
    named = options.data in datasets.NAMES
    source = options.data if named else str(Path(options.data).expanduser().resolve())
    given = {name: value for name, value in asked.items() if value is not None}
    if options.classes:
        given["label_drop"] = presets.LABEL_DROP
    return Settings(source, net, schedule, **presets.TRAINING[net["kind"]] | given)


_SETTINGS = (
    "data",
    "net",
    "width",
    "classes",
    "batch",
    "lr",
    "schedule",
    "T",
    "beta_start",
    "beta_end",
    "zero_terminal_snr",
    "times",
    "prediction",
    "weighting",
    "learn_variance",
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
        given = {name: value for name, value in vars(options).items() if name in options.sampler_options}
        given = {name: value for name, value in given.items() if value is not None}
        recipe = generation.Recipe(options.sampler, options.steps, options.spacing, given)
        recipe.check(run.schedule)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if options.variance == "learned" and run.variance != "learned":
        raise UsageError(f"{run.folder} has learned no variance; train one with --learn-variance")
    return run, recipe


def _denoiser(run: Run, label: int | np.ndarray | None, guidance: float | None) -> Denoiser:
    """The run's denoiser for the class asked for; a class that the run does not know is a UsageError."""
    if label is None and guidance is not None:
        raise UsageError("--guidance leads to a class: say which, with --class")
    try:
        return run.denoiser(label, 1.0 if guidance is None else guidance)
    except ValueError as error:
        raise UsageError(str(error)) from error


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
