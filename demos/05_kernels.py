# %% [markdown]
# # Session 5 · Kernels, and a backward pass on paper
#
# Most of what a network computes is a few operations: matrix products, convolutions, normalisation. This session takes
# one of them, group norm, all the way: its backward pass derived on paper, checked, written as plain NumPy, and then as
# a *kernel*, a compiled loop that reads its input from memory once where NumPy reads it many times. It ends with what a
# computer adds to the mathematics: rounding.
#
# You need: session 4. Takes 20 seconds on two cores, most of them for compiling and timing.

# %%
import time

import numpy as np
from course import compare, save
from numba import njit

from minidiff import autograd, kernels, plots
from minidiff.kernels import reference

# %% [markdown]
# ## Group norm, forward
#
# Networks learn better where the numbers between their layers keep to a common scale. Group norm sees to that. It takes
# $n$ numbers $x_1, \ldots, x_n$ that belong together (all pixels of a group of channels of one image), and computes
#
# $$\mu = \frac1n \sum_j x_j, \qquad v = \frac1n \sum_j (x_j - \mu)^2, \qquad r = \frac{1}{\sqrt{v + \epsilon}}, \qquad
# \hat x_i = r\,(x_i - \mu), \qquad y_i = \gamma\, \hat x_i + \beta$$
#
# with a $\gamma$ and a $\beta$ for each channel, which are learned. The small $\epsilon$ guards against division by 0.
#
# ## Backward, on paper
#
# Given $g_i = \partial L/\partial y_i$. The learned numbers are easy: $\partial L/\partial\gamma = \sum g_i \hat x_i$
# and $\partial L/\partial\beta = \sum g_i$, over all that have this $\gamma$ and $\beta$. For $x$, let
# $h_i = \gamma g_i = \partial L/\partial\hat x_i$. Each $x_i$ acts in three ways: by itself, by $\mu$, and by $r$.
# First the variance:
#
# 1. $\frac{\partial v}{\partial x_i}$
# 2. $= \frac2n \sum_j (x_j - \mu)\left(\delta_{ij} - \frac1n\right)$, where $\delta_{ij}$ is 1 for $i = j$ and else 0:
#    $x_j$ moves only for $j = i$, but $\mu$ moves always, by $1/n$
# 3. $= \frac2n (x_i - \mu)$, since $\sum_j (x_j - \mu) = 0$
#
# Then the reciprocal standard deviation:
#
# 1. $\frac{\partial r}{\partial x_i}$
# 2. $= -\frac12 (v + \epsilon)^{-3/2}\, \frac{\partial v}{\partial x_i}$
# 3. $= -\frac{r^3}{n} (x_i - \mu)$, since $r^3 = (v+\epsilon)^{-3/2}$
# 4. $= -\frac{r^2}{n}\, \hat x_i$
#
# And with both, the gradient:
#
# 1. $\frac{\partial L}{\partial x_i}$
# 2. $= \sum_j h_j \frac{\partial \hat x_j}{\partial x_i} = \sum_j h_j \left[ r \left(\delta_{ij} - \frac1n\right) +
#    (x_j - \mu) \frac{\partial r}{\partial x_i}\right]$, by the rule for a product
# 3. $= r\, h_i - \frac{r}{n} \sum_j h_j - \frac{r^2}{n}\, \hat x_i \sum_j h_j (x_j - \mu)$, with the derivative of $r$
# 4. $= r \left[h_i - \overline{h} - \hat x_i\, \overline{h \hat x}\right]$, where a bar is the mean over $j$, and
#    $r (x_j - \mu) = \hat x_j$
#
# Read it: from $h$ its mean is taken away, and its component along $\hat x$. It must be so. If all $x$ are shifted by
# the same number, or scaled, $y$ does not change; so the gradient has no component in these directions.
#
# The first lines below are the complex step of session 4, once more.

# %%
EPSILON = 1e-3


def normalised(x):
    """x̂ of the numbers x (n,)."""
    mean = x.mean()
    return (x - mean) / np.sqrt(((x - mean) ** 2).mean() + EPSILON)


def rstd(x):
    """r = 1/√(v + ε)."""
    return 1 / np.sqrt(((x - x.mean()) ** 2).mean() + EPSILON)


