"""Wrong fillings of the exercises of session 9: (function, in its solution, in its place, words of the hint)."""

FILLINGS = [
    ("join", "low.repeat(2, axis=1).repeat(2, axis=2)", "np.tile(low, (1, 2, 2, 1))", "is it np.tile"),
    ("join", "[cut, skip]", "[skip, cut]", "is the skip first"),
    ("join", "np.concatenate([cut, skip], axis=3)", "cut + skip", "are they added"),
    ("join", "axis=3", "axis=1", "along the height"),
    ("join", "axis=3", "axis=0", "along the batch"),
    ("join", "wide[:, : skip.shape[1], : skip.shape[2]]", "wide", "raised ValueError"),
    (
        "clipped",
        "np.clip((x_t - sigma * eps) / signal, low, high)",
        "(x_t - sigma * eps) / signal",
        "forgotten to clip",
    ),
    (
        "clipped",
        "np.clip((x_t - sigma * eps) / signal, low, high)",
        "(np.clip(x_t, low, high) - sigma * eps) / signal",
        "is x_t clipped",
    ),
    ("clipped", "(x_t - signal * x0) / sigma", "eps", "it contradicts x_t"),
    ("clipped", "(x_t - signal * x0) / sigma", "(x_t - sigma * x0) / signal", "have you exchanged"),
    ("clipped", "(x_t - signal * x0) / sigma", "(x_t - signal * x0) / sigma**2", "where its root belongs"),
    ("guided", "free + w * (given - free)", "(1 + w) * given - w * free", "Theirs is one less"),
    ("guided", "free + w * (given - free)", "given + w * (free - given)", "exchanged"),
    ("guided", "free + w", "free - w", "turned round"),
    ("guided", "free + w * (given", "given + w * (given", "Theirs is one less"),
    ("guided", "w * (given - free)", "w * given", "1 − w"),
    ("guided", "free + ", "", "left out"),
]
