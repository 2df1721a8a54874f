"""The loop: the same seed gives the same bits, and a stop in between leaves no trace."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidiff import checkpoints, datasets, nn, optim, schedules
from minidiff.kernels import convolution
from minidiff.training import trainer as training
from minidiff.training.trainer import Batches, Diverged, Trainer

SCHEDULE = schedules.linear(6, 0.05, 0.5)
POINTS = np.random.default_rng(7).standard_normal((10, 2), dtype=np.float32)
IMAGES = np.random.default_rng(8).uniform(-1, 1, (5, 4, 4, 1)).astype(np.float32)


def on_points(seed=0, **settings):
    rng = np.random.default_rng(seed)
    net = nn.MLP(rng, dim=2, width=8, depth=2, T=6)
    return Trainer(net, SCHEDULE, POINTS, rng=rng, **{"batch": 4, "lr": 0.01, "warmup": 4} | settings)


def on_labelled_points(seed=0):
    rng = np.random.default_rng(seed)
    net = nn.MLP(rng, dim=2, width=8, depth=2, T=6, classes=3)
    return Trainer(net, SCHEDULE, POINTS, np.arange(10) % 3, rng=rng, batch=3, warmup=4, times="uniform")


def on_images_with_dropout(seed=0):
    rng = np.random.default_rng(seed)
    net = nn.UNet(
        rng, size=4, channels=1, width=8, multipliers=(1,), depth=1, groups=4, dropout=0.3, classes=2
    )
    return Trainer(net, SCHEDULE, IMAGES, np.arange(5) % 2, rng=rng, batch=3, warmup=2)


def on_images_with_all_that_can_be_learned(seed=0):
    rng = np.random.default_rng(seed)
    net = nn.UNet(rng, size=4, channels=1, width=8, multipliers=(1,), depth=1, groups=4, classes=2, answers=2)
    learned = {"times": "loss-aware", "prediction": "v", "weighting": "min-snr", "label_drop": 0.5}
    return Trainer(net, schedules.linear(2), IMAGES, np.arange(5) % 2, rng=rng, batch=9, warmup=2, **learned)


MAKERS = [
    on_points,
    on_labelled_points,
    on_images_with_dropout,
    on_images_with_all_that_can_be_learned,
]


def assert_same(a, b):
    (arrays_a, facts_a), (arrays_b, facts_b) = a.state(), b.state()
    assert facts_a == facts_b and arrays_a.keys() == arrays_b.keys()
    for name in arrays_a:
        assert arrays_a[name].dtype == arrays_b[name].dtype
        np.testing.assert_array_equal(arrays_a[name], arrays_b[name], err_msg=name)


def through_a_file(trainer, path):
    checkpoints.write(path, *trainer.state())
    return checkpoints.read(path)


# ---- the same curve


@pytest.mark.compiled
def test_with_winograds_and_with_direct_convolution_the_loss_takes_the_same_course(monkeypatch):
    def losses(winograd):
        monkeypatch.setattr(convolution, "WINOGRAD", winograd)
        rng, data = np.random.default_rng(0), datasets.load("digits")
        net = nn.UNet(rng, size=8, channels=1, width=32, multipliers=(1, 2), depth=1, groups=8, dropout=0.0)
        trainer = Trainer(net, schedules.cosine(1000), data.x, rng=rng, batch=16, lr=2e-3, warmup=10)
        return np.array([step.loss for step in trainer.run(40)])

    fast, direct = losses(True), losses(False)
    assert not np.array_equal(fast, direct)  # it was another computation
    np.testing.assert_allclose(fast, direct, rtol=1e-3)
    assert direct[-5:].mean() < 0.7 * direct[:5].mean()


# ---- the same bits


@pytest.mark.parametrize("make", MAKERS)
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(make):
    first, second, other = make(), make(), make(seed=1)
    assert list(first.run(5)) == list(second.run(5)) != list(other.run(5))
    assert_same(first, second)


def test_by_then_the_times_are_drawn_by_their_loss():
    trainer = on_images_with_all_that_can_be_learned()
    list(trainer.run(3))
    assert not np.isnan(trainer.draw_times.history).any()


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("stop", [0, 1, 2, 3, 5, 6])
def test_resumed_from_a_file_it_goes_on_bit_for_bit(make, stop, tmp_path):
    """6 steps of batch 4 of 10 items (or 3 of 10, 3 of 5) end two epochs, some within a batch."""
    never_stopped, stopped = make(), make()
    whole = list(never_stopped.run(6))
    part = list(stopped.run(stop))
    resumed = make(seed=99)
    resumed.restore(*through_a_file(stopped, tmp_path / "c.npz"))
    assert resumed.step == stop
    assert part + list(resumed.run(6)) == whole
    assert_same(resumed, never_stopped)


def test_being_asked_for_the_state_changes_nothing():
    asked, left_alone = on_points(), on_points()
    for _ in asked.run(5):
        asked.state()
    list(left_alone.run(5))
    assert_same(asked, left_alone)


def test_a_state_is_a_snapshot_that_later_steps_leave_alone():
    trainer = on_points()
    list(trainer.run(2))
    arrays, _ = trainer.state()
    before = {name: array.copy() for name, array in arrays.items()}
    list(trainer.run(4))
    for name in arrays:
        np.testing.assert_array_equal(arrays[name], before[name], err_msg=name)


# ---- when to stop


def test_steps_are_the_total_and_a_finished_trainer_makes_none():
    trainer = on_points()
    assert [step.step for step in trainer.run(3)] == [1, 2, 3]
    assert [step.step for step in trainer.run(5)] == [4, 5]
    assert list(trainer.run(5)) == [] and trainer.step == 5


@pytest.mark.parametrize(("steps", "expected"), [(None, 6), (4, 4), (100, 6)])
def test_minutes_bound_the_loop_and_the_first_limit_counts(monkeypatch, steps, expected):
    clock = itertools.count(1000.0, 1.0)  # every look at it takes a second
    monkeypatch.setattr(training.time, "monotonic", lambda: next(clock))
    # The end is 6.5 s after the first look; looks 2 to 7 are before it.
    assert len(list(on_points().run(steps, minutes=6.5 / 60))) == expected


def test_without_a_limit_it_does_not_begin():
    with pytest.raises(ValueError, match="steps, minutes or both"):
        next(on_points().run())


def test_leaving_the_loop_leaves_everything_whole():
    left, stopped = on_points(), on_points()
    for step in left.run(100):
        if step.step == 3:
            break
    list(stopped.run(3))
    assert_same(left, stopped)


# ---- a step


def test_the_warm_up_counts_steps_made_and_not_steps_since_the_start(tmp_path):
    trainer = on_points(lr=0.8, warmup=4)
    rates = [step.lr for step in trainer.run(2)]
    resumed = on_points(lr=0.8, warmup=4)
    resumed.restore(*through_a_file(trainer, tmp_path / "c.npz"))
    rates += [step.lr for step in resumed.run(6)]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8])
    assert [step.lr for step in on_points(lr=0.8, warmup=0).run(2)] == [0.8, 0.8]


def test_the_norm_is_reported_unclipped_and_the_update_is_clipped():
    free, held = on_points(clip=np.inf), on_points(clip=0.001)
    (step,), (clipped,) = free.run(1), held.run(1)
    assert step.norm == clipped.norm > 0.01
    assert np.linalg.norm(free.adam.first) == pytest.approx(0.1 * step.norm, rel=1e-4)
    assert np.linalg.norm(held.adam.first) == pytest.approx(0.1 * 0.001, rel=1e-4)


def test_the_gradient_of_a_step_is_of_its_own_batch_alone():
    trainer = on_points(clip=np.inf)
    list(trainer.run(1))
    before = trainer.adam.first.copy()
    (step,) = trainer.run(2)
    assert not trainer.parameters.gradients.any()
    assert np.linalg.norm(trainer.adam.first - 0.9 * before) == pytest.approx(0.1 * step.norm, rel=1e-3)


def test_a_step_that_fails_leaves_no_gradient_behind(monkeypatch):
    trainer = on_points()

    def interrupted(gradients, limit):
        assert gradients.any()
        raise KeyboardInterrupt

    monkeypatch.setattr(optim, "clip_scale", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trainer.advance()
    assert not trainer.parameters.gradients.any() and trainer.step == 0


def test_the_average_is_a_network_of_its_own_over_the_averaged_weights():
    follows, stays = on_points(decay=0.0), on_points(decay=0.9999)
    list(follows.run(5)), list(stays.run(5))
    x, t = POINTS[:3], np.array([1, 3, 6])
    np.testing.assert_array_equal(follows.average(x, t), follows.net(x, t))
    assert np.abs(stays.average(x, t) - stays.net(x, t)).max() > 0


def test_the_average_takes_in_each_step_early_ones_faster():
    trainer = on_points(decay=0.3)
    expected = trainer.parameters.values.astype(float)
    for step in trainer.run(6):
        decay = min(0.3, (1 + step.step) / (10 + step.step))
        expected = decay * expected + (1 - decay) * trainer.parameters.values
        np.testing.assert_allclose(trainer.ema.values, expected, rtol=1e-5, atol=1e-7)


def test_each_image_meets_its_own_label():
    trainer = on_labelled_points()
    seen = []
    ask = trainer.net.forward

    def spy(x, t, label, rng):
        seen.append((x.data.copy(), t, label))
        return ask(x, t, label, rng)

    trainer.net.forward = spy
    trainer.schedule = schedules.linear(6, 1e-9, 2e-9)  # hardly any noise: an x_t can be told by its x_0
    list(trainer.run(4))
    for x, _, labels in seen:
        nearest = np.linalg.norm(x[:, None] - POINTS, axis=2).argmin(axis=1)
        np.testing.assert_array_equal(labels, nearest % 3)


def test_times_drawn_by_their_loss_count_the_less_the_more_often_they_come(monkeypatch):
    trainer = on_points(times="loss-aware", batch=50)
    for _ in range(10):
        trainer.draw_times.record(np.arange(1, 7), np.arange(1.0, 7))
    weigh, seen = trainer.draw_times.weights, {}
    monkeypatch.setattr(trainer.draw_times, "weights", lambda t: seen.setdefault("weights", weigh(t)))
    monkeypatch.setattr(trainer.draw_times, "record", lambda t, losses: seen.update(t=t, losses=losses))
    (step,) = trainer.run(1)
    assert np.ptp(seen["weights"]) > 1 and seen["losses"].shape == (50,)
    assert step.loss == pytest.approx((seen["weights"] * seen["losses"]).mean(), rel=1e-5)
    p = np.arange(1, 7) / 21
    np.testing.assert_allclose(seen["weights"], 1 / (6 * (0.999 * p + 0.001 / 6))[seen["t"] - 1], rtol=1e-12)


def test_labels_are_dropped_as_often_as_is_asked():
    seen = []
    for drop in (0.0, 0.3, 1.0):
        trainer = on_labelled_points()
        trainer.label_drop, trainer.batches = drop, Batches(10, 2000, trainer.rng)
        forward = trainer.net.forward
        trainer.net.forward = lambda x, t, label, rng: seen.append(label) or forward(x, t, label, rng)  # noqa: B023
        list(trainer.run(1))
        kept = seen[-1][seen[-1] < 3]
        assert np.isin(seen[-1], range(4)).all() and np.unique(kept).size == (3 if drop < 1 else 0)
        assert (seen[-1] == 3).mean() == pytest.approx(drop, abs=0.05)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_a_loss_that_is_no_number_stops_before_the_weights_are_touched(bad):
    trainer = on_points(batch=10)
    list(trainer.run(3))
    arrays = {name: array.copy() for name, array in trainer.state()[0].items() if name != "order"}
    trainer.x = POINTS.copy()
    trainer.x[5] = bad
    with np.errstate(all="ignore"), pytest.raises(Diverged, match=r"step 4: .*(nan|inf).* lower"):
        list(trainer.run(4))
    assert trainer.step == 3
    for name, array in arrays.items():
        np.testing.assert_array_equal(trainer.state()[0][name], array, err_msg=name)


# ---- what is refused


@pytest.mark.parametrize(
    "settings",
    [
        {"batch": 0},
        {"lr": 0.0},
        {"lr": np.nan},
        {"lr": -1.0},
        {"clip": 0.0},
        {"clip": np.nan},
        {"warmup": -1},
        {"decay": 1.0},
        {"decay": -0.1},
        {"times": "sometimes"},
        {"prediction": "noise"},
        {"weighting": "heavy"},
        {"label_drop": 1.1},
        {"label_drop": np.nan},
        {"labels": np.zeros(10, int)},
    ],
    ids=str,
)
def test_settings_that_cannot_be_are_refused_in_one_line(settings):
    with pytest.raises(ValueError) as caught:
        on_points(**settings)
    assert "\n" not in str(caught.value)


def arrays_without(name):
    return lambda arrays, facts: arrays.pop(name)


def with_shape_of(name, shape):
    return lambda arrays, facts: arrays.update({name: np.zeros(shape, np.float32)})


@pytest.mark.parametrize(
    "harm",
    [
        arrays_without("parameters/last.w"),
        arrays_without("average/hidden.0.b"),
        arrays_without("first/last.b"),
        arrays_without("second/last.w"),
        arrays_without("order"),
        with_shape_of("parameters/last.w", (8, 3)),
        with_shape_of("second/last.b", (1,)),
        with_shape_of("order", 11),
        lambda arrays, facts: facts.pop("step"),
        lambda arrays, facts: facts.pop("place"),
        lambda arrays, facts: facts.pop("random"),
    ],
    ids=range(11),
)
def test_a_state_that_is_not_of_this_trainer_is_refused_in_one_line(harm):
    arrays, facts = on_points().state()
    harm(arrays, facts)
    with pytest.raises(ValueError) as caught:
        on_points().restore(arrays, facts)
    assert "\n" not in str(caught.value)


# ---- batches


@given(st.integers(1, 12), st.integers(1, 30), st.integers(0, 99))
def test_each_epoch_visits_each_item_once_whatever_the_batch(n, batch, seed):
    batches = Batches(n, batch, np.random.default_rng(seed))
    drawn = [batches.draw() for _ in range(-(-4 * n // batch))]
    assert all(part.shape == (batch,) for part in drawn)
    for epoch in np.concatenate(drawn)[: 4 * n].reshape(4, n):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(n))


def test_every_epoch_has_an_order_of_its_own():
    batches = Batches(50, 50, np.random.default_rng(0))
    first, second = batches.draw().copy(), batches.draw()
    assert (first != second).any() and (first != np.arange(50)).any()


def test_no_data_is_refused_rather_than_waited_for():
    with pytest.raises(ValueError):
        Batches(0, 4, np.random.default_rng(0))
