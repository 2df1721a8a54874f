"""The configuration of diffusers' schedulers, and the settings of a run for the same noise and prediction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from minidiff.weights.diffusers import require

CLASSES = ("DDPMScheduler", "DDIMScheduler")
# What a key stands for that is left out.
DEFAULTS: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    "variance_type": "fixed_small",
    "clip_sample": True,
    "clip_sample_range": 1.0,
    "prediction_type": "epsilon",
    "thresholding": False,
    "timestep_spacing": "leading",
    "steps_offset": 0,
    "rescale_betas_zero_snr": False,
}
SCHEDULES = {
    "linear": "linear",
    "scaled_linear": "quadratic",
    "squaredcos_cap_v2": "cosine",
    "sigmoid": "sigmoid",
}
PREDICTIONS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
VARIANCES = {
    "fixed_small": "small",
    "fixed_small_log": "small",
    "fixed_large": "large",
    "learned_range": "learned",
}
SPACINGS = ("leading", "linspace", "trailing")


class Scheduler(NamedTuple):
    """schedule: the settings of the noise schedule by name. prediction: what the network predicts. clip_x0: whether
    x̂₀ is clipped. variance, spacing: options of sampling that a run has no setting for.
    """

    schedule: dict[str, Any]
    prediction: str
    clip_x0: bool
    variance: str
    spacing: str


def read(config: Mapping[str, Any]) -> Scheduler:
    """What a scheduler_config.json says. Raises ValueError, which names the key, for what there is not here."""
    values = {"_class_name": CLASSES[0]} | DEFAULTS | dict(config)
    for key, choices in {
        "_class_name": CLASSES,
        "beta_schedule": tuple(SCHEDULES),
        "variance_type": tuple(VARIANCES),
        "clip_sample": (False, True),
        "prediction_type": tuple(PREDICTIONS),
        "thresholding": (False,),
        "timestep_spacing": SPACINGS,
        "rescale_betas_zero_snr": (False, True),
    }.items():
        require(key, values[key], choices)
    if values["clip_sample"]:
        require("clip_sample_range", values["clip_sample_range"], (1.0,))
    schedule: dict[str, Any] = {"T": values["num_train_timesteps"]}
    if (betas := values["trained_betas"]) is not None:
        if not isinstance(betas, list) or not all(isinstance(beta, float) for beta in betas):
            raise ValueError(f"trained_betas: expected a list of numbers, got {betas!r:.80}")
        schedule["betas"] = betas
    else:
        schedule["schedule"] = SCHEDULES[values["beta_schedule"]]
        if schedule["schedule"] != "cosine":
            schedule |= {key: values[key] for key in ("beta_start", "beta_end")}
    if values["rescale_betas_zero_snr"]:
        schedule["zero_terminal_snr"] = True
    return Scheduler(
        schedule,
        PREDICTIONS[values["prediction_type"]],
        values["clip_sample"],
        VARIANCES[values["variance_type"]],
        values["timestep_spacing"],
    )


def configuration(
    schedule: Mapping[str, Any], betas: list[float], prediction: str, clip_x0: bool, learned_variance: bool
) -> dict[str, Any]:
    """The scheduler_config.json of a run.

    schedule: its settings, and betas, β_1…β_T as they follow, before they are rescaled, for one without a name there.
    """
    named = {ours: theirs for theirs, ours in SCHEDULES.items()}
    name = None if schedule["betas"] else named.get(schedule["schedule"])
    given = {key: schedule[key] for key in ("beta_start", "beta_end") if schedule[key] is not None}
    return (
        DEFAULTS
        | given
        | {
            "_class_name": CLASSES[0],
            "num_train_timesteps": schedule["T"],
            "beta_schedule": name or "linear",
            "trained_betas": None if name else betas,
            "variance_type": "learned_range" if learned_variance else "fixed_small",
            "clip_sample": clip_x0,
            "prediction_type": next(theirs for theirs, ours in PREDICTIONS.items() if ours == prediction),
            "rescale_betas_zero_snr": schedule["zero_terminal_snr"],
        }
    )
