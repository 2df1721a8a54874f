"""What a run was trained on is what it is resumed, measured and edited with: anything else is noticed."""

import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_runs import MLP, UNET, contents, create, train

from minidiff import datasets
from minidiff.datasets import image_files
from minidiff.options import OptionError
from minidiff.runs import Run, checkpoints
from minidiff.runs.run import SECTIONS

RAW = np.random.default_rng(0).normal(3.0, 2.0, (40, 2))
LABELS = np.arange(40) % 2
HELD_OUT = dict(held_out=RAW[:5], held_out_labels=LABELS[:5])


def mine(raw=RAW, labels=LABELS, class_names=("ant", "bee"), **held_out):
    return datasets.from_raw("mine", raw, labels, class_names=class_names, **(held_out or HELD_OUT))


OTHERS = {
    "other samples": dict(raw=RAW[::-1]),
    "permuted labels": dict(labels=1 - LABELS),
    "no labels": dict(labels=None, held_out=RAW[:5]),
    "other samples to hold out": dict(held_out=RAW[1:6], held_out_labels=LABELS[:5]),
    "other labels to hold out": dict(held_out=RAW[:5], held_out_labels=1 - LABELS[:5]),
    "no labels to hold out": dict(held_out=RAW[:5]),
    "nothing to hold out": dict(held_out_fraction=0.0),
    "other names": dict(class_names=("bee", "ant")),
    "more classes": dict(class_names=("ant", "bee", "cat")),
}


@pytest.mark.parametrize("changes", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("opening", [Run.resume, lambda folder, data: Run.open(folder).data(data)])
def test_other_data_is_refused_whatever_is_other(tmp_path, changes, opening):
    run = create(tmp_path / "run", mine(), net=MLP | {"classes": 2})
    assert opening(run.folder, mine()) is not None
    with pytest.raises(ValueError, match=r"^mine is not the data that .*run was trained on: other "):
        opening(run.folder, mine(**changes))


def test_data_that_moved_is_taken_where_it_is_and_the_run_keeps_the_path(source, tmp_path):
    run = create(tmp_path / "run", source)
    steps = train(create(tmp_path / "whole", source), 8)
    before = train(run, 3)
    run.save()
    moved = source.rename(tmp_path / "moved.npy")
    for attempt in (Run.resume, lambda folder: Run.open(folder).data()):
        with pytest.raises(FileNotFoundError, match=r"points\.npy: no such file"):
            attempt(run.folder)
    np.save(tmp_path / "other.npy", np.load(moved) + 1)
    with pytest.raises(ValueError, match=r"other\.npy is not the data"):
        Run.open(run.folder).data(tmp_path / "other.npy")
    assert len(Run.open(run.folder).data(moved).x) == 36
    resumed = Run.resume(run.folder, moved)
    assert before + train(resumed, 8) == steps
    resumed.save()
    assert Run.resume(run.folder).settings.data == str(moved)


def test_classes_keep_their_names(tmp_path):
    run = create(tmp_path / "run", mine(), net=MLP | {"classes": 2})
    assert run.class_names == Run.open(run.folder).class_names == Run.resume(run.folder, mine()).class_names
    assert run.class_names == ("ant", "bee")


def test_a_checkpoint_of_version_0_1_has_the_check_that_it_has_and_then_the_new_one(source, tmp_path):
    run = create(tmp_path / "run", source)
    path = run.folder / "checkpoint.npz"
    sections, _ = checkpoints.read(path, SECTIONS)
    x = np.asarray(run.data().x)
    sections["data"][0].pop("checksum")
    sections["data"][0].pop("class_names")
    sections["settings"][0].pop("loading")
    sections["batches"][0]["checksum"] = zlib.crc32(x)
    checkpoints.write(path, sections)
    old = Run.open(run.folder)
    assert isinstance(old.facts.checksum, int) and old.data() is not None
    resumed = Run.resume(run.folder)
    resumed.save()
    assert Run.open(run.folder).facts == run.facts
    sections["batches"][0]["checksum"] += 1
    checkpoints.write(path, sections)
    for attempt in (Run.resume, lambda folder: Run.open(folder).data()):
        with pytest.raises(ValueError, match="is not the data"):
            attempt(run.folder)


def test_settings_of_loading_are_stored_with_absolute_paths_and_used_again(tmp_path, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 8, 8), np.uint8)
    np.save(tmp_path / "a.npy", images)
    np.save(tmp_path / "b.npy", images[:4])
    monkeypatch.chdir(tmp_path)
    run = Run.create("run", data="a.npy", channels_first=True, held_out="b.npy", width=8)
    assert run.settings.loading.held_out == str(tmp_path / "b.npy") and run.settings.loading.channels_first
    monkeypatch.chdir("/")
    data = Run.open(tmp_path / "run").data()
    assert data.x.shape == (20, 8, 8, 3) and len(data.held_out) == 4
    with pytest.raises(ValueError, match="channels_first: expected a path of data"):
        Run.create(tmp_path / "other", data=mine(), channels_first=True)


def test_images_are_decoded_when_the_run_is_made_and_never_again(tmp_path, monkeypatch):
    (pictures := tmp_path / "pictures").mkdir()
    for level in range(0, 250, 20):
        Image.new("L", (3, 2), level).save(pictures / f"{level}.png")
    run = create(tmp_path / "run", pictures, net=UNET | {"size": [2, 3]})
    copy = Path(shutil.copytree(run.folder, tmp_path / "copy"))
    left = copy / ".decoded.npz.abcd1234"  # by a process that was killed while it wrote
    left.write_bytes(b"x")
    monkeypatch.setattr(image_files, "read_folder", None)
    for folder in (run.folder, copy):
        assert Run.open(folder).data().checksum == run.facts.checksum
    assert train(Run.resume(copy), 3) == train(run, 3) and not left.exists()
    (run.folder / "decoded.npz").write_bytes(b"x")
    monkeypatch.undo()
    assert Run.open(run.folder).data().checksum == run.facts.checksum
    assert (run.folder / "decoded.npz").read_bytes() == (copy / "decoded.npz").read_bytes()
    (pictures / "0.png").unlink()
    before = contents(run.folder)
    with pytest.raises(ValueError, match="is not the data"):
        Run.open(run.folder).data()
    assert contents(run.folder) == before


def test_what_is_held_out_is_taken_where_it_is_now_and_the_run_keeps_the_path(source, tmp_path):
    np.save(tmp_path / "other.npy", np.load(source) + 1)
    held_out = Path(shutil.copy(source, tmp_path / "held_out.npy"))
    run = create(tmp_path / "run", source, held_out=str(held_out))
    moved = held_out.rename(tmp_path / "moved.npy")
    for opening in (Run.resume, lambda folder, **paths: Run.open(folder).data(**paths)):
        with pytest.raises(FileNotFoundError, match=r"held_out\.npy: no such file"):
            opening(run.folder)
        with pytest.raises(ValueError, match="is not the data"):
            opening(run.folder, held_out=tmp_path / "other.npy")
        with pytest.raises(OptionError, match="held_out: expected a path of data"):
            opening(run.folder, data=mine(), held_out=moved)
        assert opening(run.folder, held_out=moved) is not None
    Run.resume(run.folder, held_out=moved).save()
    assert Run.resume(run.folder).settings.loading.held_out == str(moved)
