# %% [markdown]
# # Session 8 · The score, an ODE and an SDE
#
# With ever smaller steps the forward process becomes a stochastic differential equation (SDE), and the way back an
# ordinary one (ODE) or another SDE. Both contain the same unknown: the score $\nabla\log q_t$, which is what the
# network has learned. DDIM is Euler's method for the ODE, and better methods need fewer steps: their order is measured
# here.
#
# You need: session 7, and derivatives. Takes 5 seconds on two cores; nothing is trained.

# %%
from itertools import pairwise

import numpy as np
from course import compare, save

from minidiff import Denoiser, oracles, plots, samplers, schedules
from minidiff.diffusion.samplers.ddim import steps as ddim_steps

schedule = schedules.linear(T=1000)
mixture, unit = oracles.mixture1d(), 0.35
data = oracles.Mixture(mixture.weights, mixture.means / unit, mixture.covariances / unit**2)
exact = Denoiser(data.network(schedule), schedule)


def derivative(f, x):
    """f'(x) by the complex step: f(x + ih) = f(x) + ih f'(x) + …, whose imaginary part has no cancellation."""
    return np.imag(f(x + 1e-30j)) / 1e-30


# %% [markdown]
# ## The network has learned the score (O1)
#
# The score of a density is the gradient of its logarithm: it points to where the density grows. Let the data be points
# $m_i$ with probabilities $w_i$ (any distribution is nearly that). By F4 the density of $x_t$ is
# $q(x) = \sum_i w_i N_i$ with the normal densities $N_i = N(x;\, s\,m_i, \sigma^2)$, $s = \sqrt{\bar\alpha_t}$,
# $\sigma = \sqrt{1-\bar\alpha_t}$. Then
#
# 1. $\nabla\log q$
# 2. $= \nabla q / q$, by the chain rule
# 3. $= \sum_i w_i N_i \cdot \frac{-(x - s\,m_i)}{\sigma^2} \,/ \sum_i w_i N_i$, since $N_i$ is
#    $e^{-(x - s m_i)^2/2\sigma^2}$ times a constant
# 4. $= -\frac1\sigma \sum_i p_i\, \varepsilon_i$ with $\varepsilon_i = (x - s\,m_i)/\sigma$, the noise that leads from
#    $m_i$ to $x$, and $p_i = w_i N_i/\sum_j w_j N_j$, the probability of $m_i$ given $x$ (Bayes)
#
# The sum is $E[\varepsilon \mid x_t = x] = \varepsilon^*$, the output of the best network (session 6). So
# $\nabla\log q_t = -\varepsilon^*/\sqrt{1-\bar\alpha_t}$: **a network that predicts the noise has learned the score**,
# though no density was ever computed.


# %%
def normals(x, m, a):
    """N(x; √a m_i, 1 − a), (6, 6): of each of six x, with an ᾱ of its own, and each of six points m_i."""
    return np.exp(-((x[:, None] - np.sqrt(a)[:, None] * m) ** 2) / (2 * (1 - a)[:, None])) / np.sqrt(
        2 * np.pi * (1 - a)[:, None]
    )


def mixed(x, m, w, a):
    """The density q(x), (6,)."""
    return normals(x, m, a) @ w / w.sum()


def probabilities(x, m, w, a):
    """p_i, (6, 6)."""
    return w * normals(x, m, a) / (normals(x, m, a) @ w)[:, None]


def noises(x, m, a):
    """ε_i, (6, 6)."""
    return (x[:, None] - np.sqrt(a)[:, None] * m) / np.sqrt(1 - a)[:, None]


score_lines = [
    lambda x, m, w, a: derivative(lambda y: np.log(mixed(y, m, w, a)), x),
    lambda x, m, w, a: derivative(lambda y: mixed(y, m, w, a), x) / mixed(x, m, w, a),
    lambda x, m, w, a: (
        -(w * normals(x, m, a) * noises(x, m, a) / np.sqrt(1 - a)[:, None]).sum(axis=1)
        / (normals(x, m, a) @ w)
    ),
    lambda x, m, w, a: -(probabilities(x, m, w, a) * noises(x, m, a)).sum(axis=1) / np.sqrt(1 - a),
]
compare("The score (O1)", score_lines)

