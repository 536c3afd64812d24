"""What each operator computes: whole numbers, and the real number that one of them stands for."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from pt2e_ci.exact.boundaries import beginnings, common_unit
from pt2e_ci.exact.schemes import Multiplier, Rounding

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pt2e_ci.vectors.vector import Array, Grid, Operand, Vector

_INT32 = 2**31


@dataclass(frozen=True)
class Sums:
    """An operator's result before it is quantized.

    Attributes:
        whole: whole numbers, int64.
        units: the real number that one stands for: one for all, or one for each index of an axis.
        axis: that axis.
        is_rescaled: whether engines make levels of them by one multiplication, as of an accumulator.

    """

    whole: Array
    units: tuple[Fraction, ...]
    axis: int = 0
    is_rescaled: bool = False

    def rows(self) -> Array:
        """Return the whole numbers with a row for each unit."""
        if len(self.units) == 1:
            return self.whole.reshape(1, -1)
        return np.moveaxis(self.whole, self.axis, 0).reshape(len(self.units), -1)

    def arranged(self, rows: Array) -> Array:
        """Put rows back to where they were."""
        if len(self.units) == 1:
            return rows.reshape(self.whole.shape)
        moved = np.moveaxis(self.whole, self.axis, 0)
        return np.ascontiguousarray(np.moveaxis(rows.reshape(moved.shape), 0, self.axis))


def sums(vector: Vector) -> Sums:
    """Return what an operator makes of its operands."""
    return OPERATORS[vector.operator](vector)


def schemes(found: Sums) -> list[Rounding | Multiplier]:
    """Return the schemes that make levels of such numbers: those of a 32-bit multiplier only of 32-bit accumulators."""
    small = not found.whole.size or max(-int(found.whole.min()), int(found.whole.max())) < _INT32
    return [*Rounding, *(Multiplier if found.is_rescaled and small else ())]


def boundaries(unit: Fraction, grid: Grid, rounding: Rounding) -> list[int]:
    """Return the least whole number of each level above the lowest."""
    point = grid.zero_point
    turns = [rounding.begins(level - point, point) for level in range(grid.low + 1, grid.high + 1)]
    return beginnings(turns, grid.scale, unit, Fraction(0))


def levels(found: Sums, grid: Grid, scheme: Rounding | Multiplier) -> Array:
    """Return the levels that are due under a scheme."""
    made = []
    for unit, row in zip(found.units, found.rows(), strict=True):
        if isinstance(scheme, Multiplier):
            values, places = np.unique(row, return_inverse=True)
            scaled = [scheme.scaled(int(value), unit / grid.scale) + grid.zero_point for value in values]
            made.append(np.clip(np.array(scaled, dtype=np.int64), grid.low, grid.high)[places.reshape(-1)])
        else:
            begins = np.array(boundaries(unit, grid, scheme), dtype=np.int64)
            made.append(np.searchsorted(begins, row, side="right") + grid.low)
    return found.arranged(np.stack(made)).astype(grid.dtype)


def _centered(operand: Operand) -> Array:
    return operand.levels.astype(np.int64) - operand.grid.zero_point


def _contraction(vector: Vector, product: Callable[[Array, Array], Array], axis: int) -> Sums:
    assert vector.weight is not None  # noqa: S101 - a contraction's vector has one
    (operand,) = vector.operands
    whole = product(_centered(operand), vector.weight.levels.astype(np.int64))
    if vector.bias is not None:
        shape = [-1 if place == axis % whole.ndim else 1 for place in range(whole.ndim)]
        whole = whole + vector.bias.astype(np.int64).reshape(shape)
    return Sums(whole, tuple(operand.grid.scale * scale for scale in vector.weight.scales), axis, is_rescaled=True)


def _linear(vector: Vector) -> Sums:
    return _contraction(vector, lambda x, weight: x @ weight.T, -1)


def _conv2d(vector: Vector) -> Sums:
    stride, padding, groups = (_option(vector, name, default) for name, default in _CONV.items())

    def convolve(x: Array, weight: Array) -> Array:
        x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
        windows = sliding_window_view(x, weight.shape[2:], axis=(2, 3))[:, :, ::stride, ::stride]
        images, channels, height, width = windows.shape[:4]
        split = windows.reshape(images, groups, channels // groups, height, width, *weight.shape[2:])
        kernels = weight.reshape(groups, -1, *weight.shape[1:])
        return np.einsum("ngchwij,gocij->ngohw", split, kernels).reshape(images, -1, height, width)

    return _contraction(vector, convolve, 1)


_CONV = {"stride": 1, "padding": 0, "groups": 1}


def _option(vector: Vector, name: str, default: Any) -> Any:
    return vector.options.get(name, default)


def _matmul(vector: Vector) -> Sums:
    a, b = vector.operands
    return Sums(_centered(a) @ _centered(b), (a.grid.scale * b.grid.scale,), is_rescaled=True)


def _pairs(function: Callable[[Array, Array], Array]) -> Callable[[Vector], Sums]:
    """Return an operator of two operands that are brought to one unit."""

    def run(vector: Vector) -> Sums:
        unit, (a, b) = _in_one_unit(vector.operands)
        return Sums(function(a, b), (unit,))

    return run


def _in_one_unit(operands: Sequence[Operand]) -> tuple[Fraction, list[Array]]:
    unit = common_unit([one.grid.scale for one in operands])
    return unit, [_centered(one) * int(one.grid.scale / unit) for one in operands]


def _mul(vector: Vector) -> Sums:
    a, b = vector.operands
    return Sums(_centered(a) * _centered(b), (a.grid.scale * b.grid.scale,), is_rescaled=True)


def _cat(vector: Vector) -> Sums:
    unit, parts = _in_one_unit(vector.operands)
    return Sums(np.concatenate(parts, _option(vector, "dim", 1)), (unit,))


def _of_one_value(function: Callable[[Fraction, Mapping[str, Any]], Fraction]) -> Callable[[Vector], Sums]:
    """Return an operator that makes a number of a number: a table of what it makes of each level."""

    def run(vector: Vector) -> Sums:
        (operand,) = vector.operands
        grid = operand.grid
        numbers = [grid.scale * (level - grid.zero_point) for level in range(grid.low, grid.high + 1)]
        table = [function(number, vector.options) for number in numbers]
        unit = common_unit(table)
        whole = np.array([int(number / unit) for number in table], dtype=np.int64)
        return Sums(whole[operand.levels.astype(np.int64) - grid.low], (unit,), is_rescaled=function is _same)

    return run


def _same(number: Fraction, options: Mapping[str, Any]) -> Fraction:
    return number


def _clamped(number: Fraction, low: float, high: float) -> Fraction:
    return min(max(number, Fraction(low)), Fraction(high))


def _leaky(number: Fraction, options: Mapping[str, Any]) -> Fraction:
    return number if number >= 0 else number * Fraction(options["negative_slope"])


def _windows(operand: Operand, vector: Vector) -> Array:
    """Return the windows of a pooling, each in the last axis."""
    options: Any = vector.options
    kernel, stride = options["kernel_size"], options["stride"]
    found = sliding_window_view(_centered(operand), (kernel, kernel), axis=(2, 3))[:, :, ::stride, ::stride]
    return found.reshape(*found.shape[:4], -1)


def _max_pool2d(vector: Vector) -> Sums:
    (operand,) = vector.operands
    return Sums(_windows(operand, vector).max(-1), (operand.grid.scale,), is_rescaled=True)


def _avg_pool2d(vector: Vector) -> Sums:
    (operand,) = vector.operands
    windows = _windows(operand, vector)
    return Sums(windows.sum(-1), (operand.grid.scale / windows.shape[-1],), is_rescaled=True)


def _mean(vector: Vector) -> Sums:
    """Return the mean over height and width, which stay as dimensions of 1."""
    (operand,) = vector.operands
    count = operand.levels.shape[2] * operand.levels.shape[3]
    whole = _centered(operand).sum((2, 3), keepdims=True)
    return Sums(whole, (operand.grid.scale / count,), is_rescaled=True)


OPERATORS: dict[str, Callable[[Vector], Sums]] = {
    "linear": _linear,
    "conv2d": _conv2d,
    "matmul": _matmul,
    "add": _pairs(np.add),
    "sub": _pairs(np.subtract),
    "maximum": _pairs(np.maximum),
    "minimum": _pairs(np.minimum),
    "mul": _mul,
    "cat": _cat,
    "requantize": _of_one_value(_same),
    "relu": _of_one_value(lambda number, options: max(number, Fraction(0))),
    "hardtanh": _of_one_value(lambda number, options: _clamped(number, options["min_val"], options["max_val"])),
    "leaky_relu": _of_one_value(_leaky),
    "hardsigmoid": _of_one_value(lambda number, options: _clamped(number + 3, 0, 6) / 6),
    "hardswish": _of_one_value(lambda number, options: number * _clamped(number + 3, 0, 6) / 6),
    "max_pool2d": _max_pool2d,
    "avg_pool2d": _avg_pool2d,
    "mean": _mean,
}
"""The operators, by the names that torch has for them."""
