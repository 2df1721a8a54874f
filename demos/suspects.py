"""Eleven programs that sample, of which number 0 is right and ten have one fault each.

    python demos/suspects.py 3 0.5 0.04     mean and variance of x_t, as program 3 makes it, for data N(0.5, 0.04)

Every program is DDPM with σ_t² = β̃_t in T = 100 steps, β from 0.001 to 0.2, with the exact ε of the data. Mean and
variance are exact, with no sampling (O3). Which fault a number has is the exercise `find_the_fault.py`: it does not
stand in this file, which orders the faults by a hash of their names.
"""

import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import numpy as np

from minidiff import oracles, schedules
from minidiff.diffusion.noising import AffineStep
from minidiff.diffusion.schedules import Schedule

T, BETAS = 100, (1e-3, 0.2)
SCHEDULE = schedules.linear(T, *BETAS)


@dataclass(frozen=True)
class At:
    """The quantities of the step from t to s = t − 1."""

    t: int
    alpha: float
    beta: float
    a_t: float  # ᾱ_t
    a_s: float
    small: float  # β̃_t


def at(schedule: Schedule, t: int) -> At:
    arrays = schedule.alpha, schedule.beta, schedule.alpha_bar
    alpha, beta, a_t = (float(array[t]) for array in arrays)
    return At(t, alpha, beta, a_t, float(schedule.alpha_bar[t - 1]), float(schedule.posterior_variance[t]))


def by_eps(q: At, of_x: float, of_eps: float, sigma: float | None = None) -> AffineStep:
    """A step in the form of R4: of_x·x + of_eps·ε̂ + σz."""
    return AffineStep(q.t, q.t - 1, of_x, 0.0, of_eps, sqrt(q.small) if sigma is None else sigma)


def right(q: At) -> AffineStep:
    return by_eps(q, 1 / sqrt(q.alpha), -q.beta / sqrt(q.alpha * (1 - q.a_t)))


Fault = Callable[[At], AffineStep]

FAULTS: dict[str, Fault] = {
    "β̃ as the standard deviation": lambda q: right(q)._replace(sigma=q.small),
    "β where β̃ belongs, in the last step too": lambda q: right(q)._replace(sigma=sqrt(q.beta)),
    "noise in the last step": lambda q: right(q)._replace(sigma=sqrt(q.small or q.beta)),
    "no noise at all": lambda q: right(q)._replace(sigma=0.0),
    "β̃ with its fraction upside down": lambda q: right(q)._replace(
        sigma=sqrt((1 - q.a_t) / (1 - q.a_s) * q.beta) if q.t > 1 else 0.0
    ),
    "plus before ε in the mean": lambda q: by_eps(q, 1 / sqrt(q.alpha), q.beta / sqrt(q.alpha * (1 - q.a_t))),
    "√ᾱ where √α belongs": lambda q: by_eps(q, 1 / sqrt(q.a_t), -q.beta / sqrt(q.a_t * (1 - q.a_t))),
    "ᾱ squared in the root": lambda q: by_eps(q, 1 / sqrt(q.alpha), -q.beta / sqrt(q.alpha * (1 - q.a_t**2))),
    "α where ᾱ belongs in the root": lambda q: by_eps(q, 1 / sqrt(q.alpha), -q.beta / sqrt(q.alpha * q.beta)),
    "1 − ᾱ without its root": lambda q: by_eps(q, 1 / sqrt(q.alpha), -q.beta / sqrt(q.alpha) / (1 - q.a_t)),
    "the minus of −B/2A lost": lambda q: by_eps(q, -1 / sqrt(q.alpha), q.beta / sqrt(q.alpha * (1 - q.a_t))),
    "the noise of one step learned for ε": lambda q: by_eps(
        q, 1 / sqrt(q.alpha), -q.beta / sqrt(q.alpha * (1 - q.a_t)) * sqrt(q.beta / (1 - q.a_t))
    ),
    "v taken for ε": lambda q: AffineStep(
        q.t,
        q.t - 1,
        1 / sqrt(q.alpha),
        q.beta / sqrt(q.alpha),
        -q.beta / sqrt(q.alpha * (1 - q.a_t)) * sqrt(q.a_t),
        sqrt(q.small),
    ),
    "DDIM that counts its noise twice": lambda q: AffineStep(
        q.t, q.t - 1, 0.0, sqrt(q.a_s), sqrt(1 - q.a_s), sqrt(q.small)
    ),
    "DDIM with √ᾱ_t before x̂_0": lambda q: AffineStep(
        q.t, q.t - 1, 0.0, sqrt(q.a_t), sqrt(max(0.0, 1 - q.a_s - q.small)), sqrt(q.small)
    ),
    "the network evaluated one step too late": lambda q: right(q)._replace(t=max(1, q.t - 1)),
}
SCHEDULES: dict[str, Schedule] = {
    "β of 1000 steps over 100": schedules.linear(T),
    "β half as large": schedules.linear(T, *(beta / 2 for beta in BETAS)),
}
NAMES = (*FAULTS, *SCHEDULES)
ORDER = sorted(NAMES, key=lambda name: hashlib.sha256(f"617 {name}".encode()).hexdigest())[:10]


def moments(name: str, mean: float, variance: float) -> np.ndarray:
    """Mean and variance of x_t at t = 100, 99, …, 0, (101, 2), of the program with this fault; "" for the right one."""
    data, schedule = oracles.Gaussian(mean, variance), SCHEDULES.get(name, SCHEDULE)
    step_of = FAULTS.get(name, right)
    found = [(0.0, 1.0)]
    for t in range(T, 0, -1):
        before = [np.array([found[-1][0]]), np.array([[found[-1][1]]])]
        m, v = data.outcome(schedule, [step_of(at(schedule, t))], *before)
        found.append((m.item(), v.item()))
    return np.array(found)


def suspect(number: int, mean: float, variance: float) -> np.ndarray:
    """Mean and variance at t = 100, 99, …, 0, (101, 2), of program 0…10 for data N(mean, variance)."""
    return moments(("", *ORDER)[number], mean, variance)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: python demos/suspects.py NUMBER MEAN VARIANCE")
    number, mean, variance = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    pair, reference = suspect(number, mean, variance), suspect(0, mean, variance)
    print(f"program {number} for data N({mean:g}, {variance:g}), and the right one")
    print("    t       mean, variance       mean, variance")
    for t in (100, 99, 98, 80, 60, 40, 20, 10, 3, 2, 1, 0):
        print(f"  {t:3d}   " + "   ".join(f"{m:8.4g}, {v:8.4g}" for m, v in (pair[T - t], reference[T - t])))
