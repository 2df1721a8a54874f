"""The settings of training, of its noise schedule and of its network (`minidiff.options` says what a setting is)."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass

from minidiff.diffusion import schedules
from minidiff.diffusion.denoiser import PREDICTIONS
from minidiff.nn import NETWORKS
from minidiff.options import OptionError, Options, setting
from minidiff.training.objectives import TIMES, WEIGHTINGS
from minidiff.training.unets import UNETS


@dataclass(frozen=True)
class TrainingOptions(Options):
    """How a network is trained (Algorithm 1); nothing here depends on how long the training will be.

    Raises OptionError, a ValueError that names the setting, for a value outside its range.
    """

    batch: int = setting(128, "samples per step", at_least=1)
    lr: float = setting(1e-3, "learning rate of Adam", above=0)
    warmup: int = setting(200, "steps over which the learning rate rises to its value", at_least=0)
    clip: float = setting(1.0, "largest norm of the gradient; inf: no clipping", above=0, infinite=True)
    ema_decay: float = setting(0.9999, "decay of the EMA of the weights", at_least=0, below=1)
    times: str = setting("antithetic", "how the time of each sample is drawn", choices=TIMES)
    prediction: str = setting("eps", "what the network predicts", choices=PREDICTIONS)
    weighting: str = setting("simple", "weight of the loss at each time", choices=WEIGHTINGS)
    label_drop: float = setting(
        0.0, "probability of dropping a label, for classifier-free guidance", at_least=0, at_most=1
    )
    flip: bool = setting(False, "mirror each image, left to right, with probability 1/2 whenever it is drawn")
    shards: int = setting(
        1,
        "cut the batch into so many pieces, which go through the network in turn, in less memory",
        at_least=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shards > self.batch:
            raise OptionError(f"shards: expected at most the batch, {self.batch}, got {self.shards}")


@dataclass(frozen=True)
class ScheduleOptions(Options):
    """Which noise schedule. Raises OptionError for a value outside its range, or that the schedule does not have.

    betas: β_1…β_T themselves, in place of a schedule by name; those of an imported network.
    """

    schedule: str = setting("linear", "the noise schedule", choices=schedules.SCHEDULES)
    T: int = setting(1000, "number of times", at_least=1, at_most=1_000_000)
    beta_start: float | None = setting(
        None, "first β, of a schedule that has one", type=float, above=0, below=1
    )
    beta_end: float | None = setting(
        None, "last β, of a schedule that has one", type=float, above=0, at_most=1
    )
    beta: float | None = setting(None, "the β of a constant schedule", type=float, above=0, below=1)
    zero_terminal_snr: bool = setting(
        False, "rescale the schedule so that ᾱ_T = 0; needs a prediction other than eps"
    )
    betas: Sequence[float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.betas is not None and (len(self.betas) != self.T or self._given()):
            raise OptionError(f"betas: expected T = {self.T} numbers and no other β, got {len(self.betas)}")
        parameters = inspect.signature(schedules.SCHEDULES[self.schedule]).parameters
        for name in self._given():
            if name not in parameters:
                raise OptionError(f"{name}: the {self.schedule} schedule has none")

    def build(self) -> schedules.Schedule:
        """The schedule itself."""
        if self.betas is None:
            schedule = schedules.SCHEDULES[self.schedule](T=self.T, **self._given())
        else:
            schedule = schedules.from_betas(self.betas)
        return schedules.zero_terminal_snr(schedule) if self.zero_terminal_snr else schedule

    def _given(self) -> dict[str, float]:
        betas = {"beta_start": self.beta_start, "beta_end": self.beta_end, "beta": self.beta}
        return {name: value for name, value in betas.items() if value is not None}


@dataclass(frozen=True)
class NetworkOptions(Options):
    """What is chosen of a network; the rest follows from the data (`presets.network`)."""

    net: str | None = setting(
        None, "kind of network; by default the one that fits the data", type=str, choices=NETWORKS
    )
    preset: str | None = setting(
        None, "the U-Net that the settings below start from, and how it is trained", type=str, choices=UNETS
    )
    width: int | None = setting(
        None, "channels, even; by default 128 for the MLP, 32 for the U-Net", type=int, at_least=4
    )
    multipliers: tuple[int, ...] | None = setting(
        None,
        "channels of each level of the U-Net, in widths, as 1,2,2; each level has half the sides",
        type=tuple,
        at_least=1,
    )
    depth: int | None = setting(
        None, "residual blocks a level of the U-Net, or hidden layers of the MLP", type=int, at_least=1
    )
    attention: tuple[int, ...] | None = setting(
        None,
        "levels of the U-Net that attend, each by its longer side in pixels, as 16,8",
        type=tuple,
        at_least=1,
    )
    heads: int | None = setting(None, "heads of each attention of the U-Net", type=int, at_least=1)
    groups: int | None = setting(None, "groups of each norm of the U-Net", type=int, at_least=1)
    dropout: float | None = setting(
        None, "dropout rate in the blocks of the U-Net", type=float, at_least=0, below=1
    )
    classes: bool = setting(False, "condition the network on the labels, for sampling by class and guidance")
    learn_variance: bool = setting(False, "learn the variance of the reverse step too")
