"""A pickle can call whatever it names. Of what a malicious one names here, nothing is called, wherever it stands."""

import contextlib
import os
import pickle
import subprocess
import tracemalloc

import numpy as np
import pytest
from checkpoints_by_hand import FORMS, NO_HOOKS, call, name, plain, storage, table, tensor, write

from minidiff import unpickling
from minidiff.cli import main
from minidiff.weights import torch_files
from minidiff.weights.bfloat16 import BFLOAT16

in_both_forms = pytest.mark.parametrize("form", FORMS)
COMMAND = plain("touch made-by-a-pickle")
EVIL = {
    "os.system": call(name("os", "system"), COMMAND),
    "posix.system": call(name("posix", "system"), COMMAND),
    "builtins.eval": call(name("builtins", "eval"), plain("open('made-by-a-pickle', 'w')")),
    "builtins.exec": call(name("builtins", "exec"), plain("open('made-by-a-pickle', 'w')")),
    "__builtin__.eval": call(name("__builtin__", "eval"), plain("1")),
    "builtins.getattr": call(name("builtins", "getattr"), plain("x"), plain("upper")),
    "subprocess.Popen": call(name("subprocess", "Popen"), COMMAND),
    "torch.load": call(name("torch", "load"), COMMAND),
    "torch._utils._rebuild_tensor": call(name("torch._utils", "_rebuild_tensor"), COMMAND),
    "numpy.load": call(name("numpy", "load"), COMMAND),
    "collections.OrderedDict.__class__": name("collections", "OrderedDict.__class__"),
    "minidiff.unpickling.load": name("minidiff.unpickling", "load"),
}
WHERE = {
    "alone": lambda evil: evil,
    "in a dictionary": lambda evil: table(weight=tensor(), more=evil),
    "in the metadata of a tensor": lambda evil: table(weight=tensor(hooks=evil)),
    "in place of its shape": lambda evil: call(
        name("torch._utils", "_rebuild_tensor_v2"), storage(), plain(0), evil, plain((1,)), b"\x89", NO_HOOKS
    ),
    "as the type of a storage": lambda evil: tensor(storage(kind=evil)),
    "in a persistent id": lambda evil: table(weight=b"(" + plain("storage") + evil + b"tQ"),
    "as the whole persistent id": lambda evil: evil + b"Q",
    "as the state of a dictionary": lambda evil: NO_HOOKS + evil + b"b",
}


