"""What is refused, in one line and without leaving anything behind: status 2 for invalid usage, 1 for the rest."""

import errno
import io
import os
import re
import sys
import warnings
import zipfile

import numpy as np
import pytest
from command_line import QUICK, call, contents, refusal
from data_files import UNUSABLE
from PIL import Image

from minidiff import checkpoints, files
from minidiff.runs import Run
from minidiff.runs.reopening import SECTIONS

# ---- status 2: invalid usage


INVALID = [
    (["train", "nonesuch"], "nonesuch.*mixture1d"),
    (["train"], "data"),
    (["train", "DATA", "--steps", "0"], "at least 1"),
    (["train", "DATA", "--steps", "many"], "whole number.*many"),
    (["train", "DATA", "--steps", "1.5"], "whole number.*1.5"),
    (["train", "DATA", "--minutes", "0"], "above 0"),
    (["train", "DATA", "--minutes", "soon"], "number.*soon"),
    (["train", "DATA", "--lr", "nan"], "--lr: expected a number > 0, got nan"),
    (["train", "DATA", "--lr", "inf"], "--lr: expected a number > 0, got inf"),
    (["train", "DATA", "--batch", "-3"], "--batch: expected an integer ≥ 1, got -3"),
    (["train", "DATA", "--seed", "-1"], "-1"),
    (["train", "DATA", "--net", "transformer"], "mlp, unet; got 'transformer'"),
    (["train", "DATA", "--net", "unet"], "takes images"),
    (["train", "digits", "--net", "mlp"], "points"),
    (["train", "digits", "--width", "6"], "6"),
    (["train", "DATA", "--schedule", "sudden"], "linear.*cosine.*got 'sudden'"),
    (["train", "DATA", "--beta-end", "1.5"], "> 0 and ≤ 1, got 1.5"),
    (["train", "DATA", "--beta-start", "0"], "> 0 and < 1, got 0"),
    (["train", "DATA", "--beta-end", "nan"], "nan"),
    (
        ["train", "DATA", "--schedule", "cosine", "--beta-end", "0.1"],
        "beta.end: the cosine schedule has none",
    ),
    (["train", "DATA", "--times", "sometimes"], "antithetic.*got 'sometimes'"),
    (["train", "DATA", "--mood", "good"], "--mood"),
    (["train", "DATA", "--classes"], "no labels"),
    (["train", "DATA", "--prediction", "noise"], "eps, x0, v; got 'noise'"),
    (["train", "DATA", "--weighting", "heavy"], "min-snr.*got 'heavy'"),
    (["train", "DATA", "--zero-terminal-snr"], "v or x0"),
    (["train", "DATA", "--learn-variance", "--T", "1"], "--T 2 or more"),
    (["train", "--resume", "RUN", "--classes"], "classes"),
    (["sample", "RUN", "--class", "7"], "without classes"),
    (["sample", "RUN", "--class", "-7"], "class.*-7"),
    (["sample", "RUN", "--guidance", "2"], "--class"),
    (["sample", "CLASSES", "--class", "10"], "0…9, not 10"),
    (["sample", "CLASSES", "--class", "7", "--guidance", "nan"], "finite"),
    (["sample", "CLASSES", "--class", "seven"], "seven"),
    (["evaluate", "RUN", "--class", "7"], "without classes"),
    (["evaluate", "RUN", "--guidance", "2"], "--class"),
    (["evaluate", "CLASSES", "--class", "10"], "0…9, not 10"),
    (["evaluate", "CLASSES", "--guidance", "nan"], "finite"),
    (["evaluate", "CLASSES", "--compare", "--class", "10"], "0…9, not 10"),
    (["invert", "RUN"], "points"),
    (["inpaint", "RUN"], "points"),
    (["interpolate", "RUN"], "points"),
    (["invert", "CLASSES", "--steps", "21"], "T = 20"),
    (["invert", "CLASSES", "--out", "a.gif"], "png or .npz"),
    (["invert", "CLASSES", "--class", "10"], "0…9, not 10"),
    (["inpaint", "CLASSES", "--hide", "all"], "all.*top"),
    (["inpaint", "CLASSES", "--hide", "top", "--mask", "m.png"], "not allowed with"),
    (["inpaint", "CLASSES", "--resample", "0"], "at least 1"),
    (["inpaint", "CLASSES", "--jump", "0"], "at least 1"),
    (["inpaint", "CLASSES", "--guidance", "2"], "--class"),
    (["interpolate", "CLASSES", "--between", "0", "9999"], "an index in 0…358, got 9999"),
    (["interpolate", "CLASSES", "--between", "0"], "between"),
    (["interpolate", "CLASSES", "--noise", "21"], "1…20"),
    (["train", "DATA", "--resume", "RUN"], "data"),
    (["train", "--resume", "RUN", "--lr", "0.1", "--seed", "0"], "lr, seed"),
    (["train", "--resume", "RUN", "--out", "elsewhere"], "out"),
    (["sample", "RUN", "--sampler", "euler"], "euler.*ddpm.*ddim"),
    (["sample", "RUN", "--steps", "6"], "6"),
    (["sample", "RUN", "--sampler", "ddpm", "--steps", "6"], "6"),
    (["evaluate", "RUN", "--steps", "6"], "6"),
    (["sample", "RUN", "--steps", "0"], "at least 1"),
    (["sample", "RUN", "--count", "0"], "at least 1"),
    (["sample", "RUN", "--sampler", "ddpm", "--eta", "0.5"], "eta"),
    (["sample", "RUN", "--eta", "-1"], "eta"),
    (["sample", "RUN", "--eta", "nan"], "eta"),
    (
        ["sample", "RUN", "--sampler", "heun", "--eta", "0.5"],
        "heun has no option eta; it is an option of ddim",
    ),
    (["sample", "RUN", "--churn", "1"], "ddim has no option churn; it is an option of heun"),
    (["sample", "RUN", "--sampler", "heun", "--churn", "-1"], "churn"),
    (["sample", "RUN", "--sampler", "unipc", "--order", "4"], "4"),
    (["sample", "RUN", "--sampler", "pc", "--snr", "0"], "snr > 0"),
    (["sample", "RUN", "--sampler", "pc", "--corrections", "-2"], "corrections"),
    (["sample", "RUN", "--sampler", "ddpm", "--variance", "medium"], "medium.*learned"),
    (
        ["sample", "RUN", "--sampler", "ddpm", "--variance", "learned"],
        "no learned variance; .*--learn-variance",
    ),
    (
        ["evaluate", "RUN", "--sampler", "ddpm", "--variance", "learned"],
        "no learned variance; .*--learn-variance",
    ),
    (["sample", "RUN", "--sigma-hat"], "eta = 1"),
    (["evaluate", "RUN", "--compare", "euler"], "euler.*ddpm"),
    (["evaluate", "RUN", "--compare", "ddpm", "--steps", "2"], "--compare"),
    (["sample", "RUN", "--spacing", "even"], "even.*trailing"),
    (["sample", "RUN", "--seed", "-1"], "-1"),
    (["evaluate", "RUN", "--seed", "-1"], "-1"),
    (["sample", "RUN", "--out", "samples.jpeg"], "npz"),
    (["sample"], "RUN"),
    ([], "COMMAND"),
    (["dream"], "dream.*train"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), INVALID, ids=[" ".join(arguments) for arguments, _ in INVALID]
)
def test_invalid_usage_is_refused_with_status_2(
    arguments, message, run_copy, class_run, points_file, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    before = contents(tmp_path)
    paths = {"DATA": points_file, "RUN": run_copy, "CLASSES": class_run}
    line = refusal(capsys, 2, *[paths.get(argument, argument) for argument in arguments])
    assert re.search(message, line), line
    assert contents(tmp_path) == before


# ---- status 1: what cannot be done


@pytest.mark.parametrize("make", UNUSABLE.values(), ids=UNUSABLE)
def test_unusable_data_is_refused_with_status_1_and_no_run_is_made(make, tmp_path, capsys):
    source = make(tmp_path)
    before = contents(tmp_path)
    line = refusal(capsys, 1, "train", source, "--out", tmp_path / "run")
    assert source.name in line
    assert contents(tmp_path) == before and not (tmp_path / "run").exists()


COMMANDS = (
    ["sample"],
    ["evaluate"],
    ["info"],
    ["invert"],
    ["interpolate"],
    ["inpaint"],
    ["train", "--steps", 20, "--resume"],
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda arguments: arguments[0])
def test_every_command_refuses_a_path_that_is_not_a_run(command, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    before = contents(tmp_path)
    for path in (tmp_path / "none", tmp_path, tmp_path / "file"):
        line = refusal(capsys, 1, *command, path)
        assert f"{path} is not a run" in line
    assert contents(tmp_path) == before


def flipped_bit(path):
    """In an array that every command reads."""
    with zipfile.ZipFile(path) as archive:
        array = archive.getinfo("ema/last.w.npy")
    content = bytearray(path.read_bytes())
    content[array.header_offset + len(array.filename) + array.file_size] ^= 1
    path.write_bytes(content)


def rewritten(change):
    """Damage that has a correct checksum: change(sections) before they are written again."""

    def damage(path):
        sections, _ = checkpoints.read(path, SECTIONS)
        change(sections)
        checkpoints.write(path, sections)

    return damage


def of_a_later_version(path):
    sections, _ = checkpoints.read(path, SECTIONS)
    with pytest.MonkeyPatch.context() as later:
        later.setattr(checkpoints, "VERSION", 99)
        checkpoints.write(path, sections)


@rewritten
def wrong_shapes(sections):
    for name in ("parameters", "ema"):
        assert "last.w" in sections[name][1]
        sections[name][1]["last.w"] = np.zeros((3, 3), np.float32)


DAMAGE = {
    "a flipped bit": flipped_bit,
    "truncated": lambda path: os.truncate(path, 1000),
    "empty": lambda path: os.truncate(path, 0),
    "foreign": lambda path: Image.new("L", (9, 9)).save(path, "PNG"),
    "a plain npz": lambda path: np.savez(path, samples=np.zeros(3)),
    "version 99": of_a_later_version,
    "wrong shapes": wrong_shapes,
    "a section missing": rewritten(lambda sections: sections.pop("ema")),
    "an unknown section": rewritten(lambda sections: sections.update(mood=({"mood": "good"}, {}))),
    "an unknown setting": rewritten(lambda sections: sections["settings"][0].update(mood="good")),
    "of no run": lambda path: checkpoints.write(path, {"settings": ({"mood": "good"}, {"x": np.zeros(3)})}),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("command", COMMANDS, ids=lambda arguments: arguments[0])
def test_every_command_refuses_an_unusable_checkpoint(command, damage, run_copy, capsys):
    damage(run_copy / "checkpoint.npz")
    before = contents(run_copy)
    line = refusal(capsys, 1, *command, run_copy)
    assert "checkpoint" in line
    assert contents(run_copy) == before


def test_an_output_that_cannot_be_written_is_refused(run_copy, points_file, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    before = contents(tmp_path)
    for out in (run_copy, tmp_path / "file", tmp_path / "file" / "run", tmp_path):
        assert str(out) in refusal(capsys, 1, "train", points_file, "--steps", 1, "--out", out)
    for out in (tmp_path / "none" / "s.npz", tmp_path / "file" / "s.png", tmp_path / "none" / "s.gif"):
        assert str(out.parent) in refusal(capsys, 1, "sample", run_copy, "--out", out)
    (tmp_path / "s.png").mkdir()
    assert "s.png is a folder" in refusal(capsys, 1, "sample", run_copy, "--out", tmp_path / "s.png")
    assert contents(tmp_path) == before


def test_an_error_of_the_system_names_the_file_and_the_reason(points_run, tmp_path, monkeypatch, capsys):
    def disk_full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "s.png")

    monkeypatch.setattr(files, "replace", disk_full)
    assert call("sample", points_run, "--out", tmp_path / "s.png") == 1
    assert capsys.readouterr().err.splitlines()[-1] == f"minidiff: s.png: {os.strerror(errno.ENOSPC)}"


def test_too_little_memory_is_an_error_of_one_line(points_file, tmp_path, capsys):
    line = refusal(capsys, 1, "train", points_file, "--width", 10**8, "--out", tmp_path / "run")
    assert "PB of memory" in line and not (tmp_path / "run").exists()


DIVERGING = ["--steps", 99, "--T", 3, *QUICK, "--lr", "1e30"]


def test_a_diverging_loss_ends_with_status_1_and_keeps_the_checkpoint(points_file, tmp_path, capsys):
    folder = tmp_path / "run"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the one line is enough
        assert call("train", points_file, *DIVERGING, "--out", folder) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("minidiff: step ") and "checkpoint of step 0" in last
    assert Run.open(folder).step == 0
    assert call("sample", folder, "--out", tmp_path / "s.npz") == 0


def test_an_error_begins_a_new_line_after_a_progress_bar(points_file, tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    with np.errstate(all="ignore"):
        assert call("train", points_file, *DIVERGING, "--out", tmp_path / "run") == 1
    assert sys.stderr.getvalue().splitlines()[-1].startswith("minidiff: ")
