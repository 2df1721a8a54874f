"""Derivatives of networks as plain functions of arrays, for the likelihood of the ODE and for classifier guidance."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from minidiff import autograd as ag
from minidiff import nn
from minidiff.autograd import Tensor
from minidiff.evaluation.classifier import Classifier

M = TypeVar("M", bound=nn.Module)


def without_gradients(module: M) -> M:
    """A copy of `module` over the same arrays whose parameters require no gradient."""
    memo = {id(p): Tensor(p.data) for p in module.named_parameters().values()}
    return copy.deepcopy(module, memo)


def network_vjp(
    net: nn.Network, label: int | None = None
) -> Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """`vjp(x, t, v)` → vᵀ ∂net/∂x for x (B, …), t (B,) and v of the shape of x, as `probability_flow` takes it.

    label: the class that the network is conditioned on; None: unconditional. Of a network with a learned variance, the
    derivative of its prediction.
    """
    net = without_gradients(net)

    def vjp(x: np.ndarray, t: np.ndarray, v: np.ndarray) -> np.ndarray:
        inputs = Tensor(x.astype(net.dtype), requires_grad=True)
        output = net(inputs, t, None if label is None else np.full(len(x), label))
        assert isinstance(output, Tensor)  # as the inputs are
        return _vjp(output[..., : x.shape[-1]], inputs, v)

    return vjp


def class_gradient(classifier: Classifier, label: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """`gradient(x, t)` → ∇ log p(label | x) for x (B, H, W, C), as `guidance.by_classifier` takes it.

    classifier: trained on noisy images (`classifier.fit` with a schedule). It has no time input and estimates the level
    of noise from x itself, so t is not used. Raises ValueError for a label outside 0…classes − 1.
    """
    if not 0 <= label < classifier.classes:
        raise ValueError(f"expected a class of this classifier, 0…{classifier.classes - 1}, got {label}")
    classifier = without_gradients(classifier)

    def gradient(x: np.ndarray, t: np.ndarray) -> np.ndarray:
        inputs = Tensor(x.astype(np.float32), requires_grad=True)
        log_p = ag.log_softmax(classifier.logits(classifier.features_of(inputs)))
        return _vjp(log_p[:, label], inputs, np.ones(len(x)))

    return gradient


def _vjp(output: Tensor, inputs: Tensor, v: np.ndarray) -> np.ndarray:
    """vᵀ ∂output/∂inputs; `inputs` is a leaf without a gradient so far."""
    output.backward(v)
    assert inputs.grad is not None  # `backward` has written it
    return inputs.grad
