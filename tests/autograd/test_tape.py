"""The tape: what is recorded, in which order it is walked in reverse, and what backward takes."""

import threading

import numpy as np
import pytest

from minidiff import autograd as ag
from minidiff.autograd import Tensor, no_grad, rule


def leaf(*numbers, dtype=np.float64):
    return Tensor(np.array(numbers, dtype), requires_grad=True)


# ---- shapes of graphs


def test_a_chain_of_ten_thousand_nodes_is_walked_without_recursion():
    x = leaf(1.0, 2.0)
    y = x
    for _ in range(10_000):
        y = y + 1
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, [1, 1])


def test_a_tensor_used_many_times_gets_the_sum_of_all_its_gradients():
    x = leaf(3.0)
    y = x * x * x + 2 * x - x / 4
    y.backward()
    np.testing.assert_allclose(x.grad, 3 * 9 + 2 - 0.25)


def test_a_ladder_of_diamonds_visits_each_node_once_its_gradient_is_complete():
    visits = []

    @rule
    def doubled(a):
        def vjp(g):
            visits.append(g)
            return 2 * g

        return 2 * a, vjp

    x = leaf(1.0)
    y = x
    for _ in range(30):  # 2³⁰ paths, 30 nodes
        y = doubled(y) - y
        y = y + y * 0
    y.backward()
    assert len(visits) == 30
    np.testing.assert_array_equal(x.grad, 1.0)


def test_a_short_and_a_long_path_to_a_node_are_added_before_it_is_visited():
    x = leaf(2.0)
    y = x * x
    long = y
    for _ in range(50):
        long = long * 1.0
    (y + long).backward()
    np.testing.assert_array_equal(x.grad, 8.0)


def test_a_gradient_shared_by_two_branches_is_not_changed_by_either():
    a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    s = a + b
    (s + a * 2).backward(np.ones(2))
    np.testing.assert_array_equal(a.grad, [3, 3])
    np.testing.assert_array_equal(b.grad, [1, 1])
    a.grad += 100
    np.testing.assert_array_equal(b.grad, [1, 1])


def test_gradients_of_two_dtypes_are_added_where_a_graph_mixes_them():
    x = leaf(1.0, 2.0, dtype=np.float32)
    y = x * 1.0
    (y * np.array([1.0, 2.0]) + y * np.array([3.0, 4.0], np.float32)).sum().backward()
    np.testing.assert_array_equal(x.grad, [4, 6])


def test_large_gradients_are_summed_without_changing_either():
    x = Tensor(np.ones((200, 300), np.float32), requires_grad=True)
    seen = []

    @rule
    def watched(a):
        def vjp(g):
            seen.append((g, g.copy()))
            return g

        return a, vjp

    y = x * 1.0
    (watched(y) + watched(y) * 2.0 + watched(y) * 3.0).sum().backward()
    np.testing.assert_array_equal(x.grad, 6)
    for g, at_the_time in seen:
        np.testing.assert_array_equal(g, at_the_time)


def test_only_leaves_that_require_a_gradient_get_one():
    x, w, constant = leaf(1.0, 2.0), leaf(3.0, 4.0), Tensor(np.array([5.0, 6.0]))
    y = x * w * constant
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, [15, 24])
    np.testing.assert_array_equal(w.grad, [5, 12])
    assert constant.grad is None and y.grad is None


def test_backward_accumulates_over_calls():
    x = leaf(1.0)
    for _ in range(3):
        (2 * x).backward()
    np.testing.assert_array_equal(x.grad, [6.0])


def test_backward_on_a_leaf_copies_the_gradient():
    x = leaf(1.0, 2.0)
    given = np.array([3.0, 4.0])
    x.backward(given)
    np.testing.assert_array_equal(x.grad, given)
    assert not np.shares_memory(x.grad, given)


def test_an_existing_gradient_is_accumulated_in_place():
    store = np.full(6, 10.0)
    x = leaf(1.0, 2.0)
    x.grad = store[2:4]
    view = x.grad
    (x * 3).sum().backward()
    (x * 3).backward(np.ones(2))
    assert x.grad is view
    np.testing.assert_array_equal(store, [10, 10, 16, 16, 10, 10])


