"""Where the mathematics meets the engine: what is learned (`objectives`), the settings (`options`), and Algorithm 1.

trainer = Trainer(net, schedule, data.x, options=TrainingOptions(batch=512, lr=2e-3), rng=rng)
for step in trainer.run(steps=5000):
    ...                       # log, plot or stop
samples = samplers.final(samplers.ddim(trainer.denoiser(), x_T, rng))
"""

from minidiff.training.objectives import Objective
from minidiff.training.options import NetworkOptions, ScheduleOptions, TrainingOptions
from minidiff.training.trainer import Diverged, Step, Trainer

__all__ = [
    "Diverged",
    "NetworkOptions",
    "Objective",
    "ScheduleOptions",
    "Step",
    "Trainer",
    "TrainingOptions",
]
