# %% [markdown]
# # Session 9 · The U-Net, digits, and guidance
#
# From points to images: the network that the paper uses, step by step with its shapes; handwritten digits out of noise;
# and guidance, which makes a network draw what is requested, more strongly than it has learned it.
#
# You need: sessions 5, 7 and 8. Takes 60 seconds on two cores, most of them for training.

# %%
import numpy as np
from course import compare, save, train

from minidiff import (
    Conditioning,
    Denoiser,
    datasets,
    likelihood,
    nn,
    oracles,
    plots,
    samplers,
    schedules,
    training,
)
from minidiff import autograd as ag
from minidiff.autograd import Tensor
from minidiff.evaluation import classifier
from minidiff.nn.diagrams import diagram
from minidiff.nn.layers import sinusoidal
from minidiff.nn.unet import Downsample, Stage

# %% [markdown]
# ## The U-Net
#
# The network must say of *every pixel* what in it is noise. That takes context (is this a stroke or a speck?) and
# precision (which pixel exactly?). A stack of 3 × 3 convolutions has precision, but sees far only if it is deep. A
# U-Net has both:
#
# - **Down**: residual blocks, then half the resolution. A convolution at 4 × 4 sees as far as a much larger one at 8 ×
#   8.
# - **Middle**: two blocks with attention between, by which each place can look at every other.
# - **Up**: the same in reverse. Each block also takes the result that was kept on the way down at its resolution, the
#   *skip*, beside its input: from below comes what it is, from the side where exactly.
# - **The time** enters every block: sines and cosines of $t$ (V10), two linear layers, and an addition to every
#   channel. One network serves all noise levels. A class enters in the same way (S9).
#
# A block is GroupNorm, SiLU, convolution, twice, and its input is added to its result: the last convolution begins at
# zero, so that a new block changes nothing and training starts with a network that is easy to train. Below is the
# forward pass of `nn.UNet`, written out for the network that is trained here, with the shape after each part.

# %%
rng = np.random.default_rng(0)
schedule = schedules.cosine(T=1000)
net = nn.UNet(
    rng,
    size=8,
    channels=1,
    width=32,
    multipliers=(1, 2),
    depth=1,
    attention=(4,),
    groups=8,
    dropout=0.0,
    classes=10,
)


def forward(net, x, t, label):
    """The output of the network, printing the shape of each part's result."""

    def shown(part, h, note=""):
        _, height, width, channels = h.shape
        print(f"   {part:22}{height:2d} × {width} × {channels:3d}   {note}")
        return h

    time = Tensor(sinusoidal(t, net.width).astype(np.float32))
    time = ag.silu(net.time2(ag.silu(net.time1(time))) + net.label(label))
    h = shown("convolution", net.first(Tensor(x)), "kept as a skip")
    skips = [h]
    for part in net.down:
        if isinstance(part, Stage):
            h = shown("block", part(h, time, None), "kept as a skip")
        elif isinstance(part, Downsample):
            h = shown("half the resolution", part(h), "kept as a skip")
        skips.append(h)
    before, attention, after = net.middle
    h = shown("middle", after(attention(before(h, time, None)), time, None), "block, attention, block")
    for part in net.up:
        if isinstance(part, Stage):
            channels = h.shape[3], skips[-1].shape[3]
            h = part(ag.concatenate(h, skips.pop(), axis=3), time, None)
            shown("block", h, f"from {channels[0]} channels and {channels[1]} of a skip")
        else:
            h = shown("twice the resolution", part(h, skips[-1].shape))
    return shown("norm, convolution", net.last(net.norm(h)))


print(f"the U-Net with {net.count_parameters():,} parameters")
print(diagram(net))
probe = np.random.default_rng(1).standard_normal((1, 8, 8, 1), dtype=np.float32)
written_out = forward(net, probe, np.array([500]), np.array([3])).data
assert np.allclose(written_out, net(probe, np.array([500]), np.array([3])), atol=1e-5)

# %% [markdown]
# ## Training with labels, some of them dropped
#
# The network is trained on pairs of an image and its label (S9). One label in five is replaced by "no class", so that
# the same network learns $\varepsilon_\theta(x_t, y)$ and, for images of any class, $\varepsilon_\theta(x_t)$. A
# thousand steps are few, and the digits will be rough; `minidiff quickstart` trains longer.

# %%
data = datasets.load("digits")
options = training.TrainingOptions(batch=64, lr=3e-3, warmup=100, ema_decay=0.995, label_drop=0.2)
trainer = training.Trainer(net, schedule, data.x, data.labels, options, rng=rng)
list(train(trainer, 1000, enough=0.15))