# %% [markdown]
# ## The forward SDE
#
# For small $\beta$, $\sqrt{1-\beta} = 1 - \beta/2 + \ldots$, so a step (F1) is
# $x_t \approx x_{t-1} - \tfrac12\beta_t x_{t-1} + \sqrt{\beta_t}\,z$. With a step of length $dt$ and noise of variance
# $\beta\,dt$ that is the SDE
#
# $$dx = f\,dt + \sqrt\beta\,dw, \qquad f = -\tfrac12\beta x$$
#
# How does the density change? Take any smooth function $\varphi$ that vanishes far out. By Taylor, and since the noise
# has mean 0 and variance $\beta\,dt$, in a time $dt$ the mean of $\varphi(x)$ changes by
# $E[\varphi' f + \tfrac12\beta\varphi'']\,dt$. Written as integrals, and integrated by parts (once, and twice),
#
# $$\int \varphi\,\frac{\partial q}{\partial t}\,dx = \int \left(\varphi' f q + \tfrac12\beta\varphi'' q\right)dx
# = \int \varphi \left(-\frac{\partial (fq)}{\partial x} + \tfrac12\beta \frac{\partial^2 q}{\partial x^2}\right) dx$$
#
# for every $\varphi$, so that the two factors of $\varphi$ are equal. This is the **Fokker–Planck equation**:
#
# 1. $\partial q/\partial t$
# 2. $= -\partial_x (f q) + \tfrac12\beta\,\partial_x^2 q$
# 3. $= -\partial_x\left[(f - \tfrac12\beta\,\partial_x \log q)\,q\right]$, since $\partial_x q = q\,\partial_x\log q$
#
# Line 3 is the equation of a process *without* noise that moves each point with the velocity in round brackets. So
#
# $$\frac{dx}{dt} = f - \tfrac12\beta\,\nabla\log q_t$$
#
# has the same density as the SDE at every $t$. It is the **probability-flow ODE**, and it can be followed backwards.
#
# More generally, going back in time $\tau = -t$ with drift $-f + \tfrac{1+\lambda}2\beta\nabla\log q$ and noise of
# variance $\lambda\beta$ keeps all densities too, for every $\lambda \ge 0$: by the Fokker–Planck equation, applied to
# this process,
#
# 1. $\partial q/\partial\tau = -\partial_x\left[(-f + \tfrac{1+\lambda}2\beta\,\partial_x\log q)\,q\right] +
#    \tfrac12\lambda\beta\,\partial_x^2 q$
# 2. $= \partial_x (fq) - \tfrac{1+\lambda}2\beta\,\partial_x^2 q + \tfrac12\lambda\beta\,\partial_x^2 q$
# 3. $= \partial_x (fq) - \tfrac12\beta\,\partial_x^2 q$, which is $-\partial q/\partial t$
#
# $\lambda = 0$ is the ODE, and $\lambda = 1$ the reverse SDE, whose Euler–Maruyama steps you wrote in session 7: extra
# noise, and exactly as much extra drift as takes it away. In code $q$ is a normal density with mean $m$ and variance
# $v$, which the SDE changes by $m' = -\tfrac12\beta m$ and $v' = \beta - \beta v$.


# %%
def normal(x, m, v):
    return np.exp(-((x - m) ** 2) / (2 * v)) / np.sqrt(2 * np.pi * v)


def second(x, m, v):
    """The second derivative of the normal density in x."""
    return ((x - m) ** 2 / v**2 - 1 / v) * normal(x, m, v)


def score(x, m, v):
    return -(x - m) / v


def drift(x, beta):
    return -beta * x / 2


fokker_planck_lines = [
    lambda x, m, v, beta: derivative(lambda h: normal(x, m - beta * m / 2 * h, v + (beta - beta * v) * h), 0),
    lambda x, m, v, beta: (
        -derivative(lambda y: drift(y, beta) * normal(y, m, v), x) + beta / 2 * second(x, m, v)
    ),
    lambda x, m, v, beta: (
        -derivative(lambda y: (drift(y, beta) - beta / 2 * score(y, m, v)) * normal(y, m, v), x)
    ),
]
reverse_lines = [
    lambda x, m, v, beta, k: (
        -derivative(lambda y: (-drift(y, beta) + (1 + k) / 2 * beta * score(y, m, v)) * normal(y, m, v), x)
        + k / 2 * beta * second(x, m, v)
    ),
    lambda x, m, v, beta, k: (
        derivative(lambda y: drift(y, beta) * normal(y, m, v), x)
        - (1 + k) / 2 * beta * second(x, m, v)
        + k / 2 * beta * second(x, m, v)
    ),
    lambda x, m, v, beta: (
        derivative(lambda y: drift(y, beta) * normal(y, m, v), x) - beta / 2 * second(x, m, v)
    ),
]
compare("The Fokker–Planck equation, and an ODE of the same density", fokker_planck_lines)
compare("The way back with any noise", reverse_lines)

