"""Mistakes in writing a rule raise an error that names the rule, what was expected and what was returned."""

import functools
import re

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from minidiff import autograd as ag
from minidiff.autograd import Tensor, no_grad, rule
from minidiff.autograd.check import check_gradient
from minidiff.autograd.tensor import jointly


def rule_returning(value, count, variadic):
    """A rule of `count` positional arguments, or of any number of them, that returns `value`."""
    if variadic:

        def mistaken(*arguments):
            return value

    else:
        names = ", ".join(f"a{i}" for i in range(count))
        mistaken = eval(f"lambda {names}: value", {"value": value})
        mistaken.__name__ = "mistaken"
    return rule(mistaken)


def apply(operation, count, recorded):
    arguments = [Tensor(np.ones(3), requires_grad=recorded) for _ in range(count)]
    return operation(*arguments)


def expected(count):
    return re.escape(
        f"rule 'mistaken' must return a tuple of {1 + count}: the result, then one vjp for each of its {count} "
        "positional arguments; got "
    )


counts, flags = st.integers(0, 4), st.booleans()


@given(counts, st.integers(0, 6), flags, flags)
def test_a_wrong_number_of_vjps_is_refused_when_the_rule_is_applied(count, vjps, variadic, recorded):
    assume(vjps != count)
    operation = rule_returning((np.ones(3), *[lambda g: g] * vjps), count, variadic)
    functions = ", ".join(["an array of shape (3,)", *["a function"] * vjps])
    with pytest.raises(TypeError, match=expected(count) + re.escape(f"a tuple of {1 + vjps}: ({functions})")):
        apply(operation, count, recorded)


@given(counts, st.data(), flags, flags)
def test_a_rule_that_returns_no_tuple_is_refused_even_if_it_would_unpack(count, data, variadic, recorded):
    rows = st.integers(0, 6) | st.just(1 + count)
    arrays = hnp.arrays(np.float64, st.tuples(rows) | st.tuples(rows, st.integers(0, 3)) | st.just(()))
    value = data.draw(
        arrays | st.none() | st.floats() | st.just([np.ones(3), *[lambda g: g] * count]) | st.just("ab")
    )
    with pytest.raises(TypeError, match=expected(count)):
        apply(rule_returning(value, count, variadic), count, recorded)


@given(st.integers(1, 4), st.data(), flags, flags)
def test_a_vjp_that_is_not_callable_is_refused(count, data, variadic, recorded):
    vjps = [lambda g: g] * count
    wrong = data.draw(st.sampled_from([None, 2.0, np.ones(3), (), [1]]))
    vjps[data.draw(st.integers(0, count - 1))] = wrong
    with pytest.raises(TypeError, match=expected(count)):
        apply(rule_returning((np.ones(3), *vjps), count, variadic), count, recorded)


@given(counts, flags, flags)
def test_a_rule_that_returns_vjps_and_no_result_is_refused(count, variadic, recorded):
    for vjps in (count, count + 1):
        with pytest.raises(TypeError, match=expected(count)):
            apply(rule_returning((lambda g: g,) * vjps, count, variadic), count, recorded)


@given(counts, flags, flags)
def test_a_rule_of_any_number_of_arguments_with_as_many_vjps_is_accepted(count, variadic, recorded):
    operation = rule_returning((np.ones(3), *[lambda g: g] * count), count, variadic)
    out = apply(operation, count, recorded)
    assert out.requires_grad == (recorded and count > 0)
    with no_grad():
        assert not apply(operation, count, recorded).requires_grad


def test_the_number_of_positional_arguments_counts_and_not_that_of_tensors():
    @rule
    def scaled(a, factor):
        return a * factor, lambda g: g * factor, lambda g: (g * a).sum()

    x = Tensor(np.ones(3), requires_grad=True)
    scaled(x, 2.0).sum().backward()
    np.testing.assert_array_equal(x.grad, [2, 2, 2])
    with pytest.raises(TypeError, match=r"a tuple of 2: .* got a tuple of 3"):
        scaled(x, factor=2.0)


# ---- gradients of the wrong shape

shapes = hnp.array_shapes(min_dims=0, max_dims=3, max_side=3)


