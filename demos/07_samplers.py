# %% [markdown]
# # Session 7 · From noise to data: DDPM and DDIM
#
# Two samplers for the same network: DDPM draws fresh noise at each of 1000 steps, DDIM need not draw any and may skip
# steps. Why is no noise added in the last step? Why may DDIM skip steps, what does it cost, and why is the first
# sampler slow? The answers are measured with a trained network, and with the exact ε, whose samples have no error but
# the sampler's.
#
# You need: sessions 2 and 6. Takes 55 seconds on two cores.

# %%
import time
from itertools import pairwise

import numpy as np
from course import compare, save, train

from minidiff import Denoiser, metrics, nn, noising, oracles, plots, samplers, schedules, training
from minidiff.diffusion.samplers.ddim import steps as ddim_steps

schedule = schedules.linear(T=1000)
mixture, unit = oracles.mixture1d(), 0.35  # the standard deviation of the data
data = oracles.Mixture(mixture.weights, mixture.means / unit, mixture.covariances / unit**2)

# %% [markdown]
# ## DDPM (S2)
#
# If $x_0$ were known, a step back would be a draw from the posterior of session 2 (R1–R3). It is not known, but the
# network gives an estimate $\hat x_0$ of it (R5). DDPM puts the estimate in its place:
#
# $$x_{t-1} = \tilde\mu_t(x_t, \hat x_0) + \sigma_t z, \qquad \sigma_t^2 = \tilde\beta_t, \quad z \sim N(0, I)$$
#
# Note that $\sigma_t$ is the *standard deviation*: text E multiplies $z$ by "a variance", and text C calls
# $\tilde\beta_t$ a standard deviation (R2, S2 in the errata). The whole sampler:


# %%
def my_ddpm(denoiser, x, rng):
    """x_0 (B, D) from x = x_T, in all T steps."""
    for t in range(schedule.T, 0, -1):
        x0 = denoiser(x, t).x0
        mean, variance = noising.posterior(schedule, x0, x, t)
        x = mean + np.sqrt(variance) * rng.standard_normal(x.shape)  # at t = 1 the variance is 0
    return x


exact = Denoiser(data.network(schedule), schedule)
drawn = my_ddpm(exact, np.random.default_rng(0).standard_normal((2000, 1)), np.random.default_rng(1))
expected = np.sqrt(data.sample(np.random.default_rng(2), 200_000).var())
print(f"standard deviation of 2000 samples: {drawn.std():.3f}, of the data: {expected:.3f}")

# %% [markdown]
# ## Why no noise in the last step?
#
# Two reasons, which agree. First, the posterior says so. At $t = 1$ it is $q(x_0 \mid x_1, x_0)$, in which nothing is
# left to draw: $\tilde\beta_1 = \frac{1-\bar\alpha_0}{1-\bar\alpha_1}\beta_1 = 0$, since $\bar\alpha_0 = 1$ (R2). And
# its mean (R3), with $\bar\alpha_0 = 1$ and $\bar\alpha_1 = \alpha_1$,
#
# 1. $\tilde\mu_1 = \frac{\sqrt{\alpha_1}\,(1-1)}{1-\alpha_1}\, x_1 + \frac{\sqrt 1\,(1-\alpha_1)}{1-\alpha_1}\, x_0$
# 2. $= x_0$
#
# So the last step returns $\hat x_0$ itself. Second, noise that is added at $t > 1$ is removed again by the steps that
# follow; after the last there is none. Noise of variance $\sigma_1^2$ there is noise in the picture: the variance of
# the samples grows by exactly $\sigma_1^2$. On normally distributed data it can be computed without sampling (O3):

# %%
last_lines = [
    lambda alpha, x1, x0: np.sqrt(alpha) * (1 - 1) / (1 - alpha) * x1 + (1 - alpha) / (1 - alpha) * x0,
    lambda x0: x0,
]
compare("The mean of the last step (R3)", last_lines)

