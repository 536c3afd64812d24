"""The quantized operators of a model as vectors: its own weights, scales and options, and levels that tell most."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pt2e_ci.cells.capabilities import quietly
from pt2e_ci.cells.cell import current_cell
from pt2e_ci.checking.api import converted_here
from pt2e_ci.checking.file import read_file
from pt2e_ci.checking.question import question
from pt2e_ci.program.segments import Reading
from pt2e_ci.program.trace import run, trace
from pt2e_ci.vectors.aiming import rows_beside
from pt2e_ci.vectors.vector import Grid, Operand, Vector, Weight

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch.fx import Node

    from pt2e_ci.program.segments import Grid as ProgramGrid
    from pt2e_ci.program.segments import QuantizedOperator
    from pt2e_ci.vectors.vector import Array, Option

_PAIRS = {"add", "sub", "mul", "maximum", "minimum"}
_ONE_VALUE = {"relu": {}, "hardtanh": {"min_val": -1.0, "max_val": 1.0}, "leaky_relu": {"negative_slope": 0.01}}
_ONE_VALUE |= {"hardsigmoid": {}, "hardswish": {}}
_DTYPES = {torch.int8: "int8", torch.uint8: "uint8"}


class NoVectorError(Exception):
    """An operator has no form as a vector; the message says why."""


def vectors_of(target: str) -> tuple[list[Vector], list[str]]:
    """Return the quantized operators of a file's model as vectors, and a line on each that has no such form.

    Args:
        target: ``FILE`` or ``FILE:NAME``, as `pt2e-ci check` takes it.

    Raises:
        InputError: the file, or what it gives, will not do; or a stage of the flow raised.

    """
    asked = question(**read_file(target))
    with quietly():
        qdq = converted_here(asked, current_cell())
        reading = Reading(qdq)
        kept = run(qdq, asked.calls[0], [one.quantize.node for one in reading.levels], trace(qdq, asked.calls[0])).kept
    found, left = [], []
    for operator in reading.operators:
        try:
            found.append(_vector(operator, kept))
        except NoVectorError as error:
            left.append(f"{operator.node.name} is left out: {error}")
    return found, left


def _vector(operator: QuantizedOperator, kept: Mapping[Node, Any]) -> Vector:
    if operator.output is None or not operator.is_whole:
        raise NoVectorError("its result, or an operand, is on no grid")
    if operator.activation not in (None, "relu"):
        raise NoVectorError(f"{operator.activation} is fused into it")
    if any(one.is_moved for _, one in operator.operands):
        raise NoVectorError("an operand is moved on its way")
    output = _grid(operator.output.grid)
    if operator.activation == "relu":
        output = Grid(output.scale, output.zero_point, max(output.low, output.zero_point), output.high, output.dtype)
    grids = [_grid(one.grid) for one in operator.activations]
    levels = [_levels(kept, one.source) for one in operator.activations]
    name = re.sub(r"[^A-Za-z0-9_-]", "_", operator.node.name).lstrip("_-")[:80]
    if operator.weight is not None:
        return _contraction(operator, name, grids, levels, output)
    return _other(operator, name, grids, levels, output)


def _levels(kept: Mapping[Node, Any], source: Node) -> Array:
    if source not in kept:
        raise NoVectorError("an operand's levels are given from outside")
    return np.asarray(kept[source].numpy())


def _grid(grid: ProgramGrid) -> Grid:
    if grid.one is None or grid.dtype not in _DTYPES:
        raise NoVectorError(f"a grid has more than one scale, or levels of {str(grid.dtype).removeprefix('torch.')}")
    scale, point = grid.one
    return Grid(Fraction(scale), point, grid.low, grid.high, _DTYPES[grid.dtype])


def _contraction(
    operator: QuantizedOperator, name: str, grids: list[Grid], levels: list[Array], output: Grid
) -> Vector:
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
    kernels = made.levels.reshape(len(made.levels), -1).astype(np.int64)
    by_channel = units * (len(kernels) // len(units))
    bias = np.zeros(len(kernels), dtype=np.int32)
    if operator.bias is not None:
        numbers = [Fraction(value) for value in operator.bias.double().tolist()]
        bias = np.array([round(one / unit) for one, unit in zip(numbers, by_channel, strict=True)], dtype=np.int32)
    rows = rows_beside(kernels, bias, by_channel, grids[0], output, name)
    options: dict[str, Option] = {}
    if operator.name == "conv2d":
        options = _conv_options(operator)
        return _convolution(name, rows, grids[0], output, options, made, bias)
    about = "sums on both sides of each boundary, as near as the weights allow"
    x = rows.astype(grids[0].dtype)
    return Vector(name, "linear", about, (Operand(x, grids[0]),), output, options, made, bias)


def _convolution(
    name: str, rows: Array, grid: Grid, output: Grid, options: dict[str, Option], weight: Weight, bias: Array
) -> Vector:
    channels, *kernel = weight.levels.shape[1:]
    images = rows.reshape(-1, channels, *kernel).repeat(int(str(options["groups"])), 1).astype(grid.dtype)
    about = "images of the kernel's size: sums on both sides of each boundary, as near as the weights allow"
    given = {**options, "padding": 0, "stride": 1}
    return Vector(name, "conv2d", about, (Operand(images, grid),), output, given, weight, bias)


def _conv_options(operator: QuantizedOperator) -> dict[str, Option]:
    given = operator.options
    if set(_each(given.get("dilation", 1))) != {1}:
        raise NoVectorError("it is dilated")
    return {"stride": 1, "padding": 0, "groups": int(given.get("groups", 1))}


def _each(value: Any) -> list[int]:
    return [value] if isinstance(value, int) else [*value]


def _other(operator: QuantizedOperator, name: str, grids: list[Grid], levels: list[Array], output: Grid) -> Vector:
    kind, options = operator.name, operator.options
    if kind in _PAIRS and len(grids) == 2 and options.get("alpha", 1) == 1:
        columns = [np.arange(grid.low, grid.high + 1) for grid in grids]
        pairs = np.meshgrid(*columns, indexing="ij")
        operands = [Operand(pair.astype(grid.dtype), grid) for pair, grid in zip(pairs, grids, strict=True)]
        return Vector(name, kind, "all pairs of levels", tuple(operands), output)
    if kind in _ONE_VALUE and len(grids) == 1:
        column = np.arange(grids[0].low, grids[0].high + 1).astype(grids[0].dtype)[None]
        given = {key: float(options.get(key, value)) for key, value in _ONE_VALUE[kind].items()}
        return Vector(name, kind, "all levels", (Operand(column, grids[0]),), output, given)
    if kind == "cat" and len(grids) > 1:
        operands = [Operand(one, grid) for one, grid in zip(levels, grids, strict=True)]
        return Vector(name, kind, "the levels of the first input", tuple(operands), output, {"dim": _dim(options)})
    return _pool(name, kind, options, grids, levels, output)


def _dim(options: Mapping[str, Any]) -> int:
    return int(options.get("dim", 0))


def _pool(
    name: str, kind: str, options: Mapping[str, Any], grids: list[Grid], levels: list[Array], output: Grid
) -> Vector:
    if kind in ("mean", "adaptive_avg_pool2d") and len(grids) == 1 and levels[0].ndim == 4:
        whole = kind == "mean" and sorted(axis % 4 for axis in _each(options.get("dim", ()))) == [2, 3]
        if whole or set(_each(options.get("output_size", 0))) == {1}:
            images = _means(grids[0], output, levels[0].shape[2:], name)
            about = "sums on both sides of each boundary"
            return Vector(name, "mean", about, (Operand(images, grids[0]),), output)
    if kind in ("max_pool2d", "avg_pool2d") and len(grids) == 1:
        sizes = set(_each(options["kernel_size"]))
        strides = set(_each(options.get("stride") or options["kernel_size"]))
        plain = set(_each(options.get("padding", 0))) == {0} and set(_each(options.get("dilation", 1))) == {1}
        if len(sizes) == len(strides) == 1 and plain and not options.get("ceil_mode"):
            given: dict[str, Option] = {"kernel_size": sizes.pop(), "stride": strides.pop()}
            about = "the levels of the first input"
            return Vector(name, kind, about, (Operand(levels[0], grids[0]),), output, given)
    raise NoVectorError(f"no vector is made of {kind} with these options")


def _means(grid: Grid, output: Grid, size: tuple[int, ...], name: str) -> Array:
    count = size[0] * size[1]
    ones = np.ones((1, count), dtype=np.int64)
    rows = rows_beside(ones, np.zeros(1, dtype=np.int64), [grid.scale / count], grid, output, name)
    return np.asarray(rows.reshape(-1, 1, *size).astype(grid.dtype))
