"""What a pool of threads needs below Python's level: shared words with atomic operations, a clock, and a way to sleep.

The words are 64-bit integers in memory that all threads share, each named by its offset. All operations on them are
sequentially consistent: every thread observes all of them in one and the same order.
"""

import ctypes
import platform
import sys
import time

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .jit import device

LINE = 64  # bytes in a line of the cache: each word has its own, or threads would contend for lines they do not share
WORDS = 1024
_memory = np.zeros((WORDS + 1) * LINE // 8, np.int64)
_memory = _memory[-_memory.ctypes.data % LINE // 8 :]
_integer, _i64 = types.int64, ir.IntType(64)

# Compiled code refers to the memory by this name: it is cached on disk, and the address differs between processes.
_NAME = "minidiff_words"
binding.add_symbol(_NAME, _memory.ctypes.data)

# What is called in C, zero where it does not exist.
CLOCK, NAP, SYSCALL, FUTEX = (LINE * i for i in range(4))
FIRST = LINE * 4  # the words from here on are free
FUTEX_WAIT, FUTEX_WAKE = 128, 129  # 128: only threads of this process
EVERYONE = np.int64(1 << 30)


def peek(word: int) -> int:
    """The value of a word, for Python."""
    return int(_memory[word // 8])


def poke(word: int, value: int) -> None:
    """Set a word from Python: not an atomic operation."""
    _memory[word // 8] = value


def _find_system_functions() -> None:
    """Little-endian machines only: a futex is the lower half of a word."""
    library = ctypes.CDLL("kernel32" if sys.platform == "win32" else None)
    names = {
        CLOCK: "clock_gettime",
        NAP: "Sleep" if sys.platform == "win32" else "usleep",
        SYSCALL: "syscall",
    }
    for word, name in names.items():
        if hasattr(library, name):
            poke(word, ctypes.cast(getattr(library, name), ctypes.c_void_p).value)
    if sys.platform == "linux":
        poke(FUTEX, {"x86_64": 202, "aarch64": 98, "riscv64": 98}.get(platform.machine(), 0))


_find_system_functions()


def _pointer(builder: ir.IRBuilder, word: ir.Value) -> ir.Value:
    memory = builder.module.globals.get(_NAME) or cgutils.add_global_variable(builder.module, _i64, _NAME)
    return builder.inttoptr(builder.add(builder.ptrtoint(memory, _i64), word), _i64.as_pointer())


@intrinsic
def address_of(typingctx, word):
    def generate(context, builder, signature, args):
        return builder.ptrtoint(_pointer(builder, args[0]), _i64)

    return _integer(_integer), generate


@intrinsic
def load(typingctx, word):
    def generate(context, builder, signature, args):
        return builder.load_atomic(_pointer(builder, args[0]), "seq_cst", 8)

    return _integer(_integer), generate


@intrinsic
def store(typingctx, word, value):
    def generate(context, builder, signature, args):
        builder.store_atomic(args[1], _pointer(builder, args[0]), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(_integer, _integer), generate


@intrinsic
def add(typingctx, word, value):
    """Add to a word; returns what it was before."""

    def generate(context, builder, signature, args):
        return builder.atomic_rmw("add", _pointer(builder, args[0]), args[1], "seq_cst")

    return _integer(_integer, _integer), generate


@intrinsic
def compare_and_swap(typingctx, word, old, new):
    """Set a word to `new` if it is `old`; returns whether it was."""

    def generate(context, builder, signature, args):
        swapped = builder.cmpxchg(_pointer(builder, args[0]), *args[1:], "seq_cst", "seq_cst")
        return builder.extract_value(swapped, 1)

    return types.boolean(_integer, _integer, _integer), generate


@intrinsic
def call(typingctx, function, arguments):
    """Call a C function of integers, given by its address and a tuple."""

    def generate(context, builder, signature, args):
        values = cgutils.unpack_tuple(builder, args[1], len(arguments))
        kind = ir.FunctionType(_i64, [_i64] * len(values))
        return builder.call(builder.inttoptr(args[0], kind.as_pointer()), values)

    return _integer(_integer, types.UniTuple(_integer, len(arguments))), generate


@intrinsic
def pause(typingctx):
    """To be called between two reads of a word: the core saves power, and its other hyperthread runs faster."""

    def generate(context, builder, signature, args):
        if platform.machine() in ("x86_64", "AMD64"):
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def _read_clock(typingctx, function, kind):
    def generate(context, builder, signature, args):
        time = cgutils.alloca_once(builder, ir.ArrayType(_i64, 2))
        function = builder.inttoptr(args[0], ir.FunctionType(_i64, [_i64, _i64]).as_pointer())
        builder.call(function, [args[1], builder.ptrtoint(time, _i64)])
        seconds, nanoseconds = cgutils.unpack_tuple(builder, builder.load(time), 2)
        return builder.add(builder.mul(seconds, _i64(10**9)), nanoseconds)

    return _integer(_integer, _integer), generate


_MONOTONIC, _OWN = (getattr(time, f"CLOCK_{name}", 0) for name in ("MONOTONIC", "THREAD_CPUTIME_ID"))


@device
def clock():
    """Nanoseconds of a clock that is never set back; 0 where there is none."""
    return _read_clock(load(CLOCK), _MONOTONIC) if load(CLOCK) != 0 else np.int64(0)


@device
def cpu_clock():
    """Nanoseconds for which this thread had a core; 0 where there is no such clock."""
    return _read_clock(load(CLOCK), _OWN) if load(CLOCK) != 0 else np.int64(0)


@device
def sleep_while(word, value):
    """Sleep until `wake(word, ...)` or longer than that, if the word has this value.

    Without futexes a nap of growing length
    """
    nap = 10
    while load(word) == value:
        if load(FUTEX) > 0:
            call(load(SYSCALL), (load(FUTEX), address_of(word), FUTEX_WAIT, value, 0, 0, 0))
        else:
            call(load(NAP), (nap,))
            nap = min(2 * nap, 1000)


@device
def wake(word, threads):
    """Wake threads that sleep until this word changes."""
    if load(FUTEX) > 0:
        call(load(SYSCALL), (load(FUTEX), address_of(word), FUTEX_WAKE, threads, 0, 0, 0))
