"""Checks of session 4: gradients against finite differences in every entry, and against the package's engine."""

from collections.abc import Callable

import numpy as np
from comparison import compare

from minidiff import autograd


def check_softplus(f: Callable) -> str | None:
    """The derivative is eᵃ/(1 + eᵃ), times g. To avoid overflow: log(1 + eᵃ) = max(a, 0) + log(1 + e^(−|a|))."""
    a, g = np.array([[-2.0, -0.5, 0.0], [0.7, 1.5, 3.0]]), np.array([[1.0, -2.0, 0.5], [3.0, -1.0, 2.0]])
    with np.errstate(all="ignore"):
        out, vjp = f(a.copy())
        value, derivative = np.log1p(np.exp(a)), 1 / (1 + np.exp(-a))
        errors = {
            "have you forgotten the 1?": a,
            "is it log₂ or log₁₀? Take the natural logarithm": value / np.log(2),
            "is it the sigmoid? That is its derivative": derivative,
        }
        wrong = compare("softplus of numbers from −2 to 3", out, value, errors)
        errors = {
            "have you forgotten to multiply by g?": derivative,
            "have you multiplied by softplus itself? Its derivative is the sigmoid": g * value,
            "is the sign in the exponent turned round? The derivative rises from 0 to 1": g
            * (1 - derivative),
            "is it the derivative of the sigmoid, one derivative too many?": g
            * derivative
            * (1 - derivative),
        }
        wrong = wrong or compare("the vjp", vjp(g.copy()), g * derivative, errors)
        if wrong:
            return wrong
        autograd.check_gradient(autograd.rule(f), a)
        large = np.array([-1000.0, 1000.0])
        out, vjp = f(large)
        hint = {"does eᵃ overflow? It need not be computed for a > 0": [0.0, np.inf]}
        wrong = compare("softplus at −1000 and 1000", np.nan_to_num(out, posinf=np.inf), [0.0, 1000.0], hint)
        hint = {"is it ∞/∞? Divide by eᵃ first": [0.0, np.inf]}
        return wrong or compare(
            "the vjp at −1000 and 1000", np.nan_to_num(vjp(np.ones(2)), nan=np.inf), [0.0, 1.0], hint
        )


def check_backward(f: Callable) -> str | None:
    """Begin with ∂L/∂L = 1, visit the last value first, and add each contribution to what is there."""
    # 0: a = 3, 1: b = 2, 2: c = a·b, 3: d = c·c, 4: e = a + d, 5: L = c·e; c is used three times, a twice
    a, b = 3.0, 2.0
    c, d = a * b, (a * b) ** 2
    e = a + d
    tape = [
        ((), ()),
        ((), ()),
        ((0, 1), (lambda g: g * b, lambda g: g * a)),
        ((2, 2), (lambda g: g * c, lambda g: g * c)),
        ((0, 3), (lambda g: g, lambda g: g)),
        ((2, 4), (lambda g: g * e, lambda g: g * c)),
    ]
    of_c = e + 2 * c * c
    expected = [of_c * b + c, of_c * a, of_c, c, c, 1.0]
    got = list(f(tape))
    errors = {
        "have you begun with 0? ∂L/∂L is 1": [0.0] * 6,
        "have you assigned a contribution where it is to be added? c is used three times": (
            [c * c * b, c * c * a, c * c, c, c, 1.0]
        ),
        "have you visited the first value first? Its gradient is not complete before all that use it": (
            [0.0, 0.0, e, 0.0, c, 1.0]
        ),
        "have you left out the vjp?": [4.0, 3.0, 3.0, 1.0, 1.0, 1.0],
    }
    return compare("∂L/∂ of the values 0…5 of L = c(a + c²), c = ab, at a = 3, b = 2", got, expected, errors)


def check_fit(f: Callable) -> str | None:
    """Sum over what was repeated: over axes that were added at the front, then over those of length 1, which stay."""
    rng = np.random.default_rng(0)
    cases = (
        ((3,), (2, 3)),
        ((1, 3), (2, 3)),
        ((2, 1), (2, 3)),
        ((2, 3), (2, 3)),
        ((), (2, 3)),
        ((2, 1), (4, 2, 3)),
    )
    for shape, wide in cases:
        g = rng.standard_normal(wide)
        a = autograd.Tensor(np.zeros(shape), requires_grad=True)
        (a + np.zeros(wide)).backward(g)
        front = tuple(range(len(wide) - len(shape)))
        ones = tuple(i + len(front) for i, n in enumerate(shape) if n == 1 and wide[i + len(front)] != 1)
        errors = {
            "is it the mean? Each of the copies counts in full": g.mean(axis=(*front, *ones)).reshape(shape),
            "have you taken the first copy alone? All of them count": (
                g[tuple(0 if i in (*front, *ones) else slice(None) for i in range(g.ndim))].reshape(shape)
            ),
            "have the axes of length 1 been dropped? Take keepdims=True": g.sum(axis=(*front, *ones)),
            "have you left the axes of length 1 unsummed?": g.sum(axis=front),
            "have you left the added axes unsummed?": g,
        }
        if wrong := compare(f"fit(g of shape {wide}, {shape})", f(g.copy(), shape), a.grad, errors):
            return wrong
    return None
