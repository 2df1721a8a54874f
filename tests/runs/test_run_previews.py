"""Previews change nothing of the training, take a small fraction of its time, and come at growing intervals."""

import numpy as np
import pytest
from small_runs import UNET, assert_same_training, create, names, train

from minidiff.runs import previews
from minidiff.runs.previews import FRACTION, GROWTH, Previews


class Clock:
    """A clock that a test sets."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(previews, "time", clock)
    return clock


def test_previews_leave_every_bit_of_the_training_as_it_is(labelled_images, tmp_path):
    plain, previewed = (create(tmp_path / name, labelled_images, net=UNET) for name in "ab")
    drawer = Previews(previewed, 0)
    for _ in previewed.train_iter(6):
        drawer.draw()
    train(plain, 6)
    assert_same_training(plain, previewed)
    assert len(names(previewed.folder / "previews")) == 6
    assert (previewed.folder / "report.html").exists()


def test_the_same_weights_give_the_same_preview(run):
    Previews(run, 1).draw()
    (first,) = (run.folder / "previews").iterdir()
    before = first.read_bytes()
    np.random.default_rng(5).standard_normal(3)
    Previews(run, 1).draw()
    assert first.read_bytes() == before


@pytest.mark.parametrize("cost", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("step_seconds", [0.05, 2.0])
def test_previews_take_their_fraction_of_the_time_and_no_more(run, clock, monkeypatch, cost, step_seconds):
    drawer, drawn = Previews(run, 1.0), []

    def draw():
        drawn.append(clock.now)
        clock.now += cost

    monkeypatch.setattr(drawer, "draw", draw)
    monkeypatch.setattr(drawer, "_expected", lambda elapsed: cost)
    begin, training = clock.now, 0.0
    while training < 20_000:
        clock.now += step_seconds
        training += step_seconds
        drawer.after_step()
        assert len(drawn) * cost <= FRACTION * (clock.now - begin)
    assert drawn and drawn[0] - begin >= 60
    since_begin = np.array(drawn) - begin
    assert (since_begin[1:] >= GROWTH * since_begin[:-1]).all()
    assert len(drawn) < 35


def test_the_first_preview_waits_until_the_time_spent_warrants_it(run, clock, monkeypatch):
    drawer, drawn = Previews(run, 1.0), []
    monkeypatch.setattr(drawer, "draw", lambda: drawn.append(clock.now))
    monkeypatch.setattr(drawer, "_expected", lambda elapsed: 10.0)
    for _ in range(600):
        clock.now += 1
        drawer.after_step()
    assert drawn and drawn[0] - 1000 >= 10 / FRACTION
