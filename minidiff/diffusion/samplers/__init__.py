"""From noise to data: one file for each family, each a generator `sampler(denoiser, x_T, rng, timesteps=None, …)`.

A sampler yields `State(t, x, x0)` after each step and ends at t = 0:

    x_T = initial_noise(rng, (64, 8, 8, 1))
    for state in ddim(denoiser, x_T, rng, spaced(denoiser.schedule, "trailing", 50)):
        ...                       # a progress bar, a picture, an early stop
    images = final(ddim(denoiser, x_T, rng))

`invert` integrates the other way, from data to the noise that DDIM maps to it. For a sampler of your own:
`AffineStep`, the coefficients of a step; `explicit`, which checks a list of times; `NoiseSource`, noise that does not
depend on the batch size; and `Sampler`, the record under which `SAMPLERS` lists it by name.
"""

from minidiff.diffusion.noising import AffineStep
from minidiff.diffusion.samplers.ancestral import DDPM, ddpm
from minidiff.diffusion.samplers.ddim import DDIM, ddim, invert
from minidiff.diffusion.samplers.dpm_solver import DPMPP_2M, dpmpp_2m
from minidiff.diffusion.samplers.heun import HEUN, heun
from minidiff.diffusion.samplers.langevin import PREDICTOR_CORRECTOR, predictor_corrector
from minidiff.diffusion.samplers.plms import PLMS, plms
from minidiff.diffusion.samplers.randomness import NoiseSource, initial_noise
from minidiff.diffusion.samplers.registry import Option, Sampler
from minidiff.diffusion.samplers.state import NotFinite, State, final, finite
from minidiff.diffusion.samplers.timesteps import SPACINGS, explicit, spaced
from minidiff.diffusion.samplers.unipc import UNIPC, unipc

SAMPLERS: dict[str, Sampler] = {
    "ddpm": DDPM,
    "ddim": DDIM,
    "plms": PLMS,
    "dpmpp_2m": DPMPP_2M,
    "heun": HEUN,
    "unipc": UNIPC,
    "pc": PREDICTOR_CORRECTOR,
}

__all__ = [
    "SAMPLERS",
    "SPACINGS",
    "AffineStep",
    "NoiseSource",
    "NotFinite",
    "Option",
    "Sampler",
    "State",
    "ddim",
    "ddpm",
    "dpmpp_2m",
    "explicit",
    "final",
    "finite",
    "heun",
    "initial_noise",
    "invert",
    "plms",
    "predictor_corrector",
    "spaced",
    "unipc",
]
