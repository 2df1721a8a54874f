"""Denoising diffusion from scratch: NumPy, with Numba for the hot kernels, and nothing else beneath.

`from minidiff import schedules, samplers, nn, Run` and so on: every module and class listed here is imported when it is
first used, so that `import minidiff` itself loads nothing.
"""

TYPE_CHECKING = False  # to a type checker it is true; importing `typing` would take longer than all of this

if TYPE_CHECKING:
    from minidiff import autograd as autograd
    from minidiff import cli as cli
    from minidiff import datasets as datasets
    from minidiff import diffusion as diffusion
    from minidiff import evaluation as evaluation
    from minidiff import kernels as kernels
    from minidiff import nn as nn
    from minidiff import runs as runs
    from minidiff import training as training
    from minidiff import weights as weights
    from minidiff.diffusion import denoiser as denoiser
    from minidiff.diffusion import editing as editing
    from minidiff.diffusion import generation as generation
    from minidiff.diffusion import guidance as guidance
    from minidiff.diffusion import likelihood as likelihood
    from minidiff.diffusion import noising as noising
    from minidiff.diffusion import oracles as oracles
    from minidiff.diffusion import probability_flow as probability_flow
    from minidiff.diffusion import samplers as samplers
    from minidiff.diffusion import schedules as schedules
    from minidiff.diffusion.denoiser import Denoiser as Denoiser
    from minidiff.diffusion.generation import Recipe as Recipe
    from minidiff.diffusion.guidance import Conditioning as Conditioning
    from minidiff.evaluation import classifier as classifier
    from minidiff.evaluation import derivatives as derivatives
    from minidiff.evaluation import metrics as metrics
    from minidiff.evaluation import plots as plots
    from minidiff.nn import optim as optim
    from minidiff.runs import Run as Run
    from minidiff.runs import checkpoints as checkpoints
    from minidiff.runs import presets as presets
    from minidiff.training import Trainer as Trainer
    from minidiff.training import TrainingOptions as TrainingOptions
    from minidiff.training import objectives as objectives

__version__ = "0.2.0"

# Where each public name lives; a name in lower case is a module.
_HOME = {
    "diffusion": (
        *("schedules", "noising", "denoiser", "samplers", "oracles", "guidance", "editing"),
        *("likelihood", "probability_flow", "generation"),
    ),
    "diffusion.denoiser": ("Denoiser",),
    "diffusion.generation": ("Recipe",),
    "diffusion.guidance": ("Conditioning",),
    "nn": ("optim",),
    "training": ("objectives", "Trainer", "TrainingOptions"),
    "evaluation": ("metrics", "classifier", "derivatives", "plots"),
    "runs": ("checkpoints", "presets", "Run"),
}
_PACKAGES = (
    *("diffusion", "kernels", "autograd", "nn", "training", "datasets", "evaluation"),
    *("weights", "runs", "cli"),
)
_WHERE = {name: f"minidiff.{home}" for home, names in _HOME.items() for name in names}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    from importlib import import_module

    if name in _PACKAGES:
        return import_module(f"minidiff.{name}")
    if name not in _WHERE:
        raise AttributeError(f"module 'minidiff' has no attribute {name!r}")
    home = _WHERE[name]
    found = import_module(f"{home}.{name}") if name.islower() else getattr(import_module(home), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_PACKAGES, *_WHERE})
