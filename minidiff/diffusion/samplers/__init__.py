"""From noise to data: one file a family, each a generator `sampler(denoiser, x_T, rng, timesteps=None, …)`.

A sampler yields `State(t, x, x0)` after each step and ends at t = 0:

    x_T = initial_noise(rng, (64, 8, 8, 1))
    for state in ddim(denoiser, x_T, rng, trailing(1000, 50)):
        ...                       # a progress bar, a picture, an early stop
    images = final(ddim(denoiser, x_T, rng))

`invert` goes the other way, from data to the noise that DDIM makes it of.
"""

from minidiff.diffusion.samplers.ancestral import ddpm
from minidiff.diffusion.samplers.ddim import ddim, invert
from minidiff.diffusion.samplers.dpm_solver import dpmpp_2m
from minidiff.diffusion.samplers.heun import heun
from minidiff.diffusion.samplers.langevin import predictor_corrector
from minidiff.diffusion.samplers.plms import plms
from minidiff.diffusion.samplers.randomness import initial_noise
from minidiff.diffusion.samplers.state import State, final
from minidiff.diffusion.samplers.timesteps import SPACING_NAMES, SPACINGS, spaced
from minidiff.diffusion.samplers.unipc import unipc

SAMPLERS = {
    "ddpm": ddpm,
    "ddim": ddim,
    "plms": plms,
    "dpmpp_2m": dpmpp_2m,
    "heun": heun,
    "unipc": unipc,
    "pc": predictor_corrector,
}

__all__ = [
    "SAMPLERS",
    "SPACINGS",
    "SPACING_NAMES",
    "State",
    "ddim",
    "ddpm",
    "dpmpp_2m",
    "final",
    "heun",
    "initial_noise",
    "invert",
    "plms",
    "predictor_corrector",
    "spaced",
    "unipc",
]
