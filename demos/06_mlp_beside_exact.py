# %% [markdown]
# # Session 6 · A network beside the exact one
#
# On a mixture of normal distributions the output $\varepsilon^*$ of a perfect network is known in closed form. So the
# error of a trained network can be computed at every $x$ and $t$, and three questions have measured answers: what does
# the loss not show, what is the EMA of the weights for, and when is it better to predict $x_0$ or $v$ than
# $\varepsilon$?
#
# You need: sessions 1 and 3. Takes 30 seconds on two cores, most of them for training five small networks.

# %%
import numpy as np
from course import compare, save, train

from minidiff import nn, noising, oracles, plots, schedules, training

schedule = schedules.linear(T=1000)


def mean(values, w):
    """The expectation of values (…, N) that have the probabilities w/Σw, w (N,)."""
    return (w * values).sum(axis=-1) / w.sum()


# %% [markdown]
# ## The loss has a part that no training removes (V8, O1)
#
# L_simple (V8) compares $\varepsilon_\theta(x_t, t)$ with the $\varepsilon$ that was drawn. But the same $x_t$ arises
# from many pairs $(x_0, \varepsilon)$, and the network sees only $x_t$. Fix $x_t$ and $t$; let $f$ be the output there,
# and $m = E[\varepsilon \mid x_t]$ the mean of all $\varepsilon$ that lead to this $x_t$. The expected loss is
#
# 1. $E[(\varepsilon - f)^2]$
# 2. $= E[\varepsilon^2] - 2 f m + f^2$, since $f$ is a constant here and $E[\varepsilon] = m$
# 3. $= (E[\varepsilon^2] - m^2) + (m^2 - 2 f m + f^2)$, with $m^2$ subtracted and added
# 4. $= E[(\varepsilon - m)^2] + (m - f)^2$
#
# Only the second term contains $f$, and it is least, 0, at $f = m$. So the best network is
# $\varepsilon^*(x_t, t) = E[\varepsilon \mid x_t]$ (O1), and averaged over $x_t \sim q_t$
#
# $$\underbrace{E\|\varepsilon - \varepsilon_\theta\|^2}_{\text{the loss}} =
# \underbrace{E\|\varepsilon - \varepsilon^*\|^2}_{\text{irreducible}} +
# \underbrace{E\|\varepsilon_\theta - \varepsilon^*\|^2}_{\text{excess}}$$
#
# In the lines below `eps` are six values with the probabilities $w/\sum w$.

# %%
loss_lines = [
    lambda eps, w, f: mean((eps - f[:, None]) ** 2, w),
    lambda eps, w, f: mean(eps**2, w) - 2 * f * mean(eps, w) + f**2,
    lambda eps, w, f: (
        (mean(eps**2, w) - mean(eps, w) ** 2) + (mean(eps, w) ** 2 - 2 * f * mean(eps, w) + f**2)
    ),
    lambda eps, w, f: mean((eps - mean(eps, w)) ** 2, w) + (mean(eps, w) - f) ** 2,
]
compare("The loss as irreducible and excess error", loss_lines)

# %% [markdown]
# Now train two networks by Algorithm 1 (S1): one on the mixture of session 1, scaled to variance 1, and one on three
# normal distributions in the plane (data of variance 1 keep the inputs of the network at one scale for all $t$, F5).
# While the first is trained, two sets of its weights are compared with $\varepsilon^*$ every 50 steps: those of the
# moment, and their EMA, which is below.

# %%
UNIT = 0.35  # the standard deviation of the mixture
mixture = oracles.mixture1d()
line = oracles.Mixture(mixture.weights, mixture.means / UNIT, mixture.covariances / UNIT**2)
covariances = np.array(
    [[[0.08, 0.05], [0.05, 0.04]], [[0.05, -0.03], [-0.03, 0.03]], [[0.01, 0.0], [0.0, 0.1]]]
)
plane = oracles.Mixture([0.4, 0.4, 0.2], [[-0.8, -0.3], [0.5, 0.6], [0.8, -0.8]], covariances)


def new_trainer(data, **options):
    """A trainer of a small MLP on 100 000 points of the distribution."""
    rng = np.random.default_rng(0)
    x = data.sample(rng, 100_000).astype(np.float32)
    net = nn.MLP(rng, dim=data.dim, time="sinusoidal")
    options = training.TrainingOptions(batch=512, lr=2e-3, ema_decay=0.999, **options)
    return training.Trainer(net, schedule, x, options=options, rng=rng)


