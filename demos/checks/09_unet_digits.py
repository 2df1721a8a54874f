"""Checks of session 9: the join by the engine's own operations, clipping by F4, guidance by its ends."""

from collections.abc import Callable

import numpy as np
from comparison import compare

from minidiff import autograd as ag
from minidiff import noising, schedules
from minidiff.autograd import Tensor


def check_join(f: Callable) -> str | None:
    """np.repeat along axes 1 and 2, a slice to the height and width of the skip, then concatenate along axis 3."""
    rng = np.random.default_rng(0)
    for height, width in ((4, 6), (5, 3)):
        low = rng.standard_normal((2, (height + 1) // 2, (width + 1) // 2, 3))
        skip = rng.standard_normal((2, height, width, 3))
        wide = ag.upsample_nearest(Tensor(low)).data[:, :height, :width]
        tiled = np.tile(low, (1, 2, 2, 1))[:, :height, :width]
        errors = {
            "is it np.tile? That repeats the image, np.repeat each pixel": np.concatenate(
                [tiled, skip], axis=3
            ),
            "is the skip first? It comes after": np.concatenate([skip, wide], axis=3),
            "are they added? A block takes them side by side": wide + skip,
            "are they joined along the height? The channels are axis 3": np.concatenate([wide, skip], axis=1),
            "are they joined along the batch? The channels are axis 3": np.concatenate([wide, skip], axis=0),
        }
        expected = np.concatenate([wide, skip], axis=3)
        wrong = compare(
            f"the joined input at {height} × {width} pixels", f(low.copy(), skip.copy()), expected, errors
        )
        if wrong:
            return wrong
    return None


def check_clipped(f: Callable) -> str | None:
    """Clip x̂_0 = (x_t − √(1−ᾱ) ε̂)/√ᾱ; then solve F4, x_t = √ᾱ x̂_0 + √(1−ᾱ) ε̂, for ε̂ again."""
    schedule, t = schedules.linear(T=10, beta_start=0.02, beta_end=0.3), 6
    x_t, eps = np.array([1.5, -0.2, -2.0]), np.array([-0.8, 0.1, 0.9])
    a = schedule.alpha_bar[t]
    raw = noising.x0_from_eps(schedule, x_t, eps, t)
    x0 = np.clip(raw, -1, 1)
    got_x0, got_eps = f(x_t.copy(), eps.copy(), a, -1.0, 1.0)
    errors = {
        "have you forgotten to clip?": raw,
        "is x_t clipped, where x̂_0 should be?": noising.x0_from_eps(schedule, np.clip(x_t, -1, 1), eps, t),
        "is it x_t that you clipped?": np.clip(x_t, -1, 1),
        "is it scaled by the largest value, where it should be clipped?": raw / np.abs(raw).max(),
    }
    wrong = compare("x̂_0", got_x0, x0, errors)
    errors = {
        "is ε̂ still the old one? With the clipped x̂_0 it contradicts x_t": eps,
        "is ε̂ clipped too? It has no range": np.clip(eps, -1, 1),
        "have you exchanged √ᾱ and √(1−ᾱ)?": (x_t - np.sqrt(1 - a) * x0) / np.sqrt(a),
        "have you divided by 1−ᾱ, where its root belongs?": (x_t - np.sqrt(a) * x0) / (1 - a),
    }
    return wrong or compare("ε̂", got_eps, noising.eps_from_x0(schedule, x_t, x0, t), errors)


def check_guided(f: Callable) -> str | None:
    """ε̂ without a class, and w times the difference from it to that of the class: one of the two at w = 0 and 1."""
    free, given = np.array([0.3, -1.0]), np.array([1.1, 0.4])
    for w in (2.5, 1.0, 0.0):
        errors = {
            "is it the scale of Ho & Salimans? Theirs is one less: here w = 1 is the class as learned": (
                (1 + w) * given - w * free
            ),
            "are the two exchanged?": given + w * (free - given),
            "is the difference turned round? It leads from no class to the class": free - w * (given - free),
            "is w the whole weight of the class? That of no class is 1 − w": free + w * given,
            "is the prediction without a class left out?": w * (given - free),
        }
        wrong = compare(f"ε̂ for w = {w}", f(free.copy(), given.copy(), w), free + w * (given - free), errors)
        if wrong:
            return wrong
    return None
