"""The network of Ho et al. from its weights alone: what pesser/pytorch_diffusion and ermongroup/ddim have.

Their files have no configuration. Width, multipliers, depth and attention follow from the names and shapes of the
arrays; the size of the images does not, since all is convolution. The rest is the same in all of these networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from minidiff.nn.unet import sides

GROUPS = 32
LEVELS, BLOCKS = 16, 64  # at most, so that a strange file ends soon


def is_ho(arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether the arrays have the names of this network."""
    return "temb.dense.0.weight" in arrays


def settings(arrays: Mapping[str, np.ndarray], size: int | Sequence[int] | None) -> dict[str, Any]:
    """The arguments of `nn.UNet` for the network with these parameters.

    size: H and W of its images, or one number for both. Raises ValueError where it is None, or arrays are missing.
    """
    if size is None:
        raise ValueError("the size of the images does not follow from the weights: give it with --size")
    try:
        width, channels = arrays["conv_in.weight"].shape[:2]
        outputs = len(arrays["conv_out.weight"])
        widths = _counted(arrays, "down.{}.block.0.conv1.weight", LEVELS)
        depth = len(_counted(arrays, "down.0.block.{}.conv1.weight", BLOCKS))
    except (KeyError, ValueError) as error:
        raise ValueError(f"{error} is missing or has another shape") from error
    if not widths or not width or outputs not in (channels, 2 * channels):
        raise ValueError("it has the names of Ho's network, but not the shapes")
    attends = [f"down.{level}.attn.0.q.weight" in arrays for level in range(len(widths))]
    pixels = [max(level) for level in sides(size, len(widths))]
    return {
        "size": size,
        "channels": channels,
        "width": width,
        "multipliers": [n // width if n % width == 0 else n / width for n in widths],
        "depth": depth,
        "attention": [side for side, attend in zip(pixels, attends, strict=True) if attend],
        "groups": GROUPS,
        "dropout": 0.0,
        "learned_variance": outputs != channels,
        "time_offset": -1,
    }


def _counted(arrays: Mapping[str, np.ndarray], pattern: str, most: int) -> list[int]:
    """The lengths of the arrays whose names have 0, 1, 2, … in the pattern."""
    names = [pattern.format(number) for number in range(most)]
    return [len(arrays[name]) for name in names if name in arrays]
