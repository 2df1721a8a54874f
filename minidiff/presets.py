"""What is trained when nothing more is said than the data: a network that suits it, and how long."""

from __future__ import annotations

from minidiff.datasets import Dataset
from minidiff.runs import Settings

STEPS = {"mlp": 20_000, "unet": 5_000}
GROUPS = 8  # of every norm
QUICKSTART_STEPS, QUICKSTART_MINUTES = 1000, 1.7


def network(data: Dataset, kind: str | None, T: int, width: int | None) -> dict[str, object]:
    """The description of a network for a data set: an MLP for points, a small U-Net for square images.

    The U-Net halves the image while its side stays even, twice at most and not below 4 pixels, and attends where
    it has 8 pixels a side or fewer. Raises ValueError for a kind that does not fit the data.
    """
    shape = data.x.shape[1:]
    kind = kind or ("mlp" if len(shape) == 1 else "unet")
    if kind == "mlp":
        if len(shape) != 1:
            raise ValueError(f"the MLP takes points, {data.name} has images of shape {shape}: use the U-Net")
        return {"kind": "mlp", "dim": shape[0], "width": width or 128, "T": T}
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
        "attention": [side >> n for n in range(halvings + 1) if side >> n <= 8],
        "groups": GROUPS,
        "dropout": 0.0,
    }


def quickstart(data: Dataset) -> Settings:
    """The settings of `minidiff quickstart`: good digits in under two minutes on two cores."""
    schedule = {"name": "linear", "T": 1000}
    return Settings(data.name, network(data, "unet", schedule["T"], width=None), schedule)
