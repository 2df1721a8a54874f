"""Products of bfloat16 numbers with sums in float32: AVX-512's vdpbf16ps, for inference.

A bf16 is the upper half of a float32: the same range, 8 bits of precision. The instruction takes *pairs* of them, two
consecutive numbers of the axis that is summed, in 32 bits:

    acc[lane] += a[lane][0] · b[lane][0] + a[lane][1] · b[lane][1]

A pair takes the place of a float32 everywhere else: a matrix product of pairs is packed, divided into blocks and
addressed like one of float32 over an axis half as long. An array of pairs has the type int32, by which compiled kernels
choose between the two.
"""

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from . import memory
from .frozen import precision_of
from .jit import device, kernel
from .launch import launch_ranges, workers_for
from .microkernel import (
    FEATURES,
    FLOAT,
    VECTOR,
    WIDTH,
    address_of,
    instruction,
    load,
    write_microkernel,
)

AVAILABLE = {"avx512f", "avx512bf16"} <= FEATURES
PAIR = np.dtype(np.int32)
SERIAL_BELOW = 65_536  # numbers to be rounded; fewer take less time than waking the other threads

_i16, _i32, _i64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)


class _BFloat(ir.Type):
    """bfloat, which llvmlite does not have."""

    def _to_string(self) -> str:
        return "bfloat"


def _add_pairs(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    """acc + a · b for vectors of pairs."""
    if not AVAILABLE:  # in code that is not run
        return c
    pairs = ir.VectorType(_i32, WIDTH)
    kind = ir.FunctionType(VECTOR, [VECTOR, pairs, pairs])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512bf16.dpbf16ps.512")
    return builder.call(function, [c, builder.bitcast(a, pairs), builder.bitcast(b, pairs)])


def rounded(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """A vector of float32 as bf16, to the nearest, a tie to even: WIDTH / 2 pairs."""
    halves = builder.fptrunc(value, ir.VectorType(_BFloat(), WIDTH))
    return builder.bitcast(halves, ir.VectorType(_i32, WIDTH // 2))


pair_microkernel = instruction(lambda builder, *arguments: write_microkernel(builder, _add_pairs, *arguments))


@instruction
def _round(builder, source, target, vectors):
    """Round consecutive vectors of float32 at one address to bf16 at another."""
    with cgutils.for_range(builder, vectors, intp=_i64) as loop:
        value = load(builder, builder.add(source, builder.mul(loop.index, _i64(WIDTH * FLOAT))), VECTOR)
        pairs = rounded(builder, value)
        at = builder.add(target, builder.mul(loop.index, _i64(WIDTH * FLOAT // 2)))
        builder.store(pairs, builder.inttoptr(at, pairs.type.as_pointer())).align = FLOAT


@device
def _round_range(worker, begin, end, x, out):
    _round(address_of(x) + begin * WIDTH * FLOAT, address_of(out) + begin * WIDTH * FLOAT // 2, end - begin)


@kernel
def _round_all(x, out, workers):
    launch_ranges(_round_range, x.size // WIDTH, workers, x, out)


def applies(w: np.ndarray) -> bool:
    """Whether the layer of these weights (..., inputs, outputs) is computed in bf16."""
    return precision_of(w) == "bf16" and w.shape[-2] % WIDTH == 0


def to_pairs(x: np.ndarray) -> np.ndarray:
    """x (..., C) → pairs (..., C / 2)."""
    out = memory.empty((*x.shape[:-1], x.shape[-1] // 2)).view(PAIR)
    _round_all(x.reshape(-1), out.reshape(-1), workers_for(x.size, SERIAL_BELOW))
    return out


def round_to_bf16(x: np.ndarray) -> np.ndarray:
    """The same in plain NumPy for any x: uint16, the upper halves."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    nearest = bits + 0x7FFF + (bits >> 16 & 1) >> 16
    return np.where(np.isnan(x), 0x7FC0, nearest).astype(np.uint16)


def row_pairs(w: np.ndarray) -> np.ndarray:
    """w (..., C, O) → pairs (..., C / 2, O) of adjacent rows."""
    rounded = round_to_bf16(w).astype(np.uint32)
    return (rounded[..., ::2, :] | rounded[..., 1::2, :] << 16).view(PAIR)
