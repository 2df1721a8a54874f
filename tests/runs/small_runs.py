"""Runs that take milliseconds, and how to look at them."""

import numpy as np

from minidiff.runs import Run
from minidiff.runs import run as run_module

MLP = {"kind": "mlp", "dim": 2, "width": 8, "depth": 1, "T": 4}
UNET = dict(
    kind="unet", size=4, channels=1, width=8, multipliers=[1], depth=1, attention=[], groups=4, dropout=0.0
)
OPTIONS = dict(schedule="linear", T=4, beta_start=0.1, beta_end=0.6, batch=7, lr=0.01, warmup=3)


def create(folder, data, **changes):
    return Run.create(folder, data=data, **{"net": MLP} | OPTIONS | changes)


def train(run, steps):
    """Train without saving; returns the steps."""
    return list(run.train_iter(steps))


def save_after_every_step(monkeypatch):
    monkeypatch.setattr(run_module, "SAVE_EVERY", -1.0)
    monkeypatch.setattr(run_module, "SAVE_FRACTION", np.inf)


def names(folder):
    return {path.name for path in folder.iterdir()}


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def assert_same_sections(first, second):
    """Two dictionaries of sections are the same to the last bit."""
    assert first.keys() == second.keys()
    for section, (facts, arrays) in first.items():
        other_facts, other_arrays = second[section]
        assert facts == other_facts and arrays.keys() == other_arrays.keys(), section
        for name, array in arrays.items():
            assert array.dtype == other_arrays[name].dtype
            np.testing.assert_array_equal(array, other_arrays[name], err_msg=f"{section}/{name}")


def assert_same_training(first, second):
    assert_same_sections(first.trainer.state(), second.trainer.state())
