"""Operators that sum products of two operands."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from pt2e_ci.exact.boundaries import common_unit
from pt2e_ci.exact.reals import Real, product
from pt2e_ci.operators.integers import GroupedWeight, Integers, NoIntegerFormError, Weight, lengths, operand
from pt2e_ci.operators.row import Kind, Row, Rule, plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pt2e_ci.operators.integers import Builder

aten = torch.ops.aten


def linear(input: Real, weight: Real, bias: Real | None = None) -> Real:
    """``input @ weight.T + bias``."""
    result = product(input, weight, F.linear, weight.shape[-1])
    return result if bias is None else result.plus(bias)


def convolution(
    input: Real,
    weight: Real,
    bias: Real | None = None,
    stride: Sequence[int] | int = 1,
    padding: Sequence[int] | int | str = 0,
    dilation: Sequence[int] | int = 1,
    groups: int = 1,
) -> Real:
    """Cross-correlation over one to three spatial dimensions, zeros (the real number) beyond the edges."""
    dimensions = len(weight.shape) - 2
    function = (F.conv1d, F.conv2d, F.conv3d)[dimensions - 1]

    def convolve(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return function(x, w, None, stride, padding, dilation, groups)

    result = product(input, weight, convolve, math.prod(weight.shape[1:]))
    return result if bias is None else result.plus(bias.map(lambda b: b.reshape(-1, *[1] * dimensions)))


def conv_transpose2d(
    input: Real,
    weight: Real,
    bias: Real | None = None,
    stride: Sequence[int] | int = 1,
    padding: Sequence[int] | int = 0,
    output_padding: Sequence[int] | int = 0,
    groups: int = 1,
    dilation: Sequence[int] | int = 1,
) -> Real:
    """Transposed cross-correlation over two spatial dimensions."""

    def convolve(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return F.conv_transpose2d(x, w, None, stride, padding, output_padding, groups, dilation)

    result = product(input, weight, convolve, math.prod(weight.shape) // weight.shape[1])
    return result if bias is None else result.plus(bias.map(lambda b: b.reshape(-1, 1, 1)))


def matmul(self: Real, other: Real) -> Real:
    """``self @ other``."""
    return product(self, other, torch.matmul, self.shape[-1])


def mm(self: Real, mat2: Real) -> Real:
    """``self @ mat2``, of two matrices or two batches of them."""
    return matmul(self, mat2)


def linear_integers(builder: Builder, input: Any, weight: Any, bias: torch.Tensor | None = None) -> Integers:
    """Multiply by a quantized weight, and add the bias to what the sums stand for."""
    if isinstance(weight, GroupedWeight):
        return _contract_groups(builder, input, weight, bias)
    return _contract(builder, input, weight, bias, aten.linear.default, -1)


def conv2d_integers(
    builder: Builder, input: Any, weight: Any, bias: torch.Tensor | None = None, **options: Any
) -> Integers:
    """Convolve with a quantized weight. The zero point is subtracted already, so padding with 0 is right."""
    return _convolve(builder, input, weight, bias, aten.conv2d, 2, options)


def conv1d_integers(
    builder: Builder, input: Any, weight: Any, bias: torch.Tensor | None = None, **options: Any
) -> Integers:
    """Convolve in one dimension."""
    return _convolve(builder, input, weight, bias, aten.conv1d, 1, options)


def conv3d_integers(
    builder: Builder, input: Any, weight: Any, bias: torch.Tensor | None = None, **options: Any
) -> Integers:
    """Convolve in three dimensions."""
    return _convolve(builder, input, weight, bias, aten.conv3d, 3, options)


def _convolve(
    builder: Builder,
    input: Any,
    weight: Any,
    bias: torch.Tensor | None,
    packet: Any,
    dimensions: int,
    options: dict[str, Any],
) -> Integers:
    padding = options.get("padding", (0,) * dimensions)
    by_name = isinstance(padding, str)
    target = packet.padding if by_name else packet.default
    stride, dilation = ([*options.get(name, (1,) * dimensions)] for name in ("stride", "dilation"))
    rest = (None, stride, padding if by_name else [*padding], dilation, options.get("groups", 1))
    return _contract(builder, input, weight, bias, target, -1 - dimensions, *rest)


def _contract(
    builder: Builder, x: Any, weight: Any, bias: torch.Tensor | None, target: Any, axis: int, *rest: Any
) -> Integers:
    whole = isinstance(x, Integers) and replace(x, runtime=None).is_plain
    if not isinstance(weight, Weight) or not whole:
        raise NoIntegerFormError
    levels = builder.weight_levels(weight)
    count = math.prod(weight.levels.shape[1:])
    channels = weight.levels.shape[0]
    scales = weight.scales * channels if len(weight.scales) == 1 else weight.scales
    offsets = _bias(builder, bias, x, scales)
    node = builder.accumulator(builder.call(target, x.node, builder.constant(levels), *rest))
    units = tuple(builder.product_unit(x.units[0], scale) for scale in scales)
    return Integers(node, units, x.largest * int(levels.abs().max()) * count, axis, offsets, runtime=x.runtime)


def _bias(builder: Builder, bias: Any, x: Integers, scales: Sequence[Fraction]) -> tuple[Fraction, ...]:
    """Return the bias of each channel as real numbers; one that is quantized has scales of its own."""
    if isinstance(bias, Integers):
        raise NoIntegerFormError
    if isinstance(bias, Weight):
        levels = builder.weight_levels(bias).tolist()
        own = bias.scales * len(levels) if len(bias.scales) == 1 else bias.scales
        return tuple(level * scale for level, scale in zip(levels, own, strict=True))
    return (Fraction(0),) * len(scales) if bias is None else builder.bias(bias, x, scales)


def _contract_groups(builder: Builder, x: Any, weight: GroupedWeight, bias: torch.Tensor | None) -> Integers:
    """Multiply group by group, and add up in a unit that all groups' scales are whole multiples of."""
    if not isinstance(x, Integers) or not replace(x, runtime=None).is_plain:
        raise NoIntegerFormError
    rows, length = weight.levels.shape
    groups = length // weight.size
    levels = weight.levels.to(torch.int64)
    if weight.zero_points is not None:
        levels = levels - weight.zero_points.to(torch.int64).repeat_interleave(weight.size, 1)
    scales = [Fraction(scale) for scale in weight.scales.flatten().tolist()]
    unit = common_unit(scales)
    factors = [int(scale / unit) for scale in scales]
    largest = x.largest * int(levels.abs().max()) * length * max(factors)
    # (..., length) to (groups, tokens, size), times (groups, size, rows), each group then in the common unit.
    tokens = builder.call(aten.reshape.default, x.node, [-1, groups, weight.size])
    by_group = levels.reshape(rows, groups, weight.size).permute(1, 2, 0).contiguous()
    sums = builder.call(aten.matmul.default, builder.call(aten.transpose.int, tokens, 0, 1), by_group)
    in_unit = builder.call(
        aten.mul.Tensor, builder.accumulator(sums), torch.tensor(factors).reshape(rows, groups, 1).permute(1, 2, 0)
    )
    total = builder.call(aten.sum.dim_IntList, in_unit, [0])
    node = builder.call(aten.reshape.default, total, [*lengths(builder.shapes[0][:-1]), rows])
    units = (builder.product_unit(x.units[0], unit),) * rows
    offsets = (Fraction(0),) * rows if bias is None else builder.bias(bias, x, units)
    return Integers(node, units, largest, -1, offsets, runtime=x.runtime)


