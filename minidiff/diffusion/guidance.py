"""Guidance and conditioning: each function takes a `Denoiser` and returns one that is steered.

    classifier-free   ε̂ = ε̂(x_t, ∅) + w (ε̂(x_t, y) − ε̂(x_t, ∅))                Ho & Salimans 2022
    classifier        ε̂ = ε̂(x_t) − w √(1−ᾱ_t) ∇ log p(y | x_t)                  Dhariwal & Nichol 2021
    thresholding      x̂_0 ← clip(x̂_0, −s, s)/s, s = max(1, a quantile of |x̂_0|)  Saharia et al. 2022

y is the requested class, ∅ none. With the guidance scale w, as everywhere here, 0 is the unconditional distribution, 1
the class-conditional one, and more exaggerates what is typical of the class. (The scale of Ho & Salimans is one less.)

x̂_0, ε̂ and v̂ are affine in each other, so the formulas for ε̂ hold for the output of a network that predicts any of
them. Guidance changes that output; the denoiser then clips x̂_0 and derives ε̂ from it as always.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from minidiff.diffusion import noising
from minidiff.diffusion.denoiser import Denoiser


@dataclass(frozen=True, eq=False)
class Conditioning:
    """What to sample: a class, and how strongly samples are guided towards it.

    label: one class 0…classes−1 for all samples, or (N,) of them; None: any.
    guidance: the scale w above; with it a label is required, unless it is 1 or, which is any class, 0.

    Raises ValueError for a guidance that is no finite number, or has no label.
    """

    label: int | np.ndarray | None = None
    guidance: float = 1.0

    def __post_init__(self) -> None:
        _check_scale(self.guidance)
        if self.label is None and self.guidance not in (0, 1):
            raise ValueError(f"guidance {self.guidance:g} needs a class to guide towards: give a label")

    def apply(self, denoiser: Denoiser, classes: int, label_drop: bool = True) -> Denoiser:
        """The denoiser of a network with `classes` classes, conditioned.

        label_drop: whether labels were dropped in training, without which there is no "no class" to guide away from.
        Raises ValueError for a class that the network does not have, and for guidance other than 1 without label_drop.
        """
        if self.label is None:
            return denoiser
        if not classes:
            raise ValueError("this network was trained without classes: train one with --classes")
        unknown = np.setdiff1d(self.label, range(classes))
        if len(unknown):
            raise ValueError(f"this network has the classes 0…{classes - 1}, not {unknown[0]}")
        if self.guidance != 1 and not label_drop:
            raise ValueError("this network was trained with every label, so the only guidance it allows is 1")
        return classifier_free(denoiser, self.label, classes, self.guidance)


def classifier_free(denoiser: Denoiser, label: int | np.ndarray, no_class: int, scale: float) -> Denoiser:
    """Towards the class `label`, one or (B,), with a network conditioned on classes and on `no_class`, ∅.

    Both are evaluated as one batch; scales 0 and 1 need only one of them. A learned variance is that of the class.
    Raises ValueError for a scale that is no finite number.
    """
    _check_scale(scale)
    if scale in (0, 1):
        return replace(denoiser, label=label if scale else no_class)
    label = np.asarray(label)

    def net(x: np.ndarray, t: np.ndarray, y: np.ndarray) -> np.ndarray:
        labels = np.concatenate([y, np.full(len(x), no_class)])
        output = denoiser.net(np.concatenate([x, x]), np.concatenate([t, t]), labels)
        given, free = output[: len(x)], output[len(x) :]
        channels = x.shape[-1]
        guided = free[..., :channels] + scale * (given[..., :channels] - free[..., :channels])
        return np.concatenate([guided, given[..., channels:]], axis=-1)

    return replace(denoiser, net=net, label=label)


def by_classifier(
    denoiser: Denoiser, gradient: Callable[[np.ndarray, np.ndarray], np.ndarray], scale: float
) -> Denoiser:
    """Along `gradient(x_t, t)`: ∇ log p(y | x_t) of a classifier that was trained on noisy samples.

    gradient: from x (B, …) and t (B,), the times at which the network is evaluated too, to the shape of x. Where
    ᾱ_t = 0, and x_t is independent of y, it is not evaluated. Raises ValueError for a scale that is no finite number,
    and at the first call for a gradient of another shape.
    """
    _check_scale(scale)
    schedule = denoiser.schedule

    def amount(t: np.ndarray) -> np.ndarray:
        """The factor of the gradient g in the output: ε̂ + δ with δ = −w σ g is x̂_0 − σ δ/√ᾱ (R5) and v̂ + δ/√ᾱ."""
        index = np.searchsorted(schedule.times, t) if t.dtype.kind in "iu" else t
        level = schedule.at(index)
        signal, sigma = np.sqrt(level.alpha_bar), np.sqrt(level.one_minus_alpha_bar)
        with np.errstate(divide="ignore"):
            factor = {"eps": -sigma, "x0": sigma**2 / signal, "v": -sigma / signal}[denoiser.prediction]
        return np.where(signal > 0, scale * factor, 0.0)

    def net(x: np.ndarray, t: np.ndarray, *label: np.ndarray) -> np.ndarray:
        output = np.array(denoiser.net(x, t, *label))
        factor = amount(t)
        if not factor.any():
            return output
        g = np.asarray(gradient(x, t))
        if g.shape != x.shape:
            raise ValueError(f"expected a gradient of the shape of x, {x.shape}, got {g.shape}")
        output[..., : x.shape[-1]] += noising.shaped(factor, x) * g
        return output

    return replace(denoiser, net=net)


def dynamic_threshold(quantile: float = 0.995) -> Callable[[np.ndarray], np.ndarray]:
    """For `Denoiser(clip=…)`: brings x̂_0 (B, …) into [−1, 1], each sample by its own threshold.

    s is the quantile of the sample's |x̂_0|, or 1 where that is less. x̂_0 is clipped to [−s, s] and divided by s: where
    guidance drives many pixels out of range, the contrast of the others is kept. Raises ValueError for a quantile
    outside (0, 1].
    """
    if not 0 < quantile <= 1:
        raise ValueError(f"expected a quantile in (0, 1], got {quantile}")

    def threshold(x0: np.ndarray) -> np.ndarray:
        size = np.abs(x0).reshape(len(x0), -1)
        s = noising.shaped(np.maximum(1.0, np.quantile(size, quantile, axis=1)), x0)
        scaled: np.ndarray = np.clip(x0, -s, s) / s
        return scaled

    return threshold


def _check_scale(scale: float) -> None:
    if not np.isfinite(scale):
        raise ValueError(f"expected a guidance scale that is a finite number, got {scale}")
