"""Every setting of training is an option of `minidiff train`. All cases come from the fields of the dataclasses."""

from dataclasses import fields

import pytest
from command_line import call, help_of, refusal

from minidiff import datasets, presets
from minidiff.options import OptionError, check
from minidiff.runs import Run, Settings
from minidiff.training import NetworkOptions, ScheduleOptions, TrainingOptions

SETTINGS = [
    (kind, about)
    for kind in (NetworkOptions, ScheduleOptions, TrainingOptions, Settings)
    for about in fields(kind)
    if about.metadata
]
NEEDS = {  # other settings, without which a value would be refused
    "beta": {"schedule": "constant"},
    "beta_end": {"prediction": "v"},
    "zero_terminal_snr": {"prediction": "v"},
    "preset": {"width": 32},  # less than the paper's
    "multipliers": {"width": 8},
}
# Settings, or choices, that do not fit points.
IMAGES = {"classes", "unet", "flip", "preset", *presets.UNET_PARTS}


def flag_of(about):
    return f"--{about.name.replace('_', '-')}"


def is_allowed(value, about):
    try:
        check(about.name, value, about)
    except OptionError:
        return False
    return True


def values_of(about):
    """Values other than the default: every other choice, or a number and the limits that belong to the range."""
    kind, limits, choices = (about.metadata[key] for key in ("type", "limits", "choices"))
    if kind is bool:
        return [not about.default]
    if choices:
        return [choice for choice in choices if choice != about.default]
    if kind is tuple:
        return [(4, 8)]
    number = next(n for n in {int: (16,), float: (0.0125, 2.5)}[kind] if is_allowed(n, about))
    values = [number, *(kind(limit) for sign, limit in limits.items() if sign in "≤≥")]
    return [value for value in values if value != about.default]


def beyond(about):
    """Text that is no value of the setting: of another type, not finite, no choice, beyond each limit."""
    kind, limits, choices = (about.metadata[key] for key in ("type", "limits", "choices"))
    if kind is bool:
        return ["yes"]
    if choices:
        return ["nonesuch", "", "7"]
    if kind is tuple:
        return ["", ",", "4,", "4 8", "4,0", "4,-8", "1.5", "many", "inf"]
    number, step = {int: (int, 1), float: (float, 1e-6)}[kind]
    outside = {"≥": lambda x: x - step, ">": lambda x: x, "<": lambda x: x, "≤": lambda x: x + step}
    numbers = [str(number(outside[sign](limit))) for sign, limit in limits.items()]
    infinite = [] if about.metadata["infinite"] else ["inf"]
    return [*numbers, "many", "", "nan", "-inf", *infinite, *(["1.5"] if kind is int else [])]


CASES = [
    pytest.param(kind, about, value, id=f"{about.name}-{value}")
    for kind, about in SETTINGS
    for value in values_of(about)
]
REFUSED = [
    pytest.param(about, text, id=f"{about.name}={text}") for _, about in SETTINGS for text in beyond(about)
]


def arguments_of(options):
    """{"beta_end": 0.5, "classes": True, "multipliers": (1, 2)} → --beta-end=0.5 --classes --multipliers=1,2"""

    def text(value):
        return ",".join(map(str, value)) if isinstance(value, tuple) else value

    return [
        f"--{name.replace('_', '-')}" + ("" if value is True else f"={text(value)}")
        for name, value in options.items()
    ]


@pytest.fixture
def without_training(without_pictures, monkeypatch):
    """`train` makes the run and saves it, and ends before the first step."""
    monkeypatch.setattr(Run, "train", lambda run, *limits: None)


@pytest.mark.parametrize(("kind", "about", "value"), CASES)
def test_every_setting_arrives_in_the_run(kind, about, value, points_file, without_training, tmp_path):
    folder = tmp_path / "run"
    data = "digits" if {about.name, value} & IMAGES else str(points_file)
    options = {about.name: value, **NEEDS.get(about.name, {})}
    assert call("train", data, *arguments_of(options), "--out", folder) == 0
    settings = Run.open(folder).settings
    if kind is NetworkOptions:
        T = settings.schedule.T
        described = presets.network(datasets.load(data), NetworkOptions(**options), T)
        assert settings.net == described
        key = {"net": "kind", "learn_variance": "learned_variance"}.get(about.name, about.name)
        if key == "preset":
            assert settings.training.lr == presets.UNETS[value].training["lr"]
        elif key == "classes":
            assert described[key] == 10
        else:
            assert described.get(key, 1) == (list(value) if isinstance(value, tuple) else value)
    else:
        found = {
            ScheduleOptions: settings.schedule,
            TrainingOptions: settings.training,
            Settings: settings,
        }[kind]
        assert getattr(found, about.name) == value != about.default
        assert type(getattr(found, about.name)) is about.metadata["type"]


@pytest.mark.parametrize("about", [about for _, about in SETTINGS], ids=lambda about: about.name)
def test_every_setting_is_in_the_help_with_its_default(about, capsys, monkeypatch):
    line = help_of(capsys, monkeypatch, "train")[flag_of(about)]
    assert about.metadata["help"] in line
    default = presets.default_of(about)
    assert about.metadata["type"] is bool or not default or line.endswith(f"({default})")
    assert all(choice in line for choice in about.metadata["choices"])


@pytest.mark.parametrize(("about", "text"), REFUSED)
def test_a_value_outside_its_range_or_choices_is_refused(about, text, tmp_path, capsys):
    line = refusal(capsys, 2, "train", "digits", f"{flag_of(about)}={text}", "--out", tmp_path / "run")
    assert f"argument {flag_of(about)}: " in line
    assert not (tmp_path / "run").exists()