# %% [markdown]
# ## Out of noise
#
# One digit of each class, DDIM in 50 steps. At the top $x_t$ is noise, and $\hat x_0$, the network's estimate of the
# digit, is the mean of all that it still takes for possible: a blur. Step by step it decides. $\hat x_0$ is clipped to
# the range of the pixels, and $\hat\varepsilon$ is then computed again from the clipped one, or the two would
# contradict $x_t$ (F4). The first steps are left out: there $\sqrt{\bar\alpha_t}$, by which $\hat x_0$ is divided, is
# almost 0.

# %%
x_T = samplers.initial_noise(np.random.default_rng(2), (10, 8, 8, 1))
times = samplers.spaced(schedule, "trailing", 50)
one_of_each = trainer.denoiser(Conditioning(np.arange(10)), clip=(-1, 1))
states = list(samplers.ddim(one_of_each, x_T, rng, times))
shown = states[5::7] + states[-1:]

figure, axes = plots.figure(11, 5.1, columns=2)
for ax, images, title in (
    (axes[0], [state.x for state in shown], "$x_t$"),
    (axes[1], [state.x0 for state in shown], "$\\hat x_0$ of the step that led to it"),
):
    ax.imshow(plots.image_grid(np.concatenate(images), columns=10, side=900), interpolation="nearest")
    for k, state in enumerate(shown):
        y = 1 - (k + 0.5) / len(shown)
        ax.text(-0.01, y, f"t = {state.t}", transform=ax.transAxes, ha="right", va="center", fontsize=9)
    for digit in range(10):
        ax.text(
            (digit + 0.5) / 10, 1.01, str(digit), transform=ax.transAxes, ha="center", va="bottom", fontsize=9
        )
    ax.set_title(title, pad=18)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
save(
    figure,
    "09_unet_digits",
    "Ten digits, one of each requested class (column heads), from noise to data. The estimate on the right is a blur "
    "as long as many digits are possible, then becomes one of them; its details come last.",
)

# %% [markdown]
# ## Guidance
#
# Let $y$ be the requested class. By Bayes $p(y \mid x) = p(y)\,q(x \mid y)/q(x)$, so that
# $\nabla\log p(y \mid x) = \nabla\log q(x \mid y) - \nabla\log q(x)$, where $p(y)$ has dropped out. To make the samples
# more typical of the class, follow the score with this term counted $w$ times. At every $t$, with
# $\nabla\log q = -\varepsilon/\sqrt{1-\bar\alpha_t}$ (session 8),
#
# 1. $\nabla\left[\log q(x) + w \log p(y \mid x)\right]$
# 2. $= \nabla\log q(x) + w\left(\nabla\log q(x \mid y) - \nabla\log q(x)\right)$
# 3. $= -\frac1{\sqrt{1-\bar\alpha_t}}\left(\varepsilon(x) + w\,(\varepsilon(x, y) - \varepsilon(x))\right)$
#
# The bracket is *classifier-free guidance*: $w = 0$ is the unconditional distribution, $w = 1$ the class as it was
# learned, more exaggerates. (The paper of Ho & Salimans counts from 1 less.) In the lines below two classes with normal
# densities have probability ½ each.


# %%
def normal(x, m, a):
    """N(x; √a m, 1 − a): the density of x_t for data that are the point m."""
    return np.exp(-((x - np.sqrt(a) * m) ** 2) / (2 * (1 - a))) / np.sqrt(2 * np.pi * (1 - a))


def both(x, m, n, a):
    return (normal(x, m, a) + normal(x, n, a)) / 2


def derivative(f, x):
    """f'(x) by the complex step."""
    return np.imag(f(x + 1e-30j)) / 1e-30


def eps_of(density, x, a):
    """ε = −√(1−a) ∇ log density."""
    return -np.sqrt(1 - a) * derivative(lambda y: np.log(density(y)), x)


guidance_lines = [
    lambda x, m, n, a, w: derivative(
        lambda z: np.log(both(z, m, n, a)) + w * np.log(normal(z, m, a) / 2 / both(z, m, n, a)), x
    ),
    lambda x, m, n, a, w: (
        derivative(lambda z: np.log(both(z, m, n, a)), x)
        + w
        * (
            derivative(lambda z: np.log(normal(z, m, a)), x)
            - derivative(lambda z: np.log(both(z, m, n, a)), x)
        )
    ),
    lambda x, m, n, a, w: (
        -(
            eps_of(lambda z: both(z, m, n, a), x, a)
            + w * (eps_of(lambda z: normal(z, m, a), x, a) - eps_of(lambda z: both(z, m, n, a), x, a))
        )
        / np.sqrt(1 - a)
    ),
]
compare("Classifier-free guidance", guidance_lines)

# %% [markdown]
# What does it sample? Not $q(x)\,p(y \mid x)^w$: that is what line 1 has at each $t$ for itself, but noising this
# density does not give the densities of line 1 at larger $t$. On two overlapping classes in one dimension, with the
# exact ε of both, the samples can be compared with it. Guidance moves them away from the other class, and makes them
# alike: the price of being typical is variety.

