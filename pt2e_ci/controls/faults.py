"""Wrong representations: the exact one of `integer`, with one realistic fault in each.

A fault overrides one step. Its docstring says what is wrong; its name is what ``pt2e-ci controls`` calls it.
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Node

from pt2e_ci.controls.variant import Variant
from pt2e_ci.flow.exact import aten
from pt2e_ci.operators.integers import Integers, Weight

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.fx import GraphModule

    from pt2e_ci.program.segments import Grid


class Fault(Variant):
    """The exact representation with one step wrong.

    Attributes:
        codes: the reasons that name it: what is wrong with its numbers, for most.

    """

    codes: tuple[str, ...] = ("PQ017", "PQ022", "PQ023", "PQ024", "PQ026", "PQ031", "PQ032", "PQ036")


class RequantizeTruncates(Fault):
    """A result is truncated to a level, as by a cast, where it should be rounded."""

    def turn(self, steps: int) -> tuple[int, bool]:
        """Begin a level above zero at the whole step, and one below just past the step under it."""
        return (2 * steps, True) if steps > 0 else (2 * (steps - 1), False)


class RequantizeFloors(Fault):
    """A result is rounded down, as by an arithmetic shift."""

    def turn(self, steps: int) -> tuple[int, bool]:
        """Begin a level at the whole step."""
        return 2 * steps, True


class RequantizeHalfAway(Fault):
    """Ties are rounded away from zero, where the scheme is to even."""

    def turn(self, steps: int) -> tuple[int, bool]:
        """Give a tie to the level that is further from zero."""
        return 2 * steps - 1, steps > 0


class RequantizeCoarseMultiplier(Fault):
    """The multiplier of the requantization has 6 bits."""

    def product_unit(self, a: Fraction, b: Fraction) -> Fraction:
        """Round a product of scales to 6 bits."""
        mantissa, exponent = math.frexp(float(a * b))
        return Fraction(round(mantissa * 64)) * Fraction(2) ** (exponent - 6)


class InputTruncates(Fault):
    """The input is truncated to a level, where it should be rounded."""

    def rounded(self, steps: Node) -> Node:
        """Truncate."""
        return self.call(aten.trunc.default, steps)


class InputHalfUp(Fault):
    """The input's ties are rounded up, where the scheme is to even."""

    def rounded(self, steps: Node) -> Node:
        """Add a half and round down."""
        return self.call(aten.floor.default, self.call(aten.add.Tensor, steps, 0.5))


class InputScaleMultiplied(Fault):
    """The input is multiplied by its scale, where it should be divided."""

    def quantize_floats(self, x: Any, scale: Any, zero_point: Any, grid: Grid) -> Node:
        """Pass on the reciprocal."""
        inverse = self.call(aten.reciprocal.default, scale) if not isinstance(scale, float) else 1 / scale
        return super().quantize_floats(x, inverse, zero_point, grid)


class InputZeroPointDropped(Fault):
    """The zero point is not subtracted from levels."""

    def operand(self, levels: Node, scale: Fraction, zero_point: Any) -> Integers:
        """Take it for 0."""
        return super().operand(levels, scale, 0)


class InputZeroPointAdded(Fault):
    """The zero point is added to levels, where it should be subtracted."""

    def operand(self, levels: Node, scale: Fraction, zero_point: Any) -> Integers:
        """Turn its sign."""
        negative = -zero_point if isinstance(zero_point, int) else self.call(aten.neg.default, zero_point)
        return super().operand(levels, scale, negative)


class InputZeroPointOfOther(Fault):
    """An operand's zero point is that of the operand before it."""

    _last: Any = 0

    def operand(self, levels: Node, scale: Fraction, zero_point: Any) -> Integers:
        """Take the last one that was seen."""
        self._last, other = zero_point, self._last
        return super().operand(levels, scale, other)


class InputTakenForUnsigned(Fault):
    """Levels of int8 are read as uint8."""

    def operand(self, levels: Node, scale: Fraction, zero_point: Any) -> Integers:
        """Read the same bits without a sign."""
        unsigned = self.call(aten.remainder.Scalar, self.call(aten.to.dtype, levels, torch.int64), 256)
        return super().operand(unsigned, scale, zero_point)


class InputScaleOfOther(Fault):
    """An operand's scale is that of the operand before it."""

    _last = Fraction(1, 64)

    def operand(self, levels: Node, scale: Fraction, zero_point: Any) -> Integers:
        """Take the last one that was seen."""
        self._last, other = scale, self._last
        return super().operand(levels, other, zero_point)


