"""Wrong arguments of a rule raise an error of one line that names the rule and the shapes."""

import numpy as np
import pytest
from neural_cases import conditioned, ones

from minidiff import autograd as ag

REFUSED = {
    "linear: inner sizes differ": (
        lambda: ag.linear(ones(2, 3), ones(4, 5), ones(5)),
        r"w must be \(I, O\) = \(3, O\), got \(4, 5\)",
    ),
    "linear: bias": (
        lambda: ag.linear(ones(2, 3), ones(3, 5), ones(1)),
        r"b must be \(O,\) = \(5,\), got \(1,\)",
    ),
    "linear: 0-d": (lambda: ag.linear(ones(), ones(3, 5), ones(5)), r"x must be \(N, I\), got \(1,\)"),
    "conv2d: no batch": (
        lambda: ag.conv2d(ones(4, 4, 1), ones(3, 3, 1, 1), ones(1)),
        r"x must be \(B, H, W, C\), got \(4, 4, 1\)",
    ),
    "conv2d: channels": (
        lambda: ag.conv2d(ones(1, 4, 4, 2), ones(3, 3, 1, 1), ones(1)),
        r"w must be \(kh, kw, C, O\) = \(kh, kw, 2, O\), got \(3, 3, 1, 1\)",
    ),
    "conv2d: bias": (
        lambda: ag.conv2d(ones(1, 4, 4, 1), ones(3, 3, 1, 2), ones(1)),
        r"b must be \(O,\) = \(2,\) or \(B, O\) = \(1, 2\), got \(1,\)",
    ),
    "conv2d: bias of other images": (
        lambda: ag.conv2d(ones(2, 4, 4, 1), ones(3, 3, 1, 2), ones(3, 2)),
        r"b must be \(O,\) = \(2,\) or \(B, O\) = \(2, 2\), got \(3, 2\)",
    ),
    "conv2d: residual": (
        lambda: ag.conv2d(ones(1, 4, 4, 1), ones(3, 3, 1, 2), ones(2), ones(1, 4, 4, 2)),
        r"residual must be \(B, H', W', O\) = \(1, 2, 2, 2\), got \(1, 4, 4, 2\)",
    ),
    "conv2d: residual of other images": (
        lambda: ag.conv2d(ones(2, 4, 4, 1), ones(3, 3, 1, 2), ones(2), ones(3, 2, 2, 2)),
        r"residual must be \(B, H', W', O\) = \(2, 2, 2, 2\), got \(3, 2, 2, 2\)",
    ),
    "conv2d: no channels out": (
        lambda: ag.conv2d(ones(1, 4, 4, 1), ones(3, 3, 1), ones()),
        r"w must be \(kh, kw, C, O\) = \(kh, kw, 1, O\), got \(3, 3, 1\)",
    ),
    "conv2d: padding at the sides": (
        lambda: ag.conv2d(ones(1, 4, 4, 1), ones(3, 3, 1, 1), ones(1), padding=((0, 0), (-1, 0))),
        r"padding must be at least 0, got \(\(0, 0\), \(\-1, 0\)\)",
    ),
    "conv2d: stride": (
        lambda: ag.conv2d(ones(1, 4, 4, 1), ones(3, 3, 1, 1), ones(1), stride=0),
        r"stride must be at least 1, not 0",
    ),
    "conv2d: padding": (
        lambda: ag.conv2d(ones(1, 4, 4, 1), ones(3, 3, 1, 1), ones(1), padding=((0, -1), (0, 0))),
        r"padding must be at least 0, got \(\(0, \-1\), \(0, 0\)\)",
    ),
    "conv2d: too small": (
        lambda: ag.conv2d(ones(1, 4, 2, 1), ones(3, 3, 1, 1), ones(1)),
        r"a kernel of 3×3 does not fit into 4×2 pixels padded by \(\(0, 0\), \(0, 0\)\)",
    ),
    "embedding: real index": (
        lambda: ag.embedding(ones(3, 2), index=np.array([0.5])),
        r"must hold integers, got float64",
    ),
    "embedding: past the end": (
        lambda: ag.embedding(ones(3, 2), index=np.array([3])),
        r"must lie in 0…2, got 3…3",
    ),
    "embedding: negative": (
        lambda: ag.embedding(ones(3, 2), index=np.array([-1, 1])),
        r"must lie in 0…2, got -1…1",
    ),
    "group_norm: groups": (
        lambda: ag.group_norm(ones(1, 2, 6), ones(6), ones(6), groups=4, eps=1e-6),
        r"groups must divide C = 6, got 4",
    ),
    "group_norm: no groups": (
        lambda: ag.group_norm(ones(1, 2, 6), ones(6), ones(6), groups=0, eps=1e-6),
        r"groups must divide C = 6, got 0",
    ),
    "group_norm: gamma": (
        lambda: ag.group_norm(ones(1, 2, 6), ones(5), ones(6), groups=1, eps=1e-6),
        r"gamma must be \(C,\) = \(6,\), got \(5,\)",
    ),
    "group_norm: beta": (
        lambda: ag.group_norm(ones(1, 2, 6), ones(6), ones(5), groups=1, eps=1e-6),
        r"beta must be \(C,\) = \(6,\), got \(5,\)",
    ),
    "group_norm: gamma and beta": (
        lambda: ag.group_norm(ones(1, 2, 6), ones(5), ones(5), groups=1, eps=1e-6),
        r"gamma must be \(C,\) = \(6,\), got \(5,\)",
    ),
    "layer_norm: gamma and beta": (
        lambda: ag.layer_norm(ones(2, 6), ones(5), ones(5)),
        r"gamma must be \(C,\) = \(6,\), got \(5,\)",
    ),
    "layer_norm: beta": (
        lambda: ag.layer_norm(ones(2, 6), ones(6), ones(5)),
        r"beta must be \(C,\) = \(6,\), got \(5,\)",
    ),
    "attention: heads": (
        lambda: ag.attention(*[ones(1, 2, 6)] * 3, heads=4),
        r"heads must divide C = 6, got 4",
    ),
    "attention: no heads": (
        lambda: ag.attention(*[ones(1, 2, 6)] * 3, heads=0),
        r"heads must divide C = 6, got 0",
    ),
    "attention: keys and values": (
        lambda: ag.attention(ones(1, 2, 6), ones(1, 3, 6), ones(1, 4, 6)),
        r"v must be \(B, M, C\) = \(1, 3, 6\), got \(1, 4, 6\)",
    ),
    "attention: fewer values than keys": (
        lambda: ag.attention(ones(1, 2, 6), ones(1, 3, 6), ones(1, 2, 6)),
        r"v must be \(B, M, C\) = \(1, 3, 6\), got \(1, 2, 6\)",
    ),
    "attention: queries with an axis more": (
        lambda: ag.attention(ones(1, 2, 6, 1), *[ones(1, 2, 6)] * 2),
        r"q must be \(B, N, C\), got \(1, 2, 6, 1\)",
    ),
    "attention: keys and values with an axis more": (
        lambda: ag.attention(ones(1, 2, 6), *[ones(1, 2, 6, 1)] * 2),
        r"k must be \(B, M, C\) = \(1, M, 6\), got \(1, 2, 6, 1\)",
    ),
    "attention: batches": (
        lambda: ag.attention(ones(2, 2, 6), *[ones(1, 2, 6)] * 2),
        r"k must be \(B, M, C\) = \(2, M, 6\), got \(1, 2, 6\)",
    ),
    "attention: no keys": (
        lambda: ag.attention(ones(1, 2, 6), *[ones(1, 0, 6)] * 2),
        r"M must be at least 1, got 0",
    ),
    "upsample_nearest: no batch": (
        lambda: ag.upsample_nearest(ones(4, 4, 1)),
        r"x must be \(B, H, W, C\), got \(4, 4, 1\)",
    ),
    "upsample_nearest: factor": (lambda: ag.upsample_nearest(ones(1, 4, 4, 1), factor=0), r"factor"),
    "average_pool: no batch": (
        lambda: ag.average_pool(ones(4, 4, 1)),
        r"x must be \(B, H, W, C\), got \(4, 4, 1\)",
    ),
    "average_pool: size": (lambda: ag.average_pool(ones(1, 4, 4, 1), size=0), r"size"),
    "average_pool: odd": (
        lambda: ag.average_pool(ones(1, 4, 3, 1)),
        r"size must divide W = 3, got 2",
    ),
    "dropout: rate 1": (
        lambda: ag.dropout(ones(3), rate=1.0, rng=np.random.default_rng(0)),
        r"must lie in \[0, 1\), got 1.0",
    ),
    "dropout: negative rate": (
        lambda: ag.dropout(ones(3), rate=-0.1, rng=np.random.default_rng(0)),
        r"must lie in \[0, 1\)",
    ),
    "cross_entropy: logits of an image": (
        lambda: ag.cross_entropy(ones(2, 3, 3), labels=np.zeros(2, int)),
        r"logits must be \(B, K\), got \(2, 3, 3\)",
    ),
    "cross_entropy: logits of nothing": (
        lambda: ag.cross_entropy(ones(0, 3), labels=np.zeros(0, int)),
        r"B must be at least 1, got 0",
    ),
    "cross_entropy: one-hot labels": (
        lambda: ag.cross_entropy(ones(2, 3), labels=np.ones((2, 3), int)),
        r"labels must be \(B,\) = \(2,\), got \(2, 3\)",
    ),
    "cross_entropy: real labels": (
        lambda: ag.cross_entropy(ones(2, 3), labels=np.ones(2)),
        r"labels must be integers, got float64",
    ),
    "cross_entropy: past the end": (
        lambda: ag.cross_entropy(ones(2, 3), labels=np.array([0, 3])),
        r"labels must lie in 0…2, got 0…3",
    ),
    "mse: would broadcast": (
        lambda: ag.mse(ones(3), ones(3, 1)),
        r"b must be \(\.\.\.\) = \(3,\), got \(3, 1\)",
    ),
}


@pytest.mark.parametrize("wrong", REFUSED)
def test_wrong_arguments_raise_an_error_of_one_line(wrong):
    call, message = REFUSED[wrong]
    with pytest.raises(ValueError, match=message) as refusal:
        call()
    assert str(refusal.value).startswith(wrong.partition(":")[0] + ": ")
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 300


@pytest.mark.parametrize(
    "index, error, message",
    [
        ([[0, 3]], IndexError, "must lie in 0…2, but spans 0…3"),
        ([[0.5, 1.0]], TypeError, "index must hold integers"),
        ([[0, 1], [0, 1]], ValueError, r"index must be \(T, B\) = \(1, 2\), got \(2, 2\)"),
    ],
    ids=["past the end", "real", "more conditions than tables"],
)
def test_a_perceptron_refuses_an_index_that_does_not_fit_its_tables(index, error, message):
    with pytest.raises(error, match=message):
        conditioned(index)
