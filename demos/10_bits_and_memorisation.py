# %% [markdown]
# # Session 10 · Bits, and what the optimum does on finite data
#
# A diffusion model is also a code: so many bits describe an image. This session computes them, term by term. Then it
# looks at the network that has the lowest possible loss on a finite data set. It is known in closed form, and it is
# useless: it copies its training data. Why networks do not, when they do, and how one would notice.
#
# You need: sessions 3 and 7. Takes 30 seconds on two cores.

# %%
import numpy as np
from course import compare, save, train

from minidiff import (
    Denoiser,
    datasets,
    likelihood,
    metrics,
    nn,
    noising,
    oracles,
    plots,
    samplers,
    schedules,
    training,
)

rng = np.random.default_rng(0)
schedule = schedules.linear(T=1000)

# %% [markdown]
# ## Bits per dimension (V1, V6)
#
# A model with density $p$ describes $x_0$ in $-\log p(x_0)$ nats, which divided by $\log 2$ are bits, and by the number
# of pixels and channels bits per dimension. $\log p_\theta$ itself is an integral over all trajectories; the bound of
# session 3 (V1) lies above $-\log p_\theta$: $L_T + \sum_t L_{t-1} + L_0$.
#
# The last term is special for images. A pixel is not a real number but one of, say, 256 levels; so the decoder must
# give a *probability* for each. It takes the mass of its normal distribution between the two neighbouring midpoints,
# $\Phi(\frac{x + \delta - \mu}\sigma) - \Phi(\frac{x - \delta - \mu}\sigma)$ with half a level $\delta = 1/255$, and
# for the lowest and the highest level everything beyond, so that the masses of all levels sum to 1 (V6). With a density
# in its place the "bits" could be made as negative as one likes by a small $\sigma$.
#
# On normally distributed data with the exact ε the bound can be compared with the truth, the entropy of the data. With
# $\sigma_t^2 = \beta_t$ it closes as T grows; with $\tilde\beta_t$ the gap grows, to half of Euler's constant, 0.289
# nats (V1).

# %%
gaussian = oracles.Gaussian(0.0, 0.5**2)
print("the bound minus the entropy of N(0, ½²), in nats, from 20 000 samples:")
for T in (50, 200, 800):
    chain = schedules.constant(T, beta=min(0.5, 10 / T))
    denoiser, x0 = Denoiser(gaussian.network(chain), chain), gaussian.sample(rng, 20_000)
    small = np.append(chain.beta[:2], chain.posterior_variance[2:])  # β̃_1 = 0 has no density
    for name, variance in (("β", chain.beta), ("β̃", small)):
        total = likelihood.bound(denoiser, x0, rng, variance).total
        # The entropy is the mean of −log p(x_0): sample by sample the difference is less a matter of chance.
        excess = total - (np.log(2 * np.pi * 0.5**2) + (x0[:, 0] / 0.5) ** 2) / 2
        mean, error = likelihood.mean_and_error(excess)
        print(f"   T = {T:4d}, σ² = {name}:  {mean:.3f} ± {error:.3f}")

# %% [markdown]
# ## The optimum on a finite data set (O2)
#
# Training sees $N$ points $x_i$, not the distribution that they come from. The best network for these points is
# $E[x_0 \mid x_t]$ under the empirical distribution: with $s = \sqrt{\bar\alpha_t}$, $\sigma = \sqrt{1-\bar\alpha_t}$
# and Bayes as in session 8,
#
# 1. $\hat x_0^*(x) = \sum_i N(x; s x_i, \sigma^2)\, x_i \,/ \sum_i N(x; s x_i, \sigma^2)$
# 2. $= \sum_i p_i x_i$ with $p = \mathrm{softmax}\left(-\frac{(x - s x_i)^2}{2\sigma^2}\right)$, as the factors before
#    the exponentials cancel
# 3. the same with $p = \mathrm{softmax}\left(\frac{s\,x\,x_i - s^2 x_i^2/2}{\sigma^2}\right)$, as $x^2$ is common to
#    all $i$
#
# It is attention: the query $x$ is compared with the keys $x_i$, and the values $x_i$ are averaged. In line 3 the
# temperature is $\sigma^2/s$. At high noise all points count alike, and $\hat x_0^*$ is the mean of the data. At low
# noise the nearest takes all.
#
# When? Let $x = s\,x_i + \sigma\varepsilon$ come from point $i$, and let $j$ be another at distance $d = x_i - x_j$. In
# the mean over $\varepsilon$ the logits of $i$ and $j$ differ by
#
# 1. $E\left[-\frac{(x - s x_i)^2}{2\sigma^2} + \frac{(x - s x_j)^2}{2\sigma^2}\right]$
# 2. $= E\left[-\tfrac12\varepsilon^2 + \tfrac12(\varepsilon + s d/\sigma)^2\right]$
# 3. $= \tfrac12 s^2 d^2/\sigma^2 = \tfrac12 \mathrm{SNR}\, d^2$, since $E[\varepsilon] = 0$
#
# So among $N$ points at a typical squared distance $d^2$ (in the plane or for images $\|x_i - x_j\|^2$) most are ruled
# out where $\tfrac12\mathrm{SNR}\,d^2$ passes $\log N$, and close neighbours, of a smaller $d^2$, somewhat later. From
# there on the sampler only removes the noise around a copy.


