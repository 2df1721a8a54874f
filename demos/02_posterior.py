# %% [markdown]
# # Session 2 · One step back: the posterior
#
# Noise cannot be undone, but it can be estimated. If the clean $x_0$ were known, the distribution of $x_{t-1}$ for a
# given $x_t$ would be normal, and both its moments are found by completing a square. This session does that by hand,
# and shows what to do where $x_0$ is not known: put an estimate in its place, and take small steps.
#
# You need: session 1, and the density of a normal distribution. Takes 5 seconds on one core.

# %%
import numpy as np
from course import compare, save

from minidiff import noising, oracles, plots, schedules
from minidiff.diffusion.samplers import ancestral

schedule = schedules.linear(T=1000)

# %% [markdown]
# ## Bayes' rule, with $x_0$ in every condition (R1)
#
# The forward process gives $x_t$ from $x_{t-1}$. For the way back, Bayes' rule exchanges the two:
#
# $$q(x_{t-1} \mid x_t, x_0) = \frac{q(x_t \mid x_{t-1}, x_0)\, q(x_{t-1} \mid x_0)}{q(x_t \mid x_0)}
# = \frac{q(x_t \mid x_{t-1})\, q(x_{t-1} \mid x_0)}{q(x_t \mid x_0)}$$
#
# In the second form $x_0$ has left the first factor: where $x_{t-1}$ is known, $x_0$ adds nothing to what is known of
# $x_t$ (the Markov property). It must stay in the other two. All three factors are then normal densities of session 1:
#
# - $q(x_t \mid x_{t-1}) = N(\sqrt{\alpha_t}\, x_{t-1},\ \beta_t)$, one step (F1)
# - $q(x_{t-1} \mid x_0) = N(\sqrt{\bar\alpha_{t-1}}\, x_0,\ 1-\bar\alpha_{t-1})$, the jump to $t-1$ (F4)
# - $q(x_t \mid x_0) = N(\sqrt{\bar\alpha_t}\, x_0,\ 1-\bar\alpha_t)$, the jump to $t$, in which $x_{t-1}$ does not
#   occur
#
# ## Completing the square
#
# Write $x$ for $x_{t-1}$, $\alpha, \beta$ for $\alpha_t, \beta_t$ and $\bar\alpha'$ for $\bar\alpha_{t-1}$. The
# logarithm of the numerator is, but for constants,
#
# 1. $-\frac{(x_t - \sqrt\alpha\, x)^2}{2\beta} - \frac{(x - \sqrt{\bar\alpha'}\, x_0)^2}{2(1-\bar\alpha')}$
# 2. $= -\frac12\left[\left(\frac{\alpha}{\beta} + \frac{1}{1-\bar\alpha'}\right) x^2 - 2\left(\frac{\sqrt\alpha\,
#    x_t}{\beta} + \frac{\sqrt{\bar\alpha'}\, x_0}{1-\bar\alpha'}\right) x + \frac{x_t^2}{\beta} + \frac{\bar\alpha'
#    x_0^2}{1-\bar\alpha'}\right]$, both squares multiplied out and sorted by powers of $x$
# 3. $= -\frac12\left[a x^2 - 2 b x + c\right]$, with $a$, $b$ and $c$ for what line 2 has in their places
# 4. $= -\frac{a}{2}\left(x - \frac{b}{a}\right)^2 + \frac{b^2}{2a} - \frac{c}{2}$, the square completed
#
# In line 4 only the square depends on $x$. A density whose logarithm is $-\frac{a}{2}(x - \frac{b}{a})^2$ plus a
# constant is the normal density with mean $b/a$ and variance $1/a$. Note the sign: for $Ax^2 + Bx$ the centre is
# $-B/2A$, and here $A = -a/2$, $B = b$.


# %%
def a(alpha, alpha_bar_before):
    """The factor of x²: the precisions of both densities add up."""
    return alpha / (1 - alpha) + 1 / (1 - alpha_bar_before)


def b(alpha, alpha_bar_before, x_t, x_0):
    """The factor of −2x."""
    return np.sqrt(alpha) * x_t / (1 - alpha) + np.sqrt(alpha_bar_before) * x_0 / (1 - alpha_bar_before)


