"""A run's folder: what is in it, that it goes on where it stopped, and what is not taken for one."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from minidiff import checkpoints, datasets, schedules
from minidiff.runs import run as runs
from minidiff.runs.run import Run, Settings, schedule_of
from minidiff.training.trainer import Diverged

SCHEDULE = {"name": "linear", "T": 4, "beta_start": 0.1, "beta_end": 0.6}


def settings_for(source, **changes):
    net = {"kind": "mlp", "dim": 2, "width": 8, "depth": 1, "T": 4}
    return replace(Settings(str(source), net, SCHEDULE, batch=7, lr=0.01, warmup=3), **changes)


@pytest.fixture
def source(tmp_path):
    """A file of 40 points in the plane, of which 36 are trained on."""
    path = tmp_path / "points.npy"
    np.save(path, np.random.default_rng(0).normal(3.0, 2.0, (40, 2)))
    return path


@pytest.fixture
def run(source, tmp_path):
    return Run.create(tmp_path / "run", settings_for(source), datasets.load(source))


def drain(steps):
    return [step.step for step in steps]


def names(folder):
    return {path.name for path in folder.iterdir()}


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def rewrite(run, harm):
    """Change what the checkpoint holds and write it with a checksum that is right."""
    path = run.folder / "checkpoint.npz"
    arrays, facts = checkpoints.read(path)
    harm(arrays, facts)
    checkpoints.write(path, arrays, facts)


def assert_same_training(a, b):
    (arrays, facts), (other_arrays, other_facts) = a.trainer.state(), b.trainer.state()
    assert facts == other_facts
    for name in arrays:
        np.testing.assert_array_equal(arrays[name], other_arrays[name], err_msg=name)


# ---- the folder


def test_a_folder_is_a_run_from_its_first_moment_on(run):
    assert names(run.folder) == {"settings.json", "checkpoint.npz"}
    assert Run.open(run.folder).step == 0
    told = json.loads((run.folder / "settings.json").read_text())
    assert Settings(**told) == run.settings


def test_after_training_it_holds_what_it_promises_and_one_npz(run):
    drain(run.train(20))
    run.save()
    written = run.draw()
    assert names(run.folder) == {
        "settings.json",
        "metrics.jsonl",
        "checkpoint.npz",
        "loss.png",
        "samples.png",
        "animation.gif",
        "way.png",
    }
    assert {path.name for path in written} == {"loss.png", "samples.png", "animation.gif", "way.png"}
    for path in written:
        with Image.open(path) as picture:
            assert min(picture.size) > 100
            assert path.suffix != ".gif" or picture.n_frames == 5  # noise and T = 4 steps


def test_an_empty_folder_that_is_there_and_parents_that_are_not_will_do(source, tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "a" / "b" / "c"):
        assert Run.create(folder, settings_for(source), datasets.load(source)).step == 0


def test_what_is_in_the_way_is_left_as_it_is(run, source, tmp_path):
    (tmp_path / "file").write_text("mine")
    before = contents(run.folder)
    for path in (run.folder, tmp_path / "file"):
        with pytest.raises(FileExistsError, match=str(path)):
            Run.create(path, settings_for(source), datasets.load(source))
    assert contents(run.folder) == before and (tmp_path / "file").read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_an_os_error_that_names_it(source, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match="file/run cannot be made"):
        Run.create(tmp_path / "file" / "run", settings_for(source), datasets.load(source))


def test_settings_that_cannot_be_leave_no_folder(source, tmp_path):
    for bad in ({"batch": 0}, {"schedule": {**SCHEDULE, "beta_end": 1.5}}, {"net": {"kind": "none"}}):
        with pytest.raises(ValueError):
            Run.create(tmp_path / "run", settings_for(source, **bad), datasets.load(source))
        assert not (tmp_path / "run").exists()


# ---- opened and resumed


def test_an_opened_run_is_the_averaged_network_with_all_that_sampling_needs(run):
    drain(run.train(9))
    run.save()
    opened = Run.open(run.folder)
    x, t = np.random.default_rng(0).standard_normal((5, 2), dtype=np.float32), np.array([1, 2, 3, 4, 4])
    np.testing.assert_array_equal(opened.net(x, t), run.trainer.average(x, t))
    assert (opened.net(x, t) != run.trainer.net(x, t)).any()
    assert (opened.step, opened.shape, opened.units, opened.settings) == (9, (2,), run.units, run.settings)
    assert opened.trainer is None
    np.testing.assert_array_equal(opened.schedule.beta, schedules.linear(4, 0.1, 0.6).beta)


@pytest.mark.parametrize("stop", [0, 4, 6, 11])
def test_resumed_it_goes_on_bit_for_bit_as_one_that_never_stopped(source, tmp_path, stop):
    whole, stopped = (
        Run.create(tmp_path / name, settings_for(source), datasets.load(source)) for name in ("a", "b")
    )
    steps = list(whole.train(14))
    part = list(stopped.train(stop))
    stopped.save()
    resumed = Run.resume(stopped.folder)
    assert resumed.step == stop
    assert part + list(resumed.train(14)) == steps
    assert_same_training(resumed, whole)
    whole.save(), resumed.save()
    assert (tmp_path / "a/checkpoint.npz").read_bytes() == (tmp_path / "b/checkpoint.npz").read_bytes()


def test_a_labelled_u_net_resumes_bit_for_bit_too(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", images=rng.integers(0, 256, (20, 4, 4), np.uint8), labels=np.arange(20) % 2)
    net = dict(
        kind="unet", size=4, channels=1, width=8, multipliers=[1], depth=1, attention=[4], groups=4, classes=2
    )
    net["dropout"] = 0.2
    settings = settings_for(tmp_path / "d.npz", net=net)
    whole, stopped = (
        Run.create(tmp_path / name, settings, datasets.load(tmp_path / "d.npz")) for name in ("a", "b")
    )
    steps = list(whole.train(4))
    part = list(stopped.train(2))
    stopped.save()
    assert part + list(Run.resume(stopped.folder).train(4)) == steps


def test_the_checkpoint_holds_the_run_s_settings_so_that_those_on_paper_may_be_lost(run):
    (run.folder / "settings.json").unlink()
    assert Run.open(run.folder).settings == Run.resume(run.folder).settings == run.settings


@pytest.mark.parametrize("opening", [Run.open, Run.resume])
def test_where_there_is_no_run_it_says_what_was_expected(tmp_path, opening):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "none", tmp_path / "file", tmp_path / "empty"):
        with pytest.raises(FileNotFoundError, match=rf"{path} is no run.*checkpoint\.npz"):
            opening(path)


def pop(place, *names):
    def harm(arrays, facts):
        where = {"arrays": arrays, "facts": facts}[place]
        for name in names[:-1]:
            where = where[name]
        where.pop(names[-1])

    return harm


def put(place, value, *names):
    def harm(arrays, facts):
        where = {"arrays": arrays, "facts": facts}[place]
        for name in names[:-1]:
            where = where[name]
        where[names[-1]] = value

    return harm


OF_NO_RUN = {
    "no average": pop("arrays", "average/last.w"),
    "average of another shape": put("arrays", np.zeros((8, 3), np.float32), "average/last.w"),
    "no settings": pop("facts", "settings"),
    "no data in the settings": pop("facts", "settings", "data"),
    "an unknown setting": put("facts", 1, "settings", "mood"),
    "no units": pop("facts", "units"),
    "units that are none": put("facts", {"offset": 1.0}, "units"),
    "no shape": pop("facts", "shape"),
    "no facts of training": pop("facts", "trainer"),
    "no step": pop("facts", "trainer", "step"),
    "an unknown network": put("facts", "transformer", "settings", "net", "kind"),
    "no kind of network": pop("facts", "settings", "net", "kind"),
    "an unknown argument of the network": put("facts", 1, "settings", "net", "mood"),
    "a wider network": put("facts", 16, "settings", "net", "width"),
    "an unknown schedule": put("facts", "sudden", "settings", "schedule", "name"),
    "no name of a schedule": pop("facts", "settings", "schedule", "name"),
    "an unknown argument of the schedule": put("facts", 1, "settings", "schedule", "mood"),
    "a beta above 1": put("facts", 1.5, "settings", "schedule", "beta_end"),
}
ONLY_WHEN_RESUMED = {
    "no parameters": pop("arrays", "parameters/last.w"),
    "no first moments": pop("arrays", "first/last.w"),
    "second moments of another shape": put("arrays", np.zeros(1, np.float32), "second/last.w"),
    "no order": pop("arrays", "order"),
    "the order of more data": put("arrays", np.arange(37), "order"),
    "no place": pop("facts", "trainer", "place"),
    "no random state": pop("facts", "trainer", "random"),
}


@pytest.mark.parametrize(
    ("opening", "harm"),
    [(Run.open, harm) for harm in OF_NO_RUN.values()]
    + [(Run.resume, harm) for harm in (OF_NO_RUN | ONLY_WHEN_RESUMED).values()],
    ids=[f"open: {name}" for name in OF_NO_RUN]
    + [f"resume: {name}" for name in OF_NO_RUN | ONLY_WHEN_RESUMED],
)
def test_a_whole_checkpoint_with_the_wrong_things_in_it_is_a_value_error_of_one_line(run, opening, harm):
    rewrite(run, harm)
    before = contents(run.folder)
    with pytest.raises(ValueError) as caught:
        opening(run.folder)
    assert "\n" not in str(caught.value)
    assert contents(run.folder) == before


@pytest.mark.parametrize("opening", [Run.open, Run.resume])
def test_a_damaged_checkpoint_is_refused(run, opening):
    path = run.folder / "checkpoint.npz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="damaged"):
        opening(run.folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda points: points[:30],
        lambda points: points * 2,
        lambda points: points[:, :1],
    ],
    ids=["fewer", "other units", "other shape"],
)
def test_data_that_changed_underneath_is_noticed(run, source, change):
    np.save(source, change(np.load(source)))
    before = contents(run.folder)
    with pytest.raises(ValueError):
        Run.resume(run.folder)
    assert contents(run.folder) == before


def test_other_images_of_the_same_number_size_and_range_are_noticed_too(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (20, 4, 4), np.uint8)
    np.save(tmp_path / "d.npy", images)
    net = dict(kind="unet", size=4, channels=1, width=8, multipliers=[1], depth=1, attention=[], groups=4)
    settings = settings_for(tmp_path / "d.npy", net=net)
    run = Run.create(tmp_path / "run", settings, datasets.load(tmp_path / "d.npy"))
    assert Run.resume(run.folder).step == 0
    np.save(tmp_path / "d.npy", 255 - images)
    with pytest.raises(ValueError, match="data"):
        Run.resume(run.folder)


def test_data_that_is_gone_is_said_when_resuming_and_not_needed_for_sampling(run, source):
    source.unlink()
    with pytest.raises(FileNotFoundError, match=r"points\.npy"):
        Run.resume(run.folder)
    assert Run.open(run.folder).step == 0


def test_a_run_opened_to_be_sampled_says_that_it_cannot_be_trained(run):
    opened, before = Run.open(run.folder), contents(run.folder)
    with pytest.raises(ValueError, match="resume"):
        drain(opened.train(3))
    with pytest.raises(ValueError, match="resume"):
        opened.save()
    assert contents(run.folder) == before


# ---- metrics


def logged(run):
    """The even steps of which there is a line; no step may have two."""
    steps = [row["step"] for row in run.metrics()]
    assert steps == sorted(set(steps))
    return [step for step in steps if step % 2 == 0]


def test_each_line_of_metrics_is_json_with_the_mean_loss_since_the_last(run, monkeypatch):
    monkeypatch.setattr(runs, "LOG_EVERY", 4)
    steps = list(run.train(12))
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert rows == run.metrics()
    assert [row["step"] for row in rows] == [4, 8, 12]
    for row in rows:
        of_it = steps[row["step"] - 4 : row["step"]]
        assert row["loss"] == pytest.approx(np.mean([step.loss for step in of_it]))
        assert (row["norm"], row["lr"]) == (of_it[-1].norm, of_it[-1].lr)
    assert [row["seconds"] for row in rows] == sorted(row["seconds"] for row in rows)


def test_no_step_is_logged_twice_by_a_run_that_was_killed_after_its_checkpoint(run, monkeypatch):
    monkeypatch.setattr(runs, "LOG_EVERY", 2)
    drain(run.train(5))
    run.save()
    for step in run.train(100):
        if step.step == 9:
            break  # killed: nothing is saved of what came after step 5 but lines of metrics, the last cut short
    path = run.folder / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 10, "lo')
    resumed = Run.resume(run.folder)
    assert logged(resumed) == [2, 4]
    drain(resumed.train(11))
    assert logged(resumed) == [2, 4, 6, 8, 10]


def test_a_line_that_is_being_written_is_no_trouble_to_who_looks_on(run, monkeypatch):
    monkeypatch.setattr(runs, "LOG_EVERY", 2)
    drain(run.train(5))
    path = run.folder / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 6, "lo')
    assert logged(Run.open(run.folder)) == [2, 4]


def test_a_run_that_was_not_trained_has_no_metrics(run):
    assert run.metrics() == []


# ---- checkpoints on the way


def test_checkpoints_are_written_along_the_way(run, monkeypatch):
    monkeypatch.setattr(runs, "SAVE_EVERY", -1.0)
    for step in run.train(3):
        assert Run.open(run.folder).step == step.step
    monkeypatch.setattr(runs, "SAVE_EVERY", 1e9)
    drain(run.train(5))
    assert Run.open(run.folder).step == 3


def test_metrics_are_on_disk_before_the_checkpoint_that_counts_them(run, monkeypatch):
    monkeypatch.setattr(runs, "LOG_EVERY", 1)
    monkeypatch.setattr(runs, "SAVE_EVERY", -1.0)
    for step in run.train(3):
        assert len(run.metrics()) == step.step


def test_saving_does_not_disturb_training(source, tmp_path, monkeypatch):
    often, never = (
        Run.create(tmp_path / name, settings_for(source), datasets.load(source)) for name in ("a", "b")
    )
    steps = list(never.train(5))
    monkeypatch.setattr(runs, "SAVE_EVERY", -1.0)
    assert list(often.train(5)) == steps


def test_a_run_that_diverges_keeps_its_last_good_checkpoint_and_says_which(run):
    drain(run.train(4))
    run.save()
    before = (run.folder / "checkpoint.npz").read_bytes()
    run.trainer.x = np.full_like(run.trainer.x, np.nan)
    with pytest.raises(Diverged, match=rf"step 5: .*nan.*{run.folder} keeps its checkpoint of step 4"):
        drain(run.train(9))
    assert (run.folder / "checkpoint.npz").read_bytes() == before
    assert Run.open(run.folder).step == 4


# ---- sampling


def test_images_are_held_to_their_range_and_points_are_not(run, tmp_path):
    assert run.denoiser().clip is None
    images = np.random.default_rng(0).integers(0, 256, (20, 4, 4), np.uint8)
    np.save(tmp_path / "images.npy", images)
    net = dict(kind="unet", size=4, channels=1, width=8, multipliers=[1], depth=1, attention=[], groups=4)
    settings = settings_for(tmp_path / "images.npy", net=net)
    of_images = Run.create(tmp_path / "images", settings, datasets.load(tmp_path / "images.npy"))
    assert of_images.denoiser().clip == (-1, 1)
    x, t = np.zeros((2, 4, 4, 1), np.float32), np.array([1, 4])
    of_images.trainer.average.last.b.data[...] = 7  # what it samples with is the average, as it is now
    np.testing.assert_array_equal(of_images.denoiser().net(x, t), of_images.trainer.average(x, t))
    assert of_images.denoiser().net(x, t).mean() == 7


def test_a_schedule_is_made_from_its_description():
    made = schedule_of({"name": "linear", "T": 4, "beta_start": 0.1, "beta_end": 0.6})
    np.testing.assert_array_equal(made.beta, schedules.linear(4, 0.1, 0.6).beta)
    np.testing.assert_array_equal(schedule_of({"name": "cosine", "T": 9}).beta, schedules.cosine(9).beta)
