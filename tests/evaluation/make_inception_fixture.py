"""Makes the folder `inception`: a narrow Inception with random weights, and what PyTorch and SciPy compute with it.

    python tests/evaluation/make_inception_fixture.py        with torch 2.13 and SciPy 1.17; no test needs them

- weights.pth: in the older form of PyTorch's files, as the published weights are, and float16, to be small
- expected.npz: images (5, 32, 32, 3) and (2, 40, 300, 1), their features in float64, and logits without the bias of the
  first; features `a` and `b`, and SciPy's Fréchet distance between them
"""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.linalg
import torch
from torch import nn
from torch.nn import functional as F

FOLDER = Path(__file__).parent / "inception"
DIVISOR = 32  # of the published widths


def main() -> None:
    """Make it anew."""
    FOLDER.mkdir(exist_ok=True)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    net = Inception()
    for module in net.modules():
        randomise(module)
    with torch.no_grad():  # norms that fit the activations, else all images had nearly the same features
        net(as_tensor(varied(rng, (16, 32, 32, 3))).float())
    for name, buffer in net.named_buffers():
        if name.endswith("running_var"):
            buffer *= 1.5  # else rounding errors would grow from layer to layer
    net = net.eval().half().double()  # the numbers that the file holds
    state = {
        name: value.half() if value.dtype.is_floating_point else value
        for name, value in net.state_dict().items()
    }
    torch.save(state, FOLDER / "weights.pth", _use_new_zipfile_serialization=False)
    small = varied(rng, (5, 32, 32, 3))
    wide = varied(rng, (2, 40, 300, 1))
    with torch.no_grad():
        of_small, of_wide = net(as_tensor(small)), net(as_tensor(wide).expand(-1, 3, -1, -1))
        logits = of_small @ net.fc.weight.T
    a, b = (rng.standard_normal((n, 16)) @ rng.standard_normal((16, 16)) for n in (60, 50))
    np.savez_compressed(
        FOLDER / "expected.npz",
        small=small,
        wide=wide,
        of_small=of_small.numpy(),
        of_wide=of_wide.numpy(),
        logits=logits.numpy(),
        a=a,
        b=b,
        distance=fid(a, b),
    )


