"""Torch's quantized kernels, which quantized modules call: an engine for each of torch's own."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from pt2e_ci.engines.protocol import NotTakenError
from pt2e_ci.errors import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pt2e_ci.engines.protocol import Task


@dataclass(frozen=True)
class Kernels:
    """One of torch's engines.

    Attributes:
        backend: its name in torch.
        dtypes: the dtypes of activations that it takes, the first one that it accepts is used.

    """

    backend: str
    dtypes: tuple[torch.dtype, ...] = (torch.quint8,)

    @property
    def names(self) -> frozenset[str]:
        """The operators that it may have a kernel for."""
        return frozenset(KERNELS)

    def open(self, task: Task) -> Callable[[Sequence[torch.Tensor]], torch.Tensor]:
        """Return what runs an operator, its weight packed once."""
        return partial(self._run, task, {})

    def _run(self, task: Task, packed: dict[str, Any], levels: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the levels that the engine gives; raise NotTakenError with its words if it gives none."""
        refusal = ""
        with _current(self.backend):
            for dtype in self.dtypes:
                try:
                    if task.weight is not None and not packed:
                        packed["weight"] = _prepack(task)
                    return _call(task, levels, packed.get("weight"), dtype)
                except (RuntimeError, NotImplementedError, AttributeError) as error:
                    refusal = one_line(error, 200)
        raise NotTakenError(refusal)


# oneDNN's convolution takes quint8 only. Where torch is built with XNNPACK, that is what the engine called qnnpack runs
# for qint8.
QNNPACK = Kernels("qnnpack")
FBGEMM = Kernels("fbgemm")
X86 = Kernels("x86")
ONEDNN = Kernels("onednn", (torch.qint8, torch.quint8))
XNNPACK = Kernels("qnnpack", (torch.qint8,))


def _call(task: Task, levels: Sequence[torch.Tensor], packed: Any, dtype: torch.dtype) -> torch.Tensor:
    """Run an operator on activations of a dtype. The levels of int8 and those of uint8 are 128 apart."""
    offset, integer = (128, torch.uint8) if dtype is torch.quint8 else (0, torch.int8)
    tensors = [
        torch._make_per_tensor_quantized_tensor(
            (value.to(torch.int16) + offset).to(integer), grid.scale, grid.zero_point + offset
        )
        for value, grid in zip(levels, task.operands, strict=True)
    ]
    result = KERNELS[task.name](task, tensors, packed, task.output.zero_point + offset)
    return result.int_repr().to(torch.int16) - offset


@contextmanager
def _current(engine: str) -> Iterator[None]:
    """Make an engine torch's current one."""
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = engine
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # newer releases say at each call that quantized tensors are to go
            yield
    finally:
        torch.backends.quantized.engine = before


def _quantized(task: Task) -> torch.Tensor:
    """Return a weight as torch's kernels take it."""
    weight = task.weight
    assert weight is not None  # noqa: S101 - asked before
    if weight.axis is None:
        return torch._make_per_tensor_quantized_tensor(weight.levels, weight.scales[0], weight.zero_points[0])
    scales, points = torch.tensor(weight.scales, dtype=torch.float64), torch.tensor(weight.zero_points)
    return torch._make_per_channel_quantized_tensor(weight.levels, scales, points, weight.axis)


def _prepack(task: Task) -> Any:
    if task.name == "linear":
        return torch.ops.quantized.linear_prepack(_quantized(task), task.bias)
    options = task.options
    if isinstance(options.get("padding"), str):
        raise NotTakenError("torch's kernels take no padding by name")
    pairs = [_pair(options.get(name, default)) for name, default in (("stride", 1), ("padding", 0), ("dilation", 1))]
    return torch.ops.quantized.conv2d_prepack(_quantized(task), task.bias, *pairs, options.get("groups", 1))


def _pair(value: Any) -> list[int]:
    values = [value] if isinstance(value, int) else [*value]
    return values if len(values) == 2 else values * 2


def _packed(task: Task, tensors: list[torch.Tensor], packed: Any, zero_point: int) -> torch.Tensor:
    if packed is None:
        raise NotTakenError("its weight is no int8 constant")
    kernel = getattr(torch.ops.quantized, f"{task.name}_relu" if task.relu else task.name)
    result: torch.Tensor = kernel(tensors[0], packed, task.output.scale, zero_point)
    return result


def _binary(task: Task, tensors: list[torch.Tensor], _: Any, zero_point: int) -> torch.Tensor:
    if len(tensors) != 2:
        raise NotTakenError("one operand is no quantized tensor")
    if task.options.get("alpha", 1) != 1:
        raise NotTakenError("the kernel has no alpha")
    kernel = getattr(torch.ops.quantized, f"{task.name}_relu" if task.relu else task.name)
    result: torch.Tensor = kernel(*tensors, task.output.scale, zero_point)
    return result


def _cat(task: Task, tensors: list[torch.Tensor], _: Any, zero_point: int) -> torch.Tensor:
    result: torch.Tensor = torch.ops.quantized.cat(tensors, task.options.get("dim", 0), task.output.scale, zero_point)
    return result


def _on_input_grid(function: Callable[..., torch.Tensor]) -> Any:
    """Return a kernel whose result is on its input's grid."""

    def kernel(task: Task, tensors: list[torch.Tensor], _: Any, zero_point: int) -> torch.Tensor:
        if task.relu or task.operands[0] != task.output:
            raise NotTakenError("the kernel gives its input's grid to its output, and the program has another")
        return function(tensors[0], **task.options)

    return kernel


def _max_pool2d(x: torch.Tensor, kernel_size: Any, stride: Any = None, **options: Any) -> torch.Tensor:
    return F.max_pool2d(x, kernel_size, stride or None, **options)


def _avg_pool2d(x: torch.Tensor, kernel_size: Any, stride: Any = None, **options: Any) -> torch.Tensor:
    return F.avg_pool2d(x, kernel_size, stride or None, **options)


KERNELS: dict[str, Any] = {
    "linear": _packed,
    "conv2d": _packed,
    "add": _binary,
    "mul": _binary,
    "cat": _cat,
    "max_pool2d": _on_input_grid(_max_pool2d),
    "avg_pool2d": _on_input_grid(_avg_pool2d),
    "adaptive_avg_pool2d": _on_input_grid(F.adaptive_avg_pool2d),
    "mean": _on_input_grid(torch.mean),
    "hardtanh": _on_input_grid(F.hardtanh),
}
"""The kernels, by the name of the operator."""
