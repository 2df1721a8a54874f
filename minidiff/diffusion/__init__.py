"""The mathematics of denoising diffusion, on plain NumPy arrays: it imports nothing of the engine.

Read in the order in which data flows: `schedules`, `noising`, `denoiser`, `samplers`; then `oracles`, the proof.
"""
