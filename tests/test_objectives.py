"""What the network is asked, and what comes back; the formulas are held in properties/test_objective.py."""

import numpy as np
import pytest

from minidiff import nn, schedules
from minidiff.autograd import Tensor
from minidiff.objectives import TIMES, antithetic_times, simple_loss, uniform_times

SCHEDULE = schedules.linear(10, 0.01, 0.5)
X0 = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
T = np.array([1, 4, 7, 10])
NOISE = np.random.default_rng(0).standard_normal(X0.shape, dtype=np.float32)


def test_the_network_is_asked_with_a_tensor_the_times_the_labels_and_the_rng():
    asked = {}

    def net(x, t, label, rng):
        asked.update(x=x, t=t, label=label, rng=rng)
        return x * 0.0

    label, rng = np.arange(4), np.random.default_rng(0)
    loss = simple_loss(net, SCHEDULE, X0, T, NOISE, label, rng)
    assert isinstance(asked["x"], Tensor) and asked["x"].dtype == np.float32
    np.testing.assert_array_equal(asked["t"], T)
    assert asked["label"] is label and asked["rng"] is rng
    assert isinstance(loss, Tensor) and loss.shape == ()
    assert loss.item() == pytest.approx(np.mean(NOISE**2), rel=1e-6)


def test_a_respaced_schedule_asks_the_network_at_the_times_of_the_original():
    asked = []
    schedule = schedules.respaced(SCHEDULE, (10, 5, 2, 0))
    simple_loss(
        lambda x, t, label, rng: asked.append(t) or x, schedule, X0[:3], np.array([1, 2, 3]), NOISE[:3]
    )
    np.testing.assert_array_equal(asked[0], [2, 5, 10])


def test_dropout_is_drawn_from_the_rng_and_left_out_without_one():
    rng = np.random.default_rng(0)
    net = nn.UNet(rng, size=4, channels=1, width=8, multipliers=(1,), depth=1, groups=4, dropout=0.5)
    for p in net.named_parameters().values():  # the last layers begin at zero and would hide it
        p.data[...] = rng.standard_normal(p.shape)
    x0, noise = rng.standard_normal((2, 4, 4, 4, 1), dtype=np.float32)

    def loss(rng=None):
        return simple_loss(net, SCHEDULE, x0, T, noise, rng=rng).item()

    assert loss() == loss()
    assert loss(np.random.default_rng(1)) == loss(np.random.default_rng(1)) != loss()


@pytest.mark.parametrize(
    ("t", "noise"), [(np.array([0, 1, 2, 11]), NOISE), (T[:3], NOISE), (T, NOISE[:, :1])]
)
def test_times_out_of_range_and_shapes_that_do_not_match_are_refused(t, noise):
    with pytest.raises(ValueError):
        simple_loss(lambda x, t, label, rng: x, SCHEDULE, X0, t, noise)


def test_an_answer_of_another_shape_is_no_silent_broadcast():
    with pytest.raises(ValueError):
        simple_loss(lambda x, t, label, rng: x[:, :1], SCHEDULE, X0, T, NOISE)


def test_the_ways_to_draw_times_have_names():
    assert {"uniform": uniform_times, "antithetic": antithetic_times} == TIMES


@pytest.mark.parametrize("draw", TIMES.values())
def test_a_schedule_of_one_time_and_a_batch_of_one_are_drawn_too(draw):
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(draw(rng, 1, 5), np.ones(5))
    assert draw(rng, 9, 1).shape == (1,)
