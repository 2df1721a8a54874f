# %% [markdown]
# # Session 1 · From data to noise
#
# A diffusion model learns to undo noise. This session is about the noise: how one small step adds it, why a thousand
# steps are one jump, and why all data end in the same distribution.
#
# You need: probability as far as the variance of a sum. Takes 10 seconds on one core.
#
# The ids (F1, F2, …) are those of [EQUATIONS.md](../EQUATIONS.md), where each has its code and its tests.

# %%
import numpy as np
from course import compare, save

from minidiff import noising, oracles, plots, schedules

rng = np.random.default_rng(0)
schedule = schedules.linear(T=1000)  # β from 0.0001 to 0.02, as in the paper (F2)

# %% [markdown]
# ## One step (F1)
#
# Step $t$ of the forward process shrinks what there is a little, and adds a little fresh noise:
#
# $$x_t = \sqrt{\alpha_t}\, x_{t-1} + \sqrt{\beta_t}\, z_t, \qquad \alpha_t = 1 - \beta_t, \quad z_t \sim N(0, 1)$$
#
# Here $\beta_t$ is the *variance* of the noise that step $t$ adds, so that $z_t$ is scaled by its square root. Time
# runs from 1 to $T$, and $x_0$ is the data. On an image the step is applied to each pixel, with a $z_t$ of its own.
#
# Why shrink at all? If noise were only added, the variance would grow with every step. The factor $\sqrt{\alpha_t}$ is
# the one that keeps a variance of 1. For data with mean 0 and variance $v$, and $E$ over $x_{t-1}$ and $z_t$:
#
# 1. $\mathrm{Var}\, x_t = E\left[(\sqrt{\alpha_t}\, x_{t-1} + \sqrt{1-\alpha_t}\, z_t)^2\right]$, by F1
# 2. $= \alpha_t E[x_{t-1}^2] + 2\sqrt{\alpha_t(1-\alpha_t)}\, E[x_{t-1}]\, E[z_t] + (1-\alpha_t) E[z_t^2]$, since $z_t$
#    is independent of $x_{t-1}$
# 3. $= \alpha_t v + 1 - \alpha_t$, since both means are 0 and $E[z_t^2] = 1$
# 4. $= v + (1-\alpha_t)(1-v)$
#
# Line 3 gives 1 for $v = 1$ (F5). By line 4 any other variance moves toward 1, and never past it (F9).
#
# Below, the same four lines in code. `compare` evaluates them at random numbers, and refuses a line that differs from
# the one above it. The expectation is over two independent variables that are 1 or −1 with equal probability: they have
# mean 0 and variance 1, and nothing else is used.


# %%
def expectation(f):
    """E f(x, z) over independent x and z, each 1 or −1."""
    return sum(f(x, z) for x in (1, -1) for z in (1, -1)) / 4


variance_lines = [
    lambda alpha, v: expectation(
        lambda x, z: (np.sqrt(alpha) * np.sqrt(v) * x + np.sqrt(1 - alpha) * z) ** 2
    ),
    lambda alpha, v: (
        alpha * expectation(lambda x, z: v * x**2)
        + 2 * np.sqrt(alpha * (1 - alpha)) * expectation(lambda x, z: np.sqrt(v) * x * z)
        + (1 - alpha) * expectation(lambda x, z: z**2)
    ),
    lambda alpha, v: alpha * v + 1 - alpha,
    lambda alpha, v: v + (1 - alpha) * (1 - v),
]
compare("The variance after a step", variance_lines)

# %% [markdown]
# Now ten points take all thousand steps. The data are a mixture of three narrow normal distributions: 30 % of the
# points lie near 0.5, 40 % near 0.1, and 30 % near −0.4 (S5).

# %%
data = oracles.mixture1d()
x = data.sample(rng, 10)
trajectories = [x]
for t in range(1, schedule.T + 1):
    x = noising.step(schedule, x, t, rng.standard_normal(x.shape))
    trajectories.append(x)
