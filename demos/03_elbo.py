# %% [markdown]
# # Session 3 · From the likelihood to L_simple
#
# A generative model should give its data a high probability. For a diffusion model that probability is an integral that
# nobody can compute. This session bounds it from one side (Jensen), splits the bound into one term for each step, shows
# that every term is a squared error of the predicted noise with a weight, and drops the weights. What is left is the
# loss of the DDPM paper, in one line. It then measures what dropping the weights changes, and shows when ε, x_0 or v is
# the better target.
#
# You need: sessions 1 and 2. Takes half a minute on two cores.

# %%
from itertools import pairwise, product

import numpy as np
from course import at_least, compare, save

from minidiff import Denoiser, likelihood, noising, oracles, plots, schedules

# %% [markdown]
# ## The likelihood (R0)
#
# The model runs the other way: $x_T$ is drawn from $p(x_T) = N(0, I)$, then each $x_{t-1}$ from
# $p_\theta(x_{t-1} \mid x_t)$. Its probability of $x_0$ is the sum over all the ways that may lead to it:
#
# $$p_\theta(x_0) = \int p(x_T) \prod_{t=1}^{T} p_\theta(x_{t-1} \mid x_t)\; dx_1 \cdots dx_T$$
#
# ## Jensen's inequality (V1)
#
# Few of these trajectories matter, and those that do are the ones by which $x_0$ becomes noise. So average over the
# forward process $q$, which is known, and divide by its density:
#
# 1. $-\log p_\theta(x_0) = -\log \int p_\theta(x_{0:T})\, dx_{1:T}$
# 2. $= -\log E_q\left[\frac{p_\theta(x_{0:T})}{q(x_{1:T} \mid x_0)}\right]$, an integral of $q \cdot p_\theta/q$
# 3. $\le E_q\left[\log \frac{q(x_{1:T} \mid x_0)}{p_\theta(x_{0:T})}\right]$, Jensen: $-\log$ is convex, so that the
#    $-\log$ of a mean is at most the mean of the $-\log$
#
# Line 3 is the *variational bound*, its negative the evidence lower bound or ELBO. How much is lost?
#
# 1. $E_q\left[\log \frac{q(x_{1:T} \mid x_0)}{p_\theta(x_{0:T})}\right]$
# 2. $= E_q\left[\log \frac{q(x_{1:T} \mid x_0)}{p_\theta(x_{1:T} \mid x_0)} - \log p_\theta(x_0)\right]$, since
#    $p_\theta(x_{0:T}) = p_\theta(x_{1:T} \mid x_0)\, p_\theta(x_0)$
# 3. $= \mathrm{KL}\left(q(x_{1:T} \mid x_0) \,\|\, p_\theta(x_{1:T} \mid x_0)\right) - \log p_\theta(x_0)$
#
# So minimising the bound does two things: it raises the likelihood, and makes the model's trajectories those of $q$.
#
# ## One term for each step (V3)
#
# 1. $E_q\left[\log \frac{\prod_{t=1}^T q(x_t \mid x_{t-1})}{p(x_T) \prod_{t=1}^T p_\theta(x_{t-1} \mid x_t)}\right]$
# 2. $= E_q\left[-\log p(x_T) + \sum_{t=2}^{T} \log \frac{q(x_t \mid x_{t-1})}{p_\theta(x_{t-1} \mid x_t)} + \log
#    \frac{q(x_1 \mid x_0)}{p_\theta(x_0 \mid x_1)}\right]$, the first step apart from the others
# 3. $= E_q\left[-\log p(x_T) + \sum_{t=2}^{T} \log \frac{q(x_{t-1} \mid x_t, x_0)}{p_\theta(x_{t-1} \mid x_t)} +
#    \sum_{t=2}^{T} \log \frac{q(x_t \mid x_0)}{q(x_{t-1} \mid x_0)} + \log \frac{q(x_1 \mid x_0)}{p_\theta(x_0 \mid
#    x_1)}\right]$, Bayes' rule of session 2 (R1)
# 4. $= E_q\left[\log \frac{q(x_T \mid x_0)}{p(x_T)} + \sum_{t=2}^{T} \log \frac{q(x_{t-1} \mid x_t,
#    x_0)}{p_\theta(x_{t-1} \mid x_t)} - \log p_\theta(x_0 \mid x_1)\right]$, since the second sum telescopes to
#    $\log q(x_T \mid x_0) - \log q(x_1 \mid x_0)$
# 5. $= \underbrace{\mathrm{KL}(q(x_T \mid x_0) \,\|\, p(x_T))}_{L_T} + \sum_{t=2}^{T} \underbrace{E_q\left[
#    \mathrm{KL}(q(x_{t-1} \mid x_t, x_0) \,\|\, p_\theta(x_{t-1} \mid x_t))\right]}_{L_{t-1}} +
#    \underbrace{E_q\left[-\log p_\theta(x_0 \mid x_1)\right]}_{L_0}$, the inner expectation taken first
#
# Why the detour by Bayes' rule? In line 2 each term compares a step *forward* of $q$ with a step *back* of the model;
# its value depends on two random points. In line 5 both run backwards from the same $x_t$, and a KL divergence of two
# normal distributions has a closed form: only $x_t$ must be sampled. And mind the expectation: the logarithm of a ratio
# at one trajectory is no divergence, and may be negative (the errata of V1 and V3 are about a $q$ too many and a term
# too few).
#
# None of this needs normal distributions. Below, each $x_t$ is 0 or 1 and there are three steps, so that the
# expectation is a sum over eight trajectories. $q$, $p$ and the prior are tables of random probabilities, and
# $x_0 = 1$.