def draw(data, t, count=10_000):
    """x_t ~ q_t, and the ε in it: both (count, D)."""
    rng = np.random.default_rng(1)
    x0, eps = data.sample(rng, count), rng.standard_normal((count, data.dim))
    return noising.diffuse(schedule, x0, t, eps), eps


def errors(net, data, t):
    """Loss, irreducible and excess error at t, per coordinate."""
    x_t, eps = draw(data, t)
    exact, learned = data.eps(schedule, x_t, t), net(x_t.astype(np.float32), np.full(len(x_t), t))
    return np.mean((eps - learned) ** 2), np.mean((eps - exact) ** 2), np.mean((learned - exact) ** 2)


test_times = np.random.default_rng(2).integers(1, schedule.T + 1, 10_000)  # a time for each of 10 000 points
test_points, _ = draw(line, test_times)
exact_outputs = line.eps(schedule, test_points, test_times)


def mean_excess(net):
    """E‖ε_θ − ε*‖² over all t, on the mixture."""
    return np.mean((net(test_points.astype(np.float32), test_times) - exact_outputs) ** 2)


on_line, on_plane = new_trainer(line), new_trainer(plane)
history = []
for step in train(on_line, 4000, enough=0.3):
    if step.step % 50 == 0:
        history.append((step.step, mean_excess(on_line.net), mean_excess(on_line.ema_net)))
list(train(on_plane, 1000, enough=0.4))

for name, data, trainer in (("1-D mixture", line, on_line), ("mixture in the plane", plane, on_plane)):
    print(f"\nthe {name} after {trainer.step} steps:\n      t   loss    irreducible   excess")
    for t in (1, 10, 30, 100, 300, 600, 1000):
        print("   {:4d}   {:.4f}   {:.4f}        {:.4f}".format(t, *errors(trainer.ema_net, data, t)))

# %% [markdown]
# At small $t$ the loss is close to 1 whatever the network does: the noise is narrower than the peaks of the data, so
# that $x_t$ does not show it. At $t = 1000$ almost all of $x_t$ is noise, and the loss is near 0. So **the loss by
# itself says little**: not whether training has converged, and nothing at all when two schedules or two data sets are
# compared. The excess error does, and only an oracle gives it.

# %%
figure, axes = plots.figure(13, 7.6, columns=3, rows=2)
(exact_ax, learned_ax, error_ax), (by_t_ax, early_ax, late_ax) = axes
grid, times = np.linspace(-3, 3, 201), np.unique(np.geomspace(1, 1000, 100).astype(int))
points, point_times = np.tile(grid, len(times))[:, None], np.repeat(times, len(grid))
exact = line.eps(schedule, points, point_times).reshape(len(times), -1).T
learned = on_line.ema_net(points.astype(np.float32), point_times).reshape(len(times), -1).T
density = np.exp(line.log_density(schedule, points, point_times)).reshape(len(times), -1).T
for ax, field, title in (
    (exact_ax, exact, "$ε^*$, exact (O1)"),
    (learned_ax, learned, "$ε_θ$, learned"),
):
    drawn = ax.pcolormesh(times, grid, field, cmap="RdBu_r", vmin=-3, vmax=3, rasterized=True)
    ax.set(title=title, xscale="log", xlabel="time t", ylabel="x")
figure.colorbar(drawn, ax=learned_ax, label="prediction of ε")
error = np.where(density > 1e-3, np.abs(learned - exact), np.nan)
drawn = error_ax.pcolormesh(times, grid, error, cmap="Reds", vmin=0, vmax=0.5, rasterized=True)
figure.colorbar(drawn, ax=error_ax, label="absolute error")
error_ax.set(title="$|ε_θ − ε^*|$ where data are", xscale="log", xlabel="time t", ylabel="x")

many_times = np.unique(np.geomspace(1, 1000, 30).astype(int))
loss, irreducible, excess = np.array([errors(on_line.ema_net, line, t) for t in many_times]).T
by_t_ax.loglog(many_times, loss, color=plots.INK, label="loss")
by_t_ax.loglog(many_times, irreducible, ":", color=plots.COLOURS[2], linewidth=2.5, label="irreducible")
by_t_ax.loglog(many_times, excess, "--", color=plots.ACCENT, label="excess")
by_t_ax.set(xlabel="time t", ylabel="mean squared error", title="1-D mixture, by t")
by_t_ax.legend(frameon=False, fontsize=9)

