"""The U-Net of the DDPM paper (Ho et al. 2020, appendix B), for any width, depth and size of image.

Down: residual blocks at each resolution, each result kept as a skip, then half the resolution. In the middle
two blocks with attention between. Up: the same in reverse, each block taking the skip of its resolution beside
its input. The time enters every block through sines and cosines and two linear layers.

With the CIFAR-10 settings (the defaults) it has 35 746 307 parameters in 328 arrays, as the paper's has.
"""

from __future__ import annotations

import numpy as np

from minidiff import autograd as ag
from minidiff.autograd import Tensor
from minidiff.nn.layers import Conv2d, Embedding, GroupNorm, Linear, sinusoidal
from minidiff.nn.module import Module
from minidiff.nn.network import Network


class UNet(Network):
    """x (B, size, size, channels), t (B,) → the shape of x.

    width: channels at full resolution; multipliers[i] times that at level i, of size / 2**i pixels.
    depth: residual blocks a level on the way down (one more on the way up).
    attention: the resolutions, in pixels, where self-attention follows each block; the middle always has it.
    heads: of each attention; groups: of each norm. Both must divide the channels where they work.
    dropout: rate inside the blocks, drawn from the rng of a training step.
    classes: 0, or how many labels it is conditioned on.
    learned_variance: the output then has twice the channels.

    Raises ValueError where size does not halve len(multipliers) − 1 times or groups or heads do not divide.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        size: int = 32,
        channels: int = 3,
        width: int = 128,
        multipliers: tuple[int, ...] = (1, 2, 2, 2),
        depth: int = 2,
        attention: tuple[int, ...] = (16,),
        heads: int = 1,
        groups: int = 32,
        dropout: float = 0.1,
        classes: int = 0,
        learned_variance: bool = False,
    ) -> None:
        multipliers, attention = tuple(multipliers), tuple(attention)
        self.settings = dict(
            size=size,
            channels=channels,
            width=width,
            multipliers=multipliers,
            depth=depth,
            attention=attention,
            heads=heads,
            groups=groups,
            dropout=dropout,
            classes=classes,
            learned_variance=learned_variance,
        )
        if size % 2 ** (len(multipliers) - 1):
            raise ValueError(
                f"{size} pixels do not halve {len(multipliers) - 1} times; use fewer multipliers"
            )
        self.shape, self.width = (size, size, channels), width
        self.classes, self.learned_variance = classes, learned_variance
        time_width = 4 * width
        self.time1 = Linear(rng, width, time_width)
        self.time2 = Linear(rng, time_width, time_width)
        if classes:
            self.label = Embedding(rng, classes + 1, time_width)
        self.first = Conv2d(rng, channels, width, 3)
        self._build_levels(rng, [width * m for m in multipliers], depth, attention, heads, groups, dropout)
        self.norm = GroupNorm(width * multipliers[0], groups, silu=True)
        self.last = Conv2d(
            rng, width * multipliers[0], 2 * channels if learned_variance else channels, 3, scale=0
        )

    def _build_levels(
        self,
        rng: np.random.Generator,
        widths: list[int],
        depth: int,
        attention: tuple[int, ...],
        heads: int,
        groups: int,
        dropout: float,
    ) -> None:
        """The way down, the middle and the way up. widths: the channels at each level."""
        here, size = self.width, self.shape[0]
        skips = [here]  # the channels of each skip connection

        def stage(inputs: int, level: int) -> Stage:
            block = ResidualBlock(rng, inputs, widths[level], 4 * self.width, groups, dropout)
            attends = size >> level in attention
            return Stage(block, SelfAttention(rng, widths[level], heads, groups) if attends else None)

        self.down: list[Stage | Downsample] = []
        for level, outputs in enumerate(widths):
            if level:
                self.down.append(Downsample(rng, here))
                skips.append(here)
            for _ in range(depth):
                self.down.append(stage(here, level))
                here = outputs
                skips.append(here)

        before = ResidualBlock(rng, here, here, 4 * self.width, groups, dropout)
        attention_between = SelfAttention(rng, here, heads, groups)
        after = ResidualBlock(rng, here, here, 4 * self.width, groups, dropout)
        self.middle = before, attention_between, after

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
        time = Tensor(sinusoidal(t, self.width).astype(x.dtype, copy=False))
        time = self.time2(ag.silu(self.time1(time)))
        if label is not None:
            time = time + self.label(label)
        time = ag.silu(time)  # every block begins with it, so it is taken once

        h = self.first(x)
        skips = [h]
        for stage in self.down:
            h = stage(h, time, rng)
            skips.append(h)
        before, attention, after = self.middle
        h = after(attention(before(h, time, rng)), time, rng)
        for up in self.up:
            if isinstance(up, Stage):
                h = ag.concatenate(h, skips.pop(), axis=3)
            h = up(h, time, rng)
        return self.last(self.norm(h))


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
    ) -> None:
        self.norm1 = GroupNorm(inputs, groups, silu=True)
        self.conv1 = Conv2d(rng, inputs, outputs, 3)
        self.time = Linear(rng, time_width, outputs)
        self.norm2 = GroupNorm(outputs, groups, silu=True)
        self.conv2 = Conv2d(rng, outputs, outputs, 3, scale=0)
        self.shortcut = Linear(rng, inputs, outputs) if inputs != outputs else None
        self.dropout = dropout

    def __call__(self, x: Tensor, time: Tensor, rng: np.random.Generator | None) -> Tensor:
        h = self.norm2(self.conv1(self.norm1(x), offset=self.time(time)))
        if self.dropout and rng is not None:
            h = ag.dropout(h, rate=self.dropout, rng=rng)
        return self.conv2(h, residual=x if self.shortcut is None else self.shortcut(x))


class SelfAttention(Module):
    """x + project(attention(q, k, v)) over all pixels, with q, k, v linear in norm x."""

    def __init__(self, rng: np.random.Generator, channels: int, heads: int, groups: int) -> None:
        if channels % heads:
            raise ValueError(f"attention: {channels} channels do not divide into {heads} heads")
        self.norm = GroupNorm(channels, groups)
        self.q, self.k, self.v = (Linear(rng, channels, channels) for _ in range(3))
        self.project = Linear(rng, channels, channels, scale=0)
        self.heads = heads

    def __call__(self, x: Tensor) -> Tensor:
        batch, height, width, channels = x.shape
        pixels = self.norm(x).reshape(batch, height * width, channels)
        mixed = ag.attention(self.q(pixels), self.k(pixels), self.v(pixels), heads=self.heads)
        return x + self.project(mixed).reshape(*x.shape)


class Stage(Module):
    """A residual block and, at the resolutions that have it, attention."""

    def __init__(self, block: ResidualBlock, attention: SelfAttention | None) -> None:
        self.block, self.attention = block, attention

    def __call__(self, x: Tensor, time: Tensor, rng: np.random.Generator | None) -> Tensor:
        h = self.block(x, time, rng)
        return h if self.attention is None else self.attention(h)


class Downsample(Module):
    """Half the resolution: a 3×3 convolution of stride 2, zeros on the right and the bottom alone."""

    def __init__(self, rng: np.random.Generator, channels: int) -> None:
        self.conv = Conv2d(rng, channels, channels, 3, stride=2, padding=((0, 1), (0, 1)))

    def __call__(self, x: Tensor, time: Tensor, rng: np.random.Generator | None) -> Tensor:
        return self.conv(x)


class Upsample(Module):
    """Twice the resolution: nearest pixels, then a 3×3 convolution."""

    def __init__(self, rng: np.random.Generator, channels: int) -> None:
        self.conv = Conv2d(rng, channels, channels, 3)

    def __call__(self, x: Tensor, time: Tensor, rng: np.random.Generator | None) -> Tensor:
        return self.conv(ag.upsample_nearest(x))
