"""Predictor–corrector sampling (Song et al. 2021b): a step of DDPM down to s, then Langevin steps at s.

The predictor is DDPM with variance β, its authors' ancestral sampling. A Langevin step follows the score and adds
noise,

    x ← x + δ ∇log q_s(x) + √(2δ) z = x − δ/√(1−ᾱ_s) ε̂ + √(2δ) z,        δ = 2 r² (1−ᾱ_s)

and leaves q_s invariant up to the step size δ, while it reduces the predictor's error. The paper has δ = 2 (r
‖z‖/‖score‖)² with norms that are means over the batch. A sample must not depend on its batch, so the norms are
replaced by their values for a good denoiser, √D and √D/√(1−ᾱ_s). r = `snr` is the paper's signal-to-noise ratio of a
step, 0.16 there.
"""

from collections.abc import Iterator, Sequence
from math import inf, sqrt

import numpy as np

from minidiff.diffusion.denoiser import Denoiser
from minidiff.diffusion.noising import AffineStep
from minidiff.diffusion.samplers.ancestral import steps as ddpm_steps
from minidiff.diffusion.samplers.randomness import NoiseSource
from minidiff.diffusion.samplers.registry import Sampler
from minidiff.diffusion.samplers.state import State
from minidiff.diffusion.schedules import Schedule

MAX_CORRECTIONS = 1000  # at each time: more would be another method


def steps(
    schedule: Schedule, timesteps: Sequence[int] | None = None, corrections: int = 1, snr: float = 0.16
) -> list[list[AffineStep]]:
    """For each time the predictor's step to it and the corrector's at it (none at 0), in float64.

    Raises ValueError for invalid times, corrections outside 0…1000 or an snr that is not positive.
    """
    if not (0 <= corrections <= MAX_CORRECTIONS and 0 < snr < inf):
        raise ValueError(
            f"expected corrections ≥ 0, at most {MAX_CORRECTIONS}, and snr > 0, got {corrections} and {snr}"
        )
    return [
        [predict] + [_langevin(schedule, predict.s, snr)] * (corrections if predict.s > 0 else 0)
        for predict in ddpm_steps(schedule, timesteps, "large")
    ]


def _langevin(schedule: Schedule, s: float, r: float) -> AffineStep:
    sigma = sqrt(schedule.at(s).one_minus_alpha_bar)
    return AffineStep(s, s, x=1.0, x0=0.0, eps=-2 * r * r * sigma, sigma=2 * r * sigma)


def predictor_corrector(
    denoiser: Denoiser,
    x_T: np.ndarray,
    rng: np.random.Generator,
    timesteps: Sequence[int] | None = None,
    corrections: int = 1,
    snr: float = 0.16,
) -> Iterator[State]:
    """Predictor–corrector from x_T (B, …), float32 or float64, over `timesteps` that fall strictly to 0 (None: all).

    corrections: Langevin steps at each time. snr: r, the signal-to-noise ratio of each.

    Yields a State at each time, whose arrays the caller may keep or change; x̂_0 is the predictor's. Spawns one child
    of `rng`. Raises ValueError (at the first step) for invalid times, corrections outside 0…1000 or an snr that is not
    positive.
    """
    plan = steps(denoiser.schedule, timesteps, corrections, snr)
    noise = NoiseSource(rng, x_T.shape, x_T.dtype)
    x = x_T
    for predict, *correct in plan:
        x0 = denoiser(x, predict.t).x0
        x = predict.x * x + predict.x0 * x0
        if predict.sigma > 0:
            x += predict.sigma * noise()
        for step in correct:
            x = x + step.eps * denoiser(x, step.t).eps + step.sigma * noise()
        yield State(predict.s, x.copy(), x0)


PREDICTOR_CORRECTOR = Sampler(
    predictor_corrector,
    help={"corrections": "Langevin steps at each time", "snr": "signal-to-noise ratio of the corrector"},
)
