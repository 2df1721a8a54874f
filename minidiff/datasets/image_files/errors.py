"""What is wrong with an image, and what was left out of a folder of them, in words of one line."""

from collections.abc import Iterator
from contextlib import contextmanager

SHOWN_NAMES = 5


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


def printable(text: str, most: int = 160) -> str:
    """`text` on one line without control characters; its middle is left out where it is longer than `most`."""
    text = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    half = most // 2
    return text if len(text) <= most else f"{text[: half - 1]}…{text[-half:]}"


def in_words(left_out: dict[str, list[str]]) -> str:
    """What was left out, as "3 hidden (.DS_Store, a/.x, b/.x), 1 damaged (x.jpg)"; "" where nothing was.

    left_out: the names, for each reason. The first five of them are given.
    """
    return ", ".join(
        f"{len(names)} {reason} ({_first(names)})" for reason, names in left_out.items() if names
    )


def _first(names: list[str]) -> str:
    shown = [printable(name, 60) for name in names[:SHOWN_NAMES]]
    return ", ".join(shown + ["…"] * (len(names) > SHOWN_NAMES))
