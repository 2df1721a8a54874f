"""Given images changed: parts painted anew, and ways from one to another.

Inpainting, by replacement (Song et al. 2021) and with RePaint's resampling (Lugmayr et al. 2022): after each step
t → s the known pixels are those of the image itself, noised to s. What is new was drawn with other known pixels beside
it than those, so the two do not quite fit; going back up, x_t ~ q(x_t | x_s), and down again lets them agree. A jump up
over several steps takes more of what is new away, and so leaves it freer to change.

Interpolation: each image has its noise, from which DDIM with η = 0 makes it (`invert`). Between two such noises the
way is along the sphere on which normal noise lies. Or both images are noised up to some t, with the same noise, mixed
there, and drawn from there on: the further up, the freer (Ho et al. 2020).
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
    """Samples from x_T (B, …) that are `known` (B, …) where `mask` is true; those come out exactly as they were.

    mask: of bools, broadcastable against x. timesteps: falling strictly to 0; None: all. resample: how often each
    step is gone but the last, which is gone once; 1 is replacement alone. jump: how many steps are gone before the way
    back up over them. RePaint takes 10 of both. eta: of the steps, which are DDIM's; 1 is DDPM.

    Yields a State after each step, the last time it is gone. Takes one child of `rng`. Raises ValueError (at the
    first step) for a mask or an image of another shape, a resample or jump below 1, bad times or an η out of range.
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
        for left in reversed(range(resample if bottom > 0 else 1)):
            for step in block:
                x0, eps, _ = denoiser(x, step.t)
                x = step.x0 * x0 + step.eps * eps
                if step.sigma > 0:
                    x += step.sigma * noise()
                noised = noising.diffuse(schedule, known, step.s, noise()) if step.s > 0 else known
                x = np.where(mask, noised, x)
                if left == 0:
                    yield State(step.s, x.copy(), x0)
            if left > 0:
                alpha, beta = schedule.kernel(bottom, top)
                x = sqrt(alpha) * x + sqrt(beta) * noise()


def interpolate(
    denoiser: Denoiser,
    first: np.ndarray,
    second: np.ndarray,
    shares: np.ndarray,
    timesteps: Sequence[int] | None = None,
) -> np.ndarray:
    """Images on the way from `first` to `second` (…), by way of their noises: (K, …) for shares (K,), 0 to 1.

    Both ends come back as well as DDIM comes back from its own inversion at these times (None: all).
    """
    start, end = final(invert(denoiser, np.stack([first, second]), timesteps))
    x_T = np.stack([slerp(start, end, share) for share in shares])
    return final(ddim(denoiser, x_T, np.random.default_rng(0), timesteps))  # η = 0 draws nothing


def interpolate_by_noising(
    denoiser: Denoiser,
    first: np.ndarray,
    second: np.ndarray,
    shares: np.ndarray,
    rng: np.random.Generator,
    timesteps: Sequence[int],
) -> np.ndarray:
    """Images between `first` and `second` (…): mixed, noised to timesteps[0] with one noise, and drawn from there.

    (K, …) for shares (K,). DDPM's steps over `timesteps`, which fall to 0. All share one noise at the start, as Ho et
    al. have it, so that along the way it is the share alone that changes.
    """
    share = noising.shaped(shares, np.empty((len(shares), *first.shape), first.dtype))
    mixed = (1 - share) * first + share * second
    noise = np.broadcast_to(rng.standard_normal(first.shape, first.dtype), mixed.shape)
    x_t = noising.diffuse(denoiser.schedule, mixed, timesteps[0], noise)
    return final(ddpm(denoiser, x_t, rng, timesteps))


def slerp(first: np.ndarray, second: np.ndarray, share: float) -> np.ndarray:
    """The point at `share` of the arc from `first` to `second`, whose lengths it goes through evenly (Shoemake 1985).

    sin((1−λ)θ)/sin θ · first + sin(λθ)/sin θ · second, with θ the angle between them; in a straight line where that is
    (nearly) 0 or π, so that there is no arc, or no one arc.
    """
    lengths = np.linalg.norm(first) * np.linalg.norm(second)
    cosine = np.vdot(first, second) / lengths if lengths > 0 else 1.0
    angle = np.arccos(np.clip(cosine, -1, 1))
    if np.sin(angle) < 1e-4:
        return ((1 - share) * first + share * second).astype(first.dtype)
    towards, to = np.sin((1 - share) * angle) / np.sin(angle), np.sin(share * angle) / np.sin(angle)
    return (float(towards) * first + float(to) * second).astype(first.dtype)
