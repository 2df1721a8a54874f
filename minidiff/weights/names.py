"""The parameters of the U-Net under the names, and in the layout, that other libraries give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np


class Naming(NamedTuple):
    """What another library calls the modules of the U-Net, each by its name here.

    down, up: of the way down and up the patterns of a block, its attention and the resampling behind the blocks of a
    level, with i for the level, or n for the level counted from the lowest resolution, and j for the block in it.
    """

    top: Mapping[str, str]
    down: tuple[str, str, str]
    up: tuple[str, str, str]
    block: Mapping[str, str]
    attention: Mapping[str, str]


# diffusers.UNet2DModel, and the same with the names that its attention had before version 0.17
DIFFUSERS = Naming(
    top={
        "first": "conv_in",
        "time1": "time_embedding.linear_1",
        "time2": "time_embedding.linear_2",
        "middle.0": "mid_block.resnets.0",
        "middle.1": "mid_block.attentions.0",
        "middle.2": "mid_block.resnets.1",
        "norm": "conv_norm_out",
        "last": "conv_out",
    },
    down=(
        "down_blocks.{i}.resnets.{j}",
        "down_blocks.{i}.attentions.{j}",
        "down_blocks.{i}.downsamplers.0.conv",
    ),
    up=("up_blocks.{n}.resnets.{j}", "up_blocks.{n}.attentions.{j}", "up_blocks.{n}.upsamplers.0.conv"),
    block={"norm1": "norm1", "conv1": "conv1", "time": "time_emb_proj"}
    | {"norm2": "norm2", "conv2": "conv2", "shortcut": "conv_shortcut"},
    attention={"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "project": "to_out.0"},
)
DIFFUSERS_BEFORE = DIFFUSERS._replace(
    attention={"norm": "group_norm", "q": "query", "k": "key", "v": "value", "project": "proj_attn"}
)
# Ho et al.'s own network as ported to PyTorch by pesser/pytorch_diffusion and ermongroup/ddim
HO = Naming(
    top={
        "first": "conv_in",
        "time1": "temb.dense.0",
        "time2": "temb.dense.1",
        "middle.0": "mid.block_1",
        "middle.1": "mid.attn_1",
        "middle.2": "mid.block_2",
        "norm": "norm_out",
        "last": "conv_out",
    },
    down=("down.{i}.block.{j}", "down.{i}.attn.{j}", "down.{i}.downsample.conv"),
    up=("up.{i}.block.{j}", "up.{i}.attn.{j}", "up.{i}.upsample.conv"),
    block={"norm1": "norm1", "conv1": "conv1", "time": "temb_proj"}
    | {"norm2": "norm2", "conv2": "conv2", "shortcut": "nin_shortcut"},
    attention={"norm": "norm", "q": "q", "k": "k", "v": "v", "project": "proj_out"},
)
NAMINGS = (DIFFUSERS, DIFFUSERS_BEFORE, HO)
KINDS = {"w": "weight", "b": "bias", "gamma": "weight", "beta": "bias"}


def name_in(naming: Naming, path: str, levels: int, depth: int) -> str:
    """The name of a parameter, such as "down.0.block.conv1.w", in another library; KeyError where it has none.

    levels, depth: of the network, as of `nn.UNet`.
    """
    *module, kind = path.split(".")
    if module[0] in ("down", "up"):
        going_down = module[0] == "down"
        step, j = divmod(int(module[1]), depth + (1 if going_down else 2))
        level = step if going_down else levels - 1 - step
        patterns = naming.down if going_down else naming.up
        pattern = patterns[("block", "attention", "conv").index(module[2])]
        found = pattern.format(i=level, n=levels - 1 - level, j=j)
        parts = {"block": naming.block, "attention": naming.attention, "conv": {}}[module[2]]
        rest = module[3:]
    else:
        length = 2 if module[0] == "middle" else 1
        found = naming.top[".".join(module[:length])]
        parts, rest = (naming.attention if module[1:2] == ["1"] else naming.block), module[length:]
    return ".".join([found, *(parts[part] for part in rest), KINDS[kind]])


def to_ours(array: np.ndarray, path: str, shape: tuple[int, ...]) -> np.ndarray:
    """An array of another library in the layout of our parameter `path` of that shape.

    Convolutions (O, I, kh, kw) become (kh, kw, I, O); linear maps (O, I), some of them 1×1 convolutions, (I, O).
    """
    if not path.endswith(".w"):
        return array
    if array.ndim == 4:
        array = array.transpose(2, 3, 1, 0)
        return array[0, 0] if len(shape) == 2 and array.shape[:2] == (1, 1) else array
    return array.T


def to_theirs(array: np.ndarray, path: str) -> np.ndarray:
    """Our parameter `path` in the layout of diffusers, where a shortcut is a 1×1 convolution."""
    if not path.endswith(".w"):
        return array
    array = array[None, None] if path.endswith(".shortcut.w") else array
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
