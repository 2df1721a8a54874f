"""Beside diffusers itself, where it is installed: networks at their full size, and what is exported."""

import numpy as np
import pytest

from minidiff import weights
from minidiff.cli import main
from minidiff.diffusion import samplers
from minidiff.runs import Run, imported

pytest.importorskip("torch")
pytest.importorskip("diffusers")

# google/ddpm-cifar10-32 and google/ddpm-church-256, the latter at 64 pixels.
PAPER = dict(
    downsample_padding=0, flip_sin_to_cos=False, freq_shift=1, norm_eps=1e-6, attention_head_dim=None
)
CIFAR10 = PAPER | dict(
    sample_size=32,
    block_out_channels=(128, 256, 256, 256),
    down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
)
CHURCH = PAPER | dict(
    sample_size=64,
    block_out_channels=(128, 128, 256, 256, 512, 512),
    down_block_types=(*["DownBlock2D"] * 4, "AttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "AttnUpBlock2D", *["UpBlock2D"] * 4),
)
SMALL = dict(
    **dict(size=8, channels=3, width=8, multipliers=[1, 2], depth=1, attention=[4], groups=4, dropout=0.0),
    kind="unet",
)


@pytest.mark.parametrize("config", [CIFAR10, CHURCH], ids=["cifar10-32", "church-256"])
def test_a_network_of_full_size_computes_what_it_computes_in_pytorch(config, tmp_path, capsys):
    import diffusers
    import torch

    torch.manual_seed(0)
    theirs = diffusers.UNet2DModel(**config)
    diffusers.DDPMPipeline(theirs, diffusers.DDPMScheduler()).save_pretrained(tmp_path)
    net = weights.read(tmp_path).net
    x = np.random.default_rng(0).standard_normal((1, *net.shape)).astype(np.float32)
    errors = []
    for t in (0, 10, 500, 999):
        with torch.no_grad():
            output = theirs(torch.from_numpy(x.transpose(0, 3, 1, 2)), t).sample.numpy().transpose(0, 2, 3, 1)
        errors.append(float(np.abs(net(x, np.array([t + 1])) - output).max() / np.abs(output).max()))
    with capsys.disabled():
        print(f"{net.count_parameters():,} parameters, errors {errors}")
    assert max(errors) < 1e-4


@pytest.mark.parametrize("options", [{}, {"schedule": "cosine", "prediction": "v"}, {"schedule": "constant"}])
def test_what_is_exported_samples_the_same_with_diffusers(options, tmp_path):
    import diffusers
    import torch

    run = Run.create(tmp_path / "run", data=colours(), net=SMALL, batch=8, **options)
    rng = np.random.default_rng(0)
    for parameter in run.net.named_parameters().values():
        parameter.data += 0.1 * rng.standard_normal(parameter.shape, dtype=np.float32)
    imported.export(run, tmp_path / "theirs")

    pipeline = diffusers.DDPMPipeline.from_pretrained(tmp_path / "theirs")
    x = rng.standard_normal((2, *run.shape)).astype(np.float32)
    times = samplers.timesteps.leading(1000, 10)
    ours = samplers.final(samplers.ddim(run.denoiser(), x, rng, times))

    scheduler = diffusers.DDIMScheduler.from_config(pipeline.scheduler.config)
    scheduler.set_timesteps(10)
    theirs = torch.from_numpy(x.transpose(0, 3, 1, 2))
    with torch.no_grad():
        for t in scheduler.timesteps:
            output = pipeline.unet(theirs, t).sample
            theirs = scheduler.step(output, t, theirs, use_clipped_model_output=True).prev_sample
    np.testing.assert_allclose(ours, theirs.numpy().transpose(0, 2, 3, 1), atol=1e-3)

    pictures = pipeline(batch_size=2, num_inference_steps=3, output_type="np").images
    assert pictures.shape == (2, *run.shape) and np.isfinite(pictures).all()


def test_a_folder_of_diffusers_imported_and_exported_is_the_same_network(tmp_path):
    import diffusers
    import torch

    torch.manual_seed(0)
    theirs = diffusers.UNet2DModel(
        sample_size=8, block_out_channels=(8, 12), norm_num_groups=4, attention_head_dim=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    diffusers.DDPMPipeline(theirs, diffusers.DDPMScheduler()).save_pretrained(tmp_path / "first")
    assert main(["import", str(tmp_path / "first"), "--out", str(tmp_path / "run")]) == 0
    assert main(["export", str(tmp_path / "run"), "--to", str(tmp_path / "second")]) == 0
    again = diffusers.UNet2DModel.from_pretrained(tmp_path / "second", subfolder="unet")
    x, t = torch.randn(1, 3, 8, 8), torch.tensor([7])
    with torch.no_grad():
        torch.testing.assert_close(again(x, t).sample, theirs(x, t).sample)


def colours():
    from minidiff.datasets import from_raw

    return from_raw("colours", np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8))
