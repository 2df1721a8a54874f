"""The layers that networks are built of: each holds its parameters and applies one operation of `autograd`."""

from __future__ import annotations

import math

import numpy as np

from minidiff import autograd as ag
from minidiff import memory
from minidiff.autograd import Tensor
from minidiff.nn.module import Module

# As drawn in float64, then in float32: itself, its gradient, its average, Adam's two moments, and a copy to be saved.
BYTES_A_PARAMETER = 24


def variance_scaling(
    rng: np.random.Generator, shape: tuple[int, ...], fan_in: int, fan_out: int, scale: float = 1.0
) -> Tensor:
    """A parameter drawn uniformly with variance scale / ((fan_in + fan_out) / 2) (Glorot & Bengio 2010)."""
    memory.require(math.prod(shape), BYTES_A_PARAMETER, "parameters of one layer")
    limit = math.sqrt(3 * scale / ((fan_in + fan_out) / 2))
    return Tensor(rng.uniform(-limit, limit, shape).astype(np.float32), requires_grad=True)


def zeros(*shape: int) -> Tensor:
    """A parameter that starts at zero."""
    return Tensor(np.zeros(shape, np.float32), requires_grad=True)


class Linear(Module):
    """x (..., inputs) → x·w + b (..., outputs). scale: of the initial variance; 0 starts as the zero map."""

    def __init__(self, rng: np.random.Generator, inputs: int, outputs: int, scale: float = 1.0) -> None:
        self.w = variance_scaling(rng, (inputs, outputs), inputs, outputs, scale)
        self.b = zeros(outputs)

    def __call__(self, x: Tensor) -> Tensor:
        return ag.linear(x, self.w, self.b)


class Conv2d(Module):
    """x (B, H, W, inputs) → (B, H', W', outputs) by a kernel × kernel convolution.

    padding: zeros ((top, bottom), (left, right)); by default those that keep H and W at stride 1.
    A call may add two more terms in the same pass: `offset` (B, outputs), to all pixels of an image, and `residual`,
    of the result's shape.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        padding: tuple[tuple[int, int], tuple[int, int]] | None = None,
        scale: float = 1.0,
    ) -> None:
        area = kernel * kernel
        self.w = variance_scaling(
            rng, (kernel, kernel, inputs, outputs), area * inputs, area * outputs, scale
        )
        self.b = zeros(outputs)
        around = ((kernel - 1) // 2, kernel // 2)
        self.stride, self.padding = stride, padding or (around, around)

    def __call__(self, x: Tensor, offset: Tensor | None = None, residual: Tensor | None = None) -> Tensor:
        b = self.b if offset is None else self.b + offset
        return ag.conv2d(x, self.w, b, residual, stride=self.stride, padding=self.padding)


class Embedding(Module):
    """A learned vector for each of `rows` integers, initially normal with standard deviation `std`."""

    def __init__(self, rng: np.random.Generator, rows: int, channels: int, std: float = 1.0) -> None:
        start = std * rng.standard_normal((rows, channels), dtype=np.float32)
        self.table = Tensor(start, requires_grad=True)

    def __call__(self, index: np.ndarray) -> Tensor:
        return ag.embedding(self.table, index=index)


class GroupNorm(Module):
    """Group normalisation of x (B, ..., channels) (Wu & He 2018), then SiLU if `silu`."""

    def __init__(self, channels: int, groups: int, eps: float = 1e-6, silu: bool = False) -> None:
        if channels % groups:
            raise ValueError(f"groups: {channels} channels do not divide into {groups} groups")
        self.gamma = Tensor(np.ones(channels, np.float32), requires_grad=True)
        self.beta = zeros(channels)
        self.groups, self.eps, self.silu = groups, eps, silu

    def __call__(self, x: Tensor) -> Tensor:
        return ag.group_norm(x, self.gamma, self.beta, groups=self.groups, eps=self.eps, silu=self.silu)


def sinusoidal(t: np.ndarray, channels: int, freq_shift: int = 1) -> np.ndarray:
    """[sin(t f₀), …, cos(t f₀), …] with the `frequencies` f: t (B,), any number → (B, channels) float32.

    The time of the DDPM paper's network (Vaswani et al. 2017, in the form of Ho et al. 2020).
    """
    angle = np.asarray(t, np.float64)[:, None] * frequencies(channels, freq_shift)
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1).astype(np.float32)


def frequencies(channels: int, freq_shift: int = 1) -> np.ndarray:
    """10000^(−i/(half−freq_shift)), i = 0…half−1, half of the channels, which must be even and at least 4.

    freq_shift: 0 or 1; with 1 the last frequency is 1/10000.
    """
    if channels < 4 or channels % 2:
        raise ValueError(f"the sinusoidal embedding needs an even number of channels ≥ 4, got {channels}")
    half = channels // 2
    frequency: np.ndarray = np.exp(-math.log(10000) / (half - freq_shift) * np.arange(half))
    return frequency
