"""A fresh interpreter, for what a running one can no longer show."""

import os
import signal
import subprocess
import sys

LONGEST = 120  # seconds; only what hangs takes so long


def run(code: str, cwd=None, **environment: str) -> subprocess.CompletedProcess:
    """Run `code` on the compiled kernels, whatever the tests themselves run on; stdout and stderr come back."""
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
