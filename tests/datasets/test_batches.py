"""The random order in which training visits its data."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidiff.datasets.batches import Batches

sizes, seeds = st.integers(1, 12), st.integers(0, 99)


def drawn(batches, count):
    return [batches.draw().copy() for _ in range(count)]


@given(n=sizes, batch=st.integers(1, 30), seed=seeds)
def test_each_epoch_has_every_item_once_even_where_a_batch_spans_two(n, batch, seed):
    batches = Batches(n, batch, np.random.default_rng(seed))
    visited = drawn(batches, -(-4 * n // batch))
    assert all(indices.shape == (batch,) and indices.dtype.kind == "i" for indices in visited)
    for epoch in np.concatenate(visited)[: 4 * n].reshape(4, n):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(n))


@given(n=sizes, batch=st.integers(1, 30), seed=seeds)
def test_the_order_is_one_permutation_an_epoch_whatever_the_batch(n, batch, seed):
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(n) for _ in range(-(-3 * batch // n))])
    batches = Batches(n, batch, np.random.default_rng(seed))
    np.testing.assert_array_equal(np.concatenate(drawn(batches, 3)), order[: 3 * batch])


@given(n=sizes, batch=st.integers(1, 30), seed=seeds, before=st.integers(0, 9))
def test_order_index_and_generator_are_all_that_is_needed_to_resume(n, batch, seed, before):
    batches = Batches(n, batch, np.random.default_rng(seed))
    drawn(batches, before)
    resumed = Batches(n, batch, np.random.default_rng(0))
    resumed.order, resumed.index = batches.order.copy(), batches.index
    resumed.rng.bit_generator.state = batches.rng.bit_generator.state
    np.testing.assert_array_equal(drawn(resumed, 4), drawn(batches, 4))


@pytest.mark.parametrize(
    ("n", "batch", "message"),
    [
        (0, 4, "at least one item of data to train on, got none"),
        (4, 0, "a batch of at least 1, got 0"),
        (4, -3, "a batch of at least 1, got -3"),
    ],
)
def test_no_data_and_empty_batches_are_refused(n, batch, message):
    with pytest.raises(ValueError, match=message):
        Batches(n, batch, np.random.default_rng(0))
