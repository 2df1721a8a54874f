"""Training over MPI: a step, its exchange and its traffic by the number of processes; and a model for more of them.

    python benchmarks/scaling_mpi.py                               1 and 2 processes here, of one thread each
    python benchmarks/scaling_mpi.py 1 2 4 --work cifar --batch 8  others;  --threads 2  threads of each process
    python benchmarks/scaling_mpi.py --mpiexec "mpiexec -hosts a,b -ppn 1" 2        other hosts
    python benchmarks/scaling_mpi.py --model 0.098 --work cifar    the model alone, of so many seconds an image

Every number of processes takes its turn in every round; a figure is the median over the rounds. `exchange` is what the
processes do with their gradients; beside it MPI_Allreduce, which adds as it likes, of the same vector; `memory` is by
how much the peak of a process grows in its first exchange, in vectors.

**The model**: a step of P processes takes (images / P) · seconds an image + latencies + FACTOR · bytes / bandwidth,
where a process sends and receives 2 (P − 1) / P vectors, as in a ring. It assumes that images divide evenly, all nodes
are equally fast, the network carries all pairs at once, and nothing overlaps: FACTOR is the measured exchange over the
time of its bytes on the wire.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

import numpy as np
import works

from minidiff import nn, schedules
from minidiff.runs import mpi
from minidiff.training import Trainer, TrainingOptions
from minidiff.training.shards import _add_over_processes

BANDWIDTH, LATENCY = 1.25e9, 25e-6  # of the model's network: bytes a second (10 Gbit/s), seconds
FACTOR, MEETINGS = 2.3, 6  # of the exchange; messages one after the other in a step beside it
STEPS, EXCHANGES = 5, 7  # measured in a round, after one more


def trainer_of(work: str, batch: int, shards: int) -> Trainer:
    """A trainer of one of the U-Nets of `works`."""
    rng, spec = np.random.default_rng(0), works.UNETS[work]
    width, *_ = spec["widths"]
    net = nn.UNet(
        rng,
        size=spec["size"],
        channels=spec["channels"],
        width=width,
        multipliers=tuple(w // width for w in spec["widths"]),
        depth=spec["depth"],
        attention=works.attended(work),
        groups=8,
    )
    x = rng.standard_normal((256, spec["size"], spec["size"], spec["channels"]), dtype=np.float32)
    options = TrainingOptions(batch=batch, shards=shards)
    return Trainer(net, schedules.linear(1000), x, options=options, rng=rng, comm=mpi.world())


def measure(work: str, batch: int, shards: int) -> dict[str, float]:
    """Of this process and the others that mpiexec started with it: seconds, numbers in the gradient, vectors."""
    trainer = trainer_of(work, batch, shards)
    gradients, comm = trainer.parameters.gradients, trainer.comm
    found = {"numbers": float(gradients.size)}

    def exchange() -> None:
        _add_over_processes(range(comm.size), [gradients], gradients, comm)

    if comm.size > 1:
        from mpi4py import MPI

        gradients += 1e-3  # memory that was never written is not there
        before = peak()
        exchange()
        found["memory"] = (peak() - before) / gradients.nbytes
        whole = lambda: MPI.COMM_WORLD.Allreduce(MPI.IN_PLACE, gradients)  # noqa: E731
        times = defaultdict(list)
        for _ in range(EXCHANGES):
            for name, act in (("exchange", exchange), ("allreduce", whole)):
                comm.allgather(None)
                times[name].append(seconds(act))
        found |= {name: median(values[1:]) for name, values in times.items()}
        gradients.fill(0)
    found["step"] = median([seconds(trainer.advance) for _ in range(STEPS + 1)][1:])
    return found


def seconds(act) -> float:
    """The time that a call takes."""
    begin = time.perf_counter()
    act()
    return time.perf_counter() - begin


def peak() -> int:
    """The most memory that this process had at once, in bytes; counted anew from now on, where the system can."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    Path("/proc/self/clear_refs").write_text("5")
    return int(lines["VmHWM"].split()[0]) * 1024


