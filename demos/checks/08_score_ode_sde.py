"""Checks of session 8: the score by an oracle, the ODE by its exact solution, and the order of a method."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from comparison import compare

from minidiff import oracles, schedules


def check_score(f: Callable) -> str | None:
    """q_t is the mixture of N(√ᾱ m_k, ᾱ v_k + 1−ᾱ); its score is that of each component, weighted by p(k | x) (O1)."""
    schedule, t = schedules.linear(T=10, beta_start=0.02, beta_end=0.3), 4
    x, a = np.array([-1.5, 0.1, 0.8, 2.0]), schedule.alpha_bar[4]
    w, m, v = np.array([0.3, 0.5, 0.2]), np.array([-1.0, 0.2, 1.5]), np.array([0.1, 0.3, 0.02])
    oracle = oracles.Mixture(w, m[:, None], v[:, None, None])
    expected = oracle.score(schedule, x[:, None], t)[:, 0]
    off, total = x[:, None] - np.sqrt(a) * m, a * v + 1 - a

    def mixed(log_p: np.ndarray) -> np.ndarray:
        p = np.exp(log_p)
        return -(p * off / total).sum(axis=1) / p.sum(axis=1)

    exponents = -(off**2) / (2 * total)
    wide, unscaled = v + 1 - a, x[:, None] - m
    of_wide = w * np.exp(-(off**2) / (2 * wide)) / np.sqrt(wide)
    of_unscaled = w * np.exp(-(unscaled**2) / (2 * total)) / np.sqrt(total)
    errors = {
        "is it ε*? The score is −ε*/√(1−ᾱ)": -np.sqrt(1 - a) * expected,
        "is the sign right? The score points to where the density grows": -expected,
        "do the densities lack their factor 1/√variance? It differs between components": mixed(
            exponents + np.log(w)
        ),
        "have you left out the weights?": mixed(exponents - np.log(total) / 2),
        "have you averaged the scores by w, where p(k | x) belongs?": -(w * off / total).sum(axis=1),
        "have you forgotten to divide by the density?": expected
        * (np.exp(exponents - np.log(total) / 2) @ w),
        "do the exponents lack ½?": mixed(2 * exponents + np.log(w) - np.log(total) / 2),
        "does the data's variance lack its factor ᾱ?": -(of_wide * off / wide).sum(axis=1)
        / of_wide.sum(axis=1),
        "are the means scaled by √ᾱ, as F4 does?": (
            -(of_unscaled * unscaled / total).sum(axis=1) / of_unscaled.sum(axis=1)
        ),
    }
    return compare(f"the score at ᾱ = {a:.3f}", f(x.copy(), a, w, m, v), expected, errors)


def check_ode_drift(f: Callable) -> str | None:
    """−½βx is the drift of the SDE; −½β times the score is added, and the score is −ε̂/√(1−ᾱ)."""
    a, beta, v = 0.4, 1.7, 0.3
    x = np.array([-1.0, 0.5, 2.0])
    total = a * v + 1 - a
    eps = np.sqrt(1 - a) * x / total
    # Data N(0, v): x = c √(ᾱv + 1−ᾱ) solves the ODE, and dᾱ/dt = −βᾱ.
    expected = x * beta * a * (1 - v) / (2 * total)
    of_x, of_eps = -beta / 2 * x, beta / 2 * eps / np.sqrt(1 - a)
    errors = {
        "has the score the factor β? That is the reverse SDE; the ODE has half of it": of_x + 2 * of_eps,
        "is the sign of ε̂ right? −½β times the score is +½β ε̂/√(1−ᾱ)": of_x - of_eps,
        "is the sign of ½βx right? Forward in time x shrinks": -of_x + of_eps,
        "does the drift run backwards? Here it is dx/dt, forward in time": -of_x - of_eps,
        "have you left out both ½?": 2 * of_x + 2 * of_eps,
        "have you left out ½ before βx?": 2 * of_x + of_eps,
        "have you taken ε̂ for the score? Divide it by √(1−ᾱ)": of_x + beta / 2 * eps,
        "is the root missing in √(1−ᾱ)?": of_x + beta / 2 * eps / (1 - a),
        "is it the forward SDE's drift alone?": of_x,
    }
    what = f"dx/dt on data N(0, {v}), where the solution is known,"
    return compare(what, f(x.copy(), eps.copy(), a, beta), expected, errors)


def check_heun_step(f: Callable) -> str | None:
    """x_s = √ᾱ_s (x_t/√ᾱ_t + (σ̃_s − σ̃_t) ε̂), with the mean of ε̂ at x_t, ᾱ_t and at the end of Euler's step, ᾱ_s."""
    v, x_T = 0.3, np.array([-1.0, 0.4, 1.5])

    def eps_at(x: np.ndarray, a: float) -> np.ndarray:
        return np.sqrt(1 - a) * x / (a * v + 1 - a)

    def euler(x: np.ndarray, a_t: float, a_s: float, eps: np.ndarray) -> np.ndarray:
        return np.sqrt(a_s) * (x / np.sqrt(a_t) + (np.sqrt(1 / a_s - 1) - np.sqrt(1 / a_t - 1)) * eps)

    def heun(x: np.ndarray, a_t: float, a_s: float, level: float, weight: float = 0.5) -> np.ndarray:
        first = eps_at(x, a_t)
        second = eps_at(euler(x, a_t, a_s, first), level)
        return euler(x, a_t, a_s, (1 - weight) * first + weight * second)

    a, b = 0.3, 0.6
    errors = {
        "is it Euler's step, which is DDIM? The correction is missing": euler(x_T, a, b, eps_at(x_T, a)),
        "is ε̂ at the end of the step evaluated at ᾱ_t? It belongs to ᾱ_s": heun(x_T, a, b, a),
        "have you taken ε̂ at the end alone, where the mean of both belongs?": heun(x_T, a, b, b, 1.0),
        "have you added both ε̂ without dividing by 2?": euler(
            x_T, a, b, eps_at(x_T, a) + eps_at(euler(x_T, a, b, eps_at(x_T, a)), b)
        ),
        "is ε̂ at the end of the step evaluated at x_t? It belongs to Euler's result": euler(
            x_T, a, b, (eps_at(x_T, a) + eps_at(x_T, b)) / 2
        ),
    }
    wrong = compare(f"a step from ᾱ = {a} to {b}", f(eps_at, x_T.copy(), a, b), heun(x_T, a, b, b), errors)
    if wrong is None:
        return None
    sizes = []
    for steps in (40, 80):
        sigmas, x = np.linspace(2.0, 0.5, steps + 1), x_T.copy()
        levels = 1 / (1 + sigmas**2)
        for a_t, a_s in pairwise(levels):
            x = f(eps_at, x, a_t, a_s)
        exact = x_T * np.sqrt((levels[-1] * v + 1 - levels[-1]) / (levels[0] * v + 1 - levels[0]))
        sizes.append(np.abs(x - exact).max())
    factor = sizes[0] / sizes[1]
    return f"twice the steps divide the error by {factor:.2f}, a method of second order has 4; {wrong}"
