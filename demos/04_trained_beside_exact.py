"""Demo 4: a trained network beside the exact one.

For a mixture of Gaussians the output ε* of a perfect network is known in closed form (EQUATIONS.md O1), so the error of
a trained network can be computed at every x and t, without samples. Two networks are trained and compared with it: on
the 1-D mixture of demo 1, in units of its standard deviation, and on three correlated Gaussians in the plane. Averaged
over x_t ~ q_t,

    E‖ε − ε_θ‖²  =  E‖ε − ε*‖²  +  E‖ε_θ − ε*‖²
    the loss        irreducible    the network's
                    error          excess error

Only the last term can be trained away. The loss alone does not show it: near t = 0 it is large for every network.

    python demos/04_trained_beside_exact.py      writes demos/pictures/04_trained_beside_exact.png
"""

from pathlib import Path

import numpy as np

from minidiff import nn, noising, oracles, plots, schedules, training

PICTURE = Path(__file__).parent / "pictures" / "04_trained_beside_exact.png"

schedule = schedules.linear(T=1000)
shown_times = (1, 10, 30, 100, 300, 600, 1000)


def trained(data: oracles.Mixture, steps: int) -> nn.MLP:
    """A network that has learned ε on 100 000 points of the distribution, by Algorithm 1."""
    rng = np.random.default_rng(0)
    x = data.sample(rng, 100_000).astype(np.float32)
    net = nn.MLP(rng, dim=data.dim, time="sinusoidal")
    options = training.TrainingOptions(batch=1024, lr=2e-3, ema_decay=0.999)
    trainer = training.Trainer(net, schedule, x, options=options, rng=rng)
    for _ in trainer.run(steps):
        pass
    return trainer.ema_net


def errors(net: nn.MLP, data: oracles.Mixture, t: int, count: int = 10_000) -> tuple[float, float, float]:
    """The three terms above at t, per coordinate, over `count` draws of x_t from q_t."""
    rng = np.random.default_rng(t)
    x0 = data.sample(rng, count)
    eps = rng.standard_normal(x0.shape)
    x_t = noising.diffuse(schedule, x0, t, eps)
    exact = data.eps(schedule, x_t, t)
    learned = net(x_t.astype(np.float32), np.full(count, t))
    return np.mean((eps - learned) ** 2), np.mean((eps - exact) ** 2), np.mean((learned - exact) ** 2)


def mean_error(net: nn.MLP, data: oracles.Mixture) -> float:
    """E‖ε_θ − ε*‖² per coordinate over t uniform on 1…T and x_t ~ q_t, a time of its own for each of 100 000 draws."""
    rng = np.random.default_rng(1)
    x0 = data.sample(rng, 100_000)
    t = rng.integers(1, schedule.T + 1, len(x0))
    x_t = noising.diffuse(schedule, x0, t, rng.standard_normal(x0.shape))
    return np.mean((net(x_t.astype(np.float32), t) - data.eps(schedule, x_t, t)) ** 2)


# ---- two distributions, two networks

unit = 0.35  # the standard deviation of the mixture: a network learns best on data with standard deviation 1
mixture = oracles.mixture1d()
line = oracles.Mixture(mixture.weights, mixture.means / unit, mixture.covariances / unit**2)
covariances = np.array(
    [[[0.08, 0.05], [0.05, 0.04]], [[0.05, -0.03], [-0.03, 0.03]], [[0.01, 0.0], [0.0, 0.1]]]
)
plane = oracles.Mixture([0.4, 0.4, 0.2], [[-0.8, -0.3], [0.5, 0.6], [0.8, -0.8]], covariances)

networks = {}
for name, data, steps in (("1-D", line, 6000), ("2-D", plane, 2000)):
    networks[name] = net = trained(data, steps)
    print(f"\nthe {name} mixture, after {steps} steps:")
    print("      t   loss    irreducible   excess")
    for t in shown_times:
        loss, irreducible, excess = errors(net, data, t)
        print(f"   {t:4d}   {loss:.4f}   {irreducible:.4f}        {excess:.4f}")
    print(f"   over all t the excess error is {mean_error(net, data):.4f}, where the variance of ε is 1")

# ---- the figure: ε* and ε_θ over (x, t), their difference where q_t has mass, the error by t, and −ε in the plane

figure, axes = plots.figure(13, 7.5, columns=3, rows=2)
(exact_ax, learned_ax, error_ax), (by_t_ax, early_ax, late_ax) = axes

grid, times = np.linspace(-3, 3, 241), np.unique(np.geomspace(1, 1000, 120).astype(int))
points = np.tile(grid, len(times))[:, None]
point_times = np.repeat(times, len(grid))
exact = line.eps(schedule, points, point_times).reshape(len(times), -1).T
learned = networks["1-D"](points.astype(np.float32), point_times).reshape(len(times), -1).T
density = np.exp(line.log_density(schedule, points, point_times)).reshape(len(times), -1).T
for ax, field, title in ((exact_ax, exact, "ε*, exact (O1)"), (learned_ax, learned, "ε_θ, learned")):
    drawn = ax.pcolormesh(times, grid, field, cmap="RdBu_r", vmin=-3, vmax=3, rasterized=True)
    ax.set(title=title)
figure.colorbar(drawn, ax=learned_ax)
error = np.where(density > 1e-3, np.abs(learned - exact), np.nan)
drawn = error_ax.pcolormesh(times, grid, error, cmap="Reds", vmin=0, vmax=0.5, rasterized=True)
figure.colorbar(drawn, ax=error_ax)
error_ax.set(title="|ε_θ − ε*| where $q_t$ > 0.001")
for ax in (exact_ax, learned_ax, error_ax):
    ax.set(xscale="log", xlabel="t", ylabel="x")

many_times = np.unique(np.geomspace(1, 1000, 40).astype(int))
for name, data, color in (("1-D", line, plots.ACCENT), ("2-D", plane, plots.INK)):
    terms = np.array([errors(networks[name], data, t) for t in many_times])
    by_t_ax.loglog(
        many_times, terms[:, 1], color=color, alpha=0.4, linestyle=":", label=f"{name}: irreducible"
    )
    by_t_ax.loglog(many_times, terms[:, 2], color=color, label=f"{name}: excess")
by_t_ax.set(xlabel="t", title="mean squared error by t, over $x_t$ ~ $q_t$")
by_t_ax.legend(frameon=False, fontsize=8)

side = np.linspace(-2, 2, 15)
positions = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
for ax, t in ((early_ax, 50), (late_ax, 400)):
    cloud = noising.diffuse(
        schedule, plane.sample(rng := np.random.default_rng(2), 2000), t, rng.standard_normal((2000, 2))
    )
    ax.scatter(*cloud.T, s=2, color=plots.INK, alpha=0.2, linewidths=0)
    for field, color, width in (
        (plane.eps(schedule, positions, t), plots.INK, 0.009),
        (networks["2-D"](positions.astype(np.float32), np.full(len(positions), t)), plots.ACCENT, 0.004),
    ):
        ax.quiver(*positions.T, *-field.T, color=color, width=width, scale=60, alpha=0.8)
    ax.set(
        xlim=(-2.2, 2.2),
        ylim=(-2.2, 2.2),
        xlabel="$x_1$",
        ylabel="$x_2$",
        title=f"−ε at t = {t}: exact (dark), learned (red)",
    )

PICTURE.parent.mkdir(exist_ok=True)
plots.save(plots.frame_of(figure), PICTURE)
print(f"\nwrote {PICTURE}")
