"""Data in files, and a small run on it."""

import numpy as np
import pytest
from small_runs import create


@pytest.fixture
def source(tmp_path):
    """A file of 40 points in the plane, of which 36 are trained on."""
    path = tmp_path / "points.npy"
    np.save(path, np.random.default_rng(0).normal(3.0, 2.0, (40, 2)))
    return path


@pytest.fixture
def labelled_images(tmp_path):
    """A file of 20 images of 4 × 4 bytes, in two classes."""
    images = np.random.default_rng(0).integers(0, 256, (20, 4, 4), np.uint8)
    np.savez(tmp_path / "images.npz", images=images, labels=np.arange(20) % 2)
    return tmp_path / "images.npz"


@pytest.fixture
def run(source, tmp_path):
    return create(tmp_path / "run", source)
