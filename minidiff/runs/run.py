"""A run is a folder: what was asked for, what was learned, how it went, and pictures of what it makes.

    settings.json    what was asked for, to be read by people
    metrics.jsonl    a line of JSON every few steps: step, loss, norm, lr, seconds
    checkpoint.npz   all that sampling and resuming need
    loss.png  samples.png  animation.gif  way.png

A folder is a run from its first moment on: the checkpoint of step 0 is written before the first step is made.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from minidiff import datasets, files, nn
from minidiff.diffusion import generation, guidance, schedules
from minidiff.runs import checkpoints
from minidiff.datasets import Dataset, Units
from minidiff.diffusion.denoiser import Denoiser
from minidiff.training.trainer import Diverged, Step, Trainer, fill

CHECKPOINT, SETTINGS, METRICS = "checkpoint.npz", "settings.json", "metrics.jsonl"
LOG_EVERY = 10  # steps between two lines of metrics
SAVE_EVERY = 60.0  # seconds between two checkpoints


@dataclass(frozen=True)
class Settings:
    """All that decides what a run learns.

    net: a description as `nn.build` takes. schedule: {'name': …, 'T': …, …} as `schedule_of` takes. seed: of
    the weights' start, the data's order, times and noise. The other fields are those of `Trainer`; labels are
    told where the net has classes.
    """

    data: str
    net: dict[str, object]
    schedule: dict[str, object]
    batch: int = 128
    lr: float = 1e-3
    warmup: int = 200
    clip: float = 1.0
    decay: float = 0.9999
    times: str = "antithetic"
    seed: int = 0
    prediction: str = "eps"
    weighting: str = "simple"
    label_drop: float = 0.0


def schedule_of(description: dict[str, object]) -> schedules.Schedule:
    """The schedule {'name': …} of `schedules.SCHEDULES` with the description's other entries as arguments.

    An entry 'zero_terminal_snr', if true, changes it as `schedules.zero_terminal_snr` does.
    """
    arguments = dict(description)
    name, to_zero = arguments.pop("name"), arguments.pop("zero_terminal_snr", False)
    schedule = schedules.SCHEDULES[name](**arguments)
    return schedules.zero_terminal_snr(schedule) if to_zero else schedule


class Run:
    """A run's folder, made with `create` or opened with `open` or `resume`.

    net: the network with the averaged weights. trainer: None for a run that was opened only to be sampled.
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
        self.schedule = schedule_of(settings.schedule)

    @classmethod
    def create(cls, folder: Path, settings: Settings, data: Dataset) -> Run:
        """Lay a new run and its first checkpoint. Raises FileExistsError where the folder holds anything."""
        folder = Path(folder)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise FileExistsError(
                f"{folder} is there and not empty; name a new folder, or go on with --resume if it is a run"
            )
        trainer = _trainer_of(settings, data)
        run = cls(folder, settings, data.units, data.x.shape[1:], trainer.average, 0, trainer)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(f"the folder {folder} cannot be made: {error.strerror}") from error
        text = json.dumps(asdict(settings), indent=2, ensure_ascii=False) + "\n"
        files.replace(folder / SETTINGS, text.encode())
        run.save()
        return run

    @classmethod
    def open(cls, folder: Path) -> Run:
        """A run to sample from. Raises FileNotFoundError where there is none, ValueError for a damaged one."""
        with _understood(Path(folder)) as (settings, units, shape, arrays, facts):
            net = nn.build(settings.net, np.random.default_rng(settings.seed))
            fill({name: p.data for name, p in net.named_parameters().items()}, arrays, "average")
            return cls(Path(folder), settings, units, shape, net, facts["step"])

    @classmethod
    def resume(cls, folder: Path) -> Run:
        """A run to train further, on the data of its settings. Raises as `open`, and where the data has changed."""
        with _understood(Path(folder)) as (settings, units, shape, arrays, facts):
            data = datasets.load(settings.data, settings.seed)
            if data.units != units or data.x.shape[1:] != shape:
                raise ValueError(f"{settings.data} is not what {folder} was begun with: other shape or range")
            trainer = _trainer_of(settings, data)
            trainer.restore(arrays, facts)
        run = cls(Path(folder), settings, units, shape, trainer.average, trainer.step, trainer)
        run._cut_metrics()
        return run

    @property
    def step(self) -> int:
        """How many steps were made."""
        return self.trainer.step if self.trainer else self._step

    # ---- training

    def train(self, steps: int | None = None, minutes: float | None = None) -> Iterator[Step]:
        """`Trainer.run`, with metrics written along the way and a checkpoint every minute; call `save` after it.

        Raises `Diverged`, with the last checkpoint left as it is.
        """
        self._check_trainable()
        saved_at = time.monotonic()
        begin = saved_at - next((row["seconds"] for row in reversed(self.metrics())), 0.0)
        saved, losses = self.step, []
        with open(self.folder / METRICS, "a") as metrics:
            try:
                for step in self.trainer.run(steps, minutes):
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
        """Write the checkpoint of training as it stands."""
        self._check_trainable()
        arrays, facts = self.trainer.state()
        about = {"settings": asdict(self.settings), "units": self.units.to_dict(), "shape": list(self.shape)}
        checkpoints.write(self.folder / CHECKPOINT, arrays, {**about, "trainer": facts})

    def metrics(self) -> list[dict[str, float]]:
        """The lines of metrics that were written so far; not one that is half written."""
        path = self.folder / METRICS
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def _cut_metrics(self) -> None:
        """Forget what was logged after the checkpoint: a run that was killed makes those steps again."""
        rows = [row for row in self.metrics() if row["step"] <= self.step]
        files.replace(self.folder / METRICS, "".join(json.dumps(row) + "\n" for row in rows).encode())

    def _check_trainable(self) -> None:
        if self.trainer is None:
            raise ValueError(f"{self.folder} was opened to be sampled; open it with Run.resume to train it")

    # ---- sampling

    @property
    def variance(self) -> str:
        """Which σ² its steps have in the bound: the learned one where there is one, else β."""
        return "learned" if self.net.answers == 2 else "large"

    def denoiser(self, label: int | np.ndarray | None = None, scale: float = 1.0) -> Denoiser:
        """The network as a sampler sees it; x̂₀ of images is held to their range.

        label: the class to draw, one or (B,), guided with `scale` (`guidance.classifier_free`); None: any. Raises
        ValueError for a class that the network was not trained on.
        """
        clip = (-1, 1) if len(self.shape) == 3 else None
        denoiser = Denoiser(nn.frozen(self.net), self.schedule, self.settings.prediction, clip)
        if label is None:
            return denoiser
        if not self.net.classes:
            raise ValueError(f"{self.folder} was trained without classes; train one with --classes")
        unknown = np.setdiff1d(label, range(self.net.classes))
        if len(unknown):
            raise ValueError(f"{self.folder} knows the classes 0…{self.net.classes - 1}, not {unknown[0]}")
        if scale != 1 and not self.settings.label_drop:
            raise ValueError(
                f"{self.folder} always knew the class in training, so it can be guided only with scale 1"
            )
        return guidance.classifier_free(denoiser, label, self.net.classes, scale)

    def draw(self, seed: int = 0) -> list[Path]:
        """Write loss.png, samples.png, animation.gif and way.png, and say which files those are."""
        from minidiff.evaluation import plots  # here, since matplotlib takes a while to come

        written = []
        if rows := self.metrics():
            written.append(self.folder / "loss.png")
            plots.loss_curve([row["step"] for row in rows], [row["loss"] for row in rows], written[-1])
        data = None if self.trainer is None else self.trainer.x
        count = 64 if len(self.shape) == 3 else 4000
        way = generation.trajectory(
            self.denoiser(), self.shape, count, np.random.default_rng(seed), generation.Recipe()
        )
        frames = [plots.picture(state.x, self.units, data) for state in way]
        written += [self.folder / "samples.png", self.folder / "animation.gif"]
        plots.save(frames[-1], written[-2])
        plots.animate(frames, written[-1])
        written.append(self.folder / "way.png")
        if len(self.shape) == 3:
            few = [state._replace(x=state.x[:6], x0=state.x0[:6]) for state in way]
            plots.save(plots.strip(few), written[-1])
        else:
            plots.save(plots.trajectories(way, self.units, data), written[-1])
        return written


def _trainer_of(settings: Settings, data: Dataset) -> Trainer:
    """A trainer as the settings say, before its first step."""
    rng = np.random.default_rng(settings.seed)
    net = nn.build(settings.net, rng)
    return Trainer(
        net,
        schedule_of(settings.schedule),
        data.x,
        data.labels if net.classes else None,
        rng=rng,
        batch=settings.batch,
        lr=settings.lr,
        warmup=settings.warmup,
        clip=settings.clip,
        decay=settings.decay,
        times=settings.times,
        prediction=settings.prediction,
        weighting=settings.weighting,
        label_drop=settings.label_drop,
    )


@contextmanager
def _understood(folder: Path) -> Iterator[tuple]:
    """What a run's checkpoint says: settings, units, shape of a sample, arrays, the trainer's facts.

    What turns out to be missing or unknown in it within the block is a ValueError.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is no run: expected a folder with a {CHECKPOINT} in it")
    arrays, facts = checkpoints.read(path)
    try:
        settings, units = Settings(**facts["settings"]), Units.from_dict(facts["units"])
        yield settings, units, tuple(facts["shape"]), arrays, facts["trainer"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is a checkpoint, but not that of a run: {error}") from error
