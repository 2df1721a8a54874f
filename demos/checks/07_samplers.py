"""Checks of session 7: mean and variance of a sampler's output on normal data, with no sampling (O3)."""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise

import numpy as np
from comparison import compare

from minidiff import Denoiser, oracles, schedules
from minidiff.diffusion.noising import AffineStep
from minidiff.diffusion.samplers import ancestral
from minidiff.diffusion.samplers.ddim import steps as ddim_steps

DATA, SCHEDULE = oracles.Gaussian(0.5, 0.2**2), schedules.linear(T=20, beta_start=5e-3, beta_end=0.5)
EXACT = Denoiser(DATA.network(SCHEDULE), SCHEDULE)


def moments_of(plan: list[AffineStep]) -> np.ndarray:
    """Mean and variance at t = 0 of a sampler with these steps."""
    return flat(*DATA.outcome(SCHEDULE, plan))


def flat(mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Two numbers, in one dimension."""
    return np.concatenate([mean, covariance[0]])


def compare_moments(
    what: str,
    f: Callable,
    times: tuple[int, ...],
    right: list[AffineStep],
    errors: Mapping[str, list[AffineStep]],
) -> str | None:
    """f: (denoiser, x_T, rng) → states at `times` but the first. errors: for each question the plan that it means."""
    found = list(oracles.outcome_of(partial(f, EXACT), dim=1))
    if [t for t, _, _ in found] != list(times[1:]):
        return f"{what} yields states at t = {', '.join(f'{t}' for t, _, _ in found)[:60]}, expected {times[1]} to 0"
    got, expected = flat(*found[-1][1:]), moments_of(right)
    wrong_moments = {question: moments_of(plan) for question, plan in errors.items()}
    meant = {q: pair for q, pair in wrong_moments.items() if compare("", got, pair, tolerance=1e-6) is None}
    for k, name in enumerate(("mean", "variance")):
        about = f"the {name} of the samples {what}, on data N({DATA.mean[0]}, {DATA.covariance[0, 0]:.2f}),"
        wrong = compare(about, got[k], expected[k], {q: pair[k] for q, pair in meant.items()}, tolerance=1e-6)
        if wrong:
            return wrong
    return None


def changed(plan: list[AffineStep], change: Callable[[AffineStep], dict[str, float]]) -> list[AffineStep]:
    return [step._replace(**change(step)) for step in plan]


def check_ddpm(f: Callable) -> str | None:
    """The mean is R3 with x̂_0 for x_0; σ_t is the root of `posterior_variance[t]`, β̃_t, which is 0 at t = 1 (R2)."""
    plan = ancestral.steps(SCHEDULE)
    beta, before, after = SCHEDULE.beta, SCHEDULE.alpha_bar[:-1], SCHEDULE.alpha_bar[1:]
    posterior = SCHEDULE.posterior_variance
    large = changed(plan, lambda step: {"sigma": np.sqrt(beta[step.t]) if step.s else 0.0})
    errors = {
        "have you scaled z by a variance? σ is its square root (S2)": changed(
            plan, lambda p: {"sigma": p.sigma**2}
        ),
        "have you used β where β̃ belongs?": large,
        "have you used β where β̃ belongs, and added noise in the last step?": changed(
            plan, lambda p: {"sigma": np.sqrt(beta[p.t])}
        ),
        "have you added noise in the last step? It stays in the samples": [
            *plan[:-1],
            plan[-1]._replace(sigma=np.sqrt(posterior[2])),
        ],
        "have you left out the noise?": changed(plan, lambda p: {"sigma": 0.0}),
        "have you taken ᾱ_t for α_t in the factor of x_t?": changed(
            plan, lambda p: {"x": p.x * np.sqrt(after[p.t - 1] / SCHEDULE.alpha[p.t])}
        ),
        "have you taken ᾱ_t for ᾱ_{t−1} in the factor of x̂_0?": changed(
            plan, lambda p: {"x0": p.x0 * np.sqrt(after[p.t - 1] / before[p.t - 1])}
        ),
        "have you subtracted the term with x̂_0?": changed(plan, lambda p: {"x0": -p.x0}),
        "have you exchanged x and x̂_0?": changed(plan, lambda p: {"x": p.x0, "x0": p.x}),
        "is the step one jump to x̂_0? It returns the mean of the data (R7)": changed(
            plan, lambda p: {"x": 0, "x0": 1}
        ),
    }
    return compare_moments("of 20 steps", f, tuple(range(20, -1, -1)), plan, errors)


def check_ddim_step(f: Callable) -> str | None:
    """√ᾱ_s x̂_0, then ε̂ with √(1−ᾱ_s−σ²), then σz: the two noises together have the variance 1−ᾱ_s (S3)."""
    x0, eps, z = np.array([[0.5], [-1.0]]), np.array([[0.3], [1.2]]), np.array([[-0.7], [0.4]])
    for eta in (0.0, 0.6, 1.0):
        t, s = 15, 12
        (step,) = [p for p in ddim_steps(SCHEDULE, (20, t, s, 0), eta) if p.t == t]
        a_t, a_s = SCHEDULE.alpha_bar[[t, s]]
        beta_tilde = (1 - a_s) / (1 - a_t) * (1 - a_t / a_s)
        errors = {
            "does ε̂ lack −σ²? Then noise is counted twice": (
                np.sqrt(a_s) * x0 + np.sqrt(1 - a_s) * eps + step.sigma * z
            ),
            "have you subtracted σ, where σ² belongs?": (
                np.sqrt(a_s) * x0 + np.sqrt(max(0.0, 1 - a_s - step.sigma)) * eps + step.sigma * z
            ),
            "have you taken ᾱ_t for ᾱ_s in the factor of x̂_0?": (
                np.sqrt(a_t) * x0 + step.eps * eps + step.sigma * z
            ),
            "is x̂_0 scaled by ᾱ_s, where √ᾱ_s belongs?": a_s * x0 + step.eps * eps + step.sigma * z,
            "have you left out the noise σz?": np.sqrt(a_s) * x0 + step.eps * eps,
            "is your σ a variance, ηβ̃? S3 has square roots": (
                np.sqrt(a_s) * x0 + np.sqrt(1 - a_s - (eta * beta_tilde) ** 2) * eps + eta * beta_tilde * z
            ),
            "have you left out η?": (
                np.sqrt(a_s) * x0 + np.sqrt(1 - a_s - beta_tilde) * eps + np.sqrt(beta_tilde) * z
            ),
        }
        expected = step.x0 * x0 + step.eps * eps + step.sigma * z
        wrong = compare(f"x_s for η = {eta}", f(x0, eps, a_t, a_s, eta, z), expected, errors)
        if wrong:
            return wrong
    return None


def check_euler_maruyama(f: Callable) -> str | None:
    """β is the sum of `schedule.beta` over s+1…t. x + ½βx − β/√(1−ᾱ_t) ε̂, and then √β z: √β is a standard deviation."""
    times = (20, 18, 16, 14, 12, 10, 8, 6, 4, 3, 2, 1, 0)
    cumulative, noise = np.cumsum(SCHEDULE.beta), SCHEDULE.one_minus_alpha_bar

    def plan(
        beta: Callable[[int, int], float] = lambda t, s: cumulative[t] - cumulative[s],
        half: float = 0.5,
        of_eps: Callable[[int, int], float] = lambda t, s: -1 / np.sqrt(noise[t]),
        sigma: Callable[[float], float] = np.sqrt,
    ) -> list[AffineStep]:
        made = []
        for t, s in pairwise(times):
            b = beta(t, s)
            made.append(AffineStep(t, s, 1 + half * b, 0.0, b * of_eps(t, s), sigma(b) if s else 0.0))
        return made

    errors = {
        "is β of a step longer than 1 the sum over all its times?": plan(lambda t, s: SCHEDULE.beta[t]),
        "does the sum begin at s? It is over s + 1…t": plan(
            lambda t, s: cumulative[t] - cumulative[s] + SCHEDULE.beta[s]
        ),
        "does the sum end before t? It is over s + 1…t": plan(
            lambda t, s: cumulative[t] - cumulative[s] + SCHEDULE.beta[s] - SCHEDULE.beta[t]
        ),
        "have you left out ½ before βx?": plan(half=1.0),
        "is the sign of ½βx right? Backwards in time x grows": plan(half=-0.5),
        "is the sign of ε̂ right? A step back takes noise away (R4)": plan(
            of_eps=lambda t, s: 1 / np.sqrt(noise[t])
        ),
        "is ½ before ε̂? That is the ODE, which has no noise": plan(
            of_eps=lambda t, s: -0.5 / np.sqrt(noise[t])
        ),
        "is the root missing in √(1−ᾱ_t)?": plan(of_eps=lambda t, s: -1 / noise[t]),
        "have you scaled z by β, a variance, where √β belongs?": plan(sigma=lambda b: b),
        "have you left out the noise?": plan(sigma=lambda b: 0.0),
    }
    return compare_moments("of 12 steps", lambda d, x, rng: f(d, x, rng, times), times, plan(), errors)
