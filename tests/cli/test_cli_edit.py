"""`minidiff invert`, `interpolate` and `inpaint`: what a run does with given images."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import arrays_in, call, refusal
from data_files import write_png
from PIL import Image, ImageOps

from minidiff import datasets

COMMANDS = ("invert", "interpolate", "inpaint")


def held_out_levels(count=8):
    """The first held-out digits in their own units, 0…16."""
    digits = datasets.load("digits")
    return digits.units.to_units(digits.held_out[:count])


def test_invert_writes_the_noise_and_its_reconstruction(digits_run, tmp_path, capsys):
    assert call("invert", digits_run, "--steps", 20, "--out", tmp_path / "n.npz") == 0
    assert "8 images, 20 steps" in capsys.readouterr().out
    found = arrays_in(tmp_path / "n.npz")
    assert found["noise"].shape == found["samples"].shape == (8, 8, 8, 1)
    assert 0.3 < found["noise"].std() < 3 and found["samples"].max() <= 16


def test_interpolate_by_inversion_and_by_noising(digits_run, tmp_path):
    for options in ([], ["--noise", 5], ["--noise", 20]):
        options += ["--between", 3, 7, "--count", 5, "--steps", 20, "--out", tmp_path / "i.npz"]
        assert call("interpolate", digits_run, *options) == 0
        assert arrays_in(tmp_path / "i.npz")["samples"].shape == (5, 8, 8, 1)


@pytest.mark.parametrize("hide", ["top", "bottom", "left", "right", "middle"])
def test_inpaint_changes_the_hidden_region_and_nothing_else(hide, class_run, tmp_path):
    options = ["--hide", hide, "--count", 3, "--steps", 4, "--class", 7, "--guidance", 2]
    assert call("inpaint", class_run, *options, "--out", tmp_path / "p.npz") == 0
    hidden = np.zeros((8, 8), bool)
    rows = {"top": slice(0, 4), "bottom": slice(4, 8), "middle": slice(2, 6)}
    columns = {"left": slice(0, 4), "right": slice(4, 8), "middle": slice(2, 6)}
    hidden[rows.get(hide, slice(None)), columns.get(hide, slice(None))] = True
    samples, levels = arrays_in(tmp_path / "p.npz")["samples"], held_out_levels(3)
    np.testing.assert_array_equal(samples[:, ~hidden], levels[:, ~hidden])
    assert (samples[:, hidden] != levels[:, hidden]).mean() > 0.5


def test_inpaint_takes_a_mask_as_an_array_or_as_an_image(digits_run, tmp_path):
    kept = np.zeros((8, 8), bool)
    kept[3:5] = True
    np.save(tmp_path / "m.npy", kept)
    write_png(tmp_path / "m.png", 255 * kept.astype(np.uint8))
    results = []
    for name in ("m.npy", "m.png"):
        options = ["--mask", tmp_path / name, "--steps", 3, "--out", tmp_path / "p.npz"]
        assert call("inpaint", digits_run, *options) == 0
        results.append(arrays_in(tmp_path / "p.npz")["samples"])
    np.testing.assert_array_equal(*results)
    np.testing.assert_array_equal(results[0][:, kept], held_out_levels()[:, kept])


def test_images_are_read_from_a_file_or_a_folder(digits_run, tmp_path):
    levels = held_out_levels(2)
    np.savez(tmp_path / "a.npz", samples=levels)
    np.save(tmp_path / "a.npy", levels[..., 0])
    for i, image in enumerate(levels):
        write_png(tmp_path / "folder" / f"{i}.png", np.round(image[..., 0] * 255 / 16).astype(np.uint8))
    for name, count in (("a.npz", 2), ("a.npy", 2), ("folder", 2), ("folder/0.png", 1)):
        options = ["--from", tmp_path / name, "--hide", "left", "--steps", 2, "--resample", 1]
        assert call("inpaint", digits_run, *options, "--out", tmp_path / "p.npz") == 0
        samples = arrays_in(tmp_path / "p.npz")["samples"]
        np.testing.assert_allclose(samples[:, :, 4:], levels[:count, :, 4:], atol=0.04)


def test_photographs_and_a_mask_of_any_size_are_reduced_as_in_training(digits_run, tmp_path):
    rng, kept = np.random.default_rng(0), np.zeros((240, 360), np.uint8)
    kept[:120] = 255
    write_png(tmp_path / "mask.png", kept)
    expected = []
    (tmp_path / "folder").mkdir()
    for name, mode, size in (("a.png", "RGB", (50, 31)), ("b.webp", "RGB", (9, 40)), ("c.bmp", "L", (4, 5))):
        pixels = rng.integers(0, 256, (4, 4, 3) if mode == "RGB" else (4, 4), dtype=np.uint8)
        Image.fromarray(pixels).resize(size).save(tmp_path / "folder" / name, lossless=True)
        with Image.open(tmp_path / "folder" / name) as photograph:
            reduced = ImageOps.fit(photograph.convert("L"), (8, 8), Image.Resampling.LANCZOS)
        expected.append(np.asarray(reduced)[..., None] * (16 / 255))
    options = ["--from", tmp_path / "folder", "--mask", tmp_path / "mask.png", "--steps", 2]
    assert call("inpaint", digits_run, *options, "--out", tmp_path / "p.npz") == 0
    samples = arrays_in(tmp_path / "p.npz")["samples"]
    np.testing.assert_allclose(samples[:, :4], np.stack(expected)[:, :4], atol=1e-5)
    assert (np.abs(samples[:, 4:] - np.stack(expected)[:, 4:]) > 0.01).mean() > 0.5


@pytest.mark.parametrize("command", COMMANDS)
def test_a_damaged_image_is_refused_without_advice_that_the_command_does_not_take(
    command, digits_run, tmp_path, capsys
):
    write_png(tmp_path / "folder" / "a.png", np.zeros((8, 8), np.uint8))
    damaged = tmp_path / "folder" / "b.png"
    damaged.write_bytes((tmp_path / "folder" / "a.png").read_bytes()[:-20])
    for source in (damaged, damaged.parent):
        line = refusal(capsys, 1, command, digits_run, "--from", source, "--out", tmp_path / "p.npz")
        assert "b.png: the image cannot be read" in line and "--skip" not in line


@pytest.mark.parametrize(
    ("command", "name"),
    [("invert", "inverted.png"), ("interpolate", "interpolation.png"), ("inpaint", "inpainted.png")],
)
def test_without_out_a_picture_is_written_into_the_run(command, name, digits_run, tmp_path):
    folder = Path(shutil.copytree(digits_run, tmp_path / "run"))
    assert call(command, folder, "--steps", 2) == 0
    with Image.open(folder / name) as picture:
        assert min(picture.size) > 30


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((7, 8)), "mask of 8 × 8.*7, 8"),
        (np.ones((8, 8, 1)), "mask of 8 × 8.*8, 8, 1"),
        (np.full((8, 8), np.nan), "bools, 0 and 1"),
        (np.eye(8) / 2, "bools, 0 and 1"),
        (np.eye(8) - 1, "bools, 0 and 1"),
        (np.eye(8) + 254, "bools, 0 and 1"),
        (Image.new("L", (9, 9)), "NumPy"),
        (None, "no such file"),
    ],
    ids=["another size", "three axes", "nan", "halves", "below 0", "254", "foreign", "missing"],
)
def test_a_mask_that_does_not_fit_is_refused_with_status_1(mask, message, digits_run, tmp_path, capsys):
    path = tmp_path / "m.npy"
    if isinstance(mask, Image.Image):
        mask.save(path, "PNG")
    elif mask is not None:
        np.save(path, mask)
    line = refusal(capsys, 1, "inpaint", digits_run, "--mask", path, "--out", tmp_path / "p.npz")
    assert re.search(message, line), line
    assert not (tmp_path / "p.npz").exists()


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("images", "message"),
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
    ids=["size", "channels", "above", "below", "nan", "empty", "strings", "missing"],
)
def test_images_that_do_not_fit_are_refused_with_status_1(
    command, images, message, digits_run, tmp_path, capsys
):
    if images is not None:
        np.save(tmp_path / "a.npy", images)
    line = refusal(capsys, 1, command, digits_run, "--from", tmp_path / "a.npy", "--out", tmp_path / "p.npz")
    assert re.search(message, line), line
    assert not (tmp_path / "p.npz").exists()
