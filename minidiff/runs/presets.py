"""The settings of a run when little more than the data is given: a network that fits it, and how long to train."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import Field, fields
from typing import Any

import numpy as np

from minidiff.datasets import Dataset
from minidiff.diffusion import schedules
from minidiff.nn import NETWORKS
from minidiff.options import OptionError, Options
from minidiff.runs.settings import Settings
from minidiff.training.objectives import Objective
from minidiff.training.options import NetworkOptions, ScheduleOptions, TrainingOptions

STEPS = {"mlp": 10_000, "unet": 5_000}
TRAINING = {"mlp": {"batch": 512, "lr": 2e-3}, "unet": {"batch": 64, "lr": 1e-3}}
LABELS = {"mlp": "MLP", "unet": "U-Net"}
# The defaults that the schedules' functions have themselves.
BETAS = {
    name: parameter.default
    for function in (schedules.linear, schedules.constant)
    for name, parameter in inspect.signature(function).parameters.items()
    if name != "T"
}
GROUPS = 8  # of every group norm
LABEL_DROP = 0.1  # with classes: as in Ho & Salimans 2022, it costs neither distribution much
# Good digits in under two minutes on two cores. Of those tried for 90 s, batches of 64 did better than of 128, the
# cosine schedule than the linear, and learning rates of 0.002 to 0.004 than 0.001.
QUICKSTART: dict[str, Any] = {"schedule": "cosine", "batch": 64, "lr": 3e-3, "warmup": 100}
QUICKSTART_STEPS, QUICKSTART_MINUTES = 1600, 2.1  # whichever ends first


def settings(
    data: Dataset, source: str, seed: int = 0, net: str | Mapping[str, Any] | None = None, **options: Any
) -> Settings:
    """The settings of a run on a data set: what is given, and for the rest what suits the data.

    source: where the data is loaded from again, a name or a path. net: the kind of network, or a whole description as
    `nn.build` takes it. options: any field of `NetworkOptions`, `ScheduleOptions` and `TrainingOptions`.

    Raises TypeError for an option that there is not, and OptionError for values that do not fit, alone or together.
    """
    kinds = NetworkOptions, ScheduleOptions, TrainingOptions
    known = {field.name: kind for kind in kinds for field in fields(kind)}
    if unknown := options.keys() - known.keys():
        raise TypeError(f"there is no option {', '.join(sorted(unknown))}; there are {', '.join(known)}")

    try:
        return _settings(data, source, seed, net, known, options)
    except OptionError:
        raise
    except ValueError as error:
        raise OptionError(str(error)) from error


def _settings(
    data: Dataset,
    source: str,
    seed: int,
    net: str | Mapping[str, Any] | None,
    known: Mapping[str, type[Options]],
    options: Mapping[str, Any],
) -> Settings:
    def given(kind: type[Options]) -> dict[str, Any]:
        return {name: value for name, value in options.items() if known[name] is kind}

    schedule = ScheduleOptions(**given(ScheduleOptions))
    if isinstance(net, Mapping):
        if given(NetworkOptions):
            raise ValueError(f"{', '.join(given(NetworkOptions))}: already part of the network's description")
        description = dict(net)
        if "kind" not in description:
            raise ValueError(
                f"net: expected a description with a 'kind', one of {', '.join(NETWORKS)}; got {net}"
            )
    else:
        description = network(data, NetworkOptions(net=net, **given(NetworkOptions)), schedule.T)
    defaults: dict[str, Any] = dict(TRAINING.get(description["kind"], {}))
    if description.get("classes"):
        defaults["label_drop"] = LABEL_DROP
    training = TrainingOptions(**defaults | given(TrainingOptions))
    built = schedule.build()
    Objective(built, training.prediction, training.weighting)  # refuses what cannot be learned
    if training.prediction == "eps" and np.float32(built.alpha_bar[-1] ** 0.5) == 0:
        raise ValueError(f"√ᾱ_T is 0 in float32, so x₀ does not follow from ε at T = {built.T}: lower the β")
    return Settings(source, description, schedule, training, seed)


def steps_for(settings: Settings) -> int:
    """How many steps to train by default."""
    return STEPS.get(settings.net["kind"], max(STEPS.values()))


def default_of(about: Field[Any]) -> str:
    """The default of a setting, in words for its help; '' where it is no value."""
    by_kind = {kind: options[about.name] for kind, options in TRAINING.items() if about.name in options}
    if by_kind:
        return ", ".join(f"{value} for the {LABELS[kind]}" for kind, value in by_kind.items())
    if about.name == "label_drop":
        return f"{about.default}, with classes {LABEL_DROP}"
    if about.name in BETAS:
        return f"{BETAS[about.name]}"
    return "" if about.default is None else f"{about.default}"


def network(data: Dataset, options: NetworkOptions, T: int) -> dict[str, Any]:
    """The description of a network for a data set: an MLP for points, a small U-Net for square images.

    The MLP embeds the time by sines and cosines, which reach a lower error sooner than a learned vector for each time.

    The U-Net halves the image while its side stays even, twice at most and not below 4 pixels, and attends at the
    last of these resolutions.

    Raises ValueError for a kind that does not fit the data, for classes where the data has no labels, and for a
    learned variance where there is but one step.
    """
    more: dict[str, Any] = {}
    if options.classes:
        if not data.classes:
            raise ValueError(f"{data.name} has no labels, so the network cannot be conditioned on classes")
        more["classes"] = data.classes
    if options.learn_variance:
        if T < 2:
            raise ValueError(
                "a variance is learned between β̃ and β, and a single step has no β̃: take --T 2 or more"
            )
        more["learned_variance"] = True
    shape = data.x.shape[1:]
    kind = options.net or ("mlp" if len(shape) == 1 else "unet")
    if kind not in TRAINING:
        raise ValueError(
            f"the network {kind!r} has no preset: give its whole description, {{'kind': {kind!r}, …}}"
        )
    if kind == "mlp":
        if len(shape) != 1:
            raise ValueError(f"the MLP takes points, {data.name} has images of shape {shape}: use the U-Net")
        width = options.width or 128
        return {"kind": "mlp", "dim": shape[0], "width": width, "T": T, "time": "sinusoidal", **more}
    return _unet(data.name, shape, options.width or 32) | more


def _unet(name: str, shape: tuple[int, ...], width: int) -> dict[str, Any]:
    if len(shape) != 3 or shape[0] != shape[1]:
        raise ValueError(f"the U-Net takes square images; a sample of {name} has shape {shape}")
    if width % GROUPS:
        raise ValueError(f"width: expected a multiple of {GROUPS} for the U-Net, got {width}")
    side = shape[0]
    halvings = next((n for n in (2, 1) if side % 2**n == 0 and side >> n >= 4), 0)
    return {
        "kind": "unet",
        "size": side,
        "channels": shape[2],
        "width": width,
        "multipliers": [1, 2, 2][: halvings + 1],
        "depth": 1,
        "attention": [side >> halvings],
        "groups": GROUPS,
        "dropout": 0.0,
    }
