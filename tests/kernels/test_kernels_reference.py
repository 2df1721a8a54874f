"""The reference itself: convolution against loops, every gradient against finite differences."""

import numpy as np
import pytest

from minidiff.kernels import reference

PADDINGS = [((0, 0), (0, 0)), ((1, 1), (1, 1)), ((0, 1), (2, 0))]


def draw(*shape):
    return np.random.default_rng(sum(shape) + len(shape)).standard_normal(shape)


def gradient(function, at, step=1e-6):
    """Central differences of a scalar function in every entry of `at`."""
    out = np.empty_like(at)
    for i in np.ndindex(at.shape):
        kept = at[i]
        at[i] = kept + step
        above = function()
        at[i] = kept - step
        out[i] = (above - function()) / (2 * step)
        at[i] = kept
    return out


def assert_gradients(forward, arguments, given):
    """`given` are the gradients of Σ forward(…) · g in the arrays of `arguments`."""
    for array, expected in zip(arguments, given, strict=True):
        np.testing.assert_allclose(gradient(forward, array), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", PADDINGS)
def test_conv2d_is_the_sum_over_the_receptive_field(stride, padding):
    (top, bottom), (left, right) = padding
    x, w, b = draw(2, 5, 4, 3), draw(3, 2, 3, 2), draw(2)
    out = reference.conv2d(x, w, b, stride, padding)
    rows, columns = (5 + top + bottom - 3) // stride + 1, (4 + left + right - 2) // stride + 1
    assert out.shape == (2, rows, columns, 2)
    for n, y, z, o in np.ndindex(out.shape):
        total = b[o]
        for i, j, c in np.ndindex(3, 2, 3):
            row, column = y * stride + i - top, z * stride + j - left
            if 0 <= row < 5 and 0 <= column < 4:
                total += x[n, row, column, c] * w[i, j, c, o]
        assert out[n, y, z, o] == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", PADDINGS)
def test_gradients_of_conv2d(stride, padding):
    x, w, b = draw(2, 4, 5, 2), draw(2, 3, 2, 3), draw(3)
    g = draw(*reference.conv2d(x, w, b, stride, padding).shape)
    given = (
        reference.conv2d_backward_input(g, w, (4, 5), stride, padding),
        reference.conv2d_backward_weight(x, g, (2, 3), stride, padding),
        reference.sum_rows(g.reshape(-1, 3)),
    )
    assert_gradients(lambda: np.sum(reference.conv2d(x, w, b, stride, padding) * g), (x, w, b), given)


def test_gradients_of_linear():
    x, w, b, g = draw(4, 3), draw(3, 2), draw(2), draw(4, 2)
    given = (
        reference.linear_backward_input(g, w),
        reference.linear_backward_weight(x, g),
        reference.sum_rows(g),
    )
    assert_gradients(lambda: np.sum(reference.linear(x, w, b) * g), (x, w, b), given)


@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize("shape", [(2, 3, 2, 6), (3, 6)])
def test_gradients_of_group_norm(silu, shape):
    x, gamma, beta, g = draw(*shape), draw(6), draw(6) + 1, draw(*shape) + 1
    _, mean, rstd = reference.group_norm(x, gamma, beta, 3, 1e-5, silu)
    given = reference.group_norm_backward(g, x, gamma, beta, mean, rstd, silu)
    assert_gradients(
        lambda: np.sum(reference.group_norm(x, gamma, beta, 3, 1e-5, silu)[0] * g), (x, gamma, beta), given
    )


def test_gradient_of_silu():
    x, g = draw(3, 5) * 4, draw(3, 5)
    assert_gradients(lambda: np.sum(reference.silu(x) * g), (x,), (reference.silu_backward(g, x),))


@pytest.mark.parametrize("heads", [1, 2])
def test_gradients_of_attention(heads):
    q, k, v, g = draw(2, 3, 4), draw(2, 5, 4), draw(2, 5, 4) + 1, draw(2, 3, 4)
    _, weights = reference.attention(q, k, v, heads)
    given = reference.attention_backward(g, q, k, v, weights)
    assert_gradients(lambda: np.sum(reference.attention(q, k, v, heads)[0] * g), (q, k, v), given)


def test_scatter_rows_is_the_gradient_of_indexing():
    table, index, g = draw(4, 3), np.array([0, 2, 2, 3, 0]), draw(5, 3)
    assert_gradients(lambda: np.sum(table[index] * g), (table,), (reference.scatter_rows(g, index, 4),))


def test_adam_follows_its_formula_for_three_steps():
    rng = np.random.default_rng(0)
    parameter, first, second = rng.standard_normal(5), np.zeros(5), np.zeros(5)
    expected, m, v = parameter.copy(), np.zeros(5), np.zeros(5)
    ema = parameter.copy()
    mean = ema.copy()
    for step in (1, 2, 3):
        gradient = rng.standard_normal(5)
        given = gradient.copy()
        reference.adam(parameter, given, [first, second], ema, step, 0.1, (0.9, 0.99), 1e-8, 0.5, 0.8)
        m = 0.9 * m + 0.1 * (gradient / 2)
        v = 0.99 * v + 0.01 * (gradient / 2) ** 2
        expected -= 0.1 * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.99**step)) + 1e-8)
        mean = 0.8 * mean + 0.2 * expected
        np.testing.assert_allclose(parameter, expected, rtol=1e-12)
        np.testing.assert_allclose(ema, mean, rtol=1e-12)
        assert not given.any()


def test_add_rows_adds_to_its_output():
    out, index, g = draw(4, 3), np.array([0, 2, 2]), draw(3, 3)
    expected = out + reference.scatter_rows(g, index, 4)
    reference.add_rows(out, g, index)
    np.testing.assert_allclose(out, expected, rtol=1e-12)


def test_gradients_of_the_perceptron():
    x, index, g = draw(5, 2), np.array([[0, 1, 1, 2, 0], [1, 1, 0, 0, 1]]), draw(5, 1)
    weights, biases = [draw(2, 3), draw(3, 3), draw(3, 1)], [draw(3), draw(3), draw(1)]
    tables = [draw(3, 6), draw(2, 6)]

    def value():
        return np.sum(reference.perceptron(x, weights, biases, tables, index, False)[0] * g)

    _, z = reference.perceptron(x, weights, biases, tables, index, True)
    dx, dw, db = reference.perceptron_backward(g, x, weights, z)
    dembeddings = z.reshape(5, 6)
    dtables = [
        reference.scatter_rows(dembeddings, rows, len(table))
        for table, rows in zip(tables, index, strict=True)
    ]
    assert_gradients(value, (x, *weights, *biases, *tables), (dx, *dw, *db, *dtables))


def test_squared_norm():
    parameter = draw(4)
    assert reference.squared_norm(parameter) == pytest.approx(sum(p * p for p in parameter), rel=1e-14)
