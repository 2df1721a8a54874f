"""Where the mathematics meets the engine: what is learned (`objectives`) and how (`trainer`, Algorithm 1)."""

from minidiff.training.trainer import Diverged, Step, Trainer

__all__ = ["Diverged", "Step", "Trainer"]
