"""One process that times one framework's works when told to: `python worker.py FRAMEWORK`.

It reads a line {"work": NAME, "repeat": N} and answers {"seconds": [...], "megabytes": peak memory so far}; with
`repeat` 0 it prepares the work and warms it up. A work that the framework does not have, or cannot do here, is
answered with {"missing": why}. Between two lines it waits and takes no time from the others.
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
    """Answer line by line until the input ends."""
    try:
        make = works_of(sys.argv[1])
    except ImportError as error:
        print(json.dumps({"missing": str(error)}), flush=True)
        return
    print(json.dumps({"ready": sys.argv[1]}), flush=True)
    prepared = {}
    for line in sys.stdin:
        asked = json.loads(line)
        name = asked["work"]
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
        for _ in range(asked["repeat"]):
            start = time.perf_counter()
            prepared[name]()
            seconds.append(time.perf_counter() - start)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": seconds, "megabytes": round(peak)}), flush=True)


if __name__ == "__main__":
    main()
