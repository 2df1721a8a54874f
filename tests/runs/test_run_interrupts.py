"""Ctrl-C while a run is trained: the step is finished and the run saved; the second Ctrl-C stops at once."""

import signal
import threading

import pytest
from small_runs import assert_same_training, create, train

from minidiff.progress import Progress
from minidiff.runs import Interrupted, Run
from minidiff.runs.interrupts import SIGNALS, interruptible


class Stream:
    """Where progress goes."""

    def __init__(self):
        self.written = ""

    def write(self, text):
        self.written += text

    def flush(self):
        pass

    def isatty(self):
        return False


def interrupt_at(monkeypatch, step, number=signal.SIGINT, times=1):
    """Send a signal, as often as `times`, when progress is shown at a step."""
    update = Progress.update

    def patched(self, done, note=""):
        update(self, done, note)
        if done == step:
            for _ in range(times):
                signal.raise_signal(number)

    monkeypatch.setattr(Progress, "update", patched)


def handlers():
    return [signal.getsignal(number) for number in SIGNALS]


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_ctrl_c_finishes_the_step_saves_and_raises_interrupted(source, tmp_path, monkeypatch, number):
    interrupt_at(monkeypatch, 3, number)
    run, uninterrupted = (create(tmp_path / name, source) for name in ("a", "b"))
    before, stream = handlers(), Stream()
    with pytest.raises(Interrupted, match=rf"stopped after step 3, saved in {run.folder}"):
        run.train(9, progress=stream)
    assert handlers() == before
    assert stream.written.splitlines()[-1].startswith("step 3/9")
    train(uninterrupted, 3)
    assert_same_training(run, uninterrupted)
    resumed = Run.resume(run.folder)
    assert resumed.step == 3
    train(resumed, 9), train(uninterrupted, 9)
    assert_same_training(resumed, uninterrupted)


def test_interrupted_is_a_keyboard_interrupt():
    assert issubclass(Interrupted, KeyboardInterrupt)


def test_the_second_ctrl_c_stops_at_once_and_keeps_the_last_checkpoint(run, monkeypatch):
    run.train(2, progress=None)
    interrupt_at(monkeypatch, 4, times=2)
    before = handlers()
    with pytest.raises(KeyboardInterrupt) as caught:
        run.train(9, progress=Stream())
    assert not isinstance(caught.value, Interrupted)
    assert handlers() == before
    assert Run.resume(run.folder).step == 2


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no such signal")
def test_a_terminal_that_closes_may_send_its_signal_twice_and_others(run, monkeypatch):
    def closed(number):
        for each in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM):
            signal.raise_signal(each)

    update = Progress.update
    monkeypatch.setattr(
        Progress, "update", lambda self, done, note="": update(self, done, note) or closed(done)
    )
    with pytest.raises(Interrupted):
        run.train(9, progress=Stream())
    assert Run.open(run.folder).step == 1


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_that_is_ignored_as_under_nohup_stays_so(run, monkeypatch, number):
    interrupt_at(monkeypatch, 2, number)
    before = signal.signal(number, signal.SIG_IGN)
    try:
        run.train(4, progress=Stream())
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)
    assert Run.open(run.folder).step == 4


def test_a_stream_that_fails_does_not_end_training(run):
    class Failing(Stream):
        def write(self, text):
            raise BrokenPipeError

    run.train(4, progress=Failing())
    assert Run.open(run.folder).step == 4


def test_ctrl_c_at_the_last_step_is_reported_and_everything_saved(run, monkeypatch):
    interrupt_at(monkeypatch, 5)
    with pytest.raises(Interrupted, match="step 5"):
        run.train(5, progress=Stream())
    assert Run.open(run.folder).step == 5


def test_ctrl_c_while_saving_lets_the_checkpoint_be_finished(run, monkeypatch):
    save = run.save
    monkeypatch.setattr(run, "save", lambda: signal.raise_signal(signal.SIGINT) or save())
    with pytest.raises(Interrupted):
        run.train(3, progress=None)
    assert Run.open(run.folder).step == 3


def in_a_thread(function):
    """Call a function in a thread that is not the main one; returns what it returned or raised."""
    outcome = []

    def call():
        try:
            outcome.append(function())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    return outcome[0]


def test_a_run_can_be_trained_in_another_thread(run):
    before = handlers()
    assert in_a_thread(lambda: run.train(4, progress=Stream())) is None
    assert handlers() == before and Run.open(run.folder).step == 4


def test_a_signal_while_another_thread_trains_is_left_to_the_main_thread(run):
    received, old = [], signal.signal(signal.SIGINT, lambda number, frame: received.append(number))
    try:

        def train_and_signal():
            with interruptible() as interrupted:
                signal.raise_signal(signal.SIGINT)
                run.train(2, progress=None)
            return interrupted

        assert in_a_thread(train_and_signal) == []
        assert received == [signal.SIGINT] and Run.open(run.folder).step == 2
    finally:
        signal.signal(signal.SIGINT, old)


def test_handlers_are_restored_after_an_error():
    before = handlers()
    with pytest.raises(RuntimeError), interruptible() as interrupted:
        signal.raise_signal(signal.SIGTERM)
        assert interrupted == [signal.SIGTERM]
        raise RuntimeError
    assert handlers() == before