# %%
classes = [oracles.Gaussian(m, 0.6**2) for m in (-0.5, 0.8)]
together = oracles.Mixture([0.5, 0.5], [[-0.5], [0.8]], np.full((2, 1, 1), 0.6**2))


def exact_net(x, t, label):
    """ε* of class 0 or 1, or of both for label 2."""
    return (*classes, together)[label[0]].eps(schedule, x, t)


def exact_guided(w):
    """The guided denoiser of class 1, by the formula above."""

    def net(x, t):
        return exact_net(x, t, [2]) + w * (exact_net(x, t, [1]) - exact_net(x, t, [2]))

    return Denoiser(net, schedule)


line_noise = samplers.initial_noise(np.random.default_rng(3), (20_000, 1), np.float64)
guided_line = {
    w: samplers.final(
        samplers.ddim(exact_guided(w), line_noise, rng, samplers.spaced(schedule, "trailing", 100))
    )
    for w in (0, 1, 4)
}
print("\nclass 1 in one dimension")
for w, x in guided_line.items():
    print(f"   w = {w}: mean {x.mean():.2f}, standard deviation {x.std():.2f}")

# %% [markdown]
# Now the digits. A small classifier, which has never seen the samples, says whether they are what was requested;
# variety is measured as the variance of the pixels over the samples of a class, relative to that of real digits.

# %%
judge = classifier.fit(data.x, data.labels, 10, steps=600)
requested = np.repeat(np.arange(10), 20)
x_T = samplers.initial_noise(np.random.default_rng(4), (200, 8, 8, 1))
few_times = samplers.spaced(schedule, "trailing", 25)


def variety(images, labels):
    return np.mean([images[labels == digit].var(axis=0).sum() for digit in range(10)])


real = variety(np.asarray(data.x[:]), data.labels)
accuracy = np.mean(judge.probabilities(data.held_out).argmax(axis=1) == data.held_out_labels)
print(f"\nthe classifier is right on {accuracy:.3f} of the held-out digits")
guided_digits = {}
for w in (1, 3, 8):
    denoiser = trainer.denoiser(Conditioning(requested, w), clip=(-1, 1))
    guided_digits[w] = samplers.final(samplers.ddim(denoiser, x_T, rng, few_times))
    right = (judge.probabilities(guided_digits[w]).argmax(axis=1) == requested).astype(float)
    mean, error = likelihood.mean_and_error(right)
    relative = variety(guided_digits[w], requested) / real
    print(f"   w = {w}: {mean:.3f} ± {error:.3f} are what was requested, variety {relative:.2f}")

figure, (line_ax, *digit_axes) = plots.figure(13, 4.6, columns=4, width_ratios=(1.5, 1, 1, 1))
grid = np.linspace(-2.5, 4, 300)
for (w, x), color, dashes in zip(guided_line.items(), plots.COLOURS, ("-", "--", ":"), strict=False):
    line_ax.hist(
        x[:, 0], 100, density=True, histtype="step", color=color, linestyle=dashes, label=f"samples, w = {w}"
    )
density = [np.exp(each.log_density(schedule, grid[:, None], 0)) for each in (classes[1], together)]
tempered = density[1] * (density[0] / 2 / density[1]) ** 4
tempered /= tempered.sum() * (grid[1] - grid[0])
line_ax.plot(grid, tempered, color=plots.COLOURS[3], label="$q(x)\\, p(y|x)^4$, normalised")
line_ax.set(xlabel="x", ylabel="density", ylim=(0, 1.35), title="class 1 of two, exact ε")
line_ax.legend(frameon=False, fontsize=8, loc="upper left")
for ax, (w, images) in zip(digit_axes, guided_digits.items(), strict=True):
    ax.imshow(
        plots.image_grid(images.reshape(10, 20, 8, 8, 1)[:, :6].reshape(60, 8, 8, 1), columns=6),
        interpolation="nearest",
    )
    for digit in range(10):
        y = 1 - (digit + 0.5) / 10
        ax.text(-0.02, y, str(digit), transform=ax.transAxes, ha="right", va="center", fontsize=9)
    ax.set(title=f"guidance w = {w}", xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
save(
    figure,
    "09_unet_digits-2",
    "Left: with the exact ε of two overlapping classes, guidance towards the right one moves the samples away from the "
    "other and narrows them; what it samples is not the tempered density (solid). Right: six digits of each requested "
    "class (row heads), from the same noise in each picture; with guidance they are clearer and more alike.",
)

# %% [markdown]
# ## Exercises
#
# Fill in the blanks of `demos/exercises/09_unet_digits.py`, then run
#
#     python demos/check.py demos/exercises/09_unet_digits.py
#
# 1. `join`: what a block on the way up takes: twice the resolution, beside the skip.
# 2. `clipped`: $\hat x_0$ in the range of the pixels, and the $\hat\varepsilon$ that belongs to it (R5).
# 3. `guided`: classifier-free guidance, with the scale of this session.
