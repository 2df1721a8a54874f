"""Demo 5: how many steps does sampling need, and why can steps be skipped? (EQUATIONS.md S6, and the questions of S7)

DDIM is said to be "10 to 20 times faster" than DDPM (S6). Why is DDPM slow, why is T large, can steps be skipped, and
why can DDIM skip them (S7)? Each question is measured on the 1-D mixture of demo 1, for a network trained here and for
the exact ε (O1), whose samples have no error but the sampler's. The distance is Wasserstein-1 to 200 000 points of the
data, in the data's units; the floor is that of as many real points as there are samples. The network is trained on data
scaled to standard deviation 1, as in `minidiff train`: in the data's own units the three narrow peaks are too fine for
it, and its error would hide all others.

    python demos/05_how_many_steps.py      writes demos/pictures/05_how_many_steps.png
"""

import time
from itertools import pairwise
from pathlib import Path

import numpy as np

from minidiff import metrics, nn, oracles, plots, samplers, schedules, training
from minidiff.diffusion.denoiser import Denoiser
from minidiff.diffusion.samplers.ddim import steps as ddim_steps

PICTURE = Path(__file__).parent / "pictures" / "05_how_many_steps.png"

mixture, unit = oracles.mixture1d(), 0.35  # the standard deviation of the data
distribution = oracles.Mixture(mixture.weights, mixture.means / unit, mixture.covariances / unit**2)
schedule, count = schedules.linear(T=1000), 4000
data = distribution.sample(np.random.default_rng(0), 200_000)
x_T = samplers.initial_noise(np.random.default_rng(1), (count, 1))

rng = np.random.default_rng(0)
net = nn.MLP(rng, dim=1, time="sinusoidal")
options = training.TrainingOptions(batch=1024, lr=2e-3, ema_decay=0.999)
trainer = training.Trainer(net, schedule, data.astype(np.float32), options=options, rng=rng)
for _ in trainer.run(6000):
    pass
models = {
    "trained": trainer.denoiser(),
    "exact": Denoiser(distribution.network(schedule), schedule),
}

# ---- S6: the distance against the number of steps

numbers = (10, 20, 50, 100, 1000)
etas = {"DDPM": 1.0, "DDIM, η = 0.5": 0.5, "DDIM": 0.0}  # DDPM with variance β̃ is DDIM with η = 1 (S4)
spacings = ("trailing", "leading", "linspace", "quadratic")


def distance(denoiser: Denoiser, times: tuple[int, ...], eta: float) -> float:
    """Wasserstein-1 between `count` samples, made over these times, and the data."""
    samples = samplers.final(samplers.ddim(denoiser, x_T, np.random.default_rng(2), times, eta))
    return unit * metrics.wasserstein1(samples, data)


real = [
    unit * metrics.wasserstein1(distribution.sample(np.random.default_rng(seed), count), data)
    for seed in range(3, 43)
]
floor = np.mean(real)
print(f"floor, {count} real points: {1000 * floor:.1f} ± {1000 * np.std(real):.1f} (all distances · 1000)\n")

found = {}
for model, denoiser in models.items():
    for sampler, eta in etas.items():
        with_all = distance(denoiser, samplers.spaced(schedule, "trailing", 1000), eta)
        for spacing in spacings:
            few = [distance(denoiser, samplers.spaced(schedule, spacing, n), eta) for n in numbers[:-1]]
            found[model, sampler, spacing] = [*few, with_all]

print("ε        sampler         spacing    " + "".join(f"{n:>7}" for n in numbers) + "  steps")
for (model, sampler, spacing), distances in found.items():
    print(f"{model:9}{sampler:16}{spacing:11}" + "".join(f"{1000 * d:7.1f}" for d in distances))

# ---- S7: why is DDPM slow? Because its evaluations of the network are sequential.

seconds = {}
for n in (1000, 50):
    start = time.perf_counter()
    distance(models["trained"], samplers.spaced(schedule, "quadratic", n), 1.0)
    seconds[n] = time.perf_counter() - start
jump = distance(models["exact"], (1000, 0), 1.0)
print(
    "\nWhy is DDPM slow? Each evaluation of the network needs the result of the last, so time grows with the steps:"
)
print(f"   {count} samples take {seconds[1000]:.1f} s in 1000 steps and {seconds[50]:.2f} s in 50")
print(f"   and a single one, x_T → x_0, ends at a distance of {1000 * jump:.0f} even with the exact ε")

