"""Demo 1: how data becomes noise, and why one step of that can be undone.

The data is a 1-D Gaussian mixture (EQUATIONS.md S5): 30 % near 0.5, 40 % near 0.1, 30 % near −0.4. All curves are
exact: for a mixture of Gaussians, q_t is a mixture of Gaussians again (O1).

    python demos/01_forward_and_posterior.py      writes demos/pictures/01_forward_and_posterior.png
"""

from pathlib import Path

import numpy as np

from minidiff import noising, oracles, plots, schedules

PICTURE = Path(__file__).parent / "pictures" / "01_forward_and_posterior.png"

rng = np.random.default_rng(0)
schedule = schedules.linear(T=1000)
data = oracles.mixture1d()


def density(x: np.ndarray, t: int) -> np.ndarray:
    """q_t at the points x (N,)."""
    return np.exp(data.log_density(schedule, x[:, None], t))


# ---- the forward process (F1): ten points take a thousand small steps each

x = data.sample(rng, 10)
paths = [x]
for t in range(1, schedule.T + 1):
    x = noising.step(schedule, x, t, rng.standard_normal(x.shape))
    paths.append(x)
paths = np.concatenate(paths, axis=1)  # (10, T + 1)

# ---- the closed form (F4): the same distribution in one jump

x0 = data.sample(rng, 100_000)
jumped = noising.diffuse(schedule, x0, 300, rng.standard_normal(x0.shape))

# ---- the posterior (R1): where was a point one step ago, given x_0?

start, t = 0.5, 4
x_t = np.array([[0.55]])
mean, variance = noising.posterior(schedule, np.array([[start]]), x_t, t)
print(f"q(x_{t - 1} | x_{t} = {x_t.item()}, x_0 = {start}) = N({mean.item():.4f}, {variance.item():.5f})")

near = np.linspace(mean.item() - 0.08, mean.item() + 0.08, 400)


def gaussian(at: np.ndarray, mean: float, variance: float) -> np.ndarray:
    return np.exp(-((at - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)


likelihood = gaussian(x_t.item(), np.sqrt(schedule.alpha[t]) * near, schedule.beta[t])  # q(x_t | x_{t-1})
prior_mean, prior_variance = noising.marginal(schedule, np.array([[start]]), t - 1)
prior = gaussian(near, prior_mean.item(), np.asarray(prior_variance).item())  # q(x_{t-1} | x_0)
product = likelihood * prior
product /= product.sum() * (near[1] - near[0])
closed_form = gaussian(near, mean.item(), variance.item())
error = np.abs(product - closed_form).max() / closed_form.max()
print(f"Bayes' rule on a grid and the closed form differ by {error:.1e} of the peak")

# ---- the figure

figure, (forward, curves, bayes) = plots.figure(13, 4, columns=3)

grid, times = np.linspace(-2.5, 2.5, 300), np.arange(1, schedule.T + 1, 5)
heat = np.stack([density(grid, t) for t in times], axis=1)
forward.pcolormesh(times, grid, heat**0.4, cmap="Greys", shading="nearest", rasterized=True)
forward.plot(paths.T, color=plots.ACCENT, alpha=0.7, linewidth=0.5)
forward.set(xlabel="t", ylabel="x", ylim=(-2.5, 2.5), title="ten trajectories over $q_t$ (F1)")

wide = np.linspace(-2.5, 2.5, 600)
for t_shown, shade in ((20, 1.0), (100, 0.75), (300, 0.5), (1000, 0.3)):
    curves.plot(wide, density(wide, t_shown), color=plots.INK, alpha=shade, label=f"$q_{{{t_shown}}}$")
curves.hist(jumped[:, 0], 200, density=True, color=plots.ACCENT, alpha=0.3, label="jumps to 300 (F4)")
curves.set(xlabel="x", ylabel="density", ylim=(0, 3), title="$q_t$ in closed form (O1)")
curves.legend(frameon=False, fontsize=8)

bayes.plot(near, prior, color=plots.INK, alpha=0.4, label=f"$q(x_{{{t - 1}}} | x_0)$")
bayes.plot(
    near,
    likelihood,
    color=plots.INK,
    linestyle=":",
    label=f"$q(x_{{{t}}} | x_{{{t - 1}}})$",
)
bayes.fill_between(near, product, color=plots.ACCENT, alpha=0.3, label="their product, normalised")
bayes.plot(near, closed_form, color=plots.ACCENT, label="the closed form (R2, R3)")
bayes.set(xlabel=f"$x_{{{t - 1}}}$", ylabel="density", title="one step back, given $x_0$, is Gaussian (R1)")
bayes.legend(frameon=False, fontsize=8)

PICTURE.parent.mkdir(exist_ok=True)
plots.save(plots.frame_of(figure), PICTURE)
print(f"wrote {PICTURE}")
