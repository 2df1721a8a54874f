"""A run as a folder: settings, checkpoints, metrics and pictures."""

from minidiff.runs.run import Interrupted, Run
from minidiff.runs.settings import Settings

__all__ = ["Interrupted", "Run", "Settings"]
