# %% [markdown]
# # Session 4 · A tape in sixty lines
#
# To train a network is to follow the gradient of its loss. This session writes the machine that computes gradients,
# from nothing: sixty lines that record every operation and walk the record in reverse. They are then compared with
# `minidiff/autograd`, which is the same idea with care for memory, and with finite differences, which need no idea at
# all.
#
# You need: the chain rule, and NumPy's broadcasting. Takes 15 seconds on one core.

# %%
import numpy as np
from course import compare, save

from minidiff import autograd, noising, oracles, plots, schedules

# %% [markdown]
# ## One number after many
#
# A loss $L$ is one number, computed from many by a chain of operations, say $y = f(x)$ and $L = h(y)$. By the chain
# rule
#
# $$\frac{\partial L}{\partial x_i} = \sum_j \frac{\partial L}{\partial y_j} \frac{\partial y_j}{\partial x_i},
# \qquad\text{or}\qquad \nabla_x L = J^T \nabla_y L$$
#
# with $J$ the matrix of all $\partial y_j/\partial x_i$, the Jacobian. A chain of operations is a product of Jacobians,
# and a product may be computed from either end. From the inputs (forward mode), each of a million inputs takes a pass
# of its own. From the loss (reverse mode), one pass is enough: what is carried along is a single vector
# $g = \nabla_y L$.
#
# So each operation needs one more function: from $g = \partial L/\partial\text{result}$ to
# $J^T g = \partial L/\partial\text{argument}$. It is called the *vector–Jacobian product*, or vjp, and it never forms
# $J$. Those of four operations, where $g$ has the shape of the result:
#
# - **sum of two uses**, $y_i = x_i \cdot x_i$: the argument occurs twice, and both contributions are added:
#   $g_i x_i + g_i x_i = 2 g_i x_i$
# - **broadcasting**, $y_i = x_i + b$ with one number $b$: it is used six times, so $\partial L/\partial b = \sum_i g_i$
# - **matrix product**, $Y = XW$: $\frac{\partial L}{\partial W_{kj}} = \sum_i X_{ik}\, G_{ij}$, that is $X^T G$
# - **tanh**: $\tanh' = \frac{(e^x + e^{-x})^2 - (e^x - e^{-x})^2}{(e^x + e^{-x})^2} = 1 - \tanh^2$ by the rule for a
#   quotient, so the vjp is $g\,(1 - y^2)$
#
# The first line of each derivation below is the gradient itself, computed by the *complex step*: for a function that
# NumPy can evaluate at complex numbers, $f(x + ih) \approx f(x) + ih f'(x)$, so that
# $f'(x) = \mathrm{Im}\, f(x + ih)/h$. No difference of nearly equal numbers occurs in it, and with $h = 10^{-20}$ it is
# exact to rounding.


# %%
def complex_step(f, x, h=1e-20):
    """The gradient of f, one real number of x (N,), in each entry of x."""
    gradient = np.empty(len(x))
    for i in range(len(x)):
        shifted = x.astype(complex)
        shifted[i] += 1j * h
        gradient[i] = f(shifted).imag / h
    return gradient


two_uses_lines = [
    lambda x, g: complex_step(lambda x: (g * (x * x)).sum(), x),
    lambda x, g: g * x + g * x,
    lambda x, g: 2 * g * x,
]
broadcast_lines = [
    lambda x, g, b: complex_step(lambda b: (g * (x + b)).sum(), b[:1]),
    lambda x, g: sum(g[i] * np.ones(1) for i in range(6)),
    lambda x, g: g.sum(keepdims=True),
]
matrix_lines = [  # X is 2 × 3, W 3 × 2 and G 2 × 2
    lambda x, w, g: complex_step(
        lambda w: (g[:4].reshape(2, 2) * (x.reshape(2, 3) @ w.reshape(3, 2))).sum(), w
    ),
    lambda x, w, g: np.array(
        [
            sum(x.reshape(2, 3)[i, k] * g[:4].reshape(2, 2)[i, j] for i in range(2))
            for k in range(3)
            for j in range(2)
        ]
    ),
    lambda x, w, g: (x.reshape(2, 3).T @ g[:4].reshape(2, 2)).reshape(6),
]
tanh_lines = [
    lambda x: complex_step(lambda x: np.tanh(x).sum(), x),
    lambda x: ((np.exp(x) + np.exp(-x)) ** 2 - (np.exp(x) - np.exp(-x)) ** 2) / (np.exp(x) + np.exp(-x)) ** 2,
    lambda x: 1 - np.tanh(x) ** 2,
]
compare("An argument that is used twice", two_uses_lines)
compare("An argument that is broadcast", broadcast_lines)
compare("A matrix product", matrix_lines)
compare("tanh", tanh_lines)

