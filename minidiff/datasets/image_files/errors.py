"""What is wrong with an image."""

from collections.abc import Iterator
from contextlib import contextmanager

from ..wording import printable


class DamagedImage(ValueError):
    """An image that cannot be read: damaged, or of a kind that is refused. The message names the file."""


@contextmanager
def damage_of(name: str) -> Iterator[None]:
    """Whatever is raised while the image `name` is read is a DamagedImage; on damaged files Pillow raises anything."""
    try:
        yield
    except Exception as error:
        reason = printable(str(error), 100) or type(error).__name__
        raise DamagedImage(f"{printable(name)}: the image cannot be read ({reason})") from error
