"""The works that are compared. A name is NETWORK/WHAT/BATCH; every framework does the same arithmetic for it.

Networks: `mlp`, three hidden layers of 128 with an embedding of t each, on numbers; `digits`, a U-Net on 8×8×1 of
widths 32, 64; `grey`, one on 32×32×1 of widths 32, 64, 64; `cifar`, the DDPM paper's on 32×32×3.
`product`, of two matrices of BATCH rows and columns, is the yardstick: what the machine can do.
Whats: `step`, one training step (draw, forward, backward, clip for the U-Nets, Adam); `forward`, the network alone;
`sample`, 50 calls of the network with what a sampler does between them.
"""

import math

import numpy as np

NAMES = [
    "mlp/step/128",
    "mlp/step/1024",
    "mlp/step/8192",
    "mlp/sample/128",
    "mlp/sample/1024",
    "mlp/sample/8192",
    "digits/step/128",
    "digits/forward/128",
    "grey/step/32",
    "grey/forward/32",
    "cifar/forward/1",
    "cifar/forward/4",
    "cifar/forward/16",
    "cifar/step/8",
]

T, WIDTH, POINTS = 1000, 128, 100_000
UNETS = {  # size, channels, widths, residual blocks a level, attention at, heads of 8 channels or one
    "digits": {"size": 8, "channels": 1, "widths": (32, 64), "depth": 1, "many_heads": True},
    "grey": {"size": 32, "channels": 1, "widths": (32, 64, 64), "depth": 1, "many_heads": True},
    "cifar": {"size": 32, "channels": 3, "widths": (128, 256, 256, 256), "depth": 2, "many_heads": False},
}


def parse(name: str) -> tuple[str, str, int]:
    """NETWORK, WHAT and BATCH of a name."""
    network, what, batch = name.split("/")
    return network, what, int(batch)


def inputs(name: str) -> tuple[np.ndarray, np.ndarray]:
    """x (B, H, W, C) float32 and t (B,) in 1…T of a work of a U-Net, the same for every framework."""
    network, _, batch = parse(name)
    rng, spec = np.random.default_rng(1), UNETS[network]
    shape = (batch, spec["size"], spec["size"], spec["channels"])
    return rng.standard_normal(shape, dtype=np.float32), rng.integers(1, T + 1, batch)


def parameter(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """The next parameter of a U-Net, the same for every framework: normal, of variance 1 / inputs.

    shape: (outputs,), (inputs, outputs) or (height, width, inputs, outputs). No layer is zero, as some are in a fresh
    network, whose outputs would not be worth comparing.
    """
    return rng.standard_normal(shape, dtype=np.float32) / math.sqrt(math.prod(shape[:-1]))


def attended(network: str) -> tuple[int, ...]:
    """The resolutions of a U-Net where attention follows each block; in the middle there is always one."""
    spec = UNETS[network]
    return (spec["size"] >> (len(spec["widths"]) - 1),) if spec["many_heads"] else (16,)


def multiplications(name: str) -> int:
    """How many a work needs, of the convolutions, linear maps and attention, done in the plain way.

    A training step counts three times its forward pass, though the first layer has no gradient in its input.
    """
    network, what, batch = parse(name)
    if network == "product":
        return batch**3
    if network == "mlp":
        forward = 2 * WIDTH + 2 * WIDTH**2
    else:
        spec = UNETS[network]
        forward = unet_multiplications(
            spec["size"], spec["channels"], spec["widths"], spec["depth"], attended(network)
        )
    return batch * forward * {"step": 3, "forward": 1, "sample": 50}[what]


def unet_multiplications(
    size: int, channels: int, widths: tuple[int, ...], depth: int, attended: tuple[int, ...]
) -> int:
    """Those of one image's forward pass; the linear maps of t, once an image, are counted too."""
    time = 4 * widths[0]

    def block(inputs: int, outputs: int, side: int) -> int:
        shortcut = inputs * outputs if inputs != outputs else 0
        convolutions = 9 * inputs * outputs + 9 * outputs * outputs + shortcut
        return side**2 * convolutions + time * outputs

    def attention(width: int, side: int) -> int:
        return side**2 * (4 * width**2 + 2 * side**2 * width)

    def stage(inputs: int, outputs: int, side: int) -> int:
        return block(inputs, outputs, side) + (attention(outputs, side) if side in attended else 0)

    total = widths[0] * time + time * time + 2 * size**2 * 9 * channels * widths[0]
    skips, here = [widths[0]], widths[0]
    for level, width in enumerate(widths):
        side = size >> level
        if level:
            total += 9 * here * here * side**2
            skips.append(here)
        for _ in range(depth):
            total += stage(here, width, side)
            here = width
            skips.append(here)
    total += 2 * block(here, here, side) + attention(here, side)
    for level, width in reversed(list(enumerate(widths))):
        side = size >> level
        for _ in range(depth + 1):
            total += stage(here + skips.pop(), width, side)
            here = width
        if level:
            total += 9 * here * here * (2 * side) ** 2
    return total
