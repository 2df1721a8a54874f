"""A pool of threads that divide the jobs of a launch among them by work stealing.

A *launch* is a function and a number of independent jobs:

1. The caller, which is thread 0, cuts the jobs into one *segment* for each thread. Then it increments EPOCH, for which
   the other threads wait, and works like them.
2. A thread claims the jobs of its own segment from the front, one by one. Neighbouring jobs use neighbouring memory,
   and the same thread finds it in its cache again at the next launch. When the segment is empty it *steals* from the
   back of the others'. So a thread that comes late, or never, delays nobody: the others do its jobs.
3. A thread that finds no more jobs subtracts the number of those that it did from LEFT. At 0 the launch is over.

**Claims.** A segment is one word, begin · 2³² + end, and a claim is one compare-and-swap of it: when two threads try at
once, one succeeds and the other reads the word again. All segments are empty between launches. So if a claim succeeds
its launch is running, and RUN and TASK are that launch's until the thread has subtracted its jobs from LEFT, however
late the thread is.

**Waiting.** Kernels follow each other within microseconds, and putting a thread to sleep and waking it takes several.
So a thread that waits *spins* first, which is to read the word over and over, and sleeps after about 0.5 ms, longer
than Python takes between most kernels.

**Sharing the machine.** A thread that loses its core to another process in the midst of a job keeps the whole launch
waiting, and one that spins takes the time of those waited for. So only as many threads are ACTIVE as find cores. Once
in a PERIOD a thread compares two clocks, of which one runs only while the thread has a core. If it was *displaced* for
long, there is one active thread less, and the others sleep. After HOLD nanoseconds another is tried. Each displacement
doubles HOLD, and each HOLD without one, when all threads are active, halves it again.

**No wake-up is lost.** A thread first counts itself among the sleepers and then sleeps, if the word is still the same.
The other side first changes the word and then looks for sleepers. In whatever order these four steps happen, the first
observes the change or the second observes the sleeper.

**A launch during a launch**, from one of its jobs or from another Python thread, finds the pool BUSY and runs all of
its jobs by itself.
"""

import atexit
import threading
from functools import cache

import numpy as np
from llvmlite import binding

from .atomics import (
    EVERYONE,
    FIRST_FREE,
    LINE,
    WORDS,
    add,
    call,
    compare_and_swap,
    cpu_clock,
    load,
    pause,
    read,
    sleep_while,
    store,
    wake,
    wall_clock,
    write,
)
from .jit import c_function, device

PARALLEL_FOR = "minidiff_parallel_for"  # the symbol that kernels are linked against
MOST = 256  # threads
SHORTEST, LONGEST = 2_000_000, 100_000_000  # ns, of HOLD

# What helpers are called with has a NumPy type: Numba would compile them anew for each literal.
AT_ONCE, PERIOD = np.int64(0), np.int64(1_000_000)  # ns
CALLER = np.int64(0)  # the number of the thread
EPOCH, RUN, TASK, LEFT, BUSY, SLEEPERS, WAITING, SPINS = FIRST_FREE + np.arange(8) * LINE
THREADS, ACTIVE, CHANGES, HOLD, REVISION, DISPLACED, SEGMENTS = SPINS + np.arange(1, 8) * LINE
# Of each thread: the last readings of its two clocks.
CLOCKS = SEGMENTS + MOST * LINE
assert CLOCKS + MOST * LINE <= WORDS * LINE

_threads: list[threading.Thread] = []
write(THREADS, 1)
write(ACTIVE, 1)
write(HOLD, SHORTEST)
write(SPINS, 20_000)  # reads of a word before sleep, about 0.5 ms
write(DISPLACED, 1_000_000)  # ns; an interrupt takes less, another process more


@device
def _claim(segment, own):
    """The next job of a segment, from its front if it is the thread's own; -1 if there is none."""
    while True:
        word = load(segment)
        begin, end = word >> 32, word & 0xFFFFFFFF
        if begin >= end:
            return -1
        job, rest = (begin, word + (1 << 32)) if own else (end - 1, word - 1)
        if compare_and_swap(segment, word, rest):
            return job


@device
def _displaced(me, period):
    """Whether the thread had no core for a while since the clocks were last read, which they are once in a period."""
    last = CLOCKS + me * LINE
    wall = wall_clock()
    elapsed = wall - load(last)
    if elapsed < period:
        return False
    cpu = cpu_clock()
    lost = elapsed - (cpu - load(last + 8))
    store(last, wall)
    store(last + 8, cpu)
    return lost > load(DISPLACED) + elapsed // 16


@device
def _fewer():
    """One active thread less, and a longer time until another is tried."""
    active, hold = load(ACTIVE), min(2 * load(HOLD), LONGEST)
    if active > 1:
        compare_and_swap(ACTIVE, active, active - 1)
    store(HOLD, hold)
    store(REVISION, wall_clock() + hold)