# %%
def expectation(f):
    """E f(ε) over ε = 1 or −1: mean 0, variance 1."""
    return (f(1) + f(-1)) / 2


def softmax(logits):
    """Along the last axis."""
    terms = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return terms / terms.sum(axis=-1, keepdims=True)


def normals(x, m, a):
    """N(x; √a m_i, 1 − a), (6, 6)."""
    return np.exp(-((x[:, None] - np.sqrt(a)[:, None] * m) ** 2) / (2 * (1 - a)[:, None])) / np.sqrt(
        2 * np.pi * (1 - a)[:, None]
    )


empirical_lines = [
    lambda x, m, a: normals(x, m, a) @ m / normals(x, m, a).sum(axis=1),
    lambda x, m, a: softmax(-((x[:, None] - np.sqrt(a)[:, None] * m) ** 2) / (2 * (1 - a)[:, None])) @ m,
    lambda x, m, a: (
        softmax((np.sqrt(a)[:, None] * x[:, None] * m - a[:, None] * m**2 / 2) / (1 - a)[:, None]) @ m
    ),
]
logit_lines = [
    lambda a, x_i, x_j: expectation(
        lambda eps: (
            -((np.sqrt(a) * x_i + np.sqrt(1 - a) * eps - np.sqrt(a) * x_i) ** 2) / (2 * (1 - a))
            + (np.sqrt(a) * x_i + np.sqrt(1 - a) * eps - np.sqrt(a) * x_j) ** 2 / (2 * (1 - a))
        )
    ),
    lambda a, x_i, x_j: expectation(
        lambda eps: -(eps**2) / 2 + (eps + np.sqrt(a) * (x_i - x_j) / np.sqrt(1 - a)) ** 2 / 2
    ),
    lambda a, x_i, x_j: a / (1 - a) * (x_i - x_j) ** 2 / 2,
]
compare("The optimum on finite data (O2)", empirical_lines)
compare("The difference of two logits", logit_lines)

# %% [markdown]
# Now the built-in digits: 1000 of them as the training data, and the exact optimum as the "network". Ten samples are
# drawn with DDIM, and each is compared with all training digits.

# %%
digits = datasets.load("digits")
training_digits = np.asarray(digits.x[:1000]).reshape(1000, -1).astype(np.float64)
held_out = np.asarray(digits.held_out[:100]).reshape(-1, 64).astype(np.float64)
memory = oracles.FiniteData(training_digits)
copier = Denoiser(memory.network(schedule), schedule)
x_T = samplers.initial_noise(rng, (10, 64), np.float64)
states = list(samplers.ddim(copier, x_T, rng))
nearest = metrics.nearest_distances(states[-1].x, training_digits)
print(
    f"\nten samples of the optimum: the distance to the nearest training digit is at most {nearest.max():.1e};"
)
between = metrics.nearest_distances(held_out, training_digits)
print(f"   of 100 held-out digits it is {between.min():.2f} to {between.max():.2f}")


def candidates(x, t):
    """exp of the entropy of the weights p at x (B, D) and t: how many points share them, (B,)."""
    level = schedule.at(t)
    logits = (
        np.sqrt(level.alpha_bar) * x @ training_digits.T
        - level.alpha_bar * (training_digits**2).sum(axis=1) / 2
    )
    p = softmax(logits / level.one_minus_alpha_bar)
    return np.exp(-(p * np.log(np.maximum(p, 1e-300))).sum(axis=1))


