"""The pages hold what they show: programs run and print that, commands parse, links lead to something."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from minidiff import cli

ROOT = Path(__file__).parent.parent
DOCS = sorted((ROOT / "docs").glob("*.md"))
WITH_PROGRAMS = [ROOT / "README.md", *DOCS]
NAMES = ("README.md", "EQUATIONS.md", "CONTRIBUTING.md", "CHANGELOG.md")
WITH_LINKS = [*(ROOT / name for name in NAMES if (ROOT / name).exists()), *DOCS]

SECONDS = 600  # for a program, on the reference kernels too
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
INLINE_CODE = re.compile(r"`([^`\n]+)`")


class Block(NamedTuple):
    """A fenced block: its language ('' if none is named), its text, the heading above it and the block's first line."""

    language: str
    text: str
    heading: str
    line: int


class Program(NamedTuple):
    """A program of a page, and the output that is shown below it, if any."""

    name: str
    code: str
    output: str | None


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page."""
    heading, fence = "", None
    inside: list[str] = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("```"):
            if fence is None:
                fence, begin, inside = line[3:].strip(), number + 1, []
            else:
                yield Block(fence, "".join(f"{each}\n" for each in inside), heading, begin)
                fence = None
        elif fence is not None:
            inside.append(line)
        elif line.startswith("#"):
            heading = line.lstrip("#").strip()
    assert fence is None, f"{page.name}: the block at line {begin} is not closed"


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def programs(page: Path) -> Iterator[Program]:
    """The Python blocks of a page, each with the `text` block that follows with nothing between."""
    found, lines = list(blocks(page)), page.read_text(encoding="utf-8").splitlines()
    for block, below in zip(found, [*found[1:], None], strict=True):
        if block.language != "python":
            continue
        end = block.line + block.text.count("\n")  # the line of the closing fence, counted from 1
        shown = below is not None and below.language == "text" and not any(lines[end : below.line - 2])
        name = f"{page.relative_to(ROOT)}: {block.heading}"
        yield Program(name, block.text, below.text if below is not None and shown else None)


def difference(output: str, shown: str) -> str:
    """How an output differs from what a page shows; '' where it does not.

    Words and whole numbers must be the same, and a number with a decimal point within one unit of its last digit.
    """
    got, expected = ([line.rstrip() for line in text.strip().splitlines()] for text in (output, shown))
    if len(got) != len(expected):
        return f"{len(got)} lines, the page shows {len(expected)}"
    for line, other in zip(got, expected, strict=True):
        pairs = list(zip(NUMBER.findall(line), NUMBER.findall(other), strict=False))
        if NUMBER.split(line) != NUMBER.split(other) or not all(_close(*pair) for pair in pairs):
            return f"{line!r}, the page shows {other!r}"
    return ""


def _close(got: str, shown: str) -> bool:
    if "." not in shown:
        return got == shown
    mantissa, _, exponent = shown.partition("e")
    unit = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    return abs(float(got) - float(shown)) <= 1.001 * unit


def commands(page: Path) -> Iterator[str]:
    """Every command line `minidiff …` of a page, in its blocks and in its text."""
    for block in blocks(page):
        if block.language != "python":
            for line in block.text.splitlines():
                yield from _commands_in(line.partition(" #")[0])
    for code in INLINE_CODE.findall(prose(page)):
        yield from _commands_in(code)


def _commands_in(line: str) -> Iterator[str]:
    for command in line.split("&&"):
        words = re.sub(r"^\s*(\$ |(\w+=\S+ )+)?(python -m )?", "", command)
        if words.startswith("minidiff "):
            yield words.strip()


PROGRAMS = [program for page in WITH_PROGRAMS for program in programs(page)]
COMMANDS = sorted({command for page in WITH_PROGRAMS for command in commands(page)})


def case(program: Program):
    """A program as a parameter; that of the README trains a U-Net, which takes minutes without the kernels."""
    marks = [pytest.mark.compiled] if program.name.startswith("README.md") else []
    return pytest.param(program, id=program.name, marks=marks)


@pytest.mark.parametrize("program", [case(program) for program in PROGRAMS])
def test_every_program_of_the_pages_runs_and_prints_what_is_shown(program, tmp_path):
    file = tmp_path / "program.py"
    file.write_text(program.code, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", "MPLBACKEND": "Agg"}
    run = subprocess.run(
        [sys.executable, str(file)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=SECONDS,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    if program.output is not None:
        assert difference(run.stdout, program.output) == ""


def test_the_page_on_extending_has_four_short_programs_with_their_output():
    shown = [program for program in PROGRAMS if program.name.startswith("docs/extending.md")]
    assert [program.name.split(": ")[1] for program in shown] == [
        *("A sampler", "A rule and a layer", "A network", "A data set")
    ]
    for program in shown:
        assert program.output and program.code.count("\n") <= 45, program.name


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_line_of_the_pages_parses(command):
    words = shlex.split(command)[1:]
    if len(words) == 1 and words[0] not in ("data", "train", "quickstart"):  # a command that is only named
        with pytest.raises(SystemExit) as ended:
            cli.parser().parse_args([*words, "--help"])
        assert ended.value.code == 0
    else:
        assert callable(cli.parser().parse_args(words).command)


def anchors(page: Path) -> set[str]:
    """The fragments that lead to the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", WITH_LINKS, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_or_heading_that_exists(page):
    for link in LINK.findall(INLINE_CODE.sub("", prose(page))):
        if re.match(r"https?:|mailto:", link):
            continue
        name, _, fragment = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), f"{page.name} links to {name}, which does not exist"
        if fragment:
            assert fragment in anchors(target), f"{page.name} links to {link}: no such heading"


@pytest.mark.parametrize(
    ("output", "shown", "same"),
    [
        ("loss 0.25\n", "loss 0.24\n", True),
        ("loss 0.25", "loss 0.23", False),
        ("loss 0.25", "Loss 0.25", False),
        ("400 steps", "401 steps", False),
        ("-1.04e-08", "-1.0e-08", True),
        ("1.2e-08", "1.0e-08", False),
        ("a 1\nb", "a 1", False),
        ("[0.5, 1.0] ", "[0.5, 1.0]", True),
        ("[0.5, 1.0, 2.0]", "[0.5, 1.0]", False),
    ],
)
def test_an_output_may_differ_in_the_last_digit_of_a_decimal_and_in_nothing_else(output, shown, same):
    assert (difference(output, shown) == "") == same


def test_programs_outputs_and_commands_are_found_on_a_page(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        "# One\n```python\nprint(1)\n```\n\n```text\n1\n```\n## Two\nSee `minidiff data` and `minidiff/cli`.\n"
        "```python\nprint(2)\n```\nand then\n```text\n3\n```\n```\npip install . && minidiff info RUN  # note\n```\n"
    )
    assert list(programs(page)) == [
        Program("page.md: One", "print(1)\n", "1\n"),
        Program("page.md: Two", "print(2)\n", None),
    ]
    assert list(commands(page)) == ["minidiff info RUN", "minidiff data"]