# %% [markdown]
# ## Euler's step behind DDIM (S3)
#
# In other variables the ODE becomes simpler. Let $\tilde x = x/\sqrt{\bar\alpha}$ and
# $\tilde\sigma = \sqrt{1-\bar\alpha}/\sqrt{\bar\alpha} = \sqrt{1/\bar\alpha - 1}$, so that F4 reads
# $\tilde x = x_0 + \tilde\sigma\varepsilon$. In continuous time $d\bar\alpha/dt = -\beta\bar\alpha$, hence
# $d(1/\sqrt{\bar\alpha})/dt = \tfrac12\beta/\sqrt{\bar\alpha}$. With the ODE and
# $\nabla\log q = -\hat\varepsilon/\sqrt{1-\bar\alpha}$,
#
# 1. $\frac{d\tilde x}{dt} = \left(\frac{dx}{dt} + \tfrac12\beta x\right)/\sqrt{\bar\alpha} = \left(-\tfrac12\beta x +
#    \tfrac12\beta\,\frac{\hat\varepsilon}{\sqrt{1-\bar\alpha}} + \tfrac12\beta x\right)/\sqrt{\bar\alpha}$
# 2. $= \frac{\beta}{2\sqrt{\bar\alpha}\sqrt{1-\bar\alpha}}\;\hat\varepsilon$
# 3. $= \frac{d\tilde\sigma}{dt}\;\hat\varepsilon$
#
# so that, whatever the schedule, the ODE is $d\tilde x = \hat\varepsilon\, d\tilde\sigma$. Euler's method keeps
# $\hat\varepsilon$ constant over a step from $t$ to $s$:
# $\tilde x_s = \tilde x_t + (\tilde\sigma_s-\tilde\sigma_t)\,\hat\varepsilon$. In $x$ this is
#
# 1. $x_s = \sqrt{\bar\alpha_s}\left(x_t/\sqrt{\bar\alpha_t} + (\tilde\sigma_s -
#    \tilde\sigma_t)\,\hat\varepsilon\right)$
# 2. $= \sqrt{\bar\alpha_s}\,(x_t - \sqrt{1-\bar\alpha_t}\,\hat\varepsilon)/\sqrt{\bar\alpha_t} +
#    \sqrt{1-\bar\alpha_s}\,\hat\varepsilon$, since $\sqrt{\bar\alpha}\,\tilde\sigma = \sqrt{1-\bar\alpha}$
# 3. $= \sqrt{\bar\alpha_s}\,\hat x_0 + \sqrt{1-\bar\alpha_s}\,\hat\varepsilon$ (R5)
#
# which is DDIM with $\eta = 0$ (S3).


# %%
def sigma_of(a):
    """σ̃ for ᾱ."""
    return np.sqrt(1 / a - 1)


def x0_of(x, eps, a):
    """x̂_0 by R5."""
    return (x - np.sqrt(1 - a) * eps) / np.sqrt(a)


ode_lines = [
    lambda a, beta, x, eps: (-beta * x / 2 + beta / 2 * eps / np.sqrt(1 - a) + beta * x / 2) / np.sqrt(a),
    lambda a, beta, eps: beta / (2 * np.sqrt(a) * np.sqrt(1 - a)) * eps,
    lambda a, beta, eps: derivative(lambda h: sigma_of(a * np.exp(-beta * h)), 0) * eps,
]
euler_lines = [
    lambda a_t, a_s, x, eps: np.sqrt(a_s) * (x / np.sqrt(a_t) + (sigma_of(a_s) - sigma_of(a_t)) * eps),
    lambda a_t, a_s, x, eps: (
        np.sqrt(a_s) * (x - np.sqrt(1 - a_t) * eps) / np.sqrt(a_t) + np.sqrt(1 - a_s) * eps
    ),
    lambda a_t, a_s, x, eps: np.sqrt(a_s) * x0_of(x, eps, a_t) + np.sqrt(1 - a_s) * eps,
]
compare("The ODE in x/√ᾱ", ode_lines)
compare("Euler's step is DDIM (S3)", euler_lines)

