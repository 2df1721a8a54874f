"""U-Nets by name: what they are built of at any size of image, and how they are trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from minidiff.nn.unet import sides

MOST_ATTENDED = 256  # pixels: the weights of attention take memory and time with their square
SMALLEST_SIDE = 4  # pixels to which a small U-Net halves an image


@dataclass(frozen=True)
class UNetPreset:
    """parts: arguments of `nn.UNet`; without multipliers they follow from the size. training: as `TrainingOptions`.

    attends_early: at the first level of at most `MOST_ATTENDED` pixels, as the paper's; else at the last.
    """

    parts: Mapping[str, Any]
    training: Mapping[str, Any]
    attends_early: bool

    def multipliers(self, size: Sequence[int]) -> list[int]:
        """Those of the preset, or of a U-Net that suits a size (H, W).

        The second halves the sides at most twice, not below SMALLEST_SIDE, then on to MOST_ATTENDED pixels. It has
        twice the channels in its last two levels.
        """
        if "multipliers" in self.parts:
            return list(self.parts["multipliers"])
        levels = 1
        while (levels < 3 and min(size) >> levels >= SMALLEST_SIDE) or _pixels(size, levels) > MOST_ATTENDED:
            levels += 1
        return [1] * max(1, levels - 2) + [2] * min(levels - 1, 2)

    def attention(self, size: Sequence[int], levels: int) -> list[int]:
        """Where it attends, as `nn.UNet` takes it: one level at most."""
        few = [max(pixels) for pixels in sides(size, levels) if pixels[0] * pixels[1] <= MOST_ATTENDED]
        return few[:1] if self.attends_early else few[-1:]


def _pixels(size: Sequence[int], levels: int) -> int:
    """Those of the last of so many levels."""
    height, width = sides(size, levels)[-1]
    return height * width


PAPER: dict[str, Any] = {"width": 128, "depth": 2, "groups": 32}
# Ho et al. 2020, appendix B: on CIFAR-10, and on CelebA-HQ and LSUN at 256 × 256.
PAPER_TRAINING: dict[str, Any] = {"warmup": 5000, "ema_decay": 0.9999, "times": "uniform", "flip": True}
UNETS = {
    "small": UNetPreset(
        {"width": 32, "depth": 1, "groups": 8, "dropout": 0.0}, {"batch": 32, "lr": 1e-3}, attends_early=False
    ),
    "ddpm-cifar10": UNetPreset(
        PAPER | {"multipliers": (1, 2, 2, 2), "dropout": 0.1},
        PAPER_TRAINING | {"batch": 128, "lr": 2e-4},
        attends_early=True,
    ),
    "ddpm-256": UNetPreset(
        PAPER | {"multipliers": (1, 1, 2, 2, 4, 4), "dropout": 0.0},
        PAPER_TRAINING | {"batch": 64, "lr": 2e-5},
        attends_early=True,
    ),
}
