"""The drawing of a U-Net has its blocks, in order, level by level."""

import inspect
import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from minidiff import nn


def drawn(net):
    """The levels of a drawing, and its middle: lists of (channels, attends)."""
    *lines, middle, _ = nn.diagram(net).splitlines()

    def blocks(text):
        return [(int(n), bool(star)) for n, star in re.findall(r"(?<![→\d])(\d+)(\*?)(?![→\d])", text)]

    sizes, both = zip(*(line.split(maxsplit=1) for line in lines), strict=True)
    downs, ups = zip(*(re.split(r"─+", text) for text in both), strict=True)
    return sizes, [*map(blocks, downs)], [*map(blocks, ups)], blocks(middle.removeprefix("middle"))


@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.lists(st.sampled_from([1, 1.5, 2, 4]), min_size=1, max_size=4),
    st.integers(1, 3),
    st.booleans(),
    st.data(),
)
def test_the_drawing_has_every_block_at_its_level_with_its_channels(size, multipliers, depth, middle, data):
    sides = nn.unet.sides(size, len(multipliers))
    attention = data.draw(st.sets(st.sampled_from([max(pair) for pair in sides])))
    net = nn.UNet(
        np.random.default_rng(0),
        size=list(size),
        channels=3,
        width=8,
        multipliers=multipliers,
        depth=depth,
        attention=sorted(attention),
        groups=4,
        middle_attention=middle,
    )
    names, downs, ups, between = drawn(net)
    assert names == tuple(f"{height}×{width}" for height, width in sides)
    for level, (multiplier, pair) in enumerate(zip(multipliers, sides, strict=True)):
        block = round(8 * multiplier), max(pair) in attention
        assert downs[level] == [block] * depth and ups[level] == [block] * (depth + 1)
    last = round(8 * multipliers[-1])
    assert between == [(last, middle), (last, False)]


def test_the_drawing_in_the_docstring():
    net = nn.UNet(
        np.random.default_rng(0), size=8, channels=1, width=32, multipliers=(1, 2), attention=(4,), groups=8
    )
    text = "\n".join(f"    {line.rstrip()}" for line in nn.diagram(net).splitlines()[:-1])
    assert text in inspect.getdoc(
        nn.diagrams.diagram
    )  # without the indentation, which Python 3.13 leaves out
