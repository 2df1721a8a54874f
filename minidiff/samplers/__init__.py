"""From noise to data: one file a family, each a generator `sampler(denoiser, x_T, rng, timesteps=None, …)`.

A sampler yields `State(t, x, x0)` after each step and ends at t = 0:

    x_T = initial_noise(rng, (64, 8, 8, 1))
    for state in ddim(denoiser, x_T, rng, trailing(1000, 50)):
        ...                       # a progress bar, a picture, an early stop
    images = final(ddim(denoiser, x_T, rng))
"""

from minidiff.samplers.ancestral import ddpm
from minidiff.samplers.ddim import ddim
from minidiff.samplers.randomness import initial_noise
from minidiff.samplers.state import State, final
from minidiff.samplers.timesteps import SPACINGS

SAMPLERS = {"ddpm": ddpm, "ddim": ddim}

__all__ = ["SAMPLERS", "SPACINGS", "State", "ddim", "ddpm", "final", "initial_noise"]
