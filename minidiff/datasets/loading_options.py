"""How data is read from files: its settings."""

from dataclasses import dataclass

from minidiff.options import setting

from .image_files import ImageOptions


@dataclass(frozen=True)
class LoadingOptions(ImageOptions):
    """The settings of data from files: those of images, and more. held_out: a path."""

    held_out: str | None = setting(
        None,
        "path of data to hold out: measured with, not trained on (--resume: where it is now)",
        type=str,
    )
    channels_first: bool = setting(False, "arrays are (N, C, H, W) instead of (N, H, W, C)")
