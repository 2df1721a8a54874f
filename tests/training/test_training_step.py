"""What one step does: learning rate, clipping, EMA, labels and times; and that a step that fails changes nothing."""

import copy

import numpy as np
import pytest
from trainers import (
    IMAGES,
    NEVER,
    POINTS,
    assert_same,
    on_labelled_points,
    on_mirrored_images,
    on_points,
    through_a_file,
)

from minidiff import datasets, nn, optim, schedules
from minidiff.kernels import convolution
from minidiff.training import Diverged, Trainer, TrainingOptions


@pytest.mark.compiled
def test_winograd_and_direct_convolution_give_the_same_loss_curve(monkeypatch):
    def losses(winograd):
        monkeypatch.setattr(convolution, "WINOGRAD", winograd)
        rng, data = np.random.default_rng(0), datasets.load("digits")
        net = nn.UNet(rng, size=8, channels=1, width=32, multipliers=(1, 2), depth=1, groups=8, dropout=0.0)
        options = TrainingOptions(batch=16, lr=2e-3, warmup=10)
        trainer = Trainer(net, schedules.cosine(1000), data.x, options=options, rng=rng)
        return np.array([step.loss for step in trainer.run(40)])

    fast, direct = losses(True), losses(False)
    assert not np.array_equal(fast, direct)  # it was another computation
    np.testing.assert_allclose(fast, direct, rtol=1e-3)
    assert direct[-5:].mean() < 0.7 * direct[:5].mean()


def test_the_warm_up_counts_all_steps_and_not_those_since_resuming(tmp_path):
    trainer = on_points(lr=0.8, warmup=4)
    rates = [step.lr for step in trainer.run(2)]
    resumed = on_points(lr=0.8, warmup=4)
    resumed.restore(through_a_file(trainer, tmp_path / "c.npz"))
    rates += [step.lr for step in resumed.run(6)]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8])
    assert [step.lr for step in on_points(lr=0.8, warmup=0).run(2)] == [0.8, 0.8]


def test_the_norm_is_reported_unclipped_and_the_update_is_clipped():
    free, clipped = on_points(clip=NEVER), on_points(clip=0.001)
    (step,), (other,) = free.run(1), clipped.run(1)
    assert step.norm == other.norm > 0.01
    assert np.linalg.norm(free.adam.first) == pytest.approx(0.1 * step.norm, rel=1e-4)
    assert np.linalg.norm(clipped.adam.first) == pytest.approx(0.1 * 0.001, rel=1e-4)


def test_the_gradient_of_a_step_is_of_its_own_batch_alone():
    trainer = on_points(clip=NEVER)
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


# ---- EMA


def test_the_ema_net_is_a_second_network_over_the_averaged_weights():
    follows, stays = on_points(ema_decay=0.0), on_points(ema_decay=0.9999)
    list(follows.run(5)), list(stays.run(5))
    x, t = POINTS[:3], np.array([1, 3, 6])
    np.testing.assert_array_equal(follows.ema_net(x, t), follows.net(x, t))
    assert np.abs(stays.ema_net(x, t) - stays.net(x, t)).max() > 0


def test_the_ema_takes_in_every_step_with_a_smaller_decay_early():
    trainer = on_points(ema_decay=0.3)
    expected = trainer.parameters.values.astype(float)
    for step in trainer.run(6):
        decay = min(0.3, (1 + step.step) / (10 + step.step))
        expected = decay * expected + (1 - decay) * trainer.parameters.values
        np.testing.assert_allclose(trainer.ema.values, expected, rtol=1e-5, atol=1e-7)


# ---- labels and times


def test_each_sample_is_paired_with_its_own_label():
    trainer = on_labelled_points()
    seen = []
    forward = trainer.net.forward

    def spy(x, t, label, rng):
        seen.append((x.data.copy(), t, label))
        return forward(x, t, label, rng)

    trainer.net.forward = spy
    trainer.schedule = schedules.linear(6, 1e-9, 2e-9)  # hardly any noise: each x_t lies next to its x_0
    list(trainer.run(4))
    assert len(seen) == 4
    for x, _, labels in seen:
        nearest = np.linalg.norm(x[:, None] - POINTS, axis=2).argmin(axis=1)
        np.testing.assert_array_equal(labels, nearest % 3)


