"""Every rule: its value against a plain formula, its gradient against finite differences, its dtypes."""

import inspect
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from neural_cases import conditioned, ones, plain_conv2d
from rule_cases import CASES

from minidiff import autograd as ag
from minidiff.autograd import Tensor, neural, rules
from minidiff.autograd.check import check_gradient

every_case = pytest.mark.parametrize("name", CASES)

NO_RULES = {"Tensor", "check_gradient", "draw", "no_grad", "rule"}


# Memory layouts of an argument: (how the array is stored, the view of that store which is the array again).
def _two_apart(a):
    stored = np.full((*a.shape[:-1], 2 * a.shape[-1]), 7.0)
    stored[..., ::2] = a
    return stored


def _backwards(a):
    return a[(slice(None, None, -1),) * a.ndim]


LAYOUTS = {
    "contiguous": (lambda a: a, lambda t: t),
    "transposed": (np.transpose, ag.transpose),
    "sliced": (_two_apart, lambda t: t[..., ::2]),
    "backwards": (_backwards, _backwards),
}


@st.composite
def laid_out(draw, name):
    """An example of a rule with each argument in some layout: call, value and arrays as they are stored."""
    call, plain, arrays = draw(CASES[name])
    layouts = [
        LAYOUTS[draw(st.sampled_from(list(LAYOUTS)))] if a.ndim else LAYOUTS["contiguous"] for a in arrays
    ]
    transposed = draw(st.booleans())  # then g is a transposed view, too

    def laid_out_call(*stored):
        out = call(*(view(t) for (_, view), t in zip(layouts, stored, strict=True)))
        return ag.transpose(out) if transposed else out

    value = np.asarray(plain(*arrays))
    stored = [np.array(store(a), order="C") for (store, _), a in zip(layouts, arrays, strict=True)]
    return laid_out_call, value.T if transposed else value, stored


@every_case
@given(data=st.data())
def test_value_agrees_with_the_plain_formula_and_gradient_with_differences(name, data):
    call, value, arrays = data.draw(laid_out(name))
    out = call(*map(Tensor, arrays))
    assert out.shape == value.shape and out.dtype == np.float64
    np.testing.assert_allclose(out.data, value, rtol=1e-11, atol=1e-11)
    check_gradient(call, *arrays)
    for array, gradient in zip(arrays, _gradients(call, arrays, np.ones(out.shape)), strict=True):
        assert gradient.shape == array.shape


@every_case
@given(data=st.data())
def test_float32_stays_float32_and_agrees_with_float64(name, data):
    call, value, arrays = data.draw(laid_out(name))
    direction = np.random.default_rng(0).uniform(-1, 1, value.shape)
    rounded = [a.astype(np.float32) for a in arrays]
    out = call(*map(Tensor, rounded))
    assert out.dtype == np.float32
    assert np.abs(out.data - value).max(initial=0) <= 2e-5 * (1 + np.abs(value).max(initial=0))
    exact_gradients = _gradients(call, arrays, direction)
    for rounded_gradient, exact in zip(_gradients(call, rounded, direction), exact_gradients, strict=True):
        assert rounded_gradient.dtype == np.float32
        assert np.abs(rounded_gradient - exact).max(initial=0) <= 1e-4 * (1 + np.abs(exact).max(initial=0))


def _gradients(call, arrays, direction):
    tensors = [Tensor(a, requires_grad=True) for a in arrays]
    call(*tensors).backward(direction)
    return [t.grad for t in tensors]


def test_every_public_rule_has_a_case_here():
    tested = {name.split(" ")[0] for name in CASES}
    assert tested == set(ag.__all__) - NO_RULES


def test_every_rule_of_the_table_is_public():
    rules_defined = {
        name
        for module in (rules, neural)
        for name, f in inspect.getmembers(module, inspect.isfunction)
        if f.__module__ == module.__name__ and not name.startswith("_")
    }
    assert rules_defined == set(ag.__all__) - NO_RULES


