"""Every job runs exactly once, with the given arguments, whatever the numbers of jobs and threads."""

import numba
import numpy as np
import pytest
from fresh import run

from minidiff.kernels import pool, threads
from minidiff.kernels.jit import device
from minidiff.kernels.launch import launch, launch_ranges


@device
def _record(job, names, scale, done):
    done[job] += names[0] * job * scale


@device
def _record_range(worker, begin, end, arrays, ranges):
    done, names = arrays
    ranges[worker] = end - begin
    for job in range(begin, end):
        done[job] += names[job]


@device
def _allocate(job, numbers, failing):
    if job == failing:
        np.empty(numbers)[0] = 1


@numba.njit
def _record_all(jobs, names, scale, done):
    for _ in range(2):
        launch(_record, jobs, names, scale, done)


@numba.njit
def _record_ranges(jobs, workers, arrays, ranges):
    launch_ranges(_record_range, jobs, workers, arrays, ranges)


@numba.njit
def _fail(jobs, numbers, failing):
    launch(_allocate, jobs, numbers, failing)


@pytest.fixture(autouse=True)
def started():
    threads.start()
    before = pool.size()
    yield
    pool.resize(before)


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("jobs", [0, 1, 2, 3, 7, 1000])
def test_every_job_runs_once_at_each_launch(jobs, count):
    pool.resize(count)
    done = np.zeros(1001)
    _record_all(jobs, (2, 3), 0.5, done)
    assert np.array_equal(done, np.where(np.arange(1001) < jobs, 2.0 * np.arange(1001), 0))


@pytest.mark.parametrize("workers", [1, 2, 3, 100])
@pytest.mark.parametrize("jobs", [0, 1, 2, 7, 1000])
def test_the_ranges_hold_every_job_once_and_differ_by_at_most_one(jobs, workers):
    done, ranges = np.zeros(1001), np.zeros(101, int)
    _record_ranges(jobs, workers, (done, 2.0 * np.arange(1001)), ranges)
    assert np.array_equal(done, np.where(np.arange(1001) < jobs, 2.0 * np.arange(1001), 0))
    count = min(jobs, workers)
    assert set(ranges[:count]) <= {jobs // workers, jobs // workers + 1} and not ranges[count:].any()


@pytest.mark.parametrize("jobs", [1, 50])
def test_a_job_that_runs_out_of_memory_raises(jobs):
    _fail(jobs, 10, jobs - 1)
    with pytest.raises(MemoryError, match="scratch"):
        _fail(jobs, 1 << 55, jobs - 1)
    _fail(jobs, 10, jobs - 1)


def test_a_kernel_that_is_called_before_there_are_threads_works():
    code = """
import numpy as np
from minidiff.kernels import pointwise, pool
pool.load_functions()
print(pointwise.silu(np.zeros((1000, 300), np.float32)).sum(), pool.size())
"""
    done = run(code)
    assert done.stdout.split() == ["0.0", "1"], done.stderr
