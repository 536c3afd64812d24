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
        if any(one.dtype != "int8" for one in (vector.output, *(operand.grid for operand in vector.operands))):
            raise NotTakenError("levels are handed to torch's kernels as int8")
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
    """A vector as a Q/DQ program, from the levels of its operands to those of its result.

    Args:
        vector: the vector.
        by_channel: whether a weight has a scale for each channel, though one be enough.
        int32_bias: whether the bias is dequantized, as some quantizers have it.

    """

    def __init__(self, vector: Vector, *, by_channel: bool = False, int32_bias: bool = False) -> None:
        super().__init__()
        if vector.operator not in _FUNCTIONS:
            raise NotTakenError(f"there is no Q/DQ program of {vector.operator}")
        self._vector = vector
        task = _task(vector)
        self.register_buffer("weight", None if task.weight is None else task.weight.levels)
        scales = () if vector.weight is None else vector.weight.scales
        if by_channel and task.weight is not None and len(scales) == 1:
            scales = scales * len(task.weight.levels)
        self._is_by_channel = len(scales) > 1
        self._has_int32_bias = int32_bias and vector.bias is not None
        step = float(vector.operands[0].grid.scale)
        self._scales = [float(scale) for scale in scales]
        self.register_buffer("scales", torch.tensor(self._scales))
        self.register_buffer("bias_scales", torch.tensor([step * scale for scale in self._scales]))
        self.register_buffer("zero_points", torch.zeros(len(scales), dtype=torch.int64))
        bias = task.bias
        if self._has_int32_bias and vector.bias is not None:
            bias = torch.from_numpy(vector.bias)
        self.register_buffer("bias", bias)

    def forward(self, *levels: torch.Tensor) -> torch.Tensor:
        """Dequantize, compute, quantize."""
        vector = self._vector
        floats = [dequantize(one, operand.grid) for one, operand in zip(levels, vector.operands, strict=True)]
        if vector.weight is not None:
            floats.append(self._constant(self.weight, self.scales, (-127, 127, torch.int8)))
            bounds = (-(2**31) + 1, 2**31 - 1, torch.int32)
            is_int32 = self._has_int32_bias
            floats.append(self._constant(self.bias, self.bias_scales, bounds) if is_int32 else self.bias)
        result = _FUNCTIONS[vector.operator](vector.options, *floats)
        result = F.relu(result) if vector.output.has_relu else result
        return quantize(result, vector.output)

    def _constant(
        self, levels: torch.Tensor, scales: torch.Tensor, bounds: tuple[int, int, torch.dtype]
    ) -> torch.Tensor:
        """Dequantize a weight, or a bias."""
        if self._is_by_channel:
            given = (scales, self.zero_points, 0, *bounds)
            return torch.ops.quantized_decomposed.dequantize_per_channel.default(levels, *given)
        step = float(self._vector.operands[0].grid.scale) if levels.dtype is torch.int32 else 1.0
        one = (step * self._scales[0], 0, *bounds)
        return torch.ops.quantized_decomposed.dequantize_per_tensor.default(levels, *one)


class Between(torch.nn.Module):
    """A vector's program between floats that lie on its grids, as a converted model is; options are `Program`'s."""

    def __init__(self, vector: Vector, **options: bool) -> None:
        super().__init__()
        self._vector, self._program = vector, Program(vector, **options)

    def forward(self, *floats: torch.Tensor) -> torch.Tensor:
        """Quantize, run, dequantize."""
        grids = [one.grid for one in self._vector.operands]
        levels = [quantize(one, grid) for one, grid in zip(floats, grids, strict=True)]
        return dequantize(self._program(*levels), self._vector.output)


def floats_of(vector: Vector) -> tuple[torch.Tensor, ...]:
    """Return the floats that a vector's operands stand for."""
    return tuple(dequantize(torch.from_numpy(one.levels), one.grid) for one in vector.operands)


def quantize(values: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Return the levels of floats on a grid."""
    given = (float(grid.scale), grid.zero_point, grid.low, grid.high, getattr(torch, grid.dtype))
    return torch.ops.quantized_decomposed.quantize_per_tensor.default(values, *given)


def dequantize(levels: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Return the floats that levels stand for."""
    given = (float(grid.scale), grid.zero_point, grid.low, grid.high, getattr(torch, grid.dtype))
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
    "cat": lambda options, *given: torch.cat(given, options["dim"]),
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
