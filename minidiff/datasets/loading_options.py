"""How data is read from files: its settings."""

from dataclasses import dataclass

from minidiff.options import Options, setting


@dataclass(frozen=True)
class LoadingOptions(Options):
    """The settings of data from files. held_out: a path."""

    held_out: str | None = setting(None, "path of data to hold out: measured with, not trained on", type=str)
    channels_first: bool = setting(False, "arrays are (N, C, H, W) instead of (N, H, W, C)")
