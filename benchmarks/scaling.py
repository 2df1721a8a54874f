"""Does cost grow as the work does? The time of a training step against batch, width, image side and T.

    python benchmarks/scaling.py                  all series;  python benchmarks/scaling.py mlp-batch   this one

Prints a table and writes it as JSON (--json FILE, benchmarks/scaling.json if not given). Beside the time stands
what a unit of work costs, in nanoseconds for a thousand multiplications of the forward pass, and how it has
grown since the previous size: the factor of the time over that of the work. Below 1 fixed costs are spread over more
work; well above 1 is a cliff, marked from 1.25 on. T costs nothing with a sinusoidal embedding of the time; with a
learned vector for each time (`mlp-table`) Adam updates all of them at each step, and the work is the number of
parameters.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import works

from minidiff import autograd as ag
from minidiff import nn, optim, schedules, training
from minidiff.autograd import Tensor

SECONDS, FEWEST = 0.4, 5  # how long a size is measured, and how often at least
CLIFF = 1.25


def mlp(
    batch: int = 512, width: int = 128, T: int = 1000, time: str = "embedding"
) -> tuple[Callable[[], None], int]:
    """A training step of the MLP on numbers, and the multiplications of its forward pass."""
    rng = np.random.default_rng(0)
    data = rng.standard_normal((works.POINTS, 1), dtype=np.float32)
    net = nn.MLP(rng, dim=1, width=width, T=T, time=time)
    trainer = training.Trainer(
        net,
        schedules.linear(T),
        data,
        options=training.TrainingOptions(batch=batch, times="uniform"),
        rng=rng,
    )
    return trainer.advance, batch * (2 * width + 2 * width * width)


def mlp_sinusoidal(T: int) -> tuple[Callable[[], None], int]:
    """The same with a sinusoidal embedding, and a linear map, of the distinct times of a batch."""
    batch, width = 512, 128
    step, multiplications = mlp(batch, width, T, time="sinusoidal")
    distinct = T * (1 - (1 - 1 / T) ** batch)
    return step, multiplications + round(distinct) * width * 3 * width


def mlp_table(T: int) -> tuple[Callable[[], None], int]:
    """The same with a learned vector for each time, and the number of parameters."""
    step, _ = mlp(T=T)
    return step, nn.MLP(np.random.default_rng(0), T=T).count_parameters()


def unet(batch: int = 16, width: int = 32, side: int = 16) -> tuple[Callable[[], None], int]:
    """A training step of a U-Net of two levels, and its multiplications."""
    rng = np.random.default_rng(0)
    net = nn.UNet(
        rng, size=side, channels=1, width=width, multipliers=(1, 2), depth=1, attention=(), heads=4, groups=8,
        dropout=0.0,
    )  # fmt: skip
    x = rng.standard_normal((batch, side, side, 1), dtype=np.float32)
    t = rng.integers(1, works.T + 1, batch)
    parameters = nn.ParameterVector(net)
    adam = optim.Adam(parameters.values)

    def step() -> None:
        ag.mse(net(Tensor(x), t), x).backward()
        adam.update(parameters.gradients, 2e-4)

    return step, batch * works.unet_multiplications(side, 1, (width, 2 * width), 1, attended=())


SERIES = {
    "mlp-batch": (mlp, "batch", [2**i for i in range(14)]),
    "mlp-width": (mlp, "width", [8, 16, 32, 64, 128, 256, 512, 1024]),
    "mlp-T": (mlp_sinusoidal, "T", [10, 100, 1000, 10_000]),
    "mlp-table": (mlp_table, "T", [1000, 2000, 5000, 10_000]),
    "unet-batch": (unet, "batch", [2**i for i in range(10)]),
    "unet-width": (unet, "width", [8, 16, 32, 64, 128]),
    "unet-side": (unet, "side", [2, 4, 8, 16, 32, 64]),
}


def milliseconds(step: Callable[[], None]) -> float:
    """The median of a warm step."""
    times = []
    for _ in range(3):
        step()
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(times) < FEWEST:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return 1e3 * median(times)


def measure(series: str) -> list[dict[str, float]]:
    """A row for every size, printed as it comes."""
    make, name, sizes = SERIES[series]
    print(f"{series:12}{'ms':>12}{'ns / 1000':>12}{'growth':>9}")
    rows = []
    for size in sizes:
        step, work = make(**{name: size})
        row = {name: size, "ms": milliseconds(step), "work": work}
        grown = ""
        if rows:
            last = rows[-1]
            row["growth"] = (row["ms"] / last["ms"]) / (work / last["work"])
            grown = f"{row['growth']:9.2f}" + ("  a cliff" if row["growth"] > CLIFF else "")
        rows.append(row)
        print(f"{size:12}{row['ms']:12.3f}{1e9 * row['ms'] / work:12.1f}{grown}", flush=True)
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("series", nargs="*", metavar="SERIES", help=", ".join(SERIES))
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "scaling.json")
    options = parser.parse_args()
    table = {series: measure(series) for series in options.series or SERIES}
    options.json.write_text(json.dumps(table, indent=2) + "\n")


if __name__ == "__main__":
    main()
