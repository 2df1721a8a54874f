"""The figures of trained networks with their spread: each over several seeds, as mean ± standard error.

Seed k draws the training data, the initial weights, the order of training, x_T and the noise of sampling, so the error
holds for all of these together. In the bits of a training every change counts: another CPU, other versions of NumPy or
Numba, another order of a sum in a kernel. So the figures of one seed are those of one version on one machine; their
mean is what the method does.

    NUMBA_NUM_THREADS=1 python benchmarks/spread.py steps     S6's table; a minute and a half a seed
    NUMBA_NUM_THREADS=1 python benchmarks/spread.py error     O1's errors against the exact ε; 15 seconds a seed
    NUMBA_NUM_THREADS=1 python benchmarks/spread.py targets   ε, x_0 or v, and the EMA (session 6); half a minute a seed
    NUMBA_NUM_THREADS=1 python benchmarks/spread.py curve      S11's energy distance; 5 seconds a seed
"""

import argparse
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from minidiff import Denoiser, datasets, metrics, nn, noising, oracles, samplers, schedules, training
from minidiff.datasets import Samples
from minidiff.diffusion.likelihood import mean_and_error
from minidiff.training import TrainingOptions as Options

Figures = dict[str, list[float]]

SHORT = schedules.linear(100, 1e-3, 0.1)
STEPS = (1000, 100, 50, 20, 10)
TIMES = (1, 10, 30, 100, 300, 600, 1000)
UNIT = 0.35  # the standard deviation of the mixture S5
COUNT = 4000  # samples of a distance
ETAS = {"DDIM": 0.0, "η = 0.5": 0.5, "DDPM": 1.0}
SLANTS = np.array([[[0.08, 0.05], [0.05, 0.04]], [[0.05, -0.03], [-0.03, 0.03]], [[0.01, 0.0], [0.0, 0.1]]])


def trained(
    rng: np.random.Generator,
    net: nn.Network,
    schedule: schedules.Schedule,
    x: np.ndarray | Samples,
    steps: int,
    options: Options,
) -> training.Trainer:
    """A trainer after `steps` of Algorithm 1 on x."""
    trainer = training.Trainer(net, schedule, x, options=options, rng=rng)
    for _ in trainer.run(steps):
        pass
    return trainer


def by_steps(seed: int) -> Figures:
    """1000 times the Wasserstein-1 distance to the mixture S5, in its own units, by the number of steps (S6)."""
    rng, schedule = np.random.default_rng(seed), schedules.linear()
    mixture = oracles.mixture1d()
    scaled = oracles.Mixture(mixture.weights, mixture.means / UNIT, mixture.covariances / UNIT**2)
    data = scaled.sample(rng, 200_000)
    net = nn.MLP(rng, dim=1, time="sinusoidal")
    trainer = trained(
        rng, net, schedule, data.astype(np.float32), 6000, Options(batch=1024, lr=2e-3, ema_decay=0.999)
    )
    x_T = samplers.initial_noise(rng, (COUNT, 1))
    denoisers = {"exact": Denoiser(scaled.network(schedule), schedule), "trained": trainer.denoiser()}
    found = {
        "the data themselves": [1000 * UNIT * metrics.wasserstein1(scaled.sample(rng, COUNT), data)]
        * len(STEPS)
    }
    for model, denoiser in denoisers.items():
        for name, eta in ETAS.items():
            found[f"{model}, {name}"] = [
                1000
                * UNIT
                * metrics.wasserstein1(
                    samplers.final(
                        samplers.ddim(denoiser, x_T, rng, samplers.spaced(schedule, "quadratic", n), eta)
                    ),
                    data,
                )
                for n in STEPS
            ]
    return found


