"""The U-Net of the DDPM paper (Ho et al. 2020, appendix B), for any width, depth and size of image.

Down: residual blocks at each resolution, each result kept as a skip, then half the resolution. In the middle
two blocks with attention between. Up: the same in reverse, each block taking the skip of its resolution beside
its input. The time enters every block through sines and cosines and two linear layers.

Half of an odd side is rounded up: zeros fill the last window on the way down, and on the way up the last row or column
is cut off again. So every size is possible, and nothing is computed on padding but there.

With the CIFAR-10 settings (the defaults) it has 35 746 307 parameters in 328 arrays, as the paper's has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from minidiff import autograd as ag
from minidiff import memory
from minidiff.autograd import Tensor
from minidiff.nn import arguments
from minidiff.nn.layers import BYTES_A_PARAMETER, Conv2d, Embedding, GroupNorm, Linear, sinusoidal
from minidiff.nn.module import Module
from minidiff.nn.network import Network

# A step's memory over the maps that the tape keeps: gradients on their way, and buffers that wait to be used again.
# Measured, for images of 8 to 256 pixels a side: 1.4 to 1.9.
HELD = 1.65


class UNet(Network):
    """x (B, H, W, channels), t (B,) → the shape of x.

    size: H and W in pixels, or one number for both.
    width: channels at full resolution; multipliers[i] times that at level i, where `sides(size, …)` are the pixels. A
        multiplier need not be whole, but the channels are.
    depth: residual blocks a level on the way down (one more on the way up).
    attention: the levels where self-attention follows each block, each named by its longer side in pixels.
    middle_attention: whether the middle has it.
    heads: of each attention, or head_channels: how many channels each head has, whatever their number.
    groups: of each norm. Both must divide the channels where they work. norm_eps: what norms add to the variance.
    dropout: rate inside the blocks, drawn from the rng of a training step.
    classes: 0, or how many labels it is conditioned on.
    learned_variance: the output then has twice the channels.
    time_offset: added to t, −1 for a network that was trained with times 0…T−1. freq_shift: as of `sinusoidal`.
    symmetric: halving the resolution takes zeros on every side, not on the right and the bottom alone.

    Raises ValueError, with the name of the argument, where a value is impossible, or groups or heads do not divide.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        size: int | Sequence[int] = 32,
        channels: int = 3,
        width: int = 128,
        multipliers: Sequence[float] = (1, 2, 2, 2),
        depth: int = 2,
        attention: Sequence[int] = (16,),
        heads: int = 1,
        groups: int = 32,
        dropout: float = 0.1,
        classes: int = 0,
        learned_variance: bool = False,
        *,
        middle_attention: bool = True,
        head_channels: int = 0,
        norm_eps: float = 1e-6,
        time_offset: int = 0,
        freq_shift: int = 1,
        symmetric: bool = False,
    ) -> None:
        height, across = height_and_width(size)
        self.settings = dict(
            size=height if height == across else (height, across),
            channels=arguments.integer("channels", channels),
            width=arguments.integer("width", width, at_least=4, even=True),
            multipliers=arguments.multipliers("multipliers", multipliers, width),
            depth=arguments.integer("depth", depth),
            attention=arguments.integers("attention", attention, empty=True),
            heads=arguments.integer("heads", heads),
            groups=arguments.integer("groups", groups),
            dropout=arguments.fraction("dropout", dropout),
            classes=arguments.integer("classes", classes, at_least=0),
            learned_variance=arguments.flag("learned_variance", learned_variance),
            middle_attention=arguments.flag("middle_attention", middle_attention),
            head_channels=arguments.integer("head_channels", head_channels, at_least=0),
            norm_eps=arguments.fraction("norm_eps", norm_eps, zero=False),
            time_offset=arguments.integer("time_offset", time_offset, at_least=-1),
            freq_shift=arguments.integer("freq_shift", freq_shift, at_least=0, at_most=1),
            symmetric=arguments.flag("symmetric", symmetric),
        )
        arguments.generator(rng)
        self.shape, self.width = (height, across, channels), width
        self.classes, self.learned_variance, self.levels = classes, learned_variance, len(multipliers)
        self.time_offset, self.freq_shift = time_offset, freq_shift
        time_width = 4 * width
        self.time1 = Linear(rng, width, time_width)
        self.time2 = Linear(rng, time_width, time_width)
        if classes:
            self.label = Embedding(rng, classes + 1, time_width)
        self.first = Conv2d(rng, channels, width, 3)
        widths = [round(width * m) for m in multipliers]
        attends = [max(pixels) in tuple(attention) for pixels in sides(size, self.levels)]
        norms: Any = dict(groups=groups, eps=norm_eps)
        block = partial(ResidualBlock, rng, time_width=time_width, dropout=dropout, **norms)
        attend = partial(SelfAttention, rng, heads=heads, head_channels=head_channels, **norms)
        self._build_levels(rng, widths, depth, attends, block, attend)
        self.norm = GroupNorm(widths[0], groups, norm_eps, silu=True)
        self.last = Conv2d(rng, widths[0], 2 * channels if learned_variance else channels, 3, scale=0)

    def _build_levels(
        self,
        rng: np.random.Generator,
        widths: list[int],
        depth: int,
        attends: list[bool],
        block: Callable[[int, int], ResidualBlock],
        attention: Callable[[int], SelfAttention],
    ) -> None:
        """The way down, the middle and the way up.

        widths, attends: the channels at each level, whether it attends. block, attention: make one, of its channels.
        """
        least = depth * len(widths) * 2 * 9 * min(widths) ** 2
        memory.require(least, BYTES_A_PARAMETER, "parameters of residual blocks")
        here = self.width
        skips = [here]  # the channels of each skip connection

        def stage(inputs: int, level: int) -> Stage:
            made = block(inputs, widths[level])
            return Stage(made, attention(widths[level]) if attends[level] else None)

        self.down: list[Stage | Downsample] = []
        for level, outputs in enumerate(widths):
            if level:
                self.down.append(Downsample(rng, here, bool(self.settings["symmetric"])))
                skips.append(here)
            for _ in range(depth):
                self.down.append(stage(here, level))
                here = outputs
                skips.append(here)

        before = block(here, here)
        attention_between = attention(here) if self.settings["middle_attention"] else None
        self.middle = before, attention_between, block(here, here)

        self.up: list[Stage | Upsample] = []
        for level, outputs in reversed(list(enumerate(widths))):
            for _ in range(depth + 1):
                self.up.append(stage(here + skips.pop(), level))
                here = outputs
            if level:
                self.up.append(Upsample(rng, here))

    def forward(
        self, x: Tensor, t: np.ndarray, label: np.ndarray | None, rng: np.random.Generator | None
    ) -> Tensor:
        if x.shape[1:] != self.shape:
            raise ValueError(f"this network takes images of shape {self.shape}, got x of shape {x.shape}")
        time = Tensor(
            sinusoidal(t + self.time_offset, self.width, self.freq_shift).astype(x.dtype, copy=False)
        )
        time = self.time2(ag.silu(self.time1(time)))
        if label is not None:
            time = time + self.label(label)
        time = ag.silu(time)  # every block begins with it, so it is taken once

        h = self.first(x)
        skips = [h]
        for down in self.down:
            h = down(h, time, rng) if isinstance(down, Stage) else down(h)
            skips.append(h)
        before, attention, after = self.middle
        h = before(h, time, rng)
        h = after(h if attention is None else attention(h), time, rng)
        for up in self.up:
            if isinstance(up, Stage):
                h = up(ag.concatenate(h, skips.pop(), axis=3), time, rng)
            else:
                h = up(h, skips[-1].shape)
        return self.last(self.norm(h))

    def activations(self) -> int:
        pixels = [height * width for height, width in sides(self.shape[:2], self.levels)]
        level = 0
        total = _held(pixels[0], 2 * len(self.norm.gamma))
        for down in self.down:
            total += down.activations(pixels[level])
            level += isinstance(down, Downsample)
        total += sum(module.activations(pixels[level]) for module in self.middle if module)
        for up in self.up:
            level -= isinstance(up, Upsample)
            total += up.activations(pixels[level])
        return total


