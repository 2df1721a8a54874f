"""A small image classifier on this package's own engine, for evaluation and for classifier guidance.

Its last hidden layer is the feature space of the Fréchet distance. It depends on the data, the sizes and the seed
alone, so a distance measured twice comes out the same.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minidiff import autograd as ag
from minidiff import nn
from minidiff.autograd import Tensor, no_grad
from minidiff.datasets import Samples
from minidiff.datasets.batches import Batches
from minidiff.diffusion import noising
from minidiff.diffusion.schedules import Schedule
from minidiff.nn import optim
from minidiff.nn.layers import Conv2d, GroupNorm, Linear

FEATURES = 64
_INFERENCE_BATCH = 512  # images in one forward pass outside training, if they are of at most _PIXELS
_PIXELS = 64 * 64


class Classifier(nn.Module):
    """Strided convolutions until a side of the image (H, W, C) is under 8, then a hidden layer and the logits."""

    def __init__(self, rng: np.random.Generator, shape: tuple[int, int, int], classes: int) -> None:
        height, width, channels = shape
        self.classes = classes
        self.convolutions, self.norms = [Conv2d(rng, channels, 32, 3)], [GroupNorm(32, 8, silu=True)]
        channels = 32
        while min(height, width) >= 8:
            self.convolutions.append(Conv2d(rng, channels, 64, 3, stride=2, padding=((1, 1), (1, 1))))
            self.norms.append(GroupNorm(64, 8, silu=True))
            height, width, channels = (height + 1) // 2, (width + 1) // 2, 64
        self.hidden = Linear(rng, height * width * channels, FEATURES)
        self.logits = Linear(rng, FEATURES, classes)

    def features_of(self, x: Tensor) -> Tensor:
        """x (B, H, W, C) → the hidden layer (B, 64)."""
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = norm(convolution(x))
        return ag.silu(self.hidden(x.reshape(len(x), -1)))

    def features(self, images: np.ndarray | Samples) -> np.ndarray:
        """images (N, H, W, C) → the features (N, 64), for the Fréchet distance."""
        return self._in_batches(images, self.features_of)

    def probabilities(self, images: np.ndarray | Samples) -> np.ndarray:
        """images (N, H, W, C) → the probability of each class (N, classes)."""
        return self._in_batches(images, lambda x: ag.softmax(self.logits(self.features_of(x))))

    def _in_batches(self, images: np.ndarray | Samples, function: Callable[[Tensor], Tensor]) -> np.ndarray:
        pixels = images.shape[1] * images.shape[2]
        batch = max(1, _INFERENCE_BATCH * _PIXELS // max(pixels, _PIXELS))
        starts = range(0, len(images), batch)
        with no_grad():
            batches = [function(Tensor(images[i : i + batch])).data for i in starts]
        return np.concatenate(batches)


def fit(
    images: np.ndarray | Samples,
    labels: np.ndarray,
    classes: int,
    seed: int = 0,
    steps: int = 1000,
    schedule: Schedule | None = None,
) -> Classifier:
    """Train a classifier on images (N, H, W, C) in [−1, 1] and labels (N,), with random shifts by up to a pixel.

    schedule: add noise to each image, at a time drawn for it from 0…T: for a classifier that is to guide a sampler.
    """
    rng = np.random.default_rng(seed)
    height, width, channels = images.shape[1:]
    net = Classifier(rng, (height, width, channels), classes)
    parameters = nn.ParameterVector(net)
    adam, batches = optim.Adam(parameters.values), Batches(len(images), 64, rng)
    for step in range(steps):
        index = batches.draw()
        x = _shifted(images[index], rng)
        if schedule is not None:
            noise = rng.standard_normal(x.shape, dtype=x.dtype)
            x = noising.diffuse(schedule, x, rng.integers(0, schedule.T + 1, len(x)), noise)
        logits = net.logits(net.features_of(Tensor(x)))
        loss = ag.cross_entropy(logits, labels=labels[index])
        loss.backward()
        adam.update(parameters.gradients, lr=2e-3 * (1 - step / steps))
    return net


def _shifted(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The whole batch shifted by −1, 0 or 1 pixel along both axes; the edge is repeated where pixels are missing."""
    down, right = rng.integers(0, 3, 2)
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    return padded[:, down : down + images.shape[1], right : right + images.shape[2]]
