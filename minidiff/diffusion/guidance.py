"""Denoisers that are steered: each function takes a `Denoiser` and returns one.

    classifier-free   ε̂ = ε̂(x_t, ∅) + w (ε̂(x_t, y) − ε̂(x_t, ∅))                Ho & Salimans 2022
    classifier        ε̂ = ε̂(x_t) − w √(1−ᾱ_t) ∇ log p(y | x_t)                  Dhariwal & Nichol 2021
    thresholding      x̂_0 ← clip(x̂_0, −s, s)/s, s = max(1, a quantile of |x̂_0|)  Saharia et al. 2022

y is the class asked for, ∅ none. With the scale w, as everywhere here, 0 is no guidance at all, 1 is the law of the
class as Bayes has it, and more exaggerates what is typical of the class. (The first paper counts from the
class on: its w is one less.)

x̂_0, ε̂ and v̂ are affine in each other, so what is said of ε̂ holds for the answer of a network that predicts
any of them. Guidance changes that answer; after it the denoiser clips x̂_0 and derives ε̂ again as ever.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from minidiff.diffusion import noising
from minidiff.diffusion.denoiser import Denoiser


def classifier_free(denoiser: Denoiser, label: int | np.ndarray, no_class: int, scale: float) -> Denoiser:
    """Towards the class `label`, one or (B,), with a network that knows classes and "no class", ∅, by a number.

    Both are asked as one batch; scale 0 and 1 need only one of them. A learned variance is that of the class.
    Raises ValueError for a scale that is no finite number.
    """
    _check_scale(scale)
    if scale in (0, 1):
        return replace(denoiser, label=label if scale else no_class)
    label = np.asarray(label)

    def net(x: np.ndarray, t: np.ndarray, told: np.ndarray) -> np.ndarray:
        labels = np.concatenate([told, np.full(len(x), no_class)])
        answer = denoiser.net(np.concatenate([x, x]), np.concatenate([t, t]), labels)
        given, free = answer[: len(x)], answer[len(x) :]
        channels = x.shape[-1]
        guided = free[..., :channels] + scale * (given[..., :channels] - free[..., :channels])
        return np.concatenate([guided, given[..., channels:]], axis=-1)

    return replace(denoiser, net=net, label=label)


def by_classifier(
    denoiser: Denoiser, gradient: Callable[[np.ndarray, np.ndarray], np.ndarray], scale: float
) -> Denoiser:
    """Towards whatever `gradient(x_t, t)` climbs: ∇ log p(y | x_t) of a classifier that knows noisy samples.

    gradient: from x (B, …) and t (B,), the times at which the network too is asked, to the shape of x. It is not asked
    where ᾱ_t = 0: there x_t says nothing of y. Raises ValueError for a scale that is no finite number, and at the
    first call for a gradient of another shape.
    """
    _check_scale(scale)
    schedule = denoiser.schedule

    def amount(t: np.ndarray) -> np.ndarray:
        """What the gradient counts in the answer: ε̂ + δ with δ = −w σ g is x̂_0 − σ δ/√ᾱ (R5) and v̂ + δ/√ᾱ."""
        index = np.searchsorted(schedule.times, t) if t.dtype.kind in "iu" else t
        level = schedule.at(index)
        signal, sigma = np.sqrt(level.alpha_bar), np.sqrt(level.one_minus_alpha_bar)
        with np.errstate(divide="ignore"):
            factor = {"eps": -sigma, "x0": sigma**2 / signal, "v": -sigma / signal}[denoiser.prediction]
        return np.where(signal > 0, scale * factor, 0.0)

    def net(x: np.ndarray, t: np.ndarray, *label: np.ndarray) -> np.ndarray:
        answer = np.array(denoiser.net(x, t, *label))
        factor = amount(t)
        if not factor.any():
            return answer
        slope = np.asarray(gradient(x, t))
        if slope.shape != x.shape:
            raise ValueError(f"expected a gradient of the shape of x, {x.shape}, got {slope.shape}")
        answer[..., : x.shape[-1]] += noising.shaped(factor, x) * slope
        return answer

    return replace(denoiser, net=net)


def dynamic_threshold(quantile: float = 0.995) -> Callable[[np.ndarray], np.ndarray]:
    """For `Denoiser(clip=…)`: brings x̂_0 (B, …) into [−1, 1], each sample by its own threshold.

    s is the quantile of the sample's |x̂_0|, or 1 where that is less. Beyond s is clipped, and what is left divided
    by s: where guidance drives many pixels out of range, the others keep their distance instead of being
    flattened too. Raises ValueError for a quantile outside (0, 1].
    """
    if not 0 < quantile <= 1:
        raise ValueError(f"expected a quantile in (0, 1], got {quantile}")

    def threshold(x0: np.ndarray) -> np.ndarray:
        size = np.abs(x0).reshape(len(x0), -1)
        s = noising.shaped(np.maximum(1.0, np.quantile(size, quantile, axis=1)), x0)
        return np.clip(x0, -s, s) / s

    return threshold


def _check_scale(scale: float) -> None:
    if not np.isfinite(scale):
        raise ValueError(f"expected the scale of guidance as a finite number, got {scale}")
