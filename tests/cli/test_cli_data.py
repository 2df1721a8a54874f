"""What the command line says of the data: how it is read, where it is now, and its classes by name."""

import html
import shutil
from dataclasses import fields

import numpy as np
import pytest
from command_line import QUICK, call, contents, help_of, refusal, samples_of
from PIL import Image

from minidiff.datasets import LoadingOptions
from minidiff.runs import Run

NAMES = ["ant", "bee", "10"]


@pytest.fixture(scope="module")
def pets_run(tmp_path_factory):
    """2 steps on 24 images of unequal size in three classes, with a text file beside them; T = 4."""
    folder, rng = tmp_path_factory.mktemp("pets"), np.random.default_rng(0)
    for i in range(24):
        path = folder / "data" / NAMES[i % 3] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (9, 8 + i % 3), np.uint8)).save(path)
        (path.parent / "notes.txt").write_text("not an image")
    arguments = "--size", 8, *QUICK, "--classes", "--steps", 2, "--T", 4, "--out", folder / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "draw", lambda run: [])
        assert call("train", folder / "data", *arguments) == 0
    return folder / "run"


@pytest.fixture
def moved(pets_run, tmp_path, monkeypatch):
    """A copy of the run whose data is elsewhere now: (run, data)."""
    data = shutil.copytree(pets_run.parent / "data", tmp_path / "elsewhere", copy_function=shutil.copy2)
    run = shutil.copytree(pets_run, tmp_path / "run")
    (tmp_path / "run" / "settings.json").unlink()
    pets_run.parent.joinpath("data").rename(tmp_path / "hidden")
    yield run, data
    (tmp_path / "hidden").rename(pets_run.parent / "data")


def test_what_is_left_out_is_said_in_one_line(pets_run, tmp_path, capsys, without_pictures):
    arguments = "--size", 8, *QUICK, "--steps", 1, "--T", 4, "--out", tmp_path / "run"
    assert call("train", pets_run.parent / "data", *arguments) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("left out: ")]
    assert "3 not" in line and "notes.txt" in line


def test_info_and_the_report_say_how_the_data_was_read_and_what_was_left_out(pets_run, capsys):
    left_out = Run.open(pets_run).data().left_out
    assert "notes.txt" in left_out
    assert call("info", pets_run) == call("report", pets_run) == 0
    assert {"read with size 8", f"left out  {left_out}"} <= {*capsys.readouterr().out.splitlines()}
    rows = (pets_run / "report.html").read_text().split("<tr>")
    for name, value in (("read with", "size 8"), ("left out", left_out)):
        (row,) = [row for row in rows if f">{name}<" in row]
        assert html.escape(value) in row


def test_info_has_the_names_of_the_classes(pets_run, capsys):
    assert call("info", pets_run) == 0
    assert f"classes   {', '.join(Run.open(pets_run).class_names)}" in capsys.readouterr().out


def test_a_class_is_given_by_its_name_or_its_number(pets_run, tmp_path):
    for number, name in enumerate(Run.open(pets_run).class_names):
        options = "--count", 2, "--class"
        by_name = samples_of(pets_run, tmp_path / "a.npz", *options, name)
        if name != "10":
            np.testing.assert_array_equal(by_name, samples_of(pets_run, tmp_path / "b.npz", *options, number))


@pytest.mark.parametrize("command", ["sample", "evaluate", "invert", "interpolate", "inpaint"])
@pytest.mark.parametrize("label", ["cow", "3", "-1", "1.0", ""])
def test_a_class_that_the_run_does_not_have_is_refused(pets_run, capsys, command, label):
    before = contents(pets_run)
    message = refusal(capsys, 2, command, pets_run, f"--class={label}")
    assert "class" in message and contents(pets_run) == before


@pytest.mark.parametrize("command", ["invert", "interpolate", "inpaint"])
def test_images_that_moved_are_edited_if_they_are_the_same(moved, capsys, command):
    run, data = moved
    options = ["--count", 3]
    message = refusal(capsys, 1, command, run, *options)
    assert "no such file or folder" in message
    assert call(command, run, *options, "--data", data) == 0
    (data / "ant").rename(data / "bug")
    before = contents(run)
    assert "is not the data" in refusal(capsys, 1, command, run, *options, "--data", data)
    assert contents(run) == before


@pytest.mark.parametrize("options", [[], ["--compare", "ddim"]], ids=["evaluate", "compare"])
def test_a_run_is_measured_beside_data_that_moved_if_it_is_the_same(tmp_path, capsys, options):
    points = np.random.default_rng(0).normal(3.0, 2.0, (60, 2))
    np.save(tmp_path / "a.npy", points)
    run = Run.create(tmp_path / "run", data=tmp_path / "a.npy", width=8, T=4).folder
    moved = (tmp_path / "a.npy").rename(tmp_path / "b.npy")
    command = "evaluate", run, "--count", 20, *options
    assert "a.npy: no such file" in refusal(capsys, 1, *command)
    assert call(*command, "--data", moved) == 0
    np.save(moved, np.concatenate([points[1:], points[:1]]))
    before = contents(run)
    assert "is not the data" in refusal(capsys, 1, *command, "--data", moved)
    assert contents(run) == before


def test_training_goes_on_where_the_data_is_now_and_keeps_the_path(moved, capsys, without_pictures):
    run, data = moved
    assert "no such file" in refusal(capsys, 1, "train", "--resume", run, "--steps", 3)
    assert call("train", "--resume", run, "--steps", 3, "--data", data) == 0
    assert call("train", "--resume", run, "--steps", 4) == 0
    assert Run.open(run).step == 4 and Run.open(run).settings.data == str(data)
    message = refusal(capsys, 2, "train", "digits", "--data", data, "--out", run.parent / "new")
    assert "--data is where" in message and not (run.parent / "new").exists()


def test_a_part_to_hold_out_and_channels_first_are_options(tmp_path, without_pictures):
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 8, 8), np.uint8)
    np.save(tmp_path / "a.npy", images)
    np.save(tmp_path / "b.npy", images[:5])
    arguments = "--channels-first", "--held-out", tmp_path / "b.npy", "--steps", 1, "--T", 4, *QUICK
    assert call("train", tmp_path / "a.npy", *arguments, "--out", tmp_path / "run") == 0
    data = Run.open(tmp_path / "run").data()
    assert data.x.shape == (20, 8, 8, 3) and data.held_out.shape == (5, 8, 8, 3)


def test_every_setting_of_loading_is_in_the_help(capsys, monkeypatch):
    lines = help_of(capsys, monkeypatch, "train")
    for about in fields(LoadingOptions):
        assert about.metadata["help"] in lines[f"--{about.name.replace('_', '-')}"]


def test_options_that_do_not_apply_are_refused_and_leave_no_folder(tmp_path, capsys):
    message = refusal(capsys, 2, "train", "digits", "--skip-damaged", "--out", tmp_path / "run")
    assert "--skip-damaged does not apply" in message and not (tmp_path / "run").exists()
