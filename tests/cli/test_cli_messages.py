"""Messages are one printable line of at most 300 characters, whatever the error says; a sample of all option values."""

import json
import random
import re

import numpy as np
import pytest
from command_line import call, refusal
from data_files import write_png
from hypothesis import given
from hypothesis import strategies as st
from option_values import BEGIN, commands, complaint, options_of, tries

from minidiff import classifier, cli
from minidiff.cli.arguments import Parser, path, positive, whole
from minidiff.cli.output import one_line, write_json
from minidiff.diffusion.samplers import SAMPLERS, Sampler, ddim
from minidiff.runs import Run, Settings
from minidiff.training import ScheduleOptions, TrainingOptions

# ---- one line


@given(st.text(st.characters(codec=None), max_size=2000))
def test_any_text_becomes_one_printable_line_of_at_most_300_characters(text):
    line = one_line(text)
    assert len(line) <= 300 and line.isprintable()
    if len(text) <= 300 and text.isprintable():
        assert line.split() == text.split()


def test_a_long_path_loses_its_middle_and_keeps_both_ends():
    line = one_line(f"minidiff: /begin/{900 * 'x'}/end.npz: no such file or folder")
    assert line.startswith("minidiff: /begin/x") and "…" in line
    assert line.endswith("x/end.npz: no such file or folder")


ERRORS = [
    MemoryError(),
    MemoryError("7 samples need 9 PB"),
    OverflowError("int too big to convert"),
    ZeroDivisionError("division by zero"),
    FloatingPointError("underflow"),
    RuntimeError("Could not determine home directory."),
    RecursionError("maximum recursion depth exceeded"),
    UnicodeEncodeError("utf-8", "a\udcff", 1, 2, "surrogates not allowed"),
    OSError(28, "No space left on device", "a\x1b[31m\n" + 5000 * "b"),
    ValueError(),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_every_kind_of_error_is_one_line_and_status_1(error, monkeypatch, points_run, capsys):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(Run, "open", fail)
    line = refusal(capsys, 1, "info", points_run)
    assert complaint(1, line) == "" and len(line) > len("minidiff: ") + 3


# ---- every option


def test_every_command_is_tried():
    assert set(BEGIN) == set(commands())
    tried = {t.option for t in tries()}
    assert len(tried) == sum(len(options_of(command)) for command in BEGIN)


def sampled():
    """For every option of every command one value, in one of the ways to write it; nothing that trains for long."""
    by_option = {}
    for each in tries():
        by_option.setdefault(each.option, []).append(each)
    choose = random.Random(0).choice
    return [choose(all_) for all_ in by_option.values()]


@pytest.mark.parametrize("tried", sampled(), ids=lambda tried: f"{tried.option}={tried.value}")
def test_a_bad_value_of_any_option_ends_in_one_line_or_works(
    tried, points_run, digits_run, class_run, points_file, without_pictures, tmp_path, monkeypatch, capsys
):
    def short_training(run, steps=None, minutes=None, preview=1.0):
        for _ in range(2):
            run.trainer.advance()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Run, "train", short_training)
    monkeypatch.setattr(cli.train, "evaluate_run", lambda *arguments: 0)
    monkeypatch.setattr(classifier, "fit", lambda *arguments: pytest.skip("trains a classifier"))
    paths = {"DIGITS": "digits", "POINTS": points_file}
    paths |= {"RUN": digits_run, "CLASSES": class_run, "POINTS_RUN": points_run}
    capsys.readouterr()
    status = call(*[paths.get(argument, argument) for argument in tried.arguments])
    assert complaint(status, capsys.readouterr().err) == ""


@pytest.mark.parametrize("text", ["-1e-3", "-1E+300", "-.5", "-0.", "-inf", "-nan", "-2.5e7"])
def test_a_negative_number_is_a_value_and_no_option(text):
    parser = Parser()
    parser.add_argument("--x", type=float)
    assert np.array_equal(parser.parse_args(["--x", text]).x, float(text), equal_nan=True)


@pytest.mark.parametrize("text", ["", "~nosuchuser/x", "a\0b"])
def test_what_is_no_path_is_refused_as_such(text, points_run, capsys):
    for arguments in (["train", text], ["sample", text], ["sample", points_run, "--out", text]):
        assert "expected a path" in refusal(capsys, 2, *arguments)