# ---- cases that random examples might miss


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
def test_transpose_into_every_order_of_three_axes(axes):
    a = np.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_array_equal(ag.transpose(Tensor(a), axes=axes).data, a.transpose(axes))
    check_gradient(lambda a: ag.transpose(a, axes=axes), a)


@pytest.mark.parametrize(
    "a, b",
    [
        ((3,), (3,)),
        ((3,), (3, 2)),
        ((2, 3), (3,)),
        ((3,), (4, 3, 2)),
        ((4, 2, 3), (3,)),
        ((4, 2, 3), (3, 1)),
        ((1, 3), (4, 3, 2)),
        ((4, 1, 2, 3), (2, 3, 2)),
    ],
)
def test_matmul_of_vectors_matrices_and_batches(a, b):
    rng = np.random.default_rng(0)
    check_gradient(ag.matmul, rng.standard_normal(a), rng.standard_normal(b))


@pytest.mark.parametrize("kernel", [(1, 1), (2, 3), (3, 3), (4, 2)], ids=str)
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [((0, 0), (0, 0)), ((0, 1), (0, 1)), ((2, 0), (1, 3))], ids=str)
def test_conv2d_of_every_kernel_stride_and_padding(kernel, stride, padding):
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(s) for s in ((1, 4, 5, 2), (*kernel, 2, 2), (2,)))

    def convolved(x, w, b):
        return ag.conv2d(x, w, b, stride=stride, padding=padding)

    np.testing.assert_allclose(
        convolved(*map(Tensor, (x, w, b))).data, plain_conv2d(x, w, b, stride, padding)
    )
    check_gradient(convolved, x, w, b)


# ---- at kinks, and for large arguments


def test_relu_takes_the_derivative_at_zero_as_zero():
    (gradient,) = _gradients(ag.relu, [np.array([-1.0, 0.0, 1.0])], np.ones(3))
    np.testing.assert_array_equal(gradient, [0, 0, 1])


def test_maximum_of_equals_gives_half_to_each():
    gradients = _gradients(ag.maximum, [np.array([1.0, 2.0, 3.0]), np.array(2.0)], np.ones(3))
    np.testing.assert_array_equal(gradients[0], [0, 0.5, 1])
    np.testing.assert_array_equal(gradients[1], 1.5)


def test_clip_passes_the_gradient_at_its_limits_and_none_outside():
    a = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    (gradient,) = _gradients(lambda a: ag.clip(a, low=-1, high=1), [a], np.ones(5))
    np.testing.assert_array_equal(gradient, [0, 1, 1, 1, 0])


def test_where_sends_nothing_to_the_side_not_taken_even_where_that_is_infinite():
    condition = np.array([True, False])
    a, b = np.array([1.0, np.inf]), np.array([np.nan, 2.0])
    first, second = _gradients(lambda a, b: ag.where(condition, a, b), [a, b], np.array([3.0, 5.0]))
    np.testing.assert_array_equal(first, [3, 0])
    np.testing.assert_array_equal(second, [0, 5])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("axis", [None, 0, -1, (0, 1), (0, 2), ()], ids=str)
def test_equal_maxima_share_the_gradient_equally(axis, dtype):
    a = np.random.default_rng(0).integers(0, 2, (3, 4, 2)).astype(dtype)
    largest = a == a.max(axis=axis, keepdims=True)
    direction = np.arange(1, 1 + a.max(axis=axis).size, dtype=dtype).reshape(a.max(axis=axis).shape)
    (gradient,) = _gradients(lambda a: ag.max(a, axis=axis), [a], direction)
    assert gradient.dtype == dtype and not gradient[~largest].any()
    np.testing.assert_allclose(gradient.sum(axis=axis), direction, rtol=1e-6)
    fractions = gradient / direction.reshape(a.max(axis=axis, keepdims=True).shape)
    counts = np.broadcast_to(largest.sum(axis=axis, keepdims=True), a.shape)
    np.testing.assert_allclose(fractions[largest], 1 / counts[largest], rtol=1e-6)


