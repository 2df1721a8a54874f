"""Checks of session 3: divergences in closed form, and the loss of a network that is known exactly."""

from collections.abc import Callable

import numpy as np
from comparison import compare

from minidiff import Denoiser, likelihood, noising, oracles, schedules


def check_kl(f: Callable) -> str | None:
    """KL(q ‖ p) is the expectation under q of log q − log p: each logarithm has the weight q, once."""
    # Wide against narrow: here a factor q too many makes it negative.
    x = np.linspace(-6, 6, 241)
    q, p = np.exp(-(x**2) / 2), np.exp(-(x**2))
    q, p = q / q.sum(), p / p.sum()
    errors = {
        "have you multiplied by q twice? E_q has the factor q already, and no divergence is negative": (
            np.sum(q * q * np.log(q / p))
        ),
        "have you left out the weight q of the expectation?": np.sum(np.log(q / p)),
        "have you exchanged q and p? A divergence is not symmetric": np.sum(p * np.log(p / q)),
        "have you turned the fraction over? A divergence is never negative": np.sum(q * np.log(p / q)),
        "have you averaged where the weights q already do?": np.mean(q * np.log(q / p)),
        "is it in bits? Nats have the natural logarithm": np.sum(q * np.log2(q / p)),
        "is it a sum of absolute values? Terms of both signs belong to it": np.sum(q * np.abs(np.log(q / p))),
    }
    return compare(
        "KL(N(0, 1) ‖ N(0, ½)) on a grid", f(q.copy(), p.copy()), np.sum(q * np.log(q / p)), errors
    )


def check_step_term(f: Callable) -> str | None:
    """The weight is that of V5; what V4 adds is ½(r − 1 − log r) with r = β̃_t/σ_t², which no network changes."""
    schedule, t = schedules.constant(T=8, beta=0.2), 3
    beta, alpha, noise, small = (
        a[t]
        for a in (schedule.beta, schedule.alpha, schedule.one_minus_alpha_bar, schedule.posterior_variance)
    )
    eps, guess = np.array([0.3, -1.0, 2.0]), np.array([0.3, 0.5, 1.0])
    square, weight, ratio = (eps - guess) ** 2, beta / (2 * alpha * noise), small / beta
    constant = (ratio - 1 - np.log(ratio)) / 2
    errors = {
        "have you taken β̃_t for σ_t²? Here the model has the variance β_t": beta * weight / small * square,
        "have you left out what V4 adds for unequal variances?": weight * square,
        "have you turned the ratio of the variances over? It is β̃_t/σ_t²": (
            weight * square + (1 / ratio - 1 + np.log(ratio)) / 2
        ),
        "have you forgotten to halve the constant?": weight * square + 2 * constant,
        "have you forgotten the 2 below the fraction of V5?": 2 * weight * square + constant,
        "have you left out α_t below the fraction of V5?": weight * alpha * square + constant,
        "have you taken ᾱ_t for α_t in V5?": beta / (2 * (1 - noise) * noise) * square + constant,
        "have you taken β_t for its square in V5?": weight / beta * square + constant,
        "have you taken ᾱ_t for 1 − ᾱ_t in V5?": weight * noise / (1 - noise) * square + constant,
    }
    # The model's own numbers: a denoiser whose prediction is wrong by as much.
    x0 = np.zeros((3, 1))
    x_t = noising.diffuse(schedule, x0, t, eps[:, None])
    denoiser = Denoiser(lambda x, t, label=None: guess[:, None], schedule)
    expected = likelihood.step_term(denoiser, x0, x_t, t, "large")
    return compare(
        f"L_{t - 1} for three errors of ε", f(schedule, t, eps.copy(), guess.copy()), expected, errors
    )


def check_simple_loss(f: Callable) -> str | None:
    """Noise x_0 by F4, each at its own t (ᾱ_t as a column); the loss is the mean of the squared errors of ε."""
    schedule, data = schedules.linear(T=1000), oracles.Gaussian(0.0, 0.25)
    rng = np.random.default_rng(0)
    x0, eps, t = data.sample(rng, 500), rng.standard_normal((500, 1)), rng.integers(1, 1001, 500)
    inputs = []

    def net(x, times):
        inputs.append((np.array(x), np.array(times)))
        x = np.asarray(x, dtype=np.float64)
        return data.eps(schedule, x, times) if x.shape == x0.shape else np.zeros(x.shape)

    loss = f(net, schedule, x0.copy(), t.copy(), eps.copy())
    if len(inputs) != 1:
        return f"the network was evaluated {len(inputs)} times, expected once, with the whole batch"
    x_t, times = inputs[0]
    a, single = schedule.alpha_bar[t][:, None], schedule.alpha[t][:, None]
    early = schedule.alpha_bar[t - 1][:, None]
    errors = {
        "have you taken α_t for ᾱ_t? x_t is t steps from x_0, not one": (
            np.sqrt(single) * x0 + np.sqrt(1 - single) * eps
        ),
        "have you subtracted the noise? Then the network is shown −ε and learns ε": (
            np.sqrt(a) * x0 - np.sqrt(1 - a) * eps
        ),
        "have you taken ᾱ_{t−1}? Index 0 is clean data, so that ᾱ_t is alpha_bar[t]": (
            np.sqrt(early) * x0 + np.sqrt(1 - early) * eps
        ),
        "have you paired each x_0 with the ᾱ of all others? Make ᾱ_t a column, (B, 1)": (
            np.sqrt(a[:, 0]) * x0 + np.sqrt(1 - a[:, 0]) * eps
        ),
        "have you scaled ε by 1 − ᾱ_t, the variance?": np.sqrt(a) * x0 + (1 - a) * eps,
    }
    variance = f", of variance {np.var(x_t):.3g} where {np.mean(0.25 * a + 1 - a):.3g} is expected,"
    wrong = compare(
        f"the x_t that the network is given{variance}", x_t, noising.diffuse(schedule, x0, t, eps), errors
    )
    wrong = wrong or compare("the t that the network is given", times, t, {"are they counted from 0?": t - 1})
    if wrong:
        return wrong
    exact = data.eps(schedule, x_t, t)
    errors = {
        "have you taken x_0 for the target? The network predicts ε": np.mean((x0 - exact) ** 2),
        "is it the sum? The paper's loss is the mean": np.sum((eps - exact) ** 2),
        "have you forgotten the square?": np.mean(eps - exact),
        "have you taken absolute values for squares?": np.mean(np.abs(eps - exact)),
        "have you taken the root? The loss is the squared error": np.sqrt(np.mean((eps - exact) ** 2)),
    }
    return compare("the loss of a perfect network", loss, np.mean((eps - exact) ** 2), errors)
