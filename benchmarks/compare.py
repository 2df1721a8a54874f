"""minidiff beside other frameworks on the same works, in turn (A B A B …), so that the ratio holds on a noisy machine.

    python benchmarks/compare.py                    all works, and every framework that is installed
    python benchmarks/compare.py digits/step/128    these works;  --peers torch jax   these peers
    python benchmarks/compare.py --peer-python PY   peers run by another interpreter, where they are installed

Peers: minidiff in bf16; PyTorch in float32, compiled, and under bf16 autocast; JAX; for the forward passes of the
U-Nets also ONNX Runtime and OpenVINO, the latter in float32 and in bf16. All have the same weights and inputs there,
and an output that differs from minidiff's by more than 0.1 % (3 % in bf16) of its norm is not timed.

Prints a table and writes it as JSON (--json FILE, benchmarks/figures.json if not given). For each framework: the median
in milliseconds, the minimum, and half the spread of the rounds; how many times as long as minidiff it takes, the median
over the rounds; its fraction of peak arithmetic; and the peak memory of the process.
Peak arithmetic is that of the product of two matrices of 1024² in float32, in minidiff's kernel or NumPy's, whichever
is faster, measured in the same rounds; works are counted in multiplications of the direct algorithm, so a convolution
with fewer (Winograd), or bf16, may exceed 100 %.

torch.compile takes minutes for a U-Net and is used for the MLP alone; with --compile-all for everything. A peer that
takes longer than --patience seconds is left out of that work.
"""

import argparse
import json
import sys
from pathlib import Path
from statistics import median

import numpy as np
import works
from worker import HERE, Worker

PEERS = [
    "minidiff-bf16",
    "torch",
    "torch-compile",
    "torch-bf16",
    "jax",
    "onnxruntime",
    "openvino",
    "openvino-bf16",
]
ROUNDS, ROUND_SECONDS = 7, 0.5
YARDSTICK = "product/whole/1024"


def able(work: str, workers: dict[str, Worker]) -> list[str]:
    """The frameworks that have a work and compute the same as the first; why others are left out is printed."""
    names, expected = [], None
    for name, worker in workers.items():
        worker.start()  # so that its peak of memory is this work's
        reply = worker.run(work, 0, output=True)
        missing, output = reply.get("missing"), reply.get("output")
        if output is not None:
            expected = output if expected is None else expected
            error, limit = difference(output, expected), 3e-2 if name.endswith("bf16") else 1e-3
            if not error <= limit:
                missing = f"its output differs by {error:.2g} of the norm, more than {limit:g}"
        if missing is None:
            names.append(name)
        elif not missing.startswith("KeyError"):  # that is: not written for this framework
            print(f"{work}: {name} is left out: {missing}")
    return names


def difference(output: list[float], expected: list[float]) -> float:
    """The norm of the difference over that of `expected`; infinite for another size."""
    if len(output) != len(expected):
        return float("inf")
    return float(np.linalg.norm(np.subtract(output, expected)) / np.linalg.norm(expected))


def compare(
    work: str, workers: dict[str, Worker], yardsticks: dict[str, Worker], rounds: int
) -> dict[str, dict]:
    """Framework → its figures, all measured in turn."""
    times, least, memory = {name: [] for name in able(work, workers)}, {}, {}
    products = []
    for _ in range(rounds):
        for name in times:
            reply = workers[name].run(work, ROUND_SECONDS)
            times[name].append(1e3 * median(reply["seconds"]))
            least[name] = min(least.get(name, float("inf")), 1e3 * min(reply["seconds"]))
            memory[name] = reply["megabytes"]
        products.append(min(median(w.run(YARDSTICK, 0.1)["seconds"]) for w in yardsticks.values()))
    limit = works.multiplications(YARDSTICK) / median(products)
    figures = {}
    for name, of_rounds in times.items():
        middle = median(of_rounds)
        figures[name] = {
            "ms": middle,
            "least ms": least[name],
            "spread": (max(of_rounds) - min(of_rounds)) / middle,
            "fraction of peak": works.multiplications(work) / (1e-3 * middle) / limit,
            "MB": memory[name],
            "rounds ms": of_rounds,
        }
        if "minidiff" in times:
            pairs = zip(of_rounds, times["minidiff"], strict=True)
            figures[name]["ratio"] = median(theirs / ours for theirs, ours in pairs)
    return figures


def line(work: str, name: str, figure: dict) -> str:
    """A line of the table."""
    return (
        f"{work:20}{name:15}{figure['ms']:10.2f}{figure['least ms']:10.2f}{figure['spread'] / 2:7.0%}"
        f"{figure.get('ratio', float('nan')):8.2f}{figure['fraction of peak']:7.0%}{figure['MB']:7}"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("works", nargs="*", default=works.NAMES, metavar="WORK")
    parser.add_argument("--peers", nargs="*", default=PEERS)
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--compile-all", action="store_true")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--patience", type=float, default=300)
    parser.add_argument("--json", type=Path, default=HERE / "figures.json")
    options = parser.parse_args()
    workers = {"minidiff": Worker("minidiff")}
    for peer in options.peers:
        python = sys.executable if peer.startswith("minidiff") else options.peer_python
        workers[peer] = Worker(peer, python, options.patience)
    for name, worker in list(workers.items()):
        if worker.missing:
            print(f"{name} is left out: {worker.missing}")
            del workers[name]
    yardsticks = {name: Worker(name) for name in ("minidiff", "numpy")}
    print(f"{'work':20}{'framework':15}{'ms':>10}{'least':>10}{'±':>7}{'ratio':>8}{'peak':>7}{'MB':>7}")
    table = {}
    for work in options.works:
        taking_part = {
            name: worker
            for name, worker in workers.items()
            if name != "torch-compile" or options.compile_all or work.startswith("mlp")
        }
        figures = table[work] = compare(work, taking_part, yardsticks, options.rounds)
        for name, figure in figures.items():
            print(line(work, name, figure), flush=True)
        options.json.write_text(json.dumps(table, indent=2) + "\n")


if __name__ == "__main__":
    main()
