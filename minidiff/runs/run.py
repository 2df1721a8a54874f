"""A run is a folder: its settings, what was learned, how it went, and pictures of what it makes.

    settings.json    the settings, to be read by people
    metrics.jsonl    a line of JSON every few steps: step, loss, norm, lr, seconds
    checkpoint.npz   all that sampling and resuming need
    loss.png  samples.png  animation.gif  trajectory.png

A folder is a run from its first moment on: the checkpoint of step 0 is written before the first step is made.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from minidiff import files, nn
from minidiff.datasets import NAMES, Dataset, LoadingOptions, UnknownDataset, load
from minidiff.diffusion import generation
from minidiff.diffusion.denoiser import Denoiser
from minidiff.diffusion.generation import Recipe
from minidiff.diffusion.guidance import Conditioning
from minidiff.options import OptionError
from minidiff.progress import Progress
from minidiff.runs import checkpoints, presets
from minidiff.runs.data_facts import DataFacts
from minidiff.runs.interrupts import interruptible
from minidiff.runs.settings import Settings
from minidiff.training.trainer import Diverged, Step, Trainer, fill

CHECKPOINT, SETTINGS, METRICS = "checkpoint.npz", "settings.json", "metrics.jsonl"
SECTIONS = {"settings", "data", "parameters", "ema", "adam", "batches", "random", "loss-aware"}
LOG_EVERY = 10  # steps between two lines of metrics
SAVE_EVERY = 60.0  # seconds between two checkpoints


class Interrupted(KeyboardInterrupt):
    """Training was interrupted; the step was finished and the run is saved."""


class Run:
    """A run's folder, made with `create` or opened with `open` or `resume`.

        run = Run.create(data="digits")
        run.train(steps=2000)
        x = run.sample(64)

    settings: see `Settings`. facts: of the data, whose units, shape (of a sample) and class_names are the run's too.
    net: the network with the EMA weights. trainer, data: None for a run that was opened only to be sampled.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        facts: DataFacts,
        net: nn.Network,
        step: int,
        trainer: Trainer | None = None,
        data: Dataset | None = None,
    ) -> None:
        self.folder, self.settings, self.facts, self._data = folder, settings, facts, data
        self.units, self.shape, self.class_names = facts.units, facts.shape, facts.class_names
        self.net, self.trainer, self._step = net, trainer, step
        self.schedule = settings.schedule.build()

    @classmethod
    def create(
        cls, folder: str | Path | None = None, *, data: str | Path | Dataset, seed: int = 0, **options: Any
    ) -> Run:
        """Make a new run, and save its first checkpoint.

        folder: new or empty; by default runs/NAME of the data, or runs/NAME-2 and so on. data: a name that
        `datasets.NAMES` has, a path, or a `Dataset`. options: as of `presets.settings`, such as schedule="cosine",
        classes=True, lr=0.002, or of `LoadingOptions` for the data at a path.

        Raises FileExistsError where the folder holds anything, TypeError or ValueError for options that do not fit,
        and what `datasets.load` raises.
        """
        names = {about.name for about in fields(LoadingOptions)} & options.keys()
        loading = _loading(data, {name: options.pop(name) for name in names})
        dataset = data if isinstance(data, Dataset) else load(data, seed, loading)
        source = _source(data)
        settings = replace(presets.settings(dataset, source, seed, **options), loading=loading)
        folder = Path(folder) if folder else free_folder(Path(source).stem)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise FileExistsError(
                f"{folder} is there and not empty; name a new folder, or resume it if it is a run"
            )
        trainer = _trainer_of(settings, dataset)
        if isinstance(options.get("net"), Mapping):
            _check_network(trainer.net, dataset.x[:1])
        run = cls(folder, settings, DataFacts.of(dataset), trainer.ema_net, 0, trainer, dataset)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(f"the folder {folder} cannot be made: {error.strerror}") from error
        text = json.dumps(asdict(settings), indent=2, ensure_ascii=False) + "\n"
        files.replace(folder / SETTINGS, text.encode())
        run.save()
        return run

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """A run to sample from. Raises FileNotFoundError where there is none, ValueError for a damaged one."""
        with _checkpoint(Path(folder)) as (settings, facts, sections):
            net = nn.build(settings.net, np.random.default_rng(settings.seed))
            fill({name: p.data for name, p in net.named_parameters().items()}, sections["ema"][1], "ema")
            return cls(Path(folder), settings, facts, net, sections["adam"][0]["step"])

    @classmethod
    def resume(cls, folder: str | Path, data: str | Path | Dataset | None = None) -> Run:
        """A run to train further, on the data of its settings.

        data: the same data, if it was made in Python; or the path where it is now, which the run then keeps. Raises as
        `open`, and ValueError where the data has changed.
        """
        folder = Path(folder)
        with _checkpoint(folder) as (settings, facts, sections):
            dataset = _load(settings, facts, folder, data)
            if data is not None:
                settings = replace(settings, data=_source(data))
            trainer = _trainer_of(settings, dataset)
            trainer.restore(sections)
        run = cls(folder, settings, DataFacts.of(dataset), trainer.ema_net, trainer.step, trainer, dataset)
        run._cut_metrics()
        return run

    @property
    def step(self) -> int:
        """How many steps were made."""
        return self.trainer.step if self.trainer else self._step

    def data(self, data: str | Path | Dataset | None = None) -> Dataset:
        """The data that the run was trained on, loaded when it is first needed.

        data: as of `resume`. Raises what `datasets.load` raises, and ValueError where the data has changed.
        """
        if self._data is None:
            self._data = _load(self.settings, self.facts, self.folder, data)
        return self._data

    # ---- training

    def train(
        self, steps: int | None = None, minutes: float | None = None, progress: TextIO | bool | None = True
    ) -> None:
        """Train until `steps` were made in all, or for `minutes` from now, whichever is first; then save.

        By default it makes the steps of `presets.STEPS`. progress: where to show how it goes; True: on stderr; None:
        nowhere. Ctrl-C finishes the step, saves, and raises `Interrupted`. Raises `Diverged`, with the last checkpoint
        kept.
        """
        if steps is None and minutes is None:
            steps = presets.steps_for(self.settings)
        seconds = 60 * minutes if minutes else None
        progress = sys.stderr if progress is True else progress
        bar = Progress("step", progress, steps, self.step, seconds) if progress else None
        with interruptible() as interrupted:
            try:
                for step in self.train_iter(steps, minutes):
                    if bar:
                        bar.update(step.step, f"loss {step.loss:.4f}")
                    if interrupted:
                        break
            finally:
                if bar:
                    bar.finish()
            self.save()
        if interrupted:
            raise Interrupted(f"stopped after step {self.step}, saved in {self.folder}")

    def train_iter(self, steps: int | None = None, minutes: float | None = None) -> Iterator[Step]:
        """`Trainer.run` as a generator, with metrics written and a checkpoint every minute; call `save` after it.

        Nothing happens until it is iterated over; `train` is the plain function. Raises `Diverged`, with the last
        checkpoint kept.
        """
        trainer = self._trainable()
        saved_at = time.monotonic()
        begin = saved_at - next((row["seconds"] for row in reversed(self.metrics())), 0.0)
        saved, losses = self.step, list[float]()
        with open(self.folder / METRICS, "a") as metrics:
            try:
                for step in trainer.run(steps, minutes):
                    now = time.monotonic()
                    losses.append(step.loss)
                    if step.step % LOG_EVERY == 0 or step.step == steps:
                        row = {"loss": float(np.mean(losses)), "seconds": round(now - begin, 3)}
                        metrics.write(json.dumps(step._asdict() | row) + "\n")
                        losses.clear()
                    if now - saved_at > SAVE_EVERY:
                        metrics.flush()
                        self.save()
                        saved, saved_at = step.step, now
                    yield step
            except Diverged as error:
                raise Diverged(f"{error}; {self.folder} keeps its checkpoint of step {saved}") from error

    def save(self) -> None:
        """Write the checkpoint of training as it stands. Raises ValueError for a run opened to be sampled."""
        sections: checkpoints.Sections = {
            "settings": (asdict(self.settings), {}),
            "data": (self.facts.to_json(), {}),
            **self._trainable().state(),
        }
        checkpoints.write(self.folder / CHECKPOINT, sections)

    def metrics(self) -> list[dict[str, float]]:
        """The lines of metrics that were written so far; not one that is half written."""
        path = self.folder / METRICS
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        try:
            return [json.loads(line) for line in lines if line.endswith("\n")]
        except ValueError as error:
            raise ValueError(f"{path} is damaged: {error}") from error

    def _cut_metrics(self) -> None:
        """Forget what was logged after the checkpoint: a run that was killed makes those steps again."""
        rows = [row for row in self.metrics() if row["step"] <= self.step]
        files.replace(self.folder / METRICS, "".join(json.dumps(row) + "\n" for row in rows).encode())

    def _trainable(self) -> Trainer:
        if self.trainer is None:
            raise ValueError(f"{self.folder} was opened to be sampled; open it with Run.resume to train it")
        return self.trainer

    # ---- sampling

    @property
    def variance(self) -> str:
        """The variance of its steps in the bound: the learned one where there is one, else β."""
        return "learned" if self.net.learned_variance else "large"

    def denoiser(self, conditioning: Conditioning = Conditioning()) -> Denoiser:
        """The network as samplers take it, conditioned; x̂₀ of images is clipped to their range.

        Raises ValueError for a class, or a guidance, that the network was not trained for.
        """
        clip = (-1, 1) if len(self.shape) == 3 else None
        training = self.settings.training
        denoiser = Denoiser(nn.frozen(self.net), self.schedule, training.prediction, clip)
        try:
            return conditioning.apply(denoiser, self.net.classes, training.label_drop > 0)
        except ValueError as error:
            raise ValueError(f"{self.folder}: {error}") from error

    def sample(
        self,
        count: int,
        conditioning: Conditioning = Conditioning(),
        recipe: Recipe = Recipe(),
        seed: int = 0,
        report: Callable[[int, int], None] = lambda done, total: None,
    ) -> np.ndarray:
        """(count, *shape) float32 samples in the data's own units; the first n are the same whatever the count.

        conditioning: what to sample, a class and the guidance towards it. recipe: how. Raises ValueError where one of
        them does not fit the run.
        """
        rng = np.random.default_rng(seed)
        x = generation.generate(self.denoiser(conditioning), self.shape, count, rng, recipe, report)
        return self.units.to_units(x)

    def draw(self, seed: int = 0) -> list[Path]:
        """Write loss.png, samples.png, animation.gif and trajectory.png; returns their paths."""
        from minidiff.evaluation import plots  # here, since matplotlib takes a while to import

        written = []
        if rows := self.metrics():
            written.append(self.folder / "loss.png")
            plots.loss_curve([int(row["step"]) for row in rows], [row["loss"] for row in rows], written[-1])
        data = None if self.trainer is None else self.trainer.x
        count = 64 if len(self.shape) == 3 else 4000
        rng = np.random.default_rng(seed)
        states = generation.trajectory(self.denoiser(), self.shape, count, rng, Recipe())
        frames = [plots.picture(state.x, self.units, data) for state in states]
        written += [self.folder / "samples.png", self.folder / "animation.gif"]
        plots.save(frames[-1], written[-2])
        plots.animate(frames, written[-1])
        written.append(self.folder / "trajectory.png")
        if len(self.shape) == 3:
            few = [state._replace(x=state.x[:6], x0=state.x0[:6]) for state in states]
            plots.save(plots.strip(few), written[-1])
        else:
            plots.save(plots.trajectories(states, self.units, data), written[-1])
        return written


