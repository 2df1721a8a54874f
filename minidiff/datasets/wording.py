"""Names that files and folders have in them, as messages say them: on one line, and a few of many."""

from collections.abc import Sequence

SHOWN_NAMES = 5


def printable(text: str, most: int = 160) -> str:
    """`text` on one line without control characters; its middle is left out where it is longer than `most`."""
    text = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    half = most // 2
    return text if len(text) <= most else f"{text[: half - 1]}…{text[-half:]}"


def first_of(names: Sequence[str]) -> str:
    """The first five of the names, and … for the others; "" where there is none."""
    shown = [printable(name, 60) for name in names[:SHOWN_NAMES]]
    return ", ".join(shown + ["…"] * (len(names) > SHOWN_NAMES))


def in_words(left_out: dict[str, list[str]]) -> str:
    """What was left out, as "3 hidden (.DS_Store, a/.x, b/.x), 1 damaged (x.jpg)"; "" where nothing was.

    left_out: the names, for each reason.
    """
    return ", ".join(
        f"{len(names)} {reason} ({first_of(names)})" for reason, names in left_out.items() if names
    )
