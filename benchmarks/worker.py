"""One process that times one framework's works when told to: `python worker.py minidiff | torch | torch-compile | jax`.

It reads a line {"work": NAME, "repeat": N} and answers {"seconds": [...], "megabytes": peak memory so far}; with
`repeat` 0 it prepares the work and warms it up. A work that the framework does not have is answered with
{"missing": why}. Between two lines it waits and takes no time from the others.
"""

import json
import resource
import sys
import time


def works_of(framework: str):
    """The function name → callable of a framework; ImportError where it is not installed."""
    if framework == "minidiff":
        import with_minidiff

        return with_minidiff.work
    if framework == "jax":
        import with_jax

        return with_jax.work
    import with_torch

    return lambda name: with_torch.work(name, compiled=framework == "torch-compile")


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
                prepared.clear()  # one work at a time, so that memory is that of this work
                prepared[name] = make(name)
                for _ in range(3):
                    prepared[name]()
        except (ImportError, KeyError) as error:
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