@pytest.mark.parametrize("reduce", [ag.sum, ag.mean, ag.variance, ag.max])
def test_a_reduction_drops_its_axes_unless_keepdims_also_of_an_empty_array(reduce):
    a, none = np.ones((2, 1, 3)), Tensor(np.ones((0, 3)), requires_grad=True)
    assert (
        reduce(a).shape == () and reduce(a, axis=0).shape == (1, 3) and reduce(a, axis=(0, -1)).shape == (1,)
    )
    out = reduce(none, axis=1)
    out.backward(np.ones(0))
    assert out.shape == (0,) and none.grad.shape == (0, 3)


def test_the_zeroth_power_is_one_with_gradient_zero_at_zero_too():
    (gradient,) = _gradients(lambda a: ag.power(a, exponent=0), [np.array([0.0, 2.0])], np.ones(2))
    np.testing.assert_array_equal(gradient, [0, 0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "rule, limits", [(ag.sigmoid, (0, 1)), (ag.silu, (0, 1e4)), (ag.tanh, (-1, 1)), (ag.gelu, (0, 1e4))]
)
def test_saturating_functions_reach_their_limits_without_overflow(rule, limits, dtype):
    ends = np.array([-1e4, 1e4], dtype)
    with np.errstate(all="raise", under="ignore"):
        np.testing.assert_allclose(rule(Tensor(ends)).data, limits, atol=1e-30)
        (gradient,) = _gradients(rule, [ends], np.ones(2, dtype))
    flat = [0, 0] if rule in (ag.sigmoid, ag.tanh) else [0, 1]
    np.testing.assert_allclose(gradient, flat, atol=1e-30)


@pytest.mark.parametrize("shift", [-1e4, 0.0, 1e4])
def test_softmax_log_softmax_and_cross_entropy_of_large_logits_do_not_overflow(shift):
    logits = np.array([[0.0, 1.0, -2.0], [3.0, 3.0, 3.0]])
    with np.errstate(all="raise", under="ignore"):
        for rule in (ag.softmax, ag.log_softmax, lambda x: ag.cross_entropy(x, labels=np.array([2, 0]))):
            np.testing.assert_allclose(
                rule(Tensor(logits + shift)).data, rule(Tensor(logits)).data, atol=1e-11
            )
            check_gradient(rule, logits + shift, tolerance=1e-6)


def test_softmax_log_softmax_and_cross_entropy_of_rows_far_apart_do_not_underflow():
    """The exponentials of one row underflow beside those of the other."""
    x = Tensor(np.array([[0.0, 1.0], [1000.0, 1001.0]]))
    for rule in (ag.softmax, ag.log_softmax):
        np.testing.assert_array_equal(rule(x).data[0], rule(x).data[1])
        deep = ag.transpose(x + np.zeros((3, 2, 2)), axes=(1, 0, 2))
        np.testing.assert_array_equal(rule(deep).data[:, 0], rule(x).data)  # the last axis is the default
    each = [ag.cross_entropy(x[i : i + 1], labels=np.array([0])).item() for i in range(2)]
    assert each[0] == each[1] == ag.cross_entropy(x, labels=np.array([0, 0])).item()


def test_cross_entropy_of_a_confident_error_is_the_difference_of_the_logits():
    loss = ag.cross_entropy(Tensor(np.array([[1e4, -1e4]])), labels=np.array([1]))
    assert loss.item() == 2e4


def test_attention_of_large_scores_does_not_overflow():
    q = np.array([[[1e3, 0.0]]])
    k = np.array([[[1e3, 0.0], [-1e3, 0.0]]])
    v = np.array([[[1.0, 2.0], [3.0, 4.0]]])
    np.testing.assert_array_equal(ag.attention(Tensor(q), Tensor(k), Tensor(v)).data, [[[1, 2]]])


def test_upsampling_and_pooling_are_by_a_factor_of_two_by_default():
    assert ag.upsample_nearest(ones(1, 2, 3, 1)).shape == (1, 4, 6, 1)
    assert ag.average_pool(ones(1, 2, 6, 1)).shape == (1, 1, 3, 1)


def test_concatenate_joins_along_the_first_axis_by_default():
    a, b = np.ones((2, 3)), np.zeros((1, 3))
    np.testing.assert_array_equal(ag.concatenate(Tensor(a), Tensor(b)).data, np.concatenate([a, b]))


def test_a_perceptron_gives_a_leaf_table_and_a_computed_one_the_same_gradient():
    table = np.random.default_rng(0).standard_normal((3, 4))
    leaf, source = (Tensor(table, requires_grad=True) for _ in range(2))
    conditioned([[2, 2]], leaf).sum().backward()
    conditioned([[2, 2]], source * 3.0 / 3.0).sum().backward()
    np.testing.assert_allclose(source.grad, leaf.grad, rtol=1e-12)
    assert np.array_equal(leaf.grad.any(axis=1), [False, False, True])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_row_sparse_gradient_converts_to_an_array_of_its_own_or_a_given_dtype(dtype):
    rows = neural._SparseRows(np.ones((2, 4), dtype), np.array([2, 2]), 3)
    assert np.asarray(rows).dtype == dtype and np.asarray(rows).shape == rows.shape
    for requested in (np.float32, np.float64):
        dense = np.asarray(rows, requested)
        assert dense.dtype == requested and np.array_equal(dense, np.outer([0, 0, 2], np.ones(4)))


def test_dropout_zeroes_entries_at_its_rate_and_scales_the_others():
    x = np.full(40_000, 2.0)
    out = ag.dropout(Tensor(x), rate=0.3, rng=np.random.default_rng(1)).data
    assert set(np.unique(out)) <= {0.0, 2 / 0.7}
    standard_error = math.sqrt(0.3 * 0.7 / x.size)
    assert abs((out == 0).mean() - 0.3) < 5 * standard_error


def test_dropout_is_reproducible_from_a_seed_and_advances_the_generator():
    x = Tensor(np.ones(100))
    rng = np.random.default_rng(5)
    first, second = (ag.dropout(x, rate=0.5, rng=rng).data for _ in range(2))
    again = ag.dropout(x, rate=0.5, rng=np.random.default_rng(5)).data
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, second)


