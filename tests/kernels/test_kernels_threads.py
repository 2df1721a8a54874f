"""Kernels with any number of threads, beside NumPy's BLAS, in a forked child, and without a writeable cache."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from fresh import run

import minidiff
from minidiff.kernels import threads

HERE = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])}
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")

# Every kernel on examples large enough for all threads, and a training step with dropout: its bits in one line.
WORK = """
import hashlib
import numpy as np
from examples import CASES, example, kernel, name_of, results
from minidiff import autograd as ag, nn
from minidiff.autograd import Tensor

def bits():
    total = hashlib.md5()
    for case in CASES:
        images, flat = "2d" in case, name_of(case) in ("adam", "squared_norm")
        batch = 100_000 if flat else 40 if images else 2000
        arguments = example(case, batch, size=12 if images else 3)
        for array in results(case, kernel(case)(**arguments), arguments):
            total.update(array.tobytes())
    rng = np.random.default_rng(0)
    net = nn.UNet(rng, size=8, channels=1, width=16, multipliers=(1, 2), depth=1, attention=(4,), groups=4)
    vector = nn.ParameterVector(net)
    x = rng.standard_normal((16, 8, 8, 1), dtype=np.float32)
    ag.mse(net(Tensor(x), np.full(16, 7), None, rng), x).backward()
    total.update(vector.gradients.tobytes())
    return total.hexdigest()
"""


def output(code, **environment):
    done = run(code, **HERE | environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_one_two_and_four_threads_give_the_same_bits():
    code = WORK + "from minidiff.kernels import pool\nresult = bits()\nprint(pool.size(), result)"
    outputs = [output(code, NUMBA_NUM_THREADS=n) for n in ("1", "2", "4")]
    assert [line[0] for line in outputs] == ["1", "2", "4"]
    assert len({line[1] for line in outputs}) == 1


@needs_fork
def test_a_forked_child_computes_the_same_bits():
    """Also in another thread of the child, and in its own child."""
    code = (
        WORK
        + """
import multiprocessing, threading
fork = multiprocessing.get_context("fork")
print(bits())

def child(sender, deeper):
    found = [bits()]
    thread = threading.Thread(target=lambda: found.append(bits()))
    thread.start()
    thread.join()
    if deeper:
        found += in_child(False)
    sender.send(found)

def in_child(deeper):
    receiver, sender = fork.Pipe(duplex=False)
    process = fork.Process(target=child, args=(sender, deeper))
    process.start()
    sender.close()
    found = receiver.recv()
    process.join()
    return found

print(*in_child(True), bits())
"""
    )
    bits = output(code)
    assert len(bits) == 6 and len(set(bits)) == 1


@needs_fork
def test_a_fork_while_another_thread_computes_does_not_block_the_child():
    code = """
import os, threading
import numpy as np
from minidiff import kernels
x = np.ones((1000, 300), np.float32)
kernels.silu(x)
stop = threading.Event()

def busy():
    while not stop.is_set():
        kernels.silu(x)

thread = threading.Thread(target=busy)
thread.start()
for _ in range(20):
    child = os.fork()
    if child == 0:
        os._exit(int(kernels.silu(x)[0, 0] < 0.7))
    assert os.waitpid(child, 0)[1] == 0
stop.set()
thread.join()
print("done")
"""
    assert output(code) == ["done"]


BLAS = """
import importlib
import numpy as np
a = np.ones((300, 300))
a @ a
from minidiff import kernels
from minidiff.kernels import threads
threads.limit_blas(2)
importlib.reload(kernels)
print(threads.limit_blas(2), threads.limit_blas(3))
"""


def test_an_import_limits_numpys_blas_to_one_thread_and_it_can_be_undone():
    threads_before = output(BLAS)
    if threads_before == ["None", "None"]:
        pytest.skip("this NumPy brings no OpenBLAS")
    assert threads_before == ["1", "2"]


def test_the_reference_does_not_limit_numpys_blas():
    assert output(BLAS, MINIDIFF_KERNELS="reference") in (["2", "2"], ["None", "None"])


@pytest.mark.parametrize("origin", ["/nowhere/numpy.so", None])
def test_without_openblas_nothing_is_limited(monkeypatch, origin):
    monkeypatch.setattr(threads, "find_spec", lambda name: SimpleNamespace(origin=origin) if origin else None)
    assert threads.limit_blas(1) is None


def copy_of_the_package(folder):
    """The package alone, as installed."""
    shutil.copytree(
        Path(minidiff.__file__).parent, folder / "minidiff", ignore=shutil.ignore_patterns("__pycache__")
    )
    return folder / "minidiff"


def test_a_copy_elsewhere_works_from_any_directory(tmp_path):
    """The package uses no file outside of itself, and its data is part of it."""
    copy_of_the_package(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    code = "import minidiff; from minidiff import datasets; print(minidiff.__file__, len(datasets.load('digits').x))"
    done = run(code, cwd=tmp_path / "elsewhere", PYTHONPATH=str(tmp_path))
    where, count = done.stdout.split()
    assert Path(where).is_relative_to(tmp_path) and int(count) > 1000, done.stderr


def test_kernels_work_with_a_read_only_install_and_no_home(tmp_path):
    package = copy_of_the_package(tmp_path)
    (package / "kernels" / "__pycache__").touch()  # a file: not even root can write into it
    code = "import numpy as np; from minidiff import kernels; print(kernels.silu(np.zeros(3, np.float32)))"
    nowhere = {"HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null/cache", "NUMBA_CACHE_DIR": ""}
    done = run(code, cwd=tmp_path, PYTHONPATH=str(tmp_path), **nowhere)
    assert done.stdout.strip() == "[0. 0. 0.]", done.stderr
    assert not list(tmp_path.rglob("*.nbi"))
