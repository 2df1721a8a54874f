"""A run is a folder: its settings, what was learned, how it went, and pictures of what it makes.

    settings.json    the settings, to be read by people
    metrics.jsonl    a line of JSON every few steps: step, loss, norm, lr, seconds
    checkpoint.npz   all that sampling and resuming need
    loss.png  samples.png  classes.png  animation.gif  trajectory.png
    previews/        samples from the same noise in the course of training
    report.html      all of it on one page
    decoded.npz  decoded_held_out.npz   the images, where they were in a folder or zip (`datasets.cache`)
    lock             held by the process that trains

A folder is a run from its first moment on: the checkpoint of step 0 is written before the first step is made. It
belongs to the process that created or resumed it, for as long as its `Run` exists; others may sample from it.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from minidiff import files, nn
from minidiff.datasets import Dataset, LoadingOptions, cache, load
from minidiff.diffusion import generation
from minidiff.diffusion.denoiser import Denoiser
from minidiff.diffusion.generation import Recipe
from minidiff.diffusion.guidance import Conditioning
from minidiff.options import facts
from minidiff.progress import Progress
from minidiff.runs import checkpoints, folders, lock, pictures, presets
from minidiff.runs.data_facts import DataFacts, load_again, loading_options, moved, source_of
from minidiff.runs.folders import CHECKPOINT, METRICS, SETTINGS
from minidiff.runs.interrupts import interruptible
from minidiff.runs.metrics import Metrics
from minidiff.runs.previews import Previews
from minidiff.runs.settings import Settings
from minidiff.training.trainer import Diverged, Step, Trainer, fill

SECTIONS = {"settings", "data", "parameters", "ema", "adam", "batches", "random", "loss-aware", "metrics"}
SAVE_EVERY = 60.0  # seconds between two checkpoints, at least
SAVE_FRACTION = 0.02  # of the time of training, at most, that checkpoints take


class Interrupted(KeyboardInterrupt):
    """Training was interrupted; the step was finished and the run is saved."""


class Run:
    """A run's folder, made with `create` or opened with `open` or `resume`.

        run = Run.create(data="digits")
        run.train(steps=2000)
        x = run.sample(64)

    settings: see `Settings`. facts: of the data, whose units, shape (of a sample) and class_names are the run's too.
    net: the network with the EMA weights. trainer, data and held: None for a run that was opened only to be sampled.
    pending: as of `Metrics`.
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
        held: lock.Lock | None = None,
        pending: Sequence[float] = (),
    ) -> None:
        self.folder, self.settings, self.facts, self._data = folder, settings, facts, data
        self.units, self.shape, self.class_names = facts.units, facts.shape, facts.class_names
        self.net, self.trainer, self._step, self._lock = net, trainer, step, held
        self.schedule, self.precision = settings.schedule.build(), "float32"
        self._metrics = Metrics(folder / METRICS, pending)
        self._save_seconds = 0.0  # that the last checkpoint took

    @classmethod
    def create(
        cls, folder: str | Path | None = None, *, data: str | Path | Dataset, seed: int = 0, **options: Any
    ) -> Run:
        """Make a new run, and save its first checkpoint.

        folder: new or empty; by default runs/NAME of the data, or runs/NAME-2 and so on. data: a name that
        `datasets.NAMES` has, a path, or a `Dataset`. options: as of `presets.settings`, such as schedule="cosine",
        classes=True, lr=0.002, or of `LoadingOptions` for the data at a path.

        Raises FileExistsError where the folder holds anything, BlockingIOError where another process makes a run there,
        TypeError or ValueError for options that do not fit, and what `datasets.load` raises. Then nothing is left.
        """
        names = {about.name for about in fields(LoadingOptions)} & options.keys()
        loading = loading_options(data, {name: options.pop(name) for name in names})
        source = source_of(data)
        folder = Path(folder) if folder else folders.free_folder(Path(source).stem)
        with folders.new(folder) as (hidden, held):
            dataset = data if isinstance(data, Dataset) else load(data, seed, loading, hidden)
            settings = replace(presets.settings(dataset, source, seed, **options), loading=loading)
            trainer = trainer_of(settings, dataset)
            if isinstance(options.get("net"), Mapping):
                _check_network(trainer.net, dataset.x[:1])
            of_data = DataFacts.of(dataset)
            cache.keep(hidden, dataset.decoded)
            made = cls(hidden, settings, of_data, trainer.ema_net, 0, trainer)
            made.save()
            write_settings(hidden, settings)
        held = lock.take(folder)  # the same; but on Windows it did not outlive the renaming
        run = cls(folder, settings, of_data, trainer.ema_net, 0, trainer, dataset, held)
        run._save_seconds = made._save_seconds
        return run

    @classmethod
    def open(cls, folder: str | Path, precision: str = "float32") -> Run:
        """A run to sample from. Raises FileNotFoundError where there is none, ValueError for a damaged one.

        precision: that of its `denoiser`, as of `nn.frozen`.
        """
        nn.require_precision(precision)
        with _checkpoint(Path(folder)) as (settings, facts, sections):
            net, step = _ema_net(settings, sections), sections["adam"][0]["step"]
            run = cls(Path(folder), settings, facts, net, step)
            run.precision = precision
            return run

    @classmethod
    def resume(
        cls,
        folder: str | Path,
        data: str | Path | Dataset | None = None,
        held_out: str | Path | None = None,
    ) -> Run:
        """A run to train further, on the data of its settings.

        data: the same data, if it was made in Python; or the path where it is now, which the run then keeps. A network
        that was imported without data takes any of its shape. held_out: the path where the data of the option
        `held_out` is now. Raises as `open`, BlockingIOError where another process trains it, and ValueError where the
        data has changed.
        """
        folder = Path(folder)
        _check_run(folder)
        held = lock.take(folder)
        folders.clear_temporaries(folder)
        with _checkpoint(folder, verify=True) as (kept, of_data, sections):
            settings = moved(kept, data, held_out)
            dataset = load_again(settings, of_data, folder, data)
            net = _ema_net(kept, sections) if kept.data is None else None
            trainer = trainer_of(settings, dataset, net)
            if net is None:
                trainer.restore(sections)
            pending = _pending_losses(sections)
        of_data, step = DataFacts.of(dataset), trainer.step
        run = cls(folder, settings, of_data, trainer.ema_net, step, trainer, dataset, held, pending)
        run._metrics.cut(run.step)  # a run that was killed makes those steps again
        if settings != kept or not (folder / SETTINGS).exists():
            write_settings(folder, settings)
        return run

    @property
    def step(self) -> int:
        """How many steps were made."""
        return self.trainer.step if self.trainer else self._step

    def data(self, data: str | Path | Dataset | None = None, held_out: str | Path | None = None) -> Dataset:
        """The data that the run was trained on, loaded when it is first needed.

        data, held_out: as of `resume`. Raises what `datasets.load` raises, and ValueError where the data has changed.
        """
        if self._data is None:
            self._data = load_again(moved(self.settings, data, held_out), self.facts, self.folder, data)
        return self._data

    # ---- training

    def train(
        self,
        steps: int | None = None,
        minutes: float | None = None,
        progress: TextIO | bool | None = True,
        preview: float = 1.0,
    ) -> None:
        """Train until `steps` were made in all, or for `minutes` from now, whichever is first; then save.

        By default it makes the steps of `presets.STEPS`. progress: where to show how it goes; True: on stderr; None:
        nowhere. preview: minutes to the first preview (`runs.previews`); 0: none is drawn. Ctrl-C finishes the
        step, saves, and raises `Interrupted`. Raises `Diverged`, with the last checkpoint kept.
        """
        if steps is None and minutes is None:
            steps = presets.steps_for(self.settings)
        seconds = 60 * minutes if minutes else None
        stream = sys.stderr if progress is True else progress or None
        epoch = len(self._trainable().x) / self.settings.training.batch
        bar = Progress("step", stream, steps, self.step, seconds, epoch)
        previews = Previews(self, preview) if preview else None
        with interruptible() as interrupted:
            try:
                with closing(self.train_iter(steps, minutes)) as made:
                    for step in made:
                        bar.update(step.step, f"loss {step.loss:.4f}")
                        if previews:
                            previews.after_step()
                        if interrupted:
                            break
            finally:
                bar.finish()
            self.save()
        if interrupted:
            raise Interrupted(f"stopped after step {self.step}, saved in {self.folder}")

    def train_iter(self, steps: int | None = None, minutes: float | None = None) -> Generator[Step]:
        """`Trainer.run` as a generator, with metrics and checkpoints written; call `save` after it.

        There is a checkpoint every minute, or as rarely as it takes for them to cost at most 2 % of the time.
        Nothing happens until it is iterated over; `train` is the plain function. Raises `Diverged`, with the last
        checkpoint kept.
        """
        trainer = self._trainable()
        saved_at = time.monotonic()
        begin = saved_at - next((row["seconds"] for row in reversed(self.metrics())), 0.0)
        saved = self.step
        try:
            for step in trainer.run(steps, minutes):
                now = time.monotonic()
                self._metrics.record(step, now - begin, last=step.step == steps)
                if now - saved_at > max(SAVE_EVERY, self._save_seconds / SAVE_FRACTION):
                    self.save()
                    saved, saved_at = step.step, time.monotonic()
                yield step
        except Diverged as error:
            raise Diverged(f"{error}; {self.folder} keeps its checkpoint of step {saved}") from error
        finally:
            self._metrics.close()

    def save(self) -> None:
        """Write the checkpoint of training as it stands. Raises ValueError for a run opened to be sampled."""
        self.write(self._trainable().state())

    def write(self, state: checkpoints.Sections) -> None:
        """Write the checkpoint of this state: the trainer's, or that of the EMA weights alone."""
        sections: checkpoints.Sections = {
            "settings": (facts(self.settings), {}),
            "data": (self.facts.to_json(), {}),
            "metrics": ({"pending": self._metrics.pending}, {}),
            **state,
        }
        begin = time.monotonic()
        self._metrics.sync()  # the checkpoint counts its lines
        checkpoints.write(self.folder / CHECKPOINT, sections)
        self._save_seconds = time.monotonic() - begin

    def verify(self) -> None:
        """Read all of the checkpoint, of which `open` reads a part; ValueError if anything in it is damaged."""
        with _checkpoint(self.folder, verify=True):
            pass

    def metrics(self) -> list[dict[str, float]]:
        """The lines of metrics that were written so far; not one that is damaged or half written."""
        return self._metrics.rows()

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
        clip = (-1, 1) if len(self.shape) == 3 and self.settings.clip_x0 else None
        training = self.settings.training
        denoiser = Denoiser(nn.frozen(self.net, self.precision), self.schedule, training.prediction, clip)
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
        """Write the pictures of the run, and the report with them in it; returns their paths."""
        return pictures.draw(self, seed)


