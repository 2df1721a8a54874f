"""Derivatives of networks as plain functions of arrays, for those parts of the mathematics that need one."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np

from minidiff import autograd as ag
from minidiff import nn
from minidiff.autograd import Tensor
from minidiff.evaluation.classifier import Classifier


def frozen(module: nn.Module) -> nn.Module:
    """A second module like `module`, over the same arrays, whose parameters ask for no gradient."""
    memo = {id(p): Tensor(p.data) for p in module.named_parameters().values()}
    return copy.deepcopy(module, memo)


def network_vjp(
    net: nn.Network, label: int | None = None
) -> Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """`vjp(x, t, v)` → vᵀ ∂net/∂x for x (B, …), t (B,) and v, of the shape of x: as `probability_flow` takes it.

    label: the class that the network is told; None: none. Of a network that also learns the variance, the derivative
    of its prediction.
    """
    net = frozen(net)
    dtype = net.last.w.dtype

    def vjp(x: np.ndarray, t: np.ndarray, v: np.ndarray) -> np.ndarray:
        inputs = Tensor(x.astype(dtype), requires_grad=True)
        answer = net(inputs, t, None if label is None else np.full(len(x), label))
        answer[..., : x.shape[-1]].backward(v)
        return inputs.grad

    return vjp


def class_gradient(judge: Classifier, label: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """`gradient(x, t)` → ∇ log p(label | x) for x (B, H, W, C), as `guidance.by_classifier` takes it.

    judge: trained on noisy images (`classifier.fit` with a schedule); it sees for itself how noisy they are, so t is
    not used. Raises ValueError for a label that it does not know.
    """
    if not 0 <= label < judge.classes:
        raise ValueError(f"this classifier knows the classes 0…{judge.classes - 1}, not {label}")
    judge = frozen(judge)

    def gradient(x: np.ndarray, t: np.ndarray) -> np.ndarray:
        inputs = Tensor(x.astype(np.float32), requires_grad=True)
        log_p = ag.log_softmax(judge.logits(judge.features_of(inputs)))
        log_p[:, label].backward(np.ones(len(x)))
        return inputs.grad

    return gradient
