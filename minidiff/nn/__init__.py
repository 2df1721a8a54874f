"""Networks: modules and their packing, the layers, the documents' MLP and the paper's U-Net."""

import numpy as np

from minidiff.nn.mlp import MLP
from minidiff.nn.module import Module, ParameterVector, aligned_zeros, frozen, twin
from minidiff.nn.network import Network
from minidiff.nn.unet import UNet

NETWORKS = {"mlp": MLP, "unet": UNet}


def describe(net: Network) -> dict[str, object]:
    """The kind of a network and the arguments that build it again, for a checkpoint."""
    kind = next(name for name, built in NETWORKS.items() if built is type(net))
    return {"kind": kind, **net.settings}


def build(description: dict[str, object], rng: np.random.Generator) -> Network:
    """The network of a description; rng draws its parameters."""
    arguments = {name: value for name, value in description.items() if name != "kind"}
    if description["kind"] not in NETWORKS:
        raise ValueError(f"unknown network {description['kind']!r}; known: {', '.join(NETWORKS)}")
    return NETWORKS[description["kind"]](rng, **arguments)


__all__ = [
    "MLP",
    "NETWORKS",
    "Module",
    "Network",
    "ParameterVector",
    "UNet",
    "aligned_zeros",
    "build",
    "describe",
    "frozen",
    "twin",
]
