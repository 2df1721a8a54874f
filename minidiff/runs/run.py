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
belongs to the process that created or resumed it, for as long as its `Run` exists; others may sample from it. Where
several processes train it together, it belongs to that of rank 0, which alone reads and writes here.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from minidiff import kernels, nn
from minidiff.communicator import SINGLE, Communicator
from minidiff.datasets import Dataset, LoadingOptions, cache, load
from minidiff.diffusion import generation
from minidiff.diffusion.denoiser import Denoiser
from minidiff.diffusion.generation import Recipe
from minidiff.diffusion.guidance import Conditioning
from minidiff.options import facts
from minidiff.progress import Progress
from minidiff.runs import checkpoints, folders, lock, mpi, pictures, presets, reopening
from minidiff.runs.data_facts import DataFacts, load_again, loading_options, moved, source_of
from minidiff.runs.folders import CHECKPOINT, METRICS, SETTINGS
from minidiff.runs.interrupts import interruptible
from minidiff.runs.metrics import Metrics
from minidiff.runs.previews import Previews
from minidiff.runs.settings import Settings, write_settings
from minidiff.training.trainer import Diverged, Step, Trainer

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
    pending: as of `Metrics`. comm: the processes that train and sample together.
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
        comm: Communicator = SINGLE,
    ) -> None:
        self.comm = comm
        self.folder, self.settings, self.facts, self._data = folder, settings, facts, data
        self.units, self.shape, self.class_names = facts.units, facts.shape, facts.class_names
        self.net, self.trainer, self._step, self._lock = net, trainer, step, held
        self.schedule, self.precision = settings.schedule.build(), "float32"
        self._metrics = Metrics(folder / METRICS, pending)
        self._save_seconds = 0.0  # that the last checkpoint took

    @classmethod
    def create(
        cls,
        folder: str | Path | None = None,
        *,
        data: str | Path | Dataset,
        seed: int = 0,
        comm: Communicator | None = None,
        **options: Any,
    ) -> Run:
        """Make a new run, and save its first checkpoint.

        folder: new or empty; by default runs/NAME of the data, or runs/NAME-2 and so on. data: a name that
        `datasets.NAMES` has, a path, or a `Dataset`. options: as of `presets.settings`, such as schedule="cosine",
        classes=True, lr=0.002, or of `LoadingOptions` for the data at a path. comm: the processes that train together,
        each with the data at hand; by default those that `mpiexec` started.

        Raises FileExistsError where the folder holds anything, BlockingIOError where another process makes a run there,
        TypeError or ValueError for options that do not fit, and what `datasets.load` raises. Then nothing is left.
        """
        comm = comm or mpi.world()
        names = {about.name for about in fields(LoadingOptions)} & options.keys()
        loading = loading_options(data, {name: options.pop(name) for name in names})
        source = source_of(data)
        folder = comm.broadcast(lambda: Path(folder or folders.free_folder(Path(source).stem)))
        with ExitStack() as stack:
            hidden, held = comm.on_root(lambda: stack.enter_context(folders.new(folder))) or (folder, None)
            dataset = (
                data if isinstance(data, Dataset) else load(data, seed, loading, hidden if held else None)
            )
            settings = replace(presets.settings(dataset, source, seed, **options), loading=loading)
            trainer = trainer_of(settings, dataset, comm=comm)
            if isinstance(options.get("net"), Mapping):
                _check_network(trainer.net, dataset.x[:1])
            of_data = DataFacts.of(dataset)

            def write() -> float:
                cache.keep(hidden, dataset.decoded)
                made = cls(hidden, settings, of_data, trainer.ema_net, 0, trainer)
                made.save()
                write_settings(hidden, settings)
                return made._save_seconds

            save_seconds = comm.on_root(write)
        # The same; but on Windows it did not outlive the renaming.
        held = comm.on_root(lambda: lock.take(folder))
        run = cls(folder, settings, of_data, trainer.ema_net, 0, trainer, dataset, held, comm=comm)
        run._save_seconds = save_seconds or 0.0
        return run

    @classmethod
    def open(cls, folder: str | Path, precision: str = "float32", comm: Communicator | None = None) -> Run:
        """A run to sample from. Raises FileNotFoundError where there is none, ValueError for a damaged one.

        precision: that of its `denoiser`, as of `nn.frozen`. comm: the processes that sample together; by default those
        that `mpiexec` started.
        """
        nn.require_precision(precision)
        folder, comm = Path(folder), comm or mpi.world()
        with reopening.checkpoint(folder, comm) as (settings, facts, sections):
            net, step = reopening.ema_net(settings, sections), sections["adam"][0]["step"]
            run = cls(folder, settings, facts, net, step, comm=comm)
            run.precision = precision
            return run

    @classmethod
    def resume(
        cls,
        folder: str | Path,
        data: str | Path | Dataset | None = None,
        held_out: str | Path | None = None,
        comm: Communicator | None = None,
    ) -> Run:
        """A run to train further, on the data of its settings; with the same bits by any number of processes.

        data: the same data, if it was made in Python; or the path where it is now, which the run then keeps. A network
        that was imported without data takes any of its shape. held_out: the path where the data of the option
        `held_out` is now. comm: as of `create`. Raises as `open`, BlockingIOError where another process trains it, and
        ValueError where the data has changed.
        """
        folder, comm = Path(folder), comm or mpi.world()
        held = comm.on_root(lambda: reopening.claim(folder))
        with reopening.checkpoint(folder, comm, verify=True) as (kept, of_data, sections):
            settings = moved(kept, data, held_out)
            dataset = load_again(settings, of_data, folder, data, keep=comm.rank == 0)
            net = reopening.ema_net(kept, sections) if kept.data is None else None
            trainer = trainer_of(settings, dataset, net, comm)
            if net is None:
                trainer.restore(sections)
            pending = reopening.pending_losses(sections)
        of_data, step = DataFacts.of(dataset), trainer.step
        run = cls(folder, settings, of_data, trainer.ema_net, step, trainer, dataset, held, pending, comm)

        def write() -> None:
            run._metrics.cut(step)  # a run that was killed makes those steps again
            if settings != kept or not (folder / SETTINGS).exists():
                write_settings(folder, settings)

        comm.on_root(write)
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
            settings, keep = moved(self.settings, data, held_out), self.comm.rank == 0
            self._data = load_again(settings, self.facts, self.folder, data, keep)
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

        By default it makes `presets.STEPS`. progress: where to show how it goes; True: on stderr; None: nowhere.
        preview: minutes to the first preview (`runs.previews`); 0: none is drawn. Ctrl-C finishes the step, saves, and
        raises `Interrupted`. Raises `Diverged`, with the last checkpoint kept.
        """
        if steps is None and minutes is None:
            steps = presets.STEPS
        seconds = 60 * minutes if minutes else None
        stream = None if self.comm.rank else sys.stderr if progress is True else progress or None
        epoch = len(self._trainable().x) / self.settings.training.batch
        bar = Progress("step", stream, steps, self.step, seconds, epoch)
        previews = Previews(self, preview) if preview and self.comm.rank == 0 else None
        with interruptible() as interrupted:
            try:
                with closing(self.train_iter(steps, minutes, lambda: bool(interrupted))) as made:
                    for step in made:
                        bar.update(step.step, f"loss {step.loss:.4f}")
                        if previews:
                            previews.after_step()
            finally:
                bar.finish()
            kernels.release()  # the buffers of a step are of no use for what follows, such as drawing
            self.save()
            stopped = self.comm.any(bool(interrupted))
        if stopped:
            raise Interrupted(f"stopped after step {self.step}, saved in {self.folder}")

    def train_iter(
        self,
        steps: int | None = None,
        minutes: float | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Generator[Step]:
        """`Trainer.run` as a generator, with metrics and checkpoints written; call `save` after it.

        There is a checkpoint every minute, or as rarely as it takes for them to cost at most 2 % of the time.
        Nothing happens until it is iterated over; `train` is the plain function. Raises `Diverged`, with the last
        checkpoint kept.
        """
        trainer = self._trainable()
        if self.comm.rank:
            yield from trainer.run(steps, minutes, stop)
            return
        saved_at = time.monotonic()
        begin = saved_at - next((row["seconds"] for row in reversed(self.metrics())), 0.0)
        saved = self.step
        try:
            for step in trainer.run(steps, minutes, stop):
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
        """Write the checkpoint of training as it stands, on rank 0. Raises ValueError for one opened to be sampled."""
        trainer = self._trainable()
        if self.comm.rank == 0:
            self.write(trainer.state())

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
        with reopening.checkpoint(self.folder, self.comm, verify=True):
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

        conditioning: what to sample, a class and the guidance towards it. recipe: how. Several processes draw them
        together; rank 0 returns them, the others none. Raises ValueError where one of
        them does not fit the run.
        """
        rng = np.random.default_rng(seed)
        x = generation.generate(
            self.denoiser(conditioning), self.shape, count, rng, recipe, report, self.comm
        )
        return self.units.to_units(x)

    def draw(self, seed: int = 0) -> list[Path]:
        """Write the pictures of the run, and the report with them in it; returns their paths."""
        return pictures.draw(self, seed)


def trainer_of(
    settings: Settings, data: Dataset, net: nn.Network | None = None, comm: Communicator = SINGLE
) -> Trainer:
    """A trainer as the settings say, before its first step. net: that of the settings, with other initial weights."""
    rng = np.random.default_rng(settings.seed)
    net = nn.build(settings.net, rng) if net is None else net
    labels = data.labels if net.classes else None
    return Trainer(net, settings.schedule.build(), data.x, labels, settings.training, rng=rng, comm=comm)


def _check_network(net: nn.Network, x: np.ndarray) -> None:
    """Raises ValueError for a network whose input or output has not the shape of the data."""
    output = net(x, np.array([1]))
    channels = x.shape[-1] * (2 if net.learned_variance else 1)
    if output.shape != (*x.shape[:-1], channels):
        raise ValueError(
            f"the network maps a sample of shape {x.shape[1:]} to {output.shape[1:]}, "
            f"expected {(*x.shape[1:-1], channels)}"
        )
