"""Wrong fillings of the exercises of session 6: (function, in its solution, in its place, words of the hint)."""

FILLINGS = [
    ("optimal_eps", "np.sqrt(1 - alpha_bar) * (x", "-(x", "is it the score"),
    ("optimal_eps", "np.sqrt(1 - alpha_bar) * (x", "-np.sqrt(1 - alpha_bar) * (x", "sign of the score"),
    ("optimal_eps", "(x - centre)", "x", "left out the mean"),
    ("optimal_eps", "np.sqrt(alpha_bar) * mean", "mean", "scaled by √ᾱ, as F4 does"),
    ("optimal_eps", "np.sqrt(alpha_bar) * mean", "alpha_bar * mean", "scaled by ᾱ, where √ᾱ belongs"),
    ("optimal_eps", "alpha_bar * variance + 1 - alpha_bar", "1 - alpha_bar", "as if x_0 were known"),
    ("optimal_eps", "alpha_bar * variance + 1", "variance + 1", "lack its factor ᾱ"),
    (
        "optimal_eps",
        "alpha_bar * variance + 1",
        "np.sqrt(alpha_bar) * variance + 1",
        "A variance takes the square",
    ),
    ("optimal_eps", "np.sqrt(1 - alpha_bar) * (x", "(1 - alpha_bar) * (x", "multiplied by 1−ᾱ"),
    (
        "update_ema",
        "kept * average + (1 - kept) * weights",
        "(1 - kept) * average + kept * weights",
        "exchanged",
    ),
    ("update_ema", "min(decay, (1 + step) / (10 + step))", "decay", "the smaller of the two"),
    ("update_ema", "min(", "max(", "the smaller of the two"),
    ("update_ema", "(1 - kept) * weights", "weights", "add up to 1"),
    ("update_ema", "kept * average + ", "", "left out the average"),
    ("from_v", "signal * x_t - sigma * v", "signal * x_t + sigma * v", "is the sign of v right"),
    ("from_v", "signal * x_t - sigma * v", "sigma * x_t - signal * v", "have you exchanged"),
    ("from_v", "signal * x_t - sigma * v", "(x_t - sigma * v) / signal", "have you taken v for ε"),
    ("from_v", "sigma * x_t + signal * v", "sigma * x_t - signal * v", "is the sign of v right"),
    ("from_v", "sigma * x_t + signal * v", "signal * x_t + sigma * v", "have you exchanged"),
    ("from_v", "eps = sigma * x_t + signal * v", "eps = v", "is it v itself"),
]
