"""Wrong arguments of a rule raise an error of one line that names the rule and the shapes."""

import numpy as np
import pytest
from neural_cases import conditioned, ones

from minidiff import autograd as ag

REFUSED = {
    "linear: inner sizes differ": (
        lambda: ag.linear(ones(2, 3), ones(4, 5), ones(5)),
        r"linear: expected x",
    ),
    "linear: bias": (
        lambda: ag.linear(ones(2, 3), ones(3, 5), ones(1)),
        r"got \(2, 3\), \(3, 5\), \(1,\)",
    ),
    "linear: 0-d": (lambda: ag.linear(ones(), ones(3, 5), ones(5)), r"linear: expected x"),
    "conv2d: no batch": (
        lambda: ag.conv2d(ones(4, 4, 1), ones(3, 3, 1, 1), ones(1)),
        r"conv2d: expected x",
    ),
    "conv2d: channels": (lambda: ag.conv2d(ones(1, 4, 4, 2), ones(3, 3, 1, 1), ones(1)), r"expected x"),
    "conv2d: bias": (
        lambda: ag.conv2d(ones(1, 4, 4, 1), ones(3, 3, 1, 2), ones(1)),
        r"b \(O,\) or \(B, O\)",
    ),
    "conv2d: bias of other images": (
        lambda: ag.conv2d(ones(2, 4, 4, 1), ones(3, 3, 1, 2), ones(3, 2)),
        r"b \(O,\) or \(B, O\)",
    ),
    "conv2d: residual": (
        lambda: ag.conv2d(ones(1, 4, 4, 1), ones(3, 3, 1, 2), ones(2), ones(1, 4, 4, 2)),
        r"the result has shape \(1, 2, 2, 2\), the residual \(1, 4, 4, 2\)",
    ),
    "conv2d: residual of other images": (
        lambda: ag.conv2d(ones(2, 4, 4, 1), ones(3, 3, 1, 2), ones(2), ones(3, 2, 2, 2)),
        r"the result has shape \(2, 2, 2, 2\), the residual \(3, 2, 2, 2\)",
    ),
    "conv2d: no channels out": (
        lambda: ag.conv2d(ones(1, 4, 4, 1), ones(3, 3, 1), ones()),
        r"conv2d: expected x",
    ),
    "conv2d: padding at the sides": (
        lambda: ag.conv2d(ones(1, 4, 4, 1), ones(3, 3, 1, 1), ones(1), padding=((0, 0), (-1, 0))),
        r"padding ≥ 0",
    ),
    "conv2d: stride": (
        lambda: ag.conv2d(ones(1, 4, 4, 1), ones(3, 3, 1, 1), ones(1), stride=0),
        r"stride must be ≥ 1",
    ),
    "conv2d: padding": (
        lambda: ag.conv2d(ones(1, 4, 4, 1), ones(3, 3, 1, 1), ones(1), padding=((0, -1), (0, 0))),
        r"padding ≥ 0, got 1 and \(\(0, -1\), \(0, 0\)\)",
    ),
    "conv2d: too small": (
        lambda: ag.conv2d(ones(1, 4, 2, 1), ones(3, 3, 1, 1), ones(1)),
        r"kernel \(3, 3\) does not fit into \(4, 2\)",
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
        r"groups that divide 6; got \(6,\), \(6,\), 4 groups",
    ),
    "group_norm: no groups": (
        lambda: ag.group_norm(ones(1, 2, 6), ones(6), ones(6), groups=0, eps=1e-6),
        r"groups that divide 6",
    ),
    "group_norm: gamma": (
        lambda: ag.group_norm(ones(1, 2, 6), ones(5), ones(6), groups=1, eps=1e-6),
        r"expected gamma and beta \(6,\)",
    ),
    "group_norm: beta": (
        lambda: ag.group_norm(ones(1, 2, 6), ones(6), ones(5), groups=1, eps=1e-6),
        r"expected gamma and beta \(6,\)",
    ),
    "group_norm: gamma and beta": (
        lambda: ag.group_norm(ones(1, 2, 6), ones(5), ones(5), groups=1, eps=1e-6),
        r"expected gamma and beta \(6,\)",
    ),
    "layer_norm: gamma and beta": (
        lambda: ag.layer_norm(ones(2, 6), ones(5), ones(5)),
        r"expected gamma and beta \(6,\)",
    ),
    "layer_norm: beta": (
        lambda: ag.layer_norm(ones(2, 6), ones(6), ones(5)),
        r"expected gamma and beta \(6,\)",
    ),
    "attention: heads": (lambda: ag.attention(*[ones(1, 2, 6)] * 3, heads=4), r"C a multiple of 4 heads"),
    "attention: no heads": (lambda: ag.attention(*[ones(1, 2, 6)] * 3, heads=0), r"C a multiple of 0 heads"),
    "attention: keys and values": (
        lambda: ag.attention(ones(1, 2, 6), ones(1, 3, 6), ones(1, 4, 6)),
        r"got \(1, 2, 6\), \(1, 3, 6\), \(1, 4, 6\)",
    ),
    "attention: fewer values than keys": (
        lambda: ag.attention(ones(1, 2, 6), ones(1, 3, 6), ones(1, 2, 6)),
        r"got \(1, 2, 6\), \(1, 3, 6\), \(1, 2, 6\)",
    ),
    "attention: queries with an axis more": (
        lambda: ag.attention(ones(1, 2, 6, 1), *[ones(1, 2, 6)] * 2),
        r"got \(1, 2, 6, 1\), \(1, 2, 6\), \(1, 2, 6\)",
    ),
    "attention: keys and values with an axis more": (
        lambda: ag.attention(ones(1, 2, 6), *[ones(1, 2, 6, 1)] * 2),
        r"got \(1, 2, 6\), \(1, 2, 6, 1\), \(1, 2, 6, 1\)",
    ),
    "attention: batches": (
        lambda: ag.attention(ones(2, 2, 6), *[ones(1, 2, 6)] * 2),
        r"attention: expected q",
    ),
    "attention: no keys": (lambda: ag.attention(ones(1, 2, 6), *[ones(1, 0, 6)] * 2), r"M ≥ 1"),
    "upsample_nearest: no batch": (
        lambda: ag.upsample_nearest(ones(4, 4, 1)),
        r"upsample_nearest: expected",
    ),
    "upsample_nearest: factor": (lambda: ag.upsample_nearest(ones(1, 4, 4, 1), factor=0), r"factor"),
    "average_pool: no batch": (lambda: ag.average_pool(ones(4, 4, 1)), r"average_pool: expected"),
    "average_pool: size": (lambda: ag.average_pool(ones(1, 4, 4, 1), size=0), r"size"),
    "average_pool: odd": (
        lambda: ag.average_pool(ones(1, 4, 3, 1)),
        r"4×3 pixels cannot be divided into 2×2 squares",
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
        r"expected logits \(B, K\) with B ≥ 1, got \(2, 3, 3\)",
    ),
    "cross_entropy: logits of nothing": (
        lambda: ag.cross_entropy(ones(0, 3), labels=np.zeros(0, int)),
        r"expected logits \(B, K\) with B ≥ 1, got \(0, 3\)",
    ),
    "cross_entropy: one-hot labels": (
        lambda: ag.cross_entropy(ones(2, 3), labels=np.ones((2, 3), int)),
        r"expected \(2,\) integer labels",
    ),
    "cross_entropy: real labels": (
        lambda: ag.cross_entropy(ones(2, 3), labels=np.ones(2)),
        r"expected \(2,\) integer labels, got float64",
    ),
    "cross_entropy: past the end": (
        lambda: ag.cross_entropy(ones(2, 3), labels=np.array([0, 3])),
        r"labels must lie in 0…2, got 0…3",
    ),
    "mse: would broadcast": (lambda: ag.mse(ones(3), ones(3, 1)), r"one shape, got \(3,\) and \(3, 1\)"),
}


@pytest.mark.parametrize("wrong", REFUSED)
def test_wrong_arguments_raise_an_error_of_one_line(wrong):
    call, message = REFUSED[wrong]
    with pytest.raises(ValueError, match=message) as refusal:
        call()
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "index, error, message",
    [
        ([[0, 3]], IndexError, "must lie in 0…2, but spans 0…3"),
        ([[0.5, 1.0]], TypeError, "index must hold integers"),
        ([[0, 1], [0, 1]], ValueError, "index must have shape"),
    ],
    ids=["past the end", "real", "more conditions than tables"],
)
def test_a_perceptron_refuses_an_index_that_does_not_fit_its_tables(index, error, message):
    with pytest.raises(error, match=message):
        conditioned(index)
