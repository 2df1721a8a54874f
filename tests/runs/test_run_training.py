"""Training a run: progress, metrics, checkpoints while training, and divergence."""

import io
import itertools
import json

import numpy as np
import pytest
from small_runs import assert_same_training, contents, create, save_after_every_step, train

from minidiff.runs import Run, checkpoints, metrics, presets
from minidiff.runs import run as run_module
from minidiff.training import Diverged, trainer

# ---- run.train


def test_train_returns_none_and_saves_what_it_trained(source, tmp_path):
    run, by_hand = (create(tmp_path / name, source) for name in ("a", "b"))
    assert run.train(5, progress=None) is None
    train(by_hand, 5)
    assert_same_training(run, by_hand)
    assert_same_training(Run.resume(run.folder), by_hand)
    assert run.train(8, progress=None) is None and Run.open(run.folder).step == run.step == 8
    assert run.metrics()[-1]["step"] == 8


def test_steps_are_the_total_and_a_finished_run_makes_none(run):
    run.train(5, progress=None)
    before = contents(run.folder)
    run.train(5, progress=None)
    run.train(2, progress=None)
    assert run.step == 5 and contents(run.folder) == before


def test_without_a_limit_it_makes_the_preset_number_of_steps(run, monkeypatch):
    monkeypatch.setattr(presets, "STEPS", 7)
    run.train(progress=None)
    assert Run.open(run.folder).step == 7


def test_minutes_bound_the_training_and_the_first_limit_counts(run, monkeypatch):
    clock = itertools.count(1000.0, 1.0)
    monkeypatch.setattr(trainer.time, "monotonic", lambda: next(clock))
    run.train(100, minutes=0.2, progress=None)
    assert 1 <= run.step < 12 and Run.open(run.folder).step == run.step
    begun = run.step
    run.train(begun + 2, minutes=1e6, progress=None)
    assert run.step == begun + 2


@pytest.mark.parametrize("minutes", [0, 0.0, -1.0])
def test_no_minutes_are_no_steps_and_no_error(run, minutes):
    run.train(minutes=minutes, progress=io.StringIO())
    assert Run.open(run.folder).step == 0


def test_progress_goes_to_the_given_stream(run, capsys):
    stream = io.StringIO()
    run.train(12, progress=stream)
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("step 1/12") and lines[-1].startswith("step 12/12")
    assert "loss " in lines[0]
    assert capsys.readouterr() == ("", "")


def test_a_resumed_run_shows_its_total_number_of_steps(run):
    run.train(4, progress=None)
    stream = io.StringIO()
    Run.resume(run.folder).train(6, progress=stream)
    assert stream.getvalue().splitlines()[0].startswith("step 5/6")


def test_without_a_stream_nothing_is_printed(run, capsys):
    run.train(4, progress=None)
    assert capsys.readouterr() == ("", "")


def test_nothing_happens_until_train_iter_is_iterated_over(run):
    before = contents(run.folder)
    steps = run.train_iter(3)
    assert run.step == 0 and contents(run.folder) == before
    assert [step.step for step in steps] == [1, 2, 3]
    assert Run.open(run.folder).step == 0  # and `save` is the caller's


def test_a_run_opened_to_be_sampled_cannot_be_trained(run):
    opened, before = Run.open(run.folder), contents(run.folder)
    for attempt in (lambda: train(opened, 3), lambda: opened.train(3, progress=None), opened.save):
        with pytest.raises(ValueError, match="resume"):
            attempt()
    assert contents(run.folder) == before


# ---- metrics


def logged(run):
    """The even steps of which there is a line; no step may have two."""
    steps = [row["step"] for row in run.metrics()]
    assert steps == sorted(set(steps))
    return [step for step in steps if step % 2 == 0]


def test_each_line_of_metrics_is_json_with_the_mean_loss_since_the_last(run, monkeypatch):
    monkeypatch.setattr(metrics, "LOG_EVERY", 4)
    steps = train(run, 12)
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert rows == run.metrics()
    assert [row["step"] for row in rows] == [4, 8, 12]
    for row in rows:
        of_row = steps[row["step"] - 4 : row["step"]]
        assert row["loss"] == pytest.approx(np.mean([step.loss for step in of_row]))
        assert (row["norm"], row["lr"]) == (of_row[-1].norm, of_row[-1].lr)
    assert [row["seconds"] for row in rows] == sorted(row["seconds"] for row in rows)