# %%
T, X0 = 3, 1


def of(x, probability):
    """The probability of x, 0 or 1, where that of 1 is given."""
    return probability if x else 1 - probability


def q_step(q, t, x, before):
    """q(x_t = x | x_{t−1} = before); that of the first step depends on x_0 alone, which is fixed."""
    return of(x, q[0] if t == 1 else q[2 * t - 3 + before])


def p_step(p, t, x, after):
    """p(x_{t−1} = x | x_t = after)."""
    return of(x, p[2 * (t - 1) + after])


def q_path(q, path):
    """q(x_1…x_T | x_0) of path = (x_0, …, x_T)."""
    return np.prod([q_step(q, t, x, before) for t, (before, x) in enumerate(pairwise(path), 1)])


def p_path(p, prior, path):
    """p(x_0…x_T)."""
    return of(path[-1], prior[0]) * np.prod(
        [p_step(p, t, x, a) for t, (x, a) in enumerate(pairwise(path), 1)]
    )


def paths():
    """All (x_0, x_1, …, x_T) that begin with the x_0 that is given."""
    return [(X0, *rest) for rest in product((0, 1), repeat=T)]


def expectation(q, f):
    """E_q f(x_0, …, x_T)."""
    return sum(q_path(q, path) * f(path) for path in paths())


def q_jump(q, t, x):
    """q(x_t = x | x_0), the sum over all ways from x_0."""
    return float(x == X0) if t == 0 else sum(q_path(q, path) for path in paths() if path[t] == x)


def q_back(q, t, x, after):
    """q(x_{t−1} = x | x_t = after, x_0), by Bayes' rule (R1)."""
    return q_step(q, t, after, x) * q_jump(q, t - 1, x) / q_jump(q, t, after)


def evidence(p, prior):
    """p(x_0)."""
    return sum(p_path(p, prior, path) for path in paths())


def kl(q, p):
    """KL(q ‖ p) of two lists of probabilities."""
    return sum(a * np.log(a / b) for a, b in zip(q, p, strict=True))


