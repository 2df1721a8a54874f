"""What a run must be at the end, whatever happened to it: the same as one that was never stopped."""

import json
from pathlib import Path
from typing import Any

from minidiff.runs.folders import CHECKPOINT, METRICS, PICTURES
from minidiff.runs.report import REPORT

NAMES = {CHECKPOINT, METRICS, "settings.json", "lock", *PICTURES} - {"classes.png"}  # there are none here


def contents(run: Path) -> dict[str, Any]:
    """The content of each file, without the seconds of metrics, the run's name and what is in the lock."""
    found: dict[str, Any] = {path.name: path.read_bytes() for path in run.iterdir() if path.name != "lock"}
    if METRICS in found:
        rows = [json.loads(line) for line in found[METRICS].splitlines()]
        found[METRICS] = [{name: row[name] for name in row if name != "seconds"} for row in rows]
    if REPORT in found:
        found[REPORT] = found[REPORT].replace(f"{run.name}: ".encode(), b": ")
    return found


def faults_of_the_killed(run: Path) -> list[str]:
    """What is wrong with a run whose process was killed: it must be a run, or free to become one."""
    left = {path.name for path in run.iterdir()} if run.exists() else set()
    if CHECKPOINT in left or all(name == "lock" or name.startswith(".") for name in left):
        return []
    return [f"neither nothing nor a run: {', '.join(sorted(left))}"]


def faults_of_the_ended(run: Path, expected: dict[str, Any]) -> list[str]:
    """What is wrong with a run that was resumed to its end."""
    if not run.exists():
        return ["the run is lost"]
    names = {path.name for path in run.iterdir()}
    faults = [f"left over: {name}" for name in names - NAMES] + [f"missing: {name}" for name in NAMES - names]
    faults += [f"left over: {path.name}" for path in run.parent.glob(f".{run.name}.*")]
    found = contents(run)
    faults += [
        f"not as of a run never stopped: {name}" for name in expected if found.get(name) != expected[name]
    ]
    return faults


def fault_of_the_message(output: Path) -> list[str]:
    """What is wrong with the output of a command that failed: its last line must be the error, with no traceback."""
    text = output.read_text()
    *_, last = text.splitlines() or [""]
    return (
        [] if last.startswith("minidiff: ") and "Traceback" not in text else [f"ended with {text[-300:]!r}"]
    )
