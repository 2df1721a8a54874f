"""How the images of a folder or zip are read: their settings."""

import re
from dataclasses import dataclass

from ...options import OptionError, Options, setting

MAX_SIDE = 4096


@dataclass(frozen=True)
class ImageOptions(Options):
    """The settings of a folder or zip of images.

    Raises OptionError for what is not a size, and where images should be both grey and in colour.
    """

    size: str | None = setting(
        None,
        "size of images, as 32 or 48x32 (width × height): each is reduced to cover it and cut in the middle",
        type=str,
    )
    grey: bool = setting(False, "convert images to grey")
    colour: bool = setting(False, "convert images to colour")
    skip_damaged: bool = setting(False, "leave out damaged images, and list them")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.width_and_height()
        if self.grey and self.colour:
            raise OptionError("grey, colour: expected one of them at most, got both")

    def width_and_height(self) -> tuple[int, int] | None:
        """`size` in pixels, each side 1…4096; None where images are taken as they are."""
        if self.size is None:
            return None
        match = re.fullmatch(r"([0-9]{1,4})(?:[x×]([0-9]{1,4}))?", self.size)
        sides = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not all(1 <= side <= MAX_SIDE for side in sides):
            raise OptionError(
                f"size: expected one side or WIDTHxHEIGHT of 1…{MAX_SIDE} pixels, as 32 or 48x32; got {self.size!r}"
            )
        return sides
