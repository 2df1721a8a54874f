"""The operators and methods of a tensor: the rules under the names that they have in NumPy."""

import inspect
import operator
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minidiff import autograd as ag
from minidiff.autograd import Tensor
from minidiff.autograd.check import check_gradient

A = np.array([[1.5, -0.5, 2.0], [0.7, -1.2, 0.4]])
B = np.array([0.3, -2.0, 1.1])
SQUARE = np.array([[0.2, -1.0], [0.5, 3.0]])

# By the name of an operator or method: an expression that uses it, which NumPy evaluates too, and its arguments.
EXPRESSIONS = {
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
    "exp": (lambda a: a.exp() if isinstance(a, Tensor) else np.exp(a), (A,)),
    "log": (lambda a: a.log() if isinstance(a, Tensor) else np.log(a), (A * A,)),
    "sqrt": (lambda a: a.sqrt() if isinstance(a, Tensor) else np.sqrt(a), (A * A,)),
    "tanh": (lambda a: a.tanh() if isinstance(a, Tensor) else np.tanh(a), (A,)),
    "sum": (lambda a: a.sum(axis=-1, keepdims=True), (A,)),
    "mean": (lambda a: a.mean(axis=(0, 1)), (A,)),
    "max": (lambda a: a.max(axis=0, keepdims=True), (A,)),
    "reshape": (lambda a: a.reshape(3, -1), (A,)),
    "transpose": (lambda a: a.transpose(1, 0), (A,)),
    "T": (lambda a: a[None].T, (A,)),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_operator_has_the_value_of_numpy_and_the_gradient_of_differences(name):
    function, arrays = EXPRESSIONS[name]
    np.testing.assert_allclose(function(*map(Tensor, arrays)).data, function(*arrays), rtol=1e-14)
    check_gradient(function, *arrays)


def test_every_operator_and_method_that_applies_a_rule_is_tested_here():
    functions = {name: getattr(f, "fget", f) for name, f in vars(Tensor).items()}
    code = {name: f.__code__ for name, f in functions.items() if inspect.isfunction(f)}
    assert {name for name, c in code.items() if "rules" in c.co_names} == set(EXPRESSIONS)


@pytest.mark.parametrize("method", ["sum", "mean", "max"])
def test_a_reduction_without_an_axis_is_over_all_axes_and_drops_them(method):
    out = getattr(Tensor(A), method)()
    assert out.shape == () and out.item() == getattr(A, method)()
    assert getattr(Tensor(A), method)(1, True).shape == (2, 1)


def test_any_module_of_the_package_may_be_the_first_that_is_imported():
    """In one fresh process, the package's __init__, which imports all of them in its own order, replaced by a stub."""
    program = """
import importlib, sys, types, minidiff.autograd
path = minidiff.autograd.__path__
for first in ("check", "neural", "rules", "tape", "tensor"):
    for name in [name for name in sys.modules if name.startswith("minidiff.autograd")]:
        del sys.modules[name]
    stub = sys.modules["minidiff.autograd"] = types.ModuleType("minidiff.autograd")
    stub.__path__ = path
    importlib.import_module(f"minidiff.autograd.{first}")
    x = importlib.import_module("minidiff.autograd.tensor").Tensor([1.0, 2.0], requires_grad=True)
    (x * x).sum().backward()
    assert x.grad.tolist() == [2.0, 4.0], first
"""
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=root, check=False
    )
    assert run.returncode == 0, run.stderr


def test_reshape_and_transpose_take_a_tuple_as_numpy_does():
    a = Tensor(A)
    np.testing.assert_array_equal(a.reshape((3, 2)).data, A.reshape(3, 2))
    np.testing.assert_array_equal(a.transpose((1, 0)).data, A.T)
    np.testing.assert_array_equal(a.transpose().data, A.T)


BINARY = [operator.add, operator.sub, operator.mul, operator.truediv]


@pytest.mark.parametrize("operation", [*BINARY, operator.matmul])
def test_array_and_tensor_give_a_tensor_in_either_order(operation):
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
    with pytest.raises(TypeError):
        list(x.sum())


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
