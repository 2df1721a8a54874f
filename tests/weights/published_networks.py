"""The networks in `published`, which `make_fixtures.py` made, and what is known of each."""

from pathlib import Path

import numpy as np

from minidiff import weights

FOLDER = Path(__file__).parent / "published"
HO = [FOLDER / "ho" / name for name in ("model.ckpt", "list.pth", "wrapped.pt")]
FOLDERS = [FOLDER / name for name in ("paper", "paper-half", "paper-bfloat16", "paper-older-file")]
FOLDERS += [FOLDER / name for name in ("tutorial", "velocity", "other")]
ALL = FOLDERS + HO
HO_SIZE = 4


def read(source: Path) -> weights.Published:
    """The network, of which a file does not have the size."""
    return weights.read(source, HO_SIZE if source in HO else None)


def expected(source: Path) -> dict[str, np.ndarray]:
    """What PyTorch and diffusers make of it."""
    with np.load((source.parent if source in HO else source) / "expected.npz") as arrays:
        return dict(arrays)


def name_of(source: Path) -> str:
    """For the name of a test."""
    return str(source.relative_to(FOLDER))
