"""The U-Nets as ONNX graphs, exported from PyTorch: what inference engines are given."""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import works

EXPORT = "import sys, with_torch; with_torch.export(*sys.argv[1:])"


def graph(name: str) -> bytes:
    """The graph of a work; exported in another process, so that PyTorch takes no memory in this one.

    KeyError for all works but the forward passes of U-Nets.
    """
    network, what, _ = works.parse(name)
    if network not in works.UNETS or what != "forward":
        raise KeyError(name)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "net.onnx"
        subprocess.run([sys.executable, "-c", EXPORT, name, file], check=True)
        return file.read_bytes()


def inputs(name: str) -> dict[str, np.ndarray]:
    """x (B, C, H, W) and t (B,) of a graph."""
    x, t = works.inputs(name)
    return {"x": np.ascontiguousarray(x.transpose(0, 3, 1, 2)), "t": t}