class OutputZeroPointDropped(Fault):
    """The output's zero point is not added."""

    def requantize(self, value: Integers, grid: Grid) -> Node:
        """Take it for 0."""
        return super().requantize(value, replace(grid, zero_points=(0.0,)))


class OutputScaleOfInput(Fault):
    """The output is quantized with the input's scale."""

    _last: Fraction | None = None

    def operand(self, levels: Node, scale: Fraction, zero_point: Any) -> Integers:
        """Remember the scale."""
        self._last = scale
        return super().operand(levels, scale, zero_point)

    def requantize(self, value: Integers, grid: Grid) -> Node:
        """Use the one that was remembered."""
        return super().requantize(value, replace(grid, scales=(float(self._last),)) if self._last else grid)


class OutputRangeHardCoded(Fault):
    """Results are clamped to -127 and 127, whatever the quantizer says."""

    def requantize(self, value: Integers, grid: Grid) -> Node:
        """Clamp to a range of its own."""
        return super().requantize(value, replace(grid, low=-127, high=127))


class OutputRangeUnsigned(Fault):
    """Results are clamped to 0 and 127, as if there were no levels below zero."""

    def requantize(self, value: Integers, grid: Grid) -> Node:
        """Clamp to a range of its own."""
        return super().requantize(value, replace(grid, low=0, high=127))


class InputClampMissing(Fault):
    """The input is not clamped, and wraps around: right only in the range that it was calibrated on."""

    def quantize_floats(self, x: Any, scale: Any, zero_point: Any, grid: Grid) -> Node:
        """Give the clamp bounds that never bind, and keep the low byte."""
        levels = super().quantize_floats(
            x, scale, zero_point, replace(grid, low=-(2**62), high=2**62, dtype=torch.int64)
        )
        return self.call(aten.to.dtype, levels, grid.dtype)


class InputClampBeforeZeroPoint(Fault):
    """The input is clamped before the zero point is added, and wraps around."""

    def quantize_floats(self, x: Any, scale: Any, zero_point: Any, grid: Grid) -> Node:
        """Add the zero point last."""
        levels = super().quantize_floats(x, scale, 0, replace(grid, dtype=torch.int64))
        return self.call(aten.to.dtype, self.call(aten.add.Tensor, levels, zero_point), grid.dtype)


class InputCastBeforeClamp(Fault):
    """The input is cast to int32 before it is clamped, so that the largest turn into the least."""

    def rounded(self, steps: Node) -> Node:
        """Wrap at 32 bits, as x86 does with what is out of range."""
        inside = self.call(aten.lt.Scalar, self.call(aten.abs.default, steps), 2.0**31)
        return self.call(aten.where.ScalarOther, inside, super().rounded(steps), -(2.0**31))


class ProductScaleOfOne(Fault):
    """A product's scale is that of its first factor."""

    def product_unit(self, a: Fraction, b: Fraction) -> Fraction:
        """Drop the second."""
        return a


class PerChannelScaleOfFirst(Fault):
    """All channels of a weight have the scale of the first."""

    def weight(self, weight: Weight) -> Weight:
        """Repeat the first scale."""
        return replace(weight, scales=weight.scales[:1] * len(weight.scales))


class PerChannelScaleShifted(Fault):
    """Each channel of a weight has the scale of its neighbour."""

    def weight(self, weight: Weight) -> Weight:
        """Rotate the scales by one."""
        return replace(weight, scales=weight.scales[1:] + weight.scales[:1])


class PerChannelAxisSwapped(Fault):
    """A weight's scales belong to its input channels."""

    def weight(self, weight: Weight) -> Weight:
        """Scale the levels along the other axis, and quantize them again with one scale."""
        if weight.axis is None:
            return weight
        scales = torch.tensor([float(scale) for scale in weight.scales], dtype=torch.float64)
        shape = [1] * weight.levels.dim()
        shape[1] = -1
        spread = scales[torch.arange(weight.levels.shape[1]) % len(scales)].reshape(shape) / scales.max()
        levels = (weight.levels * spread).round().to(torch.int8)
        return Weight(levels, (Fraction(float(scales.max())),), (0,))


class WeightZeroPointInvented(Fault):
    """A weight is taken for asymmetric: something is subtracted from it, as its least level were -128."""

    def weight_levels(self, weight: Weight) -> torch.Tensor:
        """Shift the levels by one."""
        return super().weight_levels(weight) - 1