def conv_transpose2d_integers(
    builder: Builder, input: Any, weight: Any, bias: torch.Tensor | None = None, **options: Any
) -> Integers:
    """Convolve, transposed, with a quantized weight of one scale, or one for each output channel."""
    given, groups = operand(builder, input), options.get("groups", 1)
    if not isinstance(weight, Weight) or weight.axis not in (None, 1) or (weight.axis == 1 and groups > 1):
        raise NoIntegerFormError
    levels = builder.weight_levels(weight)
    names = ("stride", "padding", "output_padding", "groups", "dilation")
    rest = [
        options.get(name, default) for name, default in zip(names, ([1, 1], [0, 0], [0, 0], 1, [1, 1]), strict=True)
    ]
    rest = [[*one] if isinstance(one, list | tuple) else one for one in rest]
    sums = builder.call(aten.conv_transpose2d.input, given.node, builder.constant(levels), None, *rest)
    channels = levels.shape[1] * groups
    scales = weight.scales * channels if len(weight.scales) == 1 else weight.scales
    offsets = _bias(builder, bias, given, scales)
    largest = given.largest * int(levels.abs().max()) * (levels.numel() // levels.shape[1])
    units = tuple(builder.product_unit(given.units[0], scale) for scale in scales)
    return Integers(builder.accumulator(sums), units, largest, -3, offsets)


def matmul_integers(builder: Builder, self: Any, other: Any) -> Integers:
    """Multiply two matrices."""
    self, other = operand(builder, self), operand(builder, other)
    node = builder.call(aten.matmul.default, self.node, other.node)
    unit = builder.product_unit(self.units[0], other.units[0])
    (length,) = lengths(builder.shapes[0][-1:])
    return Integers(node, (unit,), self.largest * other.largest * length)


def mm_integers(builder: Builder, self: Any, mat2: Any) -> Integers:
    """Multiply two matrices, or two batches of them."""
    return matmul_integers(builder, self, mat2)


_CONV: dict[str, Any] = {"family": "conv", "rule": Rule.CONTRACTION}
_PRODUCT: dict[str, Any] = {"family": "linear", "rule": Rule.CONTRACTION}

ROWS = (
    Row(("linear",), Kind.CONTRACTION, exact=linear, integer=linear_integers, **_PRODUCT),
    Row(("matmul",), Kind.CONTRACTION, exact=matmul, integer=matmul_integers, **_PRODUCT),
    Row(("conv1d",), Kind.CONTRACTION, exact=convolution, integer=conv1d_integers, **_CONV),
    Row(("conv2d",), Kind.CONTRACTION, exact=convolution, integer=conv2d_integers, **_CONV),
    Row(("conv3d",), Kind.CONTRACTION, exact=convolution, integer=conv3d_integers, **_CONV),
    Row(("conv_transpose2d",), Kind.CONTRACTION, exact=conv_transpose2d, integer=conv_transpose2d_integers, **_CONV),
    Row(("mm",), Kind.CONTRACTION, exact=mm, integer=mm_integers, **_PRODUCT),
    Row(("bmm",), Kind.CONTRACTION, exact=mm, integer=mm_integers, **_PRODUCT),
    *plain(Kind.CONTRACTION, "_int_mm einsum", **_PRODUCT),
    *plain(Kind.CONTRACTION, "addmm baddbmm", operands=(1, 2), **_PRODUCT),
    *plain(Kind.CONTRACTION, "addmv", operands=(1, 2)),
    *plain(
        Kind.CONTRACTION,
        "convolution _convolution conv_transpose1d conv_transpose3d",
        **_CONV,
    ),
    *plain(Kind.CONTRACTION, "dot mv bilinear scaled_dot_product_attention"),
)
