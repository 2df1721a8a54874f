"""A process that runs the works of one framework, and times them: both ends of its pipe.

`Worker` starts `python worker.py FRAMEWORK` and writes to it a line {"work": NAME, "seconds": S} for each request. The
process runs the work for S seconds, and once at least, and replies {"seconds": [of each run], "megabytes": peak memory
so far}. With "output": true the output of one more run follows, flat; null for a work that has none. For a
work that the framework does not have, or cannot run here, the reply is {"missing": why}. Between requests the process
waits and takes no time from others.

FRAMEWORK is MODULE or MODULE-VARIANT: `torch-bf16` is work(name, "bf16") of `with_torch.py`.
"""

import importlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent


class Worker:
    """The process of a framework. A request starts it anew where it has ended."""

    def __init__(
        self, framework: str, python: str = sys.executable, patience: float = 600, **environment: str
    ) -> None:
        """patience: seconds until a request is given up; environment: variables besides those of this process."""
        self.framework, self.python, self.patience = framework, python, patience
        paths = [str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
        ours = {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": threads()}
        self.environment = {**os.environ, **ours, **environment}
        self.process, self.missing = None, None
        self.start()

    def start(self) -> None:
        """Begin with a fresh process."""
        self.stop()
        self.process = subprocess.Popen(
            [self.python, HERE / "worker.py", self.framework],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=self.environment,
        )
        self.missing = self.reply().get("missing")

    def stop(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def request(self, work: str, seconds: float, output: bool = False) -> None:
        """Have the work run for so long; `reply` waits for the result."""
        if self.process.poll() is not None:
            self.start()
        request = {"work": work, "seconds": seconds, "output": output}
        print(json.dumps(request), file=self.process.stdin, flush=True)

    def reply(self) -> dict:
        """The reply to the last request."""
        if not select.select([self.process.stdout], [], [], self.patience)[0]:
            self.stop()
            return {"missing": f"no reply in {self.patience:.0f} s"}
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"missing": "the process ended"}

    def run(self, work: str, seconds: float, output: bool = False) -> dict:
        """Run a work for so long, once at least, and return the reply."""
        self.request(work, seconds, output)
        return self.reply()


def threads() -> str:
    """How many the peers are given: as many as minidiff takes, NUMBA_NUM_THREADS or one for each CPU."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return os.environ.get("NUMBA_NUM_THREADS", str(cpus))


def works_of(framework: str) -> Callable[[str], Callable]:
    """The function that prepares the framework's works by name. ImportError where it is not installed."""
    module, _, variant = framework.partition("-")
    work = importlib.import_module(f"with_{module}").work
    return (lambda name: work(name, variant)) if variant else work


def timed(work: Callable, seconds: float) -> list[float]:
    """The seconds of each run, until so many have passed."""
    times = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return times


def peak_megabytes() -> int | None:
    """The most memory that this process has had; None on Windows."""
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # bytes
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20)


def main() -> None:
    """Serve requests line by line until the input ends."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a framework prints is no reply
    try:
        make = works_of(sys.argv[1])
    except ImportError as error:
        print(json.dumps({"missing": str(error)}), file=replies, flush=True)
        return
    print(json.dumps({"ready": sys.argv[1]}), file=replies, flush=True)
    name, work = None, None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["work"] != name:
                work = make(request["work"])
                name = request["work"]
                for _ in range(3):
                    work()
            reply = {"seconds": timed(work, request["seconds"]), "megabytes": peak_megabytes()}
            if request["output"]:
                output = work()
                reply["output"] = None if output is None else output.ravel().tolist()
        except Exception as error:  # a compiler that is not there, memory that does not suffice, …
            reply = {"missing": repr(error)}
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()