class WeightChannelsReversed(Fault):
    """The output channels of a weight are in the wrong order."""

    def weight_levels(self, weight: Weight) -> torch.Tensor:
        """Turn them around."""
        return super().weight_levels(weight).flip(0)


class WeightKernelFlipped(Fault):
    """A convolution turns its kernel around, as mathematics does and aten does not."""

    def weight_levels(self, weight: Weight) -> torch.Tensor:
        """Flip the spatial axes."""
        return super().weight_levels(weight).flip([*range(2, weight.levels.dim())])


class WeightNibble(Fault):
    """A weight is read as int4."""

    def weight_levels(self, weight: Weight) -> torch.Tensor:
        """Keep the low four bits, with a sign."""
        return (super().weight_levels(weight) + 8) % 16 - 8


class BiasDropped(Fault):
    """The bias is left out."""

    def bias(self, bias: torch.Tensor, x: Integers, scales: Sequence[Fraction]) -> tuple[Fraction, ...]:
        """Take it for 0."""
        return (Fraction(0),) * len(bias)


class BiasTwice(Fault):
    """The bias is added twice."""

    def bias(self, bias: torch.Tensor, x: Integers, scales: Sequence[Fraction]) -> tuple[Fraction, ...]:
        """Double it."""
        return tuple(2 * value for value in super().bias(bias, x, scales))


class BiasScaleWrong(Fault):
    """The bias is quantized with the scale of the input alone, and used with that of the product."""

    def bias(self, bias: torch.Tensor, x: Integers, scales: Sequence[Fraction]) -> tuple[Fraction, ...]:
        """Multiply by the weight's scale once too often."""
        exact = super().bias(bias, x, scales)
        return tuple(value * scale for value, scale in zip(exact, scales, strict=True))


class BiasOfNeighbour(Fault):
    """Each channel has the bias of its neighbour."""

    def bias(self, bias: torch.Tensor, x: Integers, scales: Sequence[Fraction]) -> tuple[Fraction, ...]:
        """Rotate by one."""
        return super().bias(bias.roll(1), x, scales)


class BiasInEightBits(Fault):
    """The bias is kept in int8, with a scale of its own."""

    def bias(self, bias: torch.Tensor, x: Integers, scales: Sequence[Fraction]) -> tuple[Fraction, ...]:
        """Round to 4 bits below the largest."""
        step = bias.abs().max() / 8
        return super().bias((bias / step).round() * step if bool(step) else bias, x, scales)


class BiasOverflows(Fault):
    """The bias wraps around at 32 bits of the accumulator's scale."""

    def bias(self, bias: torch.Tensor, x: Integers, scales: Sequence[Fraction]) -> tuple[Fraction, ...]:
        """Keep 32 bits."""
        units = [self.product_unit(x.units[0], scale) for scale in scales]
        exact = super().bias(bias, x, scales)
        steps = [round(value / unit) for value, unit in zip(exact, units, strict=True)]
        return tuple(
            value if -(2**31) <= step < 2**31 else ((step + 2**31) % 2**32 - 2**31) * unit
            for value, step, unit in zip(exact, steps, units, strict=True)
        )


def _wrapped(program: Variant, node: Node, bits: int) -> Node:
    """Keep the low bits of integers, with a sign."""
    half = 2 ** (bits - 1)
    low = program.call(aten.remainder.Scalar, program.call(aten.add.Tensor, node, half), 2**bits)
    return program.call(aten.sub.Tensor, low, half)


class AccumulatorSixteenBits(Fault):
    """Sums of products wrap around at 16 bits."""

    def accumulator(self, node: Node) -> Node:
        """Keep 16 bits."""
        return _wrapped(self, node, 16)


class AccumulatorTwentyFourBits(Fault):
    """Sums of products wrap around at 24 bits."""

    def accumulator(self, node: Node) -> Node:
        """Keep 24 bits."""
        return _wrapped(self, node, 24)


class AccumulatorThirtyTwoBits(Fault):
    """Sums of products wrap around at 32 bits, and a long enough one does."""

    def accumulator(self, node: Node) -> Node:
        """Keep 32 bits."""
        return _wrapped(self, node, 32)


class AccumulatorSaturates(Fault):
    """Sums of products saturate at 16 bits, as with an instruction that adds pairs."""

    def accumulator(self, node: Node) -> Node:
        """Clamp to int16."""
        return self.call(aten.clamp.default, node, -(2**15), 2**15 - 1)


