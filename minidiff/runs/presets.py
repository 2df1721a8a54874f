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
from minidiff.nn.unet import sides
from minidiff.options import OptionError, Options
from minidiff.runs.settings import Settings
from minidiff.training.objectives import Objective
from minidiff.training.options import NetworkOptions, ScheduleOptions, TrainingOptions
from minidiff.training.unets import UNETS

STEPS = 10_000  # by default
TRAINING = {"mlp": {"batch": 512, "lr": 2e-3}, "unet": UNETS["small"].training}
UNET_PARTS = "multipliers", "attention", "heads", "groups", "dropout"
LABELS = {"mlp": "MLP", "unet": "U-Net"}
# The defaults that the schedules' functions have themselves.
BETAS = {
    name: parameter.default
    for function in (schedules.linear, schedules.constant)
    for name, parameter in inspect.signature(function).parameters.items()
    if name != "T"
}
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
    if preset := options.get("preset"):
        defaults |= UNETS[preset].training
    if description.get("classes"):
        defaults["label_drop"] = LABEL_DROP
    training = TrainingOptions(**defaults | given(TrainingOptions))
    if training.flip and data.x.ndim != 4:
        raise ValueError(f"flip: only images can be mirrored, and {data.name} has points")
    built = schedule.build()
    Objective(built, training.prediction, training.weighting)  # refuses what cannot be learned
    if training.prediction == "eps" and np.float32(built.alpha_bar[-1] ** 0.5) == 0:
        raise ValueError(f"√ᾱ_T is 0 in float32, so x₀ does not follow from ε at T = {built.T}: lower the β")
    return Settings(source, description, schedule, training, seed)


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
    """The description of a network for a data set: an MLP for points, a U-Net for images.

    The MLP embeds the time by sines and cosines, which reach a lower error sooner than a learned vector for each time.
    The U-Net is that of `options.preset`, by default the small one, with the parts that are given.

    Raises ValueError for a kind, or parts, that do not fit the data or each other, for classes where the data has no
    labels, and for a learned variance where there is but one step.
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
    if options.width is not None and options.width % 2:
        raise ValueError(f"width: expected an even number, for sines and cosines of t; got {options.width}")
    described = _mlp(data.name, shape, options, T) if kind == "mlp" else _unet(data.name, shape, options)
    return described | more


def _mlp(name: str, shape: tuple[int, ...], options: NetworkOptions, T: int) -> dict[str, Any]:
    if len(shape) != 1:
        raise ValueError(f"the MLP takes points, {name} has images of shape {shape}: use the U-Net")
    if given := [part for part in ("preset", *UNET_PARTS) if getattr(options, part) is not None]:
        raise ValueError(f"{', '.join(given)}: of the U-Net alone, and {name} has points")
    depth = {} if options.depth is None else {"depth": options.depth}
    width = options.width or 128
    return {"kind": "mlp", "dim": shape[0], "width": width, **depth, "T": T, "time": "sinusoidal"}


def _unet(name: str, shape: tuple[int, ...], options: NetworkOptions) -> dict[str, Any]:
    if len(shape) != 3:
        raise ValueError(f"the U-Net takes images; a sample of {name} has shape {shape}")
    height, across, channels = shape
    preset = UNETS[options.preset or "small"]

    def part(key: str, default: Any = None) -> Any:
        given = getattr(options, key)
        return preset.parts.get(key, default) if given is None else given

    multipliers = list(options.multipliers or preset.multipliers((height, across)))
    width, heads, groups = part("width"), part("heads", 1), part("groups")
    levels = [max(pixels) for pixels in sides((height, across), len(multipliers))]
    if missing := [n for n in options.attention or () if n not in levels]:
        raise ValueError(f"attention: no level has a longer side of {missing[0]} pixels; they have {levels}")
    if any(width * m % groups for m in multipliers):
        raise ValueError(f"width: expected a multiple of {groups} for the U-Net, got {width}")
    if any(width * m % heads for m in multipliers):
        raise ValueError(f"heads: expected a divisor of the channels of each level, got {heads}")
    return {
        "kind": "unet",
        "size": height if height == across else [height, across],
        "channels": channels,
        "width": width,
        "multipliers": multipliers,
        "depth": part("depth"),
        "attention": list(options.attention or preset.attention((height, across), len(multipliers))),
        **({} if heads == 1 else {"heads": heads}),
        "groups": groups,
        "dropout": part("dropout"),
    }
