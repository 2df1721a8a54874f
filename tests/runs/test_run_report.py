"""The report of a run: what is in its folder, on one page that works in a browser."""

import html
import json

import numpy as np
import pytest
from browser import CHROMIUM, SIZES, inspected
from PIL import Image
from small_runs import UNET, create, train

from minidiff import Run, datasets
from minidiff.evaluation import tables
from minidiff.runs import pictures, report
from minidiff.runs.previews import Previews

# Each slider is moved: whether it shows the picture at its position, and no other.
SLIDERS = """
  const shown = [...page.querySelectorAll("figure.slider")].map(figure => {
    const range = figure.querySelector("input");
    return [0, range.max].map(value => {
      range.value = value;
      range.dispatchEvent(new view.Event("input"));
      const visible = [...figure.querySelectorAll("div")].flatMap((div, i) => div.hidden ? [] : [i]);
      return visible.length == 1 && visible[0] == value;
    });
  });
  return {shown, images: [...page.images].every(image => image.naturalWidth > 0)};
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run with classes, everything in its folder that there may be."""
    rng = np.random.default_rng(0)
    data = datasets.from_raw("4 × 4 <b>", rng.integers(0, 256, (40, 4, 4), np.uint8), np.arange(40) % 2)
    run = create(tmp_path_factory.mktemp("runs") / "a <run>", data, net=UNET | {"classes": 2})
    for _ in range(3):
        train(run, run.step + 10)
        Previews(run, 1).draw()
    pictures.draw(run)
    figures = {"step": 30, "count": 7, "confidence": 0.5, "confidence_of_held_out": 0.75}
    (run.folder / "evaluation.json").write_text(json.dumps(figures))
    return run


def test_the_report_has_everything_that_is_in_the_folder(trained):
    page = report.write(trained).read_text()
    for text in (
        "a <run>",
        "4 × 4 <b>",
        "after step 10",
        "after step 30",
        "0.7500",
        tables.MEANING["confidence"],
    ):
        assert html.escape(text) in page
    files, previews = 3, 3  # samples.png, classes.png and loss.png
    assert page.count("<img ") == files + previews + frames_of_the_animation(trained)
    assert "refresh" not in page


def frames_of_the_animation(run):
    with Image.open(run.folder / "animation.gif") as animation:
        return min(report.FRAMES, animation.n_frames)


def test_a_run_of_which_nothing_is_drawn_yet_has_a_report_too(run):
    assert "Settings" in report.write(run).read_text()


def test_during_training_the_page_reloads(trained):
    assert 'http-equiv="refresh"' in report.write(trained, training=True).read_text()


def test_the_report_of_an_opened_run_is_that_of_the_trained_one(trained):
    trained.save()
    expected = report.write(trained).read_bytes()
    assert report.write(Run.open(trained.folder)).read_bytes() == expected


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_in_a_browser_sliders_work_and_nothing_is_cut_off(trained, tmp_path, width, height):
    found = inspected(report.write(trained).read_text(), SLIDERS, width, height, tmp_path)
    assert found == {"shown": [[True, True]] * 2, "images": True}