jensen_lines = [
    lambda q, p, prior: -np.log(evidence(p, prior)),
    lambda q, p, prior: -np.log(expectation(q, lambda path: p_path(p, prior, path) / q_path(q, path))),
    at_least(
        lambda q, p, prior: expectation(q, lambda path: np.log(q_path(q, path) / p_path(p, prior, path)))
    ),
]
gap_lines = [
    lambda q, p, prior: expectation(q, lambda path: np.log(q_path(q, path) / p_path(p, prior, path))),
    lambda q, p, prior: expectation(
        q,
        lambda path: (
            np.log(q_path(q, path) / (p_path(p, prior, path) / evidence(p, prior)))
            - np.log(evidence(p, prior))
        ),
    ),
    lambda q, p, prior: (
        kl(
            [q_path(q, path) for path in paths()],
            [p_path(p, prior, path) / evidence(p, prior) for path in paths()],
        )
        - np.log(evidence(p, prior))
    ),
]
terms_lines = [
    lambda q, p, prior: expectation(q, lambda path: np.log(q_path(q, path) / p_path(p, prior, path))),
    lambda q, p, prior: expectation(
        q,
        lambda x: (
            -np.log(of(x[T], prior[0]))
            + sum(
                np.log(q_step(q, t, x[t], x[t - 1]) / p_step(p, t, x[t - 1], x[t])) for t in range(2, T + 1)
            )
            + np.log(q_step(q, 1, x[1], x[0]) / p_step(p, 1, x[0], x[1]))
        ),
    ),
    lambda q, p, prior: expectation(
        q,
        lambda x: (
            -np.log(of(x[T], prior[0]))
            + sum(
                np.log(q_back(q, t, x[t - 1], x[t]) / p_step(p, t, x[t - 1], x[t])) for t in range(2, T + 1)
            )
            + sum(np.log(q_jump(q, t, x[t]) / q_jump(q, t - 1, x[t - 1])) for t in range(2, T + 1))
            + np.log(q_step(q, 1, x[1], x[0]) / p_step(p, 1, x[0], x[1]))
        ),
    ),
    lambda q, p, prior: expectation(
        q,
        lambda x: (
            np.log(q_jump(q, T, x[T]) / of(x[T], prior[0]))
            + sum(
                np.log(q_back(q, t, x[t - 1], x[t]) / p_step(p, t, x[t - 1], x[t])) for t in range(2, T + 1)
            )
            - np.log(p_step(p, 1, x[0], x[1]))
        ),
    ),
    lambda q, p, prior: (
        kl([q_jump(q, T, x) for x in (0, 1)], [of(x, prior[0]) for x in (0, 1)])
        + sum(
            expectation(
                q,
                lambda x, t=t: kl(
                    [q_back(q, t, y, x[t]) for y in (0, 1)], [p_step(p, t, y, x[t]) for y in (0, 1)]
                ),
            )
            for t in range(2, T + 1)
        )
        + expectation(q, lambda x: -np.log(p_step(p, 1, x[0], x[1])))
    ),
]
compare("Jensen's inequality (V1)", jensen_lines)
compare("The gap of the bound (V1)", gap_lines)
compare("One term for each step (V3)", terms_lines)

