"""The allow-list unpickler: plain data comes out as it went in, and nothing runs that is not allowed."""

import builtins
import os
import pickle
import subprocess
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidiff.unpickling import Refused, loads

numbers = st.integers(-(2**200), 2**200) | st.floats(allow_nan=False) | st.booleans() | st.none()
leaves = numbers | st.text(max_size=300) | st.binary(max_size=300)
plain = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(st.text() | st.binary() | st.integers(), inner, max_size=5)
    ),
    max_leaves=30,
)


@given(plain, st.sampled_from([3, 4, 5]))
def test_plain_data_is_as_it_was(value, protocol):
    assert loads(pickle.dumps(value, protocol), {}) == value


@given(st.recursive(numbers | st.text(), lambda inner: st.lists(inner, max_size=5)))
def test_protocol_2_is_read_too(value):
    assert loads(pickle.dumps(value, protocol=2), {}) == value


def test_an_object_that_occurs_twice_is_one():
    inner = [1]
    first, second = loads(pickle.dumps([inner, inner]), {})
    assert first is second


class Touch:
    """Unpickling it would call `function` with `arguments`."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize(
    "function",
    [os.system, builtins.eval, builtins.getattr, subprocess.call, Path.touch, print, type, dict.get],
)
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_nothing_is_called_that_is_not_allowed(function, protocol, tmp_path):
    content = pickle.dumps({"a": Touch(function, str(tmp_path / "made"))}, protocol)
    with pytest.raises(Refused, match=r"the pickle has the name .*, which is not allowed"):
        loads(content, {"collections.OrderedDict": dict})
    assert not any(tmp_path.iterdir())


def test_what_is_allowed_is_called_by_its_name_and_given_its_state():
    class Stack(list):
        def __setstate__(self, state):
            self.extend(state)

    content = b"\x80\x02cmany.things\nmake\nK\x01K\x02\x86R(K\x03K\x04tb."
    assert loads(content, {"many.things.make": lambda *given: Stack(given)}) == [1, 2, 3, 4]
    with pytest.raises(Refused, match=r"many\.things\.make.* not allowed"):
        loads(content, {"many.things": list, "make": list})


DAMAGED = {
    "nothing": b"",
    "an end without a value": b"\x80\x02.",
    "a text without an end": b"\x80\x02X\xff\xff\xff\x7fabc.",
    "bytes of 2⁶³": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "a negative length": b"\x80\x02T\xff\xff\xff\xff.",
    "a memo that is not there": b"\x80\x02j\xff\xff\xff\xff.",
    "items of no dictionary": b"\x80\x02]K\1K\2s.",
    "an end of what did not begin": b"\x80\x02K\1t.",
    "a call of no function": b"\x80\x02K\1)R.",
    "a state for what has none": b"\x80\x02]K\1b.",
    "three of one": b"\x80\x02K\1\x87.",
    "a key that is a tuple": b"\x80\x02}K\1\x85K\2s.",
    "text that is none": b"\x80\x02X\1\0\0\0\xff.",
    "a name that is a list": b"\x80\x04]]\x93.",
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_damage_is_a_value_error(content):
    with pytest.raises(ValueError, match="damaged one"):
        loads(content, {})


@pytest.mark.parametrize("code", sorted({bytes([code]) for code in range(256)} - {b"."}))
def test_every_instruction_alone_is_refused(code):
    with pytest.raises(ValueError):
        loads(b"\x80\x02" + code, {})


def test_memory_is_bounded_by_the_file_whatever_it_claims():
    far = b"r\xff\xff\xff\xff"  # a place in the memo
    claims = [b"\x80\x02" + far + b".", b"\x80\x04\x8e\0\0\0\0\x10\0\0\0.", b"\x80\x02NR" + far * 9]
    tracemalloc.start()
    for content in claims:
        with pytest.raises(ValueError):
            loads(content, {})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_a_list_of_lists_of_lists_is_no_danger():
    """Doubled 200 times, it would have 2²⁰⁰ entries if anything were to walk through it."""
    nested = b"]" + b"".join(b"q%c](h%ch%ce" % ((i,) * 3) for i in range(200))
    assert len(loads(b"\x80\x02" + nested + b".", {})) == 2
    with pytest.raises(ValueError):
        loads(b"\x80\x04" + nested + b"]\x93.", {})
    deep = loads(b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".", {})
    while deep:
        (deep,) = deep
