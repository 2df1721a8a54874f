"""How long until the first step? With kernels kept on disk, and with none.

    python benchmarks/startup.py           both;  python benchmarks/startup.py warm   without the compilation

Warm: from before `import minidiff` to the end of the first training step of the digits U-Net (batch 128), in fresh
processes, the least and the median. Cold: the processor time in which each kernel of the package is compiled, into an
empty cache.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent
PROCESSES = 7

WARM = """
import time
start = time.perf_counter()
import with_minidiff
imported = time.perf_counter()
step = with_minidiff.work("digits/step/128")
built = time.perf_counter()
step()
first = time.perf_counter()
step()
print(imported - start, built - imported, first - built, time.perf_counter() - first)
"""

COLD = """
import time
from importlib import import_module
from pkgutil import iter_modules
from numba.core import event
from numba.core.dispatcher import Dispatcher
from minidiff import kernels

ours = {}
for module in iter_modules(kernels.__path__, "minidiff.kernels."):
    for value in vars(import_module(module.name)).values():
        if isinstance(value, Dispatcher) and value.stats.cache_path:
            ours[value] = 0.0


class Watch(event.Listener):
    began = {}

    def on_start(self, happening):
        self.began[happening.data["dispatcher"]] = time.process_time()

    def on_end(self, happening):
        which = happening.data["dispatcher"]
        if which in ours:
            ours[which] += time.process_time() - self.began[which]


event.register("numba:compile", Watch())
import with_minidiff
from examples import PUBLIC, example

for name in PUBLIC:
    getattr(kernels, name)(**example(name))
for work in ("digits/step/128", "digits/forward/128", "mlp/step/128", "mlp/sample/128"):
    with_minidiff.work(work)()
for kernel, seconds in sorted(ours.items(), key=lambda pair: -pair[1]):
    kinds = len(kernel.signatures)
    words = f"{seconds:8.2f} s" + (f" for {kinds} kinds of arguments" if kinds > 1 else "")
    words = words if kinds else "never called here"
    print(f"  {kernel.py_func.__module__.rpartition('.')[2] + '.' + kernel.py_func.__name__:40}{words}")
print(f"  {'in all':40}{sum(ours.values()):8.2f} s")
"""


def run(code: str, **environment: str) -> str:
    """What a fresh process prints."""
    paths = [HERE, HERE.parent, HERE.parent / "tests" / "kernels", os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), **environment}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


def main() -> None:
    """Measure and print."""
    run(WARM)
    rows = [[float(word) for word in run(WARM).split()] for _ in range(PROCESSES)]
    names = "import", "network built", "first step", "second step"
    for name, times in zip(names, zip(*rows, strict=True), strict=True):
        print(f"  {name:40}{min(times):8.2f} s  median {median(times):.2f} s")
    totals = [sum(row[:3]) for row in rows]
    print(f"warm, to the end of the first step        {min(totals):8.2f} s  median {median(totals):.2f} s")
    if sys.argv[1:] == ["warm"]:
        return
    with tempfile.TemporaryDirectory() as empty:
        start = time.perf_counter()
        print(run(COLD, NUMBA_CACHE_DIR=empty), end="")
        print(f"cold, the whole process                   {time.perf_counter() - start:8.2f} s")


if __name__ == "__main__":
    main()
