"""Wrong fillings of the exercises of session 2: (function, in its solution, in its place, words of the hint)."""

FILLINGS = [
    (
        "product",
        "1 / (1 / variance_1 + 1 / variance_2)",
        "variance_1 + variance_2",
        "are the variances added",
    ),
    (
        "product",
        "1 / (1 / variance_1 + 1 / variance_2)",
        "1 / variance_1 + 1 / variance_2",
        "to invert the sum",
    ),
    (
        "product",
        "1 / (1 / variance_1 + 1 / variance_2)",
        "(variance_1 + variance_2) / 2",
        "a mean of the variances",
    ),
    (
        "product",
        "variance * (mean_1 / variance_1 + mean_2 / variance_2)",
        "(mean_1 * variance_1 + mean_2 * variance_2) / (variance_1 + variance_2)",
        "weighted by the variances",
    ),
    (
        "product",
        "variance * (mean_1 / variance_1 + mean_2 / variance_2)",
        "(mean_1 + mean_2) / 2",
        "weighted alike",
    ),
    # R3 of EQUATIONS.md, Errata: B/2A for −B/2A
    ("product", "variance * (", "-variance * (", "have you lost a minus"),
    ("product", "variance * (", "(", "to divide by the sum"),
    (
        "posterior",
        "(1 - alpha_bar_before) / (1 - alpha_bar) * beta",
        "beta",
        "have you used β where β̃ belongs",
    ),
    (
        "posterior",
        "(1 - alpha_bar_before) / (1 - alpha_bar) * beta",
        "(1 - alpha_bar) / (1 - alpha_bar_before) * beta",
        "have you exchanged ᾱ_t and ᾱ_{t−1}",
    ),
    (
        "posterior",
        "(1 - alpha_bar_before) / (1 - alpha_bar) * beta",
        "np.sqrt((1 - alpha_bar_before) / (1 - alpha_bar) * beta)",
        "is it the standard deviation",
    ),
    ("posterior", "/ (1 - alpha_bar) * beta", "/ (1 - alpha_bar)", "have you left out β"),
    ("posterior", "mean = (", "mean = -(", "is the sign of the mean turned round"),
    ("posterior", "beta * x0", "beta * x_t", "no bar is missing"),
    ("posterior", "np.sqrt(alpha_bar_before)", "np.sqrt(alpha_bar)", "ᾱ_t for ᾱ_{t−1} in the factor of x_0"),
    ("posterior", "np.sqrt(alpha)", "np.sqrt(alpha_bar)", "ᾱ_t for α_t in the factor of x_t"),
    # R4 of EQUATIONS.md, Errata: a plus before the noise, and √ᾱ_t
    ("reverse_step", "x_t -", "x_t +", "have you added the noise"),
    ("reverse_step", "schedule.alpha[t]", "schedule.alpha_bar[t]", "√ᾱ_t, with a bar"),
    ("reverse_step", "/ np.sqrt(schedule.alpha[t])", "* np.sqrt(schedule.alpha[t])", "undoes the shrinking"),
    ("reverse_step", "np.sqrt(schedule.alpha[t])", "schedule.alpha[t]", "have you divided by α_t"),
    (
        "reverse_step",
        "np.sqrt(schedule.one_minus_alpha_bar[t])",
        "schedule.one_minus_alpha_bar[t]",
        "have you forgotten the root",
    ),
    ("reverse_step", "schedule.beta[t]", "noise**2", "have you subtracted all"),
    ("reverse_step", "schedule.beta[t]", "np.sqrt(schedule.beta[t])", "√β_t for β_t"),
    ("reverse_step", "posterior_variance", "beta", "have you used β where β̃ belongs"),
    # R2 and S2 of EQUATIONS.md, Errata: a variance called a standard deviation
    (
        "reverse_step",
        "np.sqrt(schedule.posterior_variance[t])",
        "schedule.posterior_variance[t]",
        "the variance, where its square root belongs",
    ),
    ("reverse_step", "np.sqrt(schedule.posterior_variance[t])", "0.0", "have you left out the noise"),
    (
        "reverse_step",
        "posterior_variance[t]",
        "posterior_variance[max(t, 2)]",
        "is there noise at the last step",
    ),
]
