"""What all networks have in common: arrays or tensors, times and labels, dropout, independence, exact gradients."""

import json

import numpy as np
import pytest

from minidiff import nn
from minidiff.autograd import Tensor
from minidiff.nn import ParameterVector

T = 20
TINY_UNET = dict(
    size=4, channels=2, width=4, multipliers=(1, 2), depth=1, attention=(2,), heads=2, groups=2, dropout=0.5
)
BUILT = {
    "mlp": lambda rng, **more: nn.MLP(rng, dim=3, width=6, depth=2, T=T, **more),
    "mlp sinusoidal": lambda rng, **more: nn.MLP(
        rng, dim=3, width=6, depth=2, T=T, time="sinusoidal", **more
    ),
    "unet": lambda rng, **more: nn.UNet(rng, **TINY_UNET, **more),
}
every_network = pytest.mark.parametrize("kind", BUILT)
with_and_without_classes = pytest.mark.parametrize("classes", [0, 3])


def make(kind, classes=0, dtype=np.float32):
    """A network with every parameter random, since a layer of zeros would hide those before it."""
    net = BUILT[kind](np.random.default_rng(0), classes=classes)
    packed = ParameterVector(net, dtype)
    rng = np.random.default_rng(1)
    for view in packed.views(packed.values).values():
        inputs_of_each = view.size // view.shape[-1]
        view[...] = rng.standard_normal(view.shape) / inputs_of_each**0.5
    return net, packed


def inputs(kind, batch=3, classes=0, dtype=np.float32):
    rng = np.random.default_rng(2)
    shape = (batch, 4, 4, 2) if kind == "unet" else (batch, 3)
    label = rng.integers(0, classes + 1, batch) if classes else None
    return rng.standard_normal(shape).astype(dtype), rng.integers(1, T + 1, batch), label


# ---- arrays and tensors


@every_network
@with_and_without_classes
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_array_gives_an_array_and_a_tensor_the_same_values_as_a_tensor(kind, classes, dtype):
    net, packed = make(kind, classes, dtype)
    x, t, label = inputs(kind, classes=classes, dtype=dtype)
    given = x.copy()
    out, recorded = net(x, t, label), net(Tensor(x), t, label)
    assert isinstance(out, np.ndarray) and isinstance(recorded, Tensor)
    assert out.shape == x.shape and out.dtype == recorded.dtype == dtype
    np.testing.assert_array_equal(recorded.data, out)
    np.testing.assert_array_equal(x, given)
    assert recorded.requires_grad and np.isfinite(out).all() and out.std() > 0.01
    assert not packed.gradients.any()


@every_network
def test_float64_inputs_of_a_float32_network_give_float64_outputs(kind):
    net, _ = make(kind)
    x, t, _ = inputs(kind)
    wide = net(x.astype(np.float64), t)
    assert wide.dtype == np.float64
    np.testing.assert_array_equal(wide, net(x, t))


@every_network
def test_integer_inputs_do_not_round_the_output(kind):
    net, _ = make(kind)
    x, t, _ = inputs(kind)
    whole = np.round(3 * x).astype(np.int64)
    np.testing.assert_array_equal(net(whole, t), net(whole.astype(np.float32), t))


@every_network
def test_the_memory_layout_of_the_input_does_not_matter(kind):
    net, _ = make(kind)
    x, t, _ = inputs(kind)
    strided = np.empty((*x.shape[:-1], 2 * x.shape[-1]), np.float32)[..., ::2]
    strided[...] = x
    np.testing.assert_array_equal(net(strided, t), net(x, t))
    np.testing.assert_array_equal(net(np.asfortranarray(x), t), net(x, t))


@every_network
@with_and_without_classes
def test_the_output_of_each_sample_does_not_depend_on_the_others(kind, classes):
    net, _ = make(kind, classes)
    x, t, label = inputs(kind, batch=5, classes=classes)
    together = net(x, t, label)
    for i in range(5):
        alone = net(x[i : i + 1], t[i : i + 1], None if label is None else label[i : i + 1])
        np.testing.assert_allclose(alone[0], together[i], rtol=1e-4, atol=1e-5)
    order = np.array([4, 2, 0, 3, 1])
    shuffled = net(x[order], t[order], None if label is None else label[order])
    np.testing.assert_allclose(shuffled, together[order], rtol=1e-4, atol=1e-5)
    x[1:] = 100
    np.testing.assert_array_equal(net(x, t, label)[0], together[0])


