"""A module is an object whose attributes are parameters and other modules; this walks them and packs them.

All parameters of a network lie in one vector, their gradients in another. So Adam, the moving average and the
clipping of the gradient are each one call on a vector.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from minidiff import kernels
from minidiff.autograd import Tensor

M = TypeVar("M", bound="Module")

_LINE = 64  # bytes: where a parameter starts, so that vector loads never straddle a cache line


class Module:
    """Something with parameters: Tensors that require a gradient, found in its attributes, however deep."""

    def named_parameters(self) -> dict[str, Tensor]:
        """Every parameter once, under its first path such as 'down.0.conv1.w', in order of definition."""
        first: dict[int, tuple[str, Tensor]] = {}
        for path, tensor in _walk(self, ""):
            if tensor.requires_grad:
                first.setdefault(id(tensor), (path, tensor))
        return dict(first.values())

    @cached_property
    def dtype(self) -> np.dtype:
        """That of the parameters; float32 where there are none."""
        for _, tensor in _walk(self, ""):
            return tensor.data.dtype
        return np.dtype(np.float32)

    def count_parameters(self) -> int:
        """How many numbers are learned."""
        return sum(p.size for p in self.named_parameters().values())


def _walk(item: object, path: str) -> Iterator[tuple[str, Tensor]]:
    """Every Tensor behind an attribute, or in a list, tuple or dict there, with its path."""
    children: Iterable[tuple[object, object]]
    if isinstance(item, Tensor):
        yield path, item
        return
    if isinstance(item, Module):
        children = vars(item).items()
    elif isinstance(item, (list, tuple)):
        children = enumerate(item)
    elif isinstance(item, dict):
        children = item.items()
    else:
        return
    for name, child in children:
        yield from _walk(child, f"{path}.{name}" if path else str(name))


class ParameterVector:
    """The parameters of a module, moved for good into one vector; the gradients into another.

    values, gradients: (n,) each, 64-byte aligned; every parameter starts on 64 bytes, the gaps stay zero.
    After this, a parameter's `data` and `grad` are views of them: write into them in place.
    """

    def __init__(self, module: Module, dtype: DTypeLike = np.float32) -> None:
        self._parameters = module.named_parameters()
        if not self._parameters:
            raise ValueError("a module without parameters cannot be packed")
        if any(p.grad is not None and p.grad.base is not None for p in self._parameters.values()):
            raise ValueError("the module's parameters are packed already; pack once, at the root")
        self.layout: dict[str, tuple[slice, tuple[int, ...]]] = {}
        step, end = _LINE // np.dtype(dtype).itemsize, 0
        for name, p in self._parameters.items():
            self.layout[name] = slice(end, end + p.size), p.shape
            end += -(-p.size // step) * step
        self.values, self.gradients = aligned_zeros(end, dtype), aligned_zeros(end, dtype)
        values, gradients = self.views(self.values), self.views(self.gradients)
        for name, p in self._parameters.items():
            values[name][...] = p.data
            p.data, p.grad = values[name], gradients[name]
        vars(module).pop("dtype", None)  # it may be another now

    def views(self, vector: np.ndarray) -> dict[str, np.ndarray]:
        """Any vector of this layout (a moving average, Adam's moments, …) by the parameters' names."""
        return {name: vector[entries].reshape(shape) for name, (entries, shape) in self.layout.items()}


def aligned_zeros(size: int, dtype: DTypeLike = np.float32) -> np.ndarray:
    """Zeros (size,) that begin on 64 bytes."""
    itemsize = np.dtype(dtype).itemsize
    padded = np.zeros(size + _LINE // itemsize, dtype)
    skip = -padded.ctypes.data % _LINE // itemsize
    return padded[skip : skip + size]


def ema_copy(module: M, parameters: ParameterVector, vector: np.ndarray) -> M:
    """A second module like the packed `module`, its parameters views of `vector`, the EMA of its weights."""
    views = parameters.views(vector)
    memo: dict[int, Any] = {
        id(p): Tensor(views[name], requires_grad=True) for name, p in module.named_parameters().items()
    }
    return copy.deepcopy(module, memo)


def frozen(module: M, precision: str = "float32") -> M:
    """A copy of a module for inference only: a snapshot of its weights, prepared once for the kernels.

    precision: "float32", or "bf16" for products of bfloat16 with sums in float32. Raises ValueError where it is not to
    be had.
    """
    kernels.require(precision)
    memo: dict[int, Any] = {
        id(p): Tensor(kernels.freeze(p.data, precision)) for p in module.named_parameters().values()
    }
    return copy.deepcopy(module, memo)
