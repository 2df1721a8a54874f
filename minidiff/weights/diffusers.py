"""The configuration of `diffusers.UNet2DModel`, and the arguments of `nn.UNet` for the same network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from minidiff.nn import arguments
from minidiff.nn.unet import height_and_width, sides

# What a key stands for that is left out, and values that the U-Net here can have: None where any will do.
DEFAULTS: dict[str, Any] = {
    "sample_size": None,
    "in_channels": 3,
    "out_channels": 3,
    "center_input_sample": False,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,
    "freq_shift": 0,
    "flip_sin_to_cos": True,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"],
    "mid_block_type": "UNetMidBlock2D",
    "up_block_types": ["AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [224, 448, 672, 896],
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "downsample_padding": 1,
    "downsample_type": "conv",
    "upsample_type": "conv",
    "dropout": 0.0,
    "act_fn": "silu",
    "attention_head_dim": 8,
    "norm_num_groups": 32,
    "attn_norm_num_groups": None,
    "norm_eps": 1e-5,
    "resnet_time_scale_shift": "default",
    "add_attention": True,
    "class_embed_type": None,
    "num_class_embeds": None,
    "num_train_timesteps": None,
}
SUPPORTED: dict[str, tuple[Any, ...]] = {
    "_class_name": ("UNet2DModel",),
    "center_input_sample": (False,),
    "time_embedding_type": ("positional",),
    "freq_shift": (0, 1),
    "flip_sin_to_cos": (False, True),
    "mid_block_type": ("UNetMidBlock2D",),
    "mid_block_scale_factor": (1,),
    "downsample_padding": (0, 1),
    "downsample_type": ("conv",),
    "upsample_type": ("conv",),
    "act_fn": ("silu", "swish"),
    "attn_norm_num_groups": (None,),
    "resnet_time_scale_shift": ("default",),
    "class_embed_type": (None,),
    "num_class_embeds": (None,),
}
BLOCKS = {"down": ("DownBlock2D", "AttnDownBlock2D"), "up": ("UpBlock2D", "AttnUpBlock2D")}


def settings(config: Mapping[str, Any], size: int | Sequence[int] | None = None) -> dict[str, Any]:
    """The arguments of `nn.UNet` for the network of a config.json.

    size: H and W, or one number for both, in place of the configuration's. Raises ValueError, which names the key, for
    what the U-Net here does not have.
    """
    values = DEFAULTS | {"_class_name": None} | dict(config)
    for key, value in values.items():
        if key not in DEFAULTS and not key.startswith("_"):
            raise ValueError(
                f"{key!r:.80} is not supported; expected the settings of UNet2DModel in diffusers 0.42"
            )
        require(key, value, SUPPORTED.get(key))
    for key in ("in_channels", "layers_per_block", "norm_num_groups"):
        arguments.integer(key, values[key])
    channels, width, widths = values["in_channels"], *_widths(values["block_out_channels"])
    require("time_embedding_dim", values["time_embedding_dim"], (None, 4 * width))
    require("out_channels", values["out_channels"], (channels, 2 * channels))
    size = values["sample_size"] if size is None else size
    if size is None:
        raise ValueError("sample_size is missing: give the images' size with --size")
    head_channels = values["attention_head_dim"]
    return {
        "size": size,
        "channels": channels,
        "width": width,
        "multipliers": [n // width if n % width == 0 else n / width for n in widths],
        "depth": values["layers_per_block"],
        "attention": _attention(values, size, len(widths)),
        "groups": values["norm_num_groups"],
        "dropout": values["dropout"],
        "learned_variance": values["out_channels"] != channels,
        "middle_attention": values["add_attention"],
        "head_channels": 0 if head_channels is None else head_channels,
        "norm_eps": values["norm_eps"],
        "time_offset": -1,
        "freq_shift": values["freq_shift"],
        "symmetric": values["downsample_padding"] == 1,
    }


def configuration(net: Mapping[str, Any]) -> dict[str, Any]:
    """The config.json of a U-Net with these settings; ValueError, which names the setting, where there is none."""
    size, multipliers, attention = net["size"], net["multipliers"], net["attention"]
    widths = [round(net["width"] * m) for m in multipliers]
    levels = sides(size, len(widths))
    attends = [max(pixels) in attention for pixels in levels]
    factor = 2 ** (len(widths) - 1)
    if net["classes"]:
        raise ValueError("classes: DDPMPipeline samples without labels, so none can be exported")
    if multipliers[0] != 1:
        raise ValueError(
            f"multipliers: diffusers has 1 at full resolution, this network has {multipliers[0]}"
        )
    if any(side % factor for side in levels[0]):
        raise ValueError(f"size: diffusers takes sides that {factor} divides, this network has {size}")
    heads = net["heads"]
    attending = {n for n, attend in zip(widths, attends, strict=True) if attend}
    attending |= {widths[-1]} if net["middle_attention"] else set()
    if heads != 1 and len(attending) > 1:
        raise ValueError(
            f"heads: diffusers has as many channels in every head, this network {heads} heads of each "
            f"of {sorted(attending)} channels"
        )
    head_channels = net["head_channels"] or (None if heads == 1 else max(attending, default=heads) // heads)
    return DEFAULTS | {
        "_class_name": "UNet2DModel",
        "sample_size": size,
        "in_channels": net["channels"],
        "out_channels": net["channels"] * (2 if net["learned_variance"] else 1),
        "freq_shift": net["freq_shift"],
        "flip_sin_to_cos": False,
        "down_block_types": [BLOCKS["down"][attend] for attend in attends],
        "up_block_types": [BLOCKS["up"][attend] for attend in reversed(attends)],
        "block_out_channels": widths,
        "layers_per_block": net["depth"],
        "downsample_padding": int(net["symmetric"]),
        "dropout": net["dropout"],
        "attention_head_dim": head_channels,
        "norm_num_groups": net["groups"],
        "norm_eps": net["norm_eps"],
        "add_attention": net["middle_attention"],
    }


def require(key: str, value: Any, choices: tuple[Any, ...] | None) -> None:
    """Raises ValueError unless the value is one of the choices; None: it may be any."""
    if choices is not None and not any(value == choice for choice in choices):
        expected = " or ".join("null" if choice is None else f"{choice}" for choice in choices)
        raise ValueError(f"{key} {value!r:.80} is not supported; expected {expected}")


def _widths(channels: object) -> tuple[int, list[int]]:
    if not isinstance(channels, list) or not channels or not all(type(n) is int and n > 0 for n in channels):
        raise ValueError(f"block_out_channels: expected a list of integers > 0, got {channels!r:.80}")
    return channels[0], channels


def _attention(values: Mapping[str, Any], size: Any, levels: int) -> list[int]:
    """The levels that attend, each by its longer side in pixels."""
    attends = []
    for direction, blocks in BLOCKS.items():
        types = values[f"{direction}_block_types"]
        if not isinstance(types, list) or len(types) != levels:
            raise ValueError(
                f"{direction}_block_types: expected a list of {levels} blocks, got {types!r:.80}"
            )
        for name in types:
            require(f"{direction}_block_types", name, blocks)
        attends.append([name == blocks[1] for name in types])
    if attends[0] != attends[1][::-1]:
        raise ValueError("up_block_types: expected attention where down_block_types has it")
    pixels = [max(level) for level in sides(height_and_width(size), levels)]
    attention = [side for side, attend in zip(pixels, attends[0], strict=True) if attend]
    if [side in attention for side in pixels] != attends[0]:
        raise ValueError(f"sample_size: two levels have {pixels[-1]} pixels, and only one of them attends")
    return attention
