"""Right representations that are written otherwise than the exact one: each must pass wherever that one does."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Graph, GraphModule, Node

from pt2e_ci.controls.variant import Variant
from pt2e_ci.flow.exact import aten
from pt2e_ci.operators.integers import Integers, NoIntegerFormError

if TYPE_CHECKING:
    from pt2e_ci.program.segments import Grid

_BYTE = 256


class Spelling(Variant):
    """The exact representation with one step spelled otherwise."""


class _Rescaling(Spelling):
    """Takes accumulators to levels by multiplying, rounding and clamping, in a float dtype."""

    dtype = torch.float64

    def requantize(self, value: Integers, grid: Grid) -> Node:
        """Multiply by what a unit is in steps of the grid."""
        if grid.one is None:
            raise NoIntegerFormError
        scale, zero_point = grid.one
        first, last = self.level_range(value, Fraction(scale), zero_point, (grid.low, grid.high))
        factors = self._numbers([unit / Fraction(scale) for unit in value.units], value.axis)
        offsets = self._numbers([offset / Fraction(scale) for offset in value.offsets], value.axis)
        steps = self.scaled(self.in_float(value.node), factors, offsets if any(value.offsets) else 0.0)
        levels = self.call(aten.add.Tensor, self.nearest(steps), float(zero_point))
        return self.call(aten.to.dtype, self.call(aten.clamp.default, levels, first, last), grid.dtype)

    def in_float(self, accumulator: Node) -> Node:
        """Cast an accumulator."""
        return self.call(aten.to.dtype, accumulator, self.dtype)

    def scaled(self, accumulator: Node, factors: Any, offsets: Any) -> Node:
        """Multiply, and add."""
        return self.call(aten.add.Tensor, self.call(aten.mul.Tensor, accumulator, factors), offsets)

    def nearest(self, steps: Node) -> Node:
        """Round to the nearest, ties to even."""
        return self.call(aten.round.default, steps)

    def _numbers(self, numbers: list[Any], axis: int | None) -> Any:
        values = torch.tensor([float(number) for number in numbers], dtype=self.dtype)
        return self.constant(values.reshape([-1] + [1] * (-axis - 1))) if axis is not None else float(values[0])


class RescalesInFloat64(_Rescaling):
    """An accumulator is multiplied in float64 and rounded."""


class RescalesInFloat32(_Rescaling):
    """An accumulator is multiplied in float32 and rounded."""

    dtype = torch.float32


class RescalesHalves(_Rescaling):
    """An accumulator is cast in two halves, which are put together in float."""

    def in_float(self, accumulator: Node) -> Node:
        """Cast the high and the low bits."""
        high = self.call(aten.to.dtype, self.call(aten.bitwise_right_shift.Tensor_Scalar, accumulator, 16), self.dtype)
        low = self.call(aten.to.dtype, self.call(aten.bitwise_and.Scalar, accumulator, 2**16 - 1), self.dtype)
        return self.call(aten.add.Tensor, self.call(aten.mul.Tensor, high, 2.0**16), low)


class RescalesByLdexp(_Rescaling):
    """The multiplier is a mantissa, and an exponent that `ldexp` adds."""

    def scaled(self, accumulator: Node, factors: Any, offsets: Any) -> Node:
        """Multiply by eight times less, and add three to the exponent."""
        eighth = self.call(aten.mul.Tensor, factors, 0.125) if isinstance(factors, Node) else factors / 8
        small = self.call(aten.mul.Tensor, accumulator, eighth)
        three = self.constant(torch.tensor(3))
        return self.call(aten.add.Tensor, self.call(aten.ldexp.Tensor, small, three), offsets)


class RescalesByAddcmul(_Rescaling):
    """Multiplier and offset are one call of `addcmul`."""

    def scaled(self, accumulator: Node, factors: Any, offsets: Any) -> Node:
        """Call it on tensors."""
        given = [
            value if isinstance(value, Node) else self.constant(torch.tensor(value, dtype=self.dtype))
            for value in (offsets, accumulator, factors)
        ]
        return self.call(aten.addcmul.default, *given)


class RoundsByFraction(_Rescaling):
    """The nearest level is found by what `x - floor(x)` leaves."""

    def nearest(self, steps: Node) -> Node:
        """Add one where more than a half is left, or a half and the lower level is odd."""
        floor = self.call(aten.floor.default, steps)
        fraction = self.call(aten.sub.Tensor, steps, floor)
        odd = self.call(aten.ne.Scalar, self.call(aten.remainder.Scalar, floor, 2.0), 0.0)
        above = self.call(aten.gt.Scalar, fraction, 0.5)
        tie = self.call(aten.logical_and.default, self.call(aten.eq.Scalar, fraction, 0.5), odd)
        return self.call(aten.add.Tensor, floor, self.call(aten.logical_or.default, above, tie))


class RoundsByCopysign(_Rescaling):
    """Magnitudes are rounded, and take the sign back."""

    def nearest(self, steps: Node) -> Node:
        """Round what `abs` gives."""
        rounded = self.call(aten.round.default, self.call(aten.abs.default, steps))
        return self.call(aten.copysign.Tensor, rounded, steps)


class RoundsInPlace(_Rescaling):
    """Steps are rounded and clamped in place."""

    def nearest(self, steps: Node) -> Node:
        """Write into a copy."""
        return self.call(aten.round_.default, self.call(aten.clone.default, steps))


class CountsBoundaries(Spelling):
    """A level is the sum of the boundaries that an accumulator has reached."""

    def call(self, target: Any, *args: Any, **kwargs: Any) -> Node:
        """Compare with all, and sum."""
        if target is not aten.bucketize.Tensor:
            return super().call(target, *args, **kwargs)
        wide = super().call(aten.unsqueeze.default, args[0], -1)
        return super().call(aten.sum.dim_IntList, super().call(aten.ge.Tensor, wide, args[1]), [-1])


class LooksUp(Spelling):
    """What is a function of one level is a table of 1,024 levels."""

    def requantize(self, value: Integers, grid: Grid) -> Node:
        """Work out the table by the exact representation, on all integers that there may be."""
        if value.largest > 2 * _BYTE or value.axis is not None:
            return super().requantize(value, grid)
        all_of_them = self.constant(torch.arange(-2 * _BYTE, 2 * _BYTE))
        table = super().requantize(replace(value, node=all_of_them), grid)
        index = self.call(aten.add.Tensor, value.node, 2 * _BYTE)
        return self.call(aten.index.Tensor, table, [index])


class LevelsOfSixtyFourBits(Spelling):
    """Levels are never narrowed to eight bits."""

    def requantize(self, value: Integers, grid: Grid) -> Node:
        """Keep int64."""
        return super().requantize(value, replace(grid, dtype=torch.int64))

    def quantize_floats(self, x: Any, scale: Any, zero_point: Any, grid: Grid) -> Node:
        """Keep int64."""
        return super().quantize_floats(x, scale, zero_point, replace(grid, dtype=torch.int64))


class WeightOfThirtyTwoBits(Spelling):
    """Weights are constants of int32, and cast where they are used."""

    def constant(self, tensor: torch.Tensor) -> Node:
        """Keep them narrow."""
        if tensor.dtype is not torch.int64 or tensor.dim() < 2 or int(tensor.abs().max()) >= _BYTE:
            return super().constant(tensor)
        return self.call(aten.to.dtype, super().constant(tensor.to(torch.int32)), torch.int64)


class LinearByEinsum(Spelling):
    """A linear is an einsum."""

    def call(self, target: Any, *args: Any, **kwargs: Any) -> Node:
        """Spell out the product."""
        if target is not aten.linear.default:
            return super().call(target, *args, **kwargs)
        return super().call(aten.einsum.default, "...k,nk->...n", [*args])


class LinearSplit(Spelling):
    """A linear is the sum of the products of two halves."""

    def call(self, target: Any, *args: Any, **kwargs: Any) -> Node:
        """Split what is summed over."""
        if target is not aten.linear.default:
            return super().call(target, *args, **kwargs)
        halves = [
            super(LinearSplit, self).call(
                aten.linear.default,
                *(super(LinearSplit, self).call(aten.slice.Tensor, one, -1, *part) for one in args),
            )
            for part in ((0, 3), (3, 2**62))
        ]
        return super().call(aten.add.Tensor, *halves)


class LinearTransposed(Spelling):
    """A linear multiplies from the other side."""

    def call(self, target: Any, *args: Any, **kwargs: Any) -> Node:
        """Turn the operands around, and the product back."""
        if target is not aten.linear.default:
            return super().call(target, *args, **kwargs)
        x, weight = args
        columns = super().call(aten.transpose.int, super().call(aten.unsqueeze.default, x, -1), -1, -1)
        product = super().call(aten.matmul.default, weight, columns)
        return super().call(aten.squeeze.dim, product, -1)


class MaxPoolByUnfold(Spelling):
    """A max pooling is the largest of unfolded windows."""

    def max_pool2d(
        self, input: Integers, kernel_size: Any, stride: Any = (), padding: Any = (0, 0), *rest: Any, **kwargs: Any
    ) -> Integers:
        """Pad with what never wins, unfold twice, and take the largest."""
        if not isinstance(input, Integers) or rest or kwargs:
            return self.form("max_pool2d", input, kernel_size, stride, padding, *rest, **kwargs)
        size, step, pad = (_pair(value) for value in (kernel_size, stride or kernel_size, padding))
        node = self.call(aten.constant_pad_nd.default, input.node, [pad[1], pad[1], pad[0], pad[0]], -(2**40))
        for axis in (0, 1):
            node = self.call(aten.unfold.default, node, -2, size[axis], step[axis])
        return replace(input, node=self.largest(node, math.prod(size)))

    def largest(self, windows: Node, count: int) -> Node:
        """Take the largest of each window, over the last two dimensions."""
        return self.call(aten.amax.default, windows, [-2, -1])


class MaxPoolByWhere(MaxPoolByUnfold):
    """A max pooling selects the larger of two, over and over."""

    def largest(self, windows: Node, count: int) -> Node:
        """Compare the elements of a window, one by one."""
        flat = self.call(aten.flatten.using_ints, windows, -2, -1)
        largest = self.call(aten.select.int, flat, -1, 0)
        for index in range(1, count):
            other = self.call(aten.select.int, flat, -1, index)
            largest = self.call(aten.where.self, self.call(aten.gt.Tensor, largest, other), largest, other)
        return largest


class ConvolutionByUnfold(Spelling):
    """A convolution without groups is a product with unfolded patches."""

    def call(self, target: Any, *args: Any, **kwargs: Any) -> Node:
        """Unfold, and multiply."""
        if target is not aten.conv2d.default or args[-1] != 1:
            return super().call(target, *args, **kwargs)
        x, weight, _, stride, padding, dilation, _ = args
        height, width = getattr(self._root, weight.target).shape[2:]
        down, right = _pair(stride)
        pad, wide = _pair(padding), _pair(dilation)
        node = super().call(aten.constant_pad_nd.default, x, [pad[1], pad[1], pad[0], pad[0]], 0)
        rows = super().call(aten.unfold.default, node, 2, wide[0] * (height - 1) + 1, down)
        both = super().call(aten.unfold.default, rows, 3, wide[1] * (width - 1) + 1, right)
        for axis, step in ((4, wide[0]), (5, wide[1])):
            both = super().call(aten.slice.Tensor, both, axis, 0, 2**62, step)
        return super().call(aten.einsum.default, "nchwij,ocij->nohw", [both, weight])


class AddDoubles(Spelling):
    """The sum of a tensor with itself is its double."""

    def add(self, input: Integers, other: Integers) -> Integers:
        """Multiply by two."""
        if input is not other or not isinstance(input, Integers):
            return self.form("add", input, other)
        return replace(input, node=self.call(aten.mul.Tensor, input.node, 2), largest=2 * input.largest)


class ConsumersQuantize(Spelling):
    """Each operator quantizes what it takes for itself."""

    def dequantize(self, levels: Any, grid: Grid) -> Any:
        """Work the levels out again, if they are worked out at all."""
        return super().dequantize(self._again(levels) if isinstance(levels, Node) else levels, grid)

    def _again(self, levels: Node) -> Node:
        if levels.op != "call_function" or levels.target is not aten.to.dtype:
            return levels
        steps, dtype = levels.args
        again = self._graph.call_function(steps.target, steps.args, steps.kwargs)
        return self.call(aten.to.dtype, again, dtype)


class CatWritten(Spelling):
    """A cat writes its operands into a tensor of the size of all."""

    def cat(self, tensors: Any, dim: int = 0) -> Integers:
        """Make an empty one, and copy into its parts."""
        joined = self.form("cat", tensors, dim)
        return replace(joined, node=self._written(joined.node, dim))

    def _written(self, joined: Node, dim: int) -> Node:
        empty = self.call(aten.zeros_like.default, joined)
        halves = ((0, 1), (1, 2**62))
        for part in halves:
            here, there = (self.call(aten.slice.Tensor, one, dim, *part) for one in (empty, joined))
            self.call(aten.copy_.default, here, there)
        return empty


class Branches(Spelling):
    """Levels come out of a branch, whose two sides do the same."""

    def requantize(self, value: Integers, grid: Grid) -> Node:
        """Put the levels through `torch.cond`."""
        levels = super().requantize(value, grid)
        sides = [_adding(0), _adding(0)]
        chosen = self.call(torch.ops.higher_order.cond, self.constant(torch.tensor(True)), *sides, [levels])
        return self._graph.call_function(_first, (chosen,))


def _first(values: Any) -> Any:
    return values[0]


def _adding(number: int) -> GraphModule:
    graph = Graph()
    graph.output((graph.call_function(aten.add.Tensor, (graph.placeholder("levels"), number)),))
    return GraphModule(torch.nn.Module(), graph)


def _pair(value: Any) -> list[int]:
    return [value, value] if isinstance(value, int) else [*value] * (2 // len(value))
