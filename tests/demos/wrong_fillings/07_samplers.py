"""Wrong fillings of the exercises of session 7: (function, in its solution, in its place, words of the hint)."""

SIGMA = "np.sqrt(schedule.posterior_variance[t]) if t > 1 else 0.0"

FILLINGS = [
    # R2 and S2 of EQUATIONS.md, Errata: a variance called, or used as, a standard deviation
    ("ddpm", SIGMA, "schedule.posterior_variance[t]", "have you scaled z by a variance"),
    ("ddpm", SIGMA, "np.sqrt(schedule.beta[t]) if t > 1 else 0.0", "have you used β where β̃ belongs?"),
    ("ddpm", SIGMA, "np.sqrt(schedule.beta[t])", "and added noise in the last step"),
    (
        "ddpm",
        SIGMA,
        "np.sqrt(schedule.posterior_variance[max(t, 2)])",
        "have you added noise in the last step",
    ),
    ("ddpm", SIGMA, "0.0", "have you left out the noise"),
    ("ddpm", "np.sqrt(schedule.alpha[t])", "np.sqrt(schedule.alpha_bar[t])", "ᾱ_t for α_t"),
    (
        "ddpm",
        "np.sqrt(schedule.alpha_bar[t - 1]) * schedule.beta",
        "np.sqrt(schedule.alpha_bar[t]) * schedule.beta",
        "ᾱ_t for ᾱ_{t−1}",
    ),
    (
        "ddpm",
        "+ np.sqrt(schedule.alpha_bar[t - 1])",
        "- np.sqrt(schedule.alpha_bar[t - 1])",
        "have you subtracted",
    ),
    ("ddpm", "/ noise * x\n", "/ noise * x0\n", "the mean of the samples of 20 steps"),
    ("ddpm", "yield State(t - 1, x, x0)", "yield State(t, x, x0)", "yields states at t = 20"),
    ("ddim_step", " - sigma**2", "", "noise is counted twice"),
    ("ddim_step", "sigma**2", "sigma", "have you subtracted σ, where σ² belongs"),
    ("ddim_step", "np.sqrt(a_s) * x0", "np.sqrt(a_t) * x0", "ᾱ_t for ᾱ_s"),
    ("ddim_step", "np.sqrt(a_s) * x0", "a_s * x0", "where √ᾱ_s belongs"),
    ("ddim_step", " + sigma * z", "", "left out the noise"),
    (
        "ddim_step",
        "np.sqrt((1 - a_s) / (1 - a_t)) * np.sqrt(1 - a_t / a_s)",
        "(1 - a_s) / (1 - a_t) * (1 - a_t / a_s)",
        "is your σ a variance",
    ),
    ("ddim_step", "eta * ", "", "have you left out η"),
    ("ddim_step", "1 - a_t / a_s", "1 - a_s / a_t", "is nan"),
    (
        "euler_maruyama",
        "schedule.beta[s + 1 : t + 1].sum()",
        "schedule.beta[t]",
        "the sum over all its times",
    ),
    ("euler_maruyama", "s + 1 : t + 1", "s : t + 1", "begin at s"),
    ("euler_maruyama", "s + 1 : t + 1", "s:t", "end before t"),
    ("euler_maruyama", "beta / 2 * x", "beta * x", "left out ½ before βx"),
    ("euler_maruyama", "+ beta / 2 * x", "- beta / 2 * x", "is the sign of ½βx right"),
    ("euler_maruyama", "- beta / np.sqrt", "+ beta / np.sqrt", "is the sign of ε̂ right"),
    ("euler_maruyama", "- beta / np.sqrt", "- beta / 2 / np.sqrt", "That is the ODE"),
    (
        "euler_maruyama",
        "np.sqrt(1 - schedule.alpha_bar[t])",
        "(1 - schedule.alpha_bar[t])",
        "is the root missing",
    ),
    ("euler_maruyama", "np.sqrt(beta)", "beta", "where √β belongs"),
    ("euler_maruyama", "np.sqrt(beta) * rng", "0 * rng", "left out the noise"),
]