side = np.linspace(-2, 2, 13)
positions = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
for ax, t in ((early_ax, 50), (late_ax, 400)):
    ax.scatter(*draw(plane, t, 2000)[0].T, s=2, color=plots.INK, alpha=0.2, linewidths=0)
    fields = {
        "$−ε^*$, exact": (plane.eps(schedule, positions, t), plots.INK, 0.01),
        "$−ε_θ$, learned": (
            on_plane.ema_net(positions.astype(np.float32), np.full(len(positions), t)),
            plots.ACCENT,
            0.004,
        ),
    }
    for name, (field, color, width) in fields.items():
        ax.quiver(*positions.T, *-field.T, color=color, width=width, scale=60, label=name)
    ax.set(xlim=(-2.2, 2.2), ylim=(-2.2, 2.8), xlabel="$x_1$", ylabel="$x_2$", title=f"in the plane, t = {t}")
early_ax.legend(frameon=False, fontsize=8, loc="upper center", ncols=2)

save(
    figure,
    "06_mlp_beside_exact",
    "Top: the exact ε over time and place, the learned one, and where they differ, left white where the density is "
    "below 0.001: mostly at the edges of the narrow peaks, at small t. Bottom left: the loss hides it, since "
    "most of it is irreducible. Bottom right: −ε points to where the data are; a thin arrow in the middle of a thick "
    "one is a good prediction. The arrows far from all points are extrapolated, and differ.",
)

# %% [markdown]
# ## What the EMA is for
#
# Each step of training follows the gradient of one batch, which is the true gradient plus noise. So the weights do not
# come to rest in the minimum; they wander around it. Take the simplest case, one weight $\theta$ with the minimum at 0,
# curvature 1, learning rate $\eta$ and gradient noise $\xi$ of variance 1:
#
# $$\theta_n = \theta_{n-1} - \eta\,(\theta_{n-1} + \xi_n) = \rho\,\theta_{n-1} - \eta\,\xi_n, \qquad \rho = 1-\eta$$
#
# In the long run the variance $V$ of $\theta$ no longer changes: $V = \rho^2 V + \eta^2$, so that
#
# 1. $V = \eta^2 / (1 - (1-\eta)^2)$
# 2. $= \eta^2 / (2\eta - \eta^2)$
# 3. $= \eta / (2 - \eta)$
#
# proportional to the learning rate. The EMA $a_n = d\,a_{n-1} + (1-d)\,\theta_n$ averages over about the last
# $1/(1-d)$ steps. Its covariance with the weight, $B = E[a_n\theta_n]$, obeys $B = d\rho B + (1-d)V$, so that
# $B = (1-d)V/(1-d\rho)$. Squaring the definition of $a_n$, its variance obeys
# $A = d^2 A + 2d(1-d)\rho B + (1-d)^2 V$, and hence
#
# 1. $A/V = \left(2d(1-d)\rho\,\frac{1-d}{1-d\rho} + (1-d)^2\right) / (1-d^2)$
# 2. $= \frac{1-d}{1+d}\left(\frac{2d\rho}{1-d\rho} + 1\right)$, divided above and below by $1-d$
# 3. $= \frac{1-d}{1+d} \cdot \frac{1+d\rho}{1-d\rho}$
#
# With $\eta = 0.01$ and $d = 0.999$ this is 0.09: the average wanders with a standard deviation of 0.3 times that of
# the weights, as if the learning rate had been lowered, but without the slow progress of a low learning rate. The price
# is a delay of $1/(1-d)$ steps. To be of use early, the decay here is $\min(d, (1+n)/(10+n))$ at step $n$
# (`optim.EMA`): an average over the last tenth of the steps made.

# %%
wander_lines = [
    lambda eta: eta**2 / (1 - (1 - eta) ** 2),
    lambda eta: eta**2 / (2 * eta - eta**2),
    lambda eta: eta / (2 - eta),
]
ema_lines = [
    lambda d, rho: (2 * d * (1 - d) * rho * (1 - d) / (1 - d * rho) + (1 - d) ** 2) / (1 - d**2),
    lambda d, rho: (1 - d) / (1 + d) * (2 * d * rho / (1 - d * rho) + 1),
    lambda d, rho: (1 - d) / (1 + d) * (1 + d * rho) / (1 - d * rho),
]
compare("The variance of a weight", wander_lines)
compare("The variance of its EMA", ema_lines)

weight, ema, trajectory = 1.0, 1.0, []
for xi in np.random.default_rng(0).standard_normal(200_000):
    weight -= 0.01 * (weight + xi)
    ema = 0.999 * ema + 0.001 * weight
    trajectory.append((weight, ema))
