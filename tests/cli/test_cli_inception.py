"""`minidiff evaluate --inception`: samples, drawn images, statistics that are kept, Ctrl-C and what is refused."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from command_line import QUICK, arrays_in, call, refusal
from PIL import Image

from minidiff import progress
from minidiff.evaluation.inception import BATCH, Inception
from minidiff.runs import data_statistics

WEIGHTS = Path(__file__).parent.parent / "evaluation" / "inception" / "weights.pth"
COUNT = 24


@pytest.fixture(scope="session")
def images_run(tmp_path_factory):
    """3 steps on 40 images, of which 20 are held out, T = 20; its statistics are measured already."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    images = (rng.uniform(0, 200, (60, 1, 1, 3)) + rng.uniform(0, 55, (60, 8, 8, 3))).astype(np.uint8)
    np.savez(folder / "data.npz", x_train=images[:36], x_test=images[36:])
    run = folder / "run"
    assert call("train", folder / "data.npz", *QUICK, "--steps", 3, "--T", 20, "--out", run) == 0
    assert call("evaluate", run, "--inception", WEIGHTS, "--count", COUNT, "--steps", 1) == 0
    assert call("sample", run, "--count", COUNT, "--steps", 1, "--out", folder / "samples.npz") == 0
    assert call("sample", run, "--count", COUNT, "--steps", 1, "--out", folder / "drawn") == 0
    return run


@pytest.fixture
def run(images_run, tmp_path):
    return Path(shutil.copytree(images_run, tmp_path / "run"))


def measure(run, *arguments):
    assert call("evaluate", run, "--inception", WEIGHTS, *arguments) == 0
    return json.loads((run / "inception.json").read_text())


def test_samples_are_measured_beside_held_out_images(images_run):
    report = json.loads((images_run / "inception.json").read_text())
    assert (report["count"], report["reference_count"], report["steps"]) == (COUNT, 36, 1)
    for name in ("fid", "kid_times_1000", "inception_score"):
        assert np.isfinite([report[name], report[f"{name}_error"], report[f"{name}_of_held_out"]]).all()
    assert report["fid"] > report["fid_of_held_out"]
    assert "fid extrapolated" in (images_run / "report.html").read_text()


@pytest.mark.parametrize("drawn", ["samples.npz", "drawn"])
def test_drawn_images_have_the_figures_of_the_same_samples(drawn, images_run, run, capsys):
    expected = json.loads((images_run / "inception.json").read_text())
    report = measure(run, "--samples", images_run.parent / drawn)
    for name in ("fid", "kid_times_1000", "inception_score", "fid_error"):
        assert report[name] == pytest.approx(expected[name], rel=1e-6)
    out = capsys.readouterr().out
    assert f"weights {report['weights'][:8]}; those of a fixed picture: mean" in out
    assert f"{COUNT} images in" in out and "±" in out


def test_statistics_of_others_take_the_place_of_those_of_the_data(images_run, run, tmp_path):
    kept = arrays_in(run / "inception_training.npz")
    np.savez(tmp_path / "others.npz", mu=kept["mu"], sigma=kept["sigma"])
    expected = json.loads((images_run / "inception.json").read_text())
    drawn = images_run.parent / "samples.npz"
    report = measure(run, "--samples", drawn, "--reference", tmp_path / "others.npz")
    assert report["fid"] == pytest.approx(expected["fid"], rel=1e-6)
    assert report["kid_times_1000"] is None and report["reference_count"] == 0


def test_the_rate_that_is_shown_is_that_of_the_images_alone(images_run, run, monkeypatch, capsys):
    """By a clock on which a batch takes a second, and all that comes before the first an hour."""
    now = [0.0]

    def takes(owner, name, seconds):
        original = getattr(owner, name)

        def slow(*arguments, **options):
            now[0] += seconds
            return original(*arguments, **options)

        monkeypatch.setattr(owner, name, slow)

    takes(Inception, "features", 1)
    takes(data_statistics, "of_data", 3600)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    measure(run, "--samples", images_run.parent / "drawn")
    assert f"image {COUNT}/{COUNT}  {BATCH}/s" in capsys.readouterr().err


