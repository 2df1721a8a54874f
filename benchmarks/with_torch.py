"""The works in PyTorch, in its best memory layout; the U-Nets are those of the diffusers package."""

from collections.abc import Callable, Iterator
from itertools import pairwise, zip_longest

import numpy as np
import torch
import works
from torch import nn


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
    """The U-Net of a name, with the same parameters as minidiff's."""
    from diffusers import UNet2DModel

    spec = works.UNETS[name]
    sides = [spec["size"] >> level for level in range(len(spec["widths"]))]
    attended = [side in works.attended(name) for side in sides]
    net = UNet2DModel(
        sample_size=spec["size"],
        in_channels=spec["channels"],
        out_channels=spec["channels"],
        layers_per_block=spec["depth"],
        block_out_channels=spec["widths"],
        norm_num_groups=8 if spec["many_heads"] else 32,
        norm_eps=1e-6,
        freq_shift=1,
        flip_sin_to_cos=False,
        downsample_padding=0,
        attention_head_dim=8 if spec["many_heads"] else None,
        down_block_types=["AttnDownBlock2D" if here else "DownBlock2D" for here in attended],
        up_block_types=["AttnUpBlock2D" if here else "UpBlock2D" for here in reversed(attended)],
    )
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for layer in in_order(net):
            for parameter in layer.weight, layer.bias:
                axes = {1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}[parameter.ndim]  # to minidiff's order
                view = parameter.permute(axes)
                view.copy_(torch.from_numpy(works.parameter(rng, view.shape)))
    return net.eval()


def in_order(net: nn.Module) -> Iterator[nn.Module]:
    """The layers of a U-Net in the order in which minidiff defines them."""
    yield from (net.time_embedding.linear_1, net.time_embedding.linear_2, net.conv_in)
    for block in [*net.down_blocks, net.mid_block, *net.up_blocks]:
        for resnet, attention in zip_longest(block.resnets, getattr(block, "attentions", [])):
            yield from (resnet.norm1, resnet.conv1, resnet.time_emb_proj, resnet.norm2, resnet.conv2)
            if resnet.conv_shortcut is not None:
                yield resnet.conv_shortcut
            if attention is not None:
                yield from (attention.group_norm, attention.to_q, attention.to_k, attention.to_v)
                yield attention.to_out[0]
        for resampling in getattr(block, "downsamplers", None) or getattr(block, "upsamplers", None) or []:
            yield resampling.conv
    yield from (net.conv_norm_out, net.conv_out)


def inputs(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """x (B, C, H, W), in memory channels last, and t (B,) of a work of a U-Net."""
    x, t = works.inputs(name)
    return torch.from_numpy(x).permute(0, 3, 1, 2), torch.from_numpy(t)


def export(name: str, file: str) -> None:
    """Write the forward pass of a work of a U-Net as an ONNX graph with inputs x and t."""
    network, _, _ = works.parse(name)
    arguments = inputs(name)
    torch.onnx.export(
        unet(network), arguments, file, input_names=["x", "t"], dynamo=True, external_data=False
    )


def called(net: nn.Module, variant: str) -> Callable:
    """The network compiled, under bf16 autocast, or as it is."""
    if variant == "compile":
        return torch.compile(net)
    if variant == "bf16":
        return torch.autocast("cpu", torch.bfloat16)(net)
    return net


def work(name: str, variant: str = "") -> Callable[[], np.ndarray | None]:
    """The work of a name, prepared; variant: "compile", "bf16" or "" for neither."""
    network, what, batch = works.parse(name)
    torch.manual_seed(0)
    if network == "mlp":
        return _mlp(what, batch, variant)
    net = unet(network).to(memory_format=torch.channels_last)
    adam = torch.optim.Adam(net.parameters(), lr=2e-4, fused=True)
    call = called(net, variant)
    x, t = inputs(name)
    eps = torch.randn_like(x)

    @torch.no_grad()
    def forward() -> np.ndarray:
        return call(x, t).sample.float().permute(0, 2, 3, 1).numpy()

    def step() -> None:
        adam.zero_grad()
        nn.functional.mse_loss(call(x, t).sample.float(), eps).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        adam.step()

    return forward if what == "forward" else step


def _mlp(what: str, batch: int, variant: str) -> Callable[[], None]:
    net = MLP()
    call = called(net, variant)
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