def of_eps(seed: int) -> Figures:
    """E‖ε_θ − ε*‖² per coordinate over t and x_t ~ q_t after 1000 steps, as in the test of O1."""
    plane = oracles.Mixture([0.4, 0.4, 0.2], [[-0.8, -0.3], [0.5, 0.6], [0.8, -0.8]], SLANTS)
    found = {}
    for name, oracle in (("on the line", oracles.mixture1d()), ("in the plane", plane)):
        rng = np.random.default_rng(seed)
        net = nn.MLP(rng, dim=oracle.dim, width=64, depth=3, T=100, time="sinusoidal")
        x = oracle.sample(rng, 20_000).astype(np.float32)
        trainer = trained(rng, net, SHORT, x, 1000, Options(batch=256, lr=4e-3, warmup=50, ema_decay=0.99))
        x0, t = oracle.sample(rng, 20_000), np.repeat(np.arange(1, 101), 200)
        x_t = noising.diffuse(SHORT, x0, t, rng.standard_normal(x0.shape))
        error = (trainer.ema_net(x_t.astype(np.float32), t) - oracle.eps(SHORT, x_t, t)) ** 2
        by_t = error.reshape(100, -1).mean(axis=1)
        found[name] = [by_t.mean(), by_t[0], by_t[9:].max()]
    return found


def of_curve(seed: int) -> Figures:
    """The energy distance to the S-curve after 300 steps, as in the test of S11."""
    rng, data = np.random.default_rng(seed), datasets.load("s-curve")
    net = nn.MLP(rng, dim=2, width=128, depth=3, T=100, time="embedding")
    trainer = trained(rng, net, SHORT, data.x, 300, Options(batch=256, lr=3e-3, warmup=50, ema_decay=0.99))
    x_T = samplers.initial_noise(rng, (2000, 2))
    samples = samplers.final(
        samplers.ddim(trainer.denoiser(), x_T, rng, samplers.spaced(SHORT, "quadratic", 20))
    )
    return {"s-curve": [metrics.energy_distance(samples, data.held_out[:2000])]}


def of_targets(seed: int) -> Figures:
    """The mean squared error of x̂_0 against the exact one by t, for networks that predict ε, x_0 or v (session 6).

    Each after 2000 steps on the mixture S5, scaled to variance 1; the first row is ε with the weights as they are, in
    place of their EMA.
    """
    schedule, mixture, found = schedules.linear(), oracles.mixture1d(), {}
    scaled = oracles.Mixture(mixture.weights, mixture.means / UNIT, mixture.covariances / UNIT**2)
    for prediction in ("eps", "x0", "v"):
        rng = np.random.default_rng(seed)
        x = scaled.sample(rng, 100_000).astype(np.float32)
        options = Options(batch=512, lr=2e-3, ema_decay=0.999, prediction=prediction)
        trainer = trained(rng, nn.MLP(rng, dim=1, time="sinusoidal"), schedule, x, 2000, options)
        denoisers = {prediction: trainer.denoiser()}
        if prediction == "eps":
            denoisers = {"eps, no EMA": replace(trainer.denoiser(), net=trainer.net), **denoisers}
        for name, denoiser in denoisers.items():
            draws = np.random.default_rng(seed)
            found[name] = []
            for t in TIMES:
                x0 = scaled.sample(draws, 10_000)
                x_t = noising.diffuse(schedule, x0, t, draws.standard_normal(x0.shape))
                predicted = denoiser(x_t.astype(np.float32), t).x0
                found[name].append(np.mean((predicted - scaled.x0(schedule, x_t, t)) ** 2))
    return found


FIGURES: dict[str, tuple[Callable[[int], Figures], list[str]]] = {
    "steps": (by_steps, [str(n) for n in STEPS]),
    "error": (of_eps, ["all t", "t = 1", "worst t ≥ 10"]),
    "targets": (of_targets, [f"t = {t}" for t in TIMES]),
    "curve": (of_curve, ["energy distance"]),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("figures", choices=FIGURES)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    measure, columns = FIGURES[arguments.figures]
    runs: list[Figures] = []
    for seed in range(arguments.seeds):
        runs.append(measure(seed))
        print(
            f"seed {seed}:", {name: np.round(row, 4).tolist() for name, row in runs[-1].items()}, flush=True
        )
    print(f"\nmean ± standard error over {len(runs)} seeds\n| | {' | '.join(columns)} |")
    for name in runs[0]:
        cells = [
            mean_and_error(np.array(column)) for column in zip(*(run[name] for run in runs), strict=True)
        ]
        print(f"| {name} | {' | '.join(f'{mean:.3g} ± {error:.2g}' for mean, error in cells)} |")


if __name__ == "__main__":
    main()
