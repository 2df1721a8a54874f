"""Wrong fillings of the exercises of session 4: (function, in its solution, in its place, words of the hint)."""

FORWARD = "np.maximum(a, 0) + np.log1p(np.exp(-np.abs(a)))"

FILLINGS = [
    ("softplus", FORWARD, "np.log(np.exp(a))", "have you forgotten the 1"),
    ("softplus", FORWARD, "np.log2(1 + np.exp(a))", "the natural logarithm"),
    ("softplus", FORWARD, "1 / (1 + np.exp(-a))", "is it the sigmoid"),
    ("softplus", FORWARD, "np.log(1 + np.exp(a))", "does eᵃ overflow"),
    ("softplus", "g * np.exp(a - out)", "np.exp(a - out)", "to multiply by g"),
    ("softplus", "g * np.exp(a - out)", "g * out", "by softplus itself"),
    ("softplus", "g * np.exp(a - out)", "g / (1 + np.exp(a))", "is the sign in the exponent"),
    ("softplus", "np.exp(a - out)", "np.exp(a - out) * (1 - np.exp(a - out))", "one derivative too many"),
    ("softplus", "np.exp(a - out)", "np.exp(a) / (1 + np.exp(a))", "is it ∞/∞"),
    ("backward", "gradients[-1] = 1.0", "gradients[-1] = 0.0", "have you begun with 0"),
    ("backward", "+= vjp", "= vjp", "have you assigned a contribution"),
    ("backward", "reversed(range(len(tape)))", "range(len(tape))", "have you visited the first value first"),
    ("backward", "vjp(gradients[number])", "gradients[number]", "have you left out the vjp"),
    ("backward", "vjp(gradients[number])", "vjp(1.0)", "Begin with ∂L/∂L = 1"),
    (
        "fit",
        "g.sum(axis=stretched, keepdims=True)",
        "g.mean(axis=stretched, keepdims=True)",
        "is it the mean",
    ),
    ("fit", "g.sum(axis=tuple(range(added)))", "g.mean(axis=tuple(range(added)))", "is it the mean"),
    ("fit", "g.sum(axis=tuple(range(added)))", "g[(0,) * added]", "the first copy alone"),
    ("fit", "keepdims=True", "keepdims=False", "Take keepdims=True"),
    ("fit", "g.sum(axis=stretched, keepdims=True)", "g", "the axes of length 1 unsummed"),
    ("fit", "g.sum(axis=tuple(range(added)))", "g", "the added axes unsummed"),
]
