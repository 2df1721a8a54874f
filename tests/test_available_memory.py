"""How much memory is free, by what the machine, the control groups and the limits say; what does not fit is refused."""

import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidiff import memory

GB = 1 << 30


@pytest.fixture
def system(tmp_path):
    """write(path, text) makes a file of a system that has 8 GB available; `memory` reads it below `tmp_path`."""

    def write(path, text):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    write("proc/meminfo", f"MemTotal: {16 * GB >> 10} kB\nMemAvailable: {8 * GB >> 10} kB\n")
    return write


def test_what_linux_says_is_available_is_free(system, tmp_path):
    assert memory.available(tmp_path) == 8 * GB


def test_a_control_group_of_version_2_and_those_above_it_limit_what_is_free(system, tmp_path):
    system("proc/self/cgroup", "0::/a/b\n")
    system("sys/fs/cgroup/a/b/memory.max", "max\n")
    system("sys/fs/cgroup/a/b/memory.current", "0\n")
    system("sys/fs/cgroup/a/memory.max", f"{3 * GB}\n")
    system("sys/fs/cgroup/a/memory.current", f"{2 * GB}\n")
    system("sys/fs/cgroup/a/memory.stat", f"anon 5\nactive_file {GB // 2}\ninactive_file {GB // 4}\n")
    assert memory.available(tmp_path) == GB + GB // 2 + GB // 4


def test_a_control_group_of_version_1_limits_what_is_free(system, tmp_path):
    system("proc/self/cgroup", "2:cpu:/x\n4:memory:/x\n0::/\n")
    system("sys/fs/cgroup/memory/x/memory.limit_in_bytes", f"{2 * GB}\n")
    system("sys/fs/cgroup/memory/x/memory.usage_in_bytes", f"{GB}\n")
    system("sys/fs/cgroup/memory/x/memory.stat", "cache 7\n")
    assert memory.available(tmp_path) == GB


def test_without_what_linux_says_it_is_all_the_memory_there_is(tmp_path):
    assert memory.available(tmp_path) > GB / 2


def test_a_limit_of_ulimit_is_respected():
    resource = pytest.importorskip("resource")
    program = (
        "import resource; from minidiff import memory; "
        f"resource.setrlimit(resource.RLIMIT_DATA, ({3 * GB}, {3 * GB})); print(memory.available())"
    )
    assert resource.getrlimit(resource.RLIMIT_DATA)[0] == resource.RLIM_INFINITY
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert 0 < float(run.stdout) < 3 * GB


@given(st.integers(0, 10**40), st.integers(1, 10**12))
def test_what_fits_is_allowed_and_the_rest_refused_with_what_would_fit(count, each):
    free = 8 * GB
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(memory, "available", lambda root: free)
        if count * each <= max(free, memory.ALWAYS_THERE):
            memory.require(count, each, "things")
        else:
            with pytest.raises(
                MemoryError, match=f"things need .*, and 8.59 GB are free: at most {free // each:,} fit"
            ):
                memory.require(count, each, "things")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1500, "1.5 kB"),
        (999_600, "1 MB"),
        (25.6e15, "25.6 PB"),
        (math.inf, "inf PB"),
    ],
)
def test_a_size_has_the_unit_that_suits_it(number, text):
    assert memory._size(number) == text