peak = oracles.Gaussian(0.5 / unit, (0.01 / unit) ** 2)  # the narrowest peak of the data
print("\nstandard deviation of samples of the narrowest peak, over that of the data:")
for T, beta_start in ((1000, 1e-4), (100, 1e-3)):
    chain = schedules.linear(T, beta_start, 200 * beta_start)
    plan = ddim_steps(chain, eta=1.0)  # DDPM, by S4 below
    noisy = [*plan[:-1], plan[-1]._replace(sigma=np.sqrt(chain.beta[1]))]
    without, with_noise = (
        np.sqrt(peak.outcome(chain, steps)[1].item()) / (0.01 / unit) for steps in (plan, noisy)
    )
    print(
        f"   T = {T:4d}: {without:.3f}, and with noise of variance β_1 = {beta_start} in the last step {with_noise:.3f}"
    )

# %% [markdown]
# ## DDIM: the same marginals with any amount of noise (S3)
#
# What does training fix? L_simple contains $q(x_t \mid x_0)$ and nothing else: pairs of $x_t$ and $\varepsilon$, one
# $t$ at a time. How $x_t$ and $x_{t-1}$ depend on each other never occurs. So any way back with the same
# $q(x_t \mid x_0)$ at each $t$ may use the same network. Look for one of the form
#
# $$x_s = \sqrt{\bar\alpha_s}\, x_0 + k\, \varepsilon + \sigma z$$
#
# for any $s < t$, with the $\varepsilon$ that is in $x_t$ already, fresh noise $z$ and a $\sigma$ that we may choose.
# Given $x_0$ the mean is right, $\sqrt{\bar\alpha_s}\,x_0$. The variance must be $1-\bar\alpha_s$ (F4). With
# $k = \sqrt{1-\bar\alpha_s-\sigma^2}$ it is:
#
# 1. $E[(k\varepsilon + \sigma z)^2]$
# 2. $= k^2 + \sigma^2$, since $\varepsilon$ and $z$ are independent, with mean 0 and variance 1
# 3. $= (1-\bar\alpha_s-\sigma^2) + \sigma^2$
# 4. $= 1-\bar\alpha_s$
#
# That is DDIM. Nothing in it says $s = t-1$: **steps may be skipped because the derivation never mentions the
# neighbour**. With $\sigma = 0$ no noise is drawn after $x_T$.
#
# ## DDPM is the DDIM with σ² = β̃ (S4)
#
# Write $\alpha = \bar\alpha_t/\bar\alpha_s$ and $\tilde\beta = \frac{1-\bar\alpha_s}{1-\bar\alpha_t}(1-\alpha)$. Then
# the factor of $x_t$ in $k\,\varepsilon = k\,(x_t - \sqrt{\bar\alpha_t}\,x_0)/\sqrt{1-\bar\alpha_t}$ is, squared,
#
# 1. $\left(1-\bar\alpha_s - \frac{1-\bar\alpha_s}{1-\bar\alpha_t}(1-\alpha)\right) / (1-\bar\alpha_t)$
# 2. $= (1-\bar\alpha_s)\,\frac{(1-\bar\alpha_t) - (1-\alpha)}{(1-\bar\alpha_t)^2}$
# 3. $= (1-\bar\alpha_s)\,\frac{\alpha - \alpha\bar\alpha_s}{(1-\bar\alpha_t)^2}$, since
#    $\bar\alpha_t = \alpha\bar\alpha_s$
# 4. $= \left(\frac{\sqrt\alpha\,(1-\bar\alpha_s)}{1-\bar\alpha_t}\right)^2$, the factor of $x_t$ in R3
#
# and that of $x_0$ is
#
# 1. $\sqrt{\bar\alpha_s} - \frac{\sqrt\alpha\,(1-\bar\alpha_s)}{1-\bar\alpha_t}\sqrt{\bar\alpha_t}$
# 2. $= \sqrt{\bar\alpha_s}\,\frac{(1-\bar\alpha_t) - \alpha(1-\bar\alpha_s)}{1-\bar\alpha_t}$, since
#    $\sqrt{\bar\alpha_t} = \sqrt\alpha\sqrt{\bar\alpha_s}$
# 3. $= \sqrt{\bar\alpha_s}\,\frac{1-\alpha}{1-\bar\alpha_t}$, the factor of $x_0$ in R3
#
# So $\sigma = \eta\sqrt{\tilde\beta}$ goes from DDIM at $\eta = 0$ to DDPM at $\eta = 1$.


