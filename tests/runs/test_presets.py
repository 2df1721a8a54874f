"""The settings of a run from little more than its data: whatever is not refused can be trained."""

import json
from dataclasses import asdict, fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidiff import datasets, nn, presets
from minidiff.options import OptionError
from minidiff.runs import Settings
from minidiff.training import NetworkOptions, ScheduleOptions, Trainer, TrainingOptions


def data_of(shape, classes=0, name="mine", count=40):
    rng = np.random.default_rng(0)
    raw = (
        rng.integers(0, 256, (count, *shape), np.uint8)
        if len(shape) == 3
        else rng.normal(size=(count, *shape))
    )
    return datasets.from_raw(name, raw, np.arange(count) % classes if classes else None)


DATA = {
    "points": data_of((2,)),
    "labelled points": data_of((3,), classes=4),
    "images": data_of((8, 8, 1)),
    "labelled images": data_of((6, 6, 3), classes=2),
    "odd images": data_of((5, 5, 1)),
    "oblong images": data_of((4, 8, 1)),
}
NAMES = {field.name for kind in (NetworkOptions, ScheduleOptions, TrainingOptions) for field in fields(kind)}

options = st.fixed_dictionaries(
    {},
    optional={
        "net": st.sampled_from([None, "mlp", "unet"]),
        "width": st.sampled_from([None, 8, 12, 16]),
        "classes": st.booleans(),
        "learn_variance": st.booleans(),
        "schedule": st.sampled_from(["linear", "cosine", "constant"]),
        "T": st.sampled_from([1, 2, 5]),
        "zero_terminal_snr": st.booleans(),
        "beta": st.sampled_from([None, 0.3]),
        "prediction": st.sampled_from(["eps", "x0", "v"]),
        "weighting": st.sampled_from(["simple", "bound"]),
        "label_drop": st.sampled_from([0.0, 0.5]),
        "times": st.sampled_from(["uniform", "loss-aware"]),
        "batch": st.just(3),
    },
)


def refused_because(data, given):
    """Why these options cannot be, by the rules as the documentation has them; None where they can."""
    image = data.x.ndim == 4
    net = given.get("net") or ("unet" if image else "mlp")
    T = given.get("T", 1000)
    if given.get("beta") is not None and given.get("schedule") != "constant":
        return "beta"
    if given.get("classes") and not data.classes:
        return "no labels"
    if given.get("learn_variance") and T < 2:
        return "a single step"
    if (net == "mlp") == image:
        return "takes points" if image else "square images"
    if image and data.x.shape[1] != data.x.shape[2]:
        return "square images"
    if image and (given.get("width") or 8) % 8:
        return "multiple of 8"
    if given.get("zero_terminal_snr") and T < 2:
        return "T ≥ 2"
    if given.get("zero_terminal_snr") and given.get("prediction", "eps") == "eps":
        return "choose the prediction"
    if given.get("weighting") == "bound" and T < 2:
        return "T ≥ 2"
    return None


@given(name=st.sampled_from([*DATA]), given=options, seed=st.integers(0, 9))
def test_options_are_refused_by_an_option_error_or_give_a_run_that_trains(name, given, seed):
    data, reason = DATA[name], refused_because(DATA[name], given)
    if reason is not None:
        with pytest.raises(OptionError, match=reason) as caught:
            presets.settings(data, name, seed, **given)
        assert "\n" not in str(caught.value)
        return
    settings = presets.settings(data, name, seed, **given)
    assert (settings.data, settings.seed) == (name, seed)
    set_options = asdict(settings.schedule) | asdict(settings.training)
    assert {k: v for k, v in given.items() if k in set_options} == {
        k: set_options[k] for k in given if k in set_options
    }
    net = nn.build(settings.net, np.random.default_rng(0))
    assert net.classes == (data.classes if given.get("classes") else 0)
    assert net.learned_variance == given.get("learn_variance", False)
    assert given.get("width") in (None, settings.net["width"])
    labels = data.labels if net.classes else None
    rng = np.random.default_rng(seed)
    trainer = Trainer(net, settings.schedule.build(), data.x, labels, settings.training, rng=rng)
    with np.errstate(all="ignore"):
        assert np.isfinite(trainer.advance().loss)


