"""Wrong fillings of the exercises of session 5: (function, in its solution, in its place, words of the hint)."""

SQUARES = "squares_a + squares_b + difference**2 * count_a * count_b / count"

FILLINGS = [
    ("linear_backward", "g @ w.T", "g @ w", "to transpose w"),
    ("linear_backward", "g @ w.T", "w.T @ g", "have you exchanged the factors"),
    ("linear_backward", "x.T @ g", "x @ g", "to transpose x"),
    ("linear_backward", "x.T @ g", "g.T @ x", "is it the transpose"),
    ("linear_backward", "x.T @ g", "x.T @ g / len(g)", "is it a mean over the rows"),
    ("linear_backward", "g.sum(axis=0)", "g.mean(axis=0)", "is it a mean over the rows"),
    ("linear_backward", "g.sum(axis=0)", "g.sum(axis=1)", "is it a sum over the outputs"),
    ("linear_backward", "g.sum(axis=0)", "g", "have you left the rows unsummed"),
    ("normalise_backward", " - along", "", "the path by the variance"),
    ("normalise_backward", " - mean", "", "the path by the mean"),
    ("normalise_backward", " - mean - along", "", "both paths"),
    ("normalise_backward", "rstd * ", "", "the factor r"),
    ("normalise_backward", "- along", "+ along", "is the sign of the last term"),
    ("normalise_backward", "x_hat * (h", "(h", "the factor x̂ of the last term"),
    ("normalise_backward", "h.mean(axis=1, keepdims=True)", "h.mean(axis=0)", "with the means over each row"),
    (
        "normalise_backward",
        ".mean(axis=1, keepdims=True)\n    return",
        ".sum(axis=1, keepdims=True)\n    return",
        "with the means over each row",
    ),
    ("combine", "mean_a + difference * count_b / count", "(mean_a + mean_b) / 2", "the mean of the means"),
    ("combine", "difference * count_b", "difference * count_a", "have you exchanged the counts"),
    ("combine", SQUARES, "squares_a + squares_b", "have you left out the difference"),
    ("combine", "count_b / count\n    return", "count_b\n    return", "to divide by n"),
    ("combine", "difference**2", "difference", "to square the difference"),
    ("combine", SQUARES, f"({SQUARES}) / count", "is it the variance"),
    ("combine", "+ difference**2", "- difference**2", "have you turned the sign"),
    (
        "combine",
        SQUARES,
        "squares_a + squares_b + count_a * mean_a**2 + count_b * mean_b**2 - count * mean**2",
        "have you subtracted large numbers",
    ),
]
