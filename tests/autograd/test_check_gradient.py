"""check_gradient must be able to fail: it detects every kind of wrong rule, and passes right ones."""

import numpy as np
import pytest

from minidiff import autograd as ag
from minidiff.autograd import Tensor, rule
from minidiff.autograd.check import check_gradient

A = np.array([[0.5, -1.5, 2.0], [1.0, 0.3, -0.7]])
B = np.array([[2.0, 0.4, -1.0], [0.6, -0.2, 1.3]])


BROKEN_VJPS = {
    "a sign": lambda g, a, b: -g * b,
    "a factor": lambda g, a, b: 2 * g * b,
    "a factor of one in a thousand": lambda g, a, b: 1.001 * g * b,
    "the other argument": lambda g, a, b: g * a,
    "g left out": lambda g, a, b: b,
    "nothing": lambda g, a, b: np.zeros_like(a),
    "NaN": lambda g, a, b: g * np.nan,
    "one entry alone": lambda g, a, b: g * b + np.where(np.arange(6).reshape(2, 3) == 5, 1e-4, 0),
    "entries in reverse": lambda g, a, b: (g * b)[:, ::-1],
    "entries in column order": lambda g, a, b: (g * b).T.reshape(2, 3),
}


@pytest.mark.parametrize("broken", BROKEN_VJPS)
@pytest.mark.parametrize("argument", [0, 1])
def test_a_wrong_vjp_is_detected_and_its_argument_named(broken, argument):
    @rule
    def wrong(a, b):
        vjps = [lambda g: g * b, lambda g: g * a]
        vjps[argument] = lambda g: BROKEN_VJPS[broken](g, *((a, b) if argument == 0 else (b, a)))
        return a * b, *vjps

    with pytest.raises(AssertionError, match=f"argument {argument}"):
        check_gradient(wrong, A, B)


def test_a_wrong_permutation_of_axes_is_detected():
    @rule
    def wrong(a):
        return a.transpose(1, 0, 2), lambda g: g.transpose(2, 1, 0).reshape(a.shape)

    with pytest.raises(AssertionError, match="argument 0"):
        check_gradient(wrong, np.arange(8.0).reshape(2, 2, 2))


@pytest.mark.parametrize(
    "smaller",
    [lambda g: g, lambda g: np.full(3, g), lambda g: np.full((2, 1), g)],
    ids=["0-d", "an axis missing", "an axis of one"],
)
def test_a_gradient_of_the_wrong_shape_is_detected_even_if_it_would_broadcast(smaller):
    @rule
    def wrong(a):
        return np.sum(a), smaller

    message = r"rule 'wrong': the vjp of argument 0 must return a gradient of shape \(2, 3\); got "
    with pytest.raises(AssertionError, match=message):
        check_gradient(wrong, A)


def test_a_missing_gradient_is_detected():
    with pytest.raises(AssertionError, match="argument 1"):
        check_gradient(lambda a, b: a * b.detach(), A, B)


def test_the_error_names_the_index_and_both_values():
    @rule
    def wrong(a):
        return 3 * a, lambda g: 3 * g + np.where(a == A[1, 2], 10, 0)

    with pytest.raises(AssertionError, match=r"argument 0 at \(1, 2\): backward gives .*, differences give "):
        check_gradient(wrong, A)


def test_a_vjp_that_changes_g_is_detected():
    @rule
    def wrong(a):
        def vjp(g):
            g *= 2
            return g / 2

        return a + 0, vjp

    with pytest.raises(AssertionError, match="changed the gradient"):
        check_gradient(wrong, A)


def test_an_argument_changed_by_the_forward_pass_is_detected():
    @rule
    def wrong(a):
        a -= 1
        return a + 0, lambda g: g

    with pytest.raises(AssertionError, match="argument 0 was changed"):
        check_gradient(wrong, A)


def test_an_argument_changed_by_the_backward_pass_is_detected():
    @rule
    def wrong(a, b):
        def vjp(g):
            b[0] = 0
            return g

        return a + b, vjp, lambda g: g

    with pytest.raises(AssertionError, match="argument 1 was changed"):
        check_gradient(wrong, A, B)


def test_gradients_that_share_memory_are_detected(monkeypatch):
    def keep(self, gradient):
        self.grad = gradient

    monkeypatch.setattr(Tensor, "accumulate", keep)
    with pytest.raises(AssertionError, match="share memory"):
        check_gradient(ag.add, A, B)


def test_a_point_without_a_derivative_does_not_pass():
    with pytest.raises(AssertionError):
        check_gradient(lambda a: a + np.where(a.data > 0, np.inf, 0), np.zeros(2))  # a jump
    with pytest.raises(AssertionError), np.errstate(invalid="ignore", divide="ignore"):
        check_gradient(ag.sqrt, np.zeros(2))  # NaN to one side
    with pytest.raises(AssertionError):
        check_gradient(ag.relu, np.zeros(2))  # a kink


@pytest.mark.parametrize("shape", [(), (1,), (0,), (2, 0), (1, 1, 1)])
def test_right_rules_pass_at_any_shape(shape):
    check_gradient(lambda a, b: a * b + a, np.full(shape, 0.5), np.full(shape, 2.0))


def test_the_arrays_passed_in_are_not_changed_even_by_a_rule_that_writes():
    given = A.copy()

    @rule
    def wrong(a):
        a -= 1
        return a + 0, lambda g: g

    with pytest.raises(AssertionError):
        check_gradient(wrong, given)
    np.testing.assert_array_equal(given, A)
