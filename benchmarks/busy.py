"""A work beside busy processes, and two runs of it at once: does a framework share the machine?

    python benchmarks/busy.py                             beside 0, 1, 2 and 8 processes that spin
    python benchmarks/busy.py 1 2 --work mlp/step/128     beside 0, 1 and 2, another work;  --peers   without a peer
    python benchmarks/busy.py --peer-python PY            peers run by another interpreter
    python benchmarks/busy.py --json FILE                 all rounds as JSON too; FILE - is stdout, without the table

minidiff and its peers run as they come, on one thread, and with OMP_WAIT_POLICY=passive, where the threads of OpenMP
(minidiff has none) sleep while they wait. All are measured in turn in each round, beside every number of processes and
beside a second run of their own.

Prints a table in Markdown: the median of the rounds in milliseconds and, in brackets, how many times as long as
minidiff as it comes that takes, the median over the rounds. Below 1 on one thread, minidiff's other threads are
worse than none. "inf" is not one run in 120 seconds. The last column is the time of two runs at once over that of the
two one after the other.
"""

import argparse
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import mean, median

from worker import Worker

SETTINGS = {
    "": {},
    ", one thread": {"NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    ", passive waiting": {"OMP_WAIT_POLICY": "passive"},
}
SECONDS, PATIENCE = 2, 120  # of one measurement, and how long it may take
SECOND_RUN = "a second run"
SPIN = """
import os
parent = os.getppid()
print("begun", flush=True)
while os.getppid() == parent:  # so that none is left over where this program is killed
    for _ in range(10**6):
        pass
"""
Times = dict[str, dict[str, list[float]]]  # setting of a framework → beside what → milliseconds of each round


@contextmanager
def spinning(count: int) -> Iterator[None]:
    """Beside so many processes that never wait."""
    command = [sys.executable, "-c", SPIN]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(count)]
    try:
        for process in processes:
            process.stdout.readline()
        yield
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def started(pythons: dict[str, str], work: str) -> dict[str, tuple[Worker, Worker]]:
    """Two processes of each framework in each setting, with the work prepared. pythons: framework → interpreter."""
    pairs = {}
    for framework, python in pythons.items():
        for setting, environment in SETTINGS.items():
            pair = tuple(Worker(framework, python, PATIENCE, **environment) for _ in range(2))
            missing = [worker.missing or worker.run(work, 0).get("missing") for worker in pair]
            if any(missing):
                print(f"{framework}{setting} is left out: {missing[0] or missing[1]}", file=sys.stderr)
            else:
                pairs[framework + setting] = pair
    return pairs


def milliseconds(reply: dict) -> float:
    """Of a run, on average; infinite where there was none."""
    return 1e3 * mean(reply.get("seconds", [float("inf")]))


def measure(pairs: dict[str, tuple[Worker, Worker]], work: str, counts: list[int], rounds: int) -> Times:
    """All settings in turn, beside each count of busy processes and beside a second run."""
    times: Times = {name: defaultdict(list) for name in pairs}
    for _ in range(rounds):
        for count in counts:
            with spinning(count):
                for name, (worker, _) in pairs.items():
                    times[name][str(count)].append(milliseconds(worker.run(work, SECONDS)))
        for name, pair in pairs.items():
            for worker in pair:
                worker.request(work, SECONDS)
            times[name][SECOND_RUN].append(mean(milliseconds(worker.reply()) for worker in pair))
    return times


def ratio(times: list[float], others: list[float]) -> float:
    """The median over the rounds."""
    return median(a / b for a, b in zip(times, others, strict=True))


def at_once(times: dict[str, list[float]]) -> float:
    """The time of two runs at once over that of the two one after the other."""
    return ratio(times[SECOND_RUN], times["0"]) / 2


def table(times: Times) -> str:
    """The medians in Markdown, with their ratios to the first row's."""
    first = next(iter(times))
    columns = list(times[first])
    lines = [["milliseconds beside", *columns, "two at once"], ["---"] * (len(columns) + 2)]
    for name, row in times.items():
        cells = [f"{median(row[column]):.1f}" for column in columns]
        if name != first:
            ratios = [f" ({ratio(row[column], times[first][column]):.2f})" for column in columns]
            cells = [cell + of_first for cell, of_first in zip(cells, ratios, strict=True)]
        lines.append([name, *cells, f"{at_once(row):.2f}"])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("busy", nargs="*", type=int, default=[1, 2, 8], metavar="K")
    parser.add_argument("--work", default="digits/step/128")
    parser.add_argument("--peers", nargs="*", default=["torch"])
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    pythons = {"minidiff": sys.executable, **dict.fromkeys(options.peers, options.peer_python)}
    pairs = started(pythons, options.work)
    times = measure(pairs, options.work, sorted({0, *options.busy}), options.rounds)
    figures = {"work": options.work, "rounds ms": times}
    figures["two at once"] = {name: at_once(row) for name, row in times.items()}
    if options.json == "-":
        print(json.dumps(figures, indent=2))
        return
    print(table(times))
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
