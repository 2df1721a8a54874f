"""Parameters: each found once, packed into one vector; the EMA copy and the frozen copy of a module."""

import numpy as np
import pytest

from minidiff import nn
from minidiff.autograd import Tensor
from minidiff.nn import Module, ParameterVector, aligned_zeros, ema_copy, frozen
from minidiff.nn.optim import EMA, Adam


def parameter(*shape):
    return Tensor(
        np.arange(1, 1 + np.prod(shape, dtype=int), dtype=np.float32).reshape(shape), requires_grad=True
    )


class Leaf(Module):
    def __init__(self, *shape):
        self.w = parameter(*shape)
        self.frozen = Tensor(np.ones(3))
        self.name, self.nothing = "leaf", None


class Tree(Module):
    """Parameters at every depth, one of them reachable three ways."""

    def __init__(self):
        self.first = parameter(5)
        self.branches = [Leaf(3, 7), (Leaf(1), [parameter()])]
        self.shared = self.branches[0]
        self.also_shared = self.branches[0].w

    def __call__(self):
        return self.first.sum() + self.shared.w.sum() * 2 + self.also_shared.sum()


NAMES = ["first", "branches.0.w", "branches.1.0.w", "branches.1.1.0"]


def gaps(packed):
    """Whether each number of the vector belongs to no parameter."""
    outside = np.ones(packed.values.size, bool)
    for entries, _ in packed.layout.values():
        outside[entries] = False
    return outside


def address(array):
    return array.__array_interface__["data"][0]


def test_each_parameter_is_named_once_by_its_first_path_in_order():
    tree = Tree()
    assert list(tree.named_parameters()) == NAMES
    assert tree.count_parameters() == 5 + 21 + 1 + 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_packing_keeps_the_values_and_makes_parameters_and_gradients_views(dtype):
    tree = Tree()
    before = {name: p.data.copy() for name, p in tree.named_parameters().items()}
    packed = ParameterVector(tree, dtype)
    for name, p in tree.named_parameters().items():
        np.testing.assert_array_equal(p.data, before[name])
        assert p.data.shape == p.grad.shape == before[name].shape
        assert p.dtype == p.grad.dtype == dtype
        assert np.shares_memory(p.data, packed.values) and np.shares_memory(p.grad, packed.gradients)
        assert not p.grad.any()
    packed.values.fill(7)
    assert tree.first.data[0] == 7


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_parameter_is_aligned_to_64_bytes_and_the_gaps_are_zero(dtype):
    packed = ParameterVector(Tree(), dtype)
    for vector in (packed.values, packed.gradients):
        assert vector.ndim == 1 and vector.flags.c_contiguous
        assert all(address(view) % 64 == 0 for view in packed.views(vector).values())
    assert gaps(packed).any() and not packed.values[gaps(packed)].any()


def test_parameters_do_not_overlap_in_the_vector():
    packed = ParameterVector(Tree())
    ends = 0
    for entries, shape in packed.layout.values():
        assert ends <= entries.start < ends + 16
        assert entries.stop - entries.start == np.prod(shape, dtype=int)
        ends = entries.stop
    assert packed.values.size == packed.gradients.size >= ends


def test_a_shared_parameter_is_packed_once_and_sums_its_gradients():
    tree = Tree()
    packed = ParameterVector(tree)
    assert list(packed.layout) == NAMES
    assert tree.shared.w is tree.also_shared and tree.shared.w is tree.branches[0].w
    tree().backward()
    views = packed.views(packed.gradients)
    np.testing.assert_array_equal(views["first"], np.ones(5))
    np.testing.assert_array_equal(views["branches.0.w"], np.full((3, 7), 3))


def test_backward_writes_into_the_gradient_vector_in_place():
    tree = Tree()
    packed = ParameterVector(tree)
    views = [p.grad for p in tree.named_parameters().values()]
    for _ in range(2):
        tree().backward()
    assert all(p.grad is view for p, view in zip(tree.named_parameters().values(), views, strict=True))
    assert packed.gradients.sum() == 2 * (5 + 21 * 3)
    assert not packed.gradients[gaps(packed)].any()


def test_adam_moves_the_module_in_place_and_leaves_the_gaps_zero():
    net = nn.MLP(np.random.default_rng(0), dim=3, width=6, depth=1, T=5)
    packed = ParameterVector(net)
    adam, ema = Adam(packed.values), EMA(packed.values)
    x, t = Tensor(np.ones((4, 3), np.float32)), np.array([1, 2, 3, 4])
    before = net(x.data, t)
    weights = net.last.w.data
    for _ in range(3):
        (net(x, t) * net(x, t)).sum().backward()
        adam.update(packed.gradients, lr=0.1, ema=ema)
    assert net.last.w.data is weights
    assert np.abs(net(x.data, t) - before).min() > 0.01
    assert gaps(packed).any()
    for vector in (packed.values, packed.gradients, adam.first, adam.second, ema.values):
        assert not vector[gaps(packed)].any()