# %% [markdown]
# ## The tape
#
# Now the machine. A `Value` is an array with a memory: from which values it was computed, and the vjp to each. The
# values behind a loss are the tape; `backward` visits them from the last to the first, and hands each gradient on.
# Three things are easily done wrong:
#
# 1. **The order.** A value must be visited after all that used it, or its gradient is not complete yet. Values are
#    numbered as they are made, so a value has a higher number than its arguments: to visit the highest number first is
#    enough.
# 2. **Adding.** A value that is used twice gets two contributions. Assigning in place of adding loses one.
# 3. **Broadcasting.** NumPy repeats an argument silently to fit the other; its gradient is the sum over the copies
#    (`fit`).


# %%
class Value:
    """An array, the values it was computed from, and the vjp to each of them."""

    count = 0

    def __init__(self, data, arguments=(), vjps=(), name=""):
        self.data, self.arguments, self.vjps, self.name = np.asarray(data, float), arguments, vjps, name
        self.grad = np.zeros(self.data.shape)
        Value.count += 1
        self.number = Value.count

    def __add__(self, other):
        a, b = self, as_value(other)
        return Value(a.data + b.data, (a, b), (lambda g: fit(g, a), lambda g: fit(g, b)), "+")

    def __mul__(self, other):
        a, b = self, as_value(other)
        return Value(
            a.data * b.data, (a, b), (lambda g: fit(g * b.data, a), lambda g: fit(g * a.data, b)), "×"
        )

    def __sub__(self, other):
        return self + as_value(other) * -1

    def __matmul__(self, other):
        a, b = self, other
        return Value(a.data @ b.data, (a, b), (lambda g: g @ b.data.T, lambda g: a.data.T @ g), "@")

    def tanh(self):
        out = np.tanh(self.data)
        return Value(out, (self,), (lambda g: g * (1 - out**2),), "tanh")

    def mean(self):
        return Value(
            self.data.mean(), (self,), (lambda g: np.full(self.data.shape, g / self.data.size),), "mean"
        )

    def tape(self):
        """All values behind this one, the last that was made first."""
        found, pending = set(), [self]
        while pending:
            value = pending.pop()
            if value not in found:
                found.add(value)
                pending += value.arguments
        return sorted(found, key=lambda value: -value.number)

    def backward(self):
        """Add ∂self/∂value to the `grad` of every value behind this one."""
        self.grad = np.ones(self.data.shape)
        for value in self.tape():
            for argument, vjp in zip(value.arguments, value.vjps, strict=True):
                argument.grad = argument.grad + vjp(value.grad)


def as_value(x):
    """A number or array as a Value."""
    return x if isinstance(x, Value) else Value(x)


def fit(g, like):
    """The sum of g over the axes along which `like` was broadcast."""
    g = g.sum(axis=tuple(range(g.ndim - like.data.ndim)))
    stretched = tuple(i for i, n in enumerate(like.data.shape) if n == 1 and g.shape[i] != 1)
    return g.sum(axis=stretched, keepdims=True)


# %% [markdown]
# ## A network that learns ε at one t
#
# With that a network can be trained. The task is that of all diffusion models, at a single time: from $x_t$, predict
# the noise ε in it (V8). The data are the mixture of session 1, $t = 100$, and the best possible prediction is known
# (O1). One hidden layer of 32 tanh, and plain gradient descent.
#
# Beside it the same network with the package's `Tensor`: only the class is another.

# %%
schedule, data = schedules.linear(T=1000), oracles.mixture1d()
rng, t = np.random.default_rng(0), 100
x0 = data.sample(rng, 2000)
eps = rng.standard_normal(x0.shape)
x_t = noising.diffuse(schedule, x0, t, eps)
initial = [
    rng.standard_normal((1, 32)) * 3,
    rng.standard_normal(32),
    rng.standard_normal((32, 1)) / 6,
    np.zeros(1),
]


def loss_of(x, target, w1, b1, w2, b2):
    """The mean squared error of the network, and its output; for Values and Tensors alike."""
    output = (x @ w1 + b1).tanh() @ w2 + b2
    error = output - target
    return (error * error).mean(), output


parameters = [Value(each) for each in initial]
loss, _ = loss_of(Value(x_t), Value(eps), *parameters)
loss.backward()
tensors = [autograd.Tensor(each, requires_grad=True) for each in initial]
their_loss, _ = loss_of(autograd.Tensor(x_t), autograd.Tensor(eps), *tensors)
their_loss.backward()
print(f"the loss: {loss.data:.12f} by the sixty lines, {their_loss.item():.12f} by minidiff.autograd")
worst = max(
    np.abs(a.grad - b.grad).max() / np.abs(b.grad).max() for a, b in zip(parameters, tensors, strict=True)
)
print(f"the largest difference of their gradients is {worst:.0e} of the largest gradient")

