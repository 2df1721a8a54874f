"""Makes the folder `published`: tiny networks with random weights as others save them, and what they compute there.

    python tests/weights/make_fixtures.py        with torch 2.13 and diffusers 0.42.1; no test needs them

Beside each lies expected.npz: images x, times (from 0), the outputs at each of them, and `ddim`, what diffusers' DDIM
makes of x in 10 steps.
"""

import math
import shutil
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

PUBLISHED = Path(__file__).parent / "published"
TIMES = (0, 1, 37, 500, 999)
OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
# What the published google/ddpm-cifar10-32 has, but for the widths.
PAPER = dict(
    **dict(sample_size=8, block_out_channels=(4, 8, 8), layers_per_block=1, norm_num_groups=2),
    **dict(down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D")),
    **dict(up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D")),
    **dict(downsample_padding=0, flip_sin_to_cos=False, freq_shift=1, norm_eps=1e-6, attention_head_dim=None),
)
# What diffusers has by default, and so its tutorial.
TUTORIAL = dict(
    **dict(sample_size=8, block_out_channels=(4, 8), layers_per_block=1, norm_num_groups=2),
    **dict(
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D")
    ),
    attention_head_dim=2,
)
OTHER = TUTORIAL | dict(
    **dict(sample_size=(4, 8), block_out_channels=(4, 6), layers_per_block=2, add_attention=False),
    **dict(in_channels=1, out_channels=2),
)


def main() -> None:
    """Make them all anew."""
    torch.manual_seed(0)
    shutil.rmtree(PUBLISHED, ignore_errors=True)
    paper = UNet2DModel(**PAPER)
    noise = DDPMScheduler(variance_type="fixed_large")
    at_root(PUBLISHED / "paper", paper, noise, safe=True)
    at_root(PUBLISHED / "paper-older-file", paper, noise, safe=False, renamed=OLD_NAMES, zipped=False)
    for name, dtype in {"half": torch.float16, "bfloat16": torch.bfloat16}.items():
        rounded = UNet2DModel(**PAPER)
        rounded.load_state_dict({key: value.to(dtype).float() for key, value in paper.state_dict().items()})
        at_root(PUBLISHED / f"paper-{name}", rounded, noise, safe=True, dtype=dtype)
    as_pipeline(
        PUBLISHED / "tutorial", UNet2DModel(**TUTORIAL), DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    )
    velocity = DDPMScheduler(
        **dict(
            beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, rescale_betas_zero_snr=True
        ),
        **dict(prediction_type="v_prediction", timestep_spacing="trailing", clip_sample=False),
    )
    as_pipeline(PUBLISHED / "velocity", UNet2DModel(**TUTORIAL), velocity, safe=False)
    betas = np.linspace(0.01, 0.2, 20).tolist()
    learned = DDPMScheduler(num_train_timesteps=20, trained_betas=betas, variance_type="learned_range")
    as_pipeline(PUBLISHED / "other", UNet2DModel(**OTHER), learned)
    in_file(PUBLISHED / "ho", Ho(channels=3, width=32, multipliers=(1, 1), depth=1, attends=(False, True)))


def at_root(folder, net, noise, safe, renamed=None, zipped=True, dtype=torch.float32) -> None:
    """A folder with all files at its root, as the first published ones."""
    net.save_config(folder)
    noise.save_config(folder)
    arrays = {key: value.to(dtype).contiguous() for key, value in net.state_dict().items()}
    for new, old in (renamed or {}).items():
        arrays = {key.replace(f".{new}.", f".{old}."): value for key, value in arrays.items()}
    if safe:
        save_file(arrays, folder / "diffusion_pytorch_model.safetensors", {"format": "pt"})
    else:
        path = folder / "diffusion_pytorch_model.bin"
        torch.save(arrays, path, _use_new_zipfile_serialization=zipped)
    expect(folder, lambda x, t: net(x, t).sample, net.config, noise)


def as_pipeline(folder, net, noise, safe=True) -> None:
    """A folder as pipelines are saved: unet/ and scheduler/."""
    DDPMPipeline(net, noise).save_pretrained(folder, safe_serialization=safe)
    expect(folder, lambda x, t: net(x, t).sample, net.config, noise)


def in_file(folder, net) -> None:
    """Files without any configuration: the parameters alone, and wrapped in two ways.

    All parameters are chunks of the same 20000 numbers, since a network with 32 groups would be large.
    """
    folder.mkdir(parents=True)
    numbers = (torch.randn(20000) / 16).to(torch.bfloat16)
    shapes = {key: value.shape for key, value in net.state_dict().items()}
    begins = {key: 97 * number for number, key in enumerate(shapes)}
    averaged = {
        key: numbers[begin % (20001 - math.prod(shapes[key])) :][: math.prod(shapes[key])].view(shapes[key])
        for key, begin in begins.items()
    }
    net.load_state_dict({key: value.float() for key, value in averaged.items()})
    zero = torch.zeros(1)  # expanded, it takes no room in a file
    before = {f"module.{key}": zero.expand(value.shape) for key, value in averaged.items()}
    torch.save(averaged, folder / "model.ckpt")
    adam = {"state": {}, "param_groups": [{"lr": 2e-4, "betas": (0.9, 0.999)}]}
    torch.save([before, adam, 10, 3, averaged], folder / "list.pth")
    torch.save({"model": before, "optimizer": adam, "ema": averaged, "step": 3}, folder / "wrapped.pt")
    config = {"sample_size": 4, "in_channels": 3, "out_channels": 3}
    expect(folder, net, config, DDPMScheduler())


def expect(folder, net, config, noise) -> None:
    """What the network computes of random images, and what DDIM makes of them."""
    size, channels = config["sample_size"], config["in_channels"]
    height, width = (size, size) if isinstance(size, int) else size
    times = [t for t in TIMES if t < noise.config.num_train_timesteps]
    x = torch.randn(1, channels, height, width)
    with torch.no_grad():
        outputs = [net(x, torch.tensor([t])) for t in times]
        ddim = sampled(net, x, DDIMScheduler.from_config(noise.config), channels)
    last = {"x": x, "outputs": torch.cat(outputs), "ddim": ddim}
    arrays = {name: array.numpy().transpose(0, 2, 3, 1) for name, array in last.items()}
    np.savez_compressed(
        folder / "expected.npz", times=times, alpha_bar=noise.alphas_cumprod.numpy(), **arrays
    )


def sampled(net, x, scheduler, channels):
    """DDIM in 10 steps, with ε̂ computed again from the clipped x̂₀."""
    scheduler.set_timesteps(10)
    for t in scheduler.timesteps:
        output = net(x, t[None])[:, :channels]
        x = scheduler.step(output, t, x, use_clipped_model_output=scheduler.config.clip_sample).prev_sample
    return x


# ---- the network of Ho et al., with the names of the ports to PyTorch


def normed(norm, x):
    return F.silu(norm(x))


class Block(nn.Module):
    def __init__(self, inputs, outputs, time):
        super().__init__()
        self.norm1 = nn.GroupNorm(32, inputs, eps=1e-6)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.temb_proj = nn.Linear(time, outputs)
        self.norm2 = nn.GroupNorm(32, outputs, eps=1e-6)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        if inputs != outputs:
            self.nin_shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x, time):
        h = self.conv1(normed(self.norm1, x)) + self.temb_proj(F.silu(time))[:, :, None, None]
        h = self.conv2(normed(self.norm2, h))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class Attention(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm = nn.GroupNorm(32, channels, eps=1e-6)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x):
        q, k, v = (layer(self.norm(x)).flatten(2) for layer in (self.q, self.k, self.v))
        weights = torch.softmax(torch.einsum("bci,bcj->bij", q, k) / math.sqrt(q.shape[1]), dim=2)
        return x + self.proj_out(torch.einsum("bij,bcj->bci", weights, v).reshape(x.shape))


class Resample(nn.Module):
    def __init__(self, channels, down):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2 if down else 1, padding=0 if down else 1)
        self.down = down

    def forward(self, x):
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.down else F.interpolate(x, scale_factor=2.0))


