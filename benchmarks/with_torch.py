"""The works in PyTorch, in its best memory layout; the U-Nets are those of the diffusers package."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
import works
from torch import nn

torch.set_num_threads(2)


class MLP(nn.Module):
    """The same network as minidiff's."""

    def __init__(self) -> None:
        super().__init__()
        sizes = [1, *[works.WIDTH] * 3]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.times = nn.ModuleList(nn.Embedding(works.T, works.WIDTH) for _ in range(3))
        self.last = nn.Linear(works.WIDTH, 1)

    def forward(self, x, t):
        for linear, time in zip(self.hidden, self.times, strict=True):
            x = nn.functional.silu(linear(x) + time(t))
        return self.last(x)


def unet(name: str) -> nn.Module:
    """The U-Net of a name."""
    from diffusers import UNet2DModel

    spec = works.UNETS[name]
    levels = len(spec["widths"])
    options = {
        "sample_size": spec["size"],
        "in_channels": spec["channels"],
        "out_channels": spec["channels"],
        "layers_per_block": spec["depth"],
        "block_out_channels": spec["widths"],
    }
    if spec["many_heads"]:
        options |= {
            "norm_num_groups": 8,
            "down_block_types": ["DownBlock2D"] * (levels - 1) + ["AttnDownBlock2D"],
            "up_block_types": ["AttnUpBlock2D"] + ["UpBlock2D"] * (levels - 1),
        }
    else:
        options |= {
            "norm_num_groups": 32,
            "norm_eps": 1e-6,
            "freq_shift": 1,
            "flip_sin_to_cos": False,
            "downsample_padding": 0,
            "attention_head_dim": None,
            "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
            "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
        }
    return UNet2DModel(**options)


def work(name: str, compiled: bool) -> Callable[[], None]:
    """The work of a name, prepared."""
    network, what, batch = works.parse(name)
    torch.manual_seed(0)
    if network == "mlp":
        return _mlp(what, batch, compiled)
    net = unet(network).to(memory_format=torch.channels_last)
    adam = torch.optim.Adam(net.parameters(), lr=2e-4, fused=True)
    call = torch.compile(net) if compiled else net
    spec = works.UNETS[network]
    shape = (batch, spec["channels"], spec["size"], spec["size"])
    x, eps = (torch.randn(shape).to(memory_format=torch.channels_last) for _ in range(2))
    t = torch.randint(0, works.T, (batch,))

    @torch.no_grad()
    def forward() -> None:
        call(x, t)

    def step() -> None:
        adam.zero_grad()
        nn.functional.mse_loss(call(x, t).sample, eps).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        adam.step()

    return forward if what == "forward" else step


def _mlp(what: str, batch: int, compiled: bool) -> Callable[[], None]:
    net = MLP()
    call = torch.compile(net) if compiled else net
    alpha_bar = np.cumprod(1 - np.linspace(1e-4, 0.02, works.T))
    signal, sigma = (torch.tensor(np.sqrt(a), dtype=torch.float32) for a in (alpha_bar, 1 - alpha_bar))
    data = torch.randn(works.POINTS, 1)
    adam = torch.optim.Adam(net.parameters(), 1e-3, fused=True)

    def step() -> None:
        x0, t = data[torch.randint(0, works.POINTS, (batch,))], torch.randint(0, works.T, (batch,))
        eps = torch.randn_like(x0)
        x_t = signal[t][:, None] * x0 + sigma[t][:, None] * eps
        loss = nn.functional.mse_loss(call(x_t, t), eps)
        adam.zero_grad()
        loss.backward()
        adam.step()

    @torch.no_grad()
    def sample() -> None:
        x = torch.randn(batch, 1)
        for k in range(50):
            x = 0.9 * x - 0.1 * call(x, torch.full((batch,), k)) + 0.01 * torch.randn_like(x)

    return step if what == "step" else sample
