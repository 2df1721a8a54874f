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

    Raises ValueError if it yields nothing.
    """
    last = deque(states, maxlen=1)
    if not last:
        raise ValueError("expected a sampler with steps left, got one that is exhausted: call it again")
    return last[0].x
