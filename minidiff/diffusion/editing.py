"""Editing of given images: inpainting, and interpolation between two of them.

Inpainting, by replacement (Song et al. 2021) and with RePaint's resampling (Lugmayr et al. 2022): after each step
t → s the known pixels are replaced by those of the image itself, noised to s. The new pixels were sampled beside other
known pixels than these, so the two do not quite match; resampling, which noises back, x_t ~ q(x_t | x_s), and repeats
the step, harmonises them. A longer jump, back over several steps, adds more noise and so leaves the new pixels freer to
change.

Interpolation: DDIM with η = 0 maps each image to a noise, and this noise back to the image (`invert`). Between two such
noises the path is an arc on the sphere near which normal noise lies. Or both images are mixed, noised to some t, and
denoised from there: the larger t, the freer the result (Ho et al. 2020).
"""

from collections.abc import Iterator, Sequence
from math import sqrt

import numpy as np

from minidiff.diffusion import noising
from minidiff.diffusion.denoiser import Denoiser
from minidiff.diffusion.samplers import ddim, ddpm, final, invert
from minidiff.diffusion.samplers.ddim import steps as ddim_steps
from minidiff.diffusion.samplers.randomness import NoiseSource
from minidiff.diffusion.samplers.state import State


def inpaint(
    denoiser: Denoiser,
    x_T: np.ndarray,
    rng: np.random.Generator,
    known: np.ndarray,
    mask: np.ndarray,
    timesteps: Sequence[int] | None = None,
    resample: int = 1,
    jump: int = 1,
    eta: float = 1.0,
) -> Iterator[State]:
    """Samples from x_T (B, …) that equal `known` (B, …) where `mask` is true: those pixels are returned unchanged.

    mask: of bools, broadcastable against x. timesteps: decreasing strictly to 0; None: all. resample: the number of
    RePaint's resampling steps, how often each step is made (the last step is made once); 1 is replacement alone. jump:
    the jump length, the number of steps that are resampled together. RePaint takes 10 for both. eta: of the steps,
    which are DDIM's; 1 is DDPM.

    Yields a State after each step, when it is made for the last time. Takes one child of `rng`. Raises ValueError (at
    the first step) for a mask or an image of another shape, a resample or jump below 1, bad times or an η out of range.
    """
    schedule = denoiser.schedule
    if resample < 1 or jump < 1:
        raise ValueError(f"expected resample and jump of at least 1, got {resample} and {jump}")
    if known.shape != x_T.shape:
        raise ValueError(f"expected known images of shape {x_T.shape}, got {known.shape}")
    mask = np.asarray(mask)
    if mask.dtype != bool or np.broadcast_shapes(mask.shape, x_T.shape) != x_T.shape:
        raise ValueError(f"expected a mask of bools that fits {x_T.shape}, got {mask.dtype} {mask.shape}")
    noise = NoiseSource(rng, x_T.shape, x_T.dtype)
    x = x_T
    *down, last = ddim_steps(schedule, timesteps, eta)
    for block in [*(down[i : i + jump] for i in range(0, len(down), jump)), [last]]:
        top, bottom = block[0].t, block[-1].s
        for repeats in reversed(range(resample if bottom > 0 else 1)):
            for step in block:
                x0, eps, _ = denoiser(x, step.t)
                x = step.x0 * x0 + step.eps * eps
                if step.sigma > 0:
                    x += step.sigma * noise()
                noised = noising.diffuse(schedule, known, step.s, noise()) if step.s > 0 else known
                x = np.where(mask, noised, x)
                if repeats == 0:
                    yield State(step.s, x.copy(), x0)
            if repeats > 0:
                alpha, beta = schedule.kernel(bottom, top)
                x = sqrt(alpha) * x + sqrt(beta) * noise()


def interpolate(
    denoiser: Denoiser,
    first: np.ndarray,
    second: np.ndarray,
    weights: np.ndarray,
    timesteps: Sequence[int] | None = None,
) -> np.ndarray:
    """Images between `first` and `second` (…), interpolated in their noises: (K, …) for weights (K,), 0 to 1.

    `first` (weight 0) and `second` (weight 1) are reproduced up to the error of DDIM's inversion at these times (None:
    all).
    """
    start, end = final(invert(denoiser, np.stack([first, second]), timesteps))
    x_T = np.stack([slerp(start, end, weight) for weight in weights])
    return final(ddim(denoiser, x_T, np.random.default_rng(0), timesteps))  # η = 0 draws nothing


def interpolate_by_noising(
    denoiser: Denoiser,
    first: np.ndarray,
    second: np.ndarray,
    weights: np.ndarray,
    rng: np.random.Generator,
    timesteps: Sequence[int],
) -> np.ndarray:
    """Images between `first` and `second` (…): mixed, noised to timesteps[0], and denoised from there.

    (K, …) for weights (K,), 0 to 1. DDPM's steps over `timesteps`, which decrease to 0. All are noised with the same
    noise, as by Ho et al., so that their initial x_t differ in the weight alone.
    """
    weight = noising.shaped(weights, np.empty((len(weights), *first.shape), first.dtype))
    mixed = (1 - weight) * first + weight * second
    noise = np.broadcast_to(rng.standard_normal(first.shape, first.dtype), mixed.shape)
    x_t = noising.diffuse(denoiser.schedule, mixed, timesteps[0], noise)
    return final(ddpm(denoiser, x_t, rng, timesteps))


def slerp(first: np.ndarray, second: np.ndarray, weight: float) -> np.ndarray:
    """Spherical linear interpolation from `first`, at weight 0, to `second`, at weight 1 (Shoemake 1985).

    sin((1−λ)θ)/sin θ · first + sin(λθ)/sin θ · second, with λ the weight and θ the angle between them; linear where θ
    is (nearly) 0 or π, so that there is no arc or no unique one.
    """
    lengths = np.linalg.norm(first) * np.linalg.norm(second)
    cosine = np.vdot(first, second) / lengths if lengths > 0 else 1.0
    angle = np.arccos(np.clip(cosine, -1, 1))
    if np.sin(angle) < 1e-4:
        mixed: np.ndarray = (1 - weight) * first + weight * second
    else:
        of_first, of_second = (
            np.sin((1 - weight) * angle) / np.sin(angle),
            np.sin(weight * angle) / np.sin(angle),
        )
        mixed = float(of_first) * first + float(of_second) * second
    return mixed.astype(first.dtype)