class PaddingWithLevelZero(Fault):
    """A convolution pads with the level 0, where the zero point belongs."""

    def conv2d(self, input: Integers, weight: Weight, bias: Any = None, **options: Any) -> Integers:
        """Pad by hand, with what the level 0 stands for."""
        padding = options.get("padding", (0, 0))
        if isinstance(input, Integers) and len(padding) == 2:
            zero_point = input.node.args[1]
            pads = [padding[1], padding[1], padding[0], padding[0]]
            padded = self.call(aten.constant_pad_nd.default, input.node, pads, -zero_point)
            return self.form("conv2d", replace(input, node=padded), weight, bias, **(options | {"padding": (0, 0)}))
        return self.form("conv2d", input, weight, bias, **options)


class PaddingIgnored(Fault):
    """A convolution does not pad."""

    codes = (*Fault.codes, "PQ043")

    def conv2d(self, input: Integers, weight: Weight, bias: Any = None, **options: Any) -> Integers:
        """Leave the padding out."""
        return self.form("conv2d", input, weight, bias, **(options | {"padding": (0, 0)}))


class StrideIgnored(Fault):
    """A convolution goes on by one."""

    codes = (*Fault.codes, "PQ043")

    def conv2d(self, input: Integers, weight: Weight, bias: Any = None, **options: Any) -> Integers:
        """Leave the stride out."""
        return self.form("conv2d", input, weight, bias, **(options | {"stride": (1, 1)}))


class DilationIgnored(Fault):
    """A convolution takes neighbours, and crops to the size that dilation gives."""

    def conv2d(self, input: Integers, weight: Weight, bias: Any = None, **options: Any) -> Integers:
        """Leave the dilation out."""
        dense = self.form("conv2d", input, weight, bias, **(options | {"dilation": (1, 1)}))
        node = dense.node
        for axis, dilation in enumerate(options.get("dilation", (1, 1)), 2):
            extra = (dilation - 1) * (weight.levels.shape[axis] - 1)
            node = self.call(aten.slice.Tensor, node, axis, 0, -extra) if extra else node
        return replace(dense, node=node)


class GroupsIgnored(Fault):
    """A convolution of groups sums over all input channels."""

    def conv2d(self, input: Integers, weight: Weight, bias: Any = None, **options: Any) -> Integers:
        """Repeat the weights, so that one group takes them."""
        if isinstance(weight, Weight):
            weight = replace(weight, levels=weight.levels.repeat(1, options.get("groups", 1), 1, 1))
        return self.form("conv2d", input, weight, bias, **(options | {"groups": 1}))


class ReluAtLevelZero(Fault):
    """A ReLU clamps at the level 0, where the zero point belongs."""

    def level_range(
        self, value: Integers, scale: Fraction, zero_point: int, bounds: tuple[int, int]
    ) -> tuple[int, int]:
        """Clamp activations at 0."""
        first, last = super().level_range(value, scale, zero_point, bounds)
        return (first if value.low is None else min(max(bounds[0], 0), last)), last


class ReluDropped(Fault):
    """A ReLU that is part of an operator is left out."""

    def relu(self, input: Integers) -> Integers:
        """Give back what came."""
        return input


class HardtanhOneSided(Fault):
    """A hardtanh clamps below only."""

    def hardtanh(self, input: Integers, min_val: float = -1, max_val: float = 1) -> Integers:
        """Take the upper bound for infinite."""
        return self.form("hardtanh", input, min_val, math.inf)


class MaxPoolUnsigned(Fault):
    """A max pooling compares levels as if they had no sign."""

    def max_pool2d(self, input: Integers, *args: Any, **kwargs: Any) -> Integers:
        """Put the negative ones above the others, pool, and take them back."""
        if not isinstance(input, Integers):
            return self.form("max_pool2d", input, *args, **kwargs)
        pooled = self.form(
            "max_pool2d", replace(input, node=self.call(aten.remainder.Scalar, input.node, 2**16)), *args, **kwargs
        )
        shifted = self.call(aten.remainder.Scalar, self.call(aten.add.Tensor, pooled.node, 2**15), 2**16)
        return replace(pooled, node=self.call(aten.sub.Tensor, shifted, 2**15))


class MaxPoolPadsWithZero(Fault):
    """A max pooling pads with zeros, which win over what is negative."""

    def max_pool2d(
        self, input: Integers, kernel_size: Any, stride: Any = (), padding: Any = (0, 0), *rest: Any, **kwargs: Any
    ) -> Integers:
        """Pad by hand."""
        if not isinstance(input, Integers) or isinstance(padding, int):
            return self.form("max_pool2d", input, kernel_size, stride, padding, *rest, **kwargs)
        pads = [padding[-1], padding[-1], padding[0], padding[0]]
        padded = replace(input, node=self.call(aten.constant_pad_nd.default, input.node, pads, 0))
        return self.form("max_pool2d", padded, kernel_size, stride, 0, *rest, **kwargs)