def height_and_width(size: object) -> tuple[int, int]:
    """H and W of the `size` of a network: two integers, or one for both. Raises ValueError for anything else."""
    both = size if isinstance(size, (list, tuple)) else (size, size)
    try:
        height, width = (arguments.integer("size", side) for side in both)
    except ValueError:
        raise ValueError(f"size: expected an integer ≥ 1 or a height and a width, got {size!r:.80}") from None
    return height, width


def sides(size: int | Sequence[int], levels: int) -> list[tuple[int, int]]:
    """H and W at each level: those of `size`, halved as often as the number of the level, rounded up."""
    height, width = height_and_width(size)
    return [(-(-height >> level), -(-width >> level)) for level in range(levels)]


def _held(pixels: int, channels: int) -> int:
    """About how many numbers of an image a step holds where the tape keeps maps of so many channels."""
    return round(HELD * pixels * channels)


class ResidualBlock(Module):
    """x + conv(dropout(norm(conv(norm x) + time))); SiLU follows both norms; x goes through 1×1 to new channels."""

    def __init__(
        self,
        rng: np.random.Generator,
        inputs: int,
        outputs: int,
        time_width: int,
        groups: int,
        dropout: float,
        eps: float = 1e-6,
    ) -> None:
        self.norm1 = GroupNorm(inputs, groups, eps, silu=True)
        self.conv1 = Conv2d(rng, inputs, outputs, 3)
        self.time = Linear(rng, time_width, outputs)
        self.norm2 = GroupNorm(outputs, groups, eps, silu=True)
        self.conv2 = Conv2d(rng, outputs, outputs, 3, scale=0)
        self.shortcut = Linear(rng, inputs, outputs) if inputs != outputs else None
        self.dropout = dropout

    def __call__(self, x: Tensor, time: Tensor, rng: np.random.Generator | None) -> Tensor:
        h = self.norm2(self.conv1(self.norm1(x), offset=self.time(time)))
        if self.dropout and rng is not None:
            h = ag.dropout(h, rate=self.dropout, rng=rng)
        return self.conv2(h, residual=x if self.shortcut is None else self.shortcut(x))

    def activations(self, pixels: int) -> int:
        """About how many numbers of an image are held: the input and what it is turned into, but not the result."""
        inputs, outputs = self.conv1.w.shape[2:]
        return _held(pixels, 2 * inputs + (3 if self.dropout else 2) * outputs)


