"""A run's folder: how it is created, opened and resumed, and what is refused."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from PIL import Image
from small_runs import MLP, OPTIONS, UNET, assert_same_training, contents, create, names, train

from minidiff import datasets, kernels, nn, schedules
from minidiff.kernels import memory
from minidiff.options import OptionError
from minidiff.runs import Run, Settings

# ---- created


def test_a_folder_is_a_run_from_the_start(run):
    assert names(run.folder) == {"settings.json", "checkpoint.npz", "lock"}
    assert Run.open(run.folder).step == 0
    stored = json.loads((run.folder / "settings.json").read_text())
    assert Settings.from_facts(stored) == run.settings and stored == json.loads(
        json.dumps(asdict(run.settings))
    )


def test_a_trained_run_has_the_documented_files(run):
    train(run, 20)
    run.save()
    pictures = {"loss.png", "samples.png", "animation.gif", "trajectory.png"}
    written = run.draw()
    page = "report.html"
    assert names(run.folder) == {"settings.json", "metrics.jsonl", "checkpoint.npz", "lock", page} | pictures
    assert {path.name for path in written} == {page} | pictures
    for path in written[:-1]:
        with Image.open(path) as picture:
            assert min(picture.size) > 100
            assert path.suffix != ".gif" or picture.n_frames == 5  # noise and T = 4 steps


def test_training_gives_its_buffers_back(run):
    kernels.empty((9999,))
    run.train(3, progress=None, preview=0)
    assert not memory._pool.sizes


def test_the_settings_are_the_given_options_and_presets_for_the_rest(source, tmp_path):
    settings = create(tmp_path / "run", source, seed=3).settings
    assert settings.data == str(source) and settings.net == MLP and settings.seed == 3
    options = {**asdict(settings.schedule), **asdict(settings.training)}
    assert {name: options[name] for name in OPTIONS} == OPTIONS
    assert options["ema_decay"] == 0.9999 and options["times"] == "antithetic"
    preset = Run.create(tmp_path / "preset", data="digits", width=8).settings
    assert (preset.data, preset.net["kind"], preset.net["width"]) == ("digits", "unet", 8)
    assert (preset.training.batch, preset.training.lr, preset.seed) == (32, 1e-3, 0)


def test_an_existing_empty_folder_and_missing_parents_are_accepted(source, tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "a" / "b" / "c"):
        assert create(folder, source).step == 0


def test_existing_files_are_not_overwritten(run, source, tmp_path):
    (tmp_path / "file").write_text("mine")
    before = contents(run.folder)
    for path in (run.folder, tmp_path / "file"):
        with pytest.raises(FileExistsError, match=str(path)):
            create(path, source)
    assert contents(run.folder) == before and (tmp_path / "file").read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_an_os_error_that_names_it(source, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match="file/run cannot be made"):
        create(tmp_path / "file" / "run", source)


@pytest.mark.parametrize(
    "bad",
    [{"batch": 0}, {"beta_end": 1.5}, {"net": {"kind": "none"}}, {"seed": -1}, {"seed": 0.5}, {"beta": 0.1}],
    ids=str,
)
def test_impossible_settings_leave_no_folder(source, tmp_path, bad):
    with pytest.raises(ValueError):
        create(tmp_path / "run", source, **bad)
    assert not (tmp_path / "run").exists()


def test_an_unknown_option_leaves_no_folder_and_the_error_has_the_known_ones(source, tmp_path):
    with pytest.raises(TypeError, match=r"no option mood; there are .*batch") as caught:
        create(tmp_path / "run", source, mood=1)
    for name in ("net", "classes", "schedule", "T", "ema_decay", "label_drop"):
        assert f" {name}" in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_without_a_folder_it_is_the_next_free_one_in_runs(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = [create(None, source).folder for _ in range(3)]
    assert [str(folder) for folder in folders] == ["runs/points", "runs/points-2", "runs/points-3"]
    assert all(Run.resume(tmp_path / folder).step == 0 for folder in folders)
    assert str(Run.create(data="digits", width=8).folder) == "runs/digits"
    dataset = datasets.from_raw("mine", np.random.default_rng(0).normal(size=(20, 2)))
    assert [str(create(None, dataset).folder) for _ in range(2)] == ["runs/mine", "runs/mine-2"]


def test_a_relative_path_of_the_data_is_stored_as_an_absolute_one(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = create("run", "points.npy")
    assert run.settings.data == str(source)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert Run.resume(tmp_path / "run").step == 0


# ---- opened and resumed


def test_an_opened_run_is_the_ema_network_with_all_that_sampling_needs(run):
    train(run, 9)
    run.save()
    opened = Run.open(run.folder)
    x, t = np.random.default_rng(0).standard_normal((5, 2), dtype=np.float32), np.array([1, 2, 3, 4, 4])
    np.testing.assert_array_equal(opened.net(x, t), run.trainer.ema_net(x, t))
    assert (opened.net(x, t) != run.trainer.net(x, t)).any()
    assert (opened.step, opened.shape, opened.units, opened.settings) == (9, (2,), run.units, run.settings)
    assert opened.trainer is None
    np.testing.assert_array_equal(opened.schedule.beta, schedules.linear(4, 0.1, 0.6).beta)


@pytest.mark.parametrize("stop", [0, 4, 6, 11])
def test_a_resumed_run_continues_bit_for_bit(source, tmp_path, stop):
    whole, stopped = (create(tmp_path / name, source) for name in ("a", "b"))
    steps = train(whole, 14)
    before = train(stopped, stop)
    stopped.save()
    resumed = Run.resume(stopped.folder)
    assert resumed.step == stop
    assert before + train(resumed, 14) == steps
    assert_same_training(resumed, whole)
    whole.save(), resumed.save()
    assert (tmp_path / "a/checkpoint.npz").read_bytes() == (tmp_path / "b/checkpoint.npz").read_bytes()


LEARNED = dict(times="loss-aware", prediction="v", weighting="min-snr", label_drop=0.5, T=2)


@pytest.mark.parametrize("options", [{}, LEARNED], ids=["plain", "everything learned"])
def test_a_labelled_u_net_resumes_bit_for_bit_too(labelled_images, tmp_path, options):
    net = UNET | {"attention": [4], "classes": 2, "dropout": 0.2}
    net |= {"learned_variance": True} if options else {}
    whole, stopped = (create(tmp_path / name, labelled_images, net=net, **options) for name in ("a", "b"))
    steps = train(whole, 8)
    before = train(stopped, 5)
    stopped.save()
    resumed = Run.resume(stopped.folder)
    assert before + train(resumed, 8) == steps
    assert_same_training(resumed, whole)
    if options:
        assert not np.isnan(resumed.trainer.draw_times.history).any()


def test_the_checkpoint_is_enough_without_settings_json(run):
    (run.folder / "settings.json").unlink()
    assert Run.open(run.folder).settings == Run.resume(run.folder).settings == run.settings


def test_a_run_survives_a_round_trip_of_its_description(run, labelled_images, tmp_path):
    of_images = create(tmp_path / "images", labelled_images, net=UNET | {"classes": 2})
    for made in (run, of_images):
        assert nn.describe(nn.build(made.settings.net, np.random.default_rng(0))) == nn.describe(made.net)
        assert Run.open(made.folder).settings == made.settings


@pytest.mark.parametrize("opening", [Run.open, Run.resume])
def test_where_there_is_no_run_the_error_has_what_was_expected(tmp_path, opening):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "none", tmp_path / "file", tmp_path / "empty"):
        with pytest.raises(FileNotFoundError, match=rf"{path} is not a run.*checkpoint\.npz"):
            opening(path)


# ---- runs on data made in Python


def my_data(name="mine", seed=0):
    rng = np.random.default_rng(seed)
    return datasets.from_raw(name, rng.normal(3.0, 2.0, (40, 2)), np.arange(40) % 2)


def test_a_run_on_a_dataset_resumes_with_it_bit_for_bit(tmp_path):
    whole, stopped = (create(tmp_path / name, my_data(), net=MLP | {"classes": 2}) for name in ("a", "b"))
    assert whole.settings.data == "mine" and whole.units == my_data().units
    steps = train(whole, 6)
    before = train(stopped, 4)
    stopped.save()
    assert before + train(Run.resume(stopped.folder, data=my_data()), 6) == steps


def test_a_run_on_a_dataset_cannot_be_resumed_without_it(tmp_path):
    run = create(tmp_path / "run", my_data())
    before = contents(run.folder)
    for attempt in (lambda: Run.resume(run.folder), Run.open(run.folder).data):
        with pytest.raises(ValueError, match=r"mine was made in Python .*Run\.resume\(folder, data=…\)"):
            attempt()
    assert Run.open(run.folder).step == 0 and contents(run.folder) == before


OTHER_DATA = {
    "other numbers": lambda rng: rng.normal(3.0, 2.0, (40, 2)),
    "more": lambda rng: rng.normal(3.0, 2.0, (50, 2)),
    "other coordinates": lambda rng: rng.normal(3.0, 2.0, (40, 3)),
    "images": lambda rng: rng.integers(0, 256, (40, 4, 4, 1), np.uint8),
}


@pytest.mark.parametrize("raw", OTHER_DATA.values(), ids=OTHER_DATA)
def test_a_run_does_not_resume_on_another_dataset(tmp_path, raw):
    run = create(tmp_path / "run", my_data())
    with pytest.raises(ValueError, match="data"):
        Run.resume(run.folder, data=datasets.from_raw("mine", raw(np.random.default_rng(1))))


def test_a_dataset_named_like_one_that_can_be_loaded_is_not_taken_for_it(tmp_path):
    run = create(tmp_path / "run", my_data("mixture1d"))
    with pytest.raises(ValueError, match="data"):
        Run.resume(run.folder)
    assert Run.resume(run.folder, data=my_data("mixture1d")).step == 0


def test_classes_without_labels_are_an_option_error(tmp_path):
    unlabelled = datasets.from_raw("mine", np.random.default_rng(0).normal(size=(20, 2)))
    with pytest.raises(OptionError, match="mine has no labels"):
        Run.create(tmp_path / "run", data=unlabelled, classes=True)
    assert Run.create(tmp_path / "run", data=my_data(), classes=True, width=8).net.classes == 2
