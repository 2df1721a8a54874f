"""`minidiff train` and `quickstart`: the files of a run, its settings, resuming, data by path."""

import functools
import io
import json
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import QUICK, call, contents, refusal, samples_of
from data_files import SHAPES, write_png
from PIL import Image

from minidiff import classifier, memory, presets
from minidiff.runs import Run
from minidiff.training import ScheduleOptions


@pytest.mark.parametrize(("name", "frames"), [("points_run", 6), ("digits_run", 21)])
def test_train_writes_every_file_of_a_run(name, frames, request):
    folder = request.getfixturevalue(name)
    names = {path.name for path in folder.iterdir()}
    assert names >= {
        "settings.json",
        "metrics.jsonl",
        "checkpoint.npz",
        "samples.png",
        "animation.gif",
        "trajectory.png",
    }
    assert [path.name for path in folder.rglob("*.npz")] == ["checkpoint.npz"]
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        assert {"step", "loss", "norm", "lr", "seconds"} <= json.loads(line).keys()
    with Image.open(folder / "animation.gif") as gif:
        assert frames - 2 <= gif.n_frames <= frames  # Pillow merges equal neighbours


def test_a_run_of_three_steps_has_a_loss_curve(digits_run):
    assert Run.open(digits_run).metrics()[-1]["step"] == 3
    assert (digits_run / "loss.png").exists()


def test_train_prints_its_progress_and_what_it_wrote(points_file, tmp_path, capsys):
    folder = tmp_path / "run"
    assert call("train", points_file, "--steps", 3, "--T", 3, *QUICK, "--out", folder) == 0
    out, err = capsys.readouterr()
    assert str(points_file) in out and str(folder) in out
    wrote = [line.removeprefix("wrote ") for line in out.splitlines() if line.startswith("wrote ")]
    assert wrote and all(Path(path).exists() for path in wrote)
    assert "step 3/3" in err and "Traceback" not in err


@pytest.mark.usefixtures("without_pictures")
def test_train_begins_with_the_parameters_and_the_memory_of_a_step(tmp_path, capsys):
    folder = tmp_path / "run"
    assert call("train", "digits", "--steps", 1, "--T", 3, "--width", 8, "--batch", 100, "--out", folder) == 0
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first == f"digits: {Run.open(folder).net.count_parameters():,} parameters → {folder}"
    assert re.fullmatch(r"a step with batch 100 takes about \d+ MB of memory", second)


def test_a_resumed_run_that_does_not_fit_is_refused_with_what_helps_it(tmp_path, capsys, monkeypatch):
    run = Run.create(tmp_path / "run", data="digits", batch=500).folder
    monkeypatch.setattr(memory, "available", lambda: 8e7)
    line = refusal(capsys, 1, "train", "--resume", run)
    assert re.search("are free: free some, or make a run with --batch", line)


def test_a_step_that_does_not_fit_is_refused_and_no_folder_is_made(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 8e7)
    line = refusal(capsys, 1, "train", "digits", "--batch", 500, "--out", tmp_path / "run")
    assert re.search(
        r"about \d+ MB of memory, and 80 MB are free: free some, or make a run with --batch \d+ or", line
    )
    assert not (tmp_path / "run").exists()
    for advice in re.findall(r"--batch \d+|--shards \d+", line):
        others = ["--batch", 500] if "shards" in advice else []
        options = [*others, *advice.split(), "--steps", 1, "--T", 2, "--out", tmp_path / advice]
        monkeypatch.setattr(Run, "train", lambda run, *limits, preview: None)
        monkeypatch.setattr(Run, "draw", lambda run: [])
        assert call("train", "digits", *options) == 0