trajectories = np.concatenate(trajectories, axis=1)  # (10, T + 1)

# %% [markdown]
# ## Two steps are one step (F3)
#
# Put $x_{t-1}$ into $x_t$:
#
# $$x_t = \sqrt{\alpha_t}\left(\sqrt{\alpha_{t-1}}\, x_{t-2} + \sqrt{\beta_{t-1}} z_{t-1}\right) + \sqrt{\beta_t} z_t$$
#
# $$\phantom{x_t} = \sqrt{\alpha_t \alpha_{t-1}}\, x_{t-2} + \sqrt{\alpha_t \beta_{t-1}} z_{t-1} + \sqrt{\beta_t} z_t$$
#
# The sum of the two noises is normal, since a sum of independent normal variables is; its mean is 0; and its variance
# is
#
# 1. $E\left[(\sqrt{\alpha_t(1-\alpha_{t-1})}\, z_{t-1} + \sqrt{1-\alpha_t}\, z_t)^2\right]$
# 2. $= \alpha_t (1-\alpha_{t-1}) + (1-\alpha_t)$, since the two are independent: the mixed term has mean 0
# 3. $= \alpha_t - \alpha_t \alpha_{t-1} + 1 - \alpha_t$
# 4. $= 1 - \alpha_t \alpha_{t-1}$
#
# So two steps are one step with $\alpha_t \alpha_{t-1}$ in place of $\alpha_t$. Only this is needed of $z_{t-1}$: that
# its variance is 1 minus the square of the signal's factor. The sum of both noises has that property again.

# %%
two_steps_lines = [
    lambda alpha, alpha_before: expectation(
        lambda z_before, z: (np.sqrt(alpha * (1 - alpha_before)) * z_before + np.sqrt(1 - alpha) * z) ** 2
    ),
    lambda alpha, alpha_before: alpha * (1 - alpha_before) + (1 - alpha),
    lambda alpha, alpha_before: alpha - alpha * alpha_before + 1 - alpha,
    lambda alpha, alpha_before: 1 - alpha * alpha_before,
]
compare("The variance of two steps (F3)", two_steps_lines)

# %% [markdown]
# ## All steps are one jump (F4)
#
# The same argument adds one step after another. If the jump over $t-1$ steps is
# $x_{t-1} = \sqrt{\bar\alpha_{t-1}}\, x_0 + \sqrt{1-\bar\alpha_{t-1}}\, \varepsilon$, then with $\bar\alpha_{t-1}$ for
# $\alpha_{t-1}$ the lines above say that the jump over $t$ steps is
#
# $$x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1-\bar\alpha_t}\, \varepsilon, \qquad
# \bar\alpha_t = \alpha_t \bar\alpha_{t-1} = \alpha_1 \alpha_2 \cdots \alpha_t, \quad \varepsilon \sim N(0, 1)$$
#
# For $t = 1$ it is F1; so it holds for all $t$, and $\bar\alpha_0 = 1$ is the product of no factors. The distribution
# of $x_t$ for a known $x_0$ is $q(x_t \mid x_0) = N(\sqrt{\bar\alpha_t}\, x_0,\ 1-\bar\alpha_t)$.
#
# This is what makes training cheap: to show the network a noisy image at $t = 700$ takes one multiplication and one
# addition, not 700 steps; and a batch may have a time for each image (F8). Note that $\varepsilon$ is *not* $z_t$: it
# is the noise of the whole jump, a weighted sum of $z_1, \ldots, z_t$.
#
# A test of both: 20 000 points that start at 0.5 take steps, and their mean and standard deviation are compared with
# F4. With so many points, a mean at late $t$ has a standard error of $1/\sqrt{20\,000} = 0.007$.