def complex_step(f, x, h=1e-20):
    """The gradient of f, one real number of x (n,), in each entry of x."""
    return np.array([f(x + 1j * h * row).imag / h for row in np.eye(len(x))])


variance_lines = [
    lambda x: complex_step(lambda x: ((x - x.mean()) ** 2).mean(), x),
    lambda x: 2 / 6 * (x - x.mean()) @ (np.eye(6) - 1 / 6),
    lambda x: 2 / 6 * (x - x.mean()),
]
rstd_lines = [
    lambda x: complex_step(rstd, x),
    lambda x: -1 / 2 * (x.var() + EPSILON) ** (-3 / 2) * 2 / 6 * (x - x.mean()),
    lambda x: -(rstd(x) ** 3) / 6 * (x - x.mean()),
    lambda x: -(rstd(x) ** 2) / 6 * normalised(x),
]
gradient_lines = [
    lambda x, h: complex_step(lambda x: (h * normalised(x)).sum(), x),
    lambda x, h: (
        h @ (rstd(x) * (np.eye(6) - 1 / 6) + np.outer(x - x.mean(), -(rstd(x) ** 2) / 6 * normalised(x)))
    ),
    lambda x, h: (
        rstd(x) * h - rstd(x) / 6 * h.sum() - rstd(x) ** 2 / 6 * normalised(x) * (h * (x - x.mean())).sum()
    ),
    lambda x, h: rstd(x) * (h - h.mean() - normalised(x) * (h * normalised(x)).mean()),
]
compare("The derivative of the variance", variance_lines)
compare("The derivative of 1/√(v + ε)", rstd_lines)
compare("The gradient of normalisation", gradient_lines)

# %% [markdown]
# The package has the same formula in `kernels/reference.py`, over images and groups. A gradient check of the whole
# operation, and the two directions that the gradient must not have:

# %%
rng = np.random.default_rng(0)
images, gamma, beta = rng.standard_normal((2, 3, 3, 4)), rng.standard_normal(4), rng.standard_normal(4)
autograd.check_gradient(
    lambda x, c, b: autograd.group_norm(x, c, b, groups=2, eps=EPSILON), images, gamma, beta
)
print("group norm: the gradients in x, γ and β are right in every entry")
x, h = rng.standard_normal(50), rng.standard_normal(50)
dx = rstd(x) * (h - h.mean() - normalised(x) * (h * normalised(x)).mean())
print(f"component of the gradient along a shift: {dx.sum() / np.abs(dx).sum():.0e}")
print(f"component along a scaling: {(dx @ normalised(x)) / np.abs(dx).sum():.0e}, not quite 0 because of ε")

# %% [markdown]
# ## From NumPy to a kernel
#
# NumPy computes one operation at a time, each over the whole array. The formula above takes about eight passes: for the
# mean, the differences, their squares, the mean of these, the product with $r$, with $\gamma$, and the sum with
# $\beta$. Each pass reads an array, and most write another, for which NumPy requests memory anew. As long as the arrays
# fit into the caches that is cheap. When they do not, every pass waits for memory, which is slower than the arithmetic.
#
# A kernel does all the passes over one *group* before it goes on to the next. The group, a few thousand numbers, stays
# in the cache; from memory, each number is read once and written once. Numba compiles such loops from Python. Below is
# one for a single group per image; `kernels/normalisation.py` is the real one, which also runs on all cores, and adds
# its sums to totals in float64 every 32 lines.


# %%
@njit(fastmath={"reassoc", "contract", "nsz"})  # allows sums in another order, and hence vector instructions
def norm_kernel(x, gamma, beta, eps, y):
    """y ← group norm with one group, for each image x[i] (pixels · channels,), float32."""
    size, channels = x.shape[1], len(gamma)
    for i in range(len(x)):
        total = np.float32(0)
        for j in range(size):
            total += x[i, j]
        mean = total / np.float32(size)
        total = np.float32(0)
        for j in range(size):
            total += (x[i, j] - mean) ** 2
        r = np.float32(1 / np.sqrt(total / size + eps))
        for pixel in range(0, size, channels):
            for c in range(channels):
                y[i, pixel + c] = (x[i, pixel + c] - mean) * r * gamma[c] + beta[c]