def test_loss_aware_losses_are_weighted_by_the_inverse_of_their_probability(monkeypatch):
    trainer = on_points(times="loss-aware", batch=50)
    for _ in range(10):
        trainer.draw_times.record(np.arange(1, 7), np.arange(1.0, 7))
    weights, seen = trainer.draw_times.weights, {}
    monkeypatch.setattr(trainer.draw_times, "weights", lambda t: seen.setdefault("weights", weights(t)))
    monkeypatch.setattr(trainer.draw_times, "record", lambda t, losses: seen.update(t=t, losses=losses))
    (step,) = trainer.run(1)
    assert np.ptp(seen["weights"]) > 1 and seen["losses"].shape == (50,)
    assert step.loss == pytest.approx((seen["weights"] * seen["losses"]).mean(), rel=1e-5)
    p = np.arange(1, 7) / 21
    np.testing.assert_allclose(seen["weights"], 1 / (6 * (0.999 * p + 0.001 / 6))[seen["t"] - 1], rtol=1e-12)


@pytest.mark.parametrize("drop", [0.0, 0.3, 1.0])
def test_labels_are_dropped_with_the_given_probability(drop):
    trainer = on_labelled_points(label_drop=drop, batch=2000)
    seen, forward = [], trainer.net.forward
    trainer.net.forward = lambda x, t, label, rng: seen.append(label) or forward(x, t, label, rng)
    list(trainer.run(1))
    (labels,) = seen
    kept = labels[labels < 3]
    assert np.isin(labels, range(4)).all() and np.unique(kept).size == (3 if drop < 1 else 0)
    assert (labels == 3).mean() == pytest.approx(drop, abs=0.05)


# ---- mirrored images


def test_half_of_the_images_are_mirrored_left_to_right_each_time_anew():
    trainer, seen = on_mirrored_images(batch=400), []
    loss = trainer._loss
    trainer._loss = lambda batch, rng: seen.append(batch.x0) or loss(batch, rng)
    first = IMAGES[trainer.batches.order]
    list(trainer.run(2))
    for x0 in seen:
        plain = np.array([np.abs(IMAGES - x).max(axis=(1, 2, 3)).min() == 0 for x in x0])
        mirrored = np.array([np.abs(IMAGES[:, :, ::-1] - x).max(axis=(1, 2, 3)).min() == 0 for x in x0])
        assert np.all(plain != mirrored)
        assert mirrored.mean() == pytest.approx(0.5, abs=0.1)
    assert not np.array_equal(seen[0], seen[1])
    assert all(
        np.array_equal(x, y) or np.array_equal(x, y[:, ::-1]) for x, y in zip(seen[0], first, strict=False)
    )


def test_nothing_is_drawn_for_mirroring_unless_it_is_on():
    off, on = on_mirrored_images(flip=False), on_mirrored_images()
    fresh = np.random.default_rng(0)
    on.rng.bit_generator.state = off.rng.bit_generator.state = fresh.bit_generator.state
    x0 = IMAGES[:4]
    assert off._mirrored(x0) is x0 and off.rng.bit_generator.state == fresh.bit_generator.state
    on._mirrored(x0)
    fresh.random(4)
    assert on.rng.bit_generator.state == fresh.bit_generator.state


def test_points_cannot_be_mirrored():
    with pytest.raises(ValueError, match=r"^flip: expected images \(N, H, W, C\)"):
        on_points(flip=True)


# ---- divergence


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_a_loss_that_is_not_finite_stops_before_the_weights_change(bad):
    trainer = on_points(batch=10)
    list(trainer.run(3))
    before = copy.deepcopy(trainer.state())
    trainer.x = POINTS.copy()
    trainer.x[5] = bad
    with np.errstate(all="ignore"), pytest.raises(Diverged, match=r"step 4: .*(nan|inf).* lower"):
        list(trainer.run(4))
    assert trainer.step == 3
    after = trainer.state()
    assert_same(*({name: state[name] for name in ("parameters", "ema", "adam")} for state in (before, after)))
