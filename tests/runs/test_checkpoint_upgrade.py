"""What version 0.1 wrote, format 1, is read as format 2: over combinations of settings, to the last bit."""

import hashlib
import io
import json
import zipfile

import numpy as np
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st
from small_runs import assert_same_sections, assert_same_training, train

from minidiff import checkpoints
from minidiff.datasets.samples import checksum_0_1
from minidiff.runs import Run, Settings
from minidiff.runs.reopening import SECTIONS
from minidiff.training import Diverged, ScheduleOptions, TrainingOptions


def write_version_1(path, arrays, facts):
    """As `checkpoints.write` of version 0.1 did."""
    buffer = io.BytesIO()
    text = json.dumps({"version": 1, **facts})
    np.savez(buffer, **arrays, **{"facts.json": np.frombuffer(text.encode(), np.uint8)})
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = b"0" * 64
    content = buffer.getvalue()[:-64]
    path.write_bytes(content + hashlib.sha256(content).hexdigest().encode())


def version_1_of(trainer, settings, units, shape):
    """The arrays and facts that version 0.1 stored for a trainer, of `settings` as it had them."""
    arrays = {"order": trainer.batches.order}
    vectors = {
        "parameters": trainer.parameters.values,
        "average": trainer.ema.values,
        "first": trainer.adam.first,
        "second": trainer.adam.second,
    }
    for kind, vector in vectors.items():
        views = trainer.parameters.views(vector)
        arrays |= {f"{kind}/{name}": view.copy() for name, view in views.items()}
    if settings["times"] == "loss-aware":
        arrays["losses"] = trainer.draw_times.history.copy()
    facts = {
        "step": trainer.step,
        "place": trainer.batches.index,
        "data": checksum_0_1(trainer.x),
        "random": trainer.rng.bit_generator.state,
    }
    return arrays, {"settings": settings, "units": units.to_dict(), "shape": list(shape), "trainer": facts}


NETS = {
    "mlp": {"kind": "mlp", "dim": 2, "width": 6, "T": 5, "time": "sinusoidal"},
    "unet": dict(
        kind="unet",
        size=4,
        channels=1,
        width=8,
        multipliers=[1],
        depth=1,
        attention=[4],
        groups=4,
        dropout=0.1,
    ),
}
SCHEDULES = [
    {"name": "linear"},
    {"name": "linear", "beta_start": 0.05, "beta_end": 0.7},
    {"name": "quadratic", "beta_end": 0.5},
    {"name": "sigmoid", "beta_start": 0.01},
    {"name": "constant", "beta": 0.3},
    {"name": "cosine"},
]
LATER = {"prediction": "eps", "weighting": "simple", "label_drop": 0.0}  # not in the earliest of these files


@st.composite
def combinations(draw):
    """Settings as version 0.1 had them, with `answers` for the number of the network's outputs."""
    net = dict(NETS[draw(st.sampled_from([*NETS]))])
    classes = draw(st.sampled_from([None, 0, 2]))
    outputs = draw(st.sampled_from([None, 1, 2]))
    net |= {} if classes is None else {"classes": classes}
    net |= {} if outputs is None else {"answers": outputs}
    zero = draw(st.sampled_from([None, False, True]))
    schedule = (
        draw(st.sampled_from(SCHEDULES)) | {"T": 5} | ({} if zero is None else {"zero_terminal_snr": zero})
    )
    settings = {
        "net": net,
        "schedule": schedule,
        "batch": draw(st.integers(1, 9)),
        "lr": draw(st.sampled_from([0.001, 0.01, 1])),
        "warmup": draw(st.integers(0, 5)),
        "clip": draw(st.sampled_from([0.5, 1.0])),
        "decay": draw(st.sampled_from([0, 0.5, 0.9999])),
        "times": draw(st.sampled_from(["uniform", "antithetic", "loss-aware"])),
        "seed": draw(st.integers(0, 9)),
    }
    later = {
        "prediction": draw(st.sampled_from(["x0", "v"] if zero else ["eps", "x0", "v"])),
        "weighting": draw(st.sampled_from(["simple", "min-snr", "p2", "bound"])),
        "label_drop": draw(st.sampled_from([0.0, 0.2, 1.0])),
    }
    without_later = not zero and draw(st.booleans())
    return settings if without_later else settings | later


def expected_settings(source, old):
    """The settings of version 0.2 that mean the same."""
    net, schedule = dict(old["net"]), old["schedule"]
    if "answers" in net:
        net["learned_variance"] = {1: False, 2: True}[net.pop("answers")]
    training = LATER | {
        name: value for name, value in old.items() if name not in ("net", "schedule", "seed", "decay")
    }
    betas = {name: schedule.get(name) for name in ("beta_start", "beta_end", "beta")}
    zero = schedule.get("zero_terminal_snr", False)
    return Settings(
        data=str(source),
        net=net,
        schedule=ScheduleOptions(schedule["name"], schedule["T"], **betas, zero_terminal_snr=zero),
        training=TrainingOptions(**training, ema_decay=old["decay"]),
        seed=old["seed"],
    )


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Labelled data for each kind of network."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    raw = {"mlp": rng.normal(3.0, 2.0, (40, 2)), "unet": rng.integers(0, 256, (20, 4, 4), np.uint8)}
    for kind, samples in raw.items():
        name = "images" if kind == "unet" else "points"
        np.savez(folder / f"{kind}.npz", **{name: samples}, labels=np.arange(len(samples)) % 2)
    return {kind: folder / f"{kind}.npz" for kind in raw}


