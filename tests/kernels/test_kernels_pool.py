"""The pool of threads: every job runs once and no wake-up is lost, however threads wait, come late, end or fork.

A lost wake-up would hang: what could hang runs in a fresh process, which `run` ends after a while.
"""

import os
import threading
from pathlib import Path

import numba
import numpy as np
import pytest
from fresh import run

from minidiff.kernels import atomics, pool, threads
from minidiff.kernels.jit import device
from minidiff.kernels.launch import launch

HERE = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])}
LINUX = atomics.read(atomics.FUTEX) != 0
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
# How threads wait: as it comes; never spinning, so that every wait is a sleep; without a futex.
WAITING = {
    "default": "",
    "asleep": "atomics.write(pool.SPINS, 0)",
    "napping": "atomics.write(pool.SPINS, 0); atomics.write(atomics.FUTEX, 0)",
}
every_wait = pytest.mark.parametrize("wait", WAITING)


@device
def _count(job, work, done):
    for _ in range(work):
        done[job] *= 1.0
    done[job] += 1


@device
def _nest(job, work, done):
    launch(_count, done.shape[1], work, done[job])


@numba.njit(nogil=True)
def launches(count, most, work, done):
    """`count` launches of 0 … most jobs; every seventh is of long jobs."""
    for i in range(count):
        launch(_count, i % (most + 1), work * (i % 7 == 0), done)


@numba.njit
def nested(done):
    launch(_nest, done.shape[0], np.int64(0), done)


def expected(count, most):
    jobs = np.bincount(np.arange(count) % (most + 1), minlength=most + 1)
    return [jobs[job + 1 :].sum() for job in range(most)]


@pytest.fixture
def four_threads():
    threads.start()
    before = pool.size()
    pool.resize(4)
    yield
    pool.resize(before)


