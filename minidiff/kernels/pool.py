"""A pool of threads that share out the jobs of a kernel by work stealing.

A *launch* is a function and a number of independent jobs, 0 … jobs − 1. It takes these steps:

1. The caller cuts the jobs into one *segment* for each thread, increments EPOCH, for which the others wait, and takes
   part itself as thread 0.
2. A thread claims the jobs of its own segment from the front: neighbouring jobs use neighbouring memory, and at the
   next launch the same thread finds it in its cache. When its own segment is empty it *steals* from the back of the
   others'. So the caller never waits for a thread that has not begun: where that is late (it sleeps, or another process
   occupies its core), the others do its jobs.
3. A thread that finds no more jobs subtracts the number of those it did from LEFT. The launch ends when that is 0.

**Claims.** A segment is one word, begin · 2³² + end, and a claim one compare-and-swap of it: of the threads that want
the same job one succeeds and the others look again. Segments are empty between launches. So whoever has claimed a job
knows that its launch is still running and that RUN and TASK belong to it, however late it comes.

**Waiting.** Kernels follow each other within microseconds, and to put a thread to sleep and wake it takes several, so
a waiting thread first spins: it reads the word again and again. That pays only while it has a core for itself. Where
threads outnumber the cores, because other processes compute too, the time that it spins is taken from those for which
it waits. It finds out by the clock: between two readings, which normally are less than a microsecond apart, another
process had the core. Then it sleeps at once, and for the next QUIET nanoseconds it does not spin at all.

No wake-up is lost. A thread first counts itself among the sleepers, then sleeps if the word is still the same; the
other side first changes the word, then looks for sleepers. In whichever order the four happen, either the sleeper
sees the change or the other side sees the sleeper.

**A launch during a launch**, by a job or by another thread, finds the pool BUSY and does all of its jobs itself.
"""

import atexit
import threading

import numpy as np
from llvmlite import binding

from .atomics import (
    EVERYONE,
    FIRST,
    LINE,
    WORDS,
    add,
    call,
    clock,
    compare_and_swap,
    cpu_clock,
    load,
    pause,
    peek,
    poke,
    sleep_while,
    store,
    wake,
)
from .jit import c_function, device

PARALLEL_FOR = "minidiff_parallel_for"  # the symbol that kernels are linked against
MOST = 256  # threads
CALLER = np.int64(0)  # the number of the thread that calls; the others' are 1, 2, …
SPINS = 3000  # reads of a word before sleep, about 0.1 ms
DISPLACED = 300_000  # ns
QUIET = 50_000_000  # ns

EPOCH, RUN, TASK, LEFT, THREADS, BUSY, SLEEPERS, WAITING, SEGMENTS = FIRST + np.arange(9) * LINE
LOST = SEGMENTS + MOST * LINE
assert LOST + MOST * LINE <= WORDS * LINE

_threads: list[threading.Thread] = []
poke(THREADS, 1)


@device
def _claim(segment, at_front):
    """The first or the last job of a segment, -1 where there is none."""
    while True:
        word = load(segment)
        begin, end = word >> 32, word & 0xFFFFFFFF
        if begin >= end:
            return -1
        job, rest = (begin, word + (1 << 32)) if at_front else (end - 1, word - 1)
        if compare_and_swap(segment, word, rest):
            return job


@device
def _work(me):
    """Claim and do jobs until all are claimed."""
    done, threads = 0, load(THREADS)
    for i in range(threads):
        segment = SEGMENTS + (me + i) % threads * LINE
        job = _claim(segment, i == 0)
        while job >= 0:
            call(load(RUN), (load(TASK), job, job + 1))
            done += 1
            job = _claim(segment, i == 0)
    if done > 0 and add(LEFT, -done) == done and load(WAITING) > 0:
        wake(LEFT, EVERYONE)


@device
def _spin(word, value, me):
    """Whether the word has changed from `value` before it was time to sleep."""
    lost, quiet = LOST + me * LINE, LOST + me * LINE + 8
    before, now = load(lost), clock()
    lost_now = now - cpu_clock()
    store(lost, lost_now)
    if lost_now - before > DISPLACED:
        store(quiet, now + QUIET)
    if now < load(quiet):
        return False
    for _ in range(SPINS):
        if load(word) != value:
            return True
        pause()
    return False


@device
def _wait(word, value, sleepers, me):
    """Return when the word is not `value` any more."""
    if load(word) == value and not _spin(word, value, me):
        add(sleepers, 1)
        sleep_while(word, value)
        add(sleepers, -1)
        store(LOST + me * LINE, clock() - cpu_clock())


@c_function("void(int64)")
def _worker(me):
    """The loop of every thread but the caller's."""
    epoch = np.int64(-1)
    while me < load(THREADS):
        _wait(EPOCH, epoch, SLEEPERS, me)
        epoch = load(EPOCH)
        _work(me)


@c_function("void(int64, int64, int64)")
def _parallel_for(run, task, jobs):
    """run(task, job, job + 1) for every job < jobs."""
    threads = load(THREADS)
    if jobs <= 1 or threads == 1 or not compare_and_swap(BUSY, 0, 1):
        call(run, (task, 0, jobs))
        return
    store(LOST, clock() - cpu_clock())
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
    """Threads whose number is too large for the new size leave."""
    store(THREADS, threads)
    add(EPOCH, 1)
    wake(EPOCH, EVERYONE)


binding.add_symbol(PARALLEL_FOR, _parallel_for.address)


def size() -> int:
    """The number of threads that take part in a launch, the caller's included."""
    return peek(THREADS)


def resize(threads: int) -> None:
    """Start or stop threads; not during a launch."""
    threads = max(1, min(threads, MOST))
    _set_size.ctypes(threads)
    while len(_threads) >= threads:
        _threads.pop().join()
    for me in range(len(_threads) + 1, threads):
        _threads.append(threading.Thread(target=_worker.ctypes, args=(me,), daemon=True))
        _threads[-1].start()


def forget() -> None:
    """In a forked child, to which the threads were not copied."""
    _threads.clear()
    poke(THREADS, 1)
    poke(SLEEPERS, 0)


# Machine code and its memory are freed when Python exits: no thread may still be there.
atexit.register(resize, 1)
