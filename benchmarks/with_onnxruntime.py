"""The forward passes of the U-Nets in ONNX Runtime."""

import os
from collections.abc import Callable

import exported
import numpy as np
import onnxruntime


def work(name: str) -> Callable[[], np.ndarray]:
    """The work of a name, prepared; KeyError for all works but the forward passes of U-Nets."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
    session = onnxruntime.InferenceSession(exported.graph(name), options, ["CPUExecutionProvider"])
    inputs = exported.inputs(name)
    return lambda: session.run(None, inputs)[0].transpose(0, 2, 3, 1)
