"""docs/samplers.md agrees with the registry: every sampler and its file, its defaults and its options."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from minidiff.diffusion.samplers import SAMPLERS, SPACINGS, Option

PROJECT = Path(__file__).parents[1]
LINES = (PROJECT / "docs" / "samplers.md").read_text(encoding="utf-8").splitlines()


def defaults_table() -> list[str]:
    """A row for each sampler: its name, default steps and default spacing."""
    rows = ((f"`{name}`", s.steps or "T", f"`{s.spacing}`") for name, s in SAMPLERS.items())
    return table(("sampler", "default steps", "default spacing"), rows)


def options_table() -> list[str]:
    """A row for each option of each sampler: its name in Python, default, choices and help."""
    rows = (
        (f"`{name}`", f"`{option}`", f"`{about.default!r}`", choices(about), about.help)
        for name, sampler in SAMPLERS.items()
        for option, about in sampler.options.items()
    )
    return table(("sampler", "option", "default", "choices", "meaning"), rows)


def choices(about: Option) -> str:
    """The values that an option can take: those listed, else all of its type."""
    values = (True, False) if about.type is bool else about.choices
    return ", ".join(f"`{value!r}`" for value in values) or f"`{about.type.__name__}`"


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> list[str]:
    """The lines of a Markdown table."""
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in (head, *rows)]
    return [lines[0], "| --- " * lines[0].count(" | ") + "| --- |", *lines[1:]]


def printed(head: str) -> list[str]:
    """The table of the page that begins with this line, up to the first line that is no row."""
    begin = LINES.index(head)
    end = next(i for i in range(begin, len(LINES) + 1) if i == len(LINES) or not LINES[i].startswith("|"))
    return LINES[begin:end]


@pytest.mark.parametrize("expected", [defaults_table, options_table])
def test_the_tables_of_defaults_and_options_are_those_of_the_registry(
    expected: Callable[[], list[str]],
) -> None:
    lines = expected()
    assert lines[0] in LINES and printed(lines[0]) == lines, "expected in docs/samplers.md:\n\n" + "\n".join(
        lines
    )


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_is_described_beside_the_file_that_holds_it(name: str) -> None:
    module = SAMPLERS[name].function.__module__
    rows = [line for line in LINES if line.startswith(f"| `{name}` |")]
    path = module.replace(".", "/") + ".py"
    assert any(path in row for row in rows), (
        f"expected a row of docs/samplers.md that begins with `{name}` and links to {path}"
    )
    assert (PROJECT / path).is_file()


def test_every_spacing_is_described() -> None:
    assert [name for name in SPACINGS if not any(line.startswith(f"| `{name}` |") for line in LINES)] == []