class Ho(nn.Module):
    def __init__(self, channels, width, multipliers, depth, attends):
        super().__init__()
        self.width, time = width, 4 * width
        widths = [width * m for m in multipliers]
        self.temb = nn.Module()
        self.temb.dense = nn.ModuleList([nn.Linear(width, time), nn.Linear(time, time)])
        self.conv_in = nn.Conv2d(channels, width, 3, padding=1)
        here, skips = width, [width]
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, outputs in enumerate(widths):
            stage = self.stage()
            for _ in range(depth):
                self.add(stage, here, outputs, time, attends[level])
                here = outputs
                skips.append(here)
            if level < len(widths) - 1:
                stage.downsample = Resample(here, down=True)
                skips.append(here)
            self.down.append(stage)
        self.mid = nn.Module()
        self.mid.block_1, self.mid.attn_1 = Block(here, here, time), Attention(here)
        self.mid.block_2 = Block(here, here, time)
        for level, outputs in reversed(list(enumerate(widths))):
            stage = self.stage()
            for _ in range(depth + 1):
                self.add(stage, here + skips.pop(), outputs, time, attends[level])
                here = outputs
            if level:
                stage.upsample = Resample(here, down=False)
            self.up.insert(0, stage)  # so that up.0 is at full resolution
        self.norm_out = nn.GroupNorm(32, here, eps=1e-6)
        self.conv_out = nn.Conv2d(here, channels, 3, padding=1)

    @staticmethod
    def stage():
        stage = nn.Module()
        stage.block, stage.attn = nn.ModuleList(), nn.ModuleList()
        return stage

    @staticmethod
    def add(stage, inputs, outputs, time, attends):
        stage.block.append(Block(inputs, outputs, time))
        if attends:
            stage.attn.append(Attention(outputs))

    def forward(self, x, t):
        half = self.width // 2
        angle = t[:, None].float() * torch.exp(-math.log(10000) / (half - 1) * torch.arange(half).float())
        first, second = self.temb.dense
        time = second(F.silu(first(torch.cat([angle.sin(), angle.cos()], dim=1))))
        skips = [self.conv_in(x)]
        for stage in self.down:
            for j, block in enumerate(stage.block):
                h = block(skips[-1], time)
                skips.append(stage.attn[j](h) if len(stage.attn) else h)
            if hasattr(stage, "downsample"):
                skips.append(stage.downsample(skips[-1]))
        h = self.mid.block_2(self.mid.attn_1(self.mid.block_1(skips[-1], time)), time)
        for stage in reversed(self.up):
            for j, block in enumerate(stage.block):
                h = block(torch.cat([h, skips.pop()], dim=1), time)
                h = stage.attn[j](h) if len(stage.attn) else h
            if hasattr(stage, "upsample"):
                h = stage.upsample(h)
        return self.conv_out(normed(self.norm_out, h))


if __name__ == "__main__":
    main()
