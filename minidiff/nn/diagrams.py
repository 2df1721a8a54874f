"""The U-Net as text, drawn from the network itself."""

from __future__ import annotations

from collections.abc import Sequence

from minidiff.nn.module import Module
from minidiff.nn.unet import Downsample, Stage, UNet, Upsample, sides

LEGEND = (
    "a number: a block with so many channels; *: and attention; ↓ ↑: half, twice the resolution; ──: skips"
)
STEP = "   "  # by which a level is indented, on both sides


def diagram(net: UNet) -> str:
    """The levels of a U-Net below each other, the way down on the left and the way up on the right.

        8×8     1→32  32 32 ─────── 32 32 32  32→1
        4×4        ↓ 64* 64* ──── 64* 64* 64* ↑
        middle              64* 64

    At the ends are convolutions, from 1 channel to 32 and back. Each block on the way up takes, beside its input, what
    was computed on the way down at its level: a skip.
    """
    downs = _levels(net.down, Downsample)
    ups = list(reversed(_levels(net.up, Upsample)))
    (*_, inputs, first), (*_, last, outputs) = net.first.w.shape, net.last.w.shape
    downs[0], ups[0] = f"{inputs}→{first}  {downs[0]}", f"{ups[0]}  {last}→{outputs}"
    before, attention, after = net.middle
    middle = " ".join([_block(before.conv2.b.size, attention is not None), _block(after.conv2.b.size, False)])

    names = [f"{height}×{width}" for height, width in sides(net.shape[:2], net.levels)]
    lefts = [STEP * level + ("↓ " if level else "") + blocks for level, blocks in enumerate(downs)]
    rights = [blocks + (" ↑" if level else "") + STEP * level for level, blocks in enumerate(ups)]
    left, right = max(map(len, lefts)), max(map(len, rights))
    lines = [
        f"{name:8}{a} {'─' * (left - len(a) + right - len(b) + 4)} {b}".rstrip()
        for name, a, b in zip(names, lefts, rights, strict=True)
    ]
    return "\n".join([*lines, f"{'middle':8}{middle:>{left + 3 + len(middle) // 2}}", LEGEND])


def _levels(modules: Sequence[Module], between: type[Module]) -> list[str]:
    """The blocks among the modules, level by level; one of `between` lies between two levels."""
    levels: list[list[str]] = [[]]
    for module in modules:
        if isinstance(module, between):
            levels.append([])
        elif isinstance(module, Stage):
            levels[-1].append(_block(module.block.conv2.b.size, module.attention is not None))
    return [" ".join(blocks) for blocks in levels]


def _block(channels: int, attends: bool) -> str:
    return f"{channels}{'*' if attends else ''}"