by_simulation = np.var(trajectory[10_000:], axis=0)
print(
    f"variance of the EMA over that of the weight: {by_simulation[1] / by_simulation[0]:.3f} in a simulation,"
)
print(f"   {ema_lines[-1](0.999, 0.99):.3f} by the formula")

steps_made, raw, averaged = np.array(history).T
last = steps_made > 3000
print(
    f"the network's excess error over the last 1000 steps: {raw[last].mean():.4f} with the weights of the moment,"
)
print(
    f"   which lies between {raw[last].min():.4f} and {raw[last].max():.4f}; with their EMA {averaged[last].mean():.4f}"
)

# %% [markdown]
# ## When to predict ε, x₀ or v (R5)
#
# Each of the three gives the others (R5), but an *error* is scaled on the way. With
# $\hat x_0 = (x_t - \sqrt{1-\bar\alpha_t}\,\hat\varepsilon)/\sqrt{\bar\alpha_t}$ an error of $\hat\varepsilon$ arrives
# in $\hat x_0$ multiplied by $\sqrt{1-\bar\alpha_t}/\sqrt{\bar\alpha_t}$, which is 157 at $t = 1000$. The other way
# round, an error of a predicted $x_0$ arrives in $\hat\varepsilon$ multiplied by the inverse, which is 100 at $t = 1$.
# For $v = \sqrt{\bar\alpha_t}\,\varepsilon - \sqrt{1-\bar\alpha_t}\,x_0$, the combination of $x_0$ and $\varepsilon$
# that is perpendicular to $x_t$, neither is ever more than 1. With $\sigma = \sqrt{1-\bar\alpha}$ and
# $s = \sqrt{\bar\alpha}$,
#
# 1. $s\,x_t - \sigma v = s\,(s x_0 + \sigma\varepsilon) - \sigma\,(s\varepsilon - \sigma x_0)$
# 2. $= s^2 x_0 + s\sigma\varepsilon - s\sigma\varepsilon + \sigma^2 x_0$
# 3. $= x_0$, since $s^2 + \sigma^2 = 1$
#
# So $\hat x_0 = s\,x_t - \sigma\hat v$, which multiplies the error of $\hat v$ by $-\sigma$; and likewise
# $\hat\varepsilon = \sigma x_t + s\,\hat v$ multiplies it by $s$. Both factors lie between 0 and 1.

# %%
x0_from_v_lines = [
    lambda a, x0, eps: (
        np.sqrt(a) * (np.sqrt(a) * x0 + np.sqrt(1 - a) * eps)
        - np.sqrt(1 - a) * (np.sqrt(a) * eps - np.sqrt(1 - a) * x0)
    ),
    lambda a, x0, eps: a * x0 + np.sqrt(a * (1 - a)) * eps - np.sqrt(a * (1 - a)) * eps + (1 - a) * x0,
    lambda x0: x0,
]
eps_from_v_lines = [
    lambda a, x0, eps: (
        np.sqrt(1 - a) * (np.sqrt(a) * x0 + np.sqrt(1 - a) * eps)
        + np.sqrt(a) * (np.sqrt(a) * eps - np.sqrt(1 - a) * x0)
    ),
    lambda a, x0, eps: np.sqrt(a * (1 - a)) * x0 + (1 - a) * eps + a * eps - np.sqrt(a * (1 - a)) * x0,
    lambda eps: eps,
]
compare("x_0 from v (R5)", x0_from_v_lines)
compare("ε from v (R5)", eps_from_v_lines)

# %% [markdown]
# Three networks, alike but for what they predict, each trained for 1500 steps. Shown is the mean squared error of
# $\hat x_0$ against the exact one; that of $\hat\varepsilon$ is SNR times it, so that the order of the three at a given
# $t$ is the same.

# %%
predictions, shown_times = ("eps", "x0", "v"), (1, 10, 30, 100, 300, 600, 1000)
by_prediction = {}
for prediction in predictions:
    trainer = new_trainer(line, prediction=prediction)
    list(train(trainer, 1500, enough={"eps": 0.3, "x0": 0.8, "v": 1.1}[prediction]))
    denoiser = trainer.denoiser()
    by_prediction[prediction] = []
    for t in many_times:
        x_t, _ = draw(line, t)
        error = denoiser(x_t.astype(np.float32), t).x0 - line.x0(schedule, x_t, t)
        by_prediction[prediction].append(np.mean(error**2))