def free_folder(name: str) -> Path:
    """runs/NAME, or runs/NAME-2 and so on where that is taken."""
    folder, number = Path("runs") / name, 1
    while folder.exists():
        number += 1
        folder = Path("runs") / f"{name}-{number}"
    return folder


def _loading(data: str | Path | Dataset, options: Mapping[str, Any]) -> LoadingOptions:
    """The options of loading, with paths that stay right in another folder."""
    loading = LoadingOptions(**options)
    if isinstance(data, Dataset) and loading != LoadingOptions():
        raise OptionError(f"{', '.join(options)}: expected a path of data with these options, got a Dataset")
    return loading if loading.held_out is None else replace(loading, held_out=_absolute(loading.held_out))


def _source(data: str | Path | Dataset) -> str:
    """The name of a data set, or the path of data, by which settings have it."""
    if isinstance(data, Dataset):
        return data.name
    return str(data) if str(data) in NAMES else _absolute(data)


def _absolute(path: str | Path) -> str:
    return str(Path(path).expanduser().resolve())


def _load(
    settings: Settings, facts: DataFacts, folder: Path, data: str | Path | Dataset | None = None
) -> Dataset:
    """The data of a run, or `data` in its place, if it is the same; else ValueError."""
    try:
        source = settings.data if data is None else data
        dataset = source if isinstance(source, Dataset) else load(source, settings.seed, settings.loading)
    except UnknownDataset as error:
        raise ValueError(
            f"{settings.data} was made in Python and cannot be loaded again: give it to Run.resume(folder, data=…)"
        ) from error
    facts.check(dataset, folder)
    return dataset


