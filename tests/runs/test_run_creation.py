"""A run is made whole or not at all, whatever fails meanwhile; what a killed process left is cleared."""

import errno
import io
import os

import numpy as np
import pytest
from small_runs import contents, create, names

from minidiff import files
from minidiff.runs import Run, folders, run

CALLS = [(os, "open"), (os, "mkdir"), (os, "fdopen"), (os, "fsync"), (os, "replace"), (os, "rename")]
CALLS += [(io, "open"), (run, "load"), (run.checkpoints, "write"), (run, "facts")]


@pytest.fixture(scope="module", autouse=True)
def compiled(tmp_path_factory):
    """The kernels that making a run needs: compiling them opens files too, and survives what fails there."""
    folder = tmp_path_factory.mktemp("compiled")
    np.save(folder / "points.npy", np.eye(2).repeat(20, axis=0))
    create(folder / "run", folder / "points.npy")


class Nth:
    """A function that fails the n-th time."""

    def __init__(self, function, n, error):
        self.function, self.n, self.error = function, n, error

    def __call__(self, *arguments, **options):
        self.n -= 1
        if self.n == 0:
            raise self.error
        return self.function(*arguments, **options)


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()], ids=["full", "ctrl-c"]
)
@pytest.mark.parametrize("target", ["new", "empty", "some/parents/new"])
@pytest.mark.parametrize(("module", "name"), CALLS, ids=lambda value: getattr(value, "__name__", value))
def test_whatever_fails_leaves_nothing_or_a_run_and_the_next_attempt_works(
    source, tmp_path, module, name, target, error
):
    (tmp_path / "empty").mkdir()
    before, failed = names(tmp_path), 0
    for n in range(1, 20):
        function = Nth(getattr(module, name), n, error)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(module, name, function)
            try:
                made = create(tmp_path / target, source)
            except (type(error), ValueError):
                failed += 1
                patched.undo()
                if (tmp_path / target / "checkpoint.npz").exists():  # it was made, and only not synced
                    made = Run.resume(tmp_path / target)
                    break
                assert names(tmp_path) == before and names(tmp_path / "empty") == set()
                continue
        break
    assert made.step == 0 and names(made.folder) == {"settings.json", "checkpoint.npz", "lock"}
    assert failed or name in ("rename", "mkdir")  # these are not needed where the folder is there


@pytest.mark.parametrize("target", ["new", "empty"])
def test_what_a_killed_creation_left_is_taken_over(source, tmp_path, target):
    (tmp_path / "empty").mkdir()
    left = tmp_path / ".new.unfinished" if target == "new" else tmp_path / "empty"
    left.mkdir(exist_ok=True)
    (left / "lock").write_bytes(b"process 7 on mars")
    for name in ("checkpoint.npz", "settings.json"):
        (left / f".{name}.abc_1234").write_bytes(b"half of it")
    made = create(tmp_path / target, source)
    assert names(made.folder) == {"settings.json", "checkpoint.npz", "lock"}
    assert names(tmp_path) == {"points.npy", "empty"} | {target}


def test_resuming_clears_what_a_killed_process_left_and_nothing_else(run):
    left = {f".{name}.0123456z" for name in ("checkpoint.npz", "metrics.jsonl", "loss.png", "animation.gif")}
    mine = {".hidden", "notes.txt", ".notes.txt.0123456z", ".checkpoint.npz.mine"}
    for name in left | mine:
        (run.folder / name).write_bytes(b"x")
    Run.open(run.folder)
    assert left <= names(run.folder)  # it may be another process that is writing them
    Run.resume(run.folder)
    assert names(run.folder) == {"settings.json", "checkpoint.npz", "lock"} | mine


@pytest.mark.parametrize("name", ["lock", "settings.json", ".checkpoint.npz", "checkpoint.npz"])
def test_a_file_that_only_has_the_name_of_one_of_ours_is_kept(source, tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / name).write_text("mine")
    with pytest.raises(FileExistsError):
        create(tmp_path / "folder", source)
    assert contents(tmp_path / "folder") == {name: b"mine"}


@pytest.mark.parametrize("moment", ["load", "write_settings"])
def test_a_folder_that_fills_while_a_run_is_made_for_it_is_left_as_it_is(
    source, tmp_path, monkeypatch, moment
):
    original = getattr(run, moment)

    def meanwhile(*arguments):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "file").write_text("mine")
        return original(*arguments)

    monkeypatch.setattr(run, moment, meanwhile)
    with pytest.raises(OSError):
        create(tmp_path / "run", source)
    assert contents(tmp_path / "run") == {"file": b"mine"} and names(tmp_path) == {"points.npy", "run"}


@pytest.mark.parametrize("how", ["renamed", "removed"])
def test_a_hidden_folder_that_vanishes_before_it_is_locked_is_made_again(source, tmp_path, monkeypatch, how):
    take = folders.lock.take

    def vanished(folder, final=None):
        monkeypatch.undo()
        folder.rmdir()
        if how == "renamed":
            create(final, source)
        return take(folder, final)

    monkeypatch.setattr(folders.lock, "take", vanished)
    if how == "renamed":
        with pytest.raises(FileExistsError):
            create(tmp_path / "run", source)
    else:
        assert create(tmp_path / "run", source).step == 0
    assert names(tmp_path) == {"points.npy", "run"} and Run.open(tmp_path / "run").step == 0


def test_settings_that_were_not_written_yet_are_written_on_resuming(run):
    text = (run.folder / "settings.json").read_bytes()
    (run.folder / "settings.json").unlink()
    Run.resume(run.folder)
    assert (run.folder / "settings.json").read_bytes() == text


def test_the_name_of_a_new_folder_is_synced_once_it_is_a_run(source, tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(files, "sync_folder", lambda folder: synced.append((folder, names(folder))))
    create(tmp_path / "run", source)
    assert synced[-1] == (tmp_path, {"points.npy", "run"})