# %%
walkers, moments = np.full((20_000, 1), 0.5), [(0.5, 0.0)]
for t in range(1, schedule.T + 1):
    walkers = noising.step(schedule, walkers, t, rng.standard_normal(walkers.shape))
    moments.append((walkers.mean(), walkers.std()))
moments = np.array(moments)
mean, sigma = 0.5 * np.sqrt(schedule.alpha_bar), np.sqrt(schedule.one_minus_alpha_bar)
print("      t     mean: by steps, by the jump     standard deviation: by steps, by the jump")
for t in (1, 10, 100, 300, 1000):
    by_steps, by_jump = moments[t], (mean[t], sigma[t])
    print(
        f"   {t:4d}         {by_steps[0]:7.4f}  {by_jump[0]:7.4f}                   {by_steps[1]:.4f}  {by_jump[1]:.4f}"
    )

x0 = data.sample(rng, 100_000)
jumped = noising.diffuse(schedule, x0, 300, rng.standard_normal(x0.shape))

# %% [markdown]
# ## The distribution of x_t (O1)
#
# $q(x_t \mid x_0)$ is normal, but $x_t$ itself is not: its density $q_t$ averages over the data. For data that are a
# mixture of normal distributions $N(m_k, s_k^2)$ with weights $w_k$, each of them is scaled and widened by F4, and
# $q_t$ is a mixture again:
#
# $$q_t = \sum_k w_k\, N\!\left(\sqrt{\bar\alpha_t}\, m_k,\ \bar\alpha_t s_k^2 + 1 - \bar\alpha_t\right)$$
#
# That is why this course begins with a mixture: its density at every $t$ is known exactly, and so is everything that a
# perfect network would learn from it. `oracles` has these formulas.


# %%
def density(x, t):
    """q_t at the points x (N,)."""
    return np.exp(data.log_density(schedule, x[:, None], t))


figure, (forward, curves, two_ways) = plots.figure(13, 4.6, columns=3)

grid, times = np.linspace(-2.6, 2.6, 300), np.arange(1, schedule.T + 1, 5)
heat = np.stack([density(grid, t) for t in times], axis=1)
forward.pcolormesh(times, grid, heat**0.4, cmap="Greys", shading="nearest", rasterized=True)
forward.plot(trajectories.T, color=plots.ACCENT, alpha=0.8, linewidth=0.5)
forward.set(xlabel="time t", ylabel="x", ylim=(-2.6, 2.6), title="ten points on their way (F1)")

for t, color in zip((20, 100, 300, 1000), plots.COLOURS, strict=False):
    curves.plot(grid, density(grid, t), color=color, label=f"$q_{{{t}}}$, exact")
curves.hist(
    jumped[:, 0], 150, density=True, color=plots.COLOURS[2], alpha=0.3, label="100 000 jumps\nto $t$ = 300"
)
curves.set(xlabel="x", ylabel="density", xlim=(-2.6, 2.6), title="the density of $x_t$ (O1, F4)")
curves.legend(frameon=False, fontsize=9)

shown = np.arange(0, schedule.T + 1, 50)
for exact, column, marker, color, name in (
    (mean, 0, "o", plots.INK, "mean"),
    (sigma, 1, "s", plots.ACCENT, "standard deviation"),
):
    two_ways.plot(exact, color=color, label=f"{name}: jump (F4)")
    two_ways.plot(
        shown, moments[shown, column], marker, color=color, markersize=4, label=f"{name}: steps (F1)"
    )
two_ways.set(xlabel="time t", ylabel="of $x_t$, for $x_0$ = 0.5", title="all steps are one jump")
two_ways.legend(frameon=False, fontsize=8.5, loc=(0.4, 0.36))

save(
    figure,
    "01_forward",
    "Left: the mixture becomes noise; dark is dense, and each line is one point. Middle: three peaks melt into one "
    "normal distribution; the histogram, made with F4 alone, has the exact density. Right: 20 000 points that took "
    "up to 1000 steps from 0.5 have the mean and standard deviation of a single jump.",
)