shown = [state for state in states if state.t in (900, 700, 600, 500, 400, 300, 200, 0)]
counts = np.array([np.median(candidates(state.x, state.t)) for state in states[:-1]])
square = ((training_digits[:200, None] - training_digits[None, :200]) ** 2).sum(axis=-1)
chosen = schedule.time_of(2 * np.log(1000) / np.median(square[square > 0]))
print(f"   by the estimate above most are ruled out near t = {chosen:.0f}")

figure, (image_ax, count_ax) = plots.figure(12, 6.2, columns=2, width_ratios=(1.4, 1))
rows = [state.x for state in shown] + [
    training_digits[np.argmin(((s - training_digits) ** 2).sum(1))][None] for s in shown[-1].x
]
grid = np.concatenate([*rows[: len(shown)], np.concatenate(rows[len(shown) :])]).reshape(-1, 8, 8, 1)
image_ax.imshow(plots.image_grid(grid, columns=10, side=900), interpolation="nearest")
height = 1 / (len(shown) + 1)
labels = [f"$x_{{{state.t}}}$" for state in shown[:-1]] + ["sample", "nearest in\nthe data"]
for k, label in enumerate(labels):
    image_ax.text(
        -0.01,
        1 - (k + 0.5) * height,
        label,
        transform=image_ax.transAxes,
        ha="right",
        va="center",
        fontsize=9,
    )
image_ax.set(title="ten samples of the optimum, from noise (top) to data", xticks=[], yticks=[])
image_ax.spines[:].set_visible(False)
count_ax.semilogy([state.t for state in states[:-1]], counts, color=plots.ACCENT)
count_ax.axvline(chosen, color=plots.INK, linestyle=":", linewidth=1, label="½ SNR d² = log N")
count_ax.invert_xaxis()
count_ax.set(xlabel="time t", ylabel="training digits that count", title="when the choice is made")
count_ax.legend(frameon=False, fontsize=9)
save(
    figure,
    "10_bits_and_memorisation",
    "The network with the lowest possible loss on 1000 digits, sampled with DDIM. Each sample (second row from below) "
    "is one of the training digits (last row), to rounding. Right: the number of training digits that share the "
    "weight, in the median of ten samples: all of them at first, one alone well before the noise is gone.",
)

# %% [markdown]
# ## Memorisation in bits
#
# In bits the copier looks excellent on its training data: all it has to say is *which* of the 1000 digits it is,
# $\log_2 1000 = 10$ bits, or 0.16 bits for each of the 64 pixels. On any other digit it fails, by thousands of nats:
# it puts its mass, with a standard deviation of a fraction of a level, on the wrong image. So **bits/dim on held-out
# data detect memorisation**, and bits/dim on training data do not. (The digits have 17 levels, 0…16.)

# %%
print("\nbits/dim of the optimum on 1000 digits:   L_T + Σ L_{t−1} + L_0")
strata = (*range(1000, 1, -9), 1)
for name, x in (("training digits", training_digits[:32]), ("held-out digits", held_out[:32])):
    bound = likelihood.bound(copier, x, rng, levels=17, strata=strata)
    prior, steps, last = (likelihood.bits_per_dim(term, x).mean() for term in bound)
    print(f"   {name}: {prior + steps + last:10.3f} = {prior:.5f} + {steps:.3f} + {last:.3f}")

# %% [markdown]
# The rate–distortion curve (S8) says where bits go. Read from $T$ down, $L_T + \sum_{s>t} L_{s-1}$ nats are paid until
# $x_t$ is known, and from $x_t$ the data can be estimated with an error, the distortion. For data $N(0, \tfrac12^2)$ no
# code whatever can have a rate below Shannon's $\tfrac12\log(\tfrac14/D)$, and diffusion with the exact ε comes close.
#
# ## Why does a network not copy?
#
# Because it cannot, and is stopped before it could: the optimum is a very rough function of $x$ at small $t$, with a
# jump between any two training points. A network is smooth, and training ends long before it has that shape; with more
# data the jumps come closer, and are harder to learn. So the fewer the data and the longer the training, the more it
# copies. The same MLP, trained for the same 4000 steps on 20 and on 5000 points of an S-curve:

