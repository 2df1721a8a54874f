"""The U-Net of the paper: its size with the CIFAR-10 settings, its equations written out, initial weights, refusals."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidiff.autograd import Tensor
from minidiff.kernels import reference
from minidiff.nn import ParameterVector, UNet
from minidiff.nn.layers import sinusoidal
from minidiff.nn.unet import sides


@pytest.fixture(scope="module")
def parameters_of_the_paper():
    """The parameters of the CIFAR-10 network, by name."""
    return UNet(np.random.default_rng(0)).named_parameters()


def test_the_network_of_the_paper_has_35_746_307_parameters_in_328_arrays(parameters_of_the_paper):
    assert len(parameters_of_the_paper) == 328
    assert sum(p.size for p in parameters_of_the_paper.values()) == 35_746_307


def test_the_network_of_the_paper_has_its_blocks_and_attentions(parameters_of_the_paper):
    shapes = {name: p.shape for name, p in parameters_of_the_paper.items()}
    assert shapes["first.w"] == (3, 3, 3, 128) and shapes["last.w"] == (3, 3, 128, 3)
    assert shapes["time1.w"] == (128, 512) and shapes["time2.w"] == (512, 512)
    assert not any("label" in name for name in shapes)
    attentions = [shape for name, shape in shapes.items() if name.endswith(".project.w")]
    assert attentions == [(256, 256)] * 6  # two down and three up at 16 × 16, one in the middle
    blocks = [name for name in shapes if name.endswith("conv1.w")]
    assert len(blocks) == 4 * 2 + 2 + 4 * 3
    assert all(shapes[re.sub(r"conv1\.w$", "time.w", name)] == (512, shapes[name][3]) for name in blocks)
    channels_up = [shapes[name][2:] for name in blocks if name.startswith("up")]
    assert channels_up == [(512, 256)] * 8 + [(384, 256)] + [(384, 128)] + [(256, 128)] * 2


def test_the_last_layer_of_each_branch_starts_at_zero_and_no_other(parameters_of_the_paper):
    ends = re.compile(r"(^last|conv2|project)\.w$")
    for name, p in parameters_of_the_paper.items():
        if name.endswith((".b", "beta")) or ends.search(name):
            assert not p.data.any(), name
        elif name.endswith("gamma"):
            assert (p.data == 1).all(), name
        else:
            fans = p.size / p.shape[-1] + p.size / p.shape[-2]  # fan in + fan out
            np.testing.assert_allclose(p.data.var(), 2 / fans, rtol=0.1, err_msg=name)


def test_a_new_network_is_the_zero_map():
    net = UNet(np.random.default_rng(0), size=8, channels=1, width=8, multipliers=(1, 2), groups=4)
    x = np.random.default_rng(1).standard_normal((2, 8, 8, 1)).astype(np.float32)
    np.testing.assert_array_equal(net(x, np.array([1, 1000])), np.zeros_like(x))


class ReferenceUNet:
    """The network as one function of its parameters by name, on the reference kernels."""

    def __init__(self, named, heads, groups):
        self.named, self.heads, self.groups = named, heads, groups

    def linear(self, name, x):
        return x @ self.named[f"{name}.w"] + self.named[f"{name}.b"]

    def conv(self, name, x, stride=1, padding=((1, 1), (1, 1))):
        return reference.conv2d(x, self.named[f"{name}.w"], self.named[f"{name}.b"], stride, padding)

    def norm(self, name, x, silu):
        gamma, beta = self.named[f"{name}.gamma"], self.named[f"{name}.beta"]
        return reference.group_norm(x, gamma, beta, self.groups, 1e-6, silu)[0]

    def block(self, name, x, time):
        h = self.conv(f"{name}.conv1", self.norm(f"{name}.norm1", x, silu=True))
        h = h + self.linear(f"{name}.time", reference.silu(time))[:, None, None, :]
        h = self.conv(f"{name}.conv2", self.norm(f"{name}.norm2", h, silu=True))
        return h + (self.linear(f"{name}.shortcut", x) if f"{name}.shortcut.w" in self.named else x)

    def attend(self, name, x):
        batch, rows, columns, channels = x.shape
        pixels = self.norm(f"{name}.norm", x, silu=False).reshape(batch, rows * columns, channels)
        q, k, v = (self.linear(f"{name}.{letter}", pixels) for letter in "qkv")
        mixed = reference.attention(q, k, v, self.heads)[0]
        return x + self.linear(f"{name}.project", mixed).reshape(x.shape)

    def stage(self, name, x, time):
        h = self.block(f"{name}.block", x, time)
        return self.attend(f"{name}.attention", h) if f"{name}.attention.q.w" in self.named else h

    def __call__(self, x, t, label, width, levels, depth):
        time = self.linear("time2", reference.silu(self.linear("time1", sinusoidal(t, width))))
        if label is not None:
            time = time + self.named["label.table"][label]
        h = self.conv("first", x)
        skips, index = [h], 0
        for level in range(levels):
            if level:  # zeros make the sides even
                h = np.pad(h, ((0, 0), (0, h.shape[1] % 2), (0, h.shape[2] % 2), (0, 0)))
                h = self.conv(f"down.{index}.conv", h, stride=2, padding=((0, 1), (0, 1)))
                skips.append(h)
                index += 1
            for _ in range(depth):
                h = self.stage(f"down.{index}", h, time)
                skips.append(h)
                index += 1
        h = self.block("middle.2", self.attend("middle.1", self.block("middle.0", h, time)), time)
        index = 0
        for level in reversed(range(levels)):
            for _ in range(depth + 1):
                h = self.stage(f"up.{index}", np.concatenate([h, skips.pop()], axis=3), time)
                index += 1
            if level:
                _, rows, columns, _ = skips[-1].shape
                h = h.repeat(2, axis=1).repeat(2, axis=2)[:, :rows, :columns]
                h = self.conv(f"up.{index}.conv", h)
                index += 1
        assert not skips
        return self.conv("last", self.norm("norm", h, silu=True))


@pytest.mark.parametrize(
    "settings",
    [
        dict(size=4, channels=1, width=4, multipliers=(1,), depth=1, attention=(), heads=1, groups=1),
        dict(size=8, channels=2, width=4, multipliers=(1, 2, 2), depth=2, attention=(4,), heads=2, groups=2),
        dict(
            size=8,
            channels=3,
            width=6,
            multipliers=(2, 1),
            depth=1,
            attention=(8, 4),
            heads=3,
            groups=3,
            classes=2,
        ),
        dict(size=7, channels=1, width=4, multipliers=(1, 2, 1), depth=1, attention=(4,), heads=2, groups=2),
        dict(size=(3, 10), channels=2, width=4, multipliers=(1, 1), depth=2, attention=(5,), groups=2),
        dict(size=(6, 1), channels=1, width=4, multipliers=(2, 1, 1), depth=1, attention=(), groups=1),
    ],
    ids=["one level", "three levels", "narrowing, with classes", "odd", "oblong", "a column"],
)
def test_the_network_computes_the_equations_of_its_docstring(settings):
    net = UNet(np.random.default_rng(0), **settings)
    ParameterVector(net, np.float64)
    named = {name: p.data for name, p in net.named_parameters().items()}
    rng = np.random.default_rng(1)
    for data in named.values():
        data[...] = rng.standard_normal(data.shape) / (data.size // data.shape[-1]) ** 0.5
    x = rng.standard_normal((2, *net.shape))
    t = np.array([3, 700])
    label = np.array([0, 2]) if "classes" in settings else None
    plain = ReferenceUNet(named, settings.get("heads", 1), settings["groups"])
    expected = plain(x, t, label, settings["width"], len(settings["multipliers"]), settings["depth"])
    attended = sum(name.endswith("project.w") for name in named)
    levels = [-(-max(net.shape[:2]) // 2**i) for i in range(len(settings["multipliers"]))]
    assert attended == 1 + sum(n in settings["attention"] for n in levels) * (2 * settings["depth"] + 1)
    np.testing.assert_allclose(net(x, t, label), expected, rtol=1e-9, atol=1e-9)


def test_a_learned_variance_doubles_the_channels_of_the_output():
    net = UNet(
        np.random.default_rng(0),
        size=4,
        channels=3,
        width=8,
        multipliers=(1,),
        groups=4,
        learned_variance=True,
    )
    assert net(np.ones((2, 4, 4, 3), np.float32), np.full(2, 7)).shape == (2, 4, 4, 6)


@given(height=st.integers(1, 12), width=st.integers(1, 12), levels=st.integers(1, 4))
def test_every_size_is_mapped_to_itself_and_a_step_reaches_every_parameter(height, width, levels):
    net = UNet(
        np.random.default_rng(0), size=(height, width), channels=1, width=4, multipliers=(1,) * levels,
        depth=1, attention=(max(height, width),), groups=2, dropout=0.0,
    )  # fmt: skip
    packed = ParameterVector(net, np.float64)
    packed.values += np.random.default_rng(1).normal(0, 0.3, packed.values.shape)
    x = np.random.default_rng(2).standard_normal((2, height, width, 1))
    y = net(Tensor(x), np.array([3, 700]))
    assert y.shape == x.shape
    y.backward(np.random.default_rng(3).standard_normal(x.shape))
    for name, gradient in packed.views(packed.gradients).items():
        # A level of one pixel has none in q and k
        assert gradient.any() or re.search(r"\.[qk]\.", name), name


@pytest.mark.parametrize("size", [5, (4, 7), (3, 2)], ids=str)
def test_the_gradient_at_odd_sides_equals_finite_differences(size):
    net = UNet(
        np.random.default_rng(0), size=size, channels=1, width=4, multipliers=(1, 2), depth=1, attention=(),
        groups=2, dropout=0.0,
    )  # fmt: skip
    packed = ParameterVector(net, np.float64)
    packed.values += np.random.default_rng(1).normal(0, 0.3, packed.values.shape)
    rng, t = np.random.default_rng(2), np.array([5])
    x, direction = rng.standard_normal((2, 1, *net.shape))
    tensor = Tensor(x, requires_grad=True)
    net(tensor, t).backward(direction)
    for index in np.ndindex(x.shape):
        move = np.zeros(x.shape)
        move[index] = 1e-6
        difference = np.vdot(net(x + move, t) - net(x - move, t), direction) / 2e-6
        assert tensor.grad[index] == pytest.approx(difference, rel=1e-6, abs=1e-6)


def test_attention_is_at_the_level_whose_longer_side_is_named():
    net = UNet(
        np.random.default_rng(0), size=(5, 12), channels=1, width=4, multipliers=(1, 1, 1), groups=2,
        depth=1, attention=(3, 5),
    )  # fmt: skip
    assert sides((5, 12), 3) == [(5, 12), (3, 6), (2, 3)]
    attended = {name.rpartition(".attention")[0] for name in net.named_parameters() if ".attention." in name}
    assert attended == {"down.4", "up.0", "up.1"}


def test_equal_sides_are_described_by_one_number():
    small = dict(channels=1, width=8, multipliers=(1,), depth=1, groups=4)
    for size, described in ((6, 6), ([6, 6], 6), ([6, 4], (6, 4))):
        assert UNet(np.random.default_rng(0), size=size, **small).settings["size"] == described


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(width=8, groups=3), "^groups: 8 channels do not divide into 3 groups"),
        (dict(width=8, groups=4, heads=3), "^heads: 8 channels do not divide into 3 heads"),
    ],
)
def test_settings_that_do_not_divide_are_refused(settings, message):
    small = dict(size=8, channels=1, width=8, multipliers=(1, 1), depth=1, groups=4)
    with pytest.raises(ValueError, match=message):
        UNet(np.random.default_rng(0), **{**small, **settings})