def test_any_vector_of_the_layout_has_views_by_name():
    packed = ParameterVector(Tree())
    vector = np.arange(packed.values.size)
    views = packed.views(vector)
    assert (
        list(views) == NAMES and views["branches.0.w"].shape == (3, 7) and views["branches.1.1.0"].shape == ()
    )
    assert all(np.shares_memory(view, vector) for view in views.values())


def test_packing_twice_is_refused():
    tree = Tree()
    ParameterVector(tree)
    with pytest.raises(ValueError, match="packed already; pack once, at the root"):
        ParameterVector(tree)
    with pytest.raises(ValueError, match="packed already"):
        ParameterVector(tree.shared)


def test_a_module_that_was_differentiated_before_can_still_be_packed():
    tree = Tree()
    tree.first = Tensor(np.arange(10, dtype=np.float32)[::2], requires_grad=True)  # a view of another array
    tree().backward()
    packed = ParameterVector(tree)
    assert not packed.gradients.any()
    np.testing.assert_array_equal(tree.first.data, [0, 2, 4, 6, 8])


def test_a_module_without_parameters_is_refused():
    with pytest.raises(ValueError, match="without parameters"):
        ParameterVector(Module())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 15, 16, 1000])
def test_aligned_zeros_are_zero_and_aligned_to_64_bytes(size, dtype):
    for _ in range(5):  # the allocator returns another address each time
        zeros = aligned_zeros(size, dtype)
        assert zeros.shape == (size,) and zeros.dtype == dtype and zeros.flags.c_contiguous
        assert address(zeros) % 64 == 0 and not zeros.any()


# ---- copies


def test_an_ema_copy_views_its_vector_and_does_not_change_the_original():
    net = nn.MLP(np.random.default_rng(0), dim=2, width=8, depth=2, T=10, classes=3)
    packed = ParameterVector(net)
    ema = EMA(packed.values)
    other = ema_copy(net, packed, ema.values)
    x, t = np.ones((3, 2), np.float32), np.array([1, 5, 10])
    own = net(x, t)
    np.testing.assert_array_equal(other(x, t), own)

    ema.values[...] = 0
    assert not other(x, t).any()
    np.testing.assert_array_equal(net(x, t), own)

    ema.values[...] = packed.values
    packed.values *= 2
    np.testing.assert_array_equal(other(x, t), own)
    assert np.abs(net(x, t) - own).max() > 0.1


def test_an_ema_copy_has_the_same_names_and_its_own_gradients():
    net = nn.MLP(np.random.default_rng(0), dim=2, width=8, depth=1, T=10)
    packed = ParameterVector(net)
    other = ema_copy(net, packed, packed.values.copy())
    assert list(other.named_parameters()) == list(net.named_parameters())
    assert not {*map(id, other.named_parameters().values())} & {*map(id, net.named_parameters().values())}
    other(Tensor(np.ones((1, 2), np.float32)), np.array([1])).sum().backward()
    assert not packed.gradients.any() and other.last.b.grad.any()


def test_an_ema_copy_keeps_shared_parameters_shared():
    tree = Tree()
    packed = ParameterVector(tree)
    other = ema_copy(tree, packed, packed.values.copy())
    assert other.shared is other.branches[0] and other.shared.w is other.also_shared
    assert other.shared.w is not tree.shared.w


def test_a_frozen_copy_gives_the_same_bits_and_never_changes():
    rng = np.random.default_rng(0)
    net = nn.UNet(rng, size=8, channels=1, width=32, multipliers=(1, 2), depth=1, attention=(4,), groups=8)
    # It starts at zero, which would hide the rest
    net.last.w.data[...] = rng.standard_normal(net.last.w.shape)
    x, t = rng.standard_normal((2, 8, 8, 1), dtype=np.float32), np.array([3, 700])
    before = net(x, t)
    snapshot = frozen(net)
    for _ in range(2):
        np.testing.assert_array_equal(snapshot(x, t), before)
    for parameter in net.named_parameters().values():
        parameter.data += 1
    np.testing.assert_array_equal(snapshot(x, t), before)
    assert not np.array_equal(net(x, t), before)
    assert not snapshot.named_parameters()