# %%
curve = datasets.load("s-curve")
x_curve, curve_held_out = np.asarray(curve.x[:]), np.asarray(curve.held_out[:2000])
x_T = samplers.initial_noise(np.random.default_rng(1), (2000, 2))
drawn = {}
for count in (20, 5000):
    rng = np.random.default_rng(0)
    net = nn.MLP(rng, dim=2, time="sinusoidal")
    options = training.TrainingOptions(batch=512, lr=2e-3, ema_decay=0.999)
    trainer = training.Trainer(net, schedule, x_curve[:count], options=options, rng=rng)
    list(train(trainer, 4000, enough=0.5))
    denoiser = trainer.denoiser()
    samples = samplers.final(samplers.ddim(denoiser, x_T, rng, samplers.spaced(schedule, "quadratic", 50)))
    drawn[count] = samples
    t = rng.integers(1, 300, 2000)  # where there is something to memorise
    losses = {}
    for name, x0 in (("training", x_curve[rng.integers(0, count, 2000)]), ("held-out", curve_held_out)):
        eps = rng.standard_normal(x0.shape).astype(np.float32)
        losses[name] = np.mean((denoiser(noising.diffuse(schedule, x0, t, eps), t).eps - eps) ** 2)
    to_data = np.median(metrics.nearest_distances(samples, x_curve[:count]))
    of_held_out = np.median(metrics.nearest_distances(curve_held_out, x_curve[:count]))
    both = f"{losses['training']:.3f} on training, {losses['held-out']:.3f} on held-out data"
    print(f"{count} points: loss for t < 300 {both};")
    print(
        f"   median distance to the nearest training point: samples {to_data:.3f}, held-out points {of_held_out:.3f}"
    )

figure, (few_ax, many_ax, rate_ax) = plots.figure(13, 4.6, columns=3)
for ax, (count, samples) in zip((few_ax, many_ax), drawn.items(), strict=True):
    ax.scatter(*samples[:1000].T, s=4, color=plots.ACCENT, alpha=0.5, linewidths=0, label="1000 samples")
    marker = {"s": 40, "marker": "+", "linewidths": 1} if count == 20 else {"s": 1, "alpha": 0.25}
    ax.scatter(
        *x_curve[:count].T,
        color=plots.INK,
        label=f"{count} training points",
        zorder=2 if count == 20 else 0,
        **marker,
    )
    ax.set(xlabel="$x_1$", ylabel="$x_2$", ylim=(-1.9, 2.4), title=f"trained on {count} points")
    ax.legend(frameon=False, fontsize=9, loc="upper left")
denoiser, x0 = Denoiser(gaussian.network(schedule), schedule), gaussian.sample(rng, 5000)
costs = likelihood.chain(denoiser, x0, rng, "large")
rate, distortion = likelihood.rate_distortion(schedule, x0, costs)
rate_ax.plot(rate / np.log(2), distortion, color=plots.ACCENT, linewidth=2, label="diffusion, exact ε (S8)")
bound = np.geomspace(distortion.min(), 0.25, 100)
rate_ax.plot(np.log2(0.25 / bound) / 2, bound, ":", color=plots.INK, linewidth=2, label="Shannon's limit")
rate_ax.set(
    xlabel="rate (bits)", ylabel="distortion (mean squared error)", title="rate and distortion of $N(0, ½^2)$"
)
rate_ax.legend(frameon=False, fontsize=9)
save(
    figure,
    "10_bits_and_memorisation-2",
    "Left: trained on 20 points, the samples gather around them: the network has begun to copy. Middle: on 5000 points "
    "the same training gives new points of the curve. Right: the error with which the data can be estimated, against "
    "the bits paid so far: close to the limit that holds for any code.",
)

# %% [markdown]
# ## Exercises
#
# Fill in the blanks of `demos/exercises/10_bits_and_memorisation.py`, then run
#
#     python demos/check.py demos/exercises/10_bits_and_memorisation.py
#
# 1. `level_mass`: the probability of a pixel's level (V6).
# 2. `bits_per_dim`: from the three terms of the bound (V1).
# 3. `best_x0`: the optimum on a finite data set (O2), at any noise level.
#
# And at the end of the course `demos/exercises/find_the_fault.py`: ten programs that sample, each with one fault, known
# only by the distribution that they produce. Name the faults.
