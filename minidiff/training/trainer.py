"""Algorithm 1 as a generator of steps (S1). Everything that a step depends on is in one `Trainer`."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np

from minidiff import memory, nn
from minidiff.autograd import Tensor, mean
from minidiff.datasets.batches import Batches
from minidiff.datasets.samples import Samples, checksum, checksum_0_1, small_as_array
from minidiff.diffusion.denoiser import Denoiser
from minidiff.diffusion.guidance import Conditioning
from minidiff.diffusion.schedules import Schedule
from minidiff.nn import optim
from minidiff.training.objectives import TIMES, LossAware, Objective, simple_loss
from minidiff.training.options import TrainingOptions
from minidiff.training.shards import Batch, add_as_tree
from minidiff.training.step_memory import require_memory

State = dict[str, tuple[dict[str, Any], Mapping[str, np.ndarray]]]
Clip = tuple[float, float] | Callable[[np.ndarray], np.ndarray] | None


class Step(NamedTuple):
    """A training step: its number (from 1), the loss of its batch, the norm of the gradient, the learning rate."""

    step: int
    loss: float
    norm: float
    lr: float


class Diverged(ArithmeticError):
    """The loss or the gradient was NaN or infinite; the weights are those of the step before."""


class Trainer:
    """A network in training: its weights, their EMA, Adam, the order of the data and the random state.

    net: (x, t, label, rng) → ε_θ, or whatever else it is to predict, an `nn.Network`. Its parameters move into one
        vector here, so a network has one trainer.
    x (N, …): the data, float32 in the network's range, an array or the `Samples` of a data set.
    labels (N,): given to the network, if it has classes, and dropped each time with probability `options.label_drop`;
        then it can be guided without a classifier.
    options: the settings (`TrainingOptions`).
    rng: draws order, mirroring, times, noise, dropped labels and dropout, in this order at each step.

    ema_net: the network over the averaged weights, which is the one to sample with (`denoiser`).

    Raises ValueError for data of another dtype than the network's, for labels of a network without classes, or not one
    for each item, and for points that are to be flipped; MemoryError where a step would not fit (`step_memory`).
    """

    def __init__(
        self,
        net: nn.Network,
        schedule: Schedule,
        x: np.ndarray | Samples,
        labels: np.ndarray | None = None,
        options: TrainingOptions = TrainingOptions(),
        *,
        rng: np.random.Generator,
    ) -> None:
        if x.dtype != net.dtype:
            raise ValueError(
                f"expected x in the network's dtype, {net.dtype}, got {x.dtype}: convert it first"
            )
        if labels is not None and not net.classes:
            raise ValueError("labels were given to a network that was built without classes")
        if labels is not None and len(labels) != len(x):
            raise ValueError(f"expected a label for each of {len(x)} items, got {len(labels)}")
        if options.flip and len(x.shape) != 4:
            raise ValueError(f"flip: expected images (N, H, W, C), which can be mirrored, got x {x.shape}")
        # The batch itself, its noise and x_t; what the network makes of them is more.
        memory.require(options.batch, 4 * x[:1].nbytes + 64, "samples in a batch")
        require_memory(net, options)
        self.net, self.schedule, self.labels, self.rng = net, schedule, labels, rng
        self.x = small_as_array(x)
        self.options = options
        self.draw_times = TIMES[options.times](schedule.T)
        self.objective = Objective(schedule, options.prediction, options.weighting)
        plain = (options.prediction, options.weighting, net.learned_variance) == ("eps", "simple", False)
        self._loss = self._general_loss
        if plain and not isinstance(self.draw_times, LossAware):
            self._loss = self._simple_loss
        self.parameters = nn.ParameterVector(net)
        self.adam = optim.Adam(self.parameters.values)
        self.ema = optim.EMA(self.parameters.values, options.ema_decay)
        self.ema_net = nn.ema_copy(net, self.parameters, self.ema.values)
        self.batches = Batches(len(x), options.batch, rng)
        self._checksum = checksum(x)

    @property
    def step(self) -> int:
        """How many steps were made."""
        return self.adam.step

    def denoiser(self, conditioning: Conditioning = Conditioning(), clip: Clip = None) -> Denoiser:
        """The trained network as samplers take it: its EMA weights as they are now, with the right prediction.

        clip: as of `Denoiser`; for images (−1, 1). Raises ValueError for a class that the network does not have.
        """
        denoiser = Denoiser(nn.frozen(self.ema_net), self.schedule, self.options.prediction, clip)
        return conditioning.apply(denoiser, self.net.classes, self.options.label_drop > 0)

    def run(self, steps: int | None = None, minutes: float | None = None) -> Iterator[Step]:
        """Train until `steps` were made in all, or for `minutes` from now, whichever is first; yield each step.

        Stop earlier by leaving the loop: between two steps the state is consistent. Raises `Diverged`.
        """
        if steps is None and minutes is None:
            raise ValueError("expected an end of training: steps, minutes or both")
        end = None if minutes is None else time.monotonic() + 60 * minutes
        while (steps is None or self.step < steps) and (end is None or time.monotonic() < end):
            yield self.advance()

    def advance(self) -> Step:
        """Make one step."""
        index = self.batches.draw()
        x0 = self._mirrored(self.x[index])
        t = self.draw_times(self.rng, self.schedule.T, len(x0))
        noise = self.rng.standard_normal(x0.shape, dtype=x0.dtype)
        label = None if self.labels is None else self._with_dropped(self.labels[index])

        try:
            loss = self._add_gradient(Batch(x0, t, noise, label, self._weights(t)))
            norm, scale = optim.clip_scale(self.parameters.gradients, self.options.clip)
            if not math.isfinite(loss + norm):
                raise Diverged(
                    f"step {self.step + 1}: the loss is {loss}, the gradient's norm {norm}; "
                    "training stopped before it. Try a lower learning rate"
                )
        except BaseException:
            self.parameters.gradients.fill(0)  # as every step expects and leaves it
            raise
        lr = self.options.lr * optim.warm_up(self.step + 1, self.options.warmup)
        self.adam.update(self.parameters.gradients, lr, scale, self.ema)
        return Step(self.step, loss, norm, lr)

    def _add_gradient(self, batch: Batch) -> float:
        """Add the gradient of a batch's loss to that of the parameters, shard by shard; returns the loss."""

        def term(shard: Batch, rng: np.random.Generator) -> float:
            loss, fraction = self._loss(shard, rng), len(shard.t) / len(batch.t)
            loss.backward(fraction)
            return fraction * loss.item()

        shards = zip(batch.shards(self.options.shards), self._generators(), strict=True)
        return add_as_tree([partial(term, shard, rng) for shard, rng in shards], self.parameters.gradients)

    def _generators(self) -> list[np.random.Generator]:
        """What draws the dropout of each shard: the trainer's own generator, or several seeded by a copy of it.

        Of the copy, so that order, times and noise of the next steps do not depend on the number of shards.
        """
        if self.options.shards == 1:
            return [self.rng]
        seed = int(copy.deepcopy(self.rng).integers(2**63))
        return [np.random.default_rng([seed, number]) for number in range(self.options.shards)]

    def _simple_loss(self, batch: Batch, rng: np.random.Generator) -> Tensor:
        return simple_loss(self.net, self.schedule, batch.x0, batch.t, batch.noise, batch.label, rng)

    def _general_loss(self, batch: Batch, rng: np.random.Generator) -> Tensor:
        losses = self.objective.losses(self.net, batch.x0, batch.t, batch.noise, batch.label, rng)
        if not isinstance(self.draw_times, LossAware) or batch.weight is None:
            return mean(losses)
        self.draw_times.record(batch.t, losses.data)
        return mean(losses * batch.weight)

    def _weights(self, t: np.ndarray) -> np.ndarray | None:
        """Those of the losses at times that were drawn with unequal probabilities."""
        if not isinstance(self.draw_times, LossAware):
            return None
        return self.draw_times.weights(t).astype(self.x.dtype)

    def _mirrored(self, x0: np.ndarray) -> np.ndarray:
        """A batch with half of its images mirrored, left to right, if the options say so."""
        if not self.options.flip:
            return x0
        mirrored = self.rng.random(len(x0)) < 0.5
        return np.where(mirrored[:, None, None, None], x0[:, :, ::-1], x0)

    def _with_dropped(self, labels: np.ndarray) -> np.ndarray:
        """The labels of a batch with some of them dropped: replaced by `classes`, which is "no class"."""
        if not self.options.label_drop:
            return labels
        dropped = self.rng.random(len(labels)) < self.options.label_drop
        return np.where(dropped, self.net.classes, labels)

    def state(self) -> State:
        """All that the next steps depend on, in named sections: facts that fit into JSON, and arrays by name.

        The arrays are views, which the next step changes: copy what is to be kept.
        """
        arrays = {name: self.parameters.views(vector) for name, vector in self._vectors().items()}
        moments = {f"{m}/{k}": array for m in ("first", "second") for k, array in arrays[m].items()}
        sections: State = {
            "parameters": ({}, arrays["parameters"]),
            "ema": ({}, arrays["ema"]),
            "adam": ({"step": self.step}, moments),
            "batches": (
                {"index": self.batches.index, "checksum": self._checksum},
                {"order": self.batches.order},
            ),
            "random": ({"generator": self.rng.bit_generator.state}, {}),
        }
        if isinstance(self.draw_times, LossAware):
            sections["loss-aware"] = {}, {"history": self.draw_times.history}
        return sections

    def restore(self, state: State) -> None:
        """Go on from a `state`, bit for bit. Raises ValueError where it is not that of this network and data."""
        try:
            facts, arrays = state["batches"]
            order, index, stored = arrays["order"], facts["index"], facts["checksum"]
            step, generator = state["adam"][0]["step"], state["random"][0]["generator"]
            history = state["loss-aware"][1]["history"] if isinstance(self.draw_times, LossAware) else None
        except KeyError as error:
            raise ValueError(f"checkpoint: {error} is missing, so training cannot go on from it") from error
        if order.shape != self.batches.order.shape:
            raise ValueError(f"the checkpoint was trained on {len(order)} items, these are {len(self.x)}")
        counts = all(type(count) is int and count >= 0 for count in (step, index))
        if (
            not counts
            or order.dtype.kind not in "ui"
            or not np.array_equal(np.sort(order), np.arange(len(order)))
        ):
            raise ValueError("checkpoint: expected the numbers of steps and items, and an order of the items")
        if stored != (checksum_0_1(self.x) if isinstance(stored, int) else self._checksum):
            raise ValueError(
                "the data is not what the checkpoint was trained on, though it has as many items"
            )
        if history is not None:
            losses = cast(LossAware, self.draw_times).history
            if losses.shape != history.shape:
                raise ValueError(
                    f"checkpoint: the history of losses has shape {history.shape}, expected {losses.shape}"
                )
            losses[...] = history
        for name, vector in self._vectors().items():
            section, prefix = ("adam", f"{name}/") if name in ("first", "second") else (name, "")
            fill(self.parameters.views(vector), state.get(section, ({}, {}))[1], section, prefix)
        self.batches.order, self.batches.index = order, index
        self.adam.step = step
        self.rng.bit_generator.state = generator

    def _vectors(self) -> dict[str, np.ndarray]:
        return {
            "parameters": self.parameters.values,
            "ema": self.ema.values,
            "first": self.adam.first,
            "second": self.adam.second,
        }


def fill(
    views: Mapping[str, np.ndarray], arrays: Mapping[str, np.ndarray], section: str, prefix: str = ""
) -> None:
    """Write the arrays of a section of a checkpoint into the views by name; names and shapes must match."""
    for name, view in views.items():
        array = arrays.get(prefix + name)
        if array is None or array.shape != view.shape:
            came = "is missing" if array is None else f"has shape {array.shape}"
            raise ValueError(f"checkpoint: {section}/{prefix}{name} {came}, this network has {view.shape}")
        view[...] = array
