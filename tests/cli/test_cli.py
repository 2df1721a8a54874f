"""The front door: what each command leaves behind, and how it says no."""

import functools
import gzip
import io
import json
import os
import re
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minidiff import checkpoints, classifier, cli, datasets, generation, presets
from minidiff.cli import commands
from minidiff.runs.run import Run

QUICK = ["--width", "8", "--batch", "8"]


def call(*words):
    """The exit status of `minidiff WORDS`, also where the parser of the words itself ends it."""
    try:
        return cli.main([str(word) for word in words])
    except SystemExit as end:
        return end.code


def contents(*folders):
    """Every file below, with its bytes."""
    return {
        path: path.read_bytes() for folder in folders for path in Path(folder).rglob("*") if path.is_file()
    }


def refusal(capsys, status, *words):
    """Holds that it ends with this status and one line on stderr alone; returns the line."""
    capsys.readouterr()
    assert call(*words) == status
    err = capsys.readouterr().err
    assert err.startswith("minidiff") and err.count("\n") == 1 and err.endswith("\n"), err
    assert "Errno" not in err and "_whole" not in err and "_positive" not in err, err
    return err


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A file of 60 points in the plane."""
    path = tmp_path_factory.mktemp("data") / "points.npy"
    np.save(path, np.random.default_rng(0).normal(3.0, 2.0, (60, 2)))
    return path


@pytest.fixture(scope="module")
def of_points(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "points"
    assert call("train", data, "--steps", 12, "--T", 5, *QUICK, "--out", folder) == 0
    return folder


@pytest.fixture(scope="module")
def of_digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "digits"
    assert call("train", "digits", "--steps", 3, "--T", 20, *QUICK, "--out", folder) == 0
    return folder


@pytest.fixture(scope="module")
def by_class(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "classes"
    assert call("train", "digits", "--classes", "--steps", 3, "--T", 20, *QUICK, "--out", folder) == 0
    return folder


@pytest.fixture
def run(of_points, tmp_path):
    """A copy of the run on points that a test may change."""
    return Path(shutil.copytree(of_points, tmp_path / "run"))


# ---- train


@pytest.mark.parametrize("name", ["of_points", "of_digits"])
def test_train_leaves_a_whole_run(name, request):
    folder = request.getfixturevalue(name)
    names = {path.name for path in folder.iterdir()}
    assert names >= {
        "settings.json",
        "metrics.jsonl",
        "checkpoint.npz",
        "samples.png",
        "animation.gif",
        "way.png",
    }
    assert [path.name for path in folder.rglob("*.npz")] == ["checkpoint.npz"]
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        assert {"step", "loss", "norm", "lr", "seconds"} <= json.loads(line).keys()
    with Image.open(folder / "animation.gif") as gif:
        frames = {"of_points": 6, "of_digits": 21}[name]  # Pillow makes one of neighbours that are equal
        assert frames - 2 <= gif.n_frames <= frames


def test_a_run_of_a_few_steps_has_a_loss_curve_too(of_digits):
    assert Run.open(of_digits).metrics()[-1]["step"] == 3
    assert (of_digits / "loss.png").exists()


def test_what_was_written_and_how_far_it_came_is_said(data, tmp_path, capsys):
    assert call("train", data, "--steps", 3, "--T", 3, *QUICK, "--out", tmp_path / "run") == 0
    out, err = capsys.readouterr()
    assert str(data) in out and str(tmp_path / "run") in out
    for line in out.splitlines():
        if line.startswith("wrote "):
            assert Path(line.removeprefix("wrote ")).exists()
    assert "step 3/3" in err and "Traceback" not in err


def test_what_is_asked_for_is_what_is_trained(data, tmp_path):
    words = ["--net", "mlp", "--width", 16, "--batch", 9, "--lr", 0.01, "--schedule", "quadratic", "--T", 7]
    words += ["--beta-start", 0.01, "--beta-end", 0.5, "--times", "uniform", "--seed", 3]
    assert call("train", data, "--steps", 1, *words, "--out", tmp_path / "run") == 0
    settings = Run.open(tmp_path / "run").settings
    assert settings.net == {"kind": "mlp", "dim": 2, "width": 16, "T": 7, "time": "sinusoidal"}
    assert settings.schedule == {"name": "quadratic", "T": 7, "beta_start": 0.01, "beta_end": 0.5}
    assert (settings.batch, settings.lr, settings.times, settings.seed) == (9, 0.01, "uniform", 3)


def test_steps_are_the_total_and_a_resumed_run_is_the_one_that_never_stopped(data, tmp_path, capsys):
    words = [data, "--T", 3, *QUICK]
    assert call("train", *words, "--steps", 25, "--out", tmp_path / "whole") == 0
    assert call("train", *words, "--steps", 11, "--out", tmp_path / "parts") == 0
    assert call("train", "--resume", tmp_path / "parts", "--steps", 25) == 0
    whole, parts = (tmp_path / name / "checkpoint.npz" for name in ("whole", "parts"))
    assert whole.read_bytes() == parts.read_bytes()
    steps = [row["step"] for row in Run.open(tmp_path / "parts").metrics()]
    assert steps == sorted(set(steps)) and steps[-1] in (20, 25)

    before = contents(tmp_path)
    capsys.readouterr()
    assert call("train", "--resume", tmp_path / "parts", "--steps", 20) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert contents(tmp_path) == before


def test_minutes_take_fractions_and_on_resume_count_from_then(data, tmp_path):
    folder = tmp_path / "run"
    assert call("train", data, "--minutes", "0.001", "--T", 3, *QUICK, "--out", folder) == 0
    first = Run.open(folder).step
    assert call("train", "--resume", folder, "--minutes", "0.001") == 0
    assert 0 < first < Run.open(folder).step


def test_without_out_a_run_gets_a_folder_of_its_own_below_runs(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(3):
        assert call("train", data, "--steps", 1, "--T", 2, *QUICK) == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["points", "points-2", "points-3"]
    shutil.copy(data, tmp_path / "points.npy")
    monkeypatch.chdir(tmp_path / "runs")
    (tmp_path / "pictures").mkdir()
    for i in range(12):
        Image.fromarray(np.full((4, 4), 20 * i, np.uint8)).save(tmp_path / "pictures" / f"{i}.png")
    monkeypatch.chdir(tmp_path / "pictures")
    before = contents(tmp_path)
    assert call("train", ".", "--steps", 1, "--T", 2, *QUICK) == 0
    assert {path: content for path, content in contents(tmp_path).items() if path in before} == before
    assert [path.name for path in (tmp_path / "pictures" / "runs").iterdir()] == ["pictures"]


def test_a_run_goes_on_from_another_folder_than_it_was_begun_in(data, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir(), (tmp_path / "there").mkdir()
    shutil.copy(data, tmp_path / "here" / "d.npy")
    monkeypatch.chdir(tmp_path / "here")
    assert call("train", "d.npy", "--steps", 1, "--T", 2, *QUICK, "--out", tmp_path / "run") == 0
    monkeypatch.chdir(tmp_path / "there")
    assert call("train", "--resume", tmp_path / "run", "--steps", 2) == 0
    assert call("evaluate", tmp_path / "run", "--count", 10) == 0


# ---- data by path


def write_idx(path, array, **header):
    sizes = header.get("sizes", array.shape)
    magic = bytes([0, 0, 8, array.ndim])
    content = magic + struct.pack(f">{len(sizes)}I", *sizes) + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def colour_pictures(folder):
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(12):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / f"{i}.png")
    return folder


def idx_folder(folder):
    folder.mkdir()
    rng = np.random.default_rng(0)
    write_idx(folder / "train-images-idx3-ubyte.gz", rng.integers(0, 256, (30, 8, 8), np.uint8))
    write_idx(folder / "train-labels-idx1-ubyte", rng.integers(0, 3, 30).astype(np.uint8))
    return folder


def npz_of_four_channels(path):
    np.savez(path.with_suffix(".npz"), images=np.random.default_rng(0).random((20, 4, 4, 4)))
    return path.with_suffix(".npz")


def npy_of_two_channels(path):
    np.save(path.with_suffix(".npy"), np.random.default_rng(0).random((20, 4, 4, 2)))
    return path.with_suffix(".npy")


def npy_of_points_in_space(path):
    np.save(path.with_suffix(".npy"), np.random.default_rng(0).standard_normal((20, 5)))
    return path.with_suffix(".npy")


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (colour_pictures, (8, 8, 3)),
        (idx_folder, (8, 8, 1)),
        (npz_of_four_channels, (4, 4, 4)),
        (npy_of_two_channels, (4, 4, 2)),
        (npy_of_points_in_space, (5,)),
    ],
)
def test_data_by_path_trains_and_samples_with_the_same_commands(tmp_path, make, shape):
    source, folder = make(tmp_path / "data"), tmp_path / "run"
    assert call("train", source, "--steps", 2, "--T", 2, *QUICK, "--out", folder) == 0
    assert call("sample", folder, "--count", 3, "--out", tmp_path / "s.npz") == 0
    with np.load(tmp_path / "s.npz") as archive:
        assert archive["samples"].shape == (3, *shape)


MNIST = Path(os.environ.get("MINIDIFF_DATA", "")) / "mnist"


@pytest.mark.skipif("MINIDIFF_DATA" not in os.environ, reason="MINIDIFF_DATA names no folder of data")
def test_mnist_trains_and_samples_with_the_same_commands(tmp_path):
    folder = tmp_path / "run"
    assert call("train", MNIST, "--steps", 2, "--T", 2, *QUICK, "--out", folder) == 0
    assert call("sample", folder, "--count", 4, "--out", tmp_path / "s.npz") == 0
    with np.load(tmp_path / "s.npz") as archive:
        samples = archive["samples"]
    assert samples.shape == (4, 28, 28, 1) and samples.dtype == np.float32
    assert 0 <= samples.min() < 100 < samples.max() <= 255


# ---- sample


def test_an_npz_holds_float32_samples_in_the_data_s_own_units(of_points, of_digits, tmp_path):
    for folder, shape in ((of_points, (64, 2)), (of_digits, (64, 8, 8, 1))):
        assert call("sample", folder, "--out", tmp_path / "s.npz") == 0
        with np.load(tmp_path / "s.npz") as archive:
            assert archive.files == ["samples"]
            samples = archive["samples"]
        assert samples.shape == shape and samples.dtype == np.float32
        if folder is of_digits:
            assert 0 <= samples.min() < 4 and 12 < samples.max() <= 16
        else:
            units = Run.open(folder).units
            x = generation.generate(
                Run.open(folder).denoiser(), (2,), 64, np.random.default_rng(0), generation.Recipe()
            )
            np.testing.assert_array_equal(samples, units.to_units(x))


def test_pictures_and_animations_open_and_have_a_frame_for_each_step(of_points, of_digits, tmp_path):
    for folder in (of_points, of_digits):
        assert call("sample", folder, "--count", 9, "--steps", 3, "--out", tmp_path / "s.gif") == 0
        assert call("sample", folder, "--count", 9, "--steps", 3, "--out", tmp_path / "s.png") == 0
        with Image.open(tmp_path / "s.gif") as gif, Image.open(tmp_path / "s.png") as png:
            assert gif.format == "GIF" and gif.n_frames == 4
            assert png.format == "PNG" and png.size == gif.size


def test_without_out_the_samples_picture_of_the_run_is_renewed(run, capsys):
    (run / "samples.png").unlink()
    assert call("sample", run, "--count", 5) == 0
    assert f"wrote {run / 'samples.png'}" in capsys.readouterr().out
    assert (run / "samples.png").exists()


@pytest.mark.parametrize(
    "how",
    [
        ["--sampler", "ddpm"],
        ["--sampler", "ddpm", "--steps", 2],
        ["--sampler", "ddpm", "--variance", "large"],
        ["--sampler", "ddim", "--steps", 3, "--spacing", "leading", "--eta", 0.5],
        ["--eta", 1, "--sigma-hat", "--spacing", "karras"],
        ["--sampler", "plms", "--steps", 4],
        ["--sampler", "dpmpp_2m", "--sde", "--spacing", "logsnr"],
        ["--sampler", "heun", "--churn", 3],
        ["--sampler", "unipc", "--order", 3],
        ["--sampler", "unipc", "--no-corrector"],
        ["--sampler", "pc", "--corrections", 2, "--r", 0.1],
    ],
    ids=str,
)
def test_the_same_seed_gives_the_same_samples_and_the_first_n_whatever_the_count(of_points, tmp_path, how):
    def samples(*words):
        assert call("sample", of_points, *how, *words, "--out", tmp_path / "s.npz") == 0
        return np.load(tmp_path / "s.npz")["samples"]

    many = samples("--count", 150)
    np.testing.assert_array_equal(samples("--count", 150), many)
    np.testing.assert_array_equal(samples("--count", 2), many[:2])
    assert (samples("--count", 150, "--seed", 1) != many).all()


@pytest.mark.parametrize(
    ("words", "recipe"),
    [
        (["--sampler", "ddpm", "--variance", "large"], ("ddpm", {"variance": "large"})),
        (["--eta", 1, "--sigma-hat"], ("ddim", {"eta": 1.0, "sigma_hat": True})),
        (["--sampler", "dpmpp_2m", "--sde"], ("dpmpp_2m", {"sde": True})),
        (["--sampler", "heun", "--churn", 3], ("heun", {"churn": 3.0})),
        (["--sampler", "unipc", "--order", 3, "--no-corrector"], ("unipc", {"order": 3, "corrector": False})),
        (["--sampler", "pc", "--corrections", 2, "--r", 0.1], ("pc", {"corrections": 2, "r": 0.1})),
    ],
    ids=str,
)
def test_the_words_for_a_sampler_s_options_are_what_it_is_given(of_points, tmp_path, words, recipe):
    assert call("sample", of_points, *words, "--count", 9, "--out", tmp_path / "s.npz") == 0
    said = generation.Recipe(recipe[0], options=recipe[1])
    run = Run.open(of_points)
    expected = generation.generate(run.denoiser(), (2,), 9, np.random.default_rng(0), said)
    np.testing.assert_array_equal(np.load(tmp_path / "s.npz")["samples"], run.units.to_units(expected))
    plain = generation.generate(
        run.denoiser(), (2,), 9, np.random.default_rng(0), generation.Recipe(recipe[0])
    )
    assert (plain != expected).any()


def test_every_option_that_a_sampler_takes_has_its_words():
    taken = {option for options in generation.OPTIONS.values() for option in options}
    assert cli.SAMPLER_OPTIONS.keys() == taken


def test_a_picture_of_a_single_point_is_drawn_without_complaint(of_points, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert call("sample", of_points, "--count", 1, "--out", tmp_path / "s.png") == 0


def test_a_class_is_drawn_and_guidance_leads_away_from_the_others(by_class, tmp_path):
    assert Run.open(by_class).settings.label_drop == presets.LABEL_DROP

    def samples(*words):
        assert call("sample", by_class, "--count", 4, *words, "--out", tmp_path / "s.npz") == 0
        return np.load(tmp_path / "s.npz")["samples"]

    any_class, seven = samples(), samples("--class", 7)
    np.testing.assert_array_equal(samples("--class", 7, "--guidance", 1), seven)
    np.testing.assert_array_equal(samples("--class", 7, "--guidance", 0), any_class)
    assert (samples("--class", 7, "--guidance", 2) != seven).any() and (seven != any_class).any()


def test_what_is_learned_and_how_is_a_matter_of_words(data, tmp_path):
    words = ["--prediction", "v", "--weighting", "min-snr", "--times", "loss-aware", "--learn-variance"]
    words += ["--zero-terminal-snr", "--schedule", "cosine", "--T", 7, *QUICK]
    assert call("train", data, "--steps", 2, *words, "--out", tmp_path / "run") == 0
    run = Run.open(tmp_path / "run")
    settings = run.settings
    assert (settings.prediction, settings.weighting, settings.times) == ("v", "min-snr", "loss-aware")
    assert run.schedule.alpha_bar[-1] == 0 and run.denoiser().prediction == "v"
    assert run.denoiser()(np.ones((2, 2)), 7).log_variance.shape == (2, 2)
    assert call("train", "--resume", tmp_path / "run", "--steps", 4) == 0


def test_sampling_leaves_the_run_as_it_is(of_points, tmp_path):
    before = contents(of_points)
    assert call("sample", of_points, "--out", tmp_path / "s.npz") == 0
    assert call("info", of_points) == 0
    assert contents(of_points) == before


# ---- the other commands


def test_evaluate_prints_a_table_and_writes_json(run, capsys):
    assert call("evaluate", run, "--count", 40, "--sampler", "ddpm", "--steps", 4) == 0
    out = capsys.readouterr().out
    assert "sliced wasserstein" in out and "real data" in out
    report = json.loads((run / "evaluation.json").read_text())
    assert (report["step"], report["count"], report["sampler"], report["steps"]) == (12, 40, "ddpm", 4)
    assert report["sliced_wasserstein"] > 0 and report["sliced_wasserstein_floor"] > 0
    assert "bits per dim" in out and "±" in out and report["bits_per_dim_error"] > 0
    assert (run / "rate_distortion.png").exists()


@pytest.mark.parametrize(
    ("words", "label", "guidance"),
    [([], None, 1.0), (["--class", "7", "--guidance", "2"], 7, 2.0), (["--guidance", "0"], ..., ...)],
    ids=str,
)
def test_a_run_with_classes_is_measured_by_the_classes_that_are_asked_for(
    words, label, guidance, by_class, tmp_path, monkeypatch, capsys
):
    """With none named as often as the data has them; with --guidance 0 none at all."""
    monkeypatch.setattr(classifier, "fit", functools.partial(classifier.fit, steps=20))
    run = Path(shutil.copytree(by_class, tmp_path / "run"))
    assert call("evaluate", run, "--count", 30, "--steps", 2, *words) == 0
    report, out = json.loads((run / "evaluation.json").read_text()), capsys.readouterr().out
    assert (report.get("class", ...), report.get("guidance", ...)) == (label, guidance)
    assert ("seen as asked" in out) == ("seen_as_asked" in report) == (label is not ...)
    assert call("evaluate", run, "--count", 30, "--compare", "ddim", *words) == 0
    said = {None: "30 samples of the data's classes by", 7: "30 samples of class 7 by", ...: "30 samples by"}
    assert said[label] in capsys.readouterr().out


@pytest.mark.parametrize("named", [[], ["ddpm", "heun"]], ids=str)
def test_samplers_are_compared_by_evaluations(run, named, capsys):
    assert call("evaluate", run, "--count", 40, "--compare", *named) == 0
    out = capsys.readouterr().out
    figures = json.loads((run / "comparison.json").read_text())
    assert list(figures["samplers"]) == (named or list(generation.OPTIONS))
    assert figures["distance"] == "sliced_wasserstein" and figures["floor"] > 0
    for name, found in figures["samplers"].items():
        assert list(found) == ["5"] and all(value > 0 for value in found.values())  # T is 5
        assert re.search(rf"{name} +{found['5']:.4f}\n +± +{figures['errors'][name]['5']:.4f}", out)
    with Image.open(run / "comparison.png") as picture:
        assert picture.size[0] > 100


def test_info_says_what_a_run_is(of_points, data, capsys):
    assert call("info", of_points) == 0
    out = capsys.readouterr().out
    for word in ("12 steps", str(data), "linear", "mlp", "parameters"):
        assert word in out


def test_data_lists_every_name(capsys):
    assert call("data") == 0
    out = capsys.readouterr().out
    assert all(name in out for name in datasets.NAMES)


def test_quickstart_trains_draws_and_measures(tmp_path, monkeypatch, capsys):
    tiny = presets.network(datasets.load("digits"), "unet", 4, width=8)
    settings = commands.Settings("digits", tiny, {"name": "linear", "T": 4}, batch=8)
    monkeypatch.setattr(presets, "quickstart", lambda data: settings)
    monkeypatch.setattr(presets, "QUICKSTART_STEPS", 2)
    monkeypatch.setattr(classifier, "fit", functools.partial(classifier.fit, steps=20))
    assert call("quickstart", "--out", tmp_path / "run") == 0
    assert "frechet distance" in capsys.readouterr().out
    assert Run.open(tmp_path / "run").step == 2
    report = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert report["count"] == 1000 and "frechet_distance_floor" in report
    assert call("train", "--resume", tmp_path / "run", "--steps", 3) == 0  # it is an ordinary run


def test_help_is_there_for_each_command(capsys):
    for words in ([], ["train"], ["sample"], ["evaluate"], ["info"], ["data"], ["quickstart"], ["inpaint"]):
        assert call(*words, "--help") == 0
        assert "usage: minidiff" in capsys.readouterr().out


def test_a_console_that_knows_no_greek_is_no_reason_to_fail(data, tmp_path, monkeypatch):
    plain = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", plain)
    assert call("train", data, "--steps", 1, "--T", 2, *QUICK, "--out", tmp_path / "run") == 0


# ---- images changed


def held_out(count=8):
    return datasets.load("digits").held_out[:count]


def saved(path):
    with np.load(path) as archive:
        return {name: archive[name] for name in archive.files}


def test_invert_finds_a_noise_that_comes_back(of_digits, tmp_path, capsys):
    assert call("invert", of_digits, "--steps", 20, "--out", tmp_path / "n.npz") == 0
    assert "8 images, 20 steps" in capsys.readouterr().out
    found = saved(tmp_path / "n.npz")
    assert found["noise"].shape == found["samples"].shape == (8, 8, 8, 1)
    assert 0.3 < found["noise"].std() < 3 and found["samples"].max() <= 16


def test_interpolate_goes_from_one_image_to_another_in_either_way(of_digits, tmp_path):
    for words in ([], ["--noise", 5], ["--noise", 20]):
        words += ["--between", 3, 7, "--count", 5, "--steps", 20, "--out", tmp_path / "i.npz"]
        assert call("interpolate", of_digits, *words) == 0
        assert saved(tmp_path / "i.npz")["samples"].shape == (5, 8, 8, 1)


@pytest.mark.parametrize("hide", ["top", "bottom", "left", "right", "middle"])
def test_inpaint_changes_what_is_hidden_and_nothing_else(hide, by_class, tmp_path):
    words = ["--hide", hide, "--count", 3, "--steps", 4, "--class", 7, "--guidance", 2]
    assert call("inpaint", by_class, *words, "--out", tmp_path / "p.npz") == 0
    hidden = np.zeros((8, 8), bool)
    rows = {"top": slice(0, 4), "bottom": slice(4, 8), "middle": slice(2, 6)}
    columns = {"left": slice(0, 4), "right": slice(4, 8), "middle": slice(2, 6)}
    hidden[rows.get(hide, slice(None)), columns.get(hide, slice(None))] = True
    samples, levels = (
        saved(tmp_path / "p.npz")["samples"],
        datasets.load("digits").units.to_units(held_out(3)),
    )
    np.testing.assert_array_equal(samples[:, ~hidden], levels[:, ~hidden])
    assert (samples[:, hidden] != levels[:, hidden]).mean() > 0.5


def test_inpaint_takes_a_mask_of_its_own(of_digits, tmp_path):
    kept = np.zeros((8, 8), bool)
    kept[3:5] = True
    np.save(tmp_path / "m.npy", kept)
    Image.fromarray(255 * kept.astype(np.uint8)).save(tmp_path / "m.png")
    results = []
    for name in ("m.npy", "m.png"):
        words = ["--mask", tmp_path / name, "--steps", 3, "--out", tmp_path / "p.npz"]
        assert call("inpaint", of_digits, *words) == 0
        results.append(saved(tmp_path / "p.npz")["samples"])
    np.testing.assert_array_equal(*results)
    np.testing.assert_array_equal(
        results[0][:, kept], datasets.load("digits").units.to_units(held_out())[:, kept]
    )


def test_images_may_come_from_a_file_or_a_folder(of_digits, tmp_path):
    levels = datasets.load("digits").units.to_units(held_out(2))
    np.savez(tmp_path / "a.npz", samples=levels)
    np.save(tmp_path / "a.npy", levels[..., 0])
    (tmp_path / "folder").mkdir()
    for i, image in enumerate(levels):
        pixels = np.round(image[..., 0] * 255 / 16).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "folder" / f"{i}.png")
    for name, count in (("a.npz", 2), ("a.npy", 2), ("folder", 2), ("folder/0.png", 1)):
        words = ["--from", tmp_path / name, "--hide", "left", "--steps", 2, "--resample", 1]
        assert call("inpaint", of_digits, *words, "--out", tmp_path / "p.npz") == 0
        samples = saved(tmp_path / "p.npz")["samples"]
        np.testing.assert_allclose(samples[:, :, 4:], levels[:count, :, 4:], atol=0.04)


@pytest.mark.parametrize(
    ("command", "name"),
    [("invert", "inverted.png"), ("interpolate", "interpolation.png"), ("inpaint", "inpainted.png")],
)
def test_without_out_a_picture_is_laid_into_the_run(command, name, of_digits, tmp_path):
    folder = Path(shutil.copytree(of_digits, tmp_path / "run"))
    assert call(command, folder, "--steps", 2) == 0
    with Image.open(folder / name) as picture:
        assert min(picture.size) > 30


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: np.save(folder / "m.npy", np.ones((7, 8))), "mask of 8 × 8.*7, 8"),
        (lambda folder: np.save(folder / "m.npy", np.ones((8, 8, 1))), "mask of 8 × 8.*8, 8, 1"),
        (lambda folder: np.save(folder / "m.npy", np.full((8, 8), np.nan)), "bools, 0 and 1"),
        (lambda folder: np.save(folder / "m.npy", np.eye(8) / 2), "bools, 0 and 1"),
        (lambda folder: np.save(folder / "m.npy", np.eye(8) - 1), "bools, 0 and 1"),
        (lambda folder: np.save(folder / "m.npy", np.eye(8) + 254), "bools, 0 and 1"),
        (lambda folder: Image.new("L", (9, 9)).save(folder / "m.npy", "PNG"), "NumPy"),
        (lambda folder: None, "no such file"),
    ],
    ids=["another size", "three axes", "nan", "halves", "below 0", "254", "foreign", "missing"],
)
def test_a_mask_that_does_not_fit_ends_with_1_and_one_line(make, said, of_digits, tmp_path, capsys):
    make(tmp_path)
    line = refusal(capsys, 1, "inpaint", of_digits, "--mask", tmp_path / "m.npy", "--out", tmp_path / "p.npz")
    assert re.search(said, line), line
    assert not (tmp_path / "p.npz").exists()


@pytest.mark.parametrize("command", ["invert", "interpolate", "inpaint"])
@pytest.mark.parametrize(
    ("images", "said"),
    [
        (np.ones((2, 7, 7)), r"\(8, 8, 1\), got \(7, 7, 1\)"),
        (np.ones((2, 8, 8, 3)), r"\(8, 8, 1\), got \(8, 8, 3\)"),
        (np.full((2, 8, 8), 17.0), "range, 0…16, got 17…17"),
        (np.full((2, 8, 8), -1.0), "range, 0…16, got -1…-1"),
        (np.full((2, 8, 8), np.nan), "range, 0…16, got nan"),
        (np.ones((0, 8, 8)), r"samples in it, got one of the shape \(0, 8, 8\)"),
        (np.array(["a", "b"]), "real numbers"),
        (None, "no such file"),
    ],
    ids=["size", "channels", "above", "below", "nan", "empty", "words", "missing"],
)
def test_images_that_do_not_fit_end_with_1_and_one_line(command, images, said, of_digits, tmp_path, capsys):
    if images is not None:
        np.save(tmp_path / "a.npy", images)
    line = refusal(capsys, 1, command, of_digits, "--from", tmp_path / "a.npy", "--out", tmp_path / "p.npz")
    assert re.search(said, line), line
    assert not (tmp_path / "p.npz").exists()


# ---- words that make no sense: status 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "nonesuch"], "nonesuch.*mixture1d"),
        (["train"], "data"),
        (["train", "DATA", "--steps", "0"], "at least 1"),
        (["train", "DATA", "--steps", "many"], "whole number.*many"),
        (["train", "DATA", "--steps", "1.5"], "whole number.*1.5"),
        (["train", "DATA", "--minutes", "0"], "above 0"),
        (["train", "DATA", "--minutes", "soon"], "number.*soon"),
        (["train", "DATA", "--lr", "nan"], "above 0"),
        (["train", "DATA", "--lr", "inf"], "above 0"),
        (["train", "DATA", "--batch", "-3"], "at least 1"),
        (["train", "DATA", "--seed", "-1"], "-1"),
        (["train", "DATA", "--net", "transformer"], "transformer.*mlp.*unet"),
        (["train", "DATA", "--net", "unet"], "square images"),
        (["train", "digits", "--net", "mlp"], "points"),
        (["train", "digits", "--width", "6"], "6"),
        (["train", "DATA", "--schedule", "sudden"], "sudden.*linear"),
        (["train", "DATA", "--beta-end", "1.5"], r"\(0, 1\)"),
        (["train", "DATA", "--beta-start", "0"], r"\(0, 1\)"),
        (["train", "DATA", "--beta-end", "nan"], "nan"),
        (["train", "DATA", "--schedule", "cosine", "--beta-end", "0.1"], "cosine.*beta.end"),
        (["train", "DATA", "--times", "sometimes"], "sometimes.*antithetic"),
        (["train", "DATA", "--mood", "good"], "--mood"),
        (["train", "DATA", "--classes"], "no labels"),
        (["train", "DATA", "--prediction", "noise"], "noise.*eps.*x0.*v"),
        (["train", "DATA", "--weighting", "heavy"], "heavy.*min-snr"),
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
        (["interpolate", "CLASSES", "--between", "0", "9999"], "not 9999"),
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
        (["sample", "RUN", "--sampler", "heun", "--eta", "0.5"], "heun takes no eta.*ddim"),
        (["sample", "RUN", "--churn", "1"], "ddim takes no churn.*heun"),
        (["sample", "RUN", "--sampler", "heun", "--churn", "-1"], "churn"),
        (["sample", "RUN", "--sampler", "unipc", "--order", "4"], "4"),
        (["sample", "RUN", "--sampler", "pc", "--r", "0"], "r > 0"),
        (["sample", "RUN", "--sampler", "pc", "--corrections", "-2"], "corrections"),
        (["sample", "RUN", "--sampler", "ddpm", "--variance", "medium"], "medium.*learned"),
        (["sample", "RUN", "--sampler", "ddpm", "--variance", "learned"], "learned no variance"),
        (["evaluate", "RUN", "--sampler", "ddpm", "--variance", "learned"], "learned no variance"),
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
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_words_that_make_no_sense_end_with_2_and_one_line(
    words, said, run, by_class, data, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    before = contents(tmp_path)
    line = refusal(
        capsys, 2, *[{"DATA": data, "RUN": run, "CLASSES": by_class}.get(word, word) for word in words]
    )
    assert re.search(said, line), line
    assert contents(tmp_path) == before


# ---- what cannot be done: status 1


def missing(folder):
    return folder / "none.npy"


def file_with(name, content):
    def make(folder):
        (folder / name).write_bytes(content)
        return folder / name

    return make


def empty_folder(folder):
    (folder / "empty").mkdir()
    return folder / "empty"


def truncated_npy(folder):
    np.save(folder / "a.npy", np.ones((9, 2)))
    os.truncate(folder / "a.npy", 200)
    return folder / "a.npy"


def truncated_npz(folder):
    np.savez(folder / "a.npz", images=np.random.default_rng(0).random((9, 4, 4)))
    os.truncate(folder / "a.npz", 400)
    return folder / "a.npz"


def gz_that_ends_early(folder):
    path = write_idx(
        folder / "images-idx3-ubyte.gz", np.random.default_rng(0).integers(0, 256, (9, 8, 8), np.uint8)
    )
    os.truncate(path, path.stat().st_size // 2)
    return path


def idx_that_lies(*sizes):
    def make(folder):
        return write_idx(folder / "images-idx3-ubyte", np.ones((9, 8, 8), np.uint8), sizes=sizes)

    return make


def nan_points(folder):
    np.save(folder / "a.npy", np.array([[1.0], [np.nan], [2.0]]))
    return folder / "a.npy"


def images_of_unequal_size(folder):
    (folder / "p").mkdir()
    for i in (4, 5):
        Image.fromarray(np.zeros((i, i), np.uint8)).save(folder / "p" / f"{i}.png")
    return folder / "p"


@pytest.mark.parametrize(
    "make",
    [
        missing,
        empty_folder,
        file_with("empty.npy", b""),
        file_with("notes.txt", b"hello, this is no data at all"),
        file_with("a.npy", b"\x93NUMPY\x01\x00 garbage"),
        truncated_npy,
        truncated_npz,
        gz_that_ends_early,
        idx_that_lies(10, 8, 8),
        idx_that_lies(8, 8, 8),
        idx_that_lies(2**32 - 1, 2**32 - 1, 2**32 - 1),
        nan_points,
        images_of_unequal_size,
    ],
    ids=[
        "missing",
        "empty folder",
        "empty",
        "foreign",
        "garbage",
        "cut npy",
        "cut npz",
        "cut gz",
        "idx of fewer",
        "idx of more",
        "idx of far fewer",
        "nan",
        "unequal",
    ],
)
def test_data_that_cannot_be_used_ends_with_1_one_line_and_no_run(make, tmp_path, capsys):
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


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: words[0])
def test_where_there_is_no_run_every_command_says_so(command, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    before = contents(tmp_path)
    for path in (tmp_path / "none", tmp_path, tmp_path / "file"):
        assert "no run" in refusal(capsys, 1, *command, path)
    assert contents(tmp_path) == before


def flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def of_another_version(path):
    arrays, facts = checkpoints.read(path)
    del facts["version"]
    with pytest.MonkeyPatch.context() as later:
        later.setattr(checkpoints, "VERSION", 99)
        checkpoints.write(path, arrays, facts)


def of_wrong_shapes(path):
    arrays, facts = checkpoints.read(path)
    arrays["average/last.w"] = arrays["parameters/last.w"] = np.zeros((3, 3), np.float32)
    checkpoints.write(path, arrays, facts)


def of_something_else(path):
    checkpoints.write(path, {"x": np.zeros(3)}, {"mood": "good"})


HARMS = {
    "a flipped bit": flipped,
    "cut": lambda path: os.truncate(path, 1000),
    "empty": lambda path: os.truncate(path, 0),
    "foreign": lambda path: Image.new("L", (9, 9)).save(path, "PNG"),
    "a plain npz": lambda path: np.savez(path, samples=np.zeros(3)),
    "version 99": of_another_version,
    "wrong shapes": of_wrong_shapes,
    "no run's": of_something_else,
}


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: words[0])
def test_a_checkpoint_that_cannot_be_used_ends_with_1_and_one_line(command, harm, run, capsys):
    harm(run / "checkpoint.npz")
    before = contents(run)
    line = refusal(capsys, 1, *command, run)
    assert "checkpoint" in line
    assert contents(run) == before


def test_an_output_that_cannot_be_is_refused_and_nothing_is_harmed(run, data, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    before = contents(tmp_path)
    for out in (run, tmp_path / "file", tmp_path / "file" / "run", tmp_path):
        assert str(out) in refusal(capsys, 1, "train", data, "--steps", 1, "--out", out)
    for out in (tmp_path / "none" / "s.npz", tmp_path / "file" / "s.png", tmp_path / "none" / "s.gif"):
        assert str(out.parent) in refusal(capsys, 1, "sample", run, "--out", out)
    assert contents(tmp_path) == before


def test_quickstart_into_a_folder_that_is_taken_is_refused_before_anything_is_trained(run, capsys):
    before = contents(run)
    assert "not empty" in refusal(capsys, 1, "quickstart", "--out", run)
    assert contents(run) == before


def test_a_loss_that_turns_nan_ends_with_1_and_keeps_the_last_checkpoint(data, tmp_path, capsys):
    folder = tmp_path / "run"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the one line says it all
        assert call("train", data, "--steps", 99, "--T", 3, *QUICK, "--lr", "1e30", "--out", folder) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("minidiff: step ") and "checkpoint of step 0" in last
    assert Run.open(folder).step == 0
    assert call("sample", folder, "--out", tmp_path / "s.npz") == 0


def test_on_a_terminal_the_complaint_has_a_line_of_its_own(data, tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    with np.errstate(all="ignore"):
        words = ["--steps", 99, "--T", 3, *QUICK, "--lr", "1e30", "--out", tmp_path / "run"]
        assert call("train", data, *words) == 1
    assert sys.stderr.getvalue().splitlines()[-1].startswith("minidiff: ")


# ---- interrupted


def words_to_go_on(out):
    """The command that an interrupted run told, as a shell would take it apart."""
    words = shlex.split(out.partition("go on with: ")[2])
    assert words[:3] == ["minidiff", "train", "--resume"], out
    return words[1:]


@pytest.mark.parametrize("limit", [["--steps", "30"], ["--minutes", "0.002"], []], ids=str)
def test_ctrl_c_finishes_the_step_saves_and_tells_a_command_that_works(
    limit, data, tmp_path, monkeypatch, capsys
):
    class Interrupting(commands.Progress):
        def update(self, done, note=""):
            if done == 4:
                signal.raise_signal(signal.SIGINT)

    folder = tmp_path / "a run"
    monkeypatch.setitem(presets.STEPS, "mlp", 30)
    monkeypatch.setattr(commands, "Progress", Interrupting)
    before = signal.getsignal(signal.SIGINT)
    words = ["--T", 2, *QUICK, *(["--minutes", "9"] if "--minutes" in limit else limit), "--out", folder]
    assert call("train", data, *words) == 130
    assert signal.getsignal(signal.SIGINT) is before
    assert Run.open(folder).step == 4
    monkeypatch.undo()
    words = words_to_go_on(capsys.readouterr().out)
    if "--minutes" in limit:
        words[-1] = str(float(words[-1]) / 4500)  # nobody waits nine minutes here
    assert call(*words) == 0
    assert Run.open(folder).step > 4 if "--minutes" in limit else Run.open(folder).step == 30


def started(data, folder):
    """A process that trains for long and has made its first step."""
    words = ["train", data, "--steps", 10**6, "--T", 2, *QUICK, "--out", folder]
    process = subprocess.Popen(
        [sys.executable, "-m", "minidiff", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr.readline().startswith("step 1/1000000")
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_from_outside_finishes_the_step_and_saves(number, data, tmp_path):
    process = started(data, tmp_path / "run")
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err
    *words, steps = words_to_go_on(out)
    made = Run.open(tmp_path / "run").step
    assert made >= 1 and f"step {made}, saved" in out and steps == "1000000"
    assert call(*words, made + 1) == 0
    assert Run.open(tmp_path / "run").step == made + 1


def test_kill_9_leaves_a_checkpoint_that_goes_on(data, tmp_path):
    folder = tmp_path / "run"
    process = started(data, folder)
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