# %%
def expectation(f):
    """E f(ε, z) over independent ε and z, each 1 or −1."""
    return sum(f(eps, z) for eps in (1, -1) for z in (1, -1)) / 4


marginal_lines = [
    lambda a, r: expectation(
        lambda eps, z: (np.sqrt((1 - a) - r * (1 - a)) * eps + np.sqrt(r * (1 - a)) * z) ** 2
    ),  # σ² = r (1 − ᾱ_s), so that it is at most 1 − ᾱ_s
    lambda a, r: np.sqrt((1 - a) - r * (1 - a)) ** 2 + np.sqrt(r * (1 - a)) ** 2,
    lambda a, r: ((1 - a) - r * (1 - a)) + r * (1 - a),
    lambda a: 1 - a,
]
of_x_t_lines = [
    lambda a, alpha: ((1 - a) - (1 - a) / (1 - a * alpha) * (1 - alpha)) / (1 - a * alpha),
    lambda a, alpha: (1 - a) * ((1 - a * alpha) - (1 - alpha)) / (1 - a * alpha) ** 2,
    lambda a, alpha: (1 - a) * (alpha - alpha * a) / (1 - a * alpha) ** 2,
    lambda a, alpha: (np.sqrt(alpha) * (1 - a) / (1 - a * alpha)) ** 2,
]
of_x0_lines = [
    lambda a, alpha: np.sqrt(a) - np.sqrt(alpha) * (1 - a) / (1 - a * alpha) * np.sqrt(a * alpha),
    lambda a, alpha: np.sqrt(a) * ((1 - a * alpha) - alpha * (1 - a)) / (1 - a * alpha),
    lambda a, alpha: np.sqrt(a) * (1 - alpha) / (1 - a * alpha),
]
compare("DDIM keeps the variance (S3)", marginal_lines)
compare("DDIM with η = 1: the factor of x_t, squared (S4)", of_x_t_lines)
compare("DDIM with η = 1: the factor of x_0 (S4)", of_x0_lines)

# %% [markdown]
# ## The network
#
# Trained on the mixture of session 1, scaled to variance 1: in its own units the peaks are too narrow for so small a
# network.

# %%
points = data.sample(np.random.default_rng(0), 200_000)
rng = np.random.default_rng(0)
net = nn.MLP(rng, dim=1, time="sinusoidal")
options = training.TrainingOptions(batch=1024, lr=2e-3, ema_decay=0.999)
trainer = training.Trainer(net, schedule, points.astype(np.float32), options=options, rng=rng)
list(train(trainer, 6000, enough=0.25))
models = {"trained": trainer.denoiser(), "exact": exact}

# %% [markdown]
# ## Trajectories
#
# The same 60 starting points. DDPM's trajectories are rough, since each step adds noise; DDIM's are smooth, and allow
# long steps.