class MeanOfOneMore(Fault):
    """A mean divides by one more than it has summed."""

    def window_size(self, count: int) -> int:
        """Count one too many."""
        return count + 1


class AddInUnitsOfFirst(Fault):
    """Operands are added as they are, and the sum has the scale of the first."""

    def add(self, input: Integers, other: Integers) -> Integers:
        """Pass the second off as being in the units of the first."""
        if isinstance(input, Integers) and isinstance(other, Integers):
            other = replace(other, units=input.units)
        return self.form("add", input, other)


class AddBroadcastsWrongAxis(Fault):
    """A smaller operand is repeated along the other axis."""

    def add(self, input: Integers, other: Integers) -> Integers:
        """Turn a column into a row."""
        if isinstance(other, Integers) and self.shapes[-1][-1:] == (1,):
            other = replace(other, node=self.call(aten.transpose.int, other.node, -1, -2))
        return self.form("add", input, other)


class AddRoundsEachOperand(Fault):
    """Each operand is rounded to the output's grid before they are added; off by one at most."""

    def add(self, input: Integers, other: Integers) -> Integers:
        """Round both to multiples of the larger unit."""
        if isinstance(input, Integers) and isinstance(other, Integers) and input.is_plain and other.is_plain:
            unit = 2 * max(input.units[0], other.units[0])
            return self.form("add", self._rounded_to(input, unit), self._rounded_to(other, unit))
        return self.form("add", input, other)

    def _rounded_to(self, value: Integers, unit: Fraction) -> Integers:
        steps = self.call(
            aten.mul.Tensor, self.call(aten.to.dtype, value.node, torch.float64), float(value.units[0] / unit)
        )
        node = self.call(aten.to.dtype, self.call(aten.round.default, steps), torch.int64)
        return replace(value, node=node, units=(unit,))


class CatReversed(Fault):
    """Tensors are put one after the other in the wrong order."""

    def cat(self, tensors: Sequence[Integers], dim: int = 0) -> Integers:
        """Begin with the last."""
        return self.form("cat", [*tensors][::-1], dim)


class DynamicScaleFixed(Fault):
    """A dynamic operator uses a scale of its own, not the one that it finds for its input."""

    def dequantize(self, levels: Any, grid: Grid) -> Any:
        """Put a constant in place of the run-time scale."""
        if isinstance(grid.scales, Node):
            grid = replace(grid, scales=self.constant(torch.tensor(1 / 64)))
        return super().dequantize(levels, grid)


class StateKept(Fault):
    """A run changes what the next one gives."""

    codes = ("PQ028",)

    def accumulator(self, node: Node) -> Node:
        """Count runs, and add the count."""
        runs = self.call(aten.add_.Tensor, self.constant(torch.zeros(1, dtype=torch.int64)), 1)
        return self.call(aten.add.Tensor, node, runs)


class ComputedInFloat(Fault):
    """Whole numbers are multiplied in float32, and cast to integers afterwards."""

    codes = ("PQ012",)

    def call(self, target: Any, *args: Any, **kwargs: Any) -> Node:
        """Put casts around a contraction."""
        if target in (aten.linear.default, aten.conv2d.default):
            args = tuple(
                super(ComputedInFloat, self).call(aten.to.dtype, value, torch.float32) if position < 2 else value
                for position, value in enumerate(args)
            )
            return super().call(aten.to.dtype, super().call(target, *args, **kwargs), torch.int64)
        return super().call(target, *args, **kwargs)


class OnlyFirstRewritten(Fault):
    """The first operator that matches is rewritten, and the others are not."""

    codes = ("PQ012",)

    _rewritten = 0

    def is_rewritten(self, node: Node) -> bool:
        """Say yes once."""
        self._rewritten += 1
        return self._rewritten == 1


class OnlyLinearRewritten(Fault):
    """Linear operators are rewritten, and nothing else."""

    codes = ("PQ012",)

    def is_rewritten(self, node: Node) -> bool:
        """Go by the name."""
        return node.target == aten.linear.default


def nothing_rewritten(qdq: GraphModule) -> GraphModule:
    """Give the Q/DQ program as it is: no pattern matches any more."""
    return copy.deepcopy(qdq)