def varied(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Noise of various brightness, contrast and coarseness."""
    count, height, width, channels = shape
    noise = rng.standard_normal((count, 5, 5, channels)).repeat(height // 5 + 1, 1).repeat(width // 5 + 1, 2)
    noise = noise[:, :height, :width] + 0.3 * rng.standard_normal(shape)
    bright = rng.uniform(60, 190, (count, 1, 1, channels))
    return np.clip(bright + 50 * noise, 0, 255).astype(np.uint8)


def as_tensor(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).double() / 255


def fid(a: np.ndarray, b: np.ndarray) -> float:
    """With SciPy's root of a matrix, as most programs compute it."""
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    root = scipy.linalg.sqrtm(cov_a @ cov_b)
    return float(np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(cov_a + cov_b - 2 * root.real))


def randomise(module: nn.Module) -> None:
    """Random weights; norms take mean and variance from the next batch."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.uniform_(module.weight, 0.7, 1.3)
        nn.init.normal_(module.bias, 0.1, 0.2)
        module.momentum = 1.0
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, 0, 1)


def narrow(width: int) -> int:
    return math.ceil(width / DIVISOR)


def average_pool(x: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


class Layer(nn.Module):
    """Convolution, batch norm, ReLU. kernel: its height and width."""

    def __init__(
        self, inputs: int, outputs: int, kernel: tuple[int, int], stride: int = 1, same: bool = True
    ):
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2) if same and stride == 1 else 0
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.bn(self.conv(x)))


# A branch: its name, and width, height and width of the kernel, and stride of each layer.
ONE, THREE, FIVE, ROW, COLUMN = (1, 1), (3, 3), (5, 5), (1, 7), (7, 1)
Layers = list[tuple[int, tuple[int, int], int]]


def a_branches(pooled: int) -> dict[str, Layers]:
    return {
        "branch1x1": [(64, ONE, 1)],
        "branch5x5": [(48, ONE, 1), (64, FIVE, 1)],
        "branch3x3dbl": [(64, ONE, 1), (96, THREE, 1), (96, THREE, 1)],
        "branch_pool": [(pooled, ONE, 1)],
    }


B_BRANCHES: dict[str, Layers] = {
    "branch3x3": [(384, THREE, 2)],
    "branch3x3dbl": [(64, ONE, 1), (96, THREE, 1), (96, THREE, 2)],
}


def c_branches(c: int) -> dict[str, Layers]:
    return {
        "branch1x1": [(192, ONE, 1)],
        "branch7x7": [(c, ONE, 1), (c, ROW, 1), (192, COLUMN, 1)],
        "branch7x7dbl": [(c, ONE, 1), (c, COLUMN, 1), (c, ROW, 1), (c, COLUMN, 1), (192, ROW, 1)],
        "branch_pool": [(192, ONE, 1)],
    }


D_BRANCHES: dict[str, Layers] = {
    "branch3x3": [(192, ONE, 1), (320, THREE, 2)],
    "branch7x7x3": [(192, ONE, 1), (192, ROW, 1), (192, COLUMN, 1), (192, THREE, 2)],
}


class Branches(nn.Module):
    """Branches side by side; `branch_pool` begins with the pool, and without it a max pool of stride 2 is the last."""

    def __init__(self, inputs: int, branches: dict[str, Layers]):
        super().__init__()
        self.names, self.outputs = [], 0
        for branch, layers in branches.items():
            channels, names = inputs, []
            for number, (width, kernel, stride) in enumerate(layers, 1):
                names.append(branch if len(layers) == 1 else f"{branch}_{number}")
                self.add_module(names[-1], Layer(channels, narrow(width), kernel, stride))
                channels = narrow(width)
            self.names.append(names)
            self.outputs += channels
        if "branch_pool" not in branches:
            self.outputs += inputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = []
        for names in self.names:
            h = average_pool(x) if names == ["branch_pool"] else x
            for name in names:
                h = getattr(self, name)(h)
            found.append(h)
        if self.names[-1] != ["branch_pool"]:
            found.append(F.max_pool2d(x, 3, stride=2))
        return torch.cat(found, dim=1)


class Last(nn.Module):
    """A block whose branches divide in two."""

    def __init__(self, inputs: int, pool: Callable[[torch.Tensor], torch.Tensor]):
        super().__init__()
        middle = narrow(384)
        self.pool, self.outputs = pool, narrow(320) + 4 * middle + narrow(192)
        self.branch1x1, self.branch_pool = Layer(inputs, narrow(320), ONE), Layer(inputs, narrow(192), ONE)
        self.branch3x3_1 = Layer(inputs, middle, ONE)
        self.branch3x3dbl_1 = Layer(inputs, narrow(448), ONE)
        self.branch3x3dbl_2 = Layer(narrow(448), middle, THREE)
        self.branch3x3_2a, self.branch3x3dbl_3a = Layer(middle, middle, (1, 3)), Layer(middle, middle, (1, 3))
        self.branch3x3_2b, self.branch3x3dbl_3b = Layer(middle, middle, (3, 1)), Layer(middle, middle, (3, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        found = [self.branch1x1(x), self.branch3x3_2a(single), self.branch3x3_2b(single)]
        found += [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double), self.branch_pool(self.pool(x))]
        return torch.cat(found, dim=1)


class Inception(nn.Module):
    """The network of the FID in PyTorch: images (B, 3, H, W) in 0…1 to features."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Layer(3, narrow(32), THREE, 2)
        self.Conv2d_2a_3x3 = Layer(narrow(32), narrow(32), THREE, same=False)
        self.Conv2d_2b_3x3 = Layer(narrow(32), narrow(64), THREE)
        self.Conv2d_3b_1x1 = Layer(narrow(64), narrow(80), ONE)
        self.Conv2d_4a_3x3 = Layer(narrow(80), narrow(192), THREE, same=False)
        channels, self.blocks = narrow(192), []
        kinds = {f"5{letter}": a_branches(pooled) for letter, pooled in zip("bcd", (32, 64, 64), strict=True)}
        kinds["6a"] = B_BRANCHES
        kinds |= {f"6{letter}": c_branches(c) for letter, c in zip("bcde", (128, 160, 160, 192), strict=True)}
        kinds["7a"] = D_BRANCHES
        for name, branches in kinds.items():
            channels = self.add(name, Branches(channels, branches))
        channels = self.add("7b", Last(channels, average_pool))
        channels = self.add("7c", Last(channels, lambda x: F.max_pool2d(x, 3, stride=1, padding=1)))
        self.fc = nn.Linear(channels, 1008)

    def add(self, name: str, block: Branches | Last) -> int:
        self.add_module(f"Mixed_{name}", block)
        self.blocks.append(f"Mixed_{name}")
        return block.outputs

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = 2 * F.interpolate(images, size=(299, 299), mode="bilinear", align_corners=False) - 1
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_3b_1x1(F.max_pool2d(x, 3, stride=2))
        x = F.max_pool2d(self.Conv2d_4a_3x3(x), 3, stride=2)
        for name in self.blocks:
            x = getattr(self, name)(x)
        return x.mean(dim=(2, 3))


if __name__ == "__main__":
    main()
