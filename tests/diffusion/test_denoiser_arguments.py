"""What a Denoiser built from the wrong arguments, or around the wrong function, reports."""

import numpy as np
import pytest

from minidiff import schedules
from minidiff.autograd import Tensor
from minidiff.diffusion.denoiser import Denoiser

SCHEDULE = schedules.linear(100)


def half(x, t):
    return x / 2


@pytest.mark.parametrize(
    ("arguments", "got"),
    [
        ((SCHEDULE, half), "Schedule and function"),
        ((half, schedules.linear), "function and function"),
        ((half, "linear"), "function and str"),
    ],
)
def test_a_denoiser_needs_a_network_and_a_schedule_in_this_order(arguments, got):
    with pytest.raises(
        TypeError, match=rf"^expected Denoiser\(net, schedule, …\): a network and a Schedule, got {got}$"
    ):
        Denoiser(*arguments)


@pytest.mark.parametrize("clip", [1.0, (-1, 0, 1), ((0, 1), (2, 3))])
def test_a_clip_of_another_shape_is_refused(clip):
    with pytest.raises(ValueError, match=r"expected clip as \(low, high\) with low < high, got"):
        Denoiser(half, SCHEDULE, clip=clip)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (lambda x: None, r"^expected an array from the network, got None: does net\(x, t\) lack a return\?$"),
        (Tensor, r"^expected an array from the network, got a Tensor: .* take its \.data$"),
        (lambda x: "ε", "^expected an array from the network, got a str: could not convert"),
    ],
)
def test_a_network_output_that_is_not_an_array_is_refused(output, message):
    with pytest.raises(TypeError, match=message):
        Denoiser(lambda x, t: output(x), SCHEDULE)(np.ones((3, 2), np.float32), 5)
