"""minidiff beside PyTorch and JAX on the same works, in turn (A B A B …), so that the ratio holds on a noisy machine.

    python benchmarks/compare.py                    all works, and every framework that is installed
    python benchmarks/compare.py digits/step/128    these works;  --peers torch   these peers
    python benchmarks/compare.py --peer-python PY   peers run by another interpreter, where they are installed

Prints a table and writes it as JSON (--json FILE, benchmarks/figures.json if not given). For each framework the
median in milliseconds, the minimum, and the spread of the rounds; then how many times faster minidiff is than the
fastest peer, both in the same rounds; minidiff's fraction of peak arithmetic; and the peak memory of the process in MB.
Peak arithmetic is that of the product of two matrices of 1024², in minidiff's kernel or NumPy's, whichever is faster,
measured in the same rounds; works are counted in multiplications of the direct algorithm, so a convolution with fewer
(Winograd) may exceed 100 %.

torch.compile takes minutes for a U-Net and is used for the MLP alone; with --compile-all for everything. A peer that
takes longer than --patience seconds is left out of that work.
"""

import argparse
import json
import os
import select
import subprocess
import sys
from pathlib import Path
from statistics import median

import works

HERE = Path(__file__).parent
ROUNDS, ROUND_SECONDS = 7, 0.5
YARDSTICK = "product/whole/1024"


class Worker:
    """A process of `worker.py`, which is started anew for each work, so that its peak of memory is that work's."""

    def __init__(
        self, framework: str, python: str = sys.executable, patience: float = 600, **environment: str
    ) -> None:
        self.framework, self.python, self.patience = framework, python, patience
        self.environment = environment
        self.process, self.missing = None, None
        self.start()

    def start(self) -> None:
        """Begin with a fresh process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        paths = [str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "2"}
        environment |= self.environment
        self.process = subprocess.Popen(
            [self.python, HERE / "worker.py", self.framework],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self.missing = self._reply().get("missing")

    def _reply(self) -> dict:
        if not select.select([self.process.stdout], [], [], self.patience)[0]:
            self.process.kill()
            self.process.wait()
            return {"missing": f"no reply in {self.patience:.0f} s"}
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"missing": "the process ended"}

    def run(self, work: str, repeat: int) -> dict:
        """Run a work `repeat` times; 0 prepares it."""
        if self.process.poll() is not None:
            self.start()
        print(json.dumps({"work": work, "repeat": repeat}), file=self.process.stdin, flush=True)
        return self._reply()


def able(work: str, workers: dict[str, Worker]) -> dict[str, int]:
    """Which frameworks have a work, and how often they run it in a round; why others do not is printed."""
    repeats = {}
    for name, worker in workers.items():
        worker.start()
        prepared = worker.run(work, 0)
        once = prepared if "missing" in prepared else worker.run(work, 1)
        if "missing" in once:
            if not once["missing"].startswith("KeyError"):  # not written for this framework
                print(f"{work}: {name} is left out: {once['missing']}")
            continue
        repeats[name] = max(1, min(200, int(ROUND_SECONDS / once["seconds"][0])))
    return repeats


def compare(work: str, workers: dict[str, Worker], yardsticks: dict[str, Worker]) -> dict[str, dict]:
    """Framework → its figures, all measured in turn; "limit" → the multiplications a second of the yardstick."""
    repeats = able(work, workers)
    rounds, memory = {name: [] for name in repeats}, {}
    products, least = [], dict.fromkeys(repeats, float("inf"))
    for _ in range(ROUNDS):
        for name, repeat in repeats.items():
            timed = workers[name].run(work, repeat)
            rounds[name].append(1e3 * median(timed["seconds"]))
            least[name] = min(least[name], 1e3 * min(timed["seconds"]))
            memory[name] = timed["megabytes"]
        products.append(min(median(worker.run(YARDSTICK, 5)["seconds"]) for worker in yardsticks.values()))
    limit = works.multiplications(YARDSTICK) / median(products)
    figures = {"limit": limit}
    for name, times in rounds.items():
        middle = median(times)
        figures[name] = {
            "ms": middle,
            "least ms": least[name],
            "spread": (max(times) - min(times)) / middle,
            "fraction of peak": works.multiplications(work) / (1e-3 * middle) / limit,
            "MB": memory[name],
            "rounds ms": times,
        }
    return figures


def beside(figures: dict[str, dict]) -> tuple[str, float] | None:
    """The fastest peer, and the median over the rounds of its time through ours; None without a peer or us."""
    peers = {name: row["ms"] for name, row in figures.items() if name not in ("minidiff", "limit")}
    if not peers or "minidiff" not in figures:
        return None
    fastest = min(peers, key=peers.get)
    pairs = zip(figures[fastest]["rounds ms"], figures["minidiff"]["rounds ms"], strict=True)
    return fastest, median(theirs / ours for theirs, ours in pairs)


def cell(figure: dict) -> str:
    """Median, least and half the spread of one framework."""
    return f"{figure['ms']:.2f} ({figure['least ms']:.2f}) ±{50 * figure['spread']:.0f}%"


def row(work: str, names: list[str], figures: dict[str, dict]) -> str:
    """A line of the table."""
    cells = [cell(figures[name]) if name in figures else "–" for name in names]
    line = f"{work:20}" + "".join(f"{cell:>26}" for cell in cells)
    found = beside(figures)
    line += f"{found[1]:8.2f}" if found else f"{'–':>8}"
    if "minidiff" in figures:
        line += f"{figures['minidiff']['fraction of peak']:8.0%}{figures['minidiff']['MB']:14}"
    return line + (f"{figures[found[0]]['MB']:18}" if found else "")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("works", nargs="*", default=works.NAMES, metavar="WORK")
    parser.add_argument("--peers", nargs="*", default=["torch", "torch-compile", "jax"])
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--compile-all", action="store_true")
    parser.add_argument("--patience", type=float, default=300)
    parser.add_argument("--json", type=Path, default=HERE / "figures.json")
    options = parser.parse_args()
    workers = {"minidiff": Worker("minidiff")}
    workers |= {peer: Worker(peer, options.peer_python, options.patience) for peer in options.peers}
    for name, worker in list(workers.items()):
        if worker.missing:
            print(f"{name} is left out: {worker.missing}")
            del workers[name]
    yardsticks = {name: Worker(name) for name in ("minidiff", "numpy")}
    for worker in yardsticks.values():
        worker.run(YARDSTICK, 0)
    heads = "".join(f"{name + ' ms':>26}" for name in workers)
    print(f"{'work':20}{heads}{'ratio':>8}{'peak':>8}{'MB, minidiff':>14}{'MB, fastest peer':>18}")
    table = {}
    for work in options.works:
        taking_part = {
            name: worker
            for name, worker in workers.items()
            if name != "torch-compile" or options.compile_all or work.startswith("mlp")
        }
        figures = table[work] = compare(work, taking_part, yardsticks)
        print(row(work, list(workers), figures), flush=True)
        if found := beside(figures):
            figures["fastest peer"], figures["ratio"] = found
        options.json.write_text(json.dumps(table, indent=2) + "\n")


if __name__ == "__main__":
    main()
