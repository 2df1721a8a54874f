"""The seam between a network and a sampler: (x_t, t) → (x̂_0, ε̂).

A network says one thing of x_t: the noise in it (ε), the data behind it (x_0), or v. A sampler asks for x_0
and ε and does not care which the network predicts. A U-Net, an oracle and a plain function look the same
from there.

When x̂_0 is clipped, ε̂ is derived from it again (`noising.eps_from_x0`). A clipped x̂_0 beside the old ε̂
would say that x_t is what it is not: √ᾱ_t x̂_0 + √(1−ᾱ_t) ε̂ = x_t (F4) has to hold for what a sampler gets.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from minidiff import noising
from minidiff.noising import Time
from minidiff.schedules import Schedule


class Prediction(NamedTuple):
    """What is known of x_t: x̂_0 and ε̂, of its shape, and log σ² of the step back where that is learned."""

    x0: np.ndarray
    eps: np.ndarray
    log_variance: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Denoiser:
    """`denoiser(x, t) → Prediction` for a network `net(x, t)` that predicts "eps", "x0" or "v".

    net: called with x (B, …), t (B,) ints, those of `schedule.times`, and a label (B,) where there is one;
        answers in the shape of x.
    clip: (low, high), the range of the data, to which x̂_0 is held; None leaves it as it is.
    label: one class for all, or (B,) of them; None: the network is not told any.

    Raises:
        ValueError: a prediction or a clip that is none of the above.
    """

    net: Callable[..., np.ndarray]
    schedule: Schedule
    prediction: str = "eps"
    clip: tuple[float, float] | None = None
    label: int | np.ndarray | None = None

    def __post_init__(self):
        if self.prediction not in ("eps", "x0", "v"):
            raise ValueError(f"expected prediction to be one of eps, x0, v, got {self.prediction!r}")
        if self.clip is not None and not (len(self.clip) == 2 and self.clip[0] < self.clip[1]):
            raise ValueError(f"expected clip as (low, high) with low < high, got {self.clip}")

    def __call__(self, x: np.ndarray, t: Time) -> Prediction:
        """What the network says of x (B, …) at t, in 1…T of the schedule: one for all, or (B,) of them.

        A real t lies between the steps, with ᾱ_t as `Schedule.at` says; the network is asked at t itself.

        Raises:
            TypeError: x is no float array.
            ValueError: t out of range, or real on a respaced schedule; an answer that has not the shape of x;
                ε predicted where ᾱ_t = 0.
        """
        answer = self._ask(x, np.full(len(x), self._network_time(x, t)))
        if self.prediction == "eps":
            x0, eps = noising.x0_from_eps(self.schedule, x, answer, t), answer
        elif self.prediction == "x0":
            x0, eps = answer, noising.eps_from_x0(self.schedule, x, answer, t)
        else:
            x0 = noising.x0_from_v(self.schedule, x, answer, t)
            eps = noising.eps_from_v(self.schedule, x, answer, t)
        if self.clip is None:
            return Prediction(x0, eps)
        x0 = np.clip(x0, *self.clip)
        return Prediction(x0, noising.eps_from_x0(self.schedule, x, x0, t))

    def _network_time(self, x: np.ndarray, t: Time) -> np.ndarray:
        """The original time behind a time of the schedule, which may be real unless it is a respaced one."""
        t = noising.time_index(self.schedule, t, x, first=1, whole=False)
        if t.dtype.kind != "f":
            return self.schedule.times[t]
        if self.schedule.times[-1] != self.schedule.T:
            raise ValueError("a respaced schedule has no times between its own: sample the original one")
        return t

    def _ask(self, x: np.ndarray, times: np.ndarray) -> np.ndarray:
        if self.label is None:
            answer = np.asarray(self.net(x, times), dtype=x.dtype)
        else:
            label = np.asarray(self.label)
            if label.shape not in ((), (len(x),)):
                raise ValueError(
                    f"expected one label, or one for each of {len(x)} samples, got {label.shape}"
                )
            answer = np.asarray(self.net(x, times, np.full(len(x), label)), dtype=x.dtype)
        if answer.shape != x.shape:
            raise ValueError(
                f"expected the network to answer in the shape of x, {x.shape}, got {answer.shape}"
            )
        return answer
