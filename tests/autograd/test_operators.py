"""The operators and methods of a tensor: the rules of the table under the names that NumPy people write."""

import operator

import numpy as np
import pytest

from minidiff import autograd as ag
from minidiff.autograd import Tensor, rules
from minidiff.autograd.check import check_gradient

A = np.array([[1.5, -0.5, 2.0], [0.7, -1.2, 0.4]])
B = np.array([0.3, -2.0, 1.1])
SQUARE = np.array([[0.2, -1.0], [0.5, 3.0]])

# What is written, the same in NumPy alone, and the arrays it is written of.
WRITTEN = {
    "__add__": (operator.add, (A, B)),
    "__radd__": (lambda a: 2 + a, (A,)),
    "__sub__": (operator.sub, (A, B)),
    "__rsub__": (lambda a: 2 - a, (A,)),
    "__mul__": (operator.mul, (A, B)),
    "__rmul__": (lambda a: 3 * a, (A,)),
    "__truediv__": (operator.truediv, (A, B)),
    "__rtruediv__": (lambda a: 1 / a, (A,)),
    "__neg__": (operator.neg, (A,)),
    "__pow__": (lambda a: a**3, (A,)),
    "__matmul__": (operator.matmul, (SQUARE, A)),
    "__rmatmul__": (lambda a: SQUARE @ a, (A,)),
    "__getitem__": (lambda a: a[1, ::-1], (A,)),
    "sum": (lambda a: a.sum(axis=-1, keepdims=True), (A,)),
    "mean": (lambda a: a.mean(axis=(0, 1)), (A,)),
    "reshape": (lambda a: a.reshape(3, -1), (A,)),
    "transpose": (lambda a: a.transpose(1, 0), (A,)),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_operator_has_the_value_of_numpy_and_the_gradient_of_differences(name):
    function, arrays = WRITTEN[name]
    np.testing.assert_allclose(function(*map(Tensor, arrays)).data, function(*arrays), rtol=1e-14)
    check_gradient(function, *arrays)


def test_every_operator_and_method_that_the_table_adds_is_held_here():
    added = {name for name, f in vars(Tensor).items() if getattr(f, "__module__", None) == rules.__name__}
    assert added == set(WRITTEN)


def test_reshape_and_transpose_take_a_tuple_as_numpy_does():
    a = Tensor(A)
    np.testing.assert_array_equal(a.reshape((3, 2)).data, A.reshape(3, 2))
    np.testing.assert_array_equal(a.transpose((1, 0)).data, A.T)
    np.testing.assert_array_equal(a.transpose().data, A.T)


BINARY = [operator.add, operator.sub, operator.mul, operator.truediv]


@pytest.mark.parametrize("operation", [*BINARY, operator.matmul])
def test_array_and_tensor_make_a_tensor_whichever_stands_first(operation):
    for a, b in ((SQUARE, Tensor(SQUARE)), (Tensor(SQUARE), SQUARE)):
        out = operation(a, b)
        assert isinstance(out, Tensor) and out.dtype == np.float64
        np.testing.assert_allclose(out.data, operation(SQUARE, SQUARE), rtol=1e-14)


@pytest.mark.parametrize("number", [2, 2.0, True, np.float32(2), np.float64(2), np.int64(2)], ids=repr)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_number_of_python_or_numpy_does_not_change_the_dtype(number, dtype):
    x = Tensor(np.array([1.0, 4.0], dtype), requires_grad=True)
    for operation in BINARY:
        for out in (operation(x, number), operation(number, x)):
            assert isinstance(out, Tensor) and out.dtype == dtype
    others = (
        x**number,
        ag.clip(x, low=number, high=3 * number),
        ag.maximum(x, number),
        ag.where(np.array([True, False]), x, number),
    )
    for out in others:
        assert out.dtype == dtype
        out.sum().backward()
        assert x.grad.dtype == dtype


def test_rows_of_a_tensor_can_be_iterated_and_differentiated():
    x = Tensor(A, requires_grad=True)
    first, second = x
    (first * second).sum().backward()
    np.testing.assert_array_equal(x.grad, A[::-1])


@pytest.mark.parametrize(
    "misuse",
    [lambda x: 2**x, lambda x: x**x, lambda x: np.exp(x), lambda x: np.add(A, x), lambda x: x + "1"],
    ids=["2**x", "x**x", "np.exp", "np.add", "str"],
)
def test_what_has_no_rule_is_a_type_error_and_not_an_array_of_objects(misuse):
    with pytest.raises(TypeError):
        misuse(Tensor(A))


@pytest.mark.parametrize("taken", [np.asarray, np.mean, Tensor], ids=["np.asarray", "np.mean", "Tensor"])
def test_a_tensor_is_not_taken_for_a_list_of_numbers(taken):
    with pytest.raises(TypeError):
        taken(Tensor(A, requires_grad=True))
