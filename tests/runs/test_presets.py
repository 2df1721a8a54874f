"""The settings of a run from little more than its data: whatever is not refused can be trained."""

import json
import re
from dataclasses import asdict, fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidiff import datasets, nn, presets
from minidiff.nn.unet import sides
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
        "shards": st.sampled_from([1, 2, 4]),
        "flip": st.booleans(),
        "multipliers": st.sampled_from([(1,), (2, 1), [1, 3]]),
        "depth": st.sampled_from([1, 2]),
        "attention": st.sampled_from([(8,), [3], (5,)]),
        "heads": st.sampled_from([1, 2, 3]),
        "groups": st.sampled_from([1, 4, 8]),
        "dropout": st.sampled_from([0.0, 0.2]),
    },
)


def sides_of(data, given):
    """The longer side of each level, where the multipliers do not say how many."""
    height, width = data.x.shape[1:3]
    longer, levels = (
        max(height, width),
        len(given.get("multipliers") or (1, 2)[: 1 + (min(height, width) >= 8)]),
    )
    return [-(-longer // 2**level) for level in range(levels)]


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
        return "takes points" if image else "takes images"
    if not image and (parts := [part for part in presets.UNET_PARTS if part in given]):
        return f"{', '.join(parts)}: of the U-Net alone"
    if image:
        multipliers, groups, heads = (
            given.get("multipliers") or [1, 2],
            given.get("groups", 8),
            given.get("heads", 1),
        )
        if set(given.get("attention", ())) - {*sides_of(data, given)}:
            return "attention: no level has a longer side of"
        if any((given.get("width") or 32) * m % groups for m in multipliers):
            return f"multiple of {groups}"
        if any((given.get("width") or 32) * m % heads for m in multipliers):
            return "heads: expected a divisor"
    if given.get("zero_terminal_snr") and T < 2:
        return "T ≥ 2"
    if given.get("zero_terminal_snr") and given.get("prediction", "eps") == "eps":
        return "choose the prediction"
    if given.get("weighting") == "bound" and T < 2:
        return "T ≥ 2"
    return None


def refused_by_training(data, given):
    """The same of the settings of training, which are checked after the network's."""
    if given.get("shards", 1) > given.get("batch", 32):
        return "shards: expected at most the batch, 3, got 4"
    return "flip: only images" if given.get("flip") and data.x.ndim != 4 else None


@given(name=st.sampled_from([*DATA]), given=options, seed=st.integers(0, 9))
def test_options_are_refused_by_an_option_error_or_give_a_run_that_trains(name, given, seed):
    data = DATA[name]
    reasons = [
        reason for reason in (refused_because(data, given), refused_by_training(data, given)) if reason
    ]
    if reasons:
        with pytest.raises(OptionError, match="|".join(map(re.escape, reasons))) as caught:
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
    ("name", "kind", "batch", "lr"), [("points", "mlp", 512, 2e-3), ("images", "unet", 32, 1e-3)]
)
def test_the_presets_are_those_of_the_kind_of_network_and_options_come_first(name, kind, batch, lr):
    settings = presets.settings(DATA[name], "there")
    assert (settings.net["kind"], settings.training.batch, settings.training.lr) == (kind, batch, lr)
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


# Of squares whose sides halve evenly: as in version 0.1, so that the same seed gives the same bits.
@pytest.mark.parametrize(
    ("side", "multipliers", "attention"),
    [(n, [1], n) for n in range(1, 8)]
    + [(n, [1, 2], n // 2) for n in (8, 10, 12, 14)]
    + [(n, [1, 2, 2], n // 4) for n in range(16, 65, 4)],
)
def test_squares_that_halve_evenly_keep_their_network(side, multipliers, attention):
    net = presets.network(data_of((side, side, 1)), NetworkOptions(), 1000)
    assert (net["size"], net["multipliers"], net["attention"]) == (side, multipliers, [attention])


@given(height=st.integers(1, 512), width=st.integers(1, 512), channels=st.integers(1, 4))
def test_no_image_is_attended_to_at_more_than_256_pixels(height, width, channels):
    for preset in (None, "ddpm-cifar10", "ddpm-256"):
        data = Shaped((height, width, channels))
        net = presets.network(data, NetworkOptions(preset=preset), 1000)
        levels = dict(enumerate(sides(net["size"], len(net["multipliers"]))))
        attended = [h * w for h, w in levels.values() if max(h, w) in net["attention"]]
        assert all(pixels <= 256 for pixels in attended)
        if preset is None:
            assert attended and levels[len(levels) - 1][0] * levels[len(levels) - 1][1] <= 256


class Shaped:
    """Data of which only the shape of a sample is known."""

    name, classes = "mine", 0

    def __init__(self, shape):
        self.x = np.broadcast_to(np.float32(0), (1, *shape))


def test_the_preset_of_the_paper_is_its_network_and_its_training():
    settings = presets.settings(data_of((32, 32, 3)), "there", preset="ddpm-cifar10")
    net = nn.build(settings.net, np.random.default_rng(0))
    assert net.settings == nn.UNet(np.random.default_rng(0)).settings
    training = settings.training
    assert (training.lr, training.warmup, training.batch) == (2e-4, 5000, 128)
    assert (training.flip, training.ema_decay, training.times, training.clip) == (True, 0.9999, "uniform", 1)
    assert settings.schedule == ScheduleOptions("linear", T=1000)


def test_the_larger_preset_of_the_paper_attends_at_16_pixels():
    settings = presets.settings(Shaped((256, 256, 3)), "there", preset="ddpm-256")
    assert settings.net == {
        "kind": "unet",
        "size": 256,
        "channels": 3,
        "width": 128,
        "multipliers": [1, 1, 2, 2, 4, 4],
        "depth": 2,
        "attention": [16],
        "groups": 32,
        "dropout": 0.0,
    }
    assert (settings.training.lr, settings.training.batch, settings.training.flip) == (2e-5, 64, True)


def test_parts_and_training_that_are_given_come_before_those_of_a_preset():
    given = {"preset": "ddpm-cifar10", "width": 16, "multipliers": (1, 3), "depth": 1, "attention": (8, 4)}
    given |= {"heads": 2, "groups": 8, "dropout": 0.0, "flip": False, "lr": 0.5, "batch": 7}
    settings = presets.settings(data_of((8, 8, 1)), "there", **given)
    assert {name: settings.net[name] for name in ("width", "depth", "heads", "groups", "dropout")} == {
        name: given[name] for name in ("width", "depth", "heads", "groups", "dropout")
    }
    assert (settings.net["multipliers"], settings.net["attention"]) == ([1, 3], [8, 4])
    assert (settings.training.flip, settings.training.lr, settings.training.batch) == (False, 0.5, 7)
    assert settings.training.warmup == 5000


@pytest.mark.parametrize(
    ("data", "given", "message"),
    [
        ("images", {"attention": (16,)}, "attention: no level has a longer side of 16 pixels; they have [8, 4]"),
        ("images", {"heads": 5}, "heads: expected a divisor of the channels of each level, got 5"),
        ("images", {"width": 9}, "width: expected an even number, for sines and cosines of t; got 9"),
        ("points", {"preset": "small", "heads": 2}, "preset, heads: of the U-Net alone, and points has points"),
        ("points", {"flip": True}, "flip: only images can be mirrored, and points has points"),
        ("points", {"preset": "ddpm-cifar10"}, "preset: of the U-Net alone, and points has points"),
    ],
    ids=str,
)  # fmt: skip
def test_parts_that_do_not_fit_are_refused_by_name(data, given, message):
    with pytest.raises(OptionError) as caught:
        presets.settings(data_of(DATA[data].x.shape[1:], name=data), data, **given)
    assert str(caught.value) == message


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
