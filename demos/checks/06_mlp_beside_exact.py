"""Checks of session 6: the exact ε by an oracle, the EMA by its memory of a constant, and v by its inverse."""

from collections.abc import Callable

import numpy as np
from comparison import compare

from minidiff import noising, oracles, schedules
from minidiff.nn import optim


def check_optimal_eps(f: Callable) -> str | None:
    """x_t ~ N(√ᾱ m, ᾱ v + 1−ᾱ), whose score is −(x − √ᾱ m)/(ᾱ v + 1−ᾱ); and ε* is −√(1−ᾱ) times the score (O1)."""
    schedule, t, m, v = schedules.linear(T=10, beta_start=0.02, beta_end=0.3), 4, 0.7, 0.3
    x, a = np.array([-1.0, 0.2, 1.5]), schedule.alpha_bar[4]
    off, total, sigma = x - np.sqrt(a) * m, a * v + 1 - a, np.sqrt(1 - a)
    errors = {
        "is it the score? ε* is −√(1−ᾱ) times that": -off / total,
        "has it the sign of the score? Noise points away from the data": -sigma * off / total,
        "have you left out the mean of the data?": sigma * x / total,
        "is the mean scaled by √ᾱ, as F4 does?": sigma * (x - m) / total,
        "is the mean scaled by ᾱ, where √ᾱ belongs?": sigma * (x - a * m) / total,
        "have you divided by 1−ᾱ alone, as if x_0 were known?": off / sigma,
        "does the data's variance lack its factor ᾱ?": sigma * off / (v + 1 - a),
        "is the data's variance scaled by √ᾱ? A variance takes the square of the factor": (
            sigma * off / (np.sqrt(a) * v + 1 - a)
        ),
        "have you multiplied by 1−ᾱ, the variance, where its square root belongs?": (1 - a) * off / total,
    }
    expected = oracles.Gaussian(m, v).eps(schedule, x[:, None], t)[:, 0]
    return compare(f"ε* for data N({m}, {v}) and ᾱ = {a:.3f}", f(x.copy(), a, m, v), expected, errors)


def check_update_ema(f: Callable) -> str | None:
    """Of the average is kept the smaller of `decay` and (1 + n)/(10 + n); the rest, 1 − kept, is the new weights."""
    average, weights, decay = np.array([1.0, -2.0]), np.array([3.0, 0.5]), 0.9
    for step in (2, 1000):
        kept = optim.EMA(average, decay).decay_at(step)
        other = decay if step == 2 else (1 + step) / (10 + step)
        errors = {
            "have you exchanged the average and the weights?": kept * weights + (1 - kept) * average,
            "is it the smaller of the two decays?": other * average + (1 - other) * weights,
            "do the two factors add up to 1?": kept * average + weights,
            "have you left out the average?": (1 - kept) * weights,
        }
        got = f(average.copy(), weights.copy(), step, decay)
        wrong = compare(f"the EMA after step {step}", got, kept * average + (1 - kept) * weights, errors)
        if wrong:
            return wrong
    return None


def check_from_v(f: Callable) -> str | None:
    """v = √ᾱ ε − √(1−ᾱ) x_0 and x_t = √ᾱ x_0 + √(1−ᾱ) ε: two equations for two unknowns (R5)."""
    schedule, t = schedules.linear(T=10, beta_start=0.02, beta_end=0.3), 5
    x0, eps = np.array([0.3, -1.0, 2.0]), np.array([-0.5, 1.0, 0.1])
    x_t, v, a = (
        noising.diffuse(schedule, x0, t, eps),
        noising.v_from(schedule, x0, eps, t),
        schedule.alpha_bar[t],
    )
    signal, sigma = np.sqrt(a), np.sqrt(1 - a)
    got_x0, got_eps = f(x_t.copy(), v.copy(), a)
    errors = {
        "is the sign of v right? x̂_0 = √ᾱ x_t − √(1−ᾱ) v": signal * x_t + sigma * v,
        "have you exchanged √ᾱ and √(1−ᾱ)?": sigma * x_t - signal * v,
        "have you taken v for ε? That is R5 for a network that predicts ε": (x_t - sigma * v) / signal,
    }
    wrong = compare("x̂_0", got_x0, x0, errors)
    errors = {
        "is the sign of v right? ε̂ = √(1−ᾱ) x_t + √ᾱ v": sigma * x_t - signal * v,
        "have you exchanged √ᾱ and √(1−ᾱ)?": signal * x_t + sigma * v,
        "is it v itself?": v,
    }
    return wrong or compare("ε̂", got_eps, eps, errors)