def by_numpy(x, gamma, beta):
    return reference.group_norm(x, gamma, beta, 1, 1e-5, False)[0]


def by_one_loop(x, gamma, beta):
    y = kernels.empty((len(x), x[0].size), np.float32)  # memory that was used before, where there is some
    norm_kernel(x.reshape(y.shape), gamma, beta, 1e-5, y)
    return y.reshape(x.shape)


def by_package(x, gamma, beta):
    return kernels.group_norm(x, gamma, beta, 1, 1e-5, False)[0]


def nanoseconds(f, x, gamma, beta, rounds=7):
    """The time that f takes for each number of x: the shortest of several rounds, since others use the machine too."""
    durations = []
    for _ in range(rounds + 1):  # the first compiles
        begin = time.perf_counter()
        f(x, gamma, beta)
        durations.append(time.perf_counter() - begin)
    return 1e9 * min(durations[1:]) / x.size


gamma, beta = (rng.standard_normal(64, dtype=np.float32) for _ in range(2))
versions = {
    "NumPy, pass by pass": by_numpy,
    "one loop, one core": by_one_loop,
    "minidiff.kernels": by_package,
}
counts = (1, 4, 16, 64, 256, 1024)
timed = {name: [] for name in versions}
print("ns a number, for images of 8 × 8 pixels and 64 channels:", *versions, sep="   ")
for count in counts:
    x = rng.standard_normal((count, 8, 8, 64), dtype=np.float32)
    results = [f(x, gamma, beta) for f in versions.values()]
    assert all(np.abs(result - results[0]).max() < 1e-4 for result in results)
    for name, f in versions.items():
        timed[name].append(nanoseconds(f, x, gamma, beta))
    print(f"   {count:4d} images: " + "   ".join(f"{timed[name][-1]:6.2f}" for name in versions))

# %% [markdown]
# These times are of one machine at one moment, and yours will differ. The shape of the curves will not: pass by pass,
# the cost of a number jumps where the arrays outgrow the caches and their memory is requested anew; in one loop it
# changes far less. For a single image, much of the time is the call itself.
#
# ## What rounding does
#
# It is tempting to compute the variance in one pass, as $E[x^2] - E[x]^2$: the formula is right. But float32 has seven
# digits, and if the mean is 1000 times the standard deviation, both terms agree in six of them: only one is left. Hence
# the two passes of the loop above. There is also a way in one pass: keep the mean and $M = \sum (x - \mu)^2$ of what
# was seen, and combine two parts $a$ and $b$ of $n_a$ and $n_b$ numbers; so do threads that share the work of one
# image. With $n = n_a + n_b$, $\mu = (n_a\mu_a + n_b\mu_b)/n$ and $d = \mu_b - \mu_a$:
#
# 1. $M = \sum_{a,\, b} (x - \mu)^2$
# 2. $= \sum_a (x - \mu_a + \mu_a - \mu)^2 + \sum_b (x - \mu_b + \mu_b - \mu)^2$
# 3. $= M_a + n_a (\mu_a - \mu)^2 + M_b + n_b (\mu_b - \mu)^2$, since $\sum_a (x - \mu_a) = 0$ makes the mixed terms
#    vanish
# 4. $= M_a + M_b + n_a \left(\frac{n_b}{n} d\right)^2 + n_b \left(\frac{n_a}{n} d\right)^2$, since
#    $\mu_a - \mu = -\frac{n_b}{n} d$ and $\mu_b - \mu = \frac{n_a}{n} d$
# 5. $= M_a + M_b + \frac{n_a n_b}{n} d^2$
#
# Nothing large is subtracted from anything large.


# %%
def squares(x):
    """M of the numbers x: the sum of squared differences from their mean."""
    return ((x - x.mean()) ** 2).sum()