# %%
count = 4000
x_T = samplers.initial_noise(np.random.default_rng(1), (count, 1))
trajectories = {
    "DDPM, 1000 steps": list(samplers.ddpm(models["trained"], x_T, rng)),
    "DDIM, 50 steps": list(
        samplers.ddim(models["trained"], x_T, rng, samplers.spaced(schedule, "quadratic", 50))
    ),
}
figure, axes = plots.figure(11, 6.4, columns=2, rows=2, width_ratios=(2, 1), sharey=True)
bins = np.linspace(-0.8, 0.9, 171)
for (path_ax, density_ax), (name, states) in zip(axes, trajectories.items(), strict=True):
    shown = unit * np.stack([x_T[:60], *(state.x[:60] for state in states)])[..., 0]
    path_ax.plot(
        [schedule.T, *(state.t for state in states)], shown, color=plots.ACCENT, alpha=0.5, linewidth=0.6
    )
    path_ax.invert_xaxis()
    path_ax.set(xlabel="time t, from noise to data", ylabel="x (data units)", ylim=(-0.8, 0.9), title=name)
    side = {"bins": bins, "density": True, "orientation": "horizontal"}
    density_ax.hist(unit * points[:, 0], color=plots.INK, alpha=0.3, label="data", **side)
    density_ax.hist(
        unit * states[-1].x[:, 0], color=plots.ACCENT, histtype="step", label=f"{count} samples", **side
    )
    density_ax.set(xlabel="density", xscale="log", xlim=(0.02, 30), title="at t = 0")
    density_ax.legend(frameon=False, fontsize=9, loc="lower right")
save(
    figure,
    "07_samplers",
    "The same network and the same 60 starting points. DDPM adds noise at every step; DDIM draws none after the start, "
    "so that its trajectories are smooth and 50 steps suffice. On the right the samples beside the data, on a "
    "logarithmic scale: both samplers leave a few points between the peaks.",
)

# %% [markdown]
# ## How many steps? (S6)
#
# The distance is Wasserstein-1 to 200 000 points of the data, in the data's units, times 1000. Even real points have
# one: two sets of points differ by chance. That is the floor, which is itself a random number, with a spread: below it
# nothing can be told apart. For $\eta = 1$ and $0.5$, and steps spaced evenly ("trailing") or densely near 0
# ("quadratic").


# %%
def distance(denoiser, times, eta):
    """1000 times the Wasserstein-1 distance between `count` samples, made over these times, and the data."""
    samples = samplers.final(samplers.ddim(denoiser, x_T, np.random.default_rng(2), times, eta))
    return 1000 * unit * metrics.wasserstein1(samples, points)


real = [
    1000 * unit * metrics.wasserstein1(data.sample(np.random.default_rng(seed), count), points)
    for seed in range(3, 43)
]
floor, spread = np.mean(real), np.std(real)
print(
    f"\nthe floor, {count} real points: {floor:.1f}, with a standard deviation of {spread:.1f} from draw to draw\n"
)

numbers = (10, 20, 50, 100, 1000)
etas = {"DDPM": 1.0, "η = 0.5": 0.5, "DDIM": 0.0}
found = {}
print("ε        sampler   spacing    " + "".join(f"{n:>7}" for n in numbers) + "  steps")
for model, denoiser in models.items():
    for sampler, eta in etas.items():
        with_all = distance(denoiser, samplers.spaced(schedule, "trailing", 1000), eta)
        for spacing in ("trailing", "quadratic"):
            few = [distance(denoiser, samplers.spaced(schedule, spacing, n), eta) for n in numbers[:-1]]
            found[model, sampler, spacing] = [*few, with_all]
            print(
                f"{model:9}{sampler:10}{spacing:11}" + "".join(f"{d:7.1f}" for d in (*few, with_all)),
                flush=True,
            )

