"""The works that are compared. A name is NETWORK/WHAT/BATCH; every framework does the same arithmetic for it.

Networks: `mlp`, three hidden layers of 128 with an embedding of t each, on numbers; `digits`, a U-Net on 8×8×1 of
widths 32, 64; `grey`, one on 32×32×1 of widths 32, 64, 64; `cifar`, the DDPM paper's on 32×32×3.
Whats: `step`, one training step (draw, forward, backward, clip for the U-Nets, Adam); `forward`, the network alone;
`sample`, 50 calls of the network with what a sampler does between them.
"""

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
