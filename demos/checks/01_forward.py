"""Checks of session 1: moments of the forward process, and its closed form."""

from collections.abc import Callable

import numpy as np
from comparison import compare

from minidiff import noising, schedules


def check_step(f: Callable) -> str | None:
    """F1 scales x by √α with α = 1 − β, and z by √β: so data of variance 1 keep variance 1."""
    beta = 0.2
    # Four points and four noises of mean 0 and variance 1, without correlation: the moments of x_t are exact.
    x, z = np.array([1.0, 1.0, -1.0, -1.0]), np.array([1.0, -1.0, 1.0, -1.0])
    signal, noise = np.sqrt(1 - beta), np.sqrt(beta)
    x_t = f(x.copy(), beta, z.copy())
    errors = {
        "have you scaled z by β, its variance, where √β belongs?": signal * x + beta * z,
        "have you scaled x by α, where √α belongs?": (1 - beta) * x + noise * z,
        "have you left x as it was? Then the variance grows without end": x + noise * z,
        "have you taken √(1 − β²) for √(1 − β)?": np.sqrt(1 - beta**2) * x + noise * z,
        "have you exchanged the factors? β is small: x_t is nearly x_{t−1}": noise * x + signal * z,
        "have you subtracted the noise?": signal * x - noise * z,
    }
    what = f"x_t, of variance {np.var(x_t):.3g} for data of variance 1 and β = {beta},"
    return compare(what, x_t, signal * x + noise * z, errors)


def check_alpha_bars(f: Callable) -> str | None:
    """ᾱ_t is the product of α_1…α_t with α = 1 − β; the empty product ᾱ_0 is 1. NumPy has cumprod."""
    schedule = schedules.linear(T=6, beta_start=0.05, beta_end=0.4)
    betas = schedule.beta[1:]
    product = np.cumprod(1 - betas)
    one = [1.0]
    errors = {
        "have you forgotten ᾱ_0 = 1?": product,
        "does your product run to T at every t? It ends at t": np.append(one, np.full(6, product[-1])),
        "does your product begin one α early? That of ᾱ_1 is α_1": np.append([1, 1], product[:-1]),
        "have you multiplied the β? The signal is scaled by the α": np.append(one, np.cumprod(betas)),
        "have you added the β up? Each step scales what is left": np.append(one, 1 - np.cumsum(betas)),
        "have you taken square roots? ᾱ is the product of the α": np.append(one, np.sqrt(product)),
    }
    return compare("ᾱ of six steps", f(betas.copy()), schedule.alpha_bar, errors)


def check_jump(f: Callable) -> str | None:
    """F4 scales x_0 by √ᾱ and ε by √(1−ᾱ). Reshape ᾱ to (B, 1, 1, 1), so that it belongs to the images."""
    rng, schedule = np.random.default_rng(0), schedules.cosine(T=10)
    x0, eps = rng.standard_normal((2, 4, 3, 4, 4))  # as many images as pixels in a row, and as channels
    t = np.array([1, 4, 6, 9])
    flat = schedule.alpha_bar[t]
    a = flat.reshape(4, 1, 1, 1)
    errors = {
        "have you squared ᾱ inside the root? With √(1−ᾱ²) unit variance grows, to 1.25 where ᾱ = ½": (
            np.sqrt(a) * x0 + np.sqrt(1 - a**2) * eps
        ),
        "have you scaled ε by 1 − ᾱ, the variance, where its square root belongs?": (
            np.sqrt(a) * x0 + (1 - a) * eps
        ),
        "have you scaled x_0 by ᾱ, where √ᾱ belongs?": a * x0 + np.sqrt(1 - a) * eps,
        "have you subtracted the noise?": np.sqrt(a) * x0 - np.sqrt(1 - a) * eps,
        "has NumPy paired ᾱ with the rows? Reshape it to (B, 1, 1, 1)": (
            np.sqrt(flat[:, None]) * x0 + np.sqrt(1 - flat[:, None]) * eps
        ),
        "has NumPy paired ᾱ with the last axis, the channels? Reshape it to (B, 1, 1, 1)": (
            np.sqrt(flat) * x0 + np.sqrt(1 - flat) * eps
        ),
    }
    expected = noising.diffuse(schedule, x0, t, eps)
    return compare("x_t of four images, each at its own t,", f(x0.copy(), flat.copy(), eps), expected, errors)