# %% [markdown]
# ## The KL divergence of two normal distributions (V4)
#
# For $q = N(\mu, v)$ and $p = N(\mu', v')$, with $x = \mu + \sqrt{v}\, z$ under $q$:
#
# 1. $\mathrm{KL}(q \,\|\, p) = E\left[\log q(x) - \log p(x)\right] = E\left[-\tfrac12 \log 2\pi v -
#    \frac{(x-\mu)^2}{2v} + \tfrac12 \log 2\pi v' + \frac{(x-\mu')^2}{2v'}\right]$
# 2. $= \tfrac12 \log\frac{v'}{v} - \tfrac12 E[z^2] + \frac{1}{2v'} E\left[(\mu - \mu' + \sqrt{v}\, z)^2\right]$
# 3. $= \tfrac12 \log\frac{v'}{v} - \tfrac12 + \frac{(\mu-\mu')^2 + v}{2v'}$, since $E[z] = 0$ and $E[z^2] = 1$
# 4. $= \frac{(\mu-\mu')^2}{2v'} + \tfrac12\left(\frac{v}{v'} - 1 - \log\frac{v}{v'}\right)$
#
# ## From means to noise (V5, V7)
#
# In $L_{t-1}$ both are normal: $q$ has the mean $\tilde\mu_t$ and the variance $\tilde\beta_t$ of session 2, and the
# model is given the same form, with a variance $\sigma_t^2$ that is chosen and not learned. Then only the means depend
# on $\theta$. Let the model's mean be R4 with the network's $\varepsilon_\theta$ for $\varepsilon$:
#
# 1. $\frac{(\tilde\mu_t - \mu_\theta)^2}{2\sigma_t^2}$
# 2. $= \frac{1}{2\sigma_t^2}\left[\frac{1}{\sqrt{\alpha_t}}\left(x_t - \frac{\beta_t}{\sqrt{1-\bar\alpha_t}}
#    \varepsilon\right) - \frac{1}{\sqrt{\alpha_t}}\left(x_t - \frac{\beta_t}{\sqrt{1-\bar\alpha_t}}
#    \varepsilon_\theta\right)\right]^2$, by R4
# 3. $= \frac{1}{2\sigma_t^2} \left[\frac{\beta_t}{\sqrt{\alpha_t}\sqrt{1-\bar\alpha_t}} (\varepsilon_\theta -
#    \varepsilon)\right]^2$, since $x_t$ is the same in both
# 4. $= \frac{\beta_t^2}{2\sigma_t^2\, \alpha_t (1-\bar\alpha_t)}\, (\varepsilon - \varepsilon_\theta)^2$
#
# And $L_0$: the last step has the mean $\hat x_0 = (x_1 - \sqrt{1-\alpha_1}\,\varepsilon_\theta)/\sqrt{\alpha_1}$, and
#
# 1. $-\log p_\theta(x_0 \mid x_1) = \frac{(x_0 - \hat x_0)^2}{2\sigma_1^2} + \tfrac12 \log 2\pi\sigma_1^2$
# 2. $= \frac{1}{2\sigma_1^2}\left[\frac{x_1 - \sqrt{1-\alpha_1}\,\varepsilon}{\sqrt{\alpha_1}} - \frac{x_1 -
#    \sqrt{1-\alpha_1}\,\varepsilon_\theta}{\sqrt{\alpha_1}}\right]^2 + \tfrac12 \log 2\pi\sigma_1^2$
# 3. $= \frac{1-\alpha_1}{2\sigma_1^2\,\alpha_1} (\varepsilon - \varepsilon_\theta)^2 + \tfrac12 \log 2\pi\sigma_1^2$
#
# which has the weight of V5 at $t = 1$, where $\beta_1 = 1-\bar\alpha_1$. So the whole bound is a weighted sum of
# squared errors of the noise, plus what does not depend on $\theta$.


# %%
def mean_over_z(f):
    """E f(z) for a quadratic f, in which only E[z] = 0 and E[z²] = 1 count: half at 1, half at −1."""
    return (f(1.0) + f(-1.0)) / 2


kl_lines = [
    lambda m, v, n, w: mean_over_z(
        lambda z: (
            -np.log(2 * np.pi * v) / 2
            - (m + np.sqrt(v) * z - m) ** 2 / (2 * v)
            + np.log(2 * np.pi * w) / 2
            + (m + np.sqrt(v) * z - n) ** 2 / (2 * w)
        )
    ),
    lambda m, v, n, w: (
        np.log(w / v) / 2
        - mean_over_z(lambda z: z**2) / 2
        + mean_over_z(lambda z: (m - n + np.sqrt(v) * z) ** 2) / (2 * w)
    ),
    lambda m, v, n, w: np.log(w / v) / 2 - 1 / 2 + ((m - n) ** 2 + v) / (2 * w),
    lambda m, v, n, w: (m - n) ** 2 / (2 * w) + (v / w - 1 - np.log(v / w)) / 2,
]