def test_the_seconds_of_a_resumed_run_continue(run):
    train(run, 10)
    run.save()
    path = run.folder / "metrics.jsonl"
    path.write_text(json.dumps(run.metrics()[0] | {"seconds": 1000.0}) + "\n")
    resumed = Run.resume(run.folder)
    train(resumed, 20)
    assert [row["step"] for row in resumed.metrics()] == [10, 20]
    assert 1000 <= resumed.metrics()[1]["seconds"] < 1060


def test_no_step_is_logged_twice_by_a_run_that_was_killed_after_its_checkpoint(run, monkeypatch):
    monkeypatch.setattr(metrics, "LOG_EVERY", 2)
    train(run, 5)
    run.save()
    for step in run.train_iter(100):
        if step.step == 9:
            break  # killed: of the steps after 5 nothing is saved but lines of metrics, the last incomplete
    path = run.folder / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 10, "lo')
    resumed = Run.resume(run.folder)
    assert logged(resumed) == [2, 4]
    train(resumed, 11)
    assert logged(resumed) == [2, 4, 6, 8, 10]


def test_a_line_that_is_being_written_is_left_out(run, monkeypatch):
    monkeypatch.setattr(metrics, "LOG_EVERY", 2)
    train(run, 5)
    path = run.folder / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 6, "lo')
    assert logged(Run.open(run.folder)) == [2, 4]


def test_an_untrained_run_has_no_metrics(run):
    assert run.metrics() == []


# ---- checkpoints while training


def test_checkpoints_are_written_while_training(run, monkeypatch):
    save_after_every_step(monkeypatch)
    for step in run.train_iter(3):
        assert Run.open(run.folder).step == step.step
    monkeypatch.setattr(run_module, "SAVE_EVERY", 1e9)
    train(run, 5)
    assert Run.open(run.folder).step == 3


@pytest.mark.parametrize("seconds", [0.01, 1.0, 3.0, 40.0])
def test_checkpoints_take_at_most_2_percent_of_the_time_and_come_as_often_as_that_allows(
    source, tmp_path, monkeypatch, seconds
):
    clock, begun, write, advance = [0.0], [], checkpoints.write, trainer.Trainer.advance
    expected = max(60, 50 * seconds)  # apart

    def slow_write(path, sections):
        begun.append(clock[0])
        write(path, sections)
        clock[0] += seconds

    def slow_advance(self):
        clock[0] += expected / 9.5
        return advance(self)

    monkeypatch.setattr(run_module.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(checkpoints, "write", slow_write)
    monkeypatch.setattr(trainer.Trainer, "advance", slow_advance)
    run = create(tmp_path / "run", source)
    begun.clear()
    train(run, 60)
    apart = np.diff(begun) - seconds
    assert len(begun) > 4 and seconds * len(begun) <= 0.02 * clock[0]
    assert (apart > expected).all() and (apart < 1.1 * expected).all()


def test_metrics_are_on_disk_before_the_checkpoint_that_counts_them(run, monkeypatch):
    monkeypatch.setattr(metrics, "LOG_EVERY", 1)
    save_after_every_step(monkeypatch)
    for step in run.train_iter(3):
        assert len(run.metrics()) == step.step


def test_saving_does_not_change_training(source, tmp_path, monkeypatch):
    often, never = (create(tmp_path / name, source) for name in ("a", "b"))
    steps = train(never, 5)
    save_after_every_step(monkeypatch)
    assert train(often, 5) == steps


@pytest.mark.parametrize("how", ["train", "train_iter"])
def test_a_run_that_diverges_keeps_its_last_checkpoint_and_the_error_has_its_step(run, how):
    run.train(4, progress=None)
    before = (run.folder / "checkpoint.npz").read_bytes()
    run.trainer.x = np.full_like(run.trainer.x, np.nan)
    stream = io.StringIO()
    with pytest.raises(Diverged, match=rf"step 5: .*nan.*{run.folder} keeps its checkpoint of step 4"):
        train(run, 9) if how == "train_iter" else run.train(9, progress=stream)
    assert (run.folder / "checkpoint.npz").read_bytes() == before
    assert Run.open(run.folder).step == 4
