"""A work beside busy processes: does a step share the machine?

    python benchmarks/busy.py                              beside 0, 1, 2 and 8 processes that spin
    python benchmarks/busy.py 1 2 --work mlp/step/128      beside 1 and 2, another work;  --peers torch   a peer too

Each framework runs as it comes and on one thread, all in turn in each round. Prints the medians in milliseconds, and
how much slower minidiff is than on one thread: above 1 its second thread is worse than none.
"""

import argparse
import subprocess
import sys
from statistics import median

from compare import Worker

ONE_THREAD = {"NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
ROUND_SECONDS = 0.5


def measure(busy: int, work: str, frameworks: list[str], rounds: int) -> dict[str, float]:
    """Milliseconds of a work by framework, as it comes and on one thread, beside `busy` processes that spin."""
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
    workers = {}
    try:
        for name in frameworks:
            workers |= {name: Worker(name), f"{name}, one thread": Worker(name, **ONE_THREAD)}
        workers = {name: worker for name, worker in workers.items() if "missing" not in worker.run(work, 0)}
        times = {name: [] for name in workers}
        repeats = {name: int(ROUND_SECONDS / w.run(work, 1)["seconds"][0]) + 1 for name, w in workers.items()}
        for _ in range(rounds):
            for name, worker in workers.items():
                seconds = worker.run(work, repeats[name])["seconds"]
                times[name].append(1e3 * sum(seconds) / len(seconds))
    finally:
        for process in [*spinning, *(worker.process for worker in workers.values())]:
            process.kill()
            process.wait()
    return {name: median(of) for name, of in times.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("busy", nargs="*", type=int, default=[0, 1, 2, 8], metavar="K")
    parser.add_argument("--work", default="digits/step/128")
    parser.add_argument("--peers", nargs="*", default=[])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for busy in options.busy:
        found = measure(busy, options.work, ["minidiff", *options.peers], options.rounds)
        cells = "   ".join(f"{name} {milliseconds:.1f} ms" for name, milliseconds in found.items())
        print(f"beside {busy}:   {cells}   ratio {found['minidiff'] / found['minidiff, one thread']:.2f}")


if __name__ == "__main__":
    main()