@device
def _work(me):
    """Run jobs until all are claimed."""
    done, threads = 0, load(THREADS)
    for i in range(threads):
        segment, own = SEGMENTS + (me + i) % threads * LINE, i == 0
        job = _claim(segment, own)
        while job >= 0:
            call(load(RUN), load(TASK), job, job + 1)
            done += 1
            job = _claim(segment, own)
    if done > 0 and add(LEFT, -done) == done and load(WAITING) > 0:
        wake(LEFT, EVERYONE)
    if _displaced(me, PERIOD):
        _fewer()


@device
def _revise():
    """Once none was displaced for a while: one active thread more, or, if all are, a shorter while from now on."""
    now = wall_clock()
    if now < load(REVISION):
        return
    active = load(ACTIVE)
    if active == load(THREADS):
        store(HOLD, max(load(HOLD) // 2, SHORTEST))
    elif compare_and_swap(ACTIVE, active, active + 1):
        add(CHANGES, 1)
        wake(CHANGES, EVERYONE)
    store(REVISION, now + load(HOLD))


@device
def _spin(word, value):
    """Wait for the word to change, but not for long; returns whether it did."""
    for _ in range(load(SPINS)):
        if load(word) != value:
            return True
        pause()
    return False


@device
def _wait(word, value, sleepers, me):
    """Wait for the word to change from `value`."""
    if load(word) == value and not _spin(word, value):
        add(sleepers, 1)
        sleep_while(word, value)
        add(sleepers, -1)
        _displaced(me, AT_ONCE)  # from now on: to sleep is not to be displaced


@c_function("void(int64)")
def _worker(me):
    """What every thread but the caller runs, until the pool has become too small for it."""
    epoch = np.int64(-1)
    while me < load(THREADS):
        changes = load(CHANGES)
        if me < load(ACTIVE):
            _wait(EPOCH, epoch, SLEEPERS, me)
            epoch = load(EPOCH)
            _work(me)
        elif me < load(THREADS):
            sleep_while(CHANGES, changes)
            _displaced(me, AT_ONCE)


@c_function("void(int64, int64, int64)")
def _parallel_for(run, task, jobs):
    """run(task, job, job + 1) for every job < jobs."""
    threads = load(THREADS)
    if threads > 1:
        _revise()
        threads = load(ACTIVE)
    if jobs <= 1 or threads == 1 or not compare_and_swap(BUSY, 0, 1):
        call(run, task, 0, jobs)
        return
    _displaced(CALLER, PERIOD)  # from now on: what Python did before is not the pool's
    store(RUN, run)
    store(TASK, task)
    store(LEFT, jobs)
    for i in range(threads):
        store(SEGMENTS + i * LINE, jobs * i // threads << 32 | jobs * (i + 1) // threads)
    add(EPOCH, 1)
    if load(SLEEPERS) > 0:
        wake(EPOCH, jobs - 1)
    _work(CALLER)
    left = load(LEFT)
    while left > 0:
        _wait(LEFT, left, WAITING, CALLER)
        left = load(LEFT)
    store(BUSY, 0)


@c_function("void(int64)")
def _set_size(threads):
    store(THREADS, threads)
    store(ACTIVE, threads)
    store(HOLD, SHORTEST)
    add(EPOCH, 1)
    wake(EPOCH, EVERYONE)
    add(CHANGES, 1)
    wake(CHANGES, EVERYONE)


@cache
def load_functions() -> None:
    """Let kernels find PARALLEL_FOR. Done before the first is compiled or loaded, so that importing stays quick."""
    binding.add_symbol(PARALLEL_FOR, _parallel_for.compiled.address)


def size() -> int:
    """The number of threads, the caller's included."""
    return read(THREADS)


def active() -> int:
    """How many of the threads divide the work at present."""
    return read(ACTIVE)


def resize(threads: int) -> None:
    """Start or stop threads: then there are `threads` with the caller, or MOST, or as many as the system allows."""
    load_functions()
    threads = max(1, min(threads, MOST))
    _set_size.compiled.ctypes(threads)
    while len(_threads) >= threads:
        _threads.pop().join()
    while len(_threads) < threads - 1:
        # ctypes releases Python's global lock for as long as the thread is in compiled code.
        thread = threading.Thread(target=_worker.compiled.ctypes, args=(len(_threads) + 1,), daemon=True)
        try:
            thread.start()
        except RuntimeError:
            _set_size.compiled.ctypes(len(_threads) + 1)
            return
        _threads.append(thread)


def forget() -> None:
    """In a forked child, which has none of the threads: a pool of size 1, as at first."""
    _threads.clear()
    write(THREADS, 1)
    write(ACTIVE, 1)
    write(SLEEPERS, 0)


@atexit.register
def _stop() -> None:
    """When Python exits it frees the machine code and the words: no thread may still be using them."""
    if _threads:
        resize(1)