# %% [markdown]
# ## Heun's method, and its order
#
# Let $d\tilde x/d\tilde\sigma = g(\tilde x, \tilde\sigma)$, and let $h$ be the length of a step. By Taylor the solution
# is $\tilde x + h g + \tfrac12 h^2 \frac{dg}{d\tilde\sigma} + \ldots$, with the derivative along the solution. Euler's
# step $\tilde x + h g$ has an error of the order of $h^2$ in each step, and in $1/h$ steps one of order $h$. Heun's
# method evaluates $g$ once more, at the end of Euler's step, and takes the mean of both:
#
# $$\tilde x + \tfrac h2 \left(g(\tilde x, \tilde\sigma) + g(\tilde x + h g, \tilde\sigma + h)\right)$$
#
# Expanded in $h$, its second term is $\tfrac12 h^2$ times the derivative of $g(\tilde x + hg, \tilde\sigma + h)$ in $h$
# at $h = 0$, which is that along the solution. So only terms with $h^3$ are wrong, and after $1/h$ steps the error is
# of order $h^2$: **twice as many steps, a quarter of the error**.
#
# For data $N(0, v)$ both derivatives can be computed: there
# $\varepsilon^* = \tilde\sigma\tilde x/(v + \tilde\sigma^2)$, and the ODE is solved by
# $\tilde x = c\,\sqrt{v + \tilde\sigma^2}$. The line of each:
#
# 1. $\tfrac12\, d/d\tilde\sigma$ of $g(\tilde x(\tilde\sigma), \tilde\sigma)$ along the solution
# 2. $\tfrac12\, d/dh$ of $g(\tilde x + h g, \tilde\sigma + h)$ at $h = 0$


# %%
def g(x, sigma, v):
    """ε* for data N(0, v), in the variables x̃ and σ̃."""
    return sigma * x / (v + sigma**2)


def solution(sigma, v):
    return np.sqrt(v + sigma**2)


heun_lines = [
    lambda sigma, v: derivative(lambda y: g(solution(y, v), y, v), sigma) / 2,
    lambda sigma, v: (
        derivative(lambda h: g(solution(sigma, v) + h * g(solution(sigma, v), sigma, v), sigma + h, v), 0) / 2
    ),
]
solves_lines = [
    lambda sigma, v: derivative(lambda y: solution(y, v), sigma),
    lambda sigma, v: sigma / np.sqrt(v + sigma**2),
    lambda sigma, v: g(solution(sigma, v), sigma, v),
]
compare("The solution for normal data", solves_lines)
compare("The second term of Heun's method", heun_lines)

# %% [markdown]
# Now measured, on the mixture and with the exact ε. The times are real numbers, evenly spaced in $\tilde\sigma^{1/7}$
# as Karras et al. (2022) propose, and end at $t = 1$, where the last step to clean data begins (it has no second
# evaluation). The reference is Heun's method in 3000 steps.


# %%
def times_for(steps):
    """steps + 1 real times from T to 1, evenly in σ̃^(1/7), and then 0."""
    highest, lowest = (sigma_of(schedule.alpha_bar[t]) ** (1 / 7) for t in (schedule.T, 1))
    sigma = np.linspace(highest, lowest, steps + 1) ** 7
    times = schedule.time_of(1 / sigma**2)
    times[0], times[-1] = schedule.T, 1
    return (*times, 0)


def at_1(sampler, steps, x_T):
    """x at t = 1, before the last step."""
    *_, state, _ = sampler(exact, x_T, np.random.default_rng(0), times_for(steps))
    return state.x


x_T = samplers.initial_noise(np.random.default_rng(0), (500, 1), np.float64)
reference = at_1(samplers.heun, 3000, x_T)
step_numbers = (10, 20, 40, 80, 160, 320)
by_method = {
    name: [np.median(np.abs(at_1(sampler, n, x_T) - reference)) for n in step_numbers]
    for name, sampler in (("Euler (DDIM)", samplers.ddim), ("Heun", samplers.heun))
}
print("\nmedian error at t = 1 of 500 trajectories\n   steps " + "".join(f"{n:>10}" for n in step_numbers))
for name, found in by_method.items():
    orders = ", ".join(f"{np.log2(a / b):.2f}" for a, b in pairwise(found))
    print(f"   {name:13}" + "".join(f"{error:10.2e}" for error in found) + f"   order {orders}")

# %% [markdown]
# The order, the power of $h$, is the base-2 logarithm of the factor by which the error falls when the steps are
# doubled: it tends to 1 for Euler and to 2 for Heun. Heun evaluates the network twice a step; at the same number of
# evaluations it is still better, except where there are very few.
#
# ## What noise is good for
#
# ODE and SDE lead through the same densities, if the start and the score are exact. If they are not, they differ: the
# ODE carries an error along, and the SDE forgets it, since its extra drift pulls every point toward where the data are.
# For normal data a step multiplies an offset by a known factor (O3); here is what is left at $t = 0$ of an offset of 1
# at $t = T$, and at $t = 100$. So with few steps the ODE is better, and with many, and an imperfect network, noise can
# be.