@every_network
def test_the_output_depends_on_every_entry_of_the_input_and_on_the_time(kind):
    net, _ = make(kind, dtype=np.float64)
    x, t, _ = inputs(kind, batch=1, dtype=np.float64)
    for index in np.ndindex(x.shape):
        moved = x.copy()
        moved[index] += 0.1
        assert np.abs(net(moved, t) - net(x, t)).max() > 1e-4
    assert np.abs(net(x, t % T + 1) - net(x, t)).max() > 1e-4


# ---- the gradient of the whole


@every_network
@with_and_without_classes
def test_the_gradient_of_the_network_equals_finite_differences(kind, classes):
    net, packed = make(kind, classes, np.float64)
    x, t, label = inputs(kind, batch=2, classes=classes, dtype=np.float64)
    rng = np.random.default_rng(4)
    direction = rng.standard_normal(x.shape)
    tensor = Tensor(x, requires_grad=True)
    net(tensor, t, label).backward(direction)

    def derivative_along(array, move, step=1e-6):
        """The derivative of the output, contracted with the direction, as `array` goes along `move`."""
        kept, ends = array.copy(), []
        for sign in (1, -1):
            array[...] = kept + sign * step * move
            ends.append(np.vdot(net(x, t, label), direction))
        array[...] = kept
        return (ends[0] - ends[1]) / (2 * step)

    values, gradients = packed.views(packed.values), packed.views(packed.gradients)
    for name, array, gradient in [("x", x, tensor.grad), *((n, values[n], gradients[n]) for n in values)]:
        assert gradient.any(), f"no gradient reaches {name}"
        move = rng.standard_normal(array.shape)  # every entry, each with its own weight
        expected = derivative_along(array, move)
        assert abs(np.vdot(gradient, move) - expected) <= 1e-6 * (1 + abs(expected)), name
    for index in np.ndindex(x[0].shape):  # of the input, entry by entry
        move = np.zeros(x.shape)
        move[0][index] = 1
        assert abs(tensor.grad[0][index] - derivative_along(x, move)) <= 1e-6 * (
            1 + abs(tensor.grad[0][index])
        )


@every_network
def test_gradients_reach_the_input_in_float32_too(kind):
    net, packed = make(kind)
    x, t, _ = inputs(kind)
    tensor = Tensor(x, requires_grad=True)
    net(tensor, t).sum().backward()
    assert tensor.grad.dtype == np.float32 and tensor.grad.any() and packed.gradients.any()


# ---- dropout


def test_dropout_needs_a_tensor_and_an_rng_and_is_drawn_from_it():
    net, _ = make("unet")
    x, t, _ = inputs("unet")
    without = net(x, t)

    def dropped(seed):
        return net(Tensor(x), t, rng=np.random.default_rng(seed)).data

    np.testing.assert_array_equal(net(Tensor(x), t).data, without)
    np.testing.assert_array_equal(net(x, t, rng=np.random.default_rng(0)), without)
    np.testing.assert_array_equal(dropped(0), dropped(0))
    assert np.abs(dropped(0) - without).max() > 0.01 and np.abs(dropped(0) - dropped(1)).max() > 0.01


def test_dropout_of_rate_zero_draws_nothing():
    net = nn.UNet(np.random.default_rng(0), **{**TINY_UNET, "dropout": 0.0})
    x, t, _ = inputs("unet")
    rng = np.random.default_rng(7)
    net(Tensor(x), t, rng=rng)
    assert rng.bit_generator.state == np.random.default_rng(7).bit_generator.state


# ---- labels


@every_network
def test_the_output_depends_on_the_label_and_no_label_means_no_class(kind):
    net, _ = make(kind, classes=3)
    x, t, _ = inputs(kind, batch=1)
    outs = [net(x, t, np.array([k])) for k in range(4)]
    for k in range(4):
        for other in range(k):
            assert np.abs(outs[k] - outs[other]).max() > 1e-3
    np.testing.assert_array_equal(net(x, t), outs[3])
    np.testing.assert_array_equal(net(x, t, [1]), outs[1])


@every_network
@pytest.mark.parametrize(
    "label, message",
    [
        (np.array([0, 1]), r"one label for each of 3 inputs, got shape \(2,\)"),
        (1, r"one label for each of 3 inputs, got shape \(\)"),
        (np.array([0, 1, 4]), r"integers 0…2, or 3 for no class; got array\(\[0, 1, 4\]\)"),
        (np.array([0, -1, 2]), r"got array\(\[ 0, -1,  2\]\)"),
        (np.array([0.0, 1.0, 2.0]), r"labels are integers .* got array\(\[0\., 1\., 2\.\]\)"),
    ],
    ids=["too few", "one for all", "past no class", "negative", "real"],
)
def test_labels_of_another_shape_type_or_range_are_refused(kind, label, message):
    net, _ = make(kind, classes=3)
    x, t, _ = inputs(kind)
    with pytest.raises(ValueError, match=message):
        net(x, t, label)


