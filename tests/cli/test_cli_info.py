"""`minidiff info` and `data`, and `--help` of every command."""

import re
import shutil

import pytest
from command_line import call

from minidiff import cli, datasets

[SUBPARSERS] = [action for action in cli.parser()._actions if action.dest == "==SUPPRESS=="]
COMMANDS = SUBPARSERS.choices
# What is not said of code, or not in the field; tests/test_words.py has the rest.
FORBIDDEN = (
    r"told?|tell(s|ing)?|heard?|hears|asks?|asked|answers?|knows?|known|wants?|says?|said|words?|bent|laws?|"
    r"inverse_deviation|(?<!standard )deviations?|slopes?|shares?|places?|parts?|ways?|within|slips?|tiles?|"
    r"panels?|windows?|multihead|house|rooms?|the average"
)


def test_info_prints_what_a_run_is(points_run, points_file, capsys):
    assert call("info", points_run) == 0
    out = capsys.readouterr().out
    for text in ("12 steps", str(points_file), "linear", "mlp", "parameters"):
        assert text in out


def test_info_verifies_all_of_the_checkpoint(points_run, tmp_path, capsys):
    run = shutil.copytree(points_run, tmp_path / "run")
    assert call("info", run, "--verify") == 0
    assert "verified" in capsys.readouterr().out
    with open(run / "checkpoint.npz", "r+b") as file:
        file.seek(-1, 2)
        last = file.read()
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    assert call("info", run) == 0
    assert call("info", run, "--verify") == 1
    assert "does not match its checksum" in capsys.readouterr().err


def test_data_lists_every_data_set_with_its_description(capsys):
    assert call("data") == 0
    out = capsys.readouterr().out
    assert all(name in out and text in out for name, text in datasets.NAMES.items())


def test_help_without_a_command_lists_all_commands(capsys):
    assert call("--help") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "usage: minidiff" in out
    expected = {
        "train",
        "quickstart",
        "sample",
        "evaluate",
        "report",
        "info",
        "data",
        "invert",
        "interpolate",
        "inpaint",
        "import",
        "export",
    }
    assert set(COMMANDS) == expected
    for name, parser in COMMANDS.items():
        assert parser.description and f" {name} {parser.description}" in out


@pytest.mark.parametrize("name", [None, *COMMANDS])
def test_help_of_every_command_is_complete_and_in_plain_terms(name, capsys):
    assert call(*filter(None, [name]), "--help") == 0
    out, err = capsys.readouterr()
    assert "usage: minidiff" in out and not err
    assert not re.search(rf"\b({FORBIDDEN})\b", out, re.I)
    for action in COMMANDS[name]._actions if name else ():
        assert action.help, f"{name} {action.dest} has no help"