def test_backward_of_a_vector_is_the_vector_jacobian_product():
    x = leaf(1.0, 2.0, 3.0)
    (x * x).backward([1.0, 0.0, -1.0])
    np.testing.assert_array_equal(x.grad, [2, 0, -6])


# ---- tensors


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_array_of_float32_or_float64_is_kept_as_it_is(dtype):
    array = np.zeros(3, dtype)
    assert Tensor(array).data is array


@pytest.mark.parametrize(
    "data", [1, 2.5, [1, 2], np.arange(3), np.zeros(2, np.float16), np.array([True])], ids=repr
)
def test_anything_else_becomes_float32(data):
    tensor = Tensor(data)
    assert tensor.dtype == np.float32
    np.testing.assert_array_equal(tensor.data, data)


def test_a_tensor_has_the_attributes_of_its_array():
    x = leaf(1.0, 2.0, dtype=np.float32)
    assert (x.shape, x.ndim, x.size, len(x), x.dtype) == ((2,), 1, 2, 2, np.float32)
    assert Tensor(7.0).item() == 7.0 and isinstance(Tensor(7.0).item(), float)
    assert repr(x) == "Tensor(array([1., 2.], dtype=float32), requires_grad=True)"
    assert repr(Tensor(np.zeros(1))) == "Tensor(array([0.]))"


def test_detach_cuts_the_history_and_shares_the_array():
    x = leaf(2.0)
    y = x * x
    cut = y.detach()
    assert cut.data is y.data and not cut.requires_grad
    (y * cut).backward()
    np.testing.assert_array_equal(x.grad, [4 * 4])


# ---- errors of backward


def test_backward_on_a_tensor_that_requires_no_gradient_is_an_error():
    with pytest.raises(ValueError, match="depends on nothing with requires_grad=True"):
        (Tensor(1.0) + 1).backward()


def test_backward_without_a_gradient_needs_one_element():
    with pytest.raises(ValueError, match=r"needs one element, this has shape \(2,\)"):
        (leaf(1.0, 2.0) * 2).backward()


def test_backward_refuses_a_gradient_of_another_shape_and_consumes_nothing():
    x = leaf(1.0, 2.0)
    y = x * 2
    with pytest.raises(ValueError, match=r"expected a gradient of shape \(2,\), got \(1,\)"):
        y.backward(np.ones(1))
    y.backward(np.ones(2))
    np.testing.assert_array_equal(x.grad, [2, 2])


# ---- no_grad


def test_no_grad_records_nothing_and_is_restored():
    x = leaf(1.0)
    with no_grad():
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad


def test_no_grad_may_be_nested():
    x = leaf(1.0)
    with no_grad():
        with no_grad():
            pass
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad


def test_no_grad_is_restored_after_an_exception():
    x = leaf(1.0)
    with pytest.raises(ZeroDivisionError), no_grad():
        _ = 1 / 0
    assert (x * 2).requires_grad


def test_no_grad_in_one_thread_does_not_stop_another_from_recording():
    x = leaf(1.0)
    inside, done = threading.Event(), threading.Event()
    seen = []

    def quiet():
        with no_grad():
            inside.set()
            done.wait(10)
            seen.append((x * 2).requires_grad)

    thread = threading.Thread(target=quiet)
    thread.start()
    assert inside.wait(10)
    recorded_here = (x * 2).requires_grad
    done.set()
    thread.join(10)
    assert recorded_here and seen == [False]


def test_a_new_thread_records_even_if_started_under_no_grad():
    x = leaf(1.0)
    seen = []
    with no_grad():
        thread = threading.Thread(target=lambda: seen.append((x * 2).requires_grad))
        thread.start()
        thread.join(10)
    assert seen == [True]


def test_threads_may_differentiate_separate_graphs_at_once():
    gradients = {}

    def work(n):
        x = leaf(float(n))
        y = x
        for _ in range(300):
            y = y + x
        y.backward()
        gradients[n] = x.grad.item()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert gradients == dict.fromkeys(range(4), 301.0)


def test_a_rule_keeps_the_name_and_the_docstring_of_its_function():
    assert ag.exp.__name__ == "exp" and ag.conv2d.__doc__.startswith("Cross-correlate x")
    assert (leaf(1.0) * 2).node.name == "multiply"