figure, axes = plots.figure(11, 4.8, columns=2, sharey=True)
for ax, model in zip(axes, models, strict=True):
    ax.axhspan(floor - spread, floor + spread, color=plots.INK, alpha=0.12, linewidth=0)
    ax.axhline(floor, color=plots.INK, alpha=0.5, linewidth=0.8, label="real points ± 1 s.d.")
    for sampler, color, marker in (("DDPM", plots.INK, "o"), ("DDIM", plots.ACCENT, "s")):
        for spacing, dashes in (("quadratic", "-"), ("trailing", ":")):
            distances = found[model, sampler, spacing]
            style = {"marker": marker, "markersize": 4, "color": color}
            ax.loglog(numbers, distances, dashes, label=f"{sampler}, {spacing}", **style)
    ax.set_xticks(numbers, labels=[str(n) for n in numbers])
    ax.set_xticks([], minor=True)
    ax.set_yticks((5, 10, 20, 50, 100), labels=("5", "10", "20", "50", "100"))
    ax.set_yticks([], minor=True)
    ax.set(xlabel="number of steps", title=f"{model} ε")
axes[0].set(ylabel="1000 × Wasserstein-1 (data units)")
axes[1].legend(frameon=False, fontsize=9)
save(
    figure,
    "07_samplers-2",
    "The distance of 4000 samples to the data against the number of steps, for one training and one draw of x_T. The "
    "grey band is the distance of 4000 real points, which differs from draw to draw: samples in it are as good as "
    "the data, and differences in it mean nothing. With few steps DDIM is better than DDPM, and steps that are dense "
    "near t = 0 (solid) are better than even ones.",
)

# %% [markdown]
# **These are the figures of one seed.** S6 of EQUATIONS.md gives means with their standard errors over five, in which
# data, training, $x_T$ and noise are drawn anew (`benchmarks/spread.py steps`): at 100 steps DDIM has $5.2 \pm 0.9$
# with the exact ε and $8.0 \pm 1.4$ with a trained one. Figures that differ by no more than their errors do not differ.
#
# The same program with the same seed prints the same digits, today and in a year, on the same kind of machine. But any
# change of the program is like another seed: when the network drew its initial weights in another order, DDIM's
# distances in 1000, 100, 50, 20 and 10 steps went from 11.3, 8.5, 6.6, 11.2, 15.8 to the ones above, and nothing had
# become better or worse. One of the 82 960 initial weights changed in its last bit gives 7.9, 8.3, 7.9, 15.8, 28.3.
#
# ## Four questions (S7)
#
# **Why is DDPM slow?** Because each evaluation of the network needs the result of the one before. And they cannot all
# be replaced by one jump $x_T \to x_0$: the best $\hat x_0$ at $T$ is the mean of the data (R7).
#
# **Why must T be large?** Because a step back is drawn from a normal distribution, and the true
# $q(x_s \mid x_t)$, without $x_0$, is nearly normal only for short steps. Below is its total variation distance to the
# normal distribution with the same mean and variance.
#
# **Can steps be skipped, and why may DDIM do so?** See above: its marginals are kept for any list of times. The table
# says what is lost.

# %%
seconds = {}
for n in (1000, 50):
    start = time.perf_counter()
    distance(models["trained"], samplers.spaced(schedule, "quadratic", n), 1.0)
    seconds[n] = time.perf_counter() - start
print(f"\n{count} samples take {seconds[1000]:.1f} s in 1000 steps and {seconds[50]:.2f} s in 50")
print(
    f"a single step, x_T → x_0, ends at a distance of {distance(exact, (1000, 0), 1.0):.0f} even with the exact ε"
)


