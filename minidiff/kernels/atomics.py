"""What a pool of threads needs below Python's level: shared words with atomic operations, clocks, and a way to sleep.

The words are 64-bit integers in memory that all threads share, each named by its offset. All operations on them are
sequentially consistent: every thread observes all of them in one and the same order. LLVM has instructions for them,
which Numba does not offer; `_operation` makes each a function that compiled code can call.
"""

import ctypes
import platform
import sys
import time
from collections.abc import Callable

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .jit import device

LINE = 64  # bytes in a line of the cache; each word has its own, or threads would contend for words they do not share
WORDS = 1024
_memory = np.zeros((WORDS + 1) * LINE // 8, np.int64)
_memory = _memory[-_memory.ctypes.data % LINE // 8 :]

# Compiled code refers to the memory by this name: it is cached on disk, and the address differs between processes.
_NAME = "minidiff_words"
binding.add_symbol(_NAME, _memory.ctypes.data)

# The addresses of three C functions and the number of a system call; 0 where there is none.
CLOCK, NAP, SYSCALL, FUTEX, FIRST_FREE = range(0, 5 * LINE, LINE)
FUTEX_WAIT, FUTEX_WAKE = 128, 129  # 128: woken by threads of the same process only
EVERYONE = np.int64(1 << 30)
LONGEST_NAP = 1000  # µs
_WINDOWS = sys.platform == "win32"
_NAP_UNIT = 1000 if _WINDOWS else 1  # µs: Sleep takes milliseconds

_integer, _i64 = types.int64, ir.IntType(64)


def read(word: int) -> int:
    """The value of a word, for Python."""
    return int(_memory[word // 8])


def write(word: int, value: int) -> None:
    """Set a word from Python, before there are threads."""
    _memory[word // 8] = value


def _find_system_functions() -> None:
    library = ctypes.CDLL("kernel32" if _WINDOWS else None)
    for word, name in (
        (CLOCK, "clock_gettime"),
        (NAP, "Sleep" if _WINDOWS else "usleep"),
        (SYSCALL, "syscall"),
    ):
        if hasattr(library, name):
            write(word, ctypes.cast(getattr(library, name), ctypes.c_void_p).value)
    if sys.platform == "linux":  # little-endian machines only: a futex is the lower half of a word
        write(FUTEX, {"x86_64": 202, "aarch64": 98, "riscv64": 98}.get(platform.machine(), 0))


_find_system_functions()


def _pointer(builder: ir.IRBuilder, word: ir.Value) -> ir.Value:
    memory = builder.module.globals.get(_NAME) or cgutils.add_global_variable(builder.module, _i64, _NAME)
    return builder.inttoptr(builder.add(builder.ptrtoint(memory, _i64), word), _i64.as_pointer())


def _operation(returned: types.Type, write_instructions: Callable) -> Callable:
    """A function of integers for compiled code, from one that writes its instructions with an IRBuilder."""

    @intrinsic
    def operation(typingctx, *arguments):
        def generate(context, builder, signature, args):
            values = cgutils.unpack_tuple(builder, args[0], len(arguments))
            result = write_instructions(builder, *values)
            return context.get_dummy_value() if returned == types.void else result

        return returned(types.StarArgTuple.from_types([_integer] * len(arguments))), generate

    return operation


def _call(builder, function, *args):
    kind = ir.FunctionType(_i64, [_i64] * len(args))
    return builder.call(builder.inttoptr(function, kind.as_pointer()), args)


def _compare_and_swap(builder, word, old, new):
    result = builder.cmpxchg(_pointer(builder, word), old, new, "seq_cst", "seq_cst")
    return builder.extract_value(result, 1)


def _pause(builder):
    if platform.machine() in ("x86_64", "AMD64"):
        kind = ir.FunctionType(ir.VoidType(), [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])


def _read_clock(builder, function, clock):
    """clock_gettime(clock, &time): seconds and nanoseconds."""
    time = cgutils.alloca_once(builder, ir.ArrayType(_i64, 2))
    _call(builder, function, clock, builder.ptrtoint(time, _i64))
    seconds, nanoseconds = cgutils.unpack_tuple(builder, builder.load(time), 2)
    return builder.add(builder.mul(seconds, _i64(10**9)), nanoseconds)


# load(word), store(word, value); add(word, value) returns what the word was before; compare_and_swap(word, old, new)
# sets the word to `new` if it is `old` and returns whether it was. call(address, …) calls a C function of integers.
# pause() between two reads of a word saves power and leaves the core to its other hyperthread.
load = _operation(_integer, lambda b, word: b.load_atomic(_pointer(b, word), "seq_cst", 8))
store = _operation(types.void, lambda b, word, value: b.store_atomic(value, _pointer(b, word), "seq_cst", 8))
add = _operation(_integer, lambda b, word, value: b.atomic_rmw("add", _pointer(b, word), value, "seq_cst"))
compare_and_swap = _operation(types.boolean, _compare_and_swap)
call = _operation(_integer, _call)
pause = _operation(types.void, _pause)
_address_of = _operation(_integer, lambda b, word: b.ptrtoint(_pointer(b, word), _i64))
_clock = _operation(_integer, _read_clock)
_WALL, _CPU = (getattr(time, f"CLOCK_{name}", 0) for name in ("MONOTONIC", "THREAD_CPUTIME_ID"))


@device
def wall_clock():
    """Nanoseconds of a clock that is never set back; 0 where there is none."""
    return _clock(load(CLOCK), _WALL) if load(CLOCK) != 0 else np.int64(0)


@device
def cpu_clock():
    """Nanoseconds for which this thread has had a core; 0 where there is no such clock. Takes half a microsecond."""
    return _clock(load(CLOCK), _CPU) if load(CLOCK) != 0 else np.int64(0)


@device
def sleep_while(word, value):
    """Sleep as long as the word has this value.

    With a futex the operating system compares the word and puts the thread to sleep in one step, and `wake` ends that.
    Without, the thread looks again after naps of growing length.
    """
    nap = 10
    while load(word) == value:
        if load(FUTEX) != 0:
            call(load(SYSCALL), load(FUTEX), _address_of(word), FUTEX_WAIT, value, 0, 0, 0)
        else:
            call(load(NAP), nap // _NAP_UNIT)
            if nap < LONGEST_NAP:
                nap *= 2


@device
def wake(word, threads):
    """Wake up to so many of the threads that sleep while this word does not change."""
    if load(FUTEX) != 0:
        call(load(SYSCALL), load(FUTEX), _address_of(word), FUTEX_WAKE, threads, 0, 0, 0)
