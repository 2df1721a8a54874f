"""metrics.jsonl is a log: a resumed run continues it as if never stopped, and no damage to it bars anything."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_runs import create, train

from minidiff import checkpoints, plots
from minidiff.runs import Run, metrics
from minidiff.runs.metrics import Metrics
from minidiff.runs.reopening import SECTIONS
from minidiff.training import Step

GOOD = {"step": 10, "loss": 0.5, "norm": 1.0, "lr": 0.01, "seconds": 2.5}


def without_seconds(rows):
    return [{name: row[name] for name in row if name != "seconds"} for row in rows]


def logged(path, losses, stops):
    """The rows of a log of these losses, which is begun anew after each of the steps `stops`."""
    log, end = Metrics(path), [*stops, len(losses)]
    for i, loss in enumerate(losses):
        log.record(Step(i + 1, loss, 1.0, 0.1), 0.0, last=i + 1 in end)
        if i + 1 in end:
            log.close()
            log = Metrics(path, log.pending)
    return log.rows()


@given(losses=st.lists(st.floats(-1e3, 1e3), max_size=40), stops=st.sets(st.integers(1, 40)))
def test_the_lines_of_a_log_do_not_depend_on_where_it_was_stopped(tmp_path_factory, losses, stops):
    folder = tmp_path_factory.mktemp("logs")
    rows = logged(folder / "a", losses, [])
    assert rows == logged(folder / "b", losses, stops)
    assert [row["step"] for row in rows] == [
        n for n in range(1, len(losses) + 1) if n % 10 == 0 or n == len(losses)
    ]


@pytest.mark.parametrize("stops", [[3], [10], [11, 12], [4, 19, 23]], ids=str)
def test_a_resumed_run_has_the_metrics_of_one_never_stopped(source, tmp_path, stops):
    whole, stopped = (create(tmp_path / name, source) for name in ("a", "b"))
    whole.train(25, progress=None)
    for stop in stops:
        stopped.train(stop, progress=None)
        train(stopped, stop + 9)  # killed: these steps are not saved
        stopped = Run.resume(stopped.folder)
    stopped.train(25, progress=None)
    assert without_seconds(stopped.metrics()) == without_seconds(whole.metrics())
    assert [row["step"] for row in whole.metrics()] == [10, 20, 25]


def test_a_checkpoint_without_the_pending_losses_opens_and_resumes(run):
    run.train(13, progress=None)
    path = run.folder / "checkpoint.npz"
    sections, _ = checkpoints.read(path, SECTIONS)
    assert len(sections.pop("metrics")[0]["pending"]) == 3
    checkpoints.write(path, sections)
    assert Run.open(run.folder).step == 13
    resumed = Run.resume(run.folder)
    train(resumed, 20)
    assert [row["step"] for row in resumed.metrics()] == [10, 13, 20]


@pytest.mark.parametrize("pending", [None, 3, "abc", [None], [float("nan")], ["0.5"], [[1.0]]], ids=repr)
def test_pending_losses_that_are_none_are_a_value_error_of_one_line(run, pending):
    path = run.folder / "checkpoint.npz"
    sections, _ = checkpoints.read(path, SECTIONS)
    sections["metrics"] = {"pending": pending}, {}
    checkpoints.write(path, sections)
    with pytest.raises(ValueError) as caught:
        Run.resume(run.folder)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


# ---- damaged lines

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**400), 10**400) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*GOOD]), inner, max_size=5),
    max_leaves=5,
)
with_another_value = st.tuples(st.sampled_from([*GOOD]), json_values).map(
    lambda item: GOOD | {item[0]: item[1]}
)
without_a_value = st.sampled_from([*GOOD]).map(lambda name: {key: GOOD[key] for key in GOOD if key != name})
damaged_lines = st.binary(max_size=60) | (json_values | with_another_value | without_a_value).map(
    lambda value: json.dumps(value).encode()
)
EXAMPLES = [b"[" * 100_000, b"1" * 10_000, b'{"step": 1e400}', b"\xff\xfe", b"\x00", b"null", b"{}", b"a\rb"]


def assert_no_bar(folder, damaged):
    """A run with these lines in its log opens, resumes and goes on, and all of its good rows are there."""
    path = folder / "metrics.jsonl"
    path.write_bytes(b"\n".join([damaged[0], json.dumps(GOOD).encode(), *damaged[1:], b'{"step": 20, "lo']))
    for opened in (Run.open(folder), Run.resume(folder)):
        steps, losses = zip(*((row["step"], row["loss"]) for row in opened.metrics()), strict=True)
        assert GOOD in opened.metrics() and np.isfinite([steps, losses]).all()
    opened.train(12, progress=None)
    assert opened.metrics()[-1]["step"] == 12 and GOOD in opened.metrics()
    assert all(line in path.read_bytes() for line in damaged if b"step" not in line)
    opened.train(11, progress=None)


@given(damaged=st.lists(damaged_lines, min_size=1, max_size=4))
def test_no_line_however_damaged_bars_info_or_resuming(tmp_path_factory, damaged):
    assert_no_bar(trained(tmp_path_factory.mktemp("run")), damaged)


@pytest.mark.parametrize("line", EXAMPLES, ids=lambda line: repr(line[:16]))
def test_no_line_of_these_kinds_bars_info_or_resuming(tmp_path, line):
    assert_no_bar(trained(tmp_path), [line])


def trained(folder):
    np.save(folder / "points.npy", np.random.default_rng(0).normal(3.0, 2.0, (40, 2)))
    run = create(folder / "run", folder / "points.npy")
    run.train(11, progress=None)
    return run.folder


@pytest.mark.filterwarnings("ignore:Data has no positive values")
@pytest.mark.parametrize("losses", [[0.0], [-1.0, 2.0], [5e-324, 1.0], [1.7e308, 1.7e308]], ids=str)
def test_a_loss_curve_is_drawn_of_any_row_that_is_read(tmp_path, losses):
    rows = [GOOD | {"step": step, "loss": loss} for step, loss in zip((1, 2**40), losses, strict=False)]
    (tmp_path / "log").write_text("".join(json.dumps(row) + "\n" for row in rows))
    read = Metrics(tmp_path / "log").rows()
    assert [row["loss"] for row in read] == losses
    with np.errstate(all="ignore"):
        plots.loss_curve([row["step"] for row in read], [row["loss"] for row in read])


def test_the_log_is_on_disk_before_the_checkpoint_that_counts_it(run, monkeypatch):
    calls, fsync = [], metrics.os.fsync
    monkeypatch.setattr(metrics.os, "fsync", lambda handle: calls.append("metrics") or fsync(handle))
    monkeypatch.setattr(checkpoints, "write", lambda path, sections: calls.append("checkpoint"))
    run.train(12, progress=None)
    assert calls == ["metrics", "checkpoint"]
