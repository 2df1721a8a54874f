"""Algorithm 1 as a generator of steps (ledger S1). Everything that a step depends on is in one `Trainer`."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from minidiff import autograd as ag
from minidiff import nn
from minidiff.autograd import Tensor
from minidiff.datasets.batches import Batches
from minidiff.diffusion.schedules import Schedule
from minidiff.nn import optim
from minidiff.training.objectives import LOSS_AWARE, TIMES, LossAware, Objective, simple_loss

FACTS = ("step", "place", "data", "random")  # of a state: steps made, place in the order, checksum, generator


class Step(NamedTuple):
    """What is known after a step: its number (from 1), the loss of its batch, the gradient's norm, the rate."""

    step: int
    loss: float
    norm: float
    lr: float


class Diverged(ArithmeticError):
    """The loss or the gradient was NaN or infinite; the weights are those of the step before."""


class Trainer:
    """A network in training: its weights, their average, Adam, the order of the data and the random state.

    net: (x, t, label, rng) → ε_θ, or what else it is to predict; its parameters move into one vector here, so a
    network has one trainer.
    x (N, …): the data, in the network's range. labels (N,): told to the network where they are given, and each
    time with probability `label_drop` left out ("no class"): such a network can be guided without a classifier.
    rng: draws order, times, noise and dropout, in a fixed order at each step.
    batch, lr, warmup (steps until lr is reached), clip (longest gradient), decay (of the average), times (how t
    is drawn: 'uniform', 'antithetic' or 'loss-aware'), prediction and weighting (as of `Objective`): the settings;
    none depends on how long the training will be.

    average: the network over the averaged weights, which is the one to sample with.
    """

    def __init__(
        self,
        net: nn.Network,
        schedule: Schedule,
        x: np.ndarray,
        labels: np.ndarray | None = None,
        *,
        rng: np.random.Generator,
        batch: int = 128,
        lr: float = 1e-3,
        warmup: int = 200,
        clip: float = 1.0,
        decay: float = 0.9999,
        times: str = "antithetic",
        prediction: str = "eps",
        weighting: str = "simple",
        label_drop: float = 0.0,
    ) -> None:
        if batch < 1 or not lr > 0 or not clip > 0 or warmup < 0:
            raise ValueError(
                f"expected batch ≥ 1, lr > 0, clip > 0, warmup ≥ 0; got {batch}, {lr}, {clip}, {warmup}"
            )
        if times not in (*TIMES, LOSS_AWARE):
            raise ValueError(f"times must be one of {', '.join((*TIMES, LOSS_AWARE))}; got {times!r}")
        if labels is not None and not net.classes:
            raise ValueError("labels were given to a network that was built without classes")
        if not 0 <= label_drop <= 1:
            raise ValueError(f"expected label_drop, a probability, in [0, 1], got {label_drop}")
        if labels is not None and len(labels) != len(x):
            raise ValueError(f"expected a label for each of {len(x)} items, got {len(labels)}")
        self.net, self.schedule, self.x, self.labels, self.rng = net, schedule, x, labels, rng
        self.lr, self.warmup, self.clip = lr, warmup, clip
        self.draw_times = LossAware(schedule.T) if times == LOSS_AWARE else TIMES[times]
        self.objective = Objective(schedule, prediction, weighting)
        plain = (prediction, weighting, net.answers) == ("eps", "simple", 1) and times != LOSS_AWARE
        self._loss = self._simple_loss if plain else self._general_loss
        self.label_drop = label_drop
        self.parameters = nn.ParameterVector(net)
        self.adam = optim.Adam(self.parameters.values)
        self.ema = optim.EMA(self.parameters.values, decay)
        self.average = nn.twin(net, self.parameters, self.ema.values)
        self.batches = Batches(len(x), batch, rng)
        self._data = zlib.crc32(np.ascontiguousarray(x))

    @property
    def step(self) -> int:
        """How many steps were made."""
        return self.adam.step

    def run(self, steps: int | None = None, minutes: float | None = None) -> Iterator[Step]:
        """Train until `steps` were made in all, or for `minutes` from now, whichever is first; yield each step.

        Stop earlier by leaving the loop: between two steps everything is whole. Raises `Diverged`.
        """
        if steps is None and minutes is None:
            raise ValueError("say when to stop: steps, minutes or both")
        end = None if minutes is None else time.monotonic() + 60 * minutes
        while (steps is None or self.step < steps) and (end is None or time.monotonic() < end):
            yield self.advance()

    def advance(self) -> Step:
        """Make one step."""
        index = self.batches.draw()
        x0 = self.x[index]
        t = self.draw_times(self.rng, self.schedule.T, len(x0))
        noise = self.rng.standard_normal(x0.shape, dtype=x0.dtype)
        label = None if self.labels is None else self._told(self.labels[index])

        try:
            loss = self._loss(x0, t, noise, label)
            loss.backward()
            norm, scale = optim.clip_scale(self.parameters.gradients, self.clip)
            if not math.isfinite(loss.item() + norm):
                raise Diverged(
                    f"step {self.step + 1}: the loss is {loss.item()}, the gradient's norm {norm}; "
                    "training stopped before it. Try a lower learning rate"
                )
        except BaseException:
            self.parameters.gradients.fill(0)  # as every step finds it and leaves it
            raise
        lr = self.lr * optim.warm_up(self.step + 1, self.warmup)
        self.adam.update(self.parameters.gradients, lr, scale, self.ema)
        return Step(self.step, loss.item(), norm, lr)

    def _simple_loss(
        self, x0: np.ndarray, t: np.ndarray, noise: np.ndarray, label: np.ndarray | None
    ) -> Tensor:
        return simple_loss(self.net, self.schedule, x0, t, noise, label, self.rng)

    def _general_loss(
        self, x0: np.ndarray, t: np.ndarray, noise: np.ndarray, label: np.ndarray | None
    ) -> Tensor:
        losses = self.objective.losses(self.net, x0, t, noise, label, self.rng)
        if not isinstance(self.draw_times, LossAware):
            return ag.mean(losses)
        weights = self.draw_times.weights(t).astype(x0.dtype)
        self.draw_times.record(t, losses.data)
        return ag.mean(losses * weights)

    def _told(self, labels: np.ndarray) -> np.ndarray:
        """The labels of a batch with some of them dropped: classes, the number after the last, is "no class"."""
        if not self.label_drop:
            return labels
        dropped = self.rng.random(len(labels)) < self.label_drop
        return np.where(dropped, self.net.classes, labels)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, object]]:
        """All that the next steps depend on: arrays by name, and facts that fit into JSON."""
        arrays = {"order": self.batches.order}
        for kind, vector in self._vectors().items():
            arrays |= {f"{kind}/{name}": view.copy() for name, view in self.parameters.views(vector).items()}
        if isinstance(self.draw_times, LossAware):
            arrays["losses"] = self.draw_times.history.copy()
        facts = {"step": self.step, "place": self.batches.place, "data": self._data}
        facts["random"] = self.rng.bit_generator.state
        return arrays, facts

    def restore(self, arrays: dict[str, np.ndarray], facts: dict[str, object]) -> None:
        """Go on from a `state`, bit for bit. Raises ValueError where it is not that of this network and data."""
        try:
            order = arrays["order"]
            losses = arrays["losses"] if isinstance(self.draw_times, LossAware) else None
            step, place, data, state = (facts[name] for name in FACTS)
        except KeyError as error:
            raise ValueError(f"checkpoint: {error} is missing, so training cannot go on from it") from error
        if order.shape != self.batches.order.shape:
            raise ValueError(f"the checkpoint was trained on {len(order)} items, these are {len(self.x)}")
        if data != self._data:
            raise ValueError(
                "the data is not what the checkpoint was trained on, though it has as many items"
            )
        if losses is not None:
            if losses.shape != self.draw_times.history.shape:
                raise ValueError(f"checkpoint: losses has shape {losses.shape}, not that of this schedule")
            self.draw_times.history[...] = losses
        for kind, vector in self._vectors().items():
            fill(self.parameters.views(vector), arrays, kind)
        self.batches.order, self.batches.place = order, place
        self.adam.step = step
        self.rng.bit_generator.state = state

    def _vectors(self) -> dict[str, np.ndarray]:
        return {
            "parameters": self.parameters.values,
            "average": self.ema.values,
            "first": self.adam.first,
            "second": self.adam.second,
        }


def fill(views: dict[str, np.ndarray], arrays: dict[str, np.ndarray], kind: str) -> None:
    """Write the arrays 'kind/name' into the views by name; they must match in names and shapes."""
    for name, view in views.items():
        array = arrays.get(f"{kind}/{name}")
        if array is None or array.shape != view.shape:
            came = "is missing" if array is None else f"has shape {array.shape}"
            raise ValueError(f"checkpoint: {kind}/{name} {came}, this network needs {view.shape}")
        view[...] = array
