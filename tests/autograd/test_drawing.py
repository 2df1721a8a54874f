"""The drawing of a tape has a line for each operation, in order, with what it was computed from."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidiff import autograd as ag
from minidiff.autograd import Tensor


def test_the_drawing_of_a_small_expression():
    x, w = Tensor(np.ones((4, 3))), Tensor(np.ones((3, 2)), requires_grad=True)
    y = ag.silu(x @ w)
    assert ag.draw(((y - 1.0) * y).sum(), w=w).splitlines() == [
        "   w         (3, 2)  leaf",
        "1  matmul    (4, 2)  of constant, w",
        "2  silu      (4, 2)  of 1",
        "3  subtract  (4, 2)  of 2, constant",
        "4  multiply  (4, 2)  of 3, 2",
        "5  sum       ()      of 4",
    ]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 100), st.integers(0, 100)), min_size=1, max_size=30))
def test_each_operation_behind_the_result_has_one_line_after_its_arguments(operations):
    values = [Tensor(np.ones(2), requires_grad=True)]
    arguments = {}
    for multiplied, i, j in operations:
        a, b = values[i % len(values)], values[j % len(values)]
        values.append(a * b if multiplied else a + b)
        arguments[len(values) - 1] = (
            "multiply" if multiplied else "add",
            i % (len(values) - 1),
            j % (len(values) - 1),
        )

    behind, pending = set(), [len(values) - 1]
    while pending:
        index = pending.pop()
        if index and index not in behind:
            behind.add(index)
            pending += arguments[index][1:]
    number = {index: str(n) for n, index in enumerate(sorted(behind), 1)} | {0: "x"}
    expected = [["x", "(2,)", "leaf"]]
    for index in sorted(behind):
        name, i, j = arguments[index]
        expected.append([number[index], name, "(2,)", "of", f"{number[i]},", number[j]])
    assert [line.split() for line in ag.draw(values[-1], x=values[0]).splitlines()] == expected


def test_a_leaf_without_a_name_is_called_leaf_and_drawing_leaves_the_tape_whole():
    x = Tensor(np.ones(2), requires_grad=True)
    y = (x * x).sum()
    assert ag.draw(y).splitlines()[0].split() == ["leaf", "(2,)", "leaf"]
    y.backward()
    assert np.all(x.grad == 2)


def test_without_a_tape_there_is_nothing_to_draw():
    x = Tensor(np.ones(2), requires_grad=True)
    y = (x * x).sum()
    y.backward()
    with pytest.raises(ValueError, match="'sum' was consumed by a backward pass"):
        ag.draw(y)
    for value in (x, Tensor(np.ones(2)), Tensor(np.ones(2)) + 1.0):
        with pytest.raises(ValueError, match="no tape behind it"):
            ag.draw(value)
