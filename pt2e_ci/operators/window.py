"""Operators that take the largest, the sum or the mean of windows, of dimensions, or of all."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from pt2e_ci.exact.reals import NoExactFormError, Real, Term
from pt2e_ci.operators.integers import Integers, lengths, operand
from pt2e_ci.operators.row import Kind, Row, Rule, plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pt2e_ci.operators.integers import Builder

aten = torch.ops.aten


def max_pool2d(
    self: Real,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] | int = 0,
    dilation: Sequence[int] | int = 1,
    ceil_mode: bool = False,
) -> Real:
    """Return the largest number of each window."""
    if len(self.terms) > 1:
        raise NoExactFormError("numbers too far apart to be compared as integers of one unit")
    (term,) = self.terms
    sign = 1 if term.unit > 0 else -1
    pooled = F.max_pool2d(term.integers * sign, kernel_size, stride or None, padding, dilation, ceil_mode)
    return Real((Term(term.unit * sign, pooled),), self.exact)


def avg_pool2d(
    self: Real,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] | int = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Real:
    """Return the mean of each window."""
    window = (kernel_size, stride or None, padding, bool(ceil_mode))
    sums = self.linear(lambda integers: F.avg_pool2d(integers, *window, divisor_override=1), _area(kernel_size))
    return _divide(sums, window_sizes(self.shape[-2:], *window, count_include_pad, divisor_override))


def adaptive_avg_pool2d(self: Real, output_size: Sequence[int | None] | int) -> Real:
    """Return the mean of each of the windows that the tensor is cut into."""
    rows, columns = _adaptive_windows(self.shape, output_size)
    counts = rows.sum(1, keepdim=True) * columns.sum(1)
    sums = self.linear(lambda integers: rows @ integers @ columns.T, int(counts.max()))
    return _divide(sums, counts)


def mean(self: Real, dim: Sequence[int] | int | None = None, keepdim: bool = False) -> Real:
    """Return the mean over dimensions."""
    dimensions = _dimensions(dim, len(self.shape))
    count = math.prod(self.shape[dimension] for dimension in dimensions)
    return self.linear(lambda integers: integers.sum(dimensions, keepdim), count).times(Fraction(1, count))


def total(self: Real, dim: Sequence[int] | int | None = None, keepdim: bool = False) -> Real:
    """Return the sum over dimensions."""
    dimensions = _dimensions(dim, len(self.shape))
    count = math.prod(self.shape[dimension] for dimension in dimensions)
    return self.linear(lambda integers: integers.sum(dimensions, keepdim), count)


def avg_pool1d(
    self: Real,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Real:
    """Return the mean of each window of a row."""
    window = ((1, *kernel_size), (1, *(stride or kernel_size)), (0, *padding))
    rows = self.map(lambda integers: integers.unsqueeze(-2))
    means = avg_pool2d(rows, *window, ceil_mode, count_include_pad)
    return means.map(lambda integers: integers.squeeze(-2))


def adaptive_avg_pool1d(self: Real, output_size: Sequence[int]) -> Real:
    """Return the mean of each of the windows that a row is cut into."""
    rows = self.map(lambda integers: integers.unsqueeze(-2))
    return adaptive_avg_pool2d(rows, (1, *output_size)).map(lambda integers: integers.squeeze(-2))


def max_pool2d_integers(builder: Builder, self: Any, *args: Any, **options: Any) -> Integers:
    """Take the largest integer of each window; a unit is positive, so that is the largest number."""
    self = operand(builder, self)
    packed = builder.call(aten.contiguous.default, self.node)  # up to 2.4 there is no kernel for channels last
    return replace(self, node=builder.call(aten.max_pool2d.default, packed, *args, **options))


def avg_pool2d_integers(
    builder: Builder,
    self: Any,
    kernel_size: Any,
    stride: Any = (),
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Integers:
    """Add up each window; padding adds 0, for the zero point is subtracted already."""
    self = operand(builder, self)
    window = (kernel_size, stride, padding, bool(ceil_mode))
    node = builder.call(aten.avg_pool2d.default, self.node, *window, True, 1)
    options = (kernel_size, stride or None, padding, ceil_mode, count_include_pad, divisor_override)
    sums = Integers(node, self.units, self.largest * _area(kernel_size))
    return _means(builder, sums, window_sizes(lengths(builder.shapes[0][-2:]), *options))


def adaptive_avg_pool2d_integers(builder: Builder, self: Any, output_size: Any) -> Integers:
    """Add up each window, windows of several sizes brought to one."""
    self = operand(builder, self)
    rows, columns = _adaptive_windows(lengths(builder.shapes[0][-2:]), output_size)
    counts = rows.sum(1, keepdim=True) * columns.sum(1)
    sums = builder.call(aten.matmul.default, builder.constant(rows), self.node)
    sums = builder.call(aten.matmul.default, sums, builder.constant(columns.T.contiguous()))
    return _means(builder, Integers(sums, self.units, self.largest * int(counts.max())), counts)


def mean_integers(builder: Builder, self: Any, dim: Any = None, keepdim: bool = False) -> Integers:
    """Add up over dimensions, or all; that a sum is a mean is in the unit."""
    self = operand(builder, self)
    shape = builder.shapes[0]
    dimensions = _dimensions(dim, len(shape))
    count = math.prod(lengths(shape[dimension] for dimension in dimensions))
    node = builder.call(aten.sum.dim_IntList, self.node, dimensions, keepdim)
    return Integers(node, (self.units[0] / builder.window_size(count),), self.largest * count)


def total_integers(builder: Builder, self: Any, dim: Any = None, keepdim: bool = False) -> Integers:
    """Add up over dimensions, or all."""
    self = operand(builder, self)
    shape = builder.shapes[0]
    dimensions = _dimensions(dim, len(shape))
    count = math.prod(lengths(shape[dimension] for dimension in dimensions))
    node = builder.call(aten.sum.dim_IntList, self.node, dimensions, keepdim)
    return Integers(node, self.units, self.largest * count)


def avg_pool1d_integers(
    builder: Builder,
    self: Any,
    kernel_size: Any,
    stride: Any = (),
    padding: Any = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Integers:
    """Add up each window of a row."""
    given = operand(builder, self)
    window = ([1, *kernel_size], [1, *(stride or kernel_size)], [0, *padding], ceil_mode)
    rows = builder.call(aten.unsqueeze.default, given.node, -2)
    sums = builder.call(aten.avg_pool2d.default, rows, *window, True, 1)
    flat = builder.call(aten.squeeze.dim, sums, -2)
    counts = window_sizes((1, *lengths(builder.shapes[0][-1:])), *window, count_include_pad, None)
    return _means(builder, Integers(flat, given.units, given.largest * math.prod(kernel_size)), counts[0])


def adaptive_avg_pool1d_integers(builder: Builder, self: Any, output_size: Any) -> Integers:
    """Add up each window of a row, windows of several sizes brought to one."""
    given = operand(builder, self)
    columns = _windows(*lengths(builder.shapes[0][-1:]), *output_size)
    sums = builder.call(aten.matmul.default, given.node, builder.constant(columns.T.contiguous()))
    counts = columns.sum(1)
    return _means(builder, Integers(sums, given.units, given.largest * int(counts.max())), counts)


def _means(builder: Builder, sums: Integers, counts: torch.Tensor) -> Integers:
    """Divide sums by whole numbers that broadcast against them: sums of fewer are multiplied, and a unit divided."""
    least = math.lcm(*set(counts.flatten().tolist()))
    factors = least // counts
    same = bool((factors == 1).all())
    node = sums.node if same else builder.call(aten.mul.Tensor, sums.node, builder.constant(factors))
    return Integers(node, (sums.units[0] / builder.window_size(least),), sums.largest * int(factors.max()))


def window_sizes(
    shape: Sequence[int],
    kernel_size: Sequence[int],
    stride: Sequence[int] | None,
    padding: Sequence[int] | int,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> torch.Tensor:
    """Return what an average pooling divides the sum of each window by, over a tensor of this height and width."""
    ones = torch.ones(1, *shape)
    ceil_mode, count_include_pad = bool(ceil_mode), bool(count_include_pad)  # some passes make numbers of them
    inside = F.avg_pool2d(ones, kernel_size, stride, padding, ceil_mode, divisor_override=1)
    means = F.avg_pool2d(ones, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
    return (inside / means).round().to(torch.int64)


def _adaptive_windows(shape: Sequence[int], output_size: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return, for rows and columns, a matrix of 0 and 1: which of them fall into each window."""
    sizes = (output_size,) * 2 if isinstance(output_size, int) else output_size
    rows, columns = (
        _windows(length, length if size is None else size) for length, size in zip(shape[-2:], sizes, strict=True)
    )
    return rows, columns