# %% [markdown]
# ## The end is noise, if the schedule is long enough (F6, F7)
#
# Every $\alpha_s$ is below 1, so that the factor of the signal, $\sqrt{\bar\alpha_t}$, decreases with $t$, and that of
# the noise, $\sqrt{1-\bar\alpha_t}$, increases (F7). Whether the signal is gone at $T$ depends on the sum of the
# $\beta$, for $\log\bar\alpha_T = \sum_t \log(1-\beta_t) \approx -\sum_t \beta_t$. With the paper's schedule the sum is
# $1000 \cdot 0.01 = 10$, and $\bar\alpha_T \approx e^{-10}$.
#
# **A classic error** is to keep the range of $\beta$ and shorten $T$: over 50 steps the sum is 0.5, and 60 % of the
# signal's variance is left at $T$. A sampler that begins with pure noise then shows the network inputs that it has
# never seen. Scale $\beta$ with $1/T$, or take the cosine schedule, which defines $\bar\alpha_t$ as a function of
# $t/T$.
#
# The ratio $\mathrm{SNR}_t = \bar\alpha_t/(1-\bar\alpha_t)$, the signal-to-noise ratio, is all that counts in a
# schedule: it determines how well $x_0$ can be estimated from $x_t$. It falls by eight powers of ten.

# %%
shown_schedules = {
    "linear, T = 1000": schedule,
    "cosine, T = 1000": schedules.cosine(1000),
    "linear range over 50 steps": schedules.linear(50),
}
for name, each in shown_schedules.items():
    print(f"{name:28} ᾱ_T = {each.alpha_bar[-1]:.1e}, SNR from {each.snr[1]:.0f} to {each.snr[-1]:.1e}")

figure, (factors, signals, ratios) = plots.figure(13, 4.2, columns=3)
factors.plot(np.sqrt(schedule.alpha_bar), color=plots.INK, label=r"$\sqrt{\bar\alpha_t}$, of the signal")
factors.plot(sigma, color=plots.ACCENT, label=r"$\sqrt{1-\bar\alpha_t}$, of the noise")
factors.set(xlabel="time t", ylabel="factor", title="the two factors of F4, linear schedule")
factors.legend(frameon=False, fontsize=9)
for (name, each), color, dashes in zip(
    shown_schedules.items(), plots.COLOURS, ("-", "--", ":"), strict=False
):
    fraction = np.arange(each.T + 1) / each.T
    signals.plot(fraction, each.alpha_bar, dashes, color=color, label=name)
    ratios.semilogy(fraction[1:], each.snr[1:], dashes, color=color, label=name)
signals.set(
    xlabel="t / T",
    ylabel=r"$\bar\alpha_t$",
    ylim=(0, 1.4),
    yticks=np.arange(6) / 5,
    title="the signal's fraction of the variance",
)
ratios.set(xlabel="t / T", ylabel="SNR", ylim=(1e-6, 1e5), title="signal-to-noise ratio")
signals.legend(frameon=False, fontsize=9)

save(
    figure,
    "01_forward-2",
    "Left: how much is left of the data, and how much noise there is. Middle: both schedules of 1000 steps end "
    "without signal; the same range of β over 50 steps (dotted) ends with 60 % of it. Right: the same three as "
    "signal-to-noise ratios.",
)

# %% [markdown]
# ## Exercises
#
# Fill in the blanks of `demos/exercises/01_forward.py`, then run
#
#     python demos/check.py demos/exercises/01_forward.py
#
# 1. `step`: write one step of the forward process (F1).
# 2. `alpha_bars`: compute $\bar\alpha_0, \ldots, \bar\alpha_T$ from $\beta_1, \ldots, \beta_T$ (F4). Mind where the
#    product begins and ends.
# 3. `jump`: noise a batch of images, each to a level of its own (F4, F5, F8). Mind which axis NumPy pairs with which.
