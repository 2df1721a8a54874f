"""What a sampler yields."""

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np


class State(NamedTuple):
    """After a step: the time reached, x at that time, and the x̂_0 that the step was made with, both (B, …)."""

    t: float
    x: np.ndarray
    x0: np.ndarray


def final(states: Iterable[State]) -> np.ndarray:
    """The samples: x of the last state of a sampler, run to its end.

    Raises ValueError if it yields nothing, NotFinite for samples that are not finite.
    """
    last = deque(states, maxlen=1)
    if not last:
        raise ValueError("expected a sampler with steps left, got one that is exhausted: call it again")
    return finite(last[0].x)


class NotFinite(ArithmeticError):
    """Samples with NaN or infinity in them: of a network that diverged, or of options too large to compute with."""


def finite(x: np.ndarray) -> np.ndarray:
    """Samples (B, …) as they are. Raises NotFinite where one of their numbers is not finite."""
    usable = np.isfinite(x).all(axis=tuple(range(1, x.ndim)))
    if not usable.all():
        raise NotFinite(
            f"{np.count_nonzero(~usable)} of {len(x)} samples are not finite: the network has diverged in training, "
            "or an option of the sampler, or the guidance, is too large"
        )
    return x
