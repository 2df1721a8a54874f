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
def started(processes, *command, **environment):
    """A program under mpiexec; whatever is left of it is killed."""
    words = [MPIEXEC, "-n", processes, sys.executable, *command]
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


def launch(processes, *command, **environment):
    """The exit status and the output of a program under mpiexec."""
    with started(processes, *command, **environment) as process:
        out, err = process.communicate(timeout=SECONDS)
    return Ended(process.returncode, out, err)


def command(processes, *arguments):
    """`minidiff ARGUMENTS` by several processes."""
    return launch(processes, "-m", "minidiff", *arguments)


def faulty(fault, rank, *arguments, processes=2):
    """The command line with a fault in the process of this rank."""
    return launch(processes, PROGRAM, fault, rank, *arguments)