class SelfAttention(Module):
    """x + project(attention(q, k, v)) over all pixels, with q, k, v linear in norm x.

    head_channels: of each head, in place of the number of heads.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        channels: int,
        heads: int,
        groups: int,
        eps: float = 1e-6,
        head_channels: int = 0,
    ) -> None:
        if head_channels and (channels % head_channels or heads != 1):
            raise ValueError(
                f"head_channels: expected a divisor of {channels} channels, and heads = 1, "
                f"got {head_channels}, and heads = {heads}"
            )
        heads = channels // head_channels if head_channels else heads
        if channels % heads:
            raise ValueError(f"heads: {channels} channels do not divide into {heads} heads")
        self.norm = GroupNorm(channels, groups, eps)
        self.q, self.k, self.v = (Linear(rng, channels, channels) for _ in range(3))
        self.project = Linear(rng, channels, channels, scale=0)
        self.heads = heads

    def __call__(self, x: Tensor) -> Tensor:
        batch, height, width, channels = x.shape
        pixels = self.norm(x).reshape(batch, height * width, channels)
        mixed = ag.attention(self.q(pixels), self.k(pixels), self.v(pixels), heads=self.heads)
        return x + self.project(mixed).reshape(*x.shape)

    def activations(self, pixels: int) -> int:
        """As of `ResidualBlock`: the input, its norm, q, k, v and their mixture, and the weights of each head."""
        return _held(pixels, 6 * len(self.q.w)) + self.heads * pixels**2


class Stage(Module):
    """A residual block and, at the resolutions that have it, attention."""

    def __init__(self, block: ResidualBlock, attention: SelfAttention | None) -> None:
        self.block, self.attention = block, attention

    def __call__(self, x: Tensor, time: Tensor, rng: np.random.Generator | None) -> Tensor:
        h = self.block(x, time, rng)
        return h if self.attention is None else self.attention(h)

    def activations(self, pixels: int) -> int:
        """As of `ResidualBlock`."""
        attention = 0 if self.attention is None else self.attention.activations(pixels)
        return self.block.activations(pixels) + attention


class Downsample(Module):
    """Half the resolution: a 3×3 convolution of stride 2, zeros on the right and the bottom alone, or `symmetric`."""

    def __init__(self, rng: np.random.Generator, channels: int, symmetric: bool = False) -> None:
        self.conv = Conv2d(rng, channels, channels, 3, stride=2)
        self.symmetric = symmetric

    def __call__(self, x: Tensor) -> Tensor:
        _, height, width, _ = x.shape
        padding = (0, 1 + height % 2), (0, 1 + width % 2)
        if self.symmetric:
            padding = (1, 1), (1, 1)
        return ag.conv2d(x, self.conv.w, self.conv.b, stride=2, padding=padding)

    def activations(self, pixels: int) -> int:
        """As of `ResidualBlock`; pixels: of the input."""
        return _held(pixels, len(self.conv.b))


class Upsample(Module):
    """Twice the resolution, less the last row or column where `shape` is odd: nearest pixels, a 3×3 convolution."""

    def __init__(self, rng: np.random.Generator, channels: int) -> None:
        self.conv = Conv2d(rng, channels, channels, 3)

    def __call__(self, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        _, height, width, _ = shape
        wide = ag.upsample_nearest(x)
        return self.conv(wide if wide.shape[1:3] == (height, width) else wide[:, :height, :width])

    def activations(self, pixels: int) -> int:
        """As of `ResidualBlock`, but the input is not kept; pixels: of the result."""
        return _held(pixels, len(self.conv.b))