def test_a_home_directory_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("USERPROFILE", "/home/me")
    assert path("~/x.npz").as_posix() == "/home/me/x.npz"


@given(st.one_of(st.integers(-(10**30), 10**30).map(str), st.text(max_size=30)))
def test_a_whole_number_fits_into_64_bits(text):
    try:
        assert 1 <= whole(text) < 2**63 and str(whole(text)) == text.lstrip("0")
    except cli.arguments.argparse.ArgumentTypeError:
        assert not (text.isascii() and text.isdecimal() and len(text) < 19 and int(text) >= 1)


@pytest.mark.parametrize("text", ["1e308", "inf", "nan", "0", "-1", "1e-400", ""])
def test_minutes_beyond_reason_are_refused(text):
    with pytest.raises(cli.arguments.argparse.ArgumentTypeError, match="above 0"):
        positive(text)


# ---- the samplers' options


def test_an_option_of_a_sampler_may_have_the_name_of_a_flag_or_the_default_none(
    points_run, tmp_path, monkeypatch
):
    given = {}

    def own(denoiser, x_T, rng, timesteps=None, seed: int = 3, level: float | None = None, note=None):
        given.update(seed=seed, level=level, note=note)
        return ddim(denoiser, x_T, rng, timesteps)

    monkeypatch.setitem(SAMPLERS, "own", Sampler(own))
    out = ["--count", 2, "--out", tmp_path / "a.npz"]
    assert call("sample", points_run, "--sampler", "own", "--seed", 1, *out) == 0
    assert given == {"seed": 3, "level": None, "note": None}
    options = ["--sampler-seed", 5, "--level", 0.5, "--note", "x"]
    assert call("sample", points_run, "--sampler", "own", *options, *out) == 0
    assert given == {"seed": 5, "level": 0.5, "note": "x"}


@pytest.mark.parametrize("arguments", ["--compare RUN", "--compare ddim RUN", "RUN --compare ddim"])
def test_compare_leaves_the_run_where_it_stands(arguments, run_copy, monkeypatch):
    found = {}
    monkeypatch.setattr(
        cli.evaluate,
        "compare_samplers",
        lambda run, names, *rest: found.update(run=run.folder, names=names) or 0,
    )
    assert (
        call("evaluate", *[run_copy if word == "RUN" else word for word in arguments.split()], "--count", 5)
        == 0
    )
    assert found == {"run": run_copy, "names": ["ddim"] if "ddim" in arguments else list(SAMPLERS)}


# ---- before the work


TOO_MUCH = [
    (["sample", "RUN", "--count", 10**14], 1, "100,000,000,000,000 samples need .* of memory, .*: at most"),
    (["sample", "RUN", "--count", 10**14, "--out", "a.gif"], 1, "trajectories over 6 times need"),
    (["evaluate", "RUN", "--count", 10**14], 1, "samples need"),
    (["evaluate", "CLASSES", "--count", 10**14], 1, "labels need"),
    (["invert", "DIGITS", "--steps", 10**14], 2, "T = 20"),
    (["interpolate", "DIGITS", "--count", 10**14], 1, "images at once need"),
    (["train", "DATA", "--T", 10**9], 2, "≤ 1e.06"),
    (["train", "DATA", "--batch", 10**11], 1, "samples in a batch need"),
    (["train", "DATA", "--width", 10**6], 1, "parameters of hidden layers need"),
    (["sample", "RUN", "--eta", "1e200"], 2, "too large for the step"),
    (["sample", "RUN", "--sampler", "pc", "--corrections", 10**9], 2, "at most 1000"),
    (["train", "DATA", "--minutes", "1e308"], 2, "above 0, at most 1e9"),
]