def mean_of_step(x_t, eps, alpha, alpha_bar):
    """The mean of a step back in terms of ε (R4)."""
    return (x_t - (1 - alpha) / np.sqrt(1 - alpha_bar) * eps) / np.sqrt(alpha)


weight_lines = [
    lambda x_t, eps, eps_theta, alpha, alpha_bar, sigma2: (
        (mean_of_step(x_t, eps, alpha, alpha_bar) - mean_of_step(x_t, eps_theta, alpha, alpha_bar)) ** 2
        / (2 * sigma2)
    ),
    lambda x_t, eps, eps_theta, alpha, alpha_bar, sigma2: (
        (
            (x_t - (1 - alpha) / np.sqrt(1 - alpha_bar) * eps) / np.sqrt(alpha)
            - (x_t - (1 - alpha) / np.sqrt(1 - alpha_bar) * eps_theta) / np.sqrt(alpha)
        )
        ** 2
        / (2 * sigma2)
    ),
    lambda x_t, eps, eps_theta, alpha, alpha_bar, sigma2: (
        ((1 - alpha) / (np.sqrt(alpha) * np.sqrt(1 - alpha_bar)) * (eps_theta - eps)) ** 2 / (2 * sigma2)
    ),
    lambda x_t, eps, eps_theta, alpha, alpha_bar, sigma2: (
        (1 - alpha) ** 2 / (2 * sigma2 * alpha * (1 - alpha_bar)) * (eps - eps_theta) ** 2
    ),
]
data_term_lines = [
    lambda x_1, eps, eps_theta, alpha, sigma2: (
        ((x_1 - np.sqrt(1 - alpha) * eps) / np.sqrt(alpha) - mean_of_step(x_1, eps_theta, alpha, alpha)) ** 2
        / (2 * sigma2)
        + np.log(2 * np.pi * sigma2) / 2
    ),
    lambda x_1, eps, eps_theta, alpha, sigma2: (
        (
            (x_1 - np.sqrt(1 - alpha) * eps) / np.sqrt(alpha)
            - (x_1 - np.sqrt(1 - alpha) * eps_theta) / np.sqrt(alpha)
        )
        ** 2
        / (2 * sigma2)
        + np.log(2 * np.pi * sigma2) / 2
    ),
    lambda x_1, eps, eps_theta, alpha, sigma2: (
        (1 - alpha) / (2 * sigma2 * alpha) * (eps - eps_theta) ** 2 + np.log(2 * np.pi * sigma2) / 2
    ),
]
compare("The divergence of two normal distributions (V4)", kl_lines)
compare("The weight of a squared error of ε (V5)", weight_lines)
compare("The term of the data (V7)", data_term_lines)

# %% [markdown]
# ## Why the weights may be dropped (V8)
#
# The DDPM paper sets every weight to 1, draws $t$ at random, and calls the result
#
# $$L_{\mathrm{simple}} = E_{t, x_0, \varepsilon}\left[\left(\varepsilon -
# \varepsilon_\theta(\sqrt{\bar\alpha_t}\, x_0 + \sqrt{1-\bar\alpha_t}\,\varepsilon,\ t)\right)^2\right]$$
#
# May one do that? Take one $x_t$, and let $\varepsilon^* = E[\varepsilon \mid x_t]$. The network's output
# $\varepsilon_\theta$ there is a fixed number, as $x_t$ is. With $E$ over the $\varepsilon$ that may have led to $x_t$:
#
# 1. $E(\varepsilon - \varepsilon_\theta)^2 = E(\varepsilon - \varepsilon^* + \varepsilon^* - \varepsilon_\theta)^2$
# 2. $= E(\varepsilon - \varepsilon^*)^2 + 2 (\varepsilon^* - \varepsilon_\theta) E(\varepsilon - \varepsilon^*) +
#    (\varepsilon^* - \varepsilon_\theta)^2$
# 3. $= E(\varepsilon - \varepsilon^*)^2 + (\varepsilon^* - \varepsilon_\theta)^2$, since
#    $E(\varepsilon - \varepsilon^*) = 0$
#
# The first term does not depend on the network; the second is 0 for $\varepsilon_\theta = \varepsilon^*$. **So each
# $x_t$ and each $t$ has its own minimum, and a network that can represent all of them reaches all of them, whatever the
# positive weights.** What may be dropped is what cannot move the minimum.

