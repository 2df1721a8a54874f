"""Demo 2: learn to undo noise, then sample with DDPM in all 1000 steps and with DDIM in 50.

A small MLP learns ε on the mixture of demo 1 (Algorithm 1). DDPM (Algorithm 2) adds fresh noise at each step back;
DDIM (EQUATIONS.md S3) with η = 0 draws nothing after x_T, so its trajectories are smooth and allow long steps.

    python demos/02_ddpm_beside_ddim.py      writes demos/pictures/02_ddpm_beside_ddim.png
"""

from pathlib import Path

import numpy as np

from minidiff import datasets, metrics, nn, plots, samplers, schedules, training

PICTURE = Path(__file__).parent / "pictures" / "02_ddpm_beside_ddim.png"

rng = np.random.default_rng(0)
data = datasets.load("mixture1d")
schedule = schedules.linear(T=1000)

# ---- Algorithm 1

net = nn.MLP(rng, dim=1, time="sinusoidal")
options = training.TrainingOptions(batch=512, lr=2e-3)
trainer = training.Trainer(net, schedule, data.x, options=options, rng=rng)
for step in trainer.run(steps=6000):
    if step.step % 1000 == 0:
        print(f"step {step.step}: loss {step.loss:.4f}")
denoiser = trainer.denoiser()

# ---- Algorithm 2, and DDIM

x_T = samplers.initial_noise(rng, (5_000, 1))
fifty = samplers.spaced(schedule, "quadratic", 50)
trajectories = {
    "DDPM, 1000 steps": list(samplers.ddpm(denoiser, x_T, rng)),
    "DDIM, 50 steps": list(samplers.ddim(denoiser, x_T, rng, fifty)),
}

truth = data.units.to_units(data.held_out)
floor = metrics.wasserstein1(truth, data.units.to_units(data.x))
print(f"Wasserstein-1 between 10 000 held-out points and the training data: {floor:.4f}")

figure, axes = plots.figure(11, 6, columns=2, rows=2, width_ratios=(2, 1), sharey=True)
for (path_ax, density_ax), (name, states) in zip(axes, trajectories.items(), strict=True):
    final = data.units.to_units(states[-1].x)
    distance = metrics.wasserstein1(final, truth)
    print(f"Wasserstein-1 of {name}, to held-out data: {distance:.4f}")
    paths = np.stack([x_T[:60], *(state.x[:60] for state in states)])
    paths = data.units.to_units(paths)[..., 0]
    path_ax.plot(
        [schedule.T, *(state.t for state in states)], paths, color=plots.ACCENT, alpha=0.4, linewidth=0.6
    )
    path_ax.invert_xaxis()
    path_ax.set(xlabel="t", ylabel="x", ylim=(-0.8, 0.9), title=name)
    bins = np.linspace(-0.8, 0.9, 200)
    density_ax.hist(
        truth[:, 0], bins, density=True, orientation="horizontal", color=plots.INK, alpha=0.3, label="data"
    )
    density_ax.hist(
        final[:, 0],
        bins,
        density=True,
        orientation="horizontal",
        color=plots.ACCENT,
        histtype="step",
        label="samples",
    )
    density_ax.set_xlabel("density")
    density_ax.set_title(f"Wasserstein-1 {distance:.4f}", fontsize=10)
    density_ax.legend(frameon=False, fontsize=8)

PICTURE.parent.mkdir(exist_ok=True)
plots.save(plots.frame_of(figure), PICTURE)
print(f"wrote {PICTURE}")