def _ema_net(settings: Settings, sections: checkpoints.Sections) -> nn.Network:
    net = nn.build(settings.net, np.random.default_rng(settings.seed))
    fill({name: p.data for name, p in net.named_parameters().items()}, sections["ema"][1], "ema")
    return net


def trainer_of(settings: Settings, data: Dataset, net: nn.Network | None = None) -> Trainer:
    """A trainer as the settings say, before its first step. net: that of the settings, with other initial weights."""
    rng = np.random.default_rng(settings.seed)
    net = nn.build(settings.net, rng) if net is None else net
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
def _checkpoint(
    folder: Path, verify: bool = False
) -> Iterator[tuple[Settings, DataFacts, checkpoints.Sections]]:
    """The checkpoint of a run: settings, facts of the data, all sections; opened as by `checkpoints.opened`.

    What turns out to be missing or unknown in it within the block is a ValueError.
    """
    _check_run(folder)
    path = folder / CHECKPOINT
    with checkpoints.opened(path, SECTIONS, verify) as (sections, writer):
        try:
            settings = Settings.from_facts(sections["settings"][0])
            facts = DataFacts.from_json(
                sections["data"][0], sections.get("batches", ({}, {}))[0].get("checksum", "")
            )
            yield settings, facts, sections
        except (AttributeError, KeyError, OverflowError, TypeError) as error:
            raise ValueError(
                f"{path}, written by {writer}, is not the checkpoint of a run: {error}"
            ) from error


def _check_run(folder: Path) -> None:
    if not (folder / CHECKPOINT).is_file():
        raise FileNotFoundError(f"{folder} is not a run: expected a folder with a {CHECKPOINT} in it")


def _pending_losses(sections: checkpoints.Sections) -> list[float]:
    """The losses that no full line of metrics has yet; none in a checkpoint of version 0.1."""
    pending = sections.get("metrics", ({"pending": []}, {}))[0]["pending"]
    if not (isinstance(pending, list) and all(isinstance(x, float) and math.isfinite(x) for x in pending)):
        raise TypeError(f"expected the losses of the last steps, got {pending}")
    return pending


def write_settings(folder: Path, settings: Settings) -> None:
    """Write settings.json, for people."""
    text = json.dumps(facts(settings), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    files.replace(folder / SETTINGS, text.encode())
