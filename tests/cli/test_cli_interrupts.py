"""Ctrl-C, SIGTERM, SIGKILL, and streams that fail: what a run keeps, and the command that resumes it."""

import io
import os
import shlex
import signal
import subprocess
import sys
import threading
import time

import pytest
from command_line import QUICK, call, contents, refusal

from minidiff import plots, presets
from minidiff.progress import Progress
from minidiff.runs import Run


def resume_command(out):
    """The arguments of the command that an interrupted run prints, as a shell would split them."""
    arguments = shlex.split(out.partition(" with: ")[2])
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
    monkeypatch.setattr(presets, "STEPS", 30)
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
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


# ---- pictures


@pytest.mark.parametrize(
    ("function", "error"),
    [
        ("loss_curve", KeyboardInterrupt()),
        ("save", OSError(28, "No space left on device")),
        ("animate", KeyboardInterrupt()),
    ],
    ids=["loss curve, Ctrl-C", "samples, disk full", "animation, Ctrl-C"],
)
def test_pictures_that_could_not_be_drawn_are_drawn_by_the_command_printed(
    run_copy, monkeypatch, capsys, function, error
):
    def fail(*arguments, **options):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(plots, function, fail)
        assert call("train", "--resume", run_copy, "--steps", 14) == (
            1 if isinstance(error, OSError) else 130
        )
    out, err = capsys.readouterr()
    assert Run.open(run_copy).step == 14 and err.splitlines()[-1].startswith("minidiff: ")
    drawn = time.time_ns()
    assert call(*resume_command(out)) == 0
    assert all(
        path.stat().st_mtime_ns > drawn for path in run_copy.iterdir() if path.suffix in (".png", ".gif")
    )
    before = contents(run_copy)
    assert call(*resume_command(out)) == 0 and "nothing to do" in capsys.readouterr().out
    assert contents(run_copy) == before


@pytest.mark.parametrize("name", ["loss.png", "samples.png", "animation.gif", "trajectory.png"])
@pytest.mark.parametrize("how", ["missing", "old"])
def test_a_picture_that_is_missing_or_old_is_drawn_on_resuming(run_copy, capsys, name, how, monkeypatch):
    picture = run_copy / name
    picture.unlink() if how == "missing" else os.utime(picture, (0, 0))
    monkeypatch.setattr(Run, "draw", lambda run: [picture])
    assert call("train", "--resume", run_copy, "--steps", 12) == 0
    assert f"wrote {picture}" in capsys.readouterr().out


# ---- streams that fail


def train_with(folder, shell):
    """Train a few steps in a shell, with what it does to the streams; returns the process."""
    command = shlex.join([sys.executable, "-m", "minidiff", "train", "digits", "--steps", "3", "--T", "2"])
    options = shlex.join([*QUICK, "--out", str(folder)])
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} {options} {shell}"],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("shell", "status"),
    [("2>&1 | head -1", 0), ("2>&- >&-", 0), ("2>/dev/full >/dev/full", 1)],
    ids=lambda value: str(value),
)
def test_streams_that_fail_end_no_training(tmp_path, shell, status):
    process = train_with(tmp_path / "run", shell)
    assert process.returncode == status and "Exception" not in process.stderr
    assert {"checkpoint.npz", "trajectory.png"} <= {path.name for path in (tmp_path / "run").iterdir()}
    assert Run.open(tmp_path / "run").step == 3


def test_output_that_could_not_be_written_is_an_error(points_run, monkeypatch, capsys):
    class Full(io.StringIO):
        def flush(self):
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", Full())
        assert call("info", points_run) == 1
    assert capsys.readouterr().err == "minidiff: standard output: No space left on device\n"


def test_the_command_line_can_be_called_in_a_thread(run_copy):
    statuses = []
    thread = threading.Thread(
        target=lambda: statuses.append(call("train", "--resume", run_copy, "--steps", 14))
    )
    thread.start()
    thread.join()
    assert statuses == [0] and Run.open(run_copy).step == 14


# ---- two processes


def test_a_run_that_another_process_trains_is_refused_in_one_line(points_file, tmp_path, capsys):
    folder = tmp_path / "run"
    process = started(points_file, folder)
    try:
        for arguments in (["--resume", folder], [points_file, "--T", 2, *QUICK, "--out", folder]):
            error = refusal(capsys, 1, "train", *arguments)
            assert error.startswith(f"minidiff: {folder} is in use by process {process.pid} on ")
        assert call("info", folder) == 0
        assert call("sample", folder, "--count", 4) == 0
    finally:
        process.kill()
        process.communicate()
    assert call("train", "--resume", folder, "--steps", 1) == 0