losses = []
for _ in range(1500):
    loss, output = loss_of(Value(x_t), Value(eps), *parameters)
    loss.backward()
    losses.append(float(loss.data))
    parameters = [Value(each.data - 0.05 * each.grad) for each in parameters]
best = np.mean((eps - data.eps(schedule, x_t, t)) ** 2)
print(f"the loss falls from {losses[0]:.3f} to {losses[-1]:.4f}; that of the exact ε* is {best:.4f}")
fresh_x0, fresh_eps = data.sample(rng, 200_000), rng.standard_normal((200_000, 1))
fresh_x_t = noising.diffuse(schedule, fresh_x0, t, fresh_eps)
loss, _ = loss_of(Value(fresh_x_t), Value(fresh_eps), *parameters)
best_on_fresh = np.mean((fresh_eps - data.eps(schedule, fresh_x_t, t)) ** 2)
print(f"on 200 000 other points: {loss.data:.4f}, and {best_on_fresh:.4f}: nothing is better than ε* there")

# %% [markdown]
# ## What `minidiff/autograd` adds
#
# Read `tape.py` (a hundred lines) and `tensor.py` now; you will recognise everything. What is there beyond the sixty
# lines:
#
# - **Rules in a table.** `rules.py` and `neural.py` have each operation as one function that returns its result and its
#   vjps, side by side; the decorator `rule` makes it an operation on Tensors.
# - **Memory.** A vjp holds only what it needs, and a node is released as soon as it has been visited: so the tape of a
#   network shrinks while it is walked. Ours keeps everything.
# - **Only what is needed.** A value that depends on no parameter is not recorded; in `no_grad()` nothing is.
# - **Errors.** A vjp that returns a gradient of the wrong shape is named, with both shapes.
#
# `autograd.draw` prints its tape, in the order in which it was recorded. This is that of the network above:

# %%
loss_again, _ = loss_of(autograd.Tensor(x_t), autograd.Tensor(eps), *tensors)
print(autograd.draw(loss_again, **dict(zip(("w1", "b1", "w2", "b2"), tensors, strict=True))))

# %% [markdown]
# ## How to trust a gradient
#
# By comparing it with finite differences, in every entry. But with which step $h$? The error of $(f(x+h) - f(x-h))/2h$
# is of order $h^2$ by Taylor's theorem, and of order $10^{-16}/h$ by rounding: the best is about $10^{-5}$, and gives
# ten digits, in float64. In float32 rounding is $10^{-7}$, and no step gives more than about five digits: check
# gradients in float64. `check_gradient` does all that, and names the entry that is wrong:


# %%
@autograd.rule
def wrong_tanh(a):
    """tanh with an error in its vjp: the square is missing."""
    out = np.tanh(a)
    return out, lambda g: g * (1 - out)


autograd.check_gradient(autograd.tanh, np.array([0.5, -1.0, 2.0]))
print("tanh: the gradient is right")
try:
    autograd.check_gradient(wrong_tanh, np.array([0.5, -1.0, 2.0]))
except AssertionError as refusal:
    print(f"wrong_tanh: {refusal}")

steps = np.geomspace(1e-12, 1, 61)


def differences(f, x, h, dtype=np.float64):
    """The error of central differences with the step h at x, relative to the derivative."""
    x, h = dtype(x), dtype(h)
    return abs((f(x + h) - f(x - h)) / (2 * h) / (1 - np.tanh(float(x)) ** 2) - 1)


forward = [abs((np.tanh(0.5 + h) - np.tanh(0.5)) / h / (1 - np.tanh(0.5) ** 2) - 1) for h in steps]
central = [differences(np.tanh, 0.5, h) for h in steps]
single = [differences(np.tanh, 0.5, h, np.float32) for h in steps]
by_complex_step = [complex_step(lambda x: np.tanh(x).sum(), np.array([0.5]), h)[0] for h in steps]
exact = [abs(found / (1 - np.tanh(0.5) ** 2) - 1) for found in by_complex_step]

# %% [markdown]
# The first picture is drawn from the tape itself: each box is a Value of one small expression, with its data and, after
# `backward`, its gradient.


