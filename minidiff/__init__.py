"""Denoising diffusion from scratch: NumPy, with Numba for the hot kernels, and nothing else beneath."""
