"""A batch in shards: the gradient is that of the whole batch but for rounding, in an order that is always the same."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trainers import IMAGES, SCHEDULE, UNET, assert_same, through_a_file

from minidiff import nn, schedules
from minidiff.kernels import threads
from minidiff.training import Trainer, TrainingOptions
from minidiff.training.shards import Batch, add_as_tree, total

PLAIN = dict(lr=0.01, warmup=2, times="uniform")
LEARNED = dict(times="loss-aware", prediction="v", weighting="min-snr", label_drop=0.5, warmup=2)


def trainer(shards=1, batch=11, dropout=0.0, seed=0, everything=False, **options):
    rng = np.random.default_rng(seed)
    net = nn.UNet(rng, **UNET, dropout=dropout, classes=2, learned_variance=everything)
    options = TrainingOptions(batch=batch, shards=shards, **(LEARNED if everything else PLAIN) | options)
    schedule = schedules.linear(2) if everything else SCHEDULE
    made = Trainer(net, schedule, IMAGES, np.arange(5) % 2, options, rng=rng)
    # No layer of zeros hides another
    noise = np.random.default_rng(1).normal(0, 0.1, made.parameters.values.shape)
    made.parameters.values += noise.astype(np.float32)
    return made


def gradient_of(made, monkeypatch):
    """The next step, and its gradient."""
    kept, update = [], made.adam.update
    monkeypatch.setattr(made.adam, "update", lambda g, *more: kept.append(g.copy()) or update(g, *more))
    return made.advance(), kept[0]


@pytest.mark.parametrize("everything", [False, True], ids=["plain", "everything learned"])
@pytest.mark.parametrize("shards", [2, 3, 4, 11])
def test_the_gradient_is_that_of_the_whole_batch_but_for_rounding(shards, everything, monkeypatch):
    step, whole = gradient_of(trainer(everything=everything), monkeypatch)
    other, summed = gradient_of(trainer(shards, everything=everything), monkeypatch)
    assert np.linalg.norm(summed - whole) <= 1e-6 * np.linalg.norm(whole) and whole.any()
    assert other.loss == pytest.approx(step.loss, rel=1e-6) and other.norm == pytest.approx(
        step.norm, rel=1e-6
    )


@pytest.mark.parametrize("everything", [False, True], ids=["plain", "everything learned"])
def test_what_is_drawn_does_not_depend_on_the_shards(everything):
    one, several = trainer(everything=everything), trainer(4, everything=everything)
    for _ in range(4):
        one.advance(), several.advance()
        assert one.rng.bit_generator.state == several.rng.bit_generator.state
    if everything:
        np.testing.assert_allclose(one.draw_times.history, several.draw_times.history, rtol=1e-4)


def test_the_dropout_of_each_shard_is_drawn_by_itself():
    made = trainer(3, batch=6, dropout=0.5)
    same = (
        np.repeat(IMAGES[:1], 6, axis=0),
        np.full(6, 3),
        np.repeat(IMAGES[1:2], 6, axis=0),
        np.zeros(6, int),
    )
    losses = [
        made._loss(shard, rng)[0].item()
        for shard, rng in zip(Batch(*same, None).shards(3), made._generators(), strict=True)
    ]
    again = [
        made._loss(shard, rng)[0].item()
        for shard, rng in zip(Batch(*same, None).shards(3), made._generators(), strict=True)
    ]
    assert len(set(losses)) == 3 and losses == again
    made.advance()
    assert [rng.random() for rng in made._generators()] != [rng.random() for rng in trainer(3)._generators()]


@pytest.mark.parametrize("stop", [1, 3])
@pytest.mark.parametrize("everything", [False, True], ids=["plain", "everything learned"])
def test_training_in_shards_resumed_continues_bit_for_bit(stop, everything, tmp_path):
    uninterrupted, stopped, resumed = (
        trainer(4, dropout=0.3, everything=everything, seed=seed) for seed in (0, 0, 9)
    )
    expected = list(uninterrupted.run(5))
    before = list(stopped.run(stop))
    resumed.restore(through_a_file(stopped, tmp_path / "c.npz"))
    assert before + list(resumed.run(5)) == expected
    assert_same(resumed, uninterrupted)


@pytest.mark.compiled
def test_one_two_and_four_threads_give_the_same_bits_in_shards():
    first = trainer(4, batch=40, dropout=0.3)
    list(first.run(3))
    before = threads.use(1)
    try:
        for count in (1, 2, 4):
            threads.use(count)
            again = trainer(4, batch=40, dropout=0.3)
            list(again.run(3))
            assert_same(first, again)
    finally:
        threads.use(before)


# ---- the parts


@given(batch=st.integers(1, 40), data=st.data())
def test_the_shards_are_the_batch_in_its_order_and_of_nearly_equal_sizes(batch, data):
    shards = data.draw(st.integers(1, batch))
    x0 = np.arange(batch)[:, None]
    parts = Batch(x0, x0[:, 0], -x0, None, x0[:, 0] / 2).shards(shards)
    assert len(parts) == shards and all(part.label is None for part in parts)
    sizes = [len(part.x0) for part in parts]
    assert min(sizes) >= 1 and max(sizes) - min(sizes) <= 1
    for name, whole in (("x0", x0), ("t", x0[:, 0]), ("noise", -x0), ("weight", x0[:, 0] / 2)):
        np.testing.assert_array_equal(np.concatenate([getattr(part, name) for part in parts]), whole)


@given(count=st.integers(1, 9))
def test_the_sum_is_a_binary_tree_over_halves_of_the_terms(count):
    rng = np.random.default_rng(count)
    losses, vectors = rng.standard_normal(count).tolist(), rng.standard_normal((count, 5)).astype(np.float32)
    gradients = np.zeros(5, np.float32)

    def term(n):
        assert not gradients.any()
        gradients.__iadd__(vectors[n])
        return losses[n]

    def tree(values):
        half = len(values) // 2
        return values[0] if len(values) == 1 else tree(values[:half]) + tree(values[half:])

    assert add_as_tree(term, count, gradients) == losses
    assert total(range(count), {range(n, n + 1): loss for n, loss in enumerate(losses)}) == tree(losses)
    np.testing.assert_array_equal(gradients, tree(vectors))
