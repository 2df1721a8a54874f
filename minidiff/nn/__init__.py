"""Networks: modules and their packing, layers, the MLP for points, the DDPM paper's U-Net, and their optimiser."""

from collections.abc import Callable, Mapping

import numpy as np

from minidiff.kernels import require as require_precision
from minidiff.nn.diagrams import diagram
from minidiff.nn.layers import Conv2d, Embedding, GroupNorm, Linear, sinusoidal
from minidiff.nn.mlp import MLP
from minidiff.nn.module import Module, ParameterVector, aligned_zeros, ema_copy, frozen
from minidiff.nn.network import Network
from minidiff.nn.unet import UNet

# By kind; a run stores the kind and the settings of its network. One of your own becomes known by an entry here.
NETWORKS: dict[str, Callable[..., Network]] = {"mlp": MLP, "unet": UNet}


def describe(net: Network) -> dict[str, object]:
    """The kind of a network and the arguments that build it again. ValueError for a class that is not in NETWORKS."""
    kind = next((name for name, built in NETWORKS.items() if built is type(net)), None)
    if kind is None:
        raise ValueError(f"{type(net).__name__} has no kind: add it to nn.NETWORKS")
    return {"kind": kind, **net.settings}


def build(description: Mapping[str, object], rng: np.random.Generator) -> Network:
    """The network of a description; rng draws its parameters. ValueError for an unknown kind."""
    arguments = {name: value for name, value in description.items() if name != "kind"}
    kind = str(description["kind"])
    if kind not in NETWORKS:
        raise ValueError(
            f"unknown network {kind!r}, known: {', '.join(NETWORKS)}; one of your own is made known by "
            f"nn.NETWORKS[{kind!r}] = its class"
        )
    return NETWORKS[kind](rng, **arguments)


__all__ = [
    "MLP",
    "NETWORKS",
    "Conv2d",
    "Embedding",
    "GroupNorm",
    "Linear",
    "Module",
    "Network",
    "ParameterVector",
    "UNet",
    "aligned_zeros",
    "build",
    "describe",
    "diagram",
    "ema_copy",
    "frozen",
    "require_precision",
    "sinusoidal",
]
