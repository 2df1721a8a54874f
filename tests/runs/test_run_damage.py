"""A checkpoint with the wrong content, and data that changed, are ValueErrors of one line."""

import numpy as np
import pytest
from small_runs import UNET, contents, create, train

from minidiff import checkpoints
from minidiff.runs import Run
from minidiff.runs.run import SECTIONS

FACTS, ARRAYS = 0, 1


def rewrite(run, harm):
    """Change the sections of the checkpoint and write it with a checksum that is right."""
    path = run.folder / "checkpoint.npz"
    sections, _ = checkpoints.read(path, SECTIONS)
    harm(sections)
    checkpoints.write(path, sections)


def pop(*keys):
    def harm(content):
        for key in keys[:-1]:
            content = content[key]
        content.pop(keys[-1])

    return harm


def put(value, *keys):
    def harm(content):
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return harm


SETTINGS = "settings", FACTS
NOT_OF_A_RUN = {
    "no average": pop("ema", ARRAYS, "last.w"),
    "average of another shape": put(np.zeros((8, 3), np.float32), "ema", ARRAYS, "last.w"),
    "no averages": pop("ema"),
    "no settings": pop("settings"),
    "no data in the settings": pop(*SETTINGS, "data"),
    "no network in the settings": pop(*SETTINGS, "net"),
    "no schedule in the settings": pop(*SETTINGS, "schedule"),
    "no training in the settings": pop(*SETTINGS, "training"),
    "an unknown setting": put(1, *SETTINGS, "mood"),
    "an unknown setting of training": put(1, *SETTINGS, "training", "mood"),
    "an impossible setting of training": put(-1, *SETTINGS, "training", "lr"),
    "no units": pop("data", FACTS, "units"),
    "units that are none": put({"offset": 1.0}, "data", FACTS, "units"),
    "no shape": pop("data", FACTS, "shape"),
    "no facts of the data": pop("data"),
    "no state of the optimiser": pop("adam"),
    "no step": pop("adam", FACTS, "step"),
    "an unknown network": put("transformer", *SETTINGS, "net", "kind"),
    "no kind of network": pop(*SETTINGS, "net", "kind"),
    "an unknown argument of the network": put(1, *SETTINGS, "net", "mood"),
    "a wider network": put(16, *SETTINGS, "net", "width"),
    "an unknown schedule": put("sudden", *SETTINGS, "schedule", "schedule"),
    "an unknown argument of the schedule": put(1, *SETTINGS, "schedule", "mood"),
    "a beta above 1": put(1.5, *SETTINGS, "schedule", "beta_end"),
    "a section of a later version": put(({}, {}), "weather"),
}
ONLY_WHEN_RESUMED = {
    "no parameters": pop("parameters", ARRAYS, "last.w"),
    "no section of parameters": pop("parameters"),
    "no first moments": pop("adam", ARRAYS, "first/last.w"),
    "second moments of another shape": put(np.zeros(1, np.float32), "adam", ARRAYS, "second/last.w"),
    "no order": pop("batches", ARRAYS, "order"),
    "the order of more data": put(np.arange(37), "batches", ARRAYS, "order"),
    "no index": pop("batches", FACTS, "index"),
    "no checksum": pop("batches", FACTS, "checksum"),
    "no random state": pop("random", FACTS, "generator"),
    "loss-aware times without their losses": put("loss-aware", *SETTINGS, "training", "times"),
}


@pytest.mark.parametrize(
    ("opening", "harm"),
    [(Run.open, harm) for harm in NOT_OF_A_RUN.values()]
    + [(Run.resume, harm) for harm in (NOT_OF_A_RUN | ONLY_WHEN_RESUMED).values()],
    ids=[f"open: {name}" for name in NOT_OF_A_RUN]
    + [f"resume: {name}" for name in NOT_OF_A_RUN | ONLY_WHEN_RESUMED],
)
def test_a_whole_checkpoint_with_wrong_content_is_a_value_error_of_one_line(run, opening, harm):
    rewrite(run, harm)
    before = contents(run.folder)
    with pytest.raises(ValueError) as caught:
        opening(run.folder)
    assert "\n" not in str(caught.value)
    assert contents(run.folder) == before


@pytest.mark.parametrize("harm", ONLY_WHEN_RESUMED.values(), ids=ONLY_WHEN_RESUMED)
def test_the_state_of_training_is_not_needed_for_sampling(run, harm):
    rewrite(run, harm)
    assert Run.open(run.folder).sample(2).shape == (2, 2)


@pytest.mark.parametrize("opening", [Run.open, Run.resume])
def test_a_later_section_is_refused_with_the_version_that_wrote_it(run, opening, monkeypatch):
    monkeypatch.setattr(checkpoints, "__version__", "0.9")
    rewrite(run, put(({}, {"a": np.ones(3)}), "weather"))
    with pytest.raises(ValueError, match=r"minidiff 0\.9 .* weather"):
        opening(run.folder)


@pytest.mark.parametrize("opening", [Run.open, Run.resume])
def test_a_damaged_checkpoint_is_refused(run, opening):
    path = run.folder / "checkpoint.npz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="damaged"):
        opening(run.folder)


# ---- data that changed


@pytest.mark.parametrize(
    "change",
    [
        lambda points: points[:30],
        lambda points: points * 2,
        lambda points: points[:, :1],
    ],
    ids=["fewer", "other units", "other shape"],
)
def test_data_that_changed_since_is_noticed(run, source, change):
    np.save(source, change(np.load(source)))
    before = contents(run.folder)
    with pytest.raises(ValueError):
        Run.resume(run.folder)
    assert contents(run.folder) == before


def test_other_images_of_the_same_number_size_and_range_are_noticed_too(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (20, 4, 4), np.uint8)
    np.save(tmp_path / "d.npy", images)
    run = create(tmp_path / "run", tmp_path / "d.npy", net=UNET)
    assert Run.resume(run.folder).step == 0
    np.save(tmp_path / "d.npy", 255 - images)
    with pytest.raises(ValueError, match="data"):
        Run.resume(run.folder)


def test_missing_data_is_an_error_when_resuming_and_not_needed_for_sampling(run, source):
    source.unlink()
    with pytest.raises(FileNotFoundError, match=r"points\.npy"):
        Run.resume(run.folder)
    assert Run.open(run.folder).step == 0


def flip(run, array):
    """Flip a bit of these numbers where they lie in the checkpoint."""
    path = run.folder / "checkpoint.npz"
    content = bytearray(path.read_bytes())
    content[content.index(array.tobytes())] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("section", ["ema", "parameters", "adam"])
def test_a_flipped_bit_is_noticed_by_who_reads_it_and_by_verify(tmp_path, source, section):
    run = create(tmp_path / "run", source)
    train(run, 3)
    run.save()
    opened, before = Run.open(run.folder), run.sample(2)
    opened.verify()
    flip(run, next(iter(run.trainer.state()[section][ARRAYS].values())))
    for use in (opened.verify, lambda: Run.resume(run.folder)):
        with pytest.raises(ValueError, match=r"damaged or not a checkpoint"):
            use()
    if section == "ema":
        with pytest.raises(ValueError, match=r"damaged or not a checkpoint: ema/.*CRC"):
            Run.open(run.folder)
    else:
        np.testing.assert_array_equal(Run.open(run.folder).sample(2), before)
