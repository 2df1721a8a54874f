"""Programs under mpiexec, each with a time limit."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import settings

import minidiff

PROGRAM = Path(__file__).with_name("mpi_program.py")
BESIDE = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
MPIEXEC = shutil.which("mpiexec", path=BESIDE) if importlib.util.find_spec("mpi4py") else None
needs_mpi = pytest.mark.skipif(
    not MPIEXEC, reason="no mpi4py, or no mpiexec: pip install 'minidiff[mpi]' mpich"
)
thorough = pytest.mark.skipif(
    settings.default.max_examples < 1000, reason="only with --hypothesis-profile=thorough"
)
SECONDS = 240  # of a program, which takes a few where nothing else runs
# The package that is tested. Open MPI: more processes than cores, and as root, as in a container.
ENVIRONMENT = {
    "PYTHONPATH": str(Path(minidiff.__file__).parent.parent),
    **dict.fromkeys(("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"), "1"),
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
}


class Ended(NamedTuple):
    status: int
    out: str
    err: str


@contextmanager
def started(processes, *command, mpiexec=(MPIEXEC,), **environment):
    """A program under mpiexec; whatever is left of it is killed."""
    words = [*mpiexec, "-n", processes, sys.executable, *command]
    process = subprocess.Popen(
        [str(word) for word in words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | ENVIRONMENT | environment,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def launch(processes, *command, **options):
    """The exit status and the output of a program under mpiexec."""
    with started(processes, *command, **options) as process:
        out, err = process.communicate(timeout=SECONDS)
    return Ended(process.returncode, out, err)


def command(processes, *arguments):
    """`minidiff ARGUMENTS` by several processes."""
    return launch(processes, "-m", "minidiff", *arguments)


def faulty(fault, rank, *arguments, processes=2):
    """The command line with a fault in the process of this rank."""
    return launch(processes, PROGRAM, fault, rank, *arguments)


SSH = """#!/bin/sh
# In the place of ssh: a host is a network namespace, whose name its address ends with.
while [ "${1#-}" != "$1" ]; do shift; done
host=minidiff${1##*.}
shift
exec ip netns exec $host sh -c "$*"
"""


@contextmanager
def two_hosts(folder):
    """The beginning of a command that starts a process on each of two hosts, and their traffic in bytes so far."""

    def ip(*words):
        return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout

    hosts = {f"minidiff{n}": f"10.77.0.{n}" for n in (1, 2)}
    ssh = folder / "ssh"
    ssh.write_text(SSH)
    ssh.chmod(0o755)
    try:
        for host in hosts:
            ip("netns", "add", host)
        ip(
            "link",
            "add",
            "veth1",
            "netns",
            "minidiff1",
            "type",
            "veth",
            "peer",
            "name",
            "veth2",
            "netns",
            "minidiff2",
        )
        for host, address in hosts.items():
            device = f"veth{address[-1]}"
            ip("-n", host, "addr", "add", f"{address}/24", "dev", device)
            for name in ("lo", device):
                ip("-n", host, "link", "set", name, "up")
        launcher = [
            "ip",
            "netns",
            "exec",
            "minidiff1",
            MPIEXEC,
            "-launcher",
            "ssh",
            "-launcher-exec",
            str(ssh),
        ]
        counter = ["netns", "exec", "minidiff1", "cat", "/sys/class/net/veth1/statistics/tx_bytes"]
        yield [*launcher, "-hosts", ",".join(hosts.values()), "-ppn", "1"], lambda: int(ip(*counter))
    finally:
        for host in hosts:
            subprocess.run(["ip", "netns", "delete", host], check=False, capture_output=True)