def runs_of_both_versions(folder, source, old, steps=3):
    """A run of this version after some steps, and the folder in which version 0.1 would have stored it."""
    expected = expected_settings(source, old)
    options = {**vars(expected.schedule), **vars(expected.training)}
    run = Run.create(folder / "new", data=source, seed=expected.seed, net=expected.net, **options)
    with np.errstate(all="ignore"):
        try:
            train(run, steps)
        except Diverged:  # a learning rate of 1 may be too much
            reject()
    run.save()
    (folder / "old").mkdir()
    version_1 = version_1_of(run.trainer, {"data": str(source), **old}, run.units, run.shape)
    write_version_1(folder / "old" / "checkpoint.npz", *version_1)
    return run, folder / "old"


@given(old=combinations())
def test_a_checkpoint_of_version_0_1_is_read_as_the_same_run(tmp_path_factory, sources, old):
    folder, source = tmp_path_factory.mktemp("runs"), sources[old["net"]["kind"]]
    run, of_old = runs_of_both_versions(folder, source, old)
    upgraded, writer = checkpoints.read(of_old / "checkpoint.npz", SECTIONS)
    saved, _ = checkpoints.read(run.folder / "checkpoint.npz", SECTIONS)
    assert writer == "minidiff 0.1" and ("loss-aware" in upgraded) == (old["times"] == "loss-aware")
    assert len(saved.pop("metrics")[0]["pending"]) == 3  # version 0.1 did not store them
    settings = Settings.from_facts(upgraded.pop("settings")[0])
    assert settings == Settings.from_facts(saved.pop("settings")[0]) == expected_settings(source, old)
    facts = saved["data"][0]
    assert facts.pop("class_names") == [] and facts.pop("left_out") == ""
    assert facts.pop("checksum") == run.data().checksum
    saved["batches"][0]["checksum"] = checksum_0_1(run.trainer.x)
    assert_same_sections(upgraded, saved)


@given(old=combinations())
def test_a_run_of_version_0_1_opens_resumes_and_is_saved_as_version_2(tmp_path_factory, sources, old):
    folder, source = tmp_path_factory.mktemp("runs"), sources[old["net"]["kind"]]
    run, of_old = runs_of_both_versions(folder, source, old)
    opened, resumed = Run.open(of_old), Run.resume(of_old)
    assert opened.settings == resumed.settings == run.settings and opened.step == resumed.step == 3
    assert opened.net.learned_variance == (old["net"].get("answers") == 2)
    for name, p in opened.net.named_parameters().items():
        np.testing.assert_array_equal(p.data, run.net.named_parameters()[name].data, err_msg=name)
    assert train(resumed, 5) == train(run, 5)
    assert_same_training(resumed, run)
    run.save(), resumed.save()
    saved, again = (checkpoints.read(path / "checkpoint.npz", SECTIONS)[0] for path in (run.folder, of_old))
    assert again.pop("metrics")[0]["pending"] == saved.pop("metrics")[0]["pending"][3:]
    assert_same_sections(again, saved)


def harmed(folder, sources, harm):
    old = {"net": NETS["mlp"], "schedule": {"name": "cosine", "T": 5}, "batch": 4, "decay": 0.9, "seed": 0}
    run, of_old = runs_of_both_versions(folder, sources["mlp"], {"times": "uniform", **old})
    arrays, facts = version_1_of(
        run.trainer, {"data": str(sources["mlp"]), "times": "uniform", **old}, run.units, run.shape
    )
    harm(arrays, facts)
    write_version_1(of_old / "checkpoint.npz", arrays, facts)
    return of_old


HARM = {
    "no settings": lambda arrays, facts: facts.pop("settings"),
    "no network": lambda arrays, facts: facts["settings"].pop("net"),
    "no decay": lambda arrays, facts: facts["settings"].pop("decay"),
    "no schedule": lambda arrays, facts: facts["settings"].pop("schedule"),
    "an unknown setting": lambda arrays, facts: facts["settings"].update(mood=1),
    "no units": lambda arrays, facts: facts.pop("units"),
    "no state of training": lambda arrays, facts: facts.pop("trainer"),
    "no average": lambda arrays, facts: arrays.pop("average/last.w"),
    "an array of no kind": lambda arrays, facts: arrays.update({"mood/last.w": np.zeros(1)}),
}


@pytest.mark.parametrize("harm", HARM.values(), ids=HARM)
def test_a_file_of_format_1_that_is_not_of_a_run_is_a_value_error_of_one_line(tmp_path, sources, harm):
    of_old = harmed(tmp_path, sources, harm)
    with pytest.raises(ValueError) as caught:
        Run.open(of_old)
    assert "\n" not in str(caught.value)


def test_an_unharmed_file_of_format_1_is_none_of_these(tmp_path, sources):
    assert Run.open(harmed(tmp_path, sources, lambda arrays, facts: None)).step == 3