@pytest.mark.parametrize(("arguments", "status", "message"), TOO_MUCH, ids=lambda value: str(value)[:40])
def test_too_much_is_refused_with_what_would_fit_before_anything_is_done(
    arguments, status, message, points_run, digits_run, class_run, points_file, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    paths = {"RUN": points_run, "DATA": points_file, "DIGITS": digits_run, "CLASSES": class_run}
    line = refusal(capsys, status, *[paths.get(argument, argument) for argument in arguments])
    assert re.search(message, line), line
    assert not list(tmp_path.iterdir())


def test_an_output_that_cannot_be_written_is_refused_before_a_sample_is_drawn(
    points_run, digits_run, tmp_path, monkeypatch, capsys
):
    def full(**options):
        raise OSError(30, "Read-only file system", "/tmp/xyz123")

    monkeypatch.setattr(cli.output.tempfile, "TemporaryFile", full)
    for arguments in (
        ["sample", points_run, "--out", tmp_path / "a.npz"],
        ["evaluate", points_run],
        ["evaluate", points_run, "--compare"],
        ["inpaint", digits_run],
    ):
        line = refusal(capsys, 1, *arguments)
        assert "cannot be written: Read-only file system" in line and "xyz123" not in line
    monkeypatch.undo()
    assert "cannot be written" in refusal(
        capsys, 1, "sample", points_run, "--out", tmp_path / (246 * "n" + ".npz")
    )
    assert not list(tmp_path.iterdir())


def test_a_set_too_small_to_be_measured_is_refused_before_a_sample_is_drawn(
    without_pictures, tmp_path, capsys
):
    np.save(tmp_path / "few.npy", [[1.0], [2.0]])
    assert (
        call("train", tmp_path / "few.npy", "--steps", 1, "--T", 3, "--width", 8, "--out", tmp_path / "run")
        == 0
    )
    for more in ([], ["--compare"]):
        assert "too small" in refusal(capsys, 1, "evaluate", tmp_path / "run", *more)


# ---- nothing in silence


def test_with_a_single_step_the_bound_is_null_and_the_rest_is_measured(
    points_file, without_pictures, tmp_path, capsys
):
    folder = tmp_path / "run"
    assert call("train", points_file, "--steps", 1, "--T", 1, "--width", 8, "--out", folder) == 0
    assert call("evaluate", folder, "--count", 20) == 0
    assert re.search(r"bits per dim +not measured", capsys.readouterr().out)
    report = json.loads((folder / "evaluation.json").read_text(), parse_constant=pytest.fail)
    assert report["bits_per_dim"] is None and report["sliced_wasserstein"] > 0
    assert not (folder / "rate_distortion.png").exists()


def test_samples_that_are_not_finite_are_refused_and_not_written(run_copy, tmp_path, monkeypatch, capsys):
    before = Run.open

    def diverged(folder, precision):
        run = before(folder, precision)
        for parameter in run.net.named_parameters().values():
            parameter.data[...] = np.nan
        return run

    monkeypatch.setattr(Run, "open", diverged)
    for name in ("a.npz", "a.png", "a.gif"):
        assert call("sample", run_copy, "--count", 5, "--out", tmp_path / name) == 1
        assert "5 of 5 samples are not finite" in capsys.readouterr().err.splitlines()[-1]
        assert not (tmp_path / name).exists()


@given(
    st.recursive(
        st.floats() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_what_is_written_as_json_is_json(tmp_path_factory, figures):
    file = tmp_path_factory.mktemp("json") / "a.json"
    write_json(file, {"figures": figures})
    json.loads(file.read_text(), parse_constant=pytest.fail)


def test_settings_are_json_without_infinity_and_are_read_as_they_were(
    points_file, without_pictures, tmp_path
):
    folder = tmp_path / "run"
    assert (
        call("train", points_file, "--steps", 1, "--T", 3, "--width", 8, "--clip", "inf", "--out", folder)
        == 0
    )
    settings = json.loads((folder / "settings.json").read_text(), parse_constant=pytest.fail)
    assert settings["training"]["clip"] is None
    assert Run.open(folder).settings.training.clip == np.inf
    old = {"data": "x", "net": {}, "schedule": {}, "training": {"clip": np.inf}}  # as 0.1 wrote it
    assert Settings.from_facts(old) == Settings("x", {}, ScheduleOptions(), TrainingOptions(clip=np.inf))


def test_an_edit_that_changes_nothing_is_refused(digits_run, tmp_path, capsys):
    np.save(tmp_path / "all.npy", np.ones((8, 8), bool))
    write_png(tmp_path / "white" / "m.png", np.full((8, 8), 255, np.uint8))
    for mask in (tmp_path / "all.npy", tmp_path / "white" / "m.png"):
        line = refusal(capsys, 1, "inpaint", digits_run, "--mask", mask, "--out", tmp_path / "p.npz")
        assert "every pixel would be kept" in line
    line = refusal(capsys, 2, "interpolate", digits_run, "--between", 2, 2, "--out", tmp_path / "p.npz")
    assert "images 2 and 2 are the same" in line
    assert not (tmp_path / "p.npz").exists()