# ---- S7: why must T be large? Because a step back is Gaussian only where it is small.


def shape_error(t: int, s: int) -> float:
    """Total variation between q(x_s | x_t) and the normal distribution with its moments, averaged over x_t ~ q_t."""
    alpha, beta = schedule.kernel(s, t)
    x_t = np.quantile(distribution.sample(np.random.default_rng(4), 20_000), np.linspace(0.02, 0.98, 25))
    x_t = np.sqrt(schedule.alpha_bar[t]) * x_t + np.sqrt(schedule.one_minus_alpha_bar[t]) * np.linspace(
        -2, 2, 25
    )
    grid = np.linspace(-5, 5, 40_001)
    width = grid[1] - grid[0]
    prior = distribution.log_density(schedule, grid[:, None], s)
    distances = []
    for x in x_t:
        back = np.exp(
            prior - (x - np.sqrt(alpha) * grid) ** 2 / (2 * beta) - prior.max()
        )  # Bayes' rule, without x_0
        back /= back.sum() * width
        mean = (back @ grid) * width
        variance = (back @ (grid - mean) ** 2) * width
        normal = np.exp(-((grid - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
        distances.append(np.abs(back - normal).sum() * width / 2)
    return float(np.mean(distances))


print(
    "\nWhy must T be large? The true step back is not Gaussian, but a short one nearly is. Total variation between"
)
print("q(x_s | x_t) and the normal distribution of its mean and variance, from t = 200:")
for s in (199, 190, 150, 100, 1):
    print(f"   {200:3d} → {s:3d}: {shape_error(200, s):.3f}")
print(
    "so with a smaller T, its β scaled to end in noise all the same, and its own exact ε, the distance becomes"
)
for T in (1000, 100, 20):
    chain = schedules.linear(T, 0.1 / T, min(0.999, 20 / T))
    denoiser = Denoiser(distribution.network(chain), chain)
    print(f"   T = {T:4d}: {1000 * distance(denoiser, tuple(range(T, -1, -1)), 1.0):6.1f}")

# ---- S7: can steps be skipped, and why can DDIM skip them?

print("\nCan steps be skipped? With quadratic spacing and the trained network, 1000 / 100 / 50 steps give")
for sampler in etas:
    few = [found["trained", sampler, "quadratic"][numbers.index(n)] for n in (1000, 100, 50)]
    print(f"   {sampler:14}" + " / ".join(f"{1000 * d:.1f}" for d in few))
point, worst = oracles.Gaussian([0.5], [[0.0]]), 0.0
for eta in (0.0, 0.5, 1.0):
    times = samplers.spaced(schedule, "trailing", 10)
    plan = ddim_steps(schedule, times, eta)
    for k, (t, _) in enumerate(pairwise(times)):
        mean, variance = point.outcome(schedule, plan[:k], *point.marginal(schedule, 1000))
        exact_mean, exact_variance = point.marginal(schedule, t)
        worst = max(worst, np.abs(mean - exact_mean).max(), np.abs(variance - exact_variance).max())
print("\nWhy can DDIM skip? What a network learns depends on q(x_t | x_0), not on q(x_t | x_{t−1}); and DDIM")
print(
    f"preserves every q(x_t | x_0), over 10 times as over 1000, for any η: mean and variance to within {worst:.0e}"
)

# ---- the figure

figure, axes = plots.figure(11, 4.5, columns=2, sharey=True)
for ax, model in zip(axes, models, strict=True):
    for (name, sampler, spacing), distances in found.items():
        if name == model and spacing in ("trailing", "quadratic") and sampler != "DDIM, η = 0.5":
            color = plots.ACCENT if sampler == "DDIM" else plots.INK
            style = "-" if spacing == "quadratic" else ":"
            ax.loglog(
                numbers,
                distances,
                style,
                marker="o",
                markersize=3,
                color=color,
                label=f"{sampler}, {spacing}",
            )
    ax.axhline(floor, color=plots.INK, alpha=0.4, linewidth=0.8)
    ax.text(12, floor * 1.05, "real data", fontsize=8, alpha=0.6)
    ax.set(
        xlabel="steps", title=f"{model} ε", ylabel="Wasserstein-1 (data units)" if model == "trained" else ""
    )
axes[0].legend(frameon=False, fontsize=8)
PICTURE.parent.mkdir(exist_ok=True)
plots.save(plots.frame_of(figure), PICTURE)
print(f"\nwrote {PICTURE}")
