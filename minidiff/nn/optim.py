"""Adam, its warm-up, gradient clipping and the exponential moving average (EMA) of the weights, on one flat vector."""

from __future__ import annotations

import math

import numpy as np

from minidiff import kernels
from minidiff.nn.module import aligned_zeros


class Adam:
    """Kingma & Ba 2015: the mean and the mean square of past gradients, each corrected for its start at zero.

    first, second: these two, (n,) of the parameters' dtype; step: how many updates were made.
    """

    def __init__(
        self, values: np.ndarray, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8
    ) -> None:
        self.values = values
        self.first, self.second = (aligned_zeros(values.size, values.dtype) for _ in range(2))
        self.beta1, self.beta2, self.eps, self.step = beta1, beta2, eps, 0

    def update(self, gradients: np.ndarray, lr: float, scale: float = 1.0, ema: EMA | None = None) -> None:
        """Move the values, in place, by the gradients (n,), which count `scale` times and are 0 afterwards.

        ema: is updated with the new values in the same pass.
        """
        self.step += 1
        kernels.adam(
            self.values,
            gradients,
            [self.first, self.second],
            None if ema is None else ema.values,
            self.step,
            lr,
            (self.beta1, self.beta2),
            self.eps,
            scale,
            0.0 if ema is None else ema.decay_at(self.step),
        )


class EMA:
    """The exponential moving average of the weights, which is of use from the first step on.

    After step n the decay is min(decay, (1 + n) / (10 + n)): early it averages over about the last tenth of
    the steps made, in the long run over 1 / (1 − decay) of them. values (n,) starts as a copy of the parameters.
    """

    def __init__(self, values: np.ndarray, decay: float = 0.9999) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"the decay of the EMA must lie in [0, 1), got {decay}")
        self.values = aligned_zeros(values.size, values.dtype)
        self.values[...] = values
        self.decay = decay

    def decay_at(self, step: int) -> float:
        """How much of the average is kept at step number `step`, counted from 1; `Adam.update` updates it."""
        return min(self.decay, (1 + step) / (10 + step))


def warm_up(step: int, steps: int) -> float:
    """The fraction of the learning rate at a step counted from 1: rises linearly to 1 at `steps`, then stays."""
    return min(1.0, step / steps) if steps else 1.0


def clip_scale(gradients: np.ndarray, limit: float) -> tuple[float, float]:
    """The norm of the whole gradient and the factor that brings it down to `limit` where it is longer.

    A limit of infinity never clips. With a NaN in the gradient, norm and factor are NaN: nothing is hidden.
    """
    norm = math.sqrt(kernels.squared_norm(gradients))
    return norm, 1.0 if norm <= limit else limit / norm
