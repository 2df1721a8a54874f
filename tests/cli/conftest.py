"""One run for each kind of data, trained once for all tests of the command line."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import QUICK, call

from minidiff.runs import Run


@pytest.fixture(scope="session")
def points_file(tmp_path_factory):
    """A file of 60 points in the plane."""
    path = tmp_path_factory.mktemp("data") / "points.npy"
    np.save(path, np.random.default_rng(0).normal(3.0, 2.0, (60, 2)))
    return path


def trained(tmp_path_factory, name, data, *arguments):
    folder = tmp_path_factory.mktemp("runs") / name
    assert call("train", data, *QUICK, *arguments, "--out", folder) == 0
    return folder


@pytest.fixture(scope="session")
def points_run(points_file, tmp_path_factory):
    """12 steps on points, T = 5."""
    return trained(tmp_path_factory, "points", points_file, "--steps", 12, "--T", 5)


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory):
    """3 steps on the digits, T = 20."""
    return trained(tmp_path_factory, "digits", "digits", "--steps", 3, "--T", 20)


@pytest.fixture(scope="session")
def class_run(tmp_path_factory):
    """3 steps on the digits, T = 20, conditioned on their classes."""
    return trained(tmp_path_factory, "classes", "digits", "--classes", "--steps", 3, "--T", 20)


@pytest.fixture
def run_copy(points_run, tmp_path):
    """A copy of the run on points that a test may change."""
    return Path(shutil.copytree(points_run, tmp_path / "run"))


@pytest.fixture
def without_pictures(monkeypatch):
    """Training ends without pictures, which would take longer than the few steps do."""
    monkeypatch.setattr(Run, "draw", lambda run: [])
