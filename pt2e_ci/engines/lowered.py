"""Lowerings, which need torch: torch's own kernels, and the Q/DQ program that all of them are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.ao.quantization.fx._decomposed  # its operators, which every Q/DQ program is made of
import torch.nn.functional as F

from pt2e_ci.engines import kernels
from pt2e_ci.engines.protocol import QParams, Task
from pt2e_ci.engines.protocol import Weight as TaskWeight
from pt2e_ci.engines.runtime import NotTakenError, Ran

if TYPE_CHECKING:
    from collections.abc import Callable

    from pt2e_ci.engines.kernels import Kernels
    from pt2e_ci.vectors.vector import Grid, Vector


class Torch:
    """One of torch's engines, through the kernels that its quantized modules call."""

    def __init__(self, engine: Kernels) -> None:
        self._engine = engine

    def version(self) -> str:
        """Return the name and the version of the package."""
        return f"torch {torch.__version__}"

    def run(self, vector: Vector) -> Ran:
        """Run one vector."""
        if self._engine.backend not in torch.backends.quantized.supported_engines:
            raise NotTakenError(f"this torch has no {self._engine.backend}")
        task = _task(vector)
        if task.name not in self._engine.names:
            raise NotTakenError(f"torch has no quantized {vector.operator}")
        levels = [torch.from_numpy(one.levels) for one in vector.operands]
        return Ran(self._engine.open(task)(levels).numpy(), f"quantized::{task.name} ({self._engine.backend})")


def _task(vector: Vector) -> Task:
    weight = vector.weight
    made = bias = None
    if weight is not None:
        axis = 0 if len(weight.scales) > 1 else None
        scales = tuple(float(scale) for scale in weight.scales)
        made = TaskWeight(torch.from_numpy(weight.levels), scales, (0,) * len(scales), axis)
    if vector.bias is not None and weight is not None:
        units = np.array([float(vector.operands[0].grid.scale * scale) for scale in weight.scales])
        bias = torch.from_numpy((vector.bias * units).astype(np.float32))
    options: dict[str, Any] = dict(vector.options)
    if vector.operator == "mean":
        options = {"dim": [2, 3], "keepdim": True}
    operands = tuple(_qparams(one.grid) for one in vector.operands)
    return Task(vector.operator, vector.output.has_relu, operands, options, made, bias, _qparams(vector.output))


def _qparams(grid: Grid) -> QParams:
    return QParams(float(grid.scale), grid.zero_point)


class QdqProgram:
    """Torch's Q/DQ program, in float32: what a converted model computes where nothing lowers it."""

    def version(self) -> str:
        """Return the name and the version of the package."""
        return f"torch {torch.__version__}"

    def run(self, vector: Vector) -> Ran:
        """Run one vector. It computes in float, as it is meant to: that is what is measured here."""
        levels = [torch.from_numpy(one.levels) for one in vector.operands]
        with torch.no_grad():
            found = Program(vector)(*levels)
        return Ran(found.numpy(), "quantize, dequantize and float32 between")


class Program(torch.nn.Module):
    """A vector as a Q/DQ program, from the levels of its operands to those of its result."""

    def __init__(self, vector: Vector) -> None:
        super().__init__()
        if vector.operator not in _FUNCTIONS:
            raise NotTakenError(f"there is no Q/DQ program of {vector.operator}")
        self._vector = vector
        task = _task(vector)
        self.register_buffer("weight", None if task.weight is None else task.weight.levels)
        self.register_buffer("bias", task.bias)
        scales = () if vector.weight is None else vector.weight.scales
        self.register_buffer("scales", torch.tensor([float(scale) for scale in scales]))
        self.register_buffer("zero_points", torch.zeros(len(scales), dtype=torch.int64))

    def forward(self, *levels: torch.Tensor) -> torch.Tensor:
        """Dequantize, compute, quantize."""
        vector = self._vector
        floats = [dequantize(one, operand.grid) for one, operand in zip(levels, vector.operands, strict=True)]
        if vector.weight is not None:
            floats.append(self._weight(vector))
            floats.append(self.bias)
        result = _FUNCTIONS[vector.operator](vector.options, *floats)
        result = F.relu(result) if vector.output.has_relu else result
        return quantize(result, vector.output)

    def _weight(self, vector: Vector) -> torch.Tensor:
        assert vector.weight is not None  # noqa: S101 - the caller looked
        scales = vector.weight.scales
        if len(scales) == 1:
            given = (float(scales[0]), 0, -127, 127, torch.int8)
            return torch.ops.quantized_decomposed.dequantize_per_tensor.default(self.weight, *given)
        by_channel = (self.scales, self.zero_points, 0, -127, 127, torch.int8)
        return torch.ops.quantized_decomposed.dequantize_per_channel.default(self.weight, *by_channel)


def quantize(values: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Return the levels of floats on a grid, int8."""
    given = (float(grid.scale), grid.zero_point, grid.low, grid.high, torch.int8)
    return torch.ops.quantized_decomposed.quantize_per_tensor.default(values, *given)


def dequantize(levels: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Return the floats that int8 levels stand for."""
    given = (float(grid.scale), grid.zero_point, grid.low, grid.high, torch.int8)
    return torch.ops.quantized_decomposed.dequantize_per_tensor.default(levels, *given)


def _conv2d(options: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return F.conv2d(x, weight, bias, options["stride"], options["padding"], 1, options["groups"])


_FUNCTIONS: dict[str, Callable[..., torch.Tensor]] = {
    "linear": lambda options, x, weight, bias: F.linear(x, weight, bias),
    "conv2d": _conv2d,
    "matmul": lambda options, a, b: torch.matmul(a, b),
    "add": lambda options, a, b: a + b,
    "sub": lambda options, a, b: a - b,
    "mul": lambda options, a, b: a * b,
    "maximum": lambda options, a, b: torch.maximum(a, b),
    "minimum": lambda options, a, b: torch.minimum(a, b),
    "cat": lambda options, a, b: torch.cat([a, b], options["dim"]),
    "requantize": lambda options, x: x,
    "relu": lambda options, x: F.relu(x),
    "hardtanh": lambda options, x: F.hardtanh(x, options["min_val"], options["max_val"]),
    "leaky_relu": lambda options, x: F.leaky_relu(x, options["negative_slope"]),
    "hardsigmoid": lambda options, x: F.hardsigmoid(x),
    "hardswish": lambda options, x: F.hardswish(x),
    "max_pool2d": lambda options, x: F.max_pool2d(x, options["kernel_size"], options["stride"]),
    "avg_pool2d": lambda options, x: F.avg_pool2d(x, options["kernel_size"], options["stride"]),
    "mean": lambda options, x: x.mean([2, 3], keepdim=True),
}

QNNPACK, FBGEMM, ONEDNN = (Torch(one) for one in (kernels.QNNPACK, kernels.FBGEMM, kernels.ONEDNN))
QDQ = QdqProgram()
