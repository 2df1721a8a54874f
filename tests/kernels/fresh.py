"""A fresh interpreter, for tests of what happens at import or once in a process."""

import os
import signal
import subprocess
import sys

LONGEST = 120  # seconds; only a process that hangs takes so long


def run(code: str, cwd=None, **environment: str) -> subprocess.CompletedProcess:
    """Run `code` with the compiled kernels, whatever the tests themselves run with; captures stdout and stderr."""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "MINIDIFF_KERNELS": "numba", **environment},
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        written = process.communicate(timeout=LONGEST)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its children too, which hold the pipes open
        written = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, *written)
