"""The forward passes of the U-Nets in OpenVINO, in float32 or bf16."""

import os
from collections.abc import Callable

import exported
import numpy as np
import openvino


def work(name: str, variant: str = "f32") -> Callable[[], np.ndarray]:
    """The work of a name, prepared; variant: "f32" or "bf16", of which OpenVINO takes the fastest by default.

    KeyError for all works but the forward passes of U-Nets.
    """
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": int(os.environ["OMP_NUM_THREADS"]),
        "INFERENCE_PRECISION_HINT": variant,
    }
    compiled = openvino.compile_model(openvino.Core().read_model(exported.graph(name)), "CPU", options)
    inputs = exported.inputs(name)
    return lambda: compiled(inputs)[0].transpose(0, 2, 3, 1)
