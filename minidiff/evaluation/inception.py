"""Inception-v3 as the FID uses it: the network of 2015, forward only, with the weights that others published.

Features of images, on which FID, KID and the Inception score rest (`inception_metrics`), compare with figures elsewhere
only where the network is the same in every detail. This is that of pytorch-fid, ported from TensorFlow:

- images of bytes, resized to 299 × 299 bilinearly between pixel centres, without low-pass filter, scaled to [−1, 1]
- each convolution without bias, followed by a batch norm (eps 0.001), which is folded into it here, and a ReLU
- average pools that leave out the padding; in the last block a max pool in place of one
- 2048 features, the mean over the last pixels; 1008 logits, of which the Inception score leaves out the bias

Names are those of the published file, which are torchvision's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from minidiff import kernels

FIRST = "Conv2d_1a_3x3.conv.weight"  # by which a file of these weights is recognised
SIDE, CLASSES = 299, 1008
EPS = 0.001  # of the batch norms
BATCH = 4  # images in one forward pass: as fast as with more, and each takes 23 MB
ROW3, COLUMN3, ROW7, COLUMN7 = (1, 3), (3, 1), (1, 7), (7, 1)
COUNTER = ".num_batches_tracked"  # ends the name of what PyTorch keeps beside the batch norms

Kernel = int | tuple[int, int]


class Inception:
    """The network with given weights.

    arrays: floats by name, as in the published file; convolutions (O, C, kh, kw), of any number of channels. Raises
    ValueError, in one line, for arrays that are missing, left over, not finite or of other shapes.

    fingerprint: the mean, the standard deviation and the index of the largest of a fixed picture's features. Rounded
    to four digits these agree on all machines, up to the last digit. checksum: the SHA-256 of the weights.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._arrays = {name: array for name, array in arrays.items() if not name.endswith(COUNTER)}
        self._unused, self._folded = set(self._arrays), dict[str, tuple[np.ndarray, np.ndarray]]()
        features = self.features(fixed_picture())[0]
        self._logits = np.ascontiguousarray(self._array("fc.weight", (CLASSES, len(features))).T, np.float32)
        self._array("fc.bias", (CLASSES,))
        if self._unused:
            raise ValueError(f"it has {min(self._unused)!r:.80}, which this network does not have")
        if not np.isfinite(features).all():
            raise ValueError("its features of a picture are not finite")
        self.width = len(features)
        self.fingerprint = float(features.mean()), float(features.std()), int(features.argmax())
        digest = hashlib.sha256()
        for name in sorted(self._arrays):
            digest.update(np.ascontiguousarray(self._arrays[name], np.float32).data)
        self.checksum = digest.hexdigest()
        self._arrays = {}

    def features(self, images: np.ndarray) -> np.ndarray:
        """images (N, H, W, 1 or 3) uint8 → the features (N, 2048) float32; those of an image depend on it alone."""
        batches = [self._features_of(images[i : i + BATCH]) for i in range(0, len(images), BATCH)]
        return np.concatenate(batches)

    def logits(self, features: np.ndarray) -> np.ndarray:
        """features (N, 2048) → logits (N, 1008) without the bias, as the Inception score takes them."""
        logits: np.ndarray = kernels.linear(features, self._logits, np.zeros(CLASSES, np.float32))
        return logits

    # ---- the network

    def _features_of(self, images: np.ndarray) -> np.ndarray:
        h = resized(images)
        h = self._layer("Conv2d_1a_3x3", h, 3, stride=2)
        h = self._layer("Conv2d_2a_3x3", h, 3, padded=False)
        h = max_pool(self._layer("Conv2d_2b_3x3", h, 3))
        h = self._layer("Conv2d_3b_1x1", h, 1)
        h = max_pool(self._layer("Conv2d_4a_3x3", h, 3, padded=False))
        for name in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
            h = self._block_a(name, h)
        h = self._block_b("Mixed_6a", h)
        for name in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
            h = self._block_c(name, h)
        h = self._block_d("Mixed_7a", h)
        h = self._block_e("Mixed_7b", h, average_pool(h))
        h = self._block_e("Mixed_7c", h, max_pool(h, stride=1))
        pixels = h.reshape(len(h), -1, h.shape[3])
        mean: np.ndarray = pixels.mean(axis=1)
        return mean

    def _block_a(self, name: str, h: np.ndarray) -> np.ndarray:
        return joined(
            self._layer(f"{name}.branch1x1", h, 1),
            self._chain(f"{name}.branch5x5", h, 1, 5),
            self._chain(f"{name}.branch3x3dbl", h, 1, 3, 3),
            self._layer(f"{name}.branch_pool", average_pool(h), 1),
        )

    def _block_b(self, name: str, h: np.ndarray) -> np.ndarray:
        return joined(
            self._layer(f"{name}.branch3x3", h, 3, stride=2),
            self._chain(f"{name}.branch3x3dbl", h, 1, 3, 3, stride=2),
            max_pool(h),
        )

    def _block_c(self, name: str, h: np.ndarray) -> np.ndarray:
        return joined(
            self._layer(f"{name}.branch1x1", h, 1),
            self._chain(f"{name}.branch7x7", h, 1, ROW7, COLUMN7),
            self._chain(f"{name}.branch7x7dbl", h, 1, COLUMN7, ROW7, COLUMN7, ROW7),
            self._layer(f"{name}.branch_pool", average_pool(h), 1),
        )

    def _block_d(self, name: str, h: np.ndarray) -> np.ndarray:
        return joined(
            self._chain(f"{name}.branch3x3", h, 1, 3, stride=2),
            self._chain(f"{name}.branch7x7x3", h, 1, ROW7, COLUMN7, 3, stride=2),
            max_pool(h),
        )

    def _block_e(self, name: str, h: np.ndarray, pooled: np.ndarray) -> np.ndarray:
        middle = self._layer(f"{name}.branch3x3_1", h, 1)
        double = self._chain(f"{name}.branch3x3dbl", h, 1, 3)
        return joined(
            self._layer(f"{name}.branch1x1", h, 1),
            self._layer(f"{name}.branch3x3_2a", middle, ROW3),
            self._layer(f"{name}.branch3x3_2b", middle, COLUMN3),
            self._layer(f"{name}.branch3x3dbl_3a", double, ROW3),
            self._layer(f"{name}.branch3x3dbl_3b", double, COLUMN3),
            self._layer(f"{name}.branch_pool", pooled, 1),
        )

    # ---- its layers

    def _chain(self, name: str, h: np.ndarray, *sides: Kernel, stride: int = 1) -> np.ndarray:
        """The layers name_1, name_2, …, of which the last has the stride."""
        for number, kernel in enumerate(sides, 1):
            h = self._layer(f"{name}_{number}", h, kernel, stride if number == len(sides) else 1)
        return h

    def _layer(
        self, name: str, h: np.ndarray, kernel: Kernel, stride: int = 1, padded: bool = True
    ) -> np.ndarray:
        """Convolution, batch norm and ReLU; it is padded to keep the size, but with a stride."""
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        if name not in self._folded:
            self._folded[name] = self._fold(name, (h.shape[3], height, width))
        rows, columns = (height // 2, width // 2) if padded and stride == 1 else (0, 0)
        out: np.ndarray = kernels.conv2d(h, *self._folded[name], stride, ((rows, rows), (columns, columns)))
        np.maximum(out, 0, out=out)
        return out

    def _fold(self, name: str, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
        """The weights (kh, kw, C, O) and the bias (O,) that do what a convolution and its batch norm do.

        γ (w x − mean) / √(var + eps) + β = (γ / √(var + eps)) w x + (β − γ mean / √(var + eps))
        """
        w = self._array(f"{name}.conv.weight", (None, *shape))
        norm = f"{name}.bn"
        gamma, beta, mean, variance = (
            self._array(f"{norm}.{part}", w.shape[:1]).astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gamma / np.sqrt(variance + EPS)
        folded = w.transpose(2, 3, 1, 0) * scale
        return folded.astype(np.float32, order="C"), (beta - mean * scale).astype(np.float32)

    def _array(self, name: str, shape: tuple[int | None, ...]) -> np.ndarray:
        """A published array; None stands for any size."""
        if name not in self._arrays:
            raise ValueError(f"it has no {name}, which this network needs")
        array = self._arrays[name]
        fits = len(array.shape) == len(shape) and all(
            b in (None, a) for a, b in zip(array.shape, shape, strict=True)
        )
        if not fits or array.dtype.kind != "f" or not np.isfinite(array).all():
            expected = ", ".join("any" if size is None else str(size) for size in shape)
            raise ValueError(f"{name}: expected finite floats ({expected}), got {array.dtype} {array.shape}")
        self._unused.discard(name)
        return array


def joined(*branches: np.ndarray) -> np.ndarray:
    """The channels of all branches, one after the other."""
    return np.concatenate(branches, axis=3)


def max_pool(h: np.ndarray, stride: int = 2) -> np.ndarray:
    """The maximum over 3×3 pixels of h (B, H, W, C) ≥ 0; padded if the stride is 1, so that the size stays."""
    if stride == 1:
        # No maximum of a ReLU's output is below these zeros.
        h = np.pad(h, ((0, 0), (1, 1), (1, 1), (0, 0)))
    for axis in (1, 2):
        h = np.swapaxes(h, 1, axis)
        last = h.shape[1] - 2
        largest = np.maximum(h[:, :last:stride], h[:, 1 : last + 1 : stride])
        h = np.swapaxes(np.maximum(largest, h[:, 2::stride], out=largest), 1, axis)
    return h


def average_pool(h: np.ndarray) -> np.ndarray:
    """The mean over those of 3×3 pixels around each of h (B, H, W, C) that are in the image."""
    for axis in (1, 2):
        h = np.swapaxes(h, 1, axis)
        total = h.copy(order="K")
        total[:, 1:] += h[:, :-1]
        total[:, :-1] += h[:, 1:]
        count = np.full(h.shape[1], 3, np.float32)
        count[0] -= 1
        count[-1] -= 1
        total /= count[:, None, None]
        h = np.swapaxes(total, 1, axis)
    return h


def resized(images: np.ndarray) -> np.ndarray:
    """images (B, H, W, 1 or 3) uint8 → (B, 299, 299, 3) float32 in [−1, 1], interpolated bilinearly."""
    x = images.astype(np.float32)
    for axis in (1, 2):
        low, high, fraction = _neighbours(images.shape[axis])
        weight = fraction[:, None, None] if axis == 1 else fraction[:, None]
        x = np.take(x, low, axis) * (1 - weight) + np.take(x, high, axis) * weight
    return np.broadcast_to(x, (*x.shape[:3], 3)) / np.float32(127.5) - 1


def _neighbours(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of 299 pixels the two of `size` between whose centres its own lies, and the weight of the second."""
    position = np.clip((np.arange(SIDE) + 0.5) * size / SIDE - 0.5, 0, size - 1)
    low = np.floor(position).astype(int)
    return low, np.minimum(low + 1, size - 1), (position - low).astype(np.float32)


def fixed_picture() -> np.ndarray:
    """(1, 32, 32, 3) uint8: waves and a ramp, made of whole numbers, so that it is the same everywhere."""
    row, column, channel = np.indices((32, 32, 3))
    picture: np.ndarray = (row * column * (channel + 1) + 5 * row + 3 * column * channel) % 256
    return picture[None].astype(np.uint8)