# %%
minimum_lines = [  # six equally probable ε, and a network whose output is w
    lambda eps, w: ((eps - eps.mean() + eps.mean() - w[0]) ** 2).mean(),
    lambda eps, w: (
        ((eps - eps.mean()) ** 2).mean()
        + 2 * (eps.mean() - w[0]) * (eps - eps.mean()).mean()
        + (eps.mean() - w[0]) ** 2
    ),
    lambda eps, w: ((eps - eps.mean()) ** 2).mean() + (eps.mean() - w[0]) ** 2,
]
compare("The minimum at each x_t (V8)", minimum_lines)

# %% [markdown]
# **What it changes.** No network represents $\varepsilon^*$ exactly, and then the weights decide where it errs. Those
# of the bound are large at the smallest $t$: below, with $\sigma_t^2 = \beta_t$, they fall from 0.9 to 0.005. The bound
# spends the network on the last few steps, in which details are drawn that the eye does not see but that cost many
# nats; $L_{\mathrm{simple}}$ spends it on large $t$, where it is decided what the picture shows. Hence the rule of
# thumb: weights for likelihood, none for pictures.
#
# To see it, take a network too small for its task: 60 random features $\tanh(w_k \cdot (x, \lambda_t) + b_k)$, of which
# only the output layer is fitted. The best output layer for given weights is a problem of least squares, with an exact
# solution and no training at all, so that nothing but the weights differs. Five sets of random features tell how far
# the result depends on them.

# %%
schedule = schedules.linear(T=1000)
base, unit = oracles.mixture1d(), 0.35  # the mixture in units of its standard deviation
data = oracles.Mixture(base.weights, base.means / unit, base.covariances / unit**2)
weights = {"L_simple": np.ones(schedule.T + 1), "the bound": likelihood.eps_weights(schedule, "large")}
of_bound = weights["the bound"][1:]
print(
    f"the weights of the bound: {of_bound[0]:.2f} at t = 1, then down to {of_bound.min():.4f}; {of_bound[-1]:.4f} at T"
)


def features(seed):
    """60 random functions of (x, t), and x and 1."""
    rng = np.random.default_rng(seed)
    of_x, of_level, shift = 3 * rng.standard_normal(60), rng.standard_normal(60) / 3, rng.uniform(-3, 3, 60)

    def evaluate(x, t):
        level = np.broadcast_to(schedule.log_snr[t], len(x))[:, None]
        return np.concatenate([np.tanh(x * of_x + level * of_level + shift), x, np.ones_like(x)], axis=1)

    return evaluate


def fitted(seed, weight):
    """The network with those features whose weighted squared error on 60 000 draws is least."""
    rng, evaluate = np.random.default_rng(100 + seed), features(seed)
    x0, t = data.sample(rng, 60_000), rng.integers(1, schedule.T + 1, 60_000)
    eps = rng.standard_normal(x0.shape)
    inputs = evaluate(noising.diffuse(schedule, x0, t, eps), t)
    weighted = inputs * weight[t][:, None]
    gram = weighted.T @ inputs
    ridge = 1e-8 * np.trace(gram) / len(gram) * np.eye(len(gram))  # some features are nearly alike
    theta = np.linalg.solve(gram + ridge, weighted.T @ eps)
    return lambda x, t, label=None: evaluate(x, t) @ theta


def excess(net, t):
    """E(ε* − ε_θ)² at t, over 2000 draws of x_t."""
    rng = np.random.default_rng(t)
    x_t = noising.diffuse(schedule, data.sample(rng, 2000), t, rng.standard_normal((2000, 1)))
    return np.mean((net(x_t, t) - data.eps(schedule, x_t, t)) ** 2)


