"""The microkernel: the few lines of LLVM on which every matrix product of the package runs.

As in BLIS, it holds a register tile of MR × NR sums in vector registers while it walks the axis that is summed. At
each step it loads one row of NR numbers of B and multiplies it by MR scalars of A:

    acc[p, lane] += A[p, i] · B[i, lane]        p < MR, lane < NR

B comes in packed *micro-panels*: NR columns of a matrix stored as one contiguous (n, NR) block. A is not packed but
found through a table of addresses, so that its rows may lie anywhere: the pixels of a convolution's receptive field,
or zeros where that extends beyond the image. The axis is walked in one order by one accumulator, so a number has the
same bits whatever block, batch or thread it is computed in.

Addresses are integers, in bytes. Numba frees an array after its last use by name: take addresses only of arrays that
are arguments of the current function, since its caller keeps those alive.
"""

from collections.abc import Callable

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

FLOAT = 4  # bytes in a float32
UNROLL = 4


def _features() -> set[str]:
    """What the processor has; of one that is named by hand, which is not the host, AVX2 at most."""
    if config.CPU_FEATURES is not None:
        features = {word[1:] for word in config.CPU_FEATURES.split(",") if word.startswith("+")}
    else:
        features = {name for name, present in get_host_cpu_features().items() if present}
    return features if config.CPU_NAME is None else {name for name in features if "avx512" not in name}


def _register_blocking(features: set[str]) -> tuple[int, int, int]:
    """(MR, vectors in a row, lanes of a vector): as many sums as the registers hold beside the operands."""
    if "avx512f" in features:
        return 8, 2, 16
    return (4, 2, 8) if "avx2" in features and "fma" in features else (4, 2, 4)


FEATURES = _features()
MR, VECTORS, WIDTH = _register_blocking(FEATURES)
NR = VECTORS * WIDTH

_f32, _i32, _i64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
VECTOR = ir.VectorType(_f32, WIDTH)

# (builder, a, b, c) → a · b + c for vectors
MultiplyAdd = Callable[[ir.IRBuilder, ir.Value, ir.Value, ir.Value], ir.Value]


class _Accumulators:
    """The register tile of MR × NR sums; LLVM turns these stack slots into registers."""

    def __init__(self, builder: ir.IRBuilder, start: list[list[ir.Value]]):
        self.builder = builder
        self.slots = [[cgutils.alloca_once(builder, VECTOR) for _ in row] for row in start]
        for slots, row in zip(self.slots, start, strict=True):
            for slot, value in zip(slots, row, strict=True):
                builder.store(value, slot)

    def add_products(self, scalars: list[ir.Value], b_row: ir.Value, multiply_add: MultiplyAdd) -> None:
        """acc[p, lane] += scalars[p] · B[lane]: a rank-1 update."""
        b = _load_row(self.builder, b_row)
        for row, scalar in zip(self.slots, scalars, strict=True):
            a = _splat(self.builder, scalar)
            for slot, lanes in zip(row, b, strict=True):
                total = multiply_add(self.builder, a, lanes, self.builder.load(slot))
                self.builder.store(total, slot)

    def store(self, out: ir.Value, stride: ir.Value, add: bool) -> None:
        """Write row p to `out + p · stride`, or add it to what is there."""
        for p, row in enumerate(self.slots):
            begin = self.builder.add(out, self.builder.mul(stride, _i64(p)))
            for v, slot in enumerate(row):
                address = self.builder.add(begin, _i64(v * WIDTH * FLOAT))
                total = self.builder.load(slot)
                if add:
                    total = self.builder.fadd(load(self.builder, address, VECTOR), total)
                self.builder.store(total, _pointer(self.builder, address, VECTOR)).align = FLOAT


def multiply_add(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    """a · b + c for vectors: fused where the machine has FMA; elsewhere two instructions, never a slow library call."""
    kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{WIDTH}f32")
    return builder.call(function, [a, b, c])


def _unrolled_loop(builder: ir.IRBuilder, count: ir.Value, body: Callable[[ir.Value], None]) -> None:
    """body(0) … body(count − 1), unrolled UNROLL times: fewer branches, which are better predicted."""
    whole = builder.and_(count, _i64(-UNROLL))
    with cgutils.for_range(builder, builder.sdiv(count, _i64(UNROLL)), intp=_i64) as group:
        first = builder.mul(group.index, _i64(UNROLL))
        for i in range(UNROLL):
            body(builder.add(first, _i64(i)))
    with cgutils.for_range_slice(builder, whole, count, _i64(1), intp=_i64) as (i, _):
        body(i)


def _pointer(builder: ir.IRBuilder, address: ir.Value, kind: ir.Type) -> ir.Value:
    return builder.inttoptr(address, kind.as_pointer())


def load(builder: ir.IRBuilder, address: ir.Value, kind: ir.Type) -> ir.Value:
    """The value at an address: a vector, which need not be aligned, a number or another address."""
    value = builder.load(_pointer(builder, address, kind))
    value.align = FLOAT if kind is not _i64 else 8
    return value


def store(builder: ir.IRBuilder, value: ir.Value, address: ir.Value) -> None:
    """Write a vector or a float32 to an address."""
    builder.store(value, _pointer(builder, address, value.type)).align = FLOAT


def _load_row(builder: ir.IRBuilder, address: ir.Value) -> list[ir.Value]:
    """One row of a micro-panel, as vectors."""
    return [load(builder, builder.add(address, _i64(v * WIDTH * FLOAT)), VECTOR) for v in range(VECTORS)]


def _splat(builder: ir.IRBuilder, scalar: ir.Value) -> ir.Value:
    """The scalar in every lane of a vector."""
    undefined = ir.Constant(VECTOR, ir.Undefined)
    first = builder.insert_element(undefined, scalar, _i32(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_i32, WIDTH), [0] * WIDTH))


