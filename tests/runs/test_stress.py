"""A little of tests/stress: runs that are killed, meet a full disk, and are begun twice, end as any other run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.skipif(not hasattr(os, "fork"), reason="its processes are forked")
def test_runs_that_are_killed_filled_or_begun_twice_end_as_any_other():
    program = [sys.executable, ROOT / "tests" / "stress" / "run.py"]
    counts = ["--random", "1", "--operations", "4", "--disks", "1", "--starts", "1"]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    run = subprocess.run(
        [*program, *counts],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert run.returncode == 0 and "\n0 faults in" in run.stdout, run.stdout + run.stderr
