"""What is trained when nothing more is said than the data: a network that suits it, and how long."""

from __future__ import annotations

from minidiff.datasets import Dataset
from minidiff.runs.run import Settings

STEPS = {"mlp": 10_000, "unet": 5_000}
TRAINING = {"mlp": {"batch": 512, "lr": 2e-3}, "unet": {"batch": 64, "lr": 1e-3}}
GROUPS = 8  # of every norm
LABEL_DROP = 0.1  # where classes are told: as in Ho & Salimans 2022, and little is lost of either law
QUICKSTART_STEPS, QUICKSTART_MINUTES = 1600, 2.1  # whichever ends first


def network(
    data: Dataset,
    kind: str | None,
    T: int,
    width: int | None,
    classes: bool = False,
    learn_variance: bool = False,
) -> dict[str, object]:
    """The description of a network for a data set: an MLP for points, a small U-Net for square images.

    The MLP knows the time by sines and cosines: they come closer, sooner, than a learned vector for each time.

    The U-Net halves the image while its side stays even, twice at most and not below 4 pixels, and attends at the
    last of these resolutions. classes: whether it is told the labels of the data.
    learn_variance: whether it also says how wide the step back is.

    Raises ValueError for a kind that does not fit the data, for classes where the data has no labels, and for a
    variance where there is but one step.
    """
    if classes and not data.classes:
        raise ValueError(f"{data.name} has no labels, so there are no classes to tell the network")
    more = {"classes": data.classes} if classes else {}
    if learn_variance:
        if T < 2:
            raise ValueError(
                "a variance is learned between β̃ and β, and one step has no β̃: take --T 2 or more"
            )
        more["answers"] = 2
    shape = data.x.shape[1:]
    kind = kind or ("mlp" if len(shape) == 1 else "unet")
    if kind == "mlp":
        if len(shape) != 1:
            raise ValueError(f"the MLP takes points, {data.name} has images of shape {shape}: use the U-Net")
        return {"kind": "mlp", "dim": shape[0], "width": width or 128, "T": T, "time": "sinusoidal", **more}
    if len(shape) != 3 or shape[0] != shape[1]:
        raise ValueError(f"the U-Net takes square images; a sample of {data.name} has shape {shape}")
    if width and width % GROUPS:
        raise ValueError(f"the U-Net takes a width that {GROUPS} divides, got {width}")
    side = shape[0]
    halvings = next((n for n in (2, 1) if side % 2**n == 0 and side >> n >= 4), 0)
    return {
        "kind": "unet",
        "size": side,
        "channels": shape[2],
        "width": width or 32,
        "multipliers": [1, 2, 2][: halvings + 1],
        "depth": 1,
        "attention": [side >> halvings],
        "groups": GROUPS,
        "dropout": 0.0,
        **more,
    }


def quickstart(data: Dataset) -> Settings:
    """The settings of `minidiff quickstart`: good digits in under two minutes on two cores.

    Of those tried for 90 s, batches of 64 did better than of 128, the cosine schedule than the linear, and a rate
    of 0.002 to 0.004 than 0.001.
    """
    schedule = {"name": "cosine", "T": 1000}
    net = network(data, "unet", schedule["T"], width=None)
    return Settings(data.name, net, schedule, batch=64, lr=3e-3, warmup=100)
