"""Progress on a terminal and elsewhere, by a clock that the tests set."""

import io
import re

import pytest

from minidiff import progress
from minidiff.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    now = 5000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    fake = Clock()
    monkeypatch.setattr(progress, "time", fake)
    return fake


def last_line(stream):
    return (
        stream.getvalue().rpartition("\x1b[K")[2].strip()
        if stream.isatty()
        else stream.getvalue().split("\n")[-2]
    )


def test_a_terminal_shows_one_line_which_is_overwritten_and_remains_at_the_end(clock):
    stream = Terminal()
    bar = Progress("step", stream, total=10)
    for done in range(1, 11):
        clock.now += 1
        bar.update(done, "loss 0.5")
    bar.finish("done")
    text = stream.getvalue()
    assert text.count("\n") == 1 and text.endswith("done\n")
    assert text.count("\r\x1b[K") == 11
    assert "█" in text


def test_elsewhere_plain_lines_are_written_now_and_then(clock):
    stream = io.StringIO()
    bar = Progress("step", stream, total=100)
    for done in range(1, 101):
        clock.now += 0.5
        bar.update(done, "loss 0.5")
    bar.finish()
    lines = stream.getvalue().splitlines()
    assert not re.search(r"[\r\x1b█]", stream.getvalue())
    assert 4 <= len(lines) <= 8  # 50 seconds, one in ten
    assert lines[-1].startswith("step 100/100")


def test_a_terminal_is_not_flooded(clock):
    stream = Terminal()
    bar = Progress("step", stream, total=1000)
    for done in range(1000):
        clock.now += 0.001
        bar.update(done)
    assert stream.getvalue().count("\r") <= 11


@pytest.mark.parametrize("kind", [Terminal, io.StringIO])
def test_rate_note_and_time_left(clock, kind):
    stream = kind()
    bar = Progress("step", stream, total=1000, done=200)  # resumed: 200 were made before
    clock.now += 40
    bar.update(300, "loss 0.1234")
    line = last_line(stream)
    assert "step" in line and "300/1000" in line and "loss 0.1234" in line
    assert "2.5/s" in line  # 100 in 40 s
    assert "4:40 left" in line  # 700 at that rate


@pytest.mark.parametrize(
    ("total", "seconds", "done", "left"),
    [
        (1000, 100, 100, "1:30"),
        (1000, 30, 100, "0:20"),
        (100_000, None, 100, "2:46:30"),
        (None, 75, 100, "1:05"),
    ],
)
def test_the_limit_reached_first_determines_the_time_left(clock, total, seconds, done, left):
    stream = Terminal()
    bar = Progress("step", stream, total=total, seconds=seconds)
    clock.now += 10
    bar.update(done)
    assert f"{left} left" in last_line(stream)


@pytest.mark.parametrize(
    ("fraction", "blocks"), [(0.0, 0), (0.5, progress.WIDTH // 2), (1.0, progress.WIDTH)]
)
def test_the_length_of_the_bar_is_the_fraction_done(clock, fraction, blocks):
    stream = Terminal()
    bar = Progress("step", stream, total=100)
    clock.now += 1
    bar.update(int(100 * fraction))
    assert last_line(stream).count("█") == blocks


def test_the_bar_shows_the_time_where_that_is_the_only_limit(clock):
    stream = Terminal()
    bar = Progress("step", stream, seconds=60.0)
    clock.now += 30
    bar.update(7)
    assert last_line(stream).count("█") == progress.WIDTH // 2


@pytest.mark.parametrize("kind", [Terminal, io.StringIO])
@pytest.mark.parametrize("total", [None, 0, 1, 10])
@pytest.mark.parametrize("seconds", [None, 1e-9, 60.0])
@pytest.mark.parametrize("later", [0.0, 1e-12, 1e3])
def test_nothing_divides_by_zero_or_overflows(clock, kind, total, seconds, later):
    stream = kind()
    bar = Progress("step", stream, total=total, seconds=seconds)
    for done in (0, 1, 50):  # also more than there were to do
        clock.now += later
        bar.update(done)
    bar.finish()
    assert "nan" not in stream.getvalue() and "inf" not in stream.getvalue() and "-" not in stream.getvalue()
    assert all(line.count("█") <= progress.WIDTH for line in stream.getvalue().split("\r"))


def test_the_first_line_is_written_at_once_even_when_the_clock_starts_at_0(clock):
    clock.now = 0.0
    stream = io.StringIO()
    Progress("step", stream, total=10).update(1)
    assert stream.getvalue().startswith("step 1/10")


def test_the_time_of_an_epoch_is_shown_once_there_is_a_rate(clock):
    stream = io.StringIO()
    bar = Progress("step", stream, total=1000, done=200, epoch=62.5)
    bar.update(200)
    clock.now += 20
    bar.update(210)
    lines = stream.getvalue().splitlines()
    assert "epoch" not in lines[0] and "epoch in 2:05" in lines[1]


def test_an_epoch_of_less_than_a_second_is_not_shown(clock):
    stream = io.StringIO()
    bar = Progress("step", stream, total=1000, epoch=4)
    clock.now += 20
    bar.update(100)
    assert "epoch" not in stream.getvalue()
