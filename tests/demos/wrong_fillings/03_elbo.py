"""Wrong fillings of the exercises of session 3: (function, in its solution, in its place, words of the hint)."""

FILLINGS = [
    # V1 of EQUATIONS.md, Errata: a q too many, or without the expectation
    ("kl", "q * np.log", "q * q * np.log", "have you multiplied by q twice"),
    ("kl", "q * np.log", "np.log", "have you left out the weight q"),
    ("kl", "q * np.log(q / p)", "p * np.log(p / q)", "have you exchanged q and p"),
    ("kl", "q / p", "p / q", "have you turned the fraction over"),
    ("kl", "np.sum", "np.mean", "have you averaged"),
    ("kl", "np.log(", "np.log2(", "is it in bits"),
    ("kl", "np.log(q / p)", "np.abs(np.log(q / p))", "absolute values"),
    (
        "step_term",
        "variance = schedule.beta[t]",
        "variance = schedule.posterior_variance[t]",
        "have you taken β̃_t",
    ),
    ("step_term", "** 2 + constant", "** 2", "what V4 adds"),
    (
        "step_term",
        "schedule.posterior_variance[t] / variance",
        "variance / schedule.posterior_variance[t]",
        "over?",
    ),
    ("step_term", "(ratio - 1 - np.log(ratio)) / 2", "ratio - 1 - np.log(ratio)", "to halve the constant"),
    ("step_term", "(2 * variance", "(variance", "the 2 below the fraction"),
    ("step_term", " * schedule.alpha[t]", "", "have you left out α_t"),
    ("step_term", "schedule.alpha[t]", "schedule.alpha_bar[t]", "ᾱ_t for α_t"),
    ("step_term", "schedule.beta[t] ** 2", "schedule.beta[t]", "β_t for its square"),
    ("step_term", "schedule.one_minus_alpha_bar[t]", "schedule.alpha_bar[t]", "ᾱ_t for 1 − ᾱ_t"),
    # V8 of EQUATIONS.md, Errata: α_t for ᾱ_t, and a minus before the noise
    ("simple_loss", "schedule.alpha_bar[t]", "schedule.alpha[t]", "have you taken α_t for ᾱ_t"),
    ("simple_loss", "x0 + ", "x0 - ", "have you subtracted the noise"),
    ("simple_loss", "schedule.alpha_bar[t]", "schedule.alpha_bar[t - 1]", "have you taken ᾱ_{t−1}"),
    ("simple_loss", "[:, None]", "", "Make ᾱ_t a column"),
    ("simple_loss", "np.sqrt(1 - alpha_bar)", "(1 - alpha_bar)", "have you scaled ε by 1 − ᾱ_t"),
    ("simple_loss", "net(x_t, t)", "net(x_t, t - 1)", "are they counted from 0"),
    ("simple_loss", "(eps - net", "(x0 - net", "have you taken x_0 for the target"),
    ("simple_loss", "np.mean(", "np.sum(", "is it the sum"),
    ("simple_loss", "(eps - net(x_t, t)) ** 2", "eps - net(x_t, t)", "have you forgotten the square"),
    ("simple_loss", "(eps - net(x_t, t)) ** 2", "np.abs(eps - net(x_t, t))", "absolute values"),
    (
        "simple_loss",
        "np.mean((eps - net(x_t, t)) ** 2)",
        "np.sqrt(np.mean((eps - net(x_t, t)) ** 2))",
        "the root",
    ),
    ("simple_loss", "net(x_t, t)", "(net(x_t, t) + net(x_t, t)) / 2", "was evaluated 2 times"),
]