@in_both_forms
@pytest.mark.parametrize("put", WHERE.values(), ids=WHERE)
def test_a_name_that_is_not_allowed_is_refused_and_nothing_is_called(put, form, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for module, function in ((os, "system"), (subprocess, "Popen")):
        monkeypatch.setattr(module, function, lambda *arguments: pytest.fail("it was called"))
    for named, evil in EVIL.items():
        write(tmp_path / "evil.pt", form, put(evil))
        with pytest.raises(ValueError) as caught:
            torch_files.read(tmp_path / "evil.pt")
        assert f"has the name '{named}', which is not allowed" in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.pt"]


def test_the_command_line_refuses_one_in_one_line(tmp_path, capsys):
    write(tmp_path / "evil.pt", "zip", table(weight=tensor(hooks=EVIL["os.system"])))
    assert main(["import", str(tmp_path / "evil.pt"), "--out", str(tmp_path / "run")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "run").exists()


# By instructions that plain data does not need; each would do harm in Python's own unpickler.
INSTRUCTIONS = {
    "INST": b"(" + COMMAND + b"ios\nsystem\n",
    "OBJ": b"(" + name("collections", "OrderedDict") + b"o",
    "NEWOBJ": name("collections", "OrderedDict") + b")\x81",
    "NEWOBJ_EX": name("collections", "OrderedDict") + b")}\x92",
    "EXT1": b"\x82\x01",
    "EXT4": b"\x84\x01\x00\x00\x00",
    "PERSID": b"Pstorage\n",
    "a string that is evaluated": b"S'a'\n",
    "BYTEARRAY8": b"\x96" + (1 << 40).to_bytes(8, "little"),
    "NEXT_BUFFER": b"\x97",
}
# By what plain data has.
TRICKS = {
    "the state of a dtype": name("torch", "BFloat16Storage")
    + b")R"
    + plain((3, "<", None, None, None, 8, 1, 0))
    + b"b",
    "the state of an array": tensor() + plain((1, (1 << 20,), None, False, b"")) + b"b",
    "the state of a storage": storage() + plain((1, 2)) + b"b",
    "the state of a name": name("torch", "FloatStorage") + plain({"function": 1}) + b"b",
    "the state of a list": b"]" + plain({"append": 1}) + b"b",
    "an item of an array": tensor() + plain(0) + plain(1) + b"s",
    "an item of a name": name("torch", "FloatStorage") + plain("function") + plain(1) + b"s",
    "an item of a list": b"]" + plain(0) + plain(1) + b"s",
    "an item appended to text": plain("text") + plain("more") + b"a",
    "an item appended to an array": tensor() + plain(1) + b"a",
    "a key that is an array": b"}" + tensor() + plain(1) + b"s",
    "a key that is a tuple": b"}" + plain((1,)) + plain(1) + b"s",
    "a call of text": plain("os.system") + COMMAND + b"\x85R",
    "a call of an array": tensor() + b")R",
    "a dictionary of pairs": call(name("collections", "OrderedDict"), plain([[(1, 2), 3]])),
    "a dictionary of a deep tuple": call(
        name("collections", "OrderedDict"), b"(" + b")" + b"\x85" * 200_000 + b"Nt"
    ),
    "a key that is a deep tuple": b"})" + b"\x85" * 200_000 + b"Ns",
    "a name that is a list": b"]]\x93",
    "a memo that is not there": b"j\xff\xff\xff\xff",
    "the end of what did not begin": plain(1) + b"t",
}


@in_both_forms
@pytest.mark.parametrize(
    "instructions", [*INSTRUCTIONS.values(), *TRICKS.values()], ids=[*INSTRUCTIONS, *TRICKS]
)
def test_a_trick_is_refused_in_one_line(instructions, form, tmp_path):
    path = tmp_path / "evil.pt"
    write(path, form, instructions)
    with pytest.raises(ValueError) as caught:
        torch_files.read(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    assert np.dtype([("bfloat16", "<u2")]) == BFLOAT16 and BFLOAT16.itemsize == 2


def test_memory_is_bounded_by_the_pickle_whatever_it_claims():
    claims = {
        "a place in the memo": b"Nr\xff\xff\xff\xff",
        "a frame": b"\x95" + (1 << 60).to_bytes(8, "little"),
        "bytes": b"\x8e" + (1 << 40).to_bytes(8, "little"),
        "a number": b"\x8b" + (1 << 30).to_bytes(4, "little"),
        "text": b"X\xff\xff\xff\x7fabc",
    }
    tracemalloc.start()
    for content in claims.values():
        with contextlib.suppress(ValueError):
            unpickling.loads(b"\x80\x04" + content + b".", {})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_a_list_doubled_200_times_takes_200_lists():
    doubled = b"]" + b"".join(b"q%c](h%ch%ce" % ((i,) * 3) for i in range(200))
    assert len(unpickling.loads(b"\x80\x02" + doubled + b".", {})) == 2


def test_a_list_of_the_same_list_many_times_is_looked_through_once(tmp_path):
    """Four deep, it would otherwise be 10¹² lists."""
    inner = b"]q\x01"
    for _ in range(4):
        inner = b"](" + inner + b"q\x01" + b"h\x01" * 999 + b"e"
    write(tmp_path / "wide.pt", "zip", inner)
    assert main(["import", str(tmp_path / "wide.pt"), "--out", str(tmp_path / "run")]) == 1


def test_deep_nesting_in_a_checkpoint_ends_in_one_line(tmp_path):
    path = tmp_path / "deep.pt"
    write(path, "zip", b"]" * 50_000 + b"a" * 49_999)
    assert main(["import", str(path), "--out", str(tmp_path / "run")]) == 1
    write(path, "zip", b"".join(b"}" + plain("x") for _ in range(50_000)) + b"N" + b"s" * 50_000)
    assert main(["import", str(path), "--out", str(tmp_path / "run")]) == 1


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_data_is_as_it_was(protocol):
    value = {"a": [1, -(2**70), 2.5, None, True], "b": ("text", "ü" * 300, {3: []}), "c": {"x" * 70_000: ()}}
    assert unpickling.loads(pickle.dumps(value, protocol), {}) == value