times = np.unique(np.geomspace(1, schedule.T, 30).astype(int))
errors = {name: [] for name in weights}
nats = {name: [] for name in weights}
for seed in range(5):
    for name, weight in weights.items():
        net, rng = fitted(seed, weight), np.random.default_rng(7)
        errors[name].append([excess(net, t) for t in times])
        nats[name].append(
            likelihood.bound(Denoiser(net, schedule), data.sample(rng, 200), rng, "large").total.mean()
        )
errors = {name: np.array(found) for name, found in errors.items()}
for name in weights:
    mean, error = likelihood.mean_and_error(np.array(nats[name]))
    print(
        f"fitted to {name:9}: bound {mean:6.3f} ± {error:.3f} nats (mean and standard error over five sets of features)"
    )
mean, error = likelihood.mean_and_error(np.array(nats["L_simple"]) - nats["the bound"])
print(f"the difference, set by set: {mean:.3f} ± {error:.3f} nats")
for low, high in ((1, 20), (100, 1000)):
    inside = (times >= low) & (times <= high)
    ratio = np.log(errors["the bound"][:, inside].mean(axis=1) / errors["L_simple"][:, inside].mean(axis=1))
    mean, error = likelihood.mean_and_error(ratio)
    factors = f"{np.exp(mean):.2f} (times or by {np.exp(error):.2f})"
    print(f"t from {low} to {high}: the bound's weights multiply the error by {factors}")

# %% [markdown]
# ## When ε, $x_0$ or v is the better target (R5)
#
# F4 ties $x_t$, $x_0$ and $\varepsilon$ together, so that a network may predict any of them, or
# $v = \sqrt{\bar\alpha_t}\,\varepsilon - \sqrt{1-\bar\alpha_t}\, x_0$; the others follow. But the errors do not stay
# the same. By R5, if the predicted quantity is wrong by $\delta$, then
#
# | prediction | error of $\hat\varepsilon$ | error of $\hat x_0$ |
# | --- | --- | --- |
# | ε | $\delta$ | $\delta \sqrt{1-\bar\alpha_t}/\sqrt{\bar\alpha_t}$ |
# | $x_0$ | $\delta \sqrt{\bar\alpha_t}/\sqrt{1-\bar\alpha_t}$ | $\delta$ |
# | v | $\delta \sqrt{\bar\alpha_t}$ | $\delta \sqrt{1-\bar\alpha_t}$ |
#
# For instance, by R5 $\hat\varepsilon = \sqrt{1-\bar\alpha_t}\, x_t + \sqrt{\bar\alpha_t}\, v$, so that an error
# $\delta$ of $v$ is an error $\sqrt{\bar\alpha_t}\,\delta$ of $\hat\varepsilon$. The code below has all four that are
# not just $\delta$.
#
# - **ε** is good where there is little noise to be found (small $t$) and does well in sampling with many small steps.
#   At large $t$ its error in $\hat x_0$ explodes: 158-fold at $T$ with the paper's schedule, and without end where
#   $\bar\alpha_T = 0$: there ε says nothing of $x_0$, and cannot be used.
# - **$x_0$** is the mirror image: safe at large $t$, and useless for $\hat\varepsilon$ at small $t$, 100-fold at
#   $t = 1$.
# - **v** never magnifies an error. Take it for schedules with zero terminal SNR, for few large steps, and for
#   distillation, for which it was proposed (Salimans & Ho 2022).
#
# Equal weights on these three errors are three different weightings of one and the same loss: that on ε is the SNR
# times that on $x_0$.

