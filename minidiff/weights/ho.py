"""The network of Ho et al. from its weights alone: what pesser/pytorch_diffusion and ermongroup/ddim have.

Their files have no configuration. Width, multipliers, depth and attention follow from the names and shapes of the
arrays; the size of the images does not, since all is convolution. The rest is the same in all of these networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count, takewhile
from typing import Any

import numpy as np

from minidiff.nn.unet import sides

GROUPS = 32


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
        (width, channels), outputs = arrays["conv_in.weight"].shape[:2], arrays["conv_out.weight"].shape[0]
        widths = _outputs(arrays, "down.{}.block.0.conv1.weight")
        depth = len(_outputs(arrays, "down.0.block.{}.conv1.weight"))
    except (KeyError, ValueError, IndexError) as error:
        raise ValueError("expected conv_in.weight, conv_out.weight and other convolutions") from error
    if not widths or not width or outputs not in (channels, 2 * channels):
        raise ValueError(
            f"expected outputs for {channels} channels and one level or more, got {outputs}, {widths}"
        )
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


def _outputs(arrays: Mapping[str, np.ndarray], pattern: str) -> list[int]:
    """The channels of the convolutions whose names have 0, 1, 2, … in the pattern, as long as there are any."""
    names = takewhile(arrays.__contains__, map(pattern.format, count()))
    return [arrays[name].shape[0] for name in names]
