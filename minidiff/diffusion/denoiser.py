"""The interface between a network and a sampler: (x_t, t) → (x̂_0, ε̂).

A network predicts one quantity from x_t: the noise in it (ε), the data (x_0), or v. A sampler needs x_0 and ε,
whichever of the three the network predicts; a U-Net, an oracle and a plain function are the same to it.

When x̂_0 is clipped, ε̂ is computed again from it (`noising.eps_from_x0`). A clipped x̂_0 beside the old ε̂ would
contradict x_t: √ᾱ_t x̂_0 + √(1−ᾱ_t) ε̂ = x_t (F4) must hold for the inputs of a sampler.

The second half of the channels of a network with twice the channels of x is an interpolation weight, from −1 to 1 for
each coordinate: it sets the variance of the reverse step between its lower and upper bound (`learned_log_variance`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from minidiff.diffusion import noising
from minidiff.diffusion.noising import AnyArray, Time
from minidiff.diffusion.schedules import Schedule

PREDICTIONS = ("eps", "x0", "v")


class _Arithmetic(AnyArray, Protocol):
    """An array, or a Tensor of the autograd engine: either can be shifted and scaled."""

    def __add__(self: "_A", other: np.ndarray | float, /) -> "_A": ...
    def __mul__(self: "_A", other: np.ndarray | float, /) -> "_A": ...


_A = TypeVar("_A", bound=_Arithmetic)


class Prediction(NamedTuple):
    """The estimates at x_t: x̂_0 and ε̂, of its shape, and log σ² of the reverse step where that is learned.

    The step is the one from t to t−1 of the denoiser's schedule; for longer steps, respace the schedule.
    """

    x0: np.ndarray
    eps: np.ndarray
    log_variance: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Denoiser:
    """`denoiser(x, t) → Prediction` for a network `net(x, t)` that predicts "eps", "x0" or "v".

    net: called with x (B, …), t (B,) ints, those of `schedule.times`, and a label (B,) where there is one;
        returns an array of the shape of x, or with twice the length of the last axis: the prediction, then the
        interpolation weight of the variance.
    clip: (low, high), the range of the data, to which x̂_0 is clipped; or a function that maps x̂_0 into that range
        (`guidance.dynamic_threshold`); None: no clipping.
    label: one class for all samples, or (B,) of them; None: the network is called without a label.

    Raises:
        TypeError: a net that cannot be called, or a schedule that is not a Schedule.
        ValueError: a prediction or a clip that is none of the above.
    """

    net: Callable[..., np.ndarray]
    schedule: Schedule
    prediction: str = "eps"
    clip: tuple[float, float] | Callable[[np.ndarray], np.ndarray] | None = None
    label: int | np.ndarray | None = None

    def __post_init__(self) -> None:
        if not (callable(self.net) and isinstance(self.schedule, Schedule)):
            got = f"{type(self.net).__name__} and {type(self.schedule).__name__}"
            raise TypeError(f"expected Denoiser(net, schedule, …): a network and a Schedule, got {got}")
        if self.prediction not in PREDICTIONS:
            raise ValueError(f"expected prediction to be one of eps, x0, v, got {self.prediction!r}")
        if self.clip is None or callable(self.clip):
            return
        if np.shape(self.clip) != (2,) or not self.clip[0] < self.clip[1]:
            raise ValueError(f"expected clip as (low, high) with low < high, got {self.clip}")

    def __call__(self, x: np.ndarray, t: Time) -> Prediction:
        """The network's estimates at x (B, …) and t, in 1…T of the schedule: one for all samples, or (B,) of them.

        A real t lies between the steps, with ᾱ_t interpolated by `Schedule.at`; the network is evaluated at t itself.

        Raises:
            TypeError: x is not a float array, or the network does not return an array.
            ValueError: t out of range, or real on a respaced schedule; a network output of another shape; ε predicted
                where ᾱ_t = 0.
        """
        output, weight = _split(self._evaluate(x, np.full(len(x), self._network_time(x, t))), x)
        if self.prediction == "eps":
            x0, eps = noising.x0_from_eps(self.schedule, x, output, t), output
        elif self.prediction == "x0":
            x0, eps = output, noising.eps_from_x0(self.schedule, x, output, t)
        else:
            x0 = noising.x0_from_v(self.schedule, x, output, t)
            eps = noising.eps_from_v(self.schedule, x, output, t)
        index = np.asarray(t)
        if index.dtype.kind == "f":
            weight = None  # a variance is learned for steps between whole times
        log_variance = None if weight is None else learned_log_variance(self.schedule, weight, index)
        if self.clip is None:
            return Prediction(x0, eps, log_variance)
        x0 = self.clip(x0) if callable(self.clip) else np.clip(x0, *self.clip)
        return Prediction(x0, noising.eps_from_x0(self.schedule, x, x0, t), log_variance)

    def _network_time(self, x: np.ndarray, t: Time) -> np.ndarray:
        """The original time of a time of the schedule, which may be real unless the schedule is respaced."""
        t = noising.time_index(self.schedule, t, x, first=1, whole=False)
        if t.dtype.kind != "f":
            original: np.ndarray = self.schedule.times[t]
            return original
        if self.schedule.times[-1] != self.schedule.T:
            raise ValueError("a respaced schedule has no times between its own: use the original schedule")
        return t

    def _evaluate(self, x: np.ndarray, times: np.ndarray) -> np.ndarray:
        label = None if self.label is None else np.asarray(self.label)
        if label is not None and label.shape not in ((), (len(x),)):
            raise ValueError(f"expected one label, or one for each of {len(x)} samples, got {label.shape}")
        output = self.net(x, times) if label is None else self.net(x, times, np.full(len(x), label))
        if output is None:
            raise TypeError("expected an array from the network, got None: does net(x, t) lack a return?")
        try:
            return np.asarray(output, dtype=x.dtype)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"expected an array from the network, got a {type(output).__name__}: {error}"
            ) from error


def learned_log_variance(schedule: Schedule, weight: _A, t: int | np.ndarray) -> _A:
    """log σ_t² interpolated from log β̃_t, at weight −1, to log β_t, at weight 1 (Nichol & Dhariwal 2021); t in 1…T.

    The bounds are the exact variances for data that is a single point, and for N(0, I). β̃_2 stands for β̃_1 = 0.
    weight: (B, …), an array or a Tensor. Raises ValueError for a schedule of one step.
    """
    log_low, log_high = _log_range(schedule)
    low, span = (noising.shaped(a[t], weight) for a in (log_low, log_high - log_low))
    return (weight + 1) * 0.5 * span + low


def _log_range(schedule: Schedule) -> tuple[np.ndarray, np.ndarray]:
    """log β̃ and log β, (T+1,) each; index 0 repeats index 1."""
    if schedule.T < 2:
        raise ValueError("a learned variance needs a schedule of at least two steps: one has no β̃_2")
    low, high = schedule.posterior_variance.copy(), schedule.beta.copy()
    low[:2], high[0] = low[2], high[1]
    return np.log(low), np.log(high)


def _split(output: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """The prediction, and the interpolation weight of the variance where the network outputs one."""
    if output.shape == x.shape:
        return output, None
    channels = x.shape[-1]
    if x.ndim < 2 or output.shape != (*x.shape[:-1], 2 * channels):
        raise ValueError(
            f"expected the network's output in the shape of x, {x.shape}, or with twice the channels, "
            f"got {output.shape}"
        )
    return output[..., :channels], output[..., channels:]
