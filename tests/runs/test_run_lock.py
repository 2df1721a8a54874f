"""A run belongs to one process: another may sample from it, but neither make it nor resume it."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from small_runs import create, names, train

from minidiff.runs import Run, folders, lock

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the other process here locks as POSIX does")

HOLD = """
import fcntl, sys
file = open(sys.argv[1], "a+b")
try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    sys.exit("busy")
file.truncate(0)
file.write(eval(sys.argv[2]))
file.flush()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def elsewhere():
    """Begins processes that lock a folder; returns one that does, or None where the folder is locked already."""
    begun = []

    def hold(folder, text=b"process 7 on mars since 2026-01-01 00:00:00\n"):
        arguments = [sys.executable, "-S", "-c", HOLD, folder / "lock", repr(text)]
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        begun.append(subprocess.Popen(arguments, **pipes))
        return begun[-1] if begun[-1].stdout.readline() else None

    yield hold
    for process in begun:
        process.kill()
        process.communicate()


def released(folder, elsewhere):
    """Whether another process can take the lock."""
    process = elsewhere(folder)
    if process:
        process.kill()
        process.wait()
    return process is not None


def refused(folder, attempt):
    with pytest.raises(BlockingIOError) as caught:
        attempt()
    message = str(caught.value)
    assert message.startswith(f"{folder} is in use by ") and "\n" not in message
    return message


@pytest.fixture
def folder(source, tmp_path):
    """The folder of a run that nobody trains."""
    return create(tmp_path / "run", source).folder


# ---- while another process holds it


def test_a_run_that_another_process_trains_is_refused_with_who_it_is(folder, source, elsewhere, monkeypatch):
    elsewhere(folder)
    monkeypatch.setattr("minidiff.runs.run.load", None)  # no data is loaded before
    for attempt in (lambda: Run.resume(folder), lambda: create(folder, source)):
        assert "process 7 on mars since 2026-01-01 00:00:00" in refused(folder, attempt)
    assert Run.open(folder).sample(2).shape == (2, 2)


@pytest.mark.parametrize("text", [b"", b"\xff\x00", b"\x1b[2J", b"a\nb", b"x" * 10**4], ids=len)
def test_a_damaged_lock_file_makes_a_short_plain_message(folder, elsewhere, text):
    elsewhere(folder, text)
    message = refused(folder, lambda: Run.resume(folder))
    assert message.isprintable() and len(message) < 300 + len(str(folder))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_lock_ends_with_its_process_and_not_before(folder, elsewhere, number):
    process = elsewhere(folder)
    process.send_signal(signal.SIGSTOP)
    refused(folder, lambda: Run.resume(folder))
    process.send_signal(number)
    process.send_signal(signal.SIGCONT)
    process.wait()
    assert Run.resume(folder).step == 0


@pytest.mark.parametrize("kind", ["new", "empty"])
def test_a_folder_in_which_another_process_makes_a_run_is_refused(
    source, tmp_path, elsewhere, kind, monkeypatch
):
    folder = tmp_path / "run"
    locked = folder if kind == "empty" else tmp_path / ".run.unfinished"
    locked.mkdir()
    elsewhere(locked)
    with monkeypatch.context() as patched:
        patched.setattr("minidiff.runs.run.load", None)
        refused(folder, lambda: create(folder, source))
    assert names(locked) == {"lock"} and names(tmp_path) == {"points.npy", locked.name}


def test_the_next_free_folder_is_none_that_another_process_makes(tmp_path, elsewhere, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (".points.unfinished", ".points-2.unfinished"):
        (Path("runs") / name).mkdir(parents=True)
    elsewhere(Path("runs/.points.unfinished"))
    # What a killed process left does not matter
    assert folders.free_folder("points") == Path("runs/points-2")


# ---- while this process holds it


def test_a_run_is_locked_from_its_creation_for_as_long_as_it_exists(source, tmp_path, elsewhere):
    run = create(tmp_path / "run", source)
    folder = run.folder
    assert not released(folder, elsewhere)
    assert f"process {os.getpid()} on " in (folder / "lock").read_text()
    again = Run.resume(folder)  # the same process may
    del run
    (folder / "lock").read_bytes()
    train(again, 2)
    assert not released(folder, elsewhere)
    del again
    assert released(folder, elsewhere)
    opened = Run.open(folder)
    assert released(folder, elsewhere) and opened.step == 0


def test_a_run_that_was_moved_and_another_in_its_former_place_have_two_locks(source, tmp_path, elsewhere):
    first = create(tmp_path / "a", source)
    (tmp_path / "a").rename(tmp_path / "b")
    second = create(tmp_path / "a", source)
    del first
    assert released(tmp_path / "b", elsewhere) and not released(tmp_path / "a", elsewhere)
    del second


def test_a_refused_resumption_releases_the_lock(folder, source, elsewhere):
    source.unlink()
    with pytest.raises(FileNotFoundError):
        Run.resume(folder)
    assert released(folder, elsewhere)


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOLCK, ""), OSError(errno.ENOSYS, ""), OSError(errno.EOPNOTSUPP, ""), ImportError()],
    ids=repr,
)
def test_where_there_are_no_locks_a_run_is_trained_without(source, tmp_path, monkeypatch, error):
    def none(file):
        raise error

    monkeypatch.setattr(lock, "_lock", none)
    folder = create(tmp_path / "run", source).folder
    assert Run.resume(folder).step == 0


def test_where_open_files_cannot_be_moved_a_new_run_is_locked_all_the_same(
    source, tmp_path, elsewhere, monkeypatch
):
    monkeypatch.setattr(lock, "MOVABLE", False)
    run = create(tmp_path / "run", source)
    assert not released(run.folder, elsewhere)
    with pytest.raises(ValueError):
        create(tmp_path / "none", source, batch=0)
    assert names(tmp_path) == {"points.npy", "run"}


def test_a_lock_file_that_is_replaced_before_it_is_locked_is_not_the_lock(folder, elsewhere, monkeypatch):
    really = lock._lock

    def replaced(file):
        monkeypatch.setattr(lock, "_lock", really)
        (folder / "lock").unlink()
        really(file)

    monkeypatch.setattr(lock, "_lock", replaced)
    run = Run.resume(folder)
    assert not released(folder, elsewhere) and run.step == 0


def test_a_full_disk_does_not_prevent_the_lock(folder, elsewhere, monkeypatch):
    monkeypatch.setattr(
        lock.socket, "gethostname", lambda: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full"))
    )
    run = Run.resume(folder)
    assert not released(folder, elsewhere) and run.step == 0