def shape_error(t, s):
    """Total variation between q(x_s | x_t) and the normal distribution with its moments, averaged over 25 x_t."""
    alpha, beta = schedule.kernel(s, t)
    x_0 = np.quantile(points[:20_000], np.linspace(0.02, 0.98, 25))
    x_t = np.sqrt(schedule.alpha_bar[t]) * x_0 + np.sqrt(schedule.one_minus_alpha_bar[t]) * np.linspace(
        -2, 2, 25
    )
    grid = np.linspace(-5, 5, 20_001)
    width = grid[1] - grid[0]
    prior = data.log_density(schedule, grid[:, None], s)
    distances = []
    for x in x_t:
        back = np.exp(
            prior - (x - np.sqrt(alpha) * grid) ** 2 / (2 * beta) - prior.max()
        )  # Bayes, without x_0
        back /= back.sum() * width
        mean = (back @ grid) * width
        variance = (back @ (grid - mean) ** 2) * width
        normal = np.exp(-((grid - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
        distances.append(np.abs(back - normal).sum() * width / 2)
    return float(np.mean(distances))


print("\ntotal variation between q(x_s | x_t) and a normal distribution, from t = 200:")
for s in (199, 190, 150, 100, 1):
    print(f"   to s = {s:3d}: {shape_error(200, s):.3f}")
print(
    "so with a smaller T, its β scaled to end in noise all the same, and its own exact ε, DDPM's distance is"
)
for T in (1000, 100, 20):
    chain = schedules.linear(T, 0.1 / T, min(0.999, 20 / T))
    denoiser = Denoiser(data.network(chain), chain)
    print(f"   T = {T:4d}: {distance(denoiser, tuple(range(T, -1, -1)), 1.0):6.1f}")

point, worst = oracles.Gaussian([0.5], [[0.0]]), 0.0
for eta in (0.0, 0.5, 1.0):
    times = samplers.spaced(schedule, "trailing", 10)
    plan = ddim_steps(schedule, times, eta)
    for k, (t, _) in enumerate(pairwise(times)):
        moments = point.outcome(schedule, plan[:k], *point.marginal(schedule, 1000))
        worst = max(
            worst, *(np.abs(a - b).max() for a, b in zip(moments, point.marginal(schedule, t), strict=True))
        )
print(f"\nDDIM over 10 times keeps mean and variance of each q(x_t | x_0), for any η, to {worst:.0e}")

# %% [markdown]
# ## The limit of small steps: Euler–Maruyama
#
# For small $\beta_t$ the step of DDPM (R4), $x_{t-1} = (x_t -
# \beta_t/\sqrt{1-\bar\alpha_t}\;\hat\varepsilon)/\sqrt{1-\beta_t} + \sqrt{\tilde\beta_t}\, z$, becomes simpler. By
# Taylor $1/\sqrt{1-\beta} = 1 + \beta/2 + \ldots$, and $\beta$ times that is $\beta + \ldots$, where the dots are of
# the order of $\beta^2$. So
#
# $$x_{t-1} \approx x_t + \tfrac12\beta_t x_t - \frac{\beta_t}{\sqrt{1-\bar\alpha_t}}\,\hat\varepsilon +
# \sqrt{\beta_t}\, z$$
#
# This is a step of length 1 of the Euler–Maruyama method for a stochastic differential equation (SDE): the drift times
# the step, plus noise of variance $\beta_t$. (In place of $\tilde\beta_t$, which is smaller by
# $\bar\alpha_{t-1}\beta_t^2/(1-\bar\alpha_t)$.) Session 8 derives the SDE; here you write the sampler. Halving $\beta$
# must divide the difference of the two means by four:

# %%
print()
x, eps, noise = 0.7, -0.4, 0.5
for beta in (0.04, 0.02, 0.01):
    ddpm_mean = (x - beta / np.sqrt(noise) * eps) / np.sqrt(1 - beta)
    euler_mean = x + beta / 2 * x - beta / np.sqrt(noise) * eps
    print(f"β = {beta:.2f}: the means of DDPM and Euler–Maruyama differ by {abs(ddpm_mean - euler_mean):.6f}")

# %% [markdown]
# ## Exercises
#
# Fill in the blanks of `demos/exercises/07_samplers.py`, then run
#
#     python demos/check.py demos/exercises/07_samplers.py
#
# Each is checked without a single sample: on normally distributed data the mean and variance of what a sampler
# produces follow exactly (O3, `oracles.outcome_of`).
#
# 1. `ddpm`: Algorithm 2 (S2), as a generator.
# 2. `ddim_step`: from any $t$ to any $s$, with any $\eta$ (S3).
# 3. `euler_maruyama`: the sampler of the last section.