# %%
def draw_tape(ax, root):
    """Boxes and arrows for all values behind `root`, in columns by their number of steps to the root."""
    distance, used_by = {root: 0}, {root: []}
    for value in root.tape():
        for argument in value.arguments:
            distance[argument] = max(distance.get(argument, 0), distance[value] + 1)
            used_by.setdefault(argument, []).append(value)
    rows = {root: 0.0}
    for column in range(1, max(distance.values()) + 1):
        inside = [value for value in distance if distance[value] == column]
        inside.sort(key=lambda value: (np.mean([rows[each] for each in used_by[value]]), value.number))
        rows |= {value: i - (len(inside) - 1) / 2 for i, value in enumerate(inside)}
    box = {"boxstyle": "round", "facecolor": plots.PAPER, "edgecolor": plots.INK}
    for value in distance:
        twice = len(value.arguments) == 2 and value.arguments[0] is value.arguments[1]
        for argument, bend in zip(value.arguments, (0.25, -0.25) if twice else (0, 0), strict=False):
            ends = {"xytext": (-distance[argument], rows[argument]), "xy": (-distance[value], rows[value])}
            style = {"arrowstyle": "->", "shrinkA": 34, "shrinkB": 34, "connectionstyle": f"arc3,rad={bend}"}
            ax.annotate("", **ends, arrowprops=style)
        words = f"{value.name}\n{float(value.data):.2f}\ngrad {float(value.grad):.2f}"
        ax.text(-distance[value], rows[value], words, ha="center", va="center", fontsize=9, bbox=box)
    ax.set(xlim=(-max(distance.values()) - 0.4, 0.4), ylim=(-1.5, 1.5))
    ax.axis("off")


w, x, b, y = (Value(data, name=name) for name, data in (("w", 0.5), ("x", 2.0), ("b", -0.4), ("y", 0.9)))
prediction = (w * x + b).tanh()
error = prediction + y * -1
small = error * error
small.backward()
minus = next(value for value in small.tape() if value.data == -1)
minus.name = "−1"
figure, ax = plots.figure(13, 4.6)
draw_tape(ax, small)
ax.set_title("the tape of (tanh(w × x + b) − y)²: value, and gradient of the result in it")
save(
    figure,
    "04_tape",
    "Each box is one value: its name or operation, what it is, and the gradient of the result in it. Values were "
    "computed from left to right, gradients from right to left. The last product takes the same value twice: two "
    "arrows lead there, and the gradient of that value is the sum of two contributions.",
)

figure, (errors, learning, learned) = plots.figure(13, 4.4, columns=3)
for found, name, color, dashes in (
    (single, "central, float32", plots.COLOURS[3], "-."),
    (forward, "forward", plots.COLOURS[2], ":"),
    (central, "central", plots.INK, "-"),
    (np.maximum(exact, 1e-17), "complex step", plots.ACCENT, "--"),
):
    errors.loglog(steps, np.maximum(found, 1e-17), dashes, color=color, label=name)
errors.set(
    xlabel="step h", ylabel="relative error", ylim=(3e-18, 1e3), title="derivatives of tanh by differences"
)
errors.legend(frameon=False, fontsize=9, loc="upper center", ncols=2)
learning.semilogx(np.arange(1, len(losses) + 1), losses, color=plots.INK, label="loss")
learning.axhline(best, color=plots.ACCENT, linestyle="--", label="loss of the exact ε*")
learning.set(xlabel="step", ylabel="mean squared error of ε", title="gradient descent on the tape")
learning.legend(frameon=False, fontsize=9)
grid = np.linspace(-1.6, 1.6, 300)[:, None]
_, output = loss_of(Value(grid), Value(grid), *parameters)
learned.scatter(
    x_t[:600], eps[:600], s=4, color=plots.INK, alpha=0.25, linewidths=0, label="pairs $(x_t, ε)$"
)
learned.plot(grid, data.eps(schedule, grid, t), "--", color=plots.ACCENT, label="exact, ε*")
learned.plot(grid, output.data, color=plots.COLOURS[2], label="learned")
learned.set(xlabel="$x_t$", ylabel="ε", xlim=(-1.6, 1.6), ylim=(-3.5, 3.5), title="ε at t = 100")
learned.legend(frameon=False, fontsize=9, loc="upper left")
save(
    figure,
    "04_tape-2",
    "Left: with a large step, differences are wrong by Taylor's theorem, with a small one by rounding; a small complex "
    "step has neither error. Middle: plain gradient descent with the sixty lines. Right: the noise that was added "
    "(dots), and its mean for a given $x_t$, at which the loss is least.",
)

# %% [markdown]
# ## Exercises
#
# Fill in the blanks of `demos/exercises/04_tape.py`, then run
#
#     python demos/check.py demos/exercises/04_tape.py
#
# 1. `softplus`: a rule in the manner of `rules.py`, $\log(1 + e^a)$ and its vjp, which must not overflow at $a = 1000$.
# 2. `backward`: the walk along a tape, in the right order, with nothing lost.
# 3. `fit`: the gradient of an argument that NumPy has broadcast.
