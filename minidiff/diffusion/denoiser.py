"""The seam between a network and a sampler: (x_t, t) → (x̂_0, ε̂).

A network says one thing of x_t: the noise in it (ε), the data behind it (x_0), or v. A sampler asks for x_0
and ε and does not care which the network predicts. A U-Net, an oracle and a plain function look the same
from there.

When x̂_0 is clipped, ε̂ is derived from it again (`noising.eps_from_x0`). A clipped x̂_0 beside the old ε̂
would say that x_t is what it is not: √ᾱ_t x̂_0 + √(1−ᾱ_t) ε̂ = x_t (F4) has to hold for what a sampler gets.

A network with twice the channels of x says in the second half, by a number from −1 to 1 a coordinate, where in
its possible range the variance of the step back lies (`learned_log_variance`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from minidiff.diffusion import noising
from minidiff.diffusion.noising import Time
from minidiff.diffusion.schedules import Schedule

PREDICTIONS = ("eps", "x0", "v")


class Prediction(NamedTuple):
    """What is known of x_t: x̂_0 and ε̂, of its shape, and log σ² of the step back where that is learned.

    The step is the one from t to t−1 of the denoiser's schedule; who wants longer ones respaces the schedule.
    """

    x0: np.ndarray
    eps: np.ndarray
    log_variance: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Denoiser:
    """`denoiser(x, t) → Prediction` for a network `net(x, t)` that predicts "eps", "x0" or "v".

    net: called with x (B, …), t (B,) ints, those of `schedule.times`, and a label (B,) where there is one;
        answers in the shape of x, or with twice the length of the last axis: the prediction, then the variance's
        place in its range.
    clip: (low, high), the range of the data, to which x̂_0 is held; or a function of x̂_0 that brings it there
        (`guidance.dynamic_threshold`); None leaves it as it is.
    label: one class for all, or (B,) of them; None: the network is not told any.

    Raises:
        ValueError: a prediction or a clip that is none of the above.
    """

    net: Callable[..., np.ndarray]
    schedule: Schedule
    prediction: str = "eps"
    clip: tuple[float, float] | Callable[[np.ndarray], np.ndarray] | None = None
    label: int | np.ndarray | None = None

    def __post_init__(self):
        if self.prediction not in PREDICTIONS:
            raise ValueError(f"expected prediction to be one of eps, x0, v, got {self.prediction!r}")
        if self.clip is None or callable(self.clip):
            return
        if not (len(self.clip) == 2 and self.clip[0] < self.clip[1]):
            raise ValueError(f"expected clip as (low, high) with low < high, got {self.clip}")

    def __call__(self, x: np.ndarray, t: Time) -> Prediction:
        """What the network says of x (B, …) at t, in 1…T of the schedule: one for all, or (B,) of them.

        A real t lies between the steps, with ᾱ_t as `Schedule.at` says; the network is asked at t itself.

        Raises:
            TypeError: x is no float array.
            ValueError: t out of range, or real on a respaced schedule; an answer of another shape; ε predicted
                where ᾱ_t = 0.
        """
        answer, place = _halves(self._ask(x, np.full(len(x), self._network_time(x, t))), x)
        if self.prediction == "eps":
            x0, eps = noising.x0_from_eps(self.schedule, x, answer, t), answer
        elif self.prediction == "x0":
            x0, eps = answer, noising.eps_from_x0(self.schedule, x, answer, t)
        else:
            x0 = noising.x0_from_v(self.schedule, x, answer, t)
            eps = noising.eps_from_v(self.schedule, x, answer, t)
        whole = np.asarray(t).dtype.kind != "f"  # a variance is learned for steps between whole times
        learned = place is not None and whole
        log_variance = learned_log_variance(self.schedule, place, t) if learned else None
        if self.clip is None:
            return Prediction(x0, eps, log_variance)
        x0 = self.clip(x0) if callable(self.clip) else np.clip(x0, *self.clip)
        return Prediction(x0, noising.eps_from_x0(self.schedule, x, x0, t), log_variance)

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
            return np.asarray(self.net(x, times), dtype=x.dtype)
        label = np.asarray(self.label)
        if label.shape not in ((), (len(x),)):
            raise ValueError(f"expected one label, or one for each of {len(x)} samples, got {label.shape}")
        return np.asarray(self.net(x, times, np.full(len(x), label)), dtype=x.dtype)


def learned_log_variance(schedule: Schedule, place: np.ndarray, t: Time) -> np.ndarray:
    """log σ_t² between log β̃_t, at place −1, and log β_t, at place 1 (Nichol & Dhariwal 2021); t in 1…T.

    These are the right variances where the data is a single point, and where it is N(0, I). β̃_2 stands for
    β̃_1 = 0. place: (B, …), an array or a Tensor. Raises ValueError for a schedule of one step.
    """
    low, high = _log_range(schedule)
    low, span = (noising.shaped(a[t], place) for a in (low, high - low))
    return low + span * ((place + 1) * 0.5)


def _log_range(schedule: Schedule) -> tuple[np.ndarray, np.ndarray]:
    """log β̃ and log β, (T+1,) each; index 0 repeats index 1."""
    if schedule.T < 2:
        raise ValueError("a learned variance needs a schedule of at least two steps: one has no β̃_2")
    low, high = schedule.posterior_variance.copy(), schedule.beta.copy()
    low[:2], high[0] = low[2], high[1]
    return np.log(low), np.log(high)


def _halves(answer: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """The prediction, and the variance's place where the network has said that too."""
    if answer.shape == x.shape:
        return answer, None
    channels = x.shape[-1]
    if x.ndim < 2 or answer.shape != (*x.shape[:-1], 2 * channels):
        raise ValueError(
            f"expected the network to answer in the shape of x, {x.shape}, or with twice the channels, "
            f"got {answer.shape}"
        )
    return answer[..., :channels], answer[..., channels:]
