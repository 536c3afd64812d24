"""A model's quantized operators in the form of vectors: their own weights, scales and options, on levels to come."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pt2e_ci.vectors.vector import Grid, Operand, Vector, Weight

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pt2e_ci.program.segments import Grid as ProgramGrid
    from pt2e_ci.program.segments import QuantizedOperator
    from pt2e_ci.vectors.vector import Array, Option

PAIRS = frozenset({"add", "sub", "mul", "maximum", "minimum"})
ONE_VALUE: dict[str, dict[str, Option]] = {
    "relu": {},
    "hardtanh": {"min_val": -1.0, "max_val": 1.0},
    "leaky_relu": {"negative_slope": 0.01},
    "hardsigmoid": {},
    "hardswish": {},
}
_IMAGES = 4
"""The dimensions of a batch of images."""
_INT32 = 2**31
_DTYPES = {torch.int8: "int8", torch.uint8: "uint8"}


class NoVectorError(Exception):
    """An operator has no form as a vector; the message says why."""


@dataclass(frozen=True)
class Form:
    """A quantized operator as a vector that lacks its levels.

    Attributes:
        vector: the vector, without operands.
        grids: those of its operands.
        units: of a contraction, the real number that one of each channel's sums stands for.

    """

    vector: Vector
    grids: tuple[Grid, ...]
    units: tuple[Fraction, ...] = ()

    def on(self, levels: Sequence[Array], about: str, **changed: Any) -> Vector:
        """Return the vector on levels of its operands.

        Raises:
            NoVectorError: it has no form on levels of such a shape.

        """
        if self.vector.operator == "mean" and levels[0].ndim != _IMAGES:
            raise NoVectorError("it takes the mean of what are no images")
        operands = [Operand(one.astype(grid.dtype), grid) for one, grid in zip(levels, self.grids, strict=True)]
        return replace(self.vector, operands=tuple(operands), about=about, **changed)

    def as_run(self, levels: Sequence[Array]) -> Vector:
        """Return the vector on levels as the model has them, in the shape that vectors have.

        Raises:
            NoVectorError: it has no form on levels of such a shape.

        """
        if self.vector.operator in PAIRS:
            levels = np.broadcast_arrays(*levels)
        if self.vector.operator == "linear":
            levels = [one.reshape(-1, one.shape[-1]) for one in levels]
        return self.on(levels, "the levels of a run")


def form_of(operator: QuantizedOperator) -> Form:
    """Return the form of an operator.

    Raises:
        NoVectorError: it has none.

    """
    if operator.output is None or not operator.is_whole:
        raise NoVectorError("its result, or an operand, is on no grid")
    if operator.activation not in (None, "relu"):
        raise NoVectorError(f"{operator.activation} is fused into it")
    output = _grid(operator.output.grid)
    if operator.activation == "relu":
        output = replace(output, low=max(output.low, output.zero_point))
    grids = tuple(_grid(one.grid) for one in operator.activations)
    name = re.sub(r"[^A-Za-z0-9_-]", "_", operator.node.name).lstrip("_-")[:80]
    if operator.weight is not None:
        return _contraction(operator, name, grids, output)
    kind, options = _other(operator, len(grids))
    return Form(Vector(name, kind, "", (), output, options), grids)


def _grid(grid: ProgramGrid) -> Grid:
    if grid.one is None or grid.dtype not in _DTYPES:
        raise NoVectorError(f"a grid has more than one scale, or levels of {str(grid.dtype).removeprefix('torch.')}")
    scale, point = grid.one
    return Grid(Fraction(scale), point, grid.low, grid.high, _DTYPES[grid.dtype])


def _contraction(operator: QuantizedOperator, name: str, grids: tuple[Grid, ...], output: Grid) -> Form:
    weight = operator.weight
    if operator.name not in ("linear", "conv2d") or weight is None or weight.levels is None or len(grids) != 1:
        raise NoVectorError(f"no vector is made of {operator.name}")
    scales = weight.grid.scales
    if isinstance(scales, torch.fx.Node) or weight.grid.axis not in (None, 0) or weight.grid.blocks is not None:
        raise NoVectorError("its weight has scales that are not by output channel")
    if any(weight.grid.zero_points) or weight.levels.dtype is not torch.int8:
        raise NoVectorError("its weight is not int8 around 0")
    made = Weight(weight.levels.numpy(), tuple(Fraction(scale) for scale in scales))
    units = [grids[0].scale * scale for scale in made.scales]
    by_channel = units * (len(made.levels) // len(units))
    bias = np.zeros(len(made.levels), dtype=np.int32)
    if operator.bias is not None:
        numbers = [Fraction(value) for value in operator.bias.double().tolist()]
        whole = [round(one / unit) for one, unit in zip(numbers, by_channel, strict=True)]
        if any(abs(one) >= _INT32 for one in whole):
            raise NoVectorError("its bias leaves 32 bits")
        bias = np.array(whole, dtype=np.int32)
    options = _conv_options(operator) if operator.name == "conv2d" else {}
    return Form(Vector(name, operator.name, "", (), output, options, made, bias), grids, tuple(by_channel))


def _conv_options(operator: QuantizedOperator) -> dict[str, Option]:
    given = operator.options
    if set(_each(given.get("dilation", 1))) != {1}:
        raise NoVectorError("it is dilated")
    found = {name: _square(name, given.get(name, default)) for name, default in (("stride", 1), ("padding", 0))}
    return {**found, "groups": int(given.get("groups", 1))}


def _square(name: str, value: Any) -> int:
    if isinstance(value, str):
        raise NoVectorError(f"its {name} is {value!r}")
    if len(sizes := set(_each(value))) != 1:
        raise NoVectorError(f"its {name} is not the same in both dimensions")
    return int(sizes.pop())


def _each(value: Any) -> list[int]:
    return [value] if isinstance(value, int) else [*value]


def _other(operator: QuantizedOperator, operands: int) -> tuple[str, dict[str, Option]]:
    """Return what an operator without a weight is called as a vector, and its options."""
    kind, options = operator.name, operator.options
    if kind in PAIRS and operands == 2 and options.get("alpha", 1) == 1:
        return kind, {}
    if kind in ONE_VALUE and operands == 1:
        return kind, {key: float(options.get(key, value)) for key, value in ONE_VALUE[kind].items()}
    if kind == "cat" and operands > 1:
        return kind, {"dim": int(options.get("dim", 0))}
    if kind in ("mean", "adaptive_avg_pool2d") and operands == 1 and _is_whole_mean(operator):
        return "mean", {}
    if kind in ("max_pool2d", "avg_pool2d") and operands == 1:
        return kind, _window(options)
    raise NoVectorError(f"no vector is made of {kind} with these options")


def _is_whole_mean(operator: QuantizedOperator) -> bool:
    """Tell whether an operator takes the mean of each whole image, if it is given images."""
    if operator.name == "mean":
        return sorted(axis % _IMAGES for axis in _each(operator.options.get("dim") or ())) == [2, 3]
    return set(_each(operator.options.get("output_size", 0))) == {1}


def _window(options: Mapping[str, Any]) -> dict[str, Option]:
    size = _square("window", options["kernel_size"])
    stride = _square("stride", options.get("stride") or options["kernel_size"])
    plain = set(_each(options.get("padding", 0))) == {0} and set(_each(options.get("dilation", 1))) == {1}
    if not plain or options.get("ceil_mode") or options.get("divisor_override"):
        raise NoVectorError("its window is padded, dilated, cut off at the edge, or divided by another number")
    return {"kernel_size": size, "stride": stride}