# %%
gaussian = oracles.Gaussian(0.3, 0.2**2)
print("\nof an offset of 1, left at t = 0")
for begin in (1000, 100):
    left = {}
    for eta in (0.0, 0.5, 1.0):
        plan = ddim_steps(schedule, range(begin, -1, -1), eta)
        moved, unmoved = (gaussian.outcome(schedule, plan, mean, 0.0)[0].item() for mean in (1.0, 0.0))
        left[eta] = moved - unmoved
    print(
        f"   from t = {begin:4d}: " + ", ".join(f"{value:.4f} with η = {eta}" for eta, value in left.items())
    )

figure, (ode_ax, sde_ax, density_ax, order_ax) = plots.figure(15, 4.8, columns=4)
grid, shown_times = np.linspace(-3, 3, 201), np.arange(1, schedule.T + 1, 5)
field = np.stack([data.score(schedule, grid[:, None], int(t))[:, 0] for t in shown_times], axis=1)
many = samplers.initial_noise(np.random.default_rng(0), (4000, 1), np.float64)
both = {
    "the ODE (DDIM)": list(samplers.ddim(exact, many, np.random.default_rng(1))),
    "the SDE (DDPM)": list(samplers.ddpm(exact, many, np.random.default_rng(1))),
}
for ax, count, (name, states) in zip((ode_ax, sde_ax), (25, 5), both.items(), strict=True):
    drawn = ax.pcolormesh(shown_times, grid, field, cmap="RdBu_r", vmin=-5, vmax=5, rasterized=True)
    shown = np.stack([many[:count], *(state.x[:count] for state in states)])[..., 0]
    ax.plot([schedule.T, *(state.t for state in states)], shown, color=plots.INK, linewidth=0.6)
    ax.set(xlabel="time t", ylabel="x", ylim=(-3, 3), title=name)
    ax.invert_xaxis()
figure.colorbar(drawn, ax=sde_ax, label="score")
bins = np.linspace(-2.5, 2.5, 40)
density_ax.plot(
    grid, np.exp(data.log_density(schedule, grid[:, None], 150)), color=plots.INK, label="$q_{150}$, exact"
)
for (name, states), color in zip(both.items(), plots.COLOURS[1:], strict=False):
    x = next(state.x for state in states if state.t == 150)
    density_ax.hist(x[:, 0], bins, density=True, histtype="step", color=color, label=name)
density_ax.set(xlabel="x", ylabel="density", ylim=(0, 0.75), title="4000 points at t = 150")
density_ax.legend(frameon=False, fontsize=8)
for (name, found), color, marker in zip(by_method.items(), plots.COLOURS, plots.MARKERS, strict=False):
    order_ax.loglog(step_numbers, found, marker=marker, color=color, label=name)
for power, dashes in ((1, ":"), (2, "--")):
    first = list(by_method.values())[power - 1][-1]
    guide = first * (step_numbers[-1] / np.array(step_numbers)) ** power
    order_ax.loglog(step_numbers, guide, dashes, color=plots.COLOURS[2], linewidth=1, label=f"order {power}")
order_ax.set_xticks(step_numbers, labels=[str(n) for n in step_numbers])
order_ax.set_xticks([], minor=True)
order_ax.set(xlabel="steps", ylabel="median error at t = 1", title="order of the methods")
order_ax.legend(frameon=False, fontsize=8)
save(
    figure,
    "08_score_ode_sde",
    "Left: 25 trajectories of the ODE and 5 of the SDE over the score, from noise at t = 1000 to data at t = 0: those "
    "of the ODE are smooth and never cross, those of the SDE are rough. Third: at any t both have the same density, "
    "that of the noised data. Right: twice as many steps halve the error of Euler's method and quarter that of Heun's.",
)

# %% [markdown]
# ## Exercises
#
# Fill in the blanks of `demos/exercises/08_score_ode_sde.py`, then run
#
#     python demos/check.py demos/exercises/08_score_ode_sde.py
#
# 1. `score`: that of a mixture of normal distributions in one dimension, at noise level $\bar\alpha$ (O1).
# 2. `ode_drift`: the right side of the probability-flow ODE, from $\hat\varepsilon$.
# 3. `heun_step`: one step of Heun's method from $\bar\alpha_t$ to $\bar\alpha_s$. Its order is measured.