def instruction(write: Callable) -> Callable:
    """A function for kernels, of integers, from one that writes its code: write(builder, *arguments)."""

    @intrinsic
    def function(typingctx, *arguments):
        def generate(context, builder, signature, args):
            write(builder, *cgutils.unpack_tuple(builder, args[0]))
            return context.get_dummy_value()

        return types.void(types.StarArgUniTuple(types.intp, len(arguments))), generate

    return function


@intrinsic
def address_of(typingctx, array):
    """Address of an array's first item."""

    def generate(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.ptrtoint(data, _i64)

    return types.intp(array), generate


@intrinsic
def load_float(typingctx, address):
    """The float32 at an address."""

    def generate(context, builder, signature, args):
        return load(builder, args[0], _f32)

    return types.float32(types.intp), generate


@instruction
def copy_row(builder, source, target):
    """Copy NR float32 from one address to another."""
    for v, lanes in enumerate(_load_row(builder, source)):
        address = builder.add(target, _i64(v * WIDTH * FLOAT))
        store(builder, lanes, address)


def write_microkernel(
    builder, multiply_add, rows, tap_stride, taps, offset, run, micro_panel, start, start_stride, out, stride
):
    """out[p, lane] = start[p, lane] + Σ_tap Σ_i A[tap, p][i] · micro_panel[tap · run + i, lane], i < run.

    A[tap, p] is the address stored at `rows + tap · tap_stride + 8 p`, plus `offset` bytes. The rows of start and out
    are `start_stride` and `stride` bytes apart: 0 where all rows start with the same numbers. With start = out the sum
    continues from what was stored, with the same bits as if it had stayed in registers.
    """
    begins = [builder.add(start, builder.mul(start_stride, _i64(p))) for p in range(MR)]
    accumulators = _Accumulators(builder, [_load_row(builder, begin) for begin in begins])
    run_bytes = builder.mul(run, _i64(NR * FLOAT))
    with cgutils.for_range(builder, taps, intp=_i64) as tap:
        here = builder.add(rows, builder.mul(tap.index, tap_stride))
        a = [builder.add(load(builder, builder.add(here, _i64(8 * p)), _i64), offset) for p in range(MR)]
        b = builder.add(micro_panel, builder.mul(tap.index, run_bytes))

        def add(i, a=a, b=b):
            distance = builder.mul(i, _i64(FLOAT))
            scalars = [load(builder, builder.add(row, distance), _f32) for row in a]
            accumulators.add_products(scalars, builder.add(b, builder.mul(i, _i64(NR * FLOAT))), multiply_add)

        _unrolled_loop(builder, run, add)
    accumulators.store(out, stride, add=False)


microkernel = instruction(lambda builder, *arguments: write_microkernel(builder, multiply_add, *arguments))


@instruction
def transposed_microkernel(builder, rows, offset, count, micro_panel, out, stride):
    """out[p, lane] += Σ_j A[j][p] · micro_panel[j, lane], j < count: the same with A transposed.

    A[j] is the address stored at `rows + 8 j`, plus `offset` bytes; the rows of out are `stride` bytes apart.
    """
    accumulators = _Accumulators(builder, [[ir.Constant(VECTOR, [0.0] * WIDTH)] * VECTORS] * MR)

    def add(j):
        here = load(builder, builder.add(rows, builder.mul(j, _i64(8))), _i64)
        a = builder.add(here, offset)
        scalars = [load(builder, builder.add(a, _i64(FLOAT * p)), _f32) for p in range(MR)]
        b_row = builder.add(micro_panel, builder.mul(j, _i64(NR * FLOAT)))
        accumulators.add_products(scalars, b_row, multiply_add)

    _unrolled_loop(builder, count, add)
    accumulators.store(out, stride, add=True)


@instruction
def dot_microkernel(builder, rows, tap_stride, taps, vectors, weights, out):
    """out[p] = Σ_tap Σ_i A[tap, p][i] · weights[tap, i], i < vectors · WIDTH: MR dot products, lanes along the sum.

    A[tap, p] is the address stored at `rows + tap · tap_stride + 8 p`; out and the rows of weights are contiguous.
    """
    zeros = ir.Constant(VECTOR, [0.0] * WIDTH)
    sums = [cgutils.alloca_once_value(builder, zeros) for _ in range(MR)]
    with cgutils.for_range(builder, taps, intp=_i64) as tap:
        here = builder.add(rows, builder.mul(tap.index, tap_stride))
        a = [load(builder, builder.add(here, _i64(8 * p)), _i64) for p in range(MR)]
        first = builder.mul(tap.index, vectors)
        with cgutils.for_range(builder, vectors, intp=_i64) as vector:
            distance = builder.mul(vector.index, _i64(WIDTH * FLOAT))
            at = builder.mul(builder.add(first, vector.index), _i64(WIDTH * FLOAT))
            w = load(builder, builder.add(weights, at), VECTOR)
            for row, total in zip(a, sums, strict=True):
                x = load(builder, builder.add(row, distance), VECTOR)
                builder.store(multiply_add(builder, x, w, builder.load(total)), total)
    kind = ir.FunctionType(_f32, [_f32, VECTOR])
    add_up = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.fadd.v{WIDTH}f32")
    for p, total in enumerate(sums):
        value = builder.call(add_up, [_f32(0.0), builder.load(total)], fastmath=("reassoc",))
        store(builder, value, builder.add(out, _i64(FLOAT * p)))
