"""Demo 4: what a network has learned, beside what there was to learn.

For a mixture of Gaussians the ε that a perfect network would say is known in closed form (O1), so the error of a
trained one needs no samples to look at: it is a number at every x and t. Two networks are trained, on the documents'
mixture on the line, in units of its deviation, and on three slanted Gaussians in the plane, and compared with it.
Averaged over x_t ~ q_t,

    E‖ε − ε_θ‖²  =  E‖ε − ε*‖²  +  E‖ε_θ − ε*‖²
    the loss        what no network    what this one
                    can know           has missed

Only the last term can be trained away. The loss alone does not tell: near t = 0 it is large for everybody.

    python demos/04_trained_beside_exact.py      writes demos/pictures/04_trained_beside_exact.png
"""

from pathlib import Path

import numpy as np

from minidiff import nn, noising, oracles, plots, schedules, training

PICTURE = Path(__file__).parent / "pictures" / "04_trained_beside_exact.png"

schedule = schedules.linear(T=1000)
shown_times = (1, 10, 30, 100, 300, 600, 1000)


def trained(law: oracles.Mixture, steps: int) -> nn.MLP:
    """A network that has learned ε on 100 000 points of the law, by Algorithm 1."""
    rng = np.random.default_rng(0)
    x = law.sample(rng, 100_000).astype(np.float32)
    net = nn.MLP(rng, dim=law.dim, time="sinusoidal")
    trainer = training.Trainer(net, schedule, x, rng=rng, batch=1024, lr=2e-3, decay=0.999)
    for _ in trainer.run(steps):
        pass
    return trainer.average


def errors(net: nn.MLP, law: oracles.Mixture, t: int, count: int = 10_000) -> tuple[float, float, float]:
    """The three terms above at t, per coordinate, over `count` draws of x_t from q_t."""
    rng = np.random.default_rng(t)
    x0 = law.sample(rng, count)
    eps = rng.standard_normal(x0.shape)
    x_t = noising.diffuse(schedule, x0, t, eps)
    exact = law.eps(schedule, x_t, t)
    learned = net(x_t.astype(np.float32), np.full(count, t))
    return np.mean((eps - learned) ** 2), np.mean((eps - exact) ** 2), np.mean((learned - exact) ** 2)


def mean_error(net: nn.MLP, law: oracles.Mixture) -> float:
    """E‖ε_θ − ε*‖² per coordinate over t uniform on 1…T and x_t ~ q_t, a time of its own for each of 100 000 draws."""
    rng = np.random.default_rng(1)
    x0 = law.sample(rng, 100_000)
    t = rng.integers(1, schedule.T + 1, len(x0))
    x_t = noising.diffuse(schedule, x0, t, rng.standard_normal(x0.shape))
    return np.mean((net(x_t.astype(np.float32), t) - law.eps(schedule, x_t, t)) ** 2)


# ---- two laws, two networks

unit = 0.35  # the deviation of the documents' data: in units of that a network learns it best
documents = oracles.mixture1d()
line = oracles.Mixture(documents.weights, documents.means / unit, documents.covariances / unit**2)
slants = np.array([[[0.08, 0.05], [0.05, 0.04]], [[0.05, -0.03], [-0.03, 0.03]], [[0.01, 0.0], [0.0, 0.1]]])
plane = oracles.Mixture([0.4, 0.4, 0.2], [[-0.8, -0.3], [0.5, 0.6], [0.8, -0.8]], slants)

networks = {}
for name, law, steps in (("line", line, 6000), ("plane", plane, 2000)):
    networks[name] = net = trained(law, steps)
    print(f"\nthe mixture on the {name}, after {steps} steps:")
    print("      t   loss    cannot be known   missed")
    for t in shown_times:
        loss, floor, missed = errors(net, law, t)
        print(f"   {t:4d}   {loss:.4f}   {floor:.4f}            {missed:.4f}")
    print(f"   over all t the network misses {mean_error(net, law):.4f} of the variance 1 of ε")

# ---- the picture: ε* and ε_θ over (x, t), where x_t is found, the error by t, and the arrows in the plane

figure, axes = plots.figure(13, 7.5, columns=3, rows=2)
(exact_ax, learned_ax, error_ax), (by_t_ax, early_ax, late_ax) = axes

grid, times = np.linspace(-3, 3, 241), np.unique(np.geomspace(1, 1000, 120).astype(int))
points = np.tile(grid, len(times))[:, None]
when = np.repeat(times, len(grid))
exact = line.eps(schedule, points, when).reshape(len(times), -1).T
learned = networks["line"](points.astype(np.float32), when).reshape(len(times), -1).T
density = np.exp(line.log_density(schedule, points, when)).reshape(len(times), -1).T
for ax, field, title in ((exact_ax, exact, "ε*, exact (O1)"), (learned_ax, learned, "ε_θ, learned")):
    drawn = ax.pcolormesh(times, grid, field, cmap="RdBu_r", vmin=-3, vmax=3, rasterized=True)
    ax.set(title=title)
figure.colorbar(drawn, ax=learned_ax)
off = np.where(density > 1e-3, np.abs(learned - exact), np.nan)
drawn = error_ax.pcolormesh(times, grid, off, cmap="Reds", vmin=0, vmax=0.5, rasterized=True)
figure.colorbar(drawn, ax=error_ax)
error_ax.set(title="|ε_θ − ε*| wherever $q_t$ > 0.001")
for ax in (exact_ax, learned_ax, error_ax):
    ax.set(xscale="log", xlabel="t", ylabel="x")

dense = np.unique(np.geomspace(1, 1000, 40).astype(int))
for name, law, color in (("line", line, plots.ACCENT), ("plane", plane, plots.INK)):
    terms = np.array([errors(networks[name], law, t) for t in dense])
    by_t_ax.loglog(
        dense, terms[:, 1], color=color, alpha=0.4, linestyle=":", label=f"{name}: cannot be known"
    )
    by_t_ax.loglog(dense, terms[:, 2], color=color, label=f"{name}: missed")
by_t_ax.set(xlabel="t", title="mean squared error by t, over $x_t$ ~ $q_t$")
by_t_ax.legend(frameon=False, fontsize=8)

side = np.linspace(-2, 2, 15)
where = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
for ax, t in ((early_ax, 50), (late_ax, 400)):
    cloud = noising.diffuse(
        schedule, plane.sample(rng := np.random.default_rng(2), 2000), t, rng.standard_normal((2000, 2))
    )
    ax.scatter(*cloud.T, s=2, color=plots.INK, alpha=0.2, linewidths=0)
    for field, color, width in (
        (plane.eps(schedule, where, t), plots.INK, 0.009),
        (networks["plane"](where.astype(np.float32), np.full(len(where), t)), plots.ACCENT, 0.004),
    ):
        ax.quiver(*where.T, *-field.T, color=color, width=width, scale=60, alpha=0.8)
    ax.set(xlim=(-2.2, 2.2), ylim=(-2.2, 2.2), title=f"−ε at t = {t}: exact (dark), learned")

PICTURE.parent.mkdir(exist_ok=True)
plots.save(plots.frame_of(figure), PICTURE)
print(f"\nwrote {PICTURE}")
