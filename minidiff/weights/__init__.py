"""Published weights in and out: safetensors and PyTorch's files, read without a framework; folders of diffusers."""

from minidiff.weights import scheduler
from minidiff.weights.folders import Published, read, write
from minidiff.weights.scheduler import Scheduler

__all__ = ["Published", "Scheduler", "read", "scheduler", "write"]
