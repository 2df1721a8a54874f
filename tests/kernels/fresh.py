"""A fresh interpreter, for what a running one can no longer show."""

import os
import subprocess
import sys


def run(code: str, cwd=None, **environment: str) -> subprocess.CompletedProcess:
    """Run `code` on the compiled kernels, whatever the tests themselves run on; stdout and stderr come back."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "MINIDIFF_KERNELS": "numba", **environment},
        cwd=cwd,
        capture_output=True,
        text=True,
    )
