"""A run as its checkpoint has it, opened again by one process or several; whoever trains it holds its lock."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from minidiff import nn
from minidiff.communicator import Communicator
from minidiff.runs import checkpoints, folders, lock
from minidiff.runs.data_facts import DataFacts
from minidiff.runs.folders import CHECKPOINT
from minidiff.runs.settings import Settings
from minidiff.training.trainer import fill

SECTIONS = {"settings", "data", "parameters", "ema", "adam", "batches", "random", "loss-aware", "metrics"}


def claim(folder: Path) -> lock.Lock:
    """Lock a run to train it, and remove what a process that was killed left in it."""
    _check_run(folder)
    held = lock.take(folder)
    folders.clear_temporaries(folder)
    return held


@contextmanager
def checkpoint(
    folder: Path, comm: Communicator, verify: bool = False
) -> Iterator[tuple[Settings, DataFacts, checkpoints.Sections]]:
    """The checkpoint of a run: settings, facts of the data, all sections; opened as by `checkpoints.opened`, by rank 0.

    What turns out to be missing or unknown in it within the block is a ValueError.
    """
    path = folder / CHECKPOINT

    def opened() -> tuple[checkpoints.Sections, str]:
        _check_run(folder)
        sections, writer = stack.enter_context(checkpoints.opened(path, SECTIONS, verify))
        if comm.size > 1:  # they are sent, so all of them are read
            sections = {name: (about, dict(arrays)) for name, (about, arrays) in sections.items()}
        return sections, writer

    with ExitStack() as stack:
        sections, writer = comm.broadcast(opened)
        try:
            settings = Settings.from_facts(sections["settings"][0])
            facts = DataFacts.from_json(
                sections["data"][0], sections.get("batches", ({}, {}))[0].get("checksum", "")
            )
            yield settings, facts, sections
        except (AttributeError, KeyError, OverflowError, TypeError) as error:
            raise ValueError(
                f"{path}, written by {writer}, is not the checkpoint of a run: {error}"
            ) from error


def _check_run(folder: Path) -> None:
    if not (folder / CHECKPOINT).is_file():
        raise FileNotFoundError(f"{folder} is not a run: expected a folder with a {CHECKPOINT} in it")


def ema_net(settings: Settings, sections: checkpoints.Sections) -> nn.Network:
    """The network with the EMA weights of a checkpoint."""
    net = nn.build(settings.net, np.random.default_rng(settings.seed))
    fill({name: p.data for name, p in net.named_parameters().items()}, sections["ema"][1], "ema")
    return net


def pending_losses(sections: checkpoints.Sections) -> list[float]:
    """The losses that no full line of metrics has yet; none in a checkpoint of version 0.1."""
    pending = sections.get("metrics", ({"pending": []}, {}))[0]["pending"]
    if not (isinstance(pending, list) and all(isinstance(x, float) and math.isfinite(x) for x in pending)):
        raise TypeError(f"expected the losses of the last steps, got {pending}")
    return pending
