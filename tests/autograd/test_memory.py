"""What the tape holds is freed as early as possible, and a graph can be differentiated once."""

import gc
import weakref

import numpy as np
import pytest

from minidiff import autograd as ag
from minidiff.autograd import Tensor, no_grad, rule


def leaf(*numbers):
    return Tensor(np.array(numbers, np.float64), requires_grad=True)


@pytest.fixture
def without_collector():
    """No garbage collector: what is freed in such a test is freed at once, by reference counting alone."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_a_long_chain_that_is_never_differentiated_can_be_dropped(without_collector):
    y = leaf(1.0) + 1
    first = weakref.ref(y.node.vjps[0])
    for _ in range(30_000):
        y = y + 1
    assert first() is not None
    del y  # a deep recursion here would end the interpreter
    assert first() is None


def test_arrays_that_no_vjp_needs_are_freed_in_the_forward_pass(without_collector):
    x, shift = leaf(1.0, 2.0), leaf(0.5, 0.5)
    needs_only_shapes = {
        "add": lambda a: a + shift,
        "subtract": lambda a: shift - a,
        "multiply": lambda a: a * 3.0,
        "negative": lambda a: -a,
        "sum": lambda a: a.sum(axis=0),
        "mean": lambda a: a.mean(axis=0),
        "concatenate": lambda a: ag.concatenate(a, shift),
        "pad": lambda a: ag.pad(a, widths=((1, 1),)),
        "getitem": lambda a: a[np.array([0, 0])],
        "mse": lambda a: ag.mse(a, shift),
        "exp": ag.exp,  # holds its result, not its argument
    }
    kept = []
    for name, operation in needs_only_shapes.items():
        hidden = x / 2
        array = weakref.ref(hidden.data)
        result = operation(hidden)
        del hidden
        if array() is not None:
            kept.append(name)
        del result
    assert kept == []


def test_arrays_are_freed_in_the_forward_pass_under_no_grad(without_collector):
    x = leaf(1.0, 2.0)
    with no_grad():
        hidden = ag.exp(x)
        array = weakref.ref(hidden.data)
        result = ag.exp(hidden)
        del hidden
    assert array() is None and result.shape == (2,)


def test_backward_frees_the_arrays_of_a_node_as_soon_as_it_was_visited(without_collector):
    alive_at_the_bottom = []

    @rule
    def bottom(a):
        def vjp(g):
            alive_at_the_bottom.append(sum(array() is not None for array in arrays))
            return g

        return a + 0, vjp

    arrays = []
    y = bottom(leaf(0.1))
    for _ in range(10):
        y = ag.exp(y * 0.1)  # exp's vjp holds its result
        arrays.append(weakref.ref(y.data))
    loss = y.sum()
    del y
    assert sum(array() is not None for array in arrays) == 10
    loss.backward()
    assert alive_at_the_bottom[0] <= 1  # at most those of the last node
    assert not any(array() is not None for array in arrays)


def test_a_consumed_node_holds_no_arrays_even_while_its_tensor_lives(without_collector):
    kept = []

    @rule
    def scaled(a):
        factor = np.full(a.shape, 2.0)
        kept.append(weakref.ref(factor))
        return a * factor, lambda g: g * factor

    x = leaf(1.0, 2.0)
    middle = scaled(x)
    loss = scaled(middle).sum()
    assert all(array() is not None for array in kept)
    loss.backward()
    assert not any(array() is not None for array in kept)
    np.testing.assert_array_equal(x.grad, [4, 4])


def test_a_consumed_graph_does_not_hold_its_leaves(without_collector):
    x = leaf(1.0)
    loss = (x * x).sum()
    watched = weakref.ref(x)
    loss.backward()
    del x
    assert watched() is None and loss.item() == 1.0


def test_a_graph_that_is_dropped_is_freed_at_once_without_reference_cycles(without_collector):
    x = leaf(1.0, 2.0)
    q = ag.exp(x).reshape(1, 2, 1)
    loss = ag.layer_norm(ag.attention(q, q, q), np.ones(1), np.zeros(1)).sum()
    array = weakref.ref(q.data)
    del q, loss
    assert array() is None


# ---- consumed once


def test_a_second_backward_on_a_consumed_graph_is_an_error():
    x = leaf(1.0)
    y = ag.exp(x)
    y.backward()
    with pytest.raises(RuntimeError, match=r"behind 'exp' was already consumed .* compute the value again"):
        y.backward()


def test_backward_into_a_consumed_branch_names_the_consumed_operation():
    x = leaf(1.0)
    shared = ag.tanh(x)
    one, other = shared * 2, shared * 3
    one.backward()
    with pytest.raises(RuntimeError, match="behind 'tanh' was already consumed"):
        other.backward()
