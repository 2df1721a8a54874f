"""minidiff beside PyTorch and JAX on the same works, in turn (A B A B …), so that the ratio holds on a noisy machine.

    python benchmarks/compare.py                    all works, and every framework that is installed
    python benchmarks/compare.py digits/step/128    these works;  --peers torch   these peers
    python benchmarks/compare.py --peer-python PY   peers run by another interpreter, where they are installed

Prints a table and writes it as JSON (--json FILE, benchmarks/figures.json if not given): medians in milliseconds, peak
memory of the process in MB, and how many times faster minidiff is than the fastest peer.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

import works

HERE = Path(__file__).parent
ROUNDS, ROUND_SECONDS = 7, 0.5


class Worker:
    """A process of `worker.py`; `missing` says why it cannot work."""

    def __init__(self, framework: str, python: str) -> None:
        paths = [str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "2"}
        self.process = subprocess.Popen(
            [python, HERE / "worker.py", framework],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self.missing = self._answer().get("missing")

    def _answer(self) -> dict:
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"missing": "the process ended"}

    def run(self, work: str, repeat: int) -> dict:
        """Do a work `repeat` times; 0 prepares it."""
        print(json.dumps({"work": work, "repeat": repeat}), file=self.process.stdin, flush=True)
        return self._answer()


def compare(work: str, workers: dict[str, Worker]) -> dict[str, dict]:
    """Framework → median milliseconds and peak memory, all measured in turn."""
    able = {}
    for name, worker in workers.items():
        if "missing" not in worker.run(work, 0):
            once = worker.run(work, 1)["seconds"][0]
            able[name] = worker, max(1, min(200, int(ROUND_SECONDS / once)))
    seconds, memory = {name: [] for name in able}, {}
    for _ in range(ROUNDS):
        for name, (worker, repeat) in able.items():
            answer = worker.run(work, repeat)
            seconds[name].append(median(answer["seconds"]))
            memory[name] = answer["megabytes"]
    return {name: {"ms": 1e3 * median(seconds[name]), "MB": memory[name]} for name in able}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("works", nargs="*", default=works.NAMES, metavar="WORK")
    parser.add_argument("--peers", nargs="+", default=["torch", "torch-compile", "jax"])
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--json", type=Path, default=HERE / "figures.json")
    options = parser.parse_args()
    workers = {"minidiff": Worker("minidiff", sys.executable)}
    workers |= {peer: Worker(peer, options.peer_python) for peer in options.peers}
    for name, worker in list(workers.items()):
        if worker.missing:
            print(f"{name} is left out: {worker.missing}")
            del workers[name]
    columns = "".join(f"{name + ' ms':>18}" for name in workers)
    print(f"{'work':20}{columns}{'ratio':>9}{'MB, minidiff':>14}{'MB, fastest peer':>18}")
    figures = {}
    for work in options.works:
        measured = figures[work] = compare(work, workers)
        peers = {name: row for name, row in measured.items() if name != "minidiff"}
        times = "".join(
            f"{measured[name]['ms']:18.2f}" if name in measured else f"{'–':>18}" for name in workers
        )
        end = ""
        if peers:
            fastest = min(peers.values(), key=lambda row: row["ms"])
            measured["ratio"] = fastest["ms"] / measured["minidiff"]["ms"]
            end = f"{measured['ratio']:9.2f}{measured['minidiff']['MB']:14}{fastest['MB']:18}"
        print(f"{work:20}{times}{end}", flush=True)
    options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
