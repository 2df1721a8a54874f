"""One process that times the works of one framework on request: `python worker.py FRAMEWORK`.

It reads a line {"work": NAME, "repeat": N} and writes {"seconds": [...], "megabytes": peak memory so far}; with
`repeat` 0 it prepares the work and warms it up. For a work that the framework does not have, or cannot run here, it
writes {"missing": why}. Between two lines it waits and takes no time from the others.
"""

import importlib
import json
import resource
import sys
import time


def works_of(framework: str):
    """The function name → callable of `minidiff`, `numpy`, `jax`, `torch` or `torch-compile`.

    ImportError where it is not installed.
    """
    if framework.startswith("torch"):
        import with_torch

        return lambda name: with_torch.work(name, compiled=framework == "torch-compile")
    return importlib.import_module(f"with_{framework}").work


def main() -> None:
    """Serve requests line by line until the input ends."""
    try:
        make = works_of(sys.argv[1])
    except ImportError as error:
        print(json.dumps({"missing": str(error)}), flush=True)
        return
    print(json.dumps({"ready": sys.argv[1]}), flush=True)
    prepared = {}
    for line in sys.stdin:
        request = json.loads(line)
        name = request["work"]
        try:
            if name not in prepared:
                prepared.clear()
                prepared[name] = make(name)
                for _ in range(3):
                    prepared[name]()
        except Exception as error:  # a compiler that is not there, memory that does not suffice, …
            print(json.dumps({"missing": repr(error)}), flush=True)
            continue
        seconds = []
        for _ in range(request["repeat"]):
            start = time.perf_counter()
            prepared[name]()
            seconds.append(time.perf_counter() - start)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": seconds, "megabytes": round(peak)}), flush=True)


if __name__ == "__main__":
    main()
