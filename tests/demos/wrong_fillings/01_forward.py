"""Wrong fillings of the exercises of session 1: (function, in its solution, in its place, words of the hint)."""

FILLINGS = [
    ("step", "np.sqrt(beta)", "beta", "have you scaled z by β"),
    ("step", "np.sqrt(1 - beta)", "1 - beta", "have you scaled x by α"),
    ("step", "np.sqrt(1 - beta)", "1.0", "have you left x as it was"),
    ("step", "np.sqrt(1 - beta)", "np.sqrt(1 - beta**2)", "√(1 − β²)"),
    ("step", "signal * x + noise * z", "noise * x + signal * z", "have you exchanged the factors"),
    ("step", "+", "-", "have you subtracted the noise"),
    # F4 of EQUATIONS.md, Errata: A's product runs to T, those of C and E begin at α_0
    ("alpha_bars", "np.cumprod(1 - betas)", "np.full(len(betas), np.prod(1 - betas))", "run to T at every t"),
    ("alpha_bars", "np.cumprod(1 - betas)", "[1.0], np.cumprod(1 - betas)[:-1]", "one α early"),
    ("alpha_bars", "[1.0], ", "", "have you forgotten ᾱ_0 = 1"),
    ("alpha_bars", "1 - betas", "betas", "have you multiplied the β"),
    ("alpha_bars", "np.cumprod(1 - betas)", "1 - np.cumsum(betas)", "have you added the β up"),
    ("alpha_bars", "1 - betas", "np.sqrt(1 - betas)", "have you taken square roots"),
    # F5 of EQUATIONS.md, Errata
    ("jump", "1 - alpha_bar)", "1 - alpha_bar**2)", "have you squared ᾱ inside the root"),
    ("jump", "np.sqrt(1 - alpha_bar)", "(1 - alpha_bar)", "have you scaled ε by 1 − ᾱ"),
    ("jump", "np.sqrt(alpha_bar)", "alpha_bar", "have you scaled x_0 by ᾱ"),
    ("jump", "+", "-", "have you subtracted the noise"),
    ("jump", "alpha_bar.reshape(-1, 1, 1, 1)", "alpha_bar", "paired ᾱ with the last axis"),
    (
        "jump",
        "alpha_bar.reshape(-1, 1, 1, 1)",
        "alpha_bar[:, None]",
        "with the rows",
    ),
]