combine_lines = [  # a has two of the six numbers, b four
    lambda x: squares(x),
    lambda x: (
        ((x[:2] - x[:2].mean() + x[:2].mean() - x.mean()) ** 2).sum()
        + ((x[2:] - x[2:].mean() + x[2:].mean() - x.mean()) ** 2).sum()
    ),
    lambda x: (
        squares(x[:2])
        + 2 * (x[:2].mean() - x.mean()) ** 2
        + squares(x[2:])
        + 4 * (x[2:].mean() - x.mean()) ** 2
    ),
    lambda x: (
        squares(x[:2])
        + squares(x[2:])
        + 2 * (4 / 6 * (x[2:].mean() - x[:2].mean())) ** 2
        + 4 * (2 / 6 * (x[2:].mean() - x[:2].mean())) ** 2
    ),
    lambda x: squares(x[:2]) + squares(x[2:]) + 2 * 4 / 6 * (x[2:].mean() - x[:2].mean()) ** 2,
]
compare("Squares of two parts combined", combine_lines)


def one_pass(x):
    """E x² − (E x)², summed in the dtype of x."""
    return (x * x).mean(dtype=x.dtype) - x.mean(dtype=x.dtype) ** 2


def two_passes(x):
    """The mean of (x − E x)²."""
    return ((x - x.mean(dtype=x.dtype)) ** 2).mean(dtype=x.dtype)


def combined(x, size=64):
    """The variance of blocks, combined one after another."""
    count, mean, total = 0, x.dtype.type(0), x.dtype.type(0)
    for block in x.reshape(-1, size):
        difference = block.mean() - mean
        total += squares(block) + difference * difference * x.dtype.type(count * size / (count + size))
        mean += difference * x.dtype.type(size / (count + size))
        count += size
    return total / x.dtype.type(count)


ratios, variances = np.geomspace(1, 1e5, 26), {"E x² − (E x)²": [], "two passes": [], "blocks combined": []}
for ratio in ratios:
    errors = []
    for _ in range(20):
        x = (rng.standard_normal(4096) + ratio).astype(np.float32)
        exact = x.astype(np.float64).var()
        errors.append([abs(float(f(x)) / exact - 1) for f in (one_pass, two_passes, combined)])
    for name, error in zip(variances, np.mean(errors, axis=0), strict=True):
        variances[name].append(error)
at_1000 = np.argmin(np.abs(ratios - 1000))
print("relative error of the variance in float32, where the mean is 1000 standard deviations:")
for name, found in variances.items():
    print(f"   {name:16} {found[at_1000]:.0e}")

figure, (times_ax, errors_ax) = plots.figure(11, 4.4, columns=2)
for (name, found), color, marker in zip(timed.items(), plots.COLOURS, plots.MARKERS, strict=False):
    size = [count * 4096 * 4 / 1e6 for count in counts]
    times_ax.loglog(size, found, marker=marker, color=color, label=name)
times_ax.set(
    xlabel="size of the array in MB", ylabel="nanoseconds a number", title="group norm, forward, float32"
)
times_ax.legend(frameon=False, fontsize=9)
for (name, found), color, dashes in zip(variances.items(), plots.COLOURS, ("-", "--", ":"), strict=False):
    errors_ax.loglog(ratios, found, dashes, color=color, label=name)
errors_ax.set(
    xlabel="mean / standard deviation",
    ylabel="relative error",
    title="the variance of 4096 numbers in float32",
)
errors_ax.legend(frameon=False, fontsize=9)
save(
    figure,
    "05_kernels",
    "Left: what a number costs, on the machine that drew this, as the array grows beyond the caches. Right: one "
    "formula for the variance loses two digits for each factor of ten in the mean; the other two lose at most one. "
    "Mean over 20 sets of numbers.",
)

# %% [markdown]
# ## What do the bits depend on?
#
# A sum in another order rounds otherwise. A kernel that lets its threads add into one total gives other bits each time.
# Those of the package add in an order that depends on the shapes alone, so that **the same seed gives the same bits,
# whatever the number of threads**; but not on a CPU whose vectors are of another width, nor with other versions of
# NumPy or Numba (README, Promises).
#
# ## Exercises
#
# Fill in the blanks of `demos/exercises/05_kernels.py`, then run
#
#     python demos/check.py demos/exercises/05_kernels.py
#
# 1. `linear_backward`: the three gradients of $y = xw + b$.
# 2. `normalise_backward`: the gradient of normalisation, for a batch of rows.
# 3. `combine`: count, mean and squares of two parts, so that no digits are lost.