@pytest.mark.usefixtures("without_pictures")
def test_oblong_images_in_shards_mirrored_train_sample_and_resume(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (12, 5, 9, 3), np.uint8)
    np.save(tmp_path / "images.npy", images)
    options = ["--flip", "--shards", 3, "--dropout", 0.2, "--T", 3, *QUICK]
    for name, legs in (("whole", (4,)), ("resumed", (1, 4))):
        arguments = [tmp_path / "images.npy", *options, "--out", tmp_path / name]
        for steps in legs:
            assert call("train", *arguments, "--steps", steps) == 0
            arguments = ["--resume", tmp_path / name]
    whole, resumed = (Run.open(tmp_path / name) for name in ("whole", "resumed"))
    assert whole.sample(2).shape == (2, 5, 9, 3)
    np.testing.assert_array_equal(whole.sample(2), resumed.sample(2))
    assert whole.settings.net["size"] == [5, 9] and whole.settings.training.shards == 3


@pytest.mark.usefixtures("without_pictures")
def test_options_become_the_settings_of_the_run(points_file, tmp_path):
    options = ["--net", "mlp", "--width", 16, "--batch", 9, "--lr", 0.01, "--schedule", "quadratic", "--T", 7]
    options += ["--beta-start", 0.01, "--beta-end", 0.5, "--times", "uniform", "--seed", 3]
    assert call("train", points_file, "--steps", 1, *options, "--out", tmp_path / "run") == 0
    settings = Run.open(tmp_path / "run").settings
    assert settings.net == {"kind": "mlp", "dim": 2, "width": 16, "T": 7, "time": "sinusoidal"}
    assert settings.schedule == ScheduleOptions("quadratic", T=7, beta_start=0.01, beta_end=0.5)
    training = settings.training
    assert (training.batch, training.lr, training.times, settings.seed) == (9, 0.01, "uniform", 3)


def test_objective_schedule_and_learned_variance_are_options(points_file, tmp_path):
    options = ["--prediction", "v", "--weighting", "min-snr", "--times", "loss-aware", "--learn-variance"]
    options += ["--zero-terminal-snr", "--schedule", "cosine", "--T", 7, *QUICK]
    assert call("train", points_file, "--steps", 2, *options, "--out", tmp_path / "run") == 0
    run = Run.open(tmp_path / "run")
    training = run.settings.training
    assert (training.prediction, training.weighting, training.times) == ("v", "min-snr", "loss-aware")
    assert run.schedule.alpha_bar[-1] == 0 and run.denoiser().prediction == "v"
    assert run.denoiser()(np.ones((2, 2)), 7).log_variance.shape == (2, 2)
    assert call("train", "--resume", tmp_path / "run", "--steps", 4) == 0


# ---- how long


@pytest.mark.usefixtures("without_pictures")
def test_a_resumed_run_equals_an_uninterrupted_one(points_file, tmp_path):
    options = [points_file, "--T", 3, *QUICK]
    assert call("train", *options, "--steps", 25, "--out", tmp_path / "whole") == 0
    assert call("train", *options, "--steps", 11, "--out", tmp_path / "resumed") == 0
    assert call("train", "--resume", tmp_path / "resumed", "--steps", 25) == 0
    whole, resumed = (tmp_path / name / "checkpoint.npz" for name in ("whole", "resumed"))
    assert whole.read_bytes() == resumed.read_bytes()
    steps = [row["step"] for row in Run.open(tmp_path / "resumed").metrics()]
    assert steps == sorted(set(steps)) and steps[-1] in (20, 25)


def test_steps_are_the_total_so_fewer_than_were_made_change_nothing(run_copy, capsys):
    before = contents(run_copy)
    for steps in (12, 7):
        assert call("train", "--resume", run_copy, "--steps", steps) == 0
        assert "nothing to do" in capsys.readouterr().out
    assert contents(run_copy) == before


@pytest.mark.usefixtures("without_pictures")
def test_minutes_may_be_fractions_and_count_anew_when_resumed(points_file, tmp_path):
    folder = tmp_path / "run"
    assert call("train", points_file, "--minutes", "0.001", "--T", 3, *QUICK, "--out", folder) == 0
    first = Run.open(folder).step
    assert call("train", "--resume", folder, "--minutes", "0.001") == 0
    assert 0 < first < Run.open(folder).step


