"""The caching allocator: memory is never reused while an array refers to it, and never more is kept than was needed."""

import ctypes
import gc
import importlib.util
import itertools
import sys
import threading
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidiff.kernels import memory

SHAPE = (40, 33, 5)  # 26 KB: large enough to be kept


@pytest.fixture(autouse=True)
def fresh_pool(monkeypatch):
    """A pool of the test's own."""
    monkeypatch.setattr(memory, "_pool", memory._Pool())


def address(array):
    return array.ctypes.data


def test_memory_without_references_is_reused():
    array = memory.empty(SHAPE)
    before = address(array)
    del array
    assert address(memory.empty(SHAPE)) == before
    assert address(memory.empty((33, 200))) == before  # by size, whatever the shape


def test_arrays_are_plain_aligned_and_writeable():
    for shape in (SHAPE, (5000,), (2, 1, 9999)):
        array = memory.empty(shape)
        assert type(array) is np.ndarray and array.dtype == np.float32 and array.shape == shape
        assert array.flags.carray and address(array) % memory.LINE == 0
    assert memory.empty(()).shape == () and memory.empty((0, 7)).shape == (0, 7)


def test_another_dtype_does_not_come_from_the_pool():
    array = memory.empty(SHAPE, np.float64)
    assert array.shape == SHAPE and array.dtype == np.float64 and not memory._pool.sizes


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_copy_is_plain_and_another_array(dtype):
    array = np.arange(9000, dtype=dtype).reshape(30, 100, 3)[::-1, ::2]
    copied = memory.copy(array)
    assert copied.dtype == dtype and copied.flags.carray and not np.may_share_memory(copied, array)
    np.testing.assert_array_equal(copied, array)


def test_zeros_are_zeros_on_reused_memory():
    memory.empty(SHAPE).fill(7)
    assert not memory.zeros(SHAPE).any()


def generator_over(array):
    yield 0
    yield array.sum()


REFERENCES = {
    "itself": lambda a: a,
    "a slice": lambda a: a[3:4, ::2],
    "one number's view": lambda a: a[2, 2, 2:3],
    "another shape": lambda a: a.reshape(-1),
    "a view of a view": lambda a: a.reshape(-1)[5:][::3].reshape(-1, 1),
    "transposed": lambda a: a.T,
    "broadcast": lambda a: np.broadcast_to(a, (3, *a.shape)),
    "np.asarray": np.asarray,
    "another dtype": lambda a: a.view(np.int32),
    "a subclass": lambda a: a.view(np.matrix) if a.ndim == 2 else a.view(np.recarray),
    "memoryview": memoryview,
    "a cast memoryview": lambda a: memoryview(a).cast("B")[10:20],
    "np.frombuffer": lambda a: np.frombuffer(a, np.uint8),
    "its base": lambda a: a.base,
    "ctypes": lambda a: a.ctypes.data_as(ctypes.c_void_p),
    "DLPack": lambda a: np.from_dlpack(a),
    "strided": lambda a: np.lib.stride_tricks.as_strided(a, (3,), (8,)),
    "an iterator": lambda a: iter(a),
    "a flat iterator": lambda a: a.flat,
    "a method": lambda a: a.sum,
    "a closure": lambda a: lambda: a,
    "a generator not yet begun": generator_over,
    "a list in a dict": lambda a: {"x": [a[0]]},
    "a cycle": lambda a: (lambda cell: cell.append(cell) or cell)([a]),
}


@pytest.mark.parametrize("kind", REFERENCES)
def test_no_memory_is_reused_while_there_is_a_reference(kind):
    array = memory.empty(SHAPE)
    array[:] = 7
    before, reference = address(array), REFERENCES[kind](array)
    del array
    others = [memory.zeros(SHAPE) for _ in range(3)]
    assert before not in [address(other) for other in others]
    del reference
    gc.collect()
    assert before in [address(memory.empty(SHAPE))]


def test_a_suspended_generator_keeps_its_arrays():
    array = memory.empty(SHAPE)
    array[:] = 1
    steps = generator_over(array)
    next(steps)
    del array
    memory.zeros(SHAPE)
    assert next(steps) == np.prod(SHAPE)


