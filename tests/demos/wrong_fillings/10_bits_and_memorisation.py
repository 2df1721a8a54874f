"""Wrong fillings of the exercises of session 10: (function, in its solution, in its place, words of the hint)."""

FILLINGS = [
    ("level_mass", "-math.inf if k == 0 else value - half", "value - half", "that of one"),
    ("level_mass", "half = 1 / (levels - 1)", "half = 2 / (levels - 1)", "half a level"),
    ("level_mass", "half = 1 / (levels - 1)", "half = 1 / levels", "1/levels is too narrow"),
    (
        "level_mass",
        "cdf((high - mean) / sigma) - cdf((low - mean) / sigma)",
        "math.exp(-((value - mean) ** 2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))",
        "is it the density",
    ),
    (
        "level_mass",
        "cdf((high - mean) / sigma) - cdf((low - mean) / sigma)",
        "cdf((high - mean) / sigma**2) - cdf((low - mean) / sigma**2)",
        "where σ belongs",
    ),
    ("bits_per_dim", " * math.log(2)", "", "have you forgotten log 2"),
    ("bits_per_dim", " * math.log(2)", " / math.log(2)", "have you multiplied by log 2"),
    ("bits_per_dim", "math.prod(shape)", "math.prod(shape[:2])", "the channels"),
    ("bits_per_dim", "math.prod(shape) * ", "", "the number of dimensions"),
    ("bits_per_dim", "steps.sum(axis=0)", "steps.mean(axis=0)", "averaged over t"),
    ("bits_per_dim", "prior + ", "", "left out L_T"),
    # V3 of EQUATIONS.md, Errata
    ("bits_per_dim", " + data", "", "Without it the sum is no bound"),
    ("bits_per_dim", " + steps.sum(axis=0)", "", "left out the steps"),
    ("best_x0", "(2 * (1 - alpha_bar))", "(1 - alpha_bar)", "lack ½"),
    ("best_x0", "(2 * (1 - alpha_bar))", "(2 * np.sqrt(1 - alpha_bar))", "where its square belongs"),
    ("best_x0", "np.sqrt(alpha_bar) * points", "points", "as F4 does"),
    ("best_x0", "-squares", "-np.sqrt(squares)", "is it the distance"),
    ("best_x0", "-squares", "squares", "farthest"),
    ("best_x0", " / weights.sum(axis=1, keepdims=True)", "", "sum of the weights"),
    ("best_x0", " - logits.max(axis=1, keepdims=True)", "", "subtract the largest exponent"),
    (
        "best_x0",
        "np.exp(logits - logits.max(axis=1, keepdims=True))",
        "(logits == logits.max(axis=1, keepdims=True))",
        "the nearest point alone",
    ),
]