# ---- where


@pytest.mark.usefixtures("without_pictures")
def test_without_out_every_run_gets_a_new_folder_in_runs(points_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(3):
        assert call("train", points_file, "--steps", 1, "--T", 2, *QUICK) == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["points", "points-2", "points-3"]


def test_data_in_the_working_directory_stays_as_it_is(points_file, tmp_path, monkeypatch):
    shutil.copy(points_file, tmp_path / "points.npy")
    for i in range(12):
        write_png(tmp_path / "images" / f"{i}.png", np.full((4, 4), 20 * i, np.uint8))
    monkeypatch.chdir(tmp_path / "images")
    before = contents(tmp_path)
    assert call("train", ".", "--steps", 1, "--T", 2, *QUICK) == 0
    assert {path: content for path, content in contents(tmp_path).items() if path in before} == before
    assert [path.name for path in (tmp_path / "images" / "runs").iterdir()] == ["images"]


@pytest.mark.usefixtures("without_pictures")
def test_a_run_can_be_resumed_from_another_working_directory(points_file, tmp_path, monkeypatch):
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    shutil.copy(points_file, tmp_path / "here" / "d.npy")
    monkeypatch.chdir(tmp_path / "here")
    assert call("train", "d.npy", "--steps", 1, "--T", 2, *QUICK, "--out", tmp_path / "run") == 0
    monkeypatch.chdir(tmp_path / "there")
    assert call("train", "--resume", tmp_path / "run", "--steps", 2) == 0
    assert call("evaluate", tmp_path / "run", "--count", 10) == 0


def test_an_ascii_console_does_not_stop_a_command(points_file, tmp_path, monkeypatch):
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", ascii_only)
    assert call("train", points_file, "--steps", 1, "--T", 2, *QUICK, "--out", tmp_path / "run") == 0


# ---- data by path


@pytest.mark.parametrize(("make", "shape"), SHAPES.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_data_by_path_is_trained_on_and_sampled(tmp_path, make, shape):
    (tmp_path / "data").mkdir()
    source, folder = make(tmp_path / "data"), tmp_path / "run"
    assert call("train", source, "--steps", 2, "--T", 2, *QUICK, "--out", folder) == 0
    assert samples_of(folder, tmp_path / "s.npz", "--count", 3).shape == (3, *shape)


MNIST = Path(os.environ.get("MINIDIFF_DATA", "")) / "mnist"


@pytest.mark.skipif("MINIDIFF_DATA" not in os.environ, reason="MINIDIFF_DATA names no folder of data")
def test_mnist_is_trained_on_and_sampled(tmp_path):
    folder = tmp_path / "run"
    assert call("train", MNIST, "--steps", 2, "--T", 2, *QUICK, "--out", folder) == 0
    samples = samples_of(folder, tmp_path / "s.npz", "--count", 4)
    assert samples.shape == (4, 28, 28, 1) and samples.dtype == np.float32
    assert 0 <= samples.min() < 100 < samples.max() <= 255


# ---- quickstart


def test_quickstart_trains_draws_and_measures(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(presets, "QUICKSTART", {"T": 4, "width": 8, "batch": 8})
    monkeypatch.setattr(presets, "QUICKSTART_STEPS", 2)
    monkeypatch.setattr(classifier, "fit", functools.partial(classifier.fit, steps=20))
    folder = tmp_path / "run"
    assert call("quickstart", "--out", folder) == 0
    assert "frechet distance" in capsys.readouterr().out
    assert Run.open(folder).step == 2
    report = json.loads((folder / "evaluation.json").read_text())
    assert report["count"] == 1000 and "frechet_distance_floor" in report
    assert call("train", "--resume", folder, "--steps", 3) == 0  # it is an ordinary run


def test_quickstart_refuses_a_folder_that_is_not_empty(run_copy, capsys):
    before = contents(run_copy)
    assert "not empty" in refusal(capsys, 1, "quickstart", "--out", run_copy)
    assert contents(run_copy) == before
