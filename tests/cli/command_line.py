"""The command line as the tests call it: exit status, files, errors."""

import re
from pathlib import Path

import numpy as np

from minidiff import cli

QUICK = ["--width", "8", "--batch", "8"]  # the smallest network that every kind of data allows


def call(*arguments):
    """The exit status of `minidiff ARGUMENTS`, also where the argument parser ends it."""
    try:
        return cli.main([str(argument) for argument in arguments])
    except SystemExit as end:
        return end.code


def refusal(capsys, status, *arguments):
    """The line on stderr; asserts that it is the only one, that stdout is empty, and the exit status."""
    capsys.readouterr()
    assert call(*arguments) == status
    out, err = capsys.readouterr()
    assert err.startswith("minidiff") and err.count("\n") == 1 and err.endswith("\n"), err
    assert not re.search(r"Errno|_whole|_positive|invalid (?!choice|int |float )", err), err
    assert out == ""
    return err


def contents(*folders):
    """Every file below, with its bytes; not the locks of runs, which have the time."""
    files = [path for folder in folders for path in Path(folder).rglob("*") if path.is_file()]
    return {path: path.read_bytes() for path in files if path.name != "lock"}


def arrays_in(path):
    """The arrays of an .npz file by name."""
    with np.load(path) as archive:
        return dict(archive)


def samples_of(folder, out, *arguments):
    """What `minidiff sample` writes into the file `out`, which is an .npz."""
    assert call("sample", folder, *arguments, "--out", out) == 0
    return arrays_in(out)["samples"]


def help_of(capsys, monkeypatch, command):
    """The help of each option by its flag: its values, choices and text."""
    monkeypatch.setenv("COLUMNS", "400")
    capsys.readouterr()
    assert call(command, "--help") == 0
    options = re.split(r"\n  (?=-)", capsys.readouterr().out.partition("\noptions:")[2])
    return {text.split()[0]: " ".join(text.split()) for text in options if text.strip()}
