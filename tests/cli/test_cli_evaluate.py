"""`minidiff evaluate`: a run beside real data, and samplers beside each other."""

import functools
import json
import re
import shutil
from pathlib import Path

import pytest
from command_line import call
from PIL import Image

from minidiff import classifier
from minidiff.diffusion.samplers import SAMPLERS


def test_evaluate_prints_a_table_and_writes_json_and_a_curve(run_copy, capsys):
    assert call("evaluate", run_copy, "--count", 40, "--sampler", "ddpm", "--steps", 4) == 0
    out = capsys.readouterr().out
    assert "sliced wasserstein" in out and "real data" in out
    report = json.loads((run_copy / "evaluation.json").read_text())
    assert (report["step"], report["count"], report["sampler"], report["steps"]) == (12, 40, "ddpm", 4)
    assert report["sliced_wasserstein"] > 0 and report["sliced_wasserstein_floor"] > 0
    assert "bits per dim" in out and "±" in out and report["bits_per_dim_error"] > 0
    assert (run_copy / "rate_distortion.png").exists()


@pytest.mark.parametrize(
    ("arguments", "facts", "title"),
    [
        ([], {"class": None, "guidance": 1.0}, "30 samples of the data's classes"),
        (["--class", "7", "--guidance", "2"], {"class": 7, "guidance": 2.0}, "30 samples of class 7"),
        (["--guidance", "0"], {}, "30 samples"),
    ],
    ids=["as in the data", "one class", "unconditional"],
)
def test_a_run_with_classes_is_measured_by_the_requested_ones(
    arguments, facts, title, class_run, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(classifier, "fit", functools.partial(classifier.fit, steps=20))
    run = Path(shutil.copytree(class_run, tmp_path / "run"))
    assert call("evaluate", run, "--count", 30, "--steps", 2, *arguments) == 0
    report, out = json.loads((run / "evaluation.json").read_text()), capsys.readouterr().out
    assert {name: report[name] for name in ("class", "guidance") if name in report} == facts
    assert f"{title} of {run} " in out
    assert ("classified as requested" in out) == ("classified_as_requested" in report) == bool(facts)
    assert len(report["class_fractions"]) == 10 and sum(report["class_fractions"]) == pytest.approx(
        1, abs=1e-3
    )
    assert call("evaluate", run, "--count", 30, "--compare", "ddim", *arguments) == 0
    assert f"{title} by" in capsys.readouterr().out


@pytest.mark.parametrize("names", [[], ["ddpm", "heun"]], ids=["all", "two"])
def test_samplers_are_compared_at_equal_numbers_of_evaluations(run_copy, names, capsys):
    assert call("evaluate", run_copy, "--count", 40, "--compare", *names) == 0
    out = capsys.readouterr().out
    figures = json.loads((run_copy / "comparison.json").read_text())
    assert list(figures["samplers"]) == (names or list(SAMPLERS))
    assert figures["distance"] == "sliced_wasserstein" and figures["floor"] > 0
    for name, distances in figures["samplers"].items():
        assert list(distances) == ["5"] and all(value > 0 for value in distances.values())  # T is 5
        assert re.search(rf"{name} +{distances['5']:.4f}\n +± +{figures['errors'][name]['5']:.4f}", out)
    with Image.open(run_copy / "comparison.png") as picture:
        assert picture.size[0] > 100
