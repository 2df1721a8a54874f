"""Ctrl-C, SIGTERM and SIGKILL: what a run keeps, and the command that resumes it."""

import shlex
import signal
import subprocess
import sys

import pytest
from command_line import QUICK, call

from minidiff import presets
from minidiff.progress import Progress
from minidiff.runs import Run


def resume_command(out):
    """The arguments of the command that an interrupted run prints, as a shell would split them."""
    arguments = shlex.split(out.partition("resume with: ")[2])
    assert arguments[:3] == ["minidiff", "train", "--resume"], out
    return arguments[1:]


class InterruptedAtStep4(Progress):
    def update(self, done, note=""):
        if done == 4:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("limit", [["--steps", "30"], ["--minutes", "0.002"], []], ids=str)
def test_ctrl_c_finishes_the_step_saves_and_prints_how_to_resume(
    limit, points_file, tmp_path, monkeypatch, capsys
):
    folder = tmp_path / "a run"
    monkeypatch.setitem(presets.STEPS, "mlp", 30)
    monkeypatch.setattr("minidiff.runs.run.Progress", InterruptedAtStep4)
    before = signal.getsignal(signal.SIGINT)
    options = ["--T", 2, *QUICK, *(["--minutes", "9"] if "--minutes" in limit else limit), "--out", folder]
    assert call("train", points_file, *options) == 130
    assert signal.getsignal(signal.SIGINT) is before
    assert Run.open(folder).step == 4
    monkeypatch.undo()
    arguments = resume_command(capsys.readouterr().out)
    if "--minutes" in limit:
        arguments[-1] = str(float(arguments[-1]) / 4500)  # nobody waits nine minutes here
    assert call(*arguments) == 0
    assert Run.open(folder).step > 4 if "--minutes" in limit else Run.open(folder).step == 30


def started(data, folder):
    """A process that trains for long and has made its first step."""
    arguments = ["train", data, "--steps", 10**6, "--T", 2, *QUICK, "--out", folder]
    process = subprocess.Popen(
        [sys.executable, "-m", "minidiff", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr.readline().startswith("step 1/1000000")
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_process_finishes_the_step_and_saves(number, points_file, tmp_path):
    folder = tmp_path / "run"
    process = started(points_file, folder)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err
    *arguments, steps = resume_command(out)
    made = Run.open(folder).step
    assert made >= 1 and f"step {made}, saved" in out and steps == "1000000"
    assert call(*arguments, made + 1) == 0
    assert Run.open(folder).step == made + 1


def test_sigkill_leaves_a_checkpoint_that_can_be_resumed(points_file, tmp_path):
    folder = tmp_path / "run"
    process = started(points_file, folder)
    while not (folder / "metrics.jsonl").stat().st_size:  # until some of them are on disk
        assert process.poll() is None
    process.kill()
    process.communicate(timeout=60)
    assert call("info", folder) == 0
    made = Run.open(folder).step
    assert call("train", "--resume", folder, "--steps", made + 25) == 0
    steps = [row["step"] for row in Run.open(folder).metrics()]
    assert steps == sorted(set(steps)) and steps[-1] <= made + 25
    assert [path.name for path in folder.rglob("*.npz")] == ["checkpoint.npz"]
