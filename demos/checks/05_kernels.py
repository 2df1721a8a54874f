"""Checks of session 5: the reference of the kernels, finite differences, and numbers with a large mean."""

from collections.abc import Callable

import numpy as np
from comparison import compare

from minidiff import autograd
from minidiff.kernels import reference


def check_linear_backward(f: Callable) -> str | None:
    """Each gradient has the shape of its argument: g wᵀ, xᵀ g, and for b, which every row uses, a sum over the rows."""
    rng = np.random.default_rng(0)
    g, x, w = rng.standard_normal((3, 3)), rng.standard_normal((3, 3)), rng.standard_normal((3, 3))
    dx, dw, db = f(g.copy(), x.copy(), w.copy())
    errors = {
        "have you forgotten to transpose w?": g @ w,
        "have you exchanged the factors?": w.T @ g,
    }
    wrong = compare("the gradient in x", dx, reference.linear_backward_input(g, w), errors)
    errors = {
        "have you forgotten to transpose x?": x @ g,
        "is it the transpose? The gradient has the shape of w": g.T @ x,
        "is it a mean over the rows? L depends on each of them in full": x.T @ g / 3,
    }
    wrong = wrong or compare("the gradient in w", dw, reference.linear_backward_weight(x, g), errors)
    errors = {
        "is it a mean over the rows? Each of them adds its gradient": g.mean(axis=0),
        "is it a sum over the outputs? b has an entry for each output": g.sum(axis=1),
        "have you left the rows unsummed? Each of them used the same b": g,
    }
    return wrong or compare("the gradient in b", db, g.sum(axis=0), errors)


def check_normalise_backward(f: Callable) -> str | None:
    """r [h − mean(h) − x̂ mean(h x̂)], with the means over each row: axis 1, keepdims=True."""
    rng, eps = np.random.default_rng(1), 1e-3
    x, h = rng.standard_normal((2, 4, 4)) * [[[1.0]], [[2.0]]]
    rstd = 1 / np.sqrt(x.var(axis=1, keepdims=True) + eps)
    x_hat = (x - x.mean(axis=1, keepdims=True)) * rstd
    mean, along = h.mean(axis=1, keepdims=True), (h * x_hat).mean(axis=1, keepdims=True)
    dx = f(h.copy(), x_hat.copy(), rstd.copy())
    all_means = h.mean(), (h * x_hat).mean()
    down = h.mean(axis=0), (h * x_hat).mean(axis=0)
    errors = {
        "have you left out the path by the variance? r depends on x too": rstd * (h - mean),
        "have you left out the path by the mean?": rstd * (h - x_hat * along),
        "have you left out both paths? The mean and r depend on x": rstd * h,
        "have you forgotten the factor r?": h - mean - x_hat * along,
        "is the sign of the last term turned round?": rstd * (h - mean + x_hat * along),
        "have you left out the factor x̂ of the last term?": rstd * (h - mean - along),
        "are the means over all rows? Each row has its own": rstd * (h - all_means[0] - x_hat * all_means[1]),
        "are the means over the wrong axis? A row is one group": rstd * (h - down[0] - x_hat * down[1]),
        "are they sums where means belong?": rstd * (h - 4 * mean - 4 * x_hat * along),
    }
    expected = rstd * (h - mean - x_hat * along)
    sums = f" (which sums to {np.sum(np.ravel(dx)[:4]):.2g} in the first row, where 0 is right)"
    wrong = compare(f"the gradient{sums}", dx, expected, errors)
    if wrong:
        return wrong

    @autograd.rule
    def normalise(x: np.ndarray) -> tuple:
        rstd = 1 / np.sqrt(x.var(axis=1, keepdims=True) + eps)
        x_hat = (x - x.mean(axis=1, keepdims=True)) * rstd
        return x_hat, lambda h: f(h, x_hat, rstd)

    autograd.check_gradient(normalise, x)
    return None


def check_combine(f: Callable) -> str | None:
    """The mean is weighted by the counts; to the squares of both parts add d² n_a n_b/n, with d = mean_b − mean_a."""
    for offset in (0.0, 1e8):  # with the second, squares of the means would leave no digits
        a, b = np.array([1.0, 2.0]) + offset, np.array([4.0, 6.0, 5.0, 8.0]) + offset
        parts = [(len(p), p.mean(), ((p - p.mean()) ** 2).sum()) for p in (a, b)]
        (n, m, s), (k, o, r) = parts
        both = np.concatenate([a, b])
        count, mean, squares = f(*parts[0], *parts[1])
        where = f"for numbers near {offset:g}, " if offset else ""
        wrong = compare(f"{where}the count", count, 6)
        errors = {
            "is it the mean of the means? The larger part counts more": (m + o) / 2,
            "have you exchanged the counts?": (k * m + n * o) / 6,
        }
        wrong = wrong or compare(f"{where}the mean", mean, both.mean(), errors, 1e-15)
        d = o - m
        errors = {
            "have you left out the difference of the means?": s + r,
            "have you forgotten to divide by n?": s + r + d**2 * n * k,
            "have you forgotten to square the difference?": s + r + d * n * k / 6,
            "is it the variance? Here the sum of the squares is kept": (s + r + d**2 * n * k / 6) / 6,
            "have you turned the sign of the last term round?": s + r - d**2 * n * k / 6,
        }
        right = ((both - both.mean()) ** 2).sum()
        wrong = wrong or compare(f"{where}Σ(x − mean)²", squares, right, errors)
        if wrong and offset:
            return f"{wrong}: have you subtracted large numbers? Use the difference of the means alone"
        if wrong:
            return wrong
    return None