def test_group_norm_and_layer_norm_give_mean_zero_and_variance_one():
    x = 5 + 3 * np.random.default_rng(0).standard_normal((2, 4, 4, 6))
    one, zero = np.ones(6), np.zeros(6)
    groups = ag.group_norm(Tensor(x), one, zero, groups=2, eps=0.0).data.reshape(2, 16, 2, 3)
    rows = ag.layer_norm(Tensor(x), one, zero, eps=0.0).data
    np.testing.assert_allclose(groups.mean(axis=(1, 3)), 0, atol=1e-12)
    np.testing.assert_allclose(groups.var(axis=(1, 3)), 1)
    np.testing.assert_allclose(rows.mean(axis=-1), 0, atol=1e-12)
    np.testing.assert_allclose(rows.var(axis=-1), 1)


def test_layer_norm_adds_1e_5_to_the_variance_by_default():
    y = ag.layer_norm(Tensor(np.array([[-1e-3, 1e-3]])), ones(2), ones(2) * 0).data
    np.testing.assert_allclose(y, [[-1e-3 / math.sqrt(1.1e-5), 1e-3 / math.sqrt(1.1e-5)]], rtol=1e-12)


def test_an_empty_batch_has_an_empty_output_and_gradient():
    x = np.zeros((0, 4, 4, 2))
    w, b = np.ones((3, 3, 2, 2)), np.ones(2)
    gradients = _gradients(ag.conv2d, [x, w, b], np.zeros((0, 2, 2, 2)))
    assert [g.shape for g in gradients] == [x.shape, w.shape, b.shape]
    assert not gradients[1].any()
    assert ag.linear(Tensor(np.zeros((0, 3))), np.ones((3, 2)), np.ones(2)).shape == (0, 2)
    (gradient,) = _gradients(ag.upsample_nearest, [x], np.zeros((0, 8, 8, 2)))
    assert gradient.shape == x.shape