def launch(mpiexec: str, processes: int, options: argparse.Namespace) -> dict[str, float]:
    """What so many processes measure."""
    settings = [f"--{name}={getattr(options, name)}" for name in ("work", "batch", "shards")]
    command = [*shlex.split(mpiexec), "-n", str(processes), sys.executable, __file__, "--measure", *settings]
    threads = {"NUMBA_NUM_THREADS": str(options.threads)}
    run = subprocess.run(command, capture_output=True, text=True, env=os.environ | threads, check=False)
    if run.returncode:
        sys.exit(f"{shlex.join(command)}: {run.stderr}")
    return json.loads(run.stdout)


def table(rows: dict[int, dict[str, float]], batch: int) -> None:
    """Print what was measured, by the number of processes."""
    print("| processes | step | images a second | exchange | MPI_Allreduce | ratio | traffic | memory |")
    print("| --- " * 8 + "|")
    for processes, row in rows.items():
        line = [str(processes), f"{1e3 * row['step']:.0f} ms", f"{batch / row['step']:.1f}"]
        if processes > 1:
            traffic = 2 * (processes - 1) / processes * 4 * row["numbers"]
            line += [f"{1e3 * row[name]:.0f} ms" for name in ("exchange", "allreduce")]
            line += [f"{row['exchange'] / row['allreduce']:.2f}", f"{traffic / 1e6:.0f} MB"]
            line += [f"{row['memory']:.1f} vectors"]
        print(f"| {' | '.join(line + ['–'] * (8 - len(line)))} |")


def model(an_image: float, numbers: float, batch: int) -> None:
    """Print the efficiency that is to be expected of more nodes: of a batch divided, and of as much for each node."""
    print(
        f"\n{1e3 * an_image:.3g} ms an image, {4 * numbers / 1e6:.0f} MB of gradient, {8e-9 * BANDWIDTH:.0f} Gbit/s:\n"
    )
    print("| nodes | " + " | ".join(str(2**n) for n in range(1, 7)) + " |\n" + "| --- " * 7 + "|")
    for name, images in (
        (f"batch {batch}", lambda nodes: batch / nodes),
        ("16 images a node", lambda nodes: 16),
    ):
        efficiencies = []
        for nodes in (2**n for n in range(1, 7)):
            wire = 2 * (nodes - 1) / nodes * 4 * numbers / BANDWIDTH
            exchange = FACTOR * wire + MEETINGS * LATENCY * np.log2(nodes)
            efficiencies.append(images(nodes) * an_image / (images(nodes) * an_image + exchange))
        print(f"| {name} | " + " | ".join(f"{efficiency:.0%}" for efficiency in efficiencies) + " |")


def main() -> None:
    """Measure, or with --measure be one of the processes that are measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("processes", nargs="*", type=int, default=[1, 2])
    parser.add_argument("--work", choices=works.UNETS, default="digits")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--shards", type=int, help="the most processes, if not given")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mpiexec", help="the launcher, with its options")
    parser.add_argument(
        "--model", type=float, metavar="SECONDS", help="seconds an image; nothing is measured"
    )
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.shards = options.shards or max(options.processes)
    if options.measure:
        found = measure(options.work, options.batch, options.shards)
        if mpi.world().rank == 0:
            print(json.dumps(found))
        return
    if options.model:
        numbers = trainer_of(options.work, options.batch, 1).parameters.values.size
        model(options.model, numbers, options.batch)
        return
    beside = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
    mpiexec = (
        options.mpiexec or shutil.which("mpiexec", path=beside) or sys.exit("no mpiexec: pip install mpich")
    )
    rounds: dict[int, list[dict[str, float]]] = defaultdict(list)
    for _ in range(options.rounds):
        for processes in options.processes:
            rounds[processes].append(launch(mpiexec, processes, options))
    rows = {n: {name: median(of[name] for of in found) for name in found[0]} for n, found in rounds.items()}
    table(rows, options.batch)
    first = rows[min(rows)]
    model(first["step"] * min(rows) / options.batch, first["numbers"], options.batch)


if __name__ == "__main__":
    main()