def interrupt_after(monkeypatch, images):
    of_batch, left = Inception.features, iter(range(images // BATCH + 1))  # one for the fixed picture

    def features(self, images):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return of_batch(self, images)

    monkeypatch.setattr(Inception, "features", features)


def test_after_ctrl_c_the_images_measured_so_far_have_figures(images_run, run, monkeypatch, capsys):
    interrupt_after(monkeypatch, images=24)
    drawn = images_run.parent / "drawn"
    np.savez(
        run / "more.npz", images=np.repeat(arrays_in(images_run.parent / "samples.npz")["samples"], 2, 0)
    )
    report = measure(run, "--samples", run / "more.npz")
    assert report["count"] == 24 and "the first 24 of 48 images in" in capsys.readouterr().out
    interrupt_after(monkeypatch, images=8)
    assert call("evaluate", run, "--inception", WEIGHTS, "--samples", drawn) == 130


def test_statistics_are_continued_after_ctrl_c(run, images_run, monkeypatch, capsys):
    expected = arrays_in(run / "inception_training.npz")
    (run / "inception_training.npz").unlink()
    arguments = ("evaluate", run, "--inception", WEIGHTS, "--samples", images_run.parent / "drawn")
    with monkeypatch.context() as patch:
        interrupt_after(patch, images=16)
        assert call(*arguments) == 130
    assert "16 of 36 training images were measured, and are kept" in capsys.readouterr().out
    assert arrays_in(run / "inception_training.npz")["count"] == 16
    with monkeypatch.context() as patch:
        interrupt_after(patch, images=20 + 24)  # those that are missing, and some of those to be measured
        assert call(*arguments) == 0
    found = arrays_in(run / "inception_training.npz")
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-9, atol=1e-12)


def test_damaged_and_other_statistics_are_measured_anew(run, images_run):
    kept = run / "inception_held_out.npz"
    expected = arrays_in(kept)
    kept.write_bytes(b"PK damaged")
    measure(run, "--samples", images_run.parent / "drawn")
    np.testing.assert_array_equal(arrays_in(kept)["mu"], expected["mu"])


def write_images(folder, count, value=None):
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(count):
        pixels = rng.integers(0, 256, (6, 5 + i % 2, 3)) if value is None else np.full((6, 5, 3), value)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    return folder


def test_images_of_several_sizes_are_measured(run, tmp_path):
    assert measure(run, "--samples", write_images(tmp_path / "drawn", 20))["count"] == 20


def test_what_cannot_be_measured_is_refused_in_one_line(run, tmp_path, capsys):
    def refused(*arguments):
        assert call("evaluate", run, *arguments) == 1
        err = [line for line in capsys.readouterr().err.splitlines() if line.startswith("minidiff")]
        assert len(err) == 1
        return err[0]

    few = write_images(tmp_path / "few", 1)
    assert "at least 20 images to measure, got 1" in refused("--inception", WEIGHTS, "--samples", few)
    same = write_images(tmp_path / "same", 21, value=9)
    assert "21 that are all the same" in refused("--inception", WEIGHTS, "--samples", same)
    np.savez(
        tmp_path / "nan.npz",
        np.where(np.arange(24) == 22, np.nan, 1.0)[:, None, None, None] * np.ones((6, 6, 3)),
    )
    assert "nan.npz: image 22 (counted from 0): expected finite" in refused(
        "--inception", WEIGHTS, "--samples", tmp_path / "nan.npz"
    )
    np.savez(tmp_path / "points.npz", np.ones((30, 2)))
    assert "expected images (N, H, W, C)" in refused(
        "--inception", WEIGHTS, "--samples", tmp_path / "points.npz"
    )
    np.savez(tmp_path / "others.npz", mu=np.ones(3), sigma=np.eye(3))
    assert "expected mu (64,) and sigma (64, 64), got (3,)" in refused(
        "--inception", WEIGHTS, "--reference", tmp_path / "others.npz"
    )
    other = tmp_path / "weights.pth"
    other.write_bytes(b"something else")
    assert "weights.pth" in refused("--inception", other)
    assert "no such file" in refused("--inception", tmp_path / "none.pth")
    shutil.copy(run / "checkpoint.npz", tmp_path / "checkpoint.bin")
    assert "checkpoint.bin" in refused("--inception", tmp_path / "checkpoint.bin")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--samples", "drawn"], "--samples needs --inception"),
        (["--reference", "statistics.npz"], "--reference needs --inception"),
        (["--inception", WEIGHTS, "--compare"], "leave out --compare"),
        (["--inception", WEIGHTS, "--class", "0"], "leave out --class"),
    ],
)
def test_options_that_do_not_fit_are_refused(arguments, message, images_run, capsys):
    assert message in refusal(capsys, 2, "evaluate", images_run, *arguments)


def test_points_are_refused(points_run, capsys):
    assert "takes images" in refusal(capsys, 2, "evaluate", points_run, "--inception", WEIGHTS)