@every_network
def test_a_network_without_classes_refuses_a_label(kind):
    net, _ = make(kind)
    x, t, _ = inputs(kind)
    with pytest.raises(ValueError, match="without classes and takes no label"):
        net(x, t, np.zeros(3, int))


# ---- times and shapes


@every_network
@pytest.mark.parametrize("t", [5, np.array([5]), np.ones((3, 1), int)], ids=["a number", "one", "a column"])
def test_there_must_be_one_time_for_each_input(kind, t):
    net, _ = make(kind)
    with pytest.raises(ValueError, match="one time for each of 3 inputs, got t of shape"):
        net(inputs(kind)[0], t)


@pytest.mark.parametrize(
    "t, message",
    [
        (np.array([1.0, 2.0, 3.0]), rf"only the integer times 1…{T}; got t of float64"),
        (np.array([0, 1, 2]), rf"times run 1…{T}, got 0…2"),
        (np.array([1, 2, T + 1]), rf"times run 1…{T}, got 1…{T + 1}"),
        (np.array([-1, 1, 2]), rf"times run 1…{T}, got -1…2"),
    ],
    ids=["real", "clean data", "past T", "negative"],
)
def test_a_table_of_times_takes_only_the_integers_from_1_to_T(t, message):
    net, _ = make("mlp")
    with pytest.raises(ValueError, match=message):
        net(inputs("mlp")[0], t)


def test_a_table_of_times_has_a_row_for_both_ends():
    net, _ = make("mlp")
    x, _, _ = inputs("mlp", batch=1)
    outs = [net(x, np.array([t])) for t in range(1, T + 1)]
    assert len({out.tobytes() for out in outs}) == T


@pytest.mark.parametrize("kind", ["mlp sinusoidal", "unet"])
def test_sinusoidal_networks_take_real_times_and_are_continuous_in_them(kind):
    net, _ = make(kind, dtype=np.float64)
    x, _, _ = inputs(kind, batch=1, dtype=np.float64)
    at = [net(x, np.array([t])) for t in (7, 7.0, 7.001, 7.5)]
    np.testing.assert_array_equal(at[0], at[1])
    assert 0 < np.abs(at[2] - at[0]).max() < 0.05 * np.abs(at[3] - at[0]).max() + 1e-2


@pytest.mark.parametrize(
    "kind, shape, message",
    [
        ("mlp", (2, 4), r"x of shape \(B, 3\), got \(2, 4\)"),
        ("mlp", (2, 3, 1), r"x of shape \(B, 3\), got \(2, 3, 1\)"),
        ("mlp sinusoidal", (2,), r"x of shape \(B, 3\), got \(2,\)"),
        ("unet", (2, 4, 4, 1), r"takes .*4, 4, 2\), got .*\(2, 4, 4, 1\)"),
        ("unet", (2, 8, 8, 2), r"takes .*4, 4, 2\), got .*\(2, 8, 8, 2\)"),
        ("unet", (2, 32), r"takes .*4, 4, 2\), got .*\(2, 32\)"),
    ],
)
def test_inputs_of_another_shape_are_refused(kind, shape, message):
    net, _ = make(kind)
    for x in (np.zeros(shape, np.float32), Tensor(np.zeros(shape, np.float32))):
        with pytest.raises(ValueError, match=message):
            net(x, np.array([1, 2]))


# ---- descriptions


@every_network
@with_and_without_classes
def test_a_description_builds_the_same_network_again(kind, classes):
    net = BUILT[kind](np.random.default_rng(5), classes=classes)
    again = nn.build(nn.describe(net), np.random.default_rng(5))
    assert type(again) is type(net) and nn.describe(again) == nn.describe(net)
    x, t, label = inputs(kind, classes=classes)
    np.testing.assert_array_equal(again(x, t, label), net(x, t, label))
    assert list(again.named_parameters()) == list(net.named_parameters())


def test_a_description_survives_json_and_contains_the_kind():
    for kind in BUILT:
        net = BUILT[kind](np.random.default_rng(0))
        described = json.loads(json.dumps(nn.describe(net)))
        assert described["kind"] == kind.split()[0]
        assert nn.describe(nn.build(described, np.random.default_rng(0))) == nn.describe(net)


def test_an_unknown_kind_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown network 'transformer', known: mlp, unet;.*NETWORKS"):
        nn.build({"kind": "transformer"}, np.random.default_rng(0))