def c(alpha, alpha_bar_before, x_t, x_0):
    """The term without x."""
    return x_t**2 / (1 - alpha) + alpha_bar_before * x_0**2 / (1 - alpha_bar_before)


square_lines = [
    lambda x, alpha, alpha_bar_before, x_t, x_0: (
        -((x_t - np.sqrt(alpha) * x) ** 2) / (2 * (1 - alpha))
        - (x - np.sqrt(alpha_bar_before) * x_0) ** 2 / (2 * (1 - alpha_bar_before))
    ),
    lambda x, alpha, alpha_bar_before, x_t, x_0: (
        -(
            (alpha / (1 - alpha) + 1 / (1 - alpha_bar_before)) * x**2
            - 2
            * (np.sqrt(alpha) * x_t / (1 - alpha) + np.sqrt(alpha_bar_before) * x_0 / (1 - alpha_bar_before))
            * x
            + x_t**2 / (1 - alpha)
            + alpha_bar_before * x_0**2 / (1 - alpha_bar_before)
        )
        / 2
    ),
    lambda x, alpha, alpha_bar_before, x_t, x_0: (
        -(
            a(alpha, alpha_bar_before) * x**2
            - 2 * b(alpha, alpha_bar_before, x_t, x_0) * x
            + c(alpha, alpha_bar_before, x_t, x_0)
        )
        / 2
    ),
    lambda x, alpha, alpha_bar_before, x_t, x_0: (
        -a(alpha, alpha_bar_before)
        / 2
        * (x - b(alpha, alpha_bar_before, x_t, x_0) / a(alpha, alpha_bar_before)) ** 2
        + b(alpha, alpha_bar_before, x_t, x_0) ** 2 / (2 * a(alpha, alpha_bar_before))
        - c(alpha, alpha_bar_before, x_t, x_0) / 2
    ),
]
compare("Completing the square", square_lines)

# %% [markdown]
# ## The variance (R2)
#
# It is called $\tilde\beta_t$, and a little algebra makes it readable:
#
# 1. $\tilde\beta_t = \frac1a = 1 \Big/ \left(\frac{\alpha}{\beta} + \frac{1}{1-\bar\alpha'}\right)$
# 2. $= \frac{\beta(1-\bar\alpha')}{\alpha(1-\bar\alpha') + \beta}$, both fractions over one denominator
# 3. $= \frac{\beta(1-\bar\alpha')}{\alpha - \alpha\bar\alpha' + 1 - \alpha}$, since $\beta = 1 - \alpha$
# 4. $= \frac{1-\bar\alpha_{t-1}}{1-\bar\alpha_t}\,\beta_t$, since $\alpha_t \bar\alpha_{t-1} = \bar\alpha_t$
#
# The fraction is below 1: knowing $x_0$ makes the step back narrower than the step forward. At $t = 1$ it is 0.
#
# ## The mean (R3)
#
# 1. $\tilde\mu_t = \frac{b}{a} = b\,\tilde\beta_t$
# 2. $= \left(\frac{\sqrt\alpha\, x_t}{\beta} + \frac{\sqrt{\bar\alpha'}\, x_0}{1-\bar\alpha'}\right)
#    \frac{1-\bar\alpha'}{1-\bar\alpha_t}\,\beta$
# 3. $= \frac{\sqrt{\alpha_t}\,(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}\, x_t + \frac{\sqrt{\bar\alpha_{t-1}}\,
#    \beta_t}{1-\bar\alpha_t}\, x_0$
#
# ## The mean in terms of ε (R4)
#
# By F4, $x_0 = (x_t - \sqrt{1-\bar\alpha_t}\,\varepsilon)/\sqrt{\bar\alpha_t}$ (R5). Put into R3:
#
# 1. $\tilde\mu_t = \frac{\sqrt{\alpha_t}\,(1-\bar\alpha')}{1-\bar\alpha_t}\, x_t + \frac{\sqrt{\bar\alpha'}\,
#    \beta_t}{1-\bar\alpha_t} \cdot \frac{x_t - \sqrt{1-\bar\alpha_t}\,\varepsilon}{\sqrt{\bar\alpha_t}}$
# 2. $= \left(\frac{\sqrt{\alpha_t}\,(1-\bar\alpha')}{1-\bar\alpha_t} + \frac{\beta_t}{(1-\bar\alpha_t)
#    \sqrt{\alpha_t}}\right) x_t - \frac{\beta_t}{\sqrt{1-\bar\alpha_t}\sqrt{\alpha_t}}\,\varepsilon$, since
#    $\sqrt{\bar\alpha'}/\sqrt{\bar\alpha_t} = 1/\sqrt{\alpha_t}$
# 3. $= \frac{\alpha_t(1-\bar\alpha') + \beta_t}{(1-\bar\alpha_t)\sqrt{\alpha_t}}\, x_t -
#    \frac{\beta_t}{\sqrt{1-\bar\alpha_t}\sqrt{\alpha_t}}\,\varepsilon$
# 4. $= \frac{1}{\sqrt{\alpha_t}}\left(x_t - \frac{\beta_t}{\sqrt{1-\bar\alpha_t}}\,\varepsilon\right)$, since
#    $\alpha_t(1-\bar\alpha') + \beta_t = 1 - \bar\alpha_t$, as in R2
#
# This is the line at the heart of DDPM: subtract a little of the noise, and undo the shrinking by $\sqrt{\alpha_t}$.
# $\alpha_t$ has no bar there, $1-\bar\alpha_t$ has one, and the sign is a minus: EQUATIONS.md has two texts that print
# it otherwise, and what happens then (R4, Errata).