figure, (wander_ax, ema_ax, target_ax) = plots.figure(13, 4.6, columns=3)
wander_ax.plot(
    np.array(trajectory)[10_000:14_000, 0], color=plots.INK, alpha=0.6, linewidth=0.6, label="weight"
)
wander_ax.plot(np.array(trajectory)[10_000:14_000, 1], color=plots.ACCENT, label="its EMA, d = 0.999")
wander_ax.set(xlabel="step", ylabel="distance from the minimum", title="one weight and its EMA")
wander_ax.legend(frameon=False, fontsize=9)
ema_ax.semilogy(steps_made, raw, color=plots.INK, alpha=0.6, linewidth=0.8, label="weights of the moment")
ema_ax.semilogy(steps_made, averaged, color=plots.ACCENT, label="their EMA")
ema_ax.set(xlabel="training step", ylabel="$E\\|ε_θ − ε^*\\|^2$", title="a network and its EMA")
ema_ax.legend(frameon=False, fontsize=9)
for prediction, color, dashes in zip(predictions, plots.COLOURS, ("-", "--", ":"), strict=False):
    label = {"eps": "ε", "x0": "$x_0$", "v": "v"}[prediction]
    target_ax.loglog(
        many_times, by_prediction[prediction], dashes, color=color, linewidth=1.8, label=f"predicts {label}"
    )
target_ax.set(xlabel="time t", ylabel="mean squared error of $\\hat x_0$", title="three targets")
target_ax.legend(frameon=False, fontsize=9)

save(
    figure,
    "06_mlp_beside_exact-2",
    "Left: a weight that follows noisy gradients wanders around its minimum; its EMA stays closer. Middle: so does "
    "the network: its error jumps from step to step, that of the EMA weights does not. Right: predicting ε is good at "
    "small t and useless near t = T, predicting the data is the reverse, and v is good at both ends, not between them.",
)

# %% [markdown]
# One training is one draw. Over six seeds, 2000 steps each (`benchmarks/spread.py targets`), the mean squared error of
# $\hat x_0$ in units of $10^{-3}$ is
#
# | predicts | t = 1 | t = 10 | t = 30 | t = 100 | t = 300 | t = 600 | t = 1000 |
# | --- | --- | --- | --- | --- | --- | --- | --- |
# | ε | 0.0034 ± 0.0003 | 0.30 ± 0.01 | 0.36 ± 0.03 | 0.7 ± 0.1 | 1.2 ± 0.3 | 12 ± 2 | 12302 ± 1748 |
# | x₀ | 0.57 ± 0.05 | 0.4 ± 0.1 | 2.3 ± 0.3 | 11.3 ± 1.0 | 1.3 ± 0.3 | 0.5 ± 0.1 | 0.8 ± 0.2 |
# | v | 0.0068 ± 0.0007 | 0.84 ± 0.06 | 7 ± 1 | 35 ± 8 | 7 ± 2 | 0.27 ± 0.08 | 0.6 ± 0.2 |
# | ε, without EMA | 0.0075 ± 0.0010 | 0.47 ± 0.06 | 1.4 ± 0.3 | 8 ± 3 | 8 ± 3 | 50 ± 10 | 96610 ± 30435 |
#
# So on these data, whose peaks are narrow, ε is best at small $t$, where the details are made, and x₀ and v are better
# at high noise, at $t = 1000$ by four powers of ten. (How much of this is decided by the data, the network and the
# length of the training is another question: at $t = 100$ v has not been learned as well.) In general:
#
# - **ε** where details count and the schedule leaves some signal at $T$, as for the small images of the paper.
# - **x₀ or v** where much is decided at high noise, with few steps, and necessarily where $\bar\alpha_T = 0$ (zero
#   terminal SNR): there $x_T$ is the noise itself, $\varepsilon$ says nothing about $x_0$, and minidiff refuses to
#   predict it.
# - **v** if both ends count: neither of its conversions multiplies an error by more than 1.
#
# The last row is the first network with the weights of the moment: the EMA is better at every $t$.

# %% [markdown]
# ## Exercises
#
# Fill in the blanks of `demos/exercises/06_mlp_beside_exact.py`, then run
#
#     python demos/check.py demos/exercises/06_mlp_beside_exact.py
#
# 1. `optimal_eps`: what a perfect network predicts on normally distributed data (O1).
# 2. `update_ema`: one update of the average, with a decay that is of use from the first step on.
# 3. `from_v`: $\hat x_0$ and $\hat\varepsilon$ from a predicted $v$ (R5).
