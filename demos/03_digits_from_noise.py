"""Demo 3: handwritten digits out of noise, step by step.

A small U-Net is trained on the built-in digits for 800 steps; these are few, and the digits are rough (`minidiff
quickstart` trains longer and gets better ones). Then ten are sampled with DDIM. On the left: x_t, from noise at the top
to a digit at the bottom. On the right: x̂₀, the network's estimate of the digit at that time: a blur of many digits at
first, then one of them. (The first steps are left out: there √ᾱ_t, by which x̂₀ is divided, is almost 0.)

    python demos/03_digits_from_noise.py      writes demos/pictures/03_digits_from_noise.png and .gif
"""

from pathlib import Path

import numpy as np

from minidiff import datasets, nn, plots, samplers, schedules, training

PICTURE = Path(__file__).parent / "pictures" / "03_digits_from_noise.png"

rng = np.random.default_rng(0)
data = datasets.load("digits")
schedule = schedules.cosine(T=1000)
net = nn.UNet(
    rng, size=8, channels=1, width=32, multipliers=(1, 2), depth=1, attention=(4,), groups=8, dropout=0.0
)
print(f"{net.count_parameters():,} parameters, {len(data.x)} digits")

options = training.TrainingOptions(batch=64, lr=3e-3, warmup=100)
trainer = training.Trainer(net, schedule, data.x, options=options, rng=rng)
for step in trainer.run(steps=800):
    if step.step % 100 == 0:
        print(f"step {step.step}: loss {step.loss:.4f}")

denoiser = trainer.denoiser(clip=(-1, 1))
x_T = samplers.initial_noise(rng, (10, 8, 8, 1))
states = list(samplers.ddim(denoiser, x_T, rng, samplers.spaced(schedule, "trailing", 50)))

shown = states[5::7] + states[-1:]
noisy = np.concatenate([state.x for state in shown])
estimated = np.concatenate([state.x0 for state in shown])
strip = np.concatenate([plots.image_grid(rows, columns=10, side=400) for rows in (noisy, estimated)], axis=1)

PICTURE.parent.mkdir(exist_ok=True)
plots.save(strip, PICTURE)
plots.animate([plots.image_grid(state.x, columns=5) for state in states], PICTURE.with_suffix(".gif"))
print(f"times shown, from top to bottom: {', '.join(str(state.t) for state in shown)}")
print(f"wrote {PICTURE} and {PICTURE.with_suffix('.gif')}")