def _windows(length: int, count: int) -> torch.Tensor:
    rows = torch.zeros(count, length, dtype=torch.int64)
    for index in range(count):
        rows[index, index * length // count : -(-(index + 1) * length // count)] = 1
    return rows


def _dimensions(dim: Sequence[int] | int | None, all_: int) -> list[int]:
    given = [dim] if isinstance(dim, int) else [*dim] if dim is not None else []
    return given or [*range(all_)]


def _area(kernel_size: Sequence[int]) -> int:
    return math.prod([*kernel_size] * (2 // len(kernel_size)))


def _divide(sums: Real, divisors: torch.Tensor) -> Real:
    """Divide by whole numbers that broadcast against the sums."""
    least = math.lcm(*set(divisors.flatten().tolist()))
    return sums.linear(lambda integers: integers * (least // divisors), least).times(Fraction(1, least))


ROWS = (
    Row(
        ("max_pool2d",),
        Kind.POOLING,
        exact=max_pool2d,
        integer=max_pool2d_integers,
        rule=Rule.SELECTION,
        on_input_grid=True,
    ),
    *plain(Kind.POOLING, "max_pool1d", rule=Rule.SELECTION, on_input_grid=True),
    *plain(Kind.POOLING, "max_pool3d adaptive_max_pool2d", rule=Rule.SELECTION),
    Row(("max_pool2d_with_indices",), Kind.POOLING, family="max_pool2d", rule=Rule.SELECTION),
    Row(("max_pool3d_with_indices",), Kind.POOLING, family="max_pool3d", rule=Rule.SELECTION),
    Row(("avg_pool2d",), Kind.POOLING, exact=avg_pool2d, integer=avg_pool2d_integers, rule=Rule.CONTRACTION),
    Row(
        ("adaptive_avg_pool2d",),
        Kind.POOLING,
        exact=adaptive_avg_pool2d,
        integer=adaptive_avg_pool2d_integers,
        rule=Rule.CONTRACTION,
    ),
    Row(("mean",), Kind.POOLING, exact=mean, integer=mean_integers, rule=Rule.CONTRACTION),
    Row(("sum",), Kind.POOLING, exact=total, integer=total_integers, rule=Rule.CONTRACTION),
    Row(("avg_pool1d",), Kind.POOLING, exact=avg_pool1d, integer=avg_pool1d_integers, rule=Rule.CONTRACTION),
    Row(
        ("adaptive_avg_pool1d",),
        Kind.POOLING,
        exact=adaptive_avg_pool1d,
        integer=adaptive_avg_pool1d_integers,
        rule=Rule.CONTRACTION,
    ),
    *plain(
        Kind.POOLING,
        "avg_pool3d adaptive_avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d",
        rule=Rule.CONTRACTION,
    ),
    *plain(
        Kind.STATISTIC,
        """choose_qparams choose_qparams_symmetric choose_qparams_per_token choose_qparams_per_token_asymmetric
        _choose_qparams_per_token_asymmetric_impl choose_qparams_affine amin amax aminmax max min""",
    ),
)