@given(name=st.sampled_from([*DATA]), given=options)
def test_settings_survive_json(name, given):
    try:
        settings = presets.settings(DATA[name], name, 0, **given)
    except OptionError:
        return
    assert Settings.from_facts(json.loads(json.dumps(asdict(settings)))) == settings


@pytest.mark.parametrize(
    ("name", "kind", "batch", "lr"), [("points", "mlp", 512, 2e-3), ("images", "unet", 64, 1e-3)]
)
def test_the_presets_are_those_of_the_kind_of_network_and_options_come_first(name, kind, batch, lr):
    settings = presets.settings(DATA[name], "there")
    assert (settings.net["kind"], settings.training.batch, settings.training.lr) == (kind, batch, lr)
    assert presets.steps_for(settings) == presets.STEPS[kind]
    chosen = presets.settings(DATA[name], "there", batch=5, lr=0.5).training
    assert (chosen.batch, chosen.lr) == (5, 0.5)
    for about in fields(TrainingOptions):
        if about.name not in ("batch", "lr"):
            assert getattr(settings.training, about.name) == about.default


def test_labels_are_dropped_by_default_only_with_classes():
    data = DATA["labelled points"]
    assert presets.settings(data, "there").training.label_drop == 0
    assert presets.settings(data, "there", classes=True).training.label_drop == 0.1
    assert presets.settings(data, "there", classes=True, label_drop=0.0).training.label_drop == 0
    described = {"kind": "mlp", "dim": 3, "T": 1000, "classes": 4}
    assert presets.settings(data, "there", net=described).training.label_drop == 0.1


def test_the_network_for_the_digits_is_the_documented_one():
    settings = presets.settings(DATA["images"], "there")
    assert settings.net == {
        "kind": "unet",
        "size": 8,
        "channels": 1,
        "width": 32,
        "multipliers": [1, 2],
        "depth": 1,
        "attention": [4],
        "groups": 8,
        "dropout": 0.0,
    }
    points = presets.settings(DATA["points"], "there", T=7).net
    assert points == {"kind": "mlp", "dim": 2, "width": 128, "T": 7, "time": "sinusoidal"}


def test_a_whole_description_is_taken_as_it_is():
    described = {"kind": "mlp", "dim": 2, "width": 5, "depth": 1, "T": 9}
    assert presets.settings(DATA["points"], "there", net=described, T=9).net == described
    with pytest.raises(OptionError, match="width, classes: already part of the network's description"):
        presets.settings(DATA["points"], "there", net=described, width=5, classes=True)


@pytest.mark.parametrize(
    "unknown", [{"mood": 1}, {"decay": 0.9, "answers": 2}, {"learned_variance": True}], ids=str
)
def test_an_unknown_option_is_a_type_error_with_the_known_ones(unknown):
    with pytest.raises(TypeError) as caught:
        presets.settings(DATA["points"], "there", **unknown)
    head, _, known = str(caught.value).partition("; there are ")
    assert head == f"there is no option {', '.join(sorted(unknown))}"
    assert set(known.split(", ")) == NAMES


@pytest.mark.parametrize(
    "given", [{"lr": 0}, {"T": 0}, {"width": 0}, {"schedule": "sudden"}, {"times": "x"}], ids=str
)
def test_an_option_error_names_the_setting(given):
    with pytest.raises(OptionError, match=f"^{next(iter(given))}: expected "):
        presets.settings(DATA["points"], "there", **given)


def test_the_quickstart_is_a_run_on_the_digits():
    settings = presets.settings(datasets.load("digits"), "digits", **presets.QUICKSTART)
    assert (settings.schedule.schedule, settings.training.batch, settings.training.lr) == ("cosine", 64, 3e-3)
    assert settings.training.warmup == 100 and settings.net["kind"] == "unet"


def test_a_schedule_that_leaves_no_signal_in_float32_is_refused_for_eps():
    data = datasets.load("moons")
    deep = {"beta_start": 0.5, "beta_end": 0.1}
    with pytest.raises(OptionError, match=r"0 in float32.*T = 1000"):
        presets.settings(data, "moons", **deep)
    assert presets.settings(data, "moons", prediction="v", **deep).training.prediction == "v"