def test_memory_held_by_another_thread_is_not_reused():
    held, go, sums = [memory.empty(SHAPE)], threading.Event(), []
    held[0][:] = 2

    def hold():
        mine = held.pop()[1:]
        ready.set()
        go.wait(10)
        sums.append(float(mine.sum()))

    ready = threading.Event()
    thread = threading.Thread(target=hold)
    thread.start()
    assert ready.wait(10)
    for _ in range(3):
        memory.empty(SHAPE)[:] = 0
    go.set()
    thread.join(10)
    assert sums == [2.0 * 39 * 33 * 5]


def test_each_thread_has_buffers_of_its_own():
    addresses = []

    def take():
        addresses.append(address(memory.empty(SHAPE)))

    memory.empty(SHAPE)
    mine = address(memory.empty(SHAPE))
    thread = threading.Thread(target=take)
    thread.start()
    thread.join(10)
    assert addresses[0] != mine


@given(st.lists(st.tuples(st.booleans(), st.integers(4000, 9000), st.integers(0, 30)), max_size=60))
def test_no_two_arrays_that_live_at_once_overlap(story):
    alive = []
    for mark, (born, size, which) in enumerate(story):
        if born or not alive:
            array = memory.empty((size,))
            array[:] = mark
            alive.append((mark, array[which:] if which % 2 else array))
            del array
        else:
            alive.pop(which % len(alive))
        for number, view in alive:
            assert (view == number).all()


def kept():
    return sum(n * len(buffers) for n, buffers in memory._pool.sizes.items())


def test_kept_memory_is_bounded_by_the_most_in_use_at_once():
    for size in range(10_000, 110_000, 1024):  # a hundred sizes, each used once and released
        memory.empty((size,))
        largest = memory.rounded(size * 4)
        assert kept() <= memory.SLACK * largest


def test_released_memory_leaves_the_process_and_what_is_in_use_stays():
    array, free = memory.zeros(SHAPE), memory.empty(SHAPE)
    buffer = weakref.ref(free.base)
    del free
    memory.release()
    assert buffer() is None and kept() == 0
    memory.empty(SHAPE).fill(7)
    assert not array.any()


def test_a_repeated_step_allocates_nothing():
    def step():
        forward = [memory.empty((10_000 + 2000 * (i % 3),)) for i in range(9)]
        while forward:
            memory.empty((forward.pop().size,))
        return kept()

    step()
    first = step()
    before = {id(buffer) for buffers in memory._pool.sizes.values() for buffer, _ in buffers}
    assert step() == first
    assert {id(buffer) for buffers in memory._pool.sizes.values() for buffer, _ in buffers} == before


def counting(change, count=sys.getrefcount):
    """A `sys.getrefcount` that returns something else."""
    return lambda buffer: change(count(buffer))


FREE = next(counting(int)(pair[0]) for pair in [(np.empty(1), 0)])
CALLS = itertools.count()
COUNTS = {  # what another Python might count, and whether a buffer in use can be told from a free one by it
    "one less, as of a borrowed reference": (lambda count: count - 1, True),
    "many more, as of an object that never dies": (lambda count: count + (1 << 32), True),
    "always the same": (lambda count: 1, False),
    "at most that of a free one": (lambda count: min(count, FREE), False),
    "the first array not at all": (lambda count: max(count, FREE + 1), False),
    "ever more": (lambda count: next(CALLS), False),
    "either of two": (lambda count: next(CALLS) % 2, False),
}


@pytest.mark.parametrize("kind", COUNTS)
def test_memory_is_reused_only_where_the_reference_count_tells_that_it_is_free(kind, monkeypatch):
    count, reliable = COUNTS[kind]
    monkeypatch.setattr(sys, "getrefcount", counting(count))
    specification = importlib.util.spec_from_file_location("memory_elsewhere", memory.__file__)
    elsewhere = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(elsewhere)
    alive = []
    for number in range(20):
        array = elsewhere.empty(SHAPE)
        array[...] = number
        if number % 3:
            alive.append((number, array[1:]))
        del array
        assert all((view == number).all() for number, view in alive)
    assert sum(map(len, elsewhere._pool.sizes.values())) == (len(alive) if reliable else 0)