# %%
x0_from_eps_lines = [
    lambda x_t, eps, d, a: (
        (x_t - np.sqrt(1 - a) * eps) / np.sqrt(a) - (x_t - np.sqrt(1 - a) * (eps + d)) / np.sqrt(a)
    ),
    lambda d, a: d * np.sqrt(1 - a) / np.sqrt(a),
]
eps_from_x0_lines = [
    lambda x_t, x_0, d, a: (
        (x_t - np.sqrt(a) * x_0) / np.sqrt(1 - a) - (x_t - np.sqrt(a) * (x_0 + d)) / np.sqrt(1 - a)
    ),
    lambda d, a: d * np.sqrt(a) / np.sqrt(1 - a),
]
eps_from_v_lines = [
    lambda x_t, v, d, a: (
        np.sqrt(1 - a) * x_t + np.sqrt(a) * (v + d) - (np.sqrt(1 - a) * x_t + np.sqrt(a) * v)
    ),
    lambda d, a: d * np.sqrt(a),
]
x0_from_v_lines = [
    lambda x_t, v, d, a: (
        np.sqrt(a) * x_t - np.sqrt(1 - a) * v - (np.sqrt(a) * x_t - np.sqrt(1 - a) * (v + d))
    ),
    lambda d, a: d * np.sqrt(1 - a),
]
compare("The error of x_0 from one of ε (R5)", x0_from_eps_lines)
compare("The error of ε from one of x_0 (R5)", eps_from_x0_lines)
compare("The error of ε from one of v (R5)", eps_from_v_lines)
compare("The error of x_0 from one of v (R5)", x0_from_v_lines)

# %%
figure, (weighting, by_t, targets) = plots.figure(13, 4.4, columns=3)
every = np.arange(1, schedule.T + 1)
weighting.loglog(
    every, weights["the bound"][1:], color=plots.INK, label=r"the bound, $\sigma_t^2 = \beta_t$ (V5)"
)
weighting.axhline(1, linestyle="--", color=plots.ACCENT, label="$L_{simple}$ (V8)")
weighting.set(
    xlabel="time t", ylabel=r"weight of $(\varepsilon - \varepsilon_\theta)^2$", title="the weights"
)
weighting.legend(frameon=False, fontsize=9)
for (name, found), color, dashes in zip(errors.items(), (plots.ACCENT, plots.INK), ("--", "-"), strict=False):
    log_mean, spread = np.log(found).mean(axis=0), np.log(found).std(axis=0, ddof=1) / np.sqrt(len(found))
    by_t.loglog(times, np.exp(log_mean), dashes, color=color, label=f"fitted to {name}")
    by_t.fill_between(times, np.exp(log_mean - spread), np.exp(log_mean + spread), color=color, alpha=0.15)
by_t.set(
    xlabel="time t", ylabel=r"$E(\varepsilon^* - \varepsilon_\theta)^2$", title="where a small network errs"
)
by_t.legend(frameon=False, fontsize=9)
signal, sigma = np.sqrt(schedule.alpha_bar[1:]), np.sqrt(schedule.one_minus_alpha_bar[1:])
for worst, name, color, dashes in (
    (np.maximum(1, sigma / signal), "ε", plots.INK, "-"),
    (np.maximum(1, signal / sigma), "$x_0$", plots.ACCENT, "--"),
    (np.maximum(signal, sigma), "v", plots.COLOURS[2], ":"),
):
    targets.loglog(every, worst, dashes, color=color, label=f"{name} predicted")
targets.set(
    xlabel="time t",
    ylabel=r"larger error of $\hat x_0$ and $\hat\varepsilon$",
    title="how an error of the prediction grows",
)
targets.legend(frameon=False, fontsize=9)
save(
    figure,
    "03_elbo",
    "Left: the bound puts its weight on small t. Middle: a network that is too small errs where its loss has little "
    "weight; the band is one standard error over five networks. Right: if the network's output is wrong by 1, the "
    "larger of the errors of $\\hat x_0$ and $\\hat\\varepsilon$; v never magnifies it.",
)

# %% [markdown]
# ## Exercises
#
# Fill in the blanks of `demos/exercises/03_elbo.py`, then run
#
#     python demos/check.py demos/exercises/03_elbo.py
#
# 1. `kl`: the KL divergence of two distributions over finitely many values (V1).
# 2. `step_term`: $L_{t-1}$ from ε and the predicted ε, with the part that does not depend on the network (V4, V5).
# 3. `simple_loss`: the loss that trains the network (V8).