def _trainer_of(settings: Settings, data: Dataset) -> Trainer:
    """A trainer as the settings say, before its first step."""
    rng = np.random.default_rng(settings.seed)
    net = nn.build(settings.net, rng)
    labels = data.labels if net.classes else None
    return Trainer(net, settings.schedule.build(), data.x, labels, settings.training, rng=rng)


def _check_network(net: nn.Network, x: np.ndarray) -> None:
    """Raises ValueError for a network whose input or output has not the shape of the data."""
    output = net(x, np.array([1]))
    channels = x.shape[-1] * (2 if net.learned_variance else 1)
    if output.shape != (*x.shape[:-1], channels):
        raise ValueError(
            f"the network maps a sample of shape {x.shape[1:]} to {output.shape[1:]}, "
            f"expected {(*x.shape[1:-1], channels)}"
        )


@contextmanager
def _checkpoint(folder: Path) -> Iterator[tuple[Settings, DataFacts, checkpoints.Sections]]:
    """The checkpoint of a run: settings, facts of the data, all sections.

    What turns out to be missing or unknown in it within the block is a ValueError.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is not a run: expected a folder with a {CHECKPOINT} in it")
    sections, writer = checkpoints.read(path, SECTIONS)
    try:
        settings = Settings.from_facts(sections["settings"][0])
        facts = DataFacts.from_json(
            sections["data"][0], sections.get("batches", ({}, {}))[0].get("checksum", "")
        )
        yield settings, facts, sections
    except (AttributeError, KeyError, OverflowError, TypeError) as error:
        raise ValueError(f"{path}, written by {writer}, is not the checkpoint of a run: {error}") from error