# %%
variance_lines = [
    lambda alpha, alpha_bar_before: 1 / (alpha / (1 - alpha) + 1 / (1 - alpha_bar_before)),
    lambda alpha, alpha_bar_before: (
        (1 - alpha) * (1 - alpha_bar_before) / (alpha * (1 - alpha_bar_before) + (1 - alpha))
    ),
    lambda alpha, alpha_bar_before: (
        (1 - alpha) * (1 - alpha_bar_before) / (alpha - alpha * alpha_bar_before + 1 - alpha)
    ),
    lambda alpha, alpha_bar_before: (1 - alpha_bar_before) / (1 - alpha * alpha_bar_before) * (1 - alpha),
]
mean_lines = [
    lambda alpha, alpha_bar_before, x_t, x_0: (
        b(alpha, alpha_bar_before, x_t, x_0) / a(alpha, alpha_bar_before)
    ),
    lambda alpha, alpha_bar_before, x_t, x_0: (
        (np.sqrt(alpha) * x_t / (1 - alpha) + np.sqrt(alpha_bar_before) * x_0 / (1 - alpha_bar_before))
        * ((1 - alpha_bar_before) / (1 - alpha * alpha_bar_before) * (1 - alpha))
    ),
    lambda alpha, alpha_bar_before, x_t, x_0: (
        np.sqrt(alpha) * (1 - alpha_bar_before) / (1 - alpha * alpha_bar_before) * x_t
        + np.sqrt(alpha_bar_before) * (1 - alpha) / (1 - alpha * alpha_bar_before) * x_0
    ),
]
eps_lines = [
    lambda alpha, alpha_bar, x_t, eps: (
        np.sqrt(alpha) * (1 - alpha_bar / alpha) / (1 - alpha_bar) * x_t
        + np.sqrt(alpha_bar / alpha)
        * (1 - alpha)
        / (1 - alpha_bar)
        * ((x_t - np.sqrt(1 - alpha_bar) * eps) / np.sqrt(alpha_bar))
    ),
    lambda alpha, alpha_bar, x_t, eps: (
        (
            np.sqrt(alpha) * (1 - alpha_bar / alpha) / (1 - alpha_bar)
            + (1 - alpha) / ((1 - alpha_bar) * np.sqrt(alpha))
        )
        * x_t
        - (1 - alpha) / (np.sqrt(1 - alpha_bar) * np.sqrt(alpha)) * eps
    ),
    lambda alpha, alpha_bar, x_t, eps: (
        (alpha * (1 - alpha_bar / alpha) + (1 - alpha)) / ((1 - alpha_bar) * np.sqrt(alpha)) * x_t
        - (1 - alpha) / (np.sqrt(1 - alpha_bar) * np.sqrt(alpha)) * eps
    ),
    lambda alpha, alpha_bar, x_t, eps: (x_t - (1 - alpha) / np.sqrt(1 - alpha_bar) * eps) / np.sqrt(alpha),
]
compare("The variance (R2)", variance_lines)
compare("The mean (R3)", mean_lines)
compare("The mean in terms of ε (R4)", eps_lines)

