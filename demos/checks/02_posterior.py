"""Checks of session 2: Bayes' rule in closed form, and the moments of a whole chain on normal data."""

from collections.abc import Callable

import numpy as np
from comparison import compare

from minidiff import noising, oracles, schedules
from minidiff.diffusion.noising import AffineStep
from minidiff.diffusion.samplers import ancestral


def check_product(f: Callable) -> str | None:
    """Precisions, 1/variance, add up; the mean is that of both means, weighted by their precisions."""
    m, v, n, w = 1.0, 0.5, -2.0, 1.5
    mean, variance = f(m, v, n, w)
    errors = {
        "are the variances added? That is the sum of two variables, not the product of their densities": v
        + w,
        "have you forgotten to invert the sum of the precisions?": 1 / v + 1 / w,
        "is it a mean of the variances? The product is narrower than either density": (v + w) / 2,
    }
    wrong = compare("the variance of N(1, 0.5) · N(−2, 1.5)", variance, 1 / (1 / v + 1 / w), errors)
    errors = {
        "is the mean weighted by the variances? The narrower density counts more": (m * v + n * w) / (v + w),
        "are both means weighted alike? The narrower density counts more": (m + n) / 2,
        "have you lost a minus in completing the square? For A x² + B x the centre is −B/2A": -0.25,
        "have you forgotten to divide by the sum of the precisions?": m / v + n / w,
    }
    return wrong or compare("the mean of N(1, 0.5) · N(−2, 1.5)", mean, 0.25, errors)


def check_posterior(f: Callable) -> str | None:
    """β_t = 1 − α_t and ᾱ_t = α_t ᾱ_{t−1}. Then R2 and R3: every fraction has 1 − ᾱ_t below, and no bar is missing."""
    schedule, t = schedules.constant(T=6, beta=0.3), 3
    x0, x_t = np.array([0.5, -1.0, 0.0]), np.array([0.8, 0.0, 1.0])
    alpha, before, after = schedule.alpha[t], schedule.alpha_bar[t - 1], schedule.alpha_bar[t]
    beta, exact = schedule.beta[t], schedule.posterior_variance[t]
    mean, variance = f(x0.copy(), x_t.copy(), alpha, before)
    errors = {
        "have you used β where β̃ belongs?": beta,
        "have you exchanged ᾱ_t and ᾱ_{t−1}? x_{t−1} has less noise than x_t": (1 - after)
        / (1 - before)
        * beta,
        "is it the standard deviation? R2 is a variance": np.sqrt(exact),
        "have you left out β?": (1 - before) / (1 - after),
    }
    wrong = compare(f"the variance for α_t = {alpha} and ᾱ_{{t−1}} = {before:.2f}", variance, exact, errors)
    of_x_t, of_x0 = np.sqrt(alpha) * (1 - before) / (1 - after), np.sqrt(before) * beta / (1 - after)
    errors = {
        "is the sign of the mean turned round? For A x² + B x the centre is −B/2A": -of_x_t * x_t
        - of_x0 * x0,
        "have you exchanged x_0 and x_t?": of_x_t * x0 + of_x0 * x_t,
        "have you taken ᾱ_t for ᾱ_{t−1} in the factor of x_0?": (
            of_x_t * x_t + np.sqrt(after) * beta / (1 - after) * x0
        ),
        "have you taken ᾱ_t for α_t in the factor of x_t?": (
            np.sqrt(after) * (1 - before) / (1 - after) * x_t + of_x0 * x0
        ),
        "have you left out the square roots?": (alpha * (1 - before) * x_t + before * beta * x0)
        / (1 - after),
    }
    expected, _ = noising.posterior(schedule, x0, x_t, t)
    return wrong or compare("the mean", mean, expected, errors)


def check_reverse_step(f: Callable) -> str | None:
    """R4 is the mean; σ is a standard deviation, the root of β̃_t, which is 0 at t = 1."""
    schedule, data = schedules.linear(T=1000), oracles.Gaussian(0.3, 0.04)
    # The step is linear in x_t, ε and z: three samples, in each of which one of them is 1, yield its factors.
    factors = [np.zeros(3)] + [np.asarray(f(schedule, t, *np.eye(3)), float) for t in range(1, 1001)]
    steps = [
        AffineStep(t, t - 1, factors[t][0], 0.0, factors[t][1], factors[t][2]) for t in range(1000, 0, -1)
    ]
    with np.errstate(all="ignore"):
        variance = data.outcome(schedule, steps)[1].item()
    right = data.outcome(schedule, ancestral.steps(schedule))[1].item()
    chain = (
        f"the chain ends with a variance of {variance:.3g}, where {right:.3g} is right (the data have 0.04); "
    )
    for t in (500, 1):
        alpha, beta, noise = schedule.alpha[t], schedule.beta[t], schedule.one_minus_alpha_bar[t]
        small, of_eps = schedule.posterior_variance[t], beta / np.sqrt(noise * alpha)
        errors = (
            {
                "have you taken √ᾱ_t, with a bar, for √α_t?": 1 / np.sqrt(1 - noise),
                "have you multiplied by √α_t? The step back undoes the shrinking": np.sqrt(alpha),
                "have you divided by α_t, where its square root belongs?": 1 / alpha,
            },
            {
                "have you added the noise, where it is to be subtracted?": of_eps,
                "have you forgotten the root of 1 − ᾱ_t?": -beta / noise / np.sqrt(alpha),
                "have you taken √ᾱ_t, with a bar, for √α_t?": -beta / np.sqrt(noise * (1 - noise)),
                "have you subtracted all of the noise? That is the jump to x_0": -np.sqrt(noise / alpha),
                "have you taken √β_t for β_t?": -np.sqrt(beta / noise / alpha),
            },
            {
                "have you used β where β̃ belongs? At t = 1 there is no noise at all": np.sqrt(beta),
                "have you multiplied z by β̃, the variance, where its square root belongs?": small,
                "have you left out the noise?": 0.0 if small else np.nan,
                "is there noise at the last step, which nothing takes away again?": (
                    np.sqrt(schedule.posterior_variance[2])
                ),
            },
        )
        expected = 1 / np.sqrt(alpha), -of_eps, np.sqrt(small)
        for i, name in enumerate(("x_t", "ε", "z")):
            what = f"{chain}at t = {t} the factor of {name}"
            wrong = compare(what, factors[t][i], expected[i], errors[i])
            if wrong:
                return wrong
    return None
