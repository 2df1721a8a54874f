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
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from minidiff import files, nn
from minidiff.datasets import NAMES, Dataset, Units, UnknownDataset, load
from minidiff.diffusion import generation
from minidiff.diffusion.denoiser import Denoiser
from minidiff.diffusion.generation import Recipe
from minidiff.diffusion.guidance import Conditioning
from minidiff.progress import Progress
from minidiff.runs import checkpoints, presets
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

    settings: see `Settings`. units: the map to the data's own units. shape: of a sample. net: the network with the
    EMA weights. trainer: None for a run that was opened only to be sampled.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        units: Units,
        shape: tuple[int, ...],
        net: nn.Network,
        step: int,
        trainer: Trainer | None = None,
    ) -> None:
        self.folder, self.settings, self.units, self.shape = folder, settings, units, shape
        self.net, self.trainer, self._step = net, trainer, step
        self.schedule = settings.schedule.build()

    @classmethod
    def create(
        cls, folder: str | Path | None = None, *, data: str | Path | Dataset, seed: int = 0, **options: Any
    ) -> Run:
        """Make a new run, and save its first checkpoint.

        folder: new or empty; by default runs/NAME of the data, or runs/NAME-2 and so on. data: a name that
        `datasets.NAMES` has, a path, or a `Dataset`. options: as of `presets.settings`, such as schedule="cosine",
        classes=True, lr=0.002.

        Raises FileExistsError where the folder holds anything, TypeError or ValueError for options that do not fit,
        and what `datasets.load` raises.
        """
        dataset = data if isinstance(data, Dataset) else load(data, seed)
        by_path = not isinstance(data, Dataset) and str(data) not in NAMES
        source = str(Path(str(data)).expanduser().resolve()) if by_path else dataset.name
        settings = presets.settings(dataset, source, seed, **options)
        folder = Path(folder) if folder else free_folder(Path(source).stem)
        check_free(folder)
        trainer = trainer_of(settings, dataset)
        if isinstance(options.get("net"), Mapping):
            _check_network(trainer.net, dataset.x[:1])
        run = cls(folder, settings, dataset.units, dataset.x.shape[1:], trainer.ema_net, 0, trainer)
        run.write_first(trainer.state())
        return run

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """A run to sample from. Raises FileNotFoundError where there is none, ValueError for a damaged one."""
        with _checkpoint(Path(folder)) as (settings, units, shape, sections):
            net = nn.build(settings.net, np.random.default_rng(settings.seed))
            fill({name: p.data for name, p in net.named_parameters().items()}, sections["ema"][1], "ema")
            return cls(Path(folder), settings, units, shape, net, sections["adam"][0]["step"])

    @classmethod
    def resume(cls, folder: str | Path, data: Dataset | None = None) -> Run:
        """A run to train further, on the data of its settings, or on `data` if it was made from a `Dataset`.

        Raises as `open`, and ValueError where the data has changed.
        """
        with _checkpoint(Path(folder)) as (settings, units, shape, sections):
            data = _load(settings) if data is None else data
            if data.units != units or data.x.shape[1:] != shape:
                raise ValueError(
                    f"{settings.data} is not the data that {folder} was trained on: other shape or range"
                )
            trainer = trainer_of(settings, data)
            trainer.restore(sections)
        run = cls(Path(folder), settings, units, shape, trainer.ema_net, trainer.step, trainer)
        run._cut_metrics()
        return run

    @property
    def step(self) -> int:
        """How many steps were made."""
        return self.trainer.step if self.trainer else self._step

    def data(self) -> Dataset:
        """The data that the run was trained on, loaded again. Raises what `datasets.load` raises."""
        return _load(self.settings)

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
        epoch = len(self._trainable().x) / self.settings.training.batch
        bar = Progress("step", progress, steps, self.step, seconds, epoch) if progress else None
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
        self._write(self._trainable().state())

    def write_first(self, state: checkpoints.Sections) -> None:
        """Make the folder, with the settings and a checkpoint of this state: the trainer's, or that of `ema` alone."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(f"the folder {self.folder} cannot be made: {error.strerror}") from error
        text = json.dumps(asdict(self.settings), indent=2, ensure_ascii=False) + "\n"
        files.replace(self.folder / SETTINGS, text.encode())
        self._write(state)

    def _write(self, state: checkpoints.Sections) -> None:
        sections: checkpoints.Sections = {
            "settings": (asdict(self.settings), {}),
            "data": ({"units": self.units.to_dict(), "shape": list(self.shape)}, {}),
            **state,
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
        clip = (-1, 1) if len(self.shape) == 3 and self.settings.clip_x0 else None
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


def check_free(folder: Path) -> None:
    """Raises FileExistsError where the folder of a new run holds anything."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(
            f"{folder} is there and not empty; name a new folder, or resume it if it is a run"
        )


def free_folder(name: str) -> Path:
    """runs/NAME, or runs/NAME-2 and so on where that is taken."""
    folder, number = Path("runs") / name, 1
    while folder.exists():
        number += 1
        folder = Path("runs") / f"{name}-{number}"
    return folder


def _load(settings: Settings) -> Dataset:
    if settings.data is None:
        raise ValueError(
            "the network was imported without data: import it again with --data DATA; edits take images with --from"
        )
    try:
        return load(settings.data, settings.seed)
    except UnknownDataset as error:
        raise ValueError(
            f"{settings.data} was made in Python and cannot be loaded again: give it to Run.resume(folder, data=…)"
        ) from error


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
def _checkpoint(folder: Path) -> Iterator[tuple[Settings, Units, tuple[int, ...], checkpoints.Sections]]:
    """The checkpoint of a run: settings, units, shape of a sample, all sections.

    What turns out to be missing or unknown in it within the block is a ValueError.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is not a run: expected a folder with a {CHECKPOINT} in it")
    sections, writer = checkpoints.read(path, SECTIONS)
    try:
        about = sections["data"][0]
        settings, units = Settings.from_facts(sections["settings"][0]), Units.from_dict(about["units"])
        yield settings, units, tuple(about["shape"]), sections
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}, written by {writer}, is not the checkpoint of a run: {error}") from error