# %% [markdown]
# The formulas beside Bayes' rule on a grid, where nothing was derived: multiply the two densities, and divide by the
# sum.
#
# A product of two normal densities is always a normal density but for a factor (R6): precisions, the inverses of the
# variances, add up, and the mean is that of both, weighted by their precisions. The picture shows how the two compete:
# $x_t$ says where $x_{t-1}$ was to within $\sqrt{\beta_t}$, and $x_0$ to within $\sqrt{1-\bar\alpha_{t-1}}$.


# %%
def normal(x, mean, variance):
    """The density N(x; mean, variance)."""
    return np.exp(-((x - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)


t, x0, x_t = 4, 0.5, 0.55
mean, variance = (v.item() for v in noising.posterior(schedule, np.array([[x0]]), np.array([[x_t]]), t))
grid = np.linspace(0.44, 0.64, 401)
likelihood = normal(
    x_t, np.sqrt(schedule.alpha[t]) * grid, schedule.beta[t]
)  # q(x_t | x_{t−1}), over x_{t−1}
prior = normal(grid, np.sqrt(schedule.alpha_bar[t - 1]) * x0, schedule.one_minus_alpha_bar[t - 1])
product = likelihood * prior
product /= product.sum() * (grid[1] - grid[0])
difference = np.abs(product - normal(grid, mean, variance)).max() / product.max()
print(f"q(x_{t - 1} | x_{t} = {x_t}, x_0 = {x0}) = N({mean:.4f}, {np.sqrt(variance):.4f}²)")
print(f"Bayes' rule on a grid differs from R2 and R3 by {difference:.0e} of the peak")

figure, (bayes, weights, ratio) = plots.figure(13, 4.4, columns=3)
bayes.plot(grid, prior, "--", color=plots.INK, label="$q(x_3 | x_0)$: the jump from $x_0$")
bayes.plot(grid, likelihood, ":", color=plots.COLOURS[2], label="$q(x_4 | x_3)$: one step to $x_4$")
bayes.fill_between(grid, product, color=plots.ACCENT, alpha=0.25, label="their product, normalised")
bayes.plot(grid, normal(grid, mean, variance), color=plots.ACCENT, label="R2 and R3")
for position, name in ((x0, "$x_0$"), (x_t, "$x_4$")):
    bayes.axvline(position, ymax=0.55, color=plots.INK, linewidth=0.7)
    bayes.text(position, 43, name, ha="center", fontsize=10)
bayes.set(xlabel="$x_3$", ylabel="density", ylim=(0, 74), xticks=[0.45, 0.5, 0.55, 0.6])
bayes.set(title="one step back from $x_4$, for a known $x_0$ (R1)")
bayes.legend(frameon=False, fontsize=8.5, loc="upper left")

times = np.arange(1, schedule.T + 1)
before, after = schedule.one_minus_alpha_bar[:-1], schedule.one_minus_alpha_bar[1:]
weights.semilogx(times, np.sqrt(schedule.alpha[1:]) * before / after, color=plots.INK, label="of $x_t$")
weights.semilogx(
    times,
    np.sqrt(schedule.alpha_bar[:-1]) * schedule.beta[1:] / after,
    "--",
    color=plots.ACCENT,
    label="of $x_0$",
)
weights.set(xlabel="time t", ylabel="factor", title=r"the factors in the mean $\tilde\mu_t$ (R3)")
weights.legend(frameon=False, fontsize=9)
ratio.loglog(times, schedule.beta[1:], "--", color=plots.INK, label=r"$\beta_t$, of the step forward")
ratio.loglog(
    times[1:], schedule.posterior_variance[2:], color=plots.ACCENT, label=r"$\tilde\beta_t$, of the step back"
)
ratio.set(
    xlabel="time t", ylabel="variance", title=r"$\tilde\beta_t$ beside $\beta_t$ (R2); $\tilde\beta_1 = 0$"
)
ratio.legend(frameon=False, fontsize=9)
save(
    figure,
    "02_posterior",
    "Left: Bayes' rule on a grid (shaded) and the closed form (line) agree; the result is narrower than both factors, "
    "and lies between $x_0$ and $x_4$. Middle: near t = 1 the mean is $x_0$ itself, later nearly $x_t$. Right: "
    "knowing $x_0$ makes a difference to the variance only in the first few of 1000 steps.",
)

# %% [markdown]
# ## Why no noise at the last step
#
# $\tilde\beta_1 = 0$ and $\tilde\mu_1 = x_0$: for a known $x_0$, the distribution of the last step is the point $x_0$.
# There is nothing left to draw. A sampler that adds noise of variance $\beta_1$ there, or takes $\tilde\beta_2$ for the
# missing $\tilde\beta_1$, returns samples plus noise, which no later step takes away: with the paper's schedule
# $\sqrt{\beta_1} = 0.01$, on pixels from −1 to 1 a grain of 1.3 grey levels of 255.
#
# But $x_0$ is only estimated, and then a little variance is indeed missing. How much either choice matters depends on
# how narrow the data are beside 0.01. On normal data every step of a sampler is affine, so that the standard deviation
# of its samples follows without sampling (O3):

# %%
steps, small, large = ancestral.steps(schedule), schedule.posterior_variance[2], schedule.beta[1]
print("standard deviation of the data, and of the samples with a last step without noise, with β̃_2, with β_1")
for sigma in (0.0, 0.01, 0.2):
    narrow, found = oracles.Gaussian(0.5, sigma**2), []
    for variance in (0.0, small, large):
        last = steps[-1]._replace(sigma=np.sqrt(variance))
        found.append(np.sqrt(narrow.outcome(schedule, [*steps[:-1], last])[1].item()))
    print(f"   {sigma:.4f}   " + "   ".join(f"{each:.4f}" for each in found))

# %% [markdown]
# A point is returned exactly by the step without noise alone. For wide data the choice hardly matters. The peak in
# between loses width, for its $x_0$ is not known to within 0.01 even from $x_1$, and noise happens to make up for that.
# Images are like the point: given $x_1$ and its neighbours a pixel is nearly certain, and noise on it is grain.
#
# ## Where $x_0$ is not known
#
# To sample is to not know $x_0$. What is needed then is $q(x_{t-1} \mid x_t)$, the average of the posterior over all
# the $x_0$ that may have led to $x_t$. As $\tilde\mu_t$ is linear in $x_0$, the mean of that average is R3 with
# $\hat x_0 = E[x_0 \mid x_t]$ for $x_0$: exactly, whatever the data. This is why it suffices to learn $\hat x_0$, or
# equivalently $\hat\varepsilon$. The variance is
#
# $$\mathrm{Var}(x_{t-1} \mid x_t) = \tilde\beta_t +
# \left(\frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1-\bar\alpha_t}\right)^2 \mathrm{Var}(x_0 \mid x_t)$$
#
# and depends on the data. If they are a single point, it is $\tilde\beta_t$. If they are $N(0, 1)$, then
# $\mathrm{Var}(x_0 \mid x_t) = 1-\bar\alpha_t$, for $x_0$ and $x_t$ both have variance 1 and correlation
# $\sqrt{\bar\alpha_t}$; and
#
# 1. $\tilde\beta_t + \left(\frac{\sqrt{\bar\alpha'}\,\beta}{1-\bar\alpha_t}\right)^2 (1-\bar\alpha_t)$
# 2. $= \frac{\beta}{1-\bar\alpha_t}\left[1-\bar\alpha' + \bar\alpha'\beta\right]$, by R2
# 3. $= \frac{\beta}{1-\bar\alpha_t}\left[1-\bar\alpha'(1-\beta)\right]$
# 4. $= \beta_t$
#
# A sampler may take either for $\sigma_t^2$ ("small" and "large", S2), and with many steps it makes little difference,
# for the two agree except at the smallest $t$. (One text leaves $x_0$ out of Bayes' rule. How wide its posterior would
# be then, at just those $t$, is in the erratum of R1.)

# %%
standard_normal_lines = [
    lambda alpha, alpha_bar_before: (
        (1 - alpha_bar_before) / (1 - alpha * alpha_bar_before) * (1 - alpha)
        + (np.sqrt(alpha_bar_before) * (1 - alpha) / (1 - alpha * alpha_bar_before)) ** 2
        * (1 - alpha * alpha_bar_before)
    ),
    lambda alpha, alpha_bar_before: (
        (1 - alpha) / (1 - alpha * alpha_bar_before) * (1 - alpha_bar_before + alpha_bar_before * (1 - alpha))
    ),
    lambda alpha, alpha_bar_before: (
        (1 - alpha) / (1 - alpha * alpha_bar_before) * (1 - alpha_bar_before * alpha)
    ),
    lambda alpha: 1 - alpha,
]
compare("The variance of a step back on N(0, 1) data", standard_normal_lines)

# %% [markdown]
# Nor is $q(x_{t-1} \mid x_t)$ normal, where the data are not. But a short step back nearly is, since $x_{t-1}$ cannot
# be far from $x_t$; this is why $T$ is large.

# %%
data = oracles.mixture1d()


def step_back(t, s, x, wide):
    """q(x_s | x_t = x) at the points `wide`, by Bayes' rule on a grid, and the normal density of its moments."""
    alpha, beta = schedule.kernel(s, t)
    density = normal(x, np.sqrt(alpha) * wide, beta) * np.exp(data.log_density(schedule, wide[:, None], s))
    width = wide[1] - wide[0]
    density /= density.sum() * width
    mean = (density @ wide) * width
    return density, normal(wide, mean, (density @ (wide - mean) ** 2) * width)


figure, axes = plots.figure(13, 4.2, columns=3)
x_t = 0.25
for ax, s in zip(axes, (199, 60, 1), strict=False):
    wide = np.linspace(-1.5, 2, 7001)
    exact, approximation = step_back(200, s, x_t, wide)
    ax.fill_between(wide, exact, color=plots.ACCENT, alpha=0.3, label=f"$q(x_{{{s}}} | x_{{200}})$, exact")
    ax.plot(wide, approximation, color=plots.INK, label="normal, with its moments")
    distance = np.abs(exact - approximation).sum() * (wide[1] - wide[0]) / 2
    print(
        f"from t = 200 to {s:3d}: total variation between q(x_s | x_t) and a normal distribution {distance:.3f}"
    )
    ax.set(xlabel=f"$x_{{{s}}}$", ylabel="density", ylim=(0, 1.3 * exact.max()))
    ax.set(title=f"from 200 to {s}: total variation {distance:.2g}")
    ax.legend(frameon=False, fontsize=9, loc="upper left")
save(
    figure,
    "02_posterior-2",
    "The way back from $x_{200}$ = 0.25 where $x_0$ is not known, for the mixture of session 1. One step back is "
    "normal to the eye; 140 steps at once are not; and a jump to the data must choose between three peaks, which "
    "a normal distribution cannot. Total variation is half the area between the two curves.",
)

# %% [markdown]
# ## One jump is not enough (R7)
#
# Then why not jump to $\hat x_0$ at once? Because the mean of all possible data is not a sample of them. On normal data
# $N(0.3, 0.2^2)$ every step of a sampler is affine, so that the mean and variance of its samples can be computed
# without sampling (O3):

# %%
gaussian = oracles.Gaussian(0.3, 0.04)
for name, steps in (
    ("one jump from T to 0", ancestral.steps(schedule, [1000, 0])),
    ("1000 steps, σ² = β̃", ancestral.steps(schedule)),
    ("1000 steps, σ² = β", ancestral.steps(schedule, variance="large")),
):
    mean, covariance = gaussian.outcome(schedule, steps)
    print(f"{name:22} mean {mean.item():.4f}, variance {covariance.item():.3g}; of the data: 0.3 and 0.04")

# %% [markdown]
# ## Exercises
#
# Fill in the blanks of `demos/exercises/02_posterior.py`, then run
#
#     python demos/check.py demos/exercises/02_posterior.py
#
# 1. `product`: the mean and variance of the product of two normal densities (R6). Complete the square once more.
# 2. `posterior`: mean and variance of $q(x_{t-1} \mid x_t, x_0)$ (R2, R3), from $\alpha_t$ and $\bar\alpha_{t-1}$
#    alone.
# 3. `reverse_step`: one step of a sampler, from $x_t$ and $\varepsilon$ (R4, S2). The check runs all thousand steps of
#    it on normal data, with the exact $\varepsilon$ and without sampling, and compares the variance of what comes out.