def output(code, **environment):
    done = run(code, **HERE | environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_hundred_thousand_launches(four_threads):
    done = np.zeros(9)
    launches(100_000, 9, 0, done)
    assert done.tolist() == expected(100_000, 9)


@every_wait
@pytest.mark.parametrize("count", [2, 5])
def test_no_wake_up_is_lost(wait, count):
    """Between launches the threads have time to fall asleep, or just not; the caller has to wait for long jobs."""
    code = f"""
import time
import numpy as np
import test_kernels_pool as here
from minidiff.kernels import atomics, pool, threads
{WAITING[wait]}
threads.start()
done = np.zeros(9)
for i in range(400):
    here.launches(10, 9, 1000, done)
    time.sleep(i % 20 * 1e-5)
here.launches(10_000, 9, 10, done)
assert done.tolist() == [a * 400 + b for a, b in zip(here.expected(10, 9), here.expected(10_000, 9))]
print(pool.size())
"""
    assert output(code, NUMBA_NUM_THREADS=str(count)) == [str(count)]


def test_threads_that_never_come_are_not_waited_for(monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    before = pool.size()
    pool.resize(1)
    done = np.zeros(9)
    atomics.write(pool.THREADS, 8)  # though there is only the caller
    atomics.write(pool.ACTIVE, 8)
    launches(10, 9, 0, done)
    assert done.tolist() == expected(10, 9)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        pool.resize(8)
    assert pool.size() == 1
    pool.resize(before)


def test_a_job_may_launch_jobs(four_threads):
    done = np.zeros((50, 20))
    nested(done)
    assert np.all(done == 1)


def test_launches_from_several_threads_without_the_global_lock(four_threads):
    done = np.zeros((8, 9))
    launches(1, 9, 0, done[0])  # compiled
    done[:] = 0
    calls = [threading.Thread(target=launches, args=(5000, 9, 10, row)) for row in done]
    for call in calls:
        call.start()
    for call in calls:
        call.join()
    assert done.tolist() == [expected(5000, 9)] * 8


def test_resizing_starts_and_ends_threads():
    threads.start()
    before, others = pool.size(), threading.active_count() - pool.size()
    for size in (1, 4, 2, 3, 1, 8, 0, 4) * 20:
        pool.resize(size)
        assert pool.size() == max(size, 1) == threading.active_count() - others
        done = np.zeros(9)
        launches(10, 9, 0, done)
        assert done.tolist() == expected(10, 9)
    pool.resize(10_000)
    assert pool.size() == pool.MOST
    pool.resize(before)
    assert threading.active_count() == others + before


CALLS = """
import threading, time
import numpy as np
from minidiff import kernels
from minidiff.kernels import atomics, pool
{waiting}
x = np.random.default_rng(0).standard_normal((1000, 300), dtype=np.float32)
right = kernels.silu(x).tobytes()
"""


@every_wait
def test_eight_python_threads_call_kernels_for_a_second(wait):
    code = CALLS.format(waiting=WAITING[wait]) + (
        """
wrong, end = [], time.monotonic() + 1
def call():
    while time.monotonic() < end:
        wrong.extend([1] * (kernels.silu(x).tobytes() != right))

callers = [threading.Thread(target=call) for _ in range(8)]
[caller.start() for caller in callers]
[caller.join() for caller in callers]
print(len(wrong), pool.size())
"""
    )
    assert output(code, NUMBA_NUM_THREADS="4") == ["0", "4"]


@every_wait
def test_threads_that_are_displaced_sleep_and_are_tried_again_later(wait):
    """Every thread counts as displaced for a while; the others end, sleep and are resized meanwhile, and come back."""
    code = f"""
import time
import numpy as np
import test_kernels_pool as here
from minidiff.kernels import atomics, pool, threads
{WAITING[wait]}
threads.start()
def launch_for(seconds):
    end, done, count = time.monotonic() + seconds, np.zeros(9), 0
    while time.monotonic() < end:
        here.launches(100, 9, 1000, done)
        count += 1
    assert done.tolist() == [count * n for n in here.expected(100, 9)]
launch_for(0.3)
for displaced in (-(1 << 62), 1 << 62):
    atomics.write(pool.DISPLACED, displaced)
    launch_for(1)
    print(pool.active(), pool.size(), atomics.read(pool.HOLD) == pool.LONGEST)
atomics.write(pool.DISPLACED, -(1 << 62))
launch_for(0.3)
for size in (2, 4, 3, 1, 4):
    pool.resize(size)
    launch_for(0.1)
"""
    few, size, longest, *rest = output(code, NUMBA_NUM_THREADS="4")
    assert int(few) <= 2 and (size, longest) == ("4", "True")  # 2: another was just tried
    assert rest == ["4", "4", "False"]


@needs_fork
@every_wait
def test_fifty_children_compute_with_threads_of_their_own(wait):
    """Of each child, one forked while the threads of the parent spin and one while they sleep; half of them exit."""
    code = CALLS.format(waiting=WAITING[wait]) + (
        """
import os, sys
for i in range(50):
    right == kernels.silu(x).tobytes()
    time.sleep(i % 2 * 1e-3)
    child = os.fork()
    if child == 0:
        good = kernels.silu(x).tobytes() == right and pool.size() == threading.active_count() == 4
        if i % 4 < 2:
            sys.exit(not good)
        os._exit(not good)
    assert os.waitpid(child, 0)[1] == 0
print("done")
"""
    )
    assert output(code, NUMBA_NUM_THREADS="4") == ["done"]


@every_wait
@pytest.mark.parametrize("pause", [0, 0.05])
def test_python_exits_while_threads_spin_or_sleep(wait, pause):
    code = CALLS.format(waiting=WAITING[wait]) + f"time.sleep({pause})\nprint('done')"
    for _ in range(3):
        assert output(code, NUMBA_NUM_THREADS="4") == ["done"]


def test_python_exits_while_a_daemon_thread_calls_kernels():
    code = CALLS.format(waiting="") + (
        """
def call():
    while True:
        kernels.silu(x)

threading.Thread(target=call, daemon=True).start()
time.sleep(0.05)
print("done")
"""
    )
    for _ in range(3):
        assert output(code, NUMBA_NUM_THREADS="4") == ["done"]


# The number of threads.
SIZE = "kernels.silu(np.zeros(3, np.float32))\nprint(pool.size(), threading.active_count())"


@pytest.mark.parametrize("count", ["1", "3"])
def test_numba_num_threads_sets_the_number_of_threads(count):
    assert output(CALLS.format(waiting="") + SIZE, NUMBA_NUM_THREADS=count) == [count, count]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity mask on this system")
def test_one_cpu_in_the_affinity_mask_means_one_thread():
    code = "import os\nos.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\nos.environ.pop('NUMBA_NUM_THREADS', 0)"
    assert output(code + CALLS.format(waiting="") + SIZE) == ["1", "1"]


V1 = {"cpu,cpuacct/job/cpu.cfs_quota_us": "250000\n", "cpu,cpuacct/job/cpu.cfs_period_us": "100000\n"}
GROUPS = [
    ("no limit", "0::/job/step\n", {"job/step/cpu.max": "max 100000\n"}, None),
    ("its own", "0::/job/step\n", {"job/step/cpu.max": "200000 100000\n"}, 2),
    ("rounded up", "0::/job/step\n", {"job/step/cpu.max": "110000 100000\n"}, 2),
    ("less than one", "0::/\n", {"cpu.max": "5000 100000\n"}, 1),
    (
        "of a group above",
        "0::/job/step\n",
        {"job/cpu.max": "300000 100000\n", "job/step/cpu.max": "max 1\n"},
        3,
    ),
    ("the least of both", "0::/job/step\n", {"job/cpu.max": "200000 100000", "job/step/cpu.max": "90 30"}, 2),
    ("a container sees only its own", "0::/elsewhere\n", {"cpu.max": "100000 50000\n"}, 2),
    ("version 1", "5:memory:/job\n3:cpu,cpuacct:/job\n0::/job\n", V1, 3),
    (
        "version 1 without limit",
        "1:cpu:/\n",
        {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
        None,
    ),
    ("another controller's", "2:cpuset:/\n", {"cpuset/cpu.max": "100000 100000\n"}, None),
    ("not to be understood", "0::/\n\nnonsense\n", {"cpu.max": "many 0\n"}, None),
    ("no files", None, {}, None),
]


@pytest.mark.parametrize("groups, files, limit", [row[1:] for row in GROUPS], ids=[row[0] for row in GROUPS])
def test_the_quota_of_the_control_group_limits_the_number_of_cpus(
    tmp_path, monkeypatch, groups, files, limit
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)
    if groups is not None:
        files = {"proc/self/cgroup": groups} | {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert threads.cpus(tmp_path) == (limit or 16)


def test_without_an_affinity_mask_all_cpus_count(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    for count, expected_cpus in (16, 16), (None, 1):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        assert threads.cpus(tmp_path) == expected_cpus