def rule_with_gradients(gradients, joint):
    """A rule of as many arguments as there are gradients, which its vjps return whatever g is."""

    @rule
    def mistaken(*arguments):
        if joint:
            return np.ones(2), *jointly(len(gradients), lambda g: tuple(gradients))
        return np.ones(2), *(functools.partial(lambda i, g: gradients[i], i) for i in range(len(gradients)))

    return mistaken


@given(st.lists(st.tuples(shapes, flags), min_size=1, max_size=4), st.data(), flags)
def test_a_gradient_of_the_wrong_shape_is_refused_in_the_backward_pass(arguments, data, joint):
    """At a leaf and at a computed argument alike; the gradients of the arguments before it are right."""
    index = data.draw(st.integers(0, len(arguments) - 1))
    wrong = data.draw(shapes)
    assume(wrong != arguments[index][0])
    gradients = [np.ones(shape) for shape, _ in arguments]
    gradients[index] = np.ones(wrong)
    leaves = [Tensor(np.ones(shape), requires_grad=True) for shape, _ in arguments]
    tensors = [leaf if at_leaf else leaf * 1.0 for leaf, (_, at_leaf) in zip(leaves, arguments, strict=True)]
    out = rule_with_gradients(gradients, joint)(*tensors)
    message = (
        f"rule 'mistaken': the vjp of argument {index} must return a gradient of shape "
        f"{arguments[index][0]}; got an array of shape {wrong}"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        out.backward(np.ones(2))


@pytest.mark.parametrize("wrong", [None, "1", len, (), [1.0]], ids=repr)
@pytest.mark.parametrize("at_leaf", [True, False])
def test_a_gradient_that_is_no_number_is_refused_for_an_argument_of_shape_0d(wrong, at_leaf):
    leaf = Tensor(np.float64(3), requires_grad=True)
    out = rule_with_gradients([wrong], False)(leaf if at_leaf else leaf * 1.0)
    with pytest.raises(ValueError, match=r"argument 0 must return a gradient of shape \(\); got "):
        out.backward(np.ones(2))


@pytest.mark.parametrize("number", [2, 2.0, np.float32(2), np.float64(2), np.array(2.0)], ids=repr)
def test_a_number_is_a_gradient_of_shape_0d(number):
    leaf = Tensor(np.float64(3), requires_grad=True)
    rule_with_gradients([number], False)(leaf * 3.0).backward(np.ones(2))
    assert leaf.grad == 6


def test_the_shape_of_a_gradient_that_is_not_required_does_not_matter():
    x = Tensor(np.ones(2), requires_grad=True)
    rule_with_gradients([np.ones(2), np.ones(5)], False)(x, Tensor(np.ones(3))).backward(np.ones(2))
    np.testing.assert_array_equal(x.grad, [1, 1])


@given(st.integers(1, 4), st.data())
def test_a_joint_pass_must_return_a_tuple_of_one_gradient_for_each_argument(count, data):
    returned = data.draw(
        st.integers(0, 6).filter(lambda n: n != count).map(lambda n: (np.ones(2),) * n)
        | st.just(np.ones((count, 2)))
        | st.none()
    )

    @rule
    def mistaken(*arguments):
        def pass_of_mistaken(g):
            return returned

        return np.ones(2), *jointly(count, pass_of_mistaken)

    out = mistaken(*[Tensor(np.ones(2), requires_grad=True) for _ in range(count)])
    with pytest.raises(TypeError, match=f"mistaken.*must return a tuple of {count} gradients; got "):
        out.backward(np.ones(2))


def test_check_gradient_reports_a_wrong_shape_as_an_assertion():
    @rule
    def mistaken(a, b):
        return a + b, lambda g: g, lambda g: g

    check_gradient(mistaken, np.ones((2, 3)), np.ones((2, 3)))
    message = (
        r"rule 'mistaken': the vjp of argument 1 must return a gradient of shape \(3,\); got .* \(2, 3\)"
    )
    with pytest.raises(AssertionError, match=message):
        check_gradient(mistaken, np.ones((2, 3)), np.ones(3))


def test_arrays_passed_by_keyword_are_refused():
    x = Tensor(np.ones(3), requires_grad=True)
    with pytest.raises(TypeError):
        ag.multiply(a=x, b=x)
