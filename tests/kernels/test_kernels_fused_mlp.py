"""The fused MLP against its float64 reference, at every edge case of blocks, register tiles and lanes."""

from itertools import pairwise

import numpy as np
import pytest
from closeness import ROUNDING, wide
from hypothesis import given
from hypothesis import strategies as st

from minidiff import kernels
from minidiff.kernels import fused_mlp, reference, threads

ROWS_OF_TABLES = (7, 3)


def draw(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def network(batch, dim=1, width=32, depth=2, outputs=None, kinds=1, seed=0):
    """x, weights, biases, tables and index of a network whose activations stay around 1."""
    sizes = [dim, *[width] * depth, outputs or dim]
    weights = [draw(seed + i, a, b) / np.float32(a) ** 0.5 for i, (a, b) in enumerate(pairwise(sizes))]
    biases = [draw(seed + 10 + i, n) for i, n in enumerate(sizes[1:])]
    tables = [draw(seed + 20 + k, rows, depth * width) for k, rows in enumerate(ROWS_OF_TABLES[:kinds])]
    rng = np.random.default_rng(seed)
    index = np.array([rng.integers(0, rows, batch) for rows in ROWS_OF_TABLES[:kinds]])
    return draw(seed + 30, batch, dim), weights, biases, tables, index


def wide_network(x, weights, biases, tables, index):
    return (*wide(x), wide(*weights), wide(*biases), wide(*tables), index)


def assert_near(got, exact, roundings, magnitude=0.0):
    """|got − exact| ≤ roundings · 2⁻²⁴ · the largest of exact, or of the terms of its sums, which may cancel."""
    assert got.dtype == np.float32 and got.shape == exact.shape
    scale = max(np.abs(exact).max(initial=1e-30), np.max(magnitude, initial=0))
    assert np.abs(got - exact).max(initial=0) <= roundings * ROUNDING * scale


def magnitudes(net, kept, g):
    """Of each gradient, in the order of `outcome`, the sum of the magnitudes of its terms (|SiLU'| < 1.1)."""
    x, weights = np.abs(wide(net[0])[0]), [np.abs(w) for w in wide(*net[1])]
    inputs = [x, *np.abs(kept / (1 + np.exp(-kept))).swapaxes(0, 1)]
    dw, db, dz, back = [], [], [], np.abs(wide(g)[0])
    for w, h in zip(reversed(weights), reversed(inputs), strict=True):
        dw.insert(0, h.T @ back)
        db.insert(0, back.sum(axis=0))
        dz.insert(0, 1.1 * back)
        back = 1.1 * back @ w.T
    return [back, *dw, *db, np.stack(dz[:-1], axis=1)]


def outcome(net, g):
    """Everything that is computed, forward and backward, in one list."""
    x, weights, biases, tables, index = net
    y, z = kernels.perceptron(x, weights, biases, tables, index, True)
    kept = z.copy()
    dx, dw, db = kernels.perceptron_backward(g, x, weights, z)
    return [y, kept, dx, *dw, *db, z]


@given(
    batch=st.sampled_from([0, 1, 2, 7, 63, 64, 65, 129, 700]),
    dim=st.sampled_from([1, 2, 5]),
    width=st.sampled_from([1, 3, 16, 31, 32, 33, 64, 128]),
    depth=st.integers(1, 3),
    kinds=st.integers(1, 2),
    seed=st.integers(0, 99),
)
def test_value_and_gradients_match_the_reference(batch, dim, width, depth, kinds, seed):
    net = network(batch, dim, width, depth, kinds=kinds, seed=seed)
    g = draw(seed + 40, batch, dim)
    y, z = reference.perceptron(*wide_network(*net), True)
    _, weights, *_ = wide_network(*net)
    kept = z.copy()
    dx, dw, db = reference.perceptron_backward(*wide(g, net[0]), weights, z)
    scales = [0.0, 0.0, *magnitudes(net, kept, g)]
    for got, exact, scale in zip(outcome(net, g), [y, kept, dx, *dw, *db, z], scales, strict=True):
        assert_near(got, exact, 64, scale)
    np.testing.assert_array_equal(kernels.perceptron(*net, False)[0], kernels.perceptron(*net, True)[0])
    assert kernels.perceptron(*net, False)[1] is None


def test_outputs_may_be_more_or_fewer_than_inputs():
    net, g = network(70, dim=3, width=20, outputs=2), draw(1, 70, 2)
    y, z = reference.perceptron(*wide_network(*net), True)
    dx, dw, db = reference.perceptron_backward(*wide(g, net[0]), wide_network(*net)[1], z)
    got = outcome(net, g)
    assert_near(got[0], y, 64)
    for ours, exact in zip(got[2:], [dx, *dw, *db, z], strict=True):
        assert_near(ours, exact, 64)


@pytest.mark.compiled
@pytest.mark.parametrize("width", [20, 128])
def test_a_row_has_the_same_bits_whatever_the_batch_around_it(width):
    x, weights, biases, tables, index = network(1000, dim=2, width=width, depth=3)
    whole, kept = kernels.perceptron(x, weights, biases, tables, index, True)
    for rows in (slice(0, 1), slice(63, 66), slice(5, 134), slice(997, 1000)):
        y, z = kernels.perceptron(x[rows], weights, biases, tables, index[:, rows], True)
        np.testing.assert_array_equal(y, whole[rows])
        np.testing.assert_array_equal(z, kept[rows])


@pytest.mark.parametrize("batch", [100, 1000])
def test_the_bits_do_not_depend_on_the_number_of_threads(batch):
    net, g = network(batch, width=128, depth=3), draw(1, batch, 1)
    one_table = np.zeros((7, 128), np.float32)
    results = []
    for count in (1, 2, 4):
        before = threads.use(count)
        try:
            outs = outcome(net, g)
            table = one_table.copy()
            kernels.add_rows(table, outs[-1][:, 0], net[4][0])
        finally:
            threads.use(before)
        results.append([*outs, table])
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


def test_float64_takes_the_reference():
    x, weights, biases, tables, index = wide_network(*network(5))
    y, z = kernels.perceptron(x, weights, biases, tables, index, True)
    assert y.dtype == z.dtype == np.float64
    np.testing.assert_array_equal(y, reference.perceptron(x, weights, biases, tables, index, True)[0])


@pytest.mark.compiled
def test_arrays_may_have_any_memory_layout():
    x, weights, biases, tables, index = network(65, dim=2)
    fortran = [np.asfortranarray(w) for w in weights]
    tables[0].flags.writeable = False
    np.testing.assert_array_equal(
        kernels.perceptron(x[::-1], fortran, biases, tables, index[:, ::-1].astype(np.int32), False)[0],
        kernels.perceptron(x, weights, biases, tables, index, False)[0][::-1],
    )


@pytest.mark.compiled
@pytest.mark.parametrize("width, depth", [(16, 1), (33, 3), (128, 3)])
def test_frozen_weights_are_prepared_once_and_give_the_same_bits(width, depth, monkeypatch):
    x, weights, biases, tables, index = network(70, width=width, depth=depth)
    expected = kernels.perceptron(x, weights, biases, tables, index, False)[0]
    frozen = [kernels.freeze(w) for w in weights], [kernels.freeze(b) for b in biases]
    np.testing.assert_array_equal(kernels.perceptron(x, *frozen, tables, index, False)[0], expected)
    monkeypatch.setattr(fused_mlp, "_pack_once", None)  # they are cached
    np.testing.assert_array_equal(kernels.perceptron(x, *frozen, tables, index, False)[0], expected)
    other = [draw(5, len(table), depth * width) for table in tables]  # these are not frozen: they may change
    np.testing.assert_array_equal(
        kernels.perceptron(x, *frozen, other, index, False)[0],
        kernels.perceptron(x, weights, biases, other, index, False)[0],
    )


@pytest.mark.compiled
def test_nothing_is_cached_for_partly_frozen_weights():
    x, weights, biases, tables, index = network(5)
    weights[-1] = kernels.freeze(weights[-1])
    before = kernels.perceptron(x, weights, biases, tables, index, False)[0]
    weights[0] *= 2
    biases[1] += 1
    after = kernels.perceptron(x, weights, biases, tables, index, False)[0]
    exact = reference.perceptron(*wide_network(x, weights, biases, tables, index), False)[0]
    assert np.abs(after - before).max() > 0.1
    assert_near(after, exact, 64)


def test_large_values_saturate_and_nan_stays():
    x, weights, biases, tables, index = network(4, width=16, depth=1)
    weights[0][...] = 1
    biases[0][...] = 0
    tables[0][...] = 0
    x[:, 0] = 1e4, -1e4, np.nan, -80
    y, z = kernels.perceptron(x, weights, biases, tables, index, True)
    assert y[0, 0] == pytest.approx(1e4 * weights[1].sum() + biases[1][0], rel=1e-5)
    np.testing.assert_array_equal(y[[1, 3]], np.full((2, 1), biases[1][0]))
    assert np.isnan(y[2, 0])
    kernels.perceptron_backward(np.ones((4, 1), np.float32), x, weights, z)
    # The derivative of SiLU is 1 there, 0 on the other side
    np.testing.assert_array_equal(z[0, 0], weights[1][:, 0])
    assert not z[1, 0].any() and np.isnan(z[2, 0]).all()


@pytest.mark.parametrize(
    "change, error, message",
    [
        (lambda n: n[1].pop(), ValueError, "biases"),
        (lambda n: n[1].__setitem__(1, n[1][1][:, :-1]), ValueError, r"weights\[1\] must be \(W, W\) = "),
        (lambda n: n[2].__setitem__(2, n[2][0]), ValueError, r"biases\[2\] must be \(O,\) = "),
        (lambda n: n[3].clear(), ValueError, "T must be at least 1, got 0|index must be"),
        (
            lambda n: n[3].__setitem__(0, n[3][0][:, :-1]),
            ValueError,
            r"tables\[0\] must be \(rowsᵢ, L·W\) = ",
        ),
        (lambda n: n[4].__setitem__((0, 3), 7), IndexError, r"must lie in 0…6, but spans 0…7"),
        (lambda n: n[4].__setitem__((0, 3), -1), IndexError, r"must lie in 0…6, but spans -1"),
        (
            lambda n: n[2].__setitem__(0, n[2][0].astype(np.float16)),
            TypeError,
            r"biases\[0\] must be float32 as x is, not float16",
        ),
    ],
)
def test_shapes_that_do_not_fit_are_refused_before_a_kernel_runs(change, error, message):
    net = network(50, dim=2)
    change(net)
    with pytest.raises(error, match=message):
        kernels.perceptron(*net, True)


def test_backward_refuses_a_wrong_z_or_g():
    x, weights, biases, tables, index = network(5)
    y, z = kernels.perceptron(x, weights, biases, tables, index, True)
    with pytest.raises(ValueError, match=r"g must be \(B, O\) = "):
        kernels.perceptron_backward(np.ones((4, 1), np.float32), x, weights, z)
    with pytest.raises(ValueError, match=r"z must be \(B, L, W\) = "):
        kernels.perceptron_backward(y, x, weights, z[:, :1])
    with pytest.raises(ValueError, match="must be contiguous"):
        kernels.perceptron_backward(y, x, weights, np.asfortranarray(z))


@given(st.integers(0, 300), st.sampled_from([1, 17, 32, 130]), st.integers(1, 9), st.integers(0, 99))
def test_add_rows_matches_the_reference(count, channels, rows, seed):
    out, g = draw(seed, rows, channels), draw(seed + 1, count, channels)
    index = np.random.default_rng(seed).integers(0, rows, count)
    (exact,) = wide(out)
    reference.add_rows(exact, *wide(g), index)
    scale = np.abs(out.astype(np.float64))
    reference.add_rows(scale, *wide(np.abs(g)), index)
    kernels.add_rows(out, g, index)
    assert np.all(np.abs(out - exact) <= 8 * ROUNDING * scale)


def test_add_rows_refuses_an_index_out_of_range():
    with pytest.raises(IndexError, match="must lie in 0…2"):
        kernels.add_rows(np.zeros((3, 2), np.float32), np.ones((2, 2), np.float32), np.array([0, 3]))
