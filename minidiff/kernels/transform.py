"""L X Lᵀ for a small square X whose entries are vectors of channels, with L as constants in the generated code.

X is a q × q grid of vectors, read from q² addresses; the result, p × p, is written to p² others. L is given as a
product of factors: with its rows as sums and differences of the rows of a sparser matrix it takes fewer operations.
Each product with a row is fully unrolled, so that an entry of 0 costs nothing and one of ±1 an addition.
"""

from collections.abc import Callable

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from .bf16 import rounded
from .microkernel import FLOAT, VECTOR, WIDTH, instruction, load, multiply_add, store

_i64 = ir.IntType(64)


def _constant(value: float) -> ir.Constant:
    return ir.Constant(VECTOR, [float(np.float32(value))] * WIDTH)


def _combine(builder: ir.IRBuilder, row: np.ndarray, vectors: list[ir.Value]) -> ir.Value:
    """Σ row[i] · vectors[i]."""
    total = None
    # The entries that need no multiplication come first.
    for i in sorted(np.flatnonzero(row), key=lambda i: row[i] != 1):
        if total is None:
            total = vectors[i] if row[i] == 1 else builder.fmul(vectors[i], _constant(row[i]))
        elif abs(row[i]) == 1:
            total = (builder.fadd if row[i] > 0 else builder.fsub)(total, vectors[i])
        else:
            total = multiply_add(builder, vectors[i], _constant(row[i]), total)
    return total


def _apply(builder: ir.IRBuilder, factors: tuple[np.ndarray, ...], vectors: list[ir.Value]) -> list[ir.Value]:
    for factor in reversed(factors):
        vectors = [_combine(builder, row, vectors) for row in factor]
    return vectors


def both_sides(*factors: np.ndarray, to_pairs: bool = False) -> Callable:
    """A function for kernels, `transform(sources, s, targets, t, count)`, with L = the product of the factors:

        target[a, b] = Σ_ij L[a, i] · source[i, j] · L[b, j]    for `count` consecutive vectors.

    sources and targets are the addresses of tables of q² and p² addresses; s and t are in bytes and added to all of
    these. After `count` may come the addresses of more tables, each of p² vectors to add to the result. With `to_pairs`
    the targets are of bf16 (`bf16`).
    """
    p, q = len(factors[0]), factors[-1].shape[1]

    def write(builder: ir.IRBuilder, sources, s, targets, t, count, *starts) -> None:
        def addresses(table: ir.Value, size: int, offset: ir.Value) -> list[ir.Value]:
            entries = [load(builder, builder.add(table, _i64(8 * i)), _i64) for i in range(size)]
            return [builder.add(entry, offset) for entry in entries]

        read, written = addresses(sources, q * q, s), addresses(targets, p * p, t)
        added = [addresses(table, p * p, t) for table in starts]
        with cgutils.for_range(builder, count, intp=_i64) as loop:
            here = builder.mul(loop.index, _i64(WIDTH * FLOAT))
            half = builder.sdiv(here, _i64(2))
            x = [load(builder, builder.add(address, here), VECTOR) for address in read]
            columns = [_apply(builder, factors, x[j::q]) for j in range(q)]
            for a in range(p):
                row = _apply(builder, factors, [column[a] for column in columns])
                for i, value in enumerate(row, a * p):
                    for table in added:
                        value = builder.fadd(value, load(builder, builder.add(table[i], here), VECTOR))
                    if to_pairs:
                        store(builder, rounded(builder, value), builder.add(written[i], half))
                    else:
                        store(builder, value, builder.add(written[i], here))

    return instruction(write)
