"""What a Q/DQ program asks of one operator: the levels that are due, as a function of its operands' levels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Node

from pt2e_ci.exact.boundaries import common_unit
from pt2e_ci.exact.levels import to_levels
from pt2e_ci.exact.reals import NoExactFormError, Real
from pt2e_ci.judge.deciding.elements import UndecidedError
from pt2e_ci.operators.row import Kind, Rule
from pt2e_ci.program.oracle import work_out
from pt2e_ci.program.segments import Constant, Dequantize, Operation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pt2e_ci.exact.schemes import Rounding
    from pt2e_ci.program.segments import Grid, Levels, QuantizedOperator, Reading

# Beyond every float32, and below what stands for an infinity.
_FAR = Fraction(2) ** 180
_LARGEST_DIVISOR = 2**24
# The axis of a weight that output channels are along, where it is not the first.
_CHANNEL_AXIS = {"conv_transpose2d": 1}
# Sums of products below it are exact in float64, in any order.
EXACT = 2.0**52


@dataclass(frozen=True)
class Specification:
    """An operator of a Q/DQ program, from the levels of its operands to its own.

    Attributes:
        reading: the program.
        end: the node whose value is asked for: what is quantized, or the result itself where that stays in float.
        grid: the grid that it is quantized to; None where it is not.
        between: the nodes on the way, in order.
        operations: those that compute.
        activations: the dequantize nodes whose levels the program works out.
        constants: the dequantize nodes of constants.

    """

    reading: Reading
    end: Node
    grid: Grid | None
    between: tuple[Node, ...]
    operations: tuple[Operation, ...]
    activations: tuple[Dequantize, ...]
    constants: tuple[Dequantize, ...]

    @classmethod
    def of_levels(cls, reading: Reading, one: Levels) -> Specification:
        """Read what gives a quantize node its levels."""
        return cls._read(reading, one.quantize.source, one.quantize.grid)

    @classmethod
    def of_result(cls, reading: Reading, operator: QuantizedOperator) -> Specification:
        """Read an operator whose result is not quantized."""
        return cls._read(reading, operator.node, None)

    @classmethod
    def _read(cls, reading: Reading, end: Node, grid: Grid | None) -> Specification:
        """Walk back to the dequantize nodes.

        Raises:
            UndecidedError: what is there has no levels, or cannot be looked into.

        """
        waiting, seen = [end], set[Node]()
        while waiting:
            node = waiting.pop()
            if node in seen:
                continue
            seen.add(node)
            if node.op == "placeholder":
                raise UndecidedError("an operand is no level")
            if not isinstance(reading.items[node], Dequantize):
                waiting += node.all_input_nodes
        found = [item for node, item in reading.items.items() if node in seen]
        dequantized = [item for item in found if isinstance(item, Dequantize)]
        moving = [one for one in dequantized if one.source in reading.computed]
        operations = [item for item in found if isinstance(item, Operation) and not is_move(item)]
        fixed = [one for one in dequantized if one not in moving]
        if not moving:
            raise UndecidedError("an operand is no level")
        between = tuple(item.node for item in found)
        return cls(reading, end, grid, between, tuple(operations), tuple(moving), tuple(fixed))

    @cached_property
    def rule(self) -> Rule:
        """How it is decided.

        Raises:
            UndecidedError: in no way that is known.

        """
        rules = [(one.row.rule if one.row else None) or self._refuse(one) for one in self.operations]
        for rule in (Rule.CONTRACTION, Rule.SELECTION):
            if rule in rules:
                others = [one for one, its in zip(self.operations, rules, strict=True) if its is not rule]
                if rules.count(rule) > 1 or rules[0] is not rule or not all(_is_activation(one) for one in others):
                    raise UndecidedError("several operators between levels")
                return rule
        return Rule.PAIRS if len(self.sources) > 1 else Rule.VALUES

    def _refuse(self, one: Operation) -> Rule:
        raise UndecidedError(f"{one.name} has no exact form")

    @property
    def main(self) -> Operation:
        """The contraction, or the selection."""
        return self.operations[0]

    @cached_property
    def sources(self) -> tuple[Node, ...]:
        """The nodes that give the levels of the operands, each once."""
        return tuple(dict.fromkeys(one.source for one in self.activations))

    @property
    def is_dynamic(self) -> bool:
        """Whether the program works a grid of it out itself."""
        return any(one.grid.is_runtime for one in self.activations)

    def bounds(self, source: Node) -> tuple[int, int]:
        """Return the least and the largest level of an operand."""
        grid = next(one.grid for one in self.activations if one.source is source)
        return grid.low, grid.high

    def point(self, one: Dequantize) -> int:
        """Return the zero point of an operand.

        Raises:
            UndecidedError: it has none that is one level, known ahead.

        """
        if one.grid.one is None:
            raise UndecidedError("an operand's grid is not one scale and a zero point that is a level, known ahead")
        return one.grid.one[1]

    @cached_property
    def output(self) -> tuple[Fraction, int]:
        """Scale and zero point of the result.

        Raises:
            UndecidedError: it has not one of each, known ahead.

        """
        if self.grid is None or self.grid.one is None:
            raise UndecidedError("its own grid is not one scale and a zero point that is a level, known ahead")
        return Fraction(self.grid.one[0]), self.grid.one[1]

    def real(
        self,
        levels: Mapping[Node, torch.Tensor],
        constants: Mapping[Node, Real] | None = None,
        passed: Sequence[Node] = (),
    ) -> Real:
        """Return the real numbers that are asked for before they are rounded.

        Args:
            levels: of the operands, by source.
            constants: given in place of dequantize nodes of constants.
            passed: the nodes that leave what they take where it is.

        """
        given: dict[Node, Any] = dict(constants or {})
        for one in self.activations:
            assert isinstance(one.source, Node)  # noqa: S101 - a constant's is none of them
            point = self.point(one)
            scale = Fraction(one.grid.one[0]) if one.grid.one else Fraction(1)
            given[one.node] = Real.of_integers(levels[one.source].to(torch.int64) - point, scale)
        try:
            with torch.no_grad():
                found = work_out(self.reading, self.end, given, passed)
        except NoExactFormError as error:
            raise UndecidedError(f"no exact form: {error}") from None
        if not isinstance(found, Real):
            raise UndecidedError("what is asked for is no tensor")
        return found

    def level_of(self, one: Dequantize) -> torch.Tensor:
        """Return the levels of a constant, less its zero point.

        Raises:
            UndecidedError: it has scales of its own along an axis, or is worked out.

        """
        item = self.reading.items[one.source]
        if not isinstance(item, Constant):
            raise UndecidedError("a constant is worked out in several steps")
        found: torch.Tensor = item.tensor.to(torch.int64) - self.point(one)
        return found

    def rounded(self, real: Real, rounding: Rounding) -> torch.Tensor:
        """Return the levels of real numbers, int64."""
        scale, point = self.output
        assert self.grid is not None  # noqa: S101 - output refuses
        return to_levels(real, scale, point, (self.grid.low, self.grid.high), rounding)

    def steps(self, real: Real) -> torch.Tensor:
        """Return real numbers in levels, flat, float64, held to the grid: beyond its ends a range is not left."""
        scale, point = self.output
        assert self.grid is not None  # noqa: S101 - output refuses
        return (real.times(1 / scale).floats().reshape(-1) + point).clamp(self.grid.low, self.grid.high)

    def due(self, levels: Mapping[Node, torch.Tensor], rounding: Rounding) -> torch.Tensor:
        """Return the levels that are due for the operands' levels, int64."""
        return self.rounded(self.real(levels), rounding)

    def range(self, rounding: Rounding) -> tuple[int, int]:
        """Return the least and the largest level that the result can have: an activation may clamp it."""
        ends = Real.of_integers(torch.tensor([-1, 1]), _FAR)
        low, high = self.rounded(self.after(ends), rounding).tolist()
        return low, high

    def after(self, real: Real) -> Real:
        """Return what activations make of the operator's result; it may have any shape.

        Raises:
            UndecidedError: one has no exact form.

        """
        try:
            with torch.no_grad():
                found = work_out(self.reading, self.end, {self.main.node: real}, self.moves)
        except NoExactFormError as error:
            raise UndecidedError(f"no exact form: {error}") from None
        assert isinstance(found, Real)  # noqa: S101 - it is worked out from one
        return found

    def picked(self, levels: torch.Tensor) -> torch.Tensor:
        """Return which level of the one operand a selection picks."""
        given = {self.activations[0].node: levels.to(torch.int64)}
        found: torch.Tensor = work_out(self.reading, self.end, given, self.clamps)
        return found

    @cached_property
    def moves(self) -> tuple[Node, ...]:
        """The nodes that leave numbers as they are, and at most put them elsewhere."""
        items = (self.reading.items[node] for node in self.between)
        return tuple(item.node for item in items if isinstance(item, Operation) and is_move(item))

    @property
    def has_options(self) -> bool:
        """Whether an operator that works element by element is given a number beside its operands."""
        both = [one for one in self.operations if one.kind is Kind.ELEMENTWISE]
        return any(not isinstance(value, Node) for one in both for value in one.arguments.values())

    def is_join(self, node: Node) -> bool:
        """Tell whether a node puts tensors one after the other."""
        item = self.reading.items[node]
        return isinstance(item, Operation) and item.kind is Kind.JOIN

    def placed(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a tensor of the operator's result as it lies where it is quantized, activations left out."""
        found: torch.Tensor = work_out(self.reading, self.end, {self.main.node: tensor}, self.clamps)
        return found

    @cached_property
    def clamps(self) -> tuple[Node, ...]:
        """The activations that follow the contraction."""
        return tuple(one.node for one in self.operations[1:])


@dataclass(frozen=True)
class Accumulators:
    """A contraction as sums of whole numbers: what is asked of it is ``unit * sum + offset``, rounded.

    Attributes:
        asked: the operator.
        weights: whole numbers in place of each constant, float64.
        units: what one stands for, for each channel.
        offsets: what is added, as many.
        divisor: by how much operands are multiplied, so that what a mean is asked for is whole.
        shapes: of the operands, by source.

    """

    asked: Specification
    weights: Mapping[Node, torch.Tensor]
    units: tuple[Fraction, ...]
    offsets: tuple[Fraction, ...]
    divisor: int
    shapes: Mapping[Node, Sequence[int]]

    @classmethod
    def of(cls, asked: Specification, shapes: Mapping[Node, Sequence[int]]) -> Accumulators:
        """Take scales out of a contraction of operands of these shapes, by source.

        Raises:
            UndecidedError: they cannot be.

        """
        unit = Fraction(1)
        for one in asked.activations:
            if not asked.is_dynamic:
                asked.point(one)
                unit *= Fraction(one.grid.one[0]) if one.grid.one else 1
        weights: dict[Node, torch.Tensor] = {}
        scales: list[Fraction] = [Fraction(1)]
        for one in asked.constants:
            item = asked.reading.items[one.source]
            if not isinstance(item, Constant):
                raise UndecidedError("a constant is worked out in several steps")
            if one.node is asked.main.arguments.get("bias"):
                continue
            weights[one.node], own = _whole(item.tensor, one.grid, _CHANNEL_AXIS.get(asked.main.name, 0))
            if len(scales) > 1 and len(own) > 1:
                raise UndecidedError("two constants with scales of their own")
            scales = [a * b for a in scales for b in own]
        offsets = _offsets(asked, weights)
        count = max(len(scales), len(offsets))
        units = tuple(unit * scale for scale in (scales * count if len(scales) == 1 else scales))
        if asked.main.kind is Kind.POOLING:
            divisor = _divisor(asked, shapes[asked.sources[0]])
            return cls(asked, weights, tuple(one / divisor for one in units), (Fraction(0),), divisor, shapes)
        return cls(asked, weights, units, tuple(offsets * count if len(offsets) == 1 else offsets), 1, shapes)

    def sums(
        self, values: Mapping[Node, torch.Tensor], weights: Mapping[Node, torch.Tensor] | None = None
    ) -> torch.Tensor:
        """Return the sums of levels less their zero points, float64, by source; exact as long as they are below 2^52.

        A mean is asked for of so many times as much that it is whole.
        """
        given: dict[Node, Any] = {one.node: values[one.source] * self.divisor for one in self.asked.activations}
        given |= self.weights if weights is None else weights
        found: torch.Tensor = work_out(self.asked.reading, self.asked.end, given, self.asked.clamps)
        return found

    @cached_property
    def result(self) -> torch.Tensor:
        """A tensor of the shape of the contraction's result."""
        given = {one.node: self.shaped(one.source, 0, self.shapes[one.source]) for one in self.asked.activations}
        found: torch.Tensor = work_out(self.asked.reading, self.asked.main.node, given | dict(self.weights))
        return found

    def shaped(self, source: Node, value: float, shape: Sequence[int]) -> torch.Tensor:
        """Return an operand that is one number throughout."""
        return torch.full(tuple(shape), float(value), dtype=torch.float64)

    def extremes(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the least and the largest sum of each element, over all levels of its operands.

        Of a product of two activations it is a bound.
        """
        lows, highs = {}, {}
        for one in self.asked.activations:
            source: Any = one.source
            low, high = self.asked.bounds(source)
            point = 0 if one.grid.is_runtime else self.asked.point(one)
            if one.grid.is_runtime:  # the zero point is any level
                low, high = low - high, high - low
            lows[source] = self.shaped(source, low - point, self.shapes[source])
            highs[source] = self.shaped(source, high - point, self.shapes[source])
        if len(self.asked.activations) > 1:
            most = {source: torch.maximum(lows[source].abs(), highs[source].abs()) for source in lows}
            top = self.sums(most, {node: one.abs() for node, one in self.weights.items()})
            return -top, top
        above = {node: one.clamp(min=0) for node, one in self.weights.items()}
        below = {node: one.clamp(max=0) for node, one in self.weights.items()}
        if not self.weights or all(not bool(one.any()) for one in below.values()):
            return self.sums(lows), self.sums(highs)
        return (
            self.sums(lows, above) + self.sums(highs, below),
            self.sums(highs, above) + self.sums(lows, below),
        )

    @cached_property
    def channels(self) -> torch.Tensor:
        """The number of each element's channel, flat."""
        count, result = len(self.units), self.result
        if count == 1:
            return torch.zeros(result.numel(), dtype=torch.int64)
        axis = -1 if self.asked.main.name in ("linear", "addmm", "mm") else 1
        shape = [1] * result.dim()
        shape[axis] = count
        numbers = torch.arange(count, dtype=torch.float64).reshape(shape).expand(result.shape)
        return self.asked.placed(numbers).reshape(-1).to(torch.int64)


def _whole(levels: torch.Tensor, grid: Grid, channels: int = 0) -> tuple[torch.Tensor, list[Fraction]]:
    """Return whole numbers, float64, and what one of them stands for, once or for each channel of an axis."""
    if grid.is_runtime or not grid.is_whole or isinstance(grid.scales, Node):
        raise UndecidedError("a constant's grid is not known ahead")
    scales = [Fraction(scale) for scale in grid.scales]
    points = torch.tensor([*grid.zero_points], dtype=torch.float64)
    wide = levels.to(torch.float64)
    if grid.blocks is not None:
        unit = common_unit(scales)
        shape = [length // size for length, size in zip(levels.shape, grid.blocks, strict=True)]
        factors = torch.tensor([float(scale / unit) for scale in scales], dtype=torch.float64)
        spread = []
        for numbers in (points, factors):
            numbers = numbers.reshape(shape)
            for dimension, size in enumerate(grid.blocks):
                numbers = numbers.repeat_interleave(size, dimension)
            spread.append(numbers)
        whole = (wide - spread[0]) * spread[1]
        if float(whole.abs().max()) >= EXACT:
            raise UndecidedError("scales of groups too far apart for a common unit")
        return whole, [unit]
    if grid.axis is None:
        return wide - points, scales
    if grid.axis != channels:
        raise UndecidedError("a constant has scales along another axis than its channels")
    shape = [-1 if axis == channels else 1 for axis in range(levels.dim())]
    return wide - points.reshape(shape), scales


def _offsets(asked: Specification, weights: dict[Node, torch.Tensor]) -> list[Fraction]:
    """Return the bias of each channel, and put zeros in its place.

    Raises:
        UndecidedError: another constant is in float.

    """
    offsets = [Fraction(0)]
    waiting = [asked.main.node]
    while waiting:
        node = waiting.pop()
        item = asked.reading.items[node]
        if isinstance(item, Dequantize):
            if node is asked.main.arguments.get("bias"):
                offsets, weights[node] = _quantized_bias(asked, item)
            continue
        if isinstance(item, Constant):
            if item.node is not asked.main.arguments.get("bias") or not isinstance(item.tensor, torch.Tensor):
                raise UndecidedError("a constant in float is an operand")
            offsets = [Fraction(value) for value in item.tensor.detach().to(torch.float64).tolist()]
            weights[node] = torch.zeros(item.tensor.shape, dtype=torch.float64)
        waiting += node.all_input_nodes
    return offsets


def _quantized_bias(asked: Specification, bias: Dequantize) -> tuple[list[Fraction], torch.Tensor]:
    """Return the bias of each channel where that is quantized, and zeros to put in its place."""
    item = asked.reading.items[bias.source]
    if not isinstance(item, Constant):
        raise UndecidedError("a bias is worked out in several steps")
    whole, scales = _whole(item.tensor, bias.grid)
    own = scales * len(whole) if len(scales) == 1 else scales
    found = [int(level) * scale for level, scale in zip(whole.tolist(), own, strict=True)]
    return found, torch.zeros(item.tensor.shape, dtype=torch.float64)


def _divisor(asked: Specification, shape: Sequence[int]) -> int:
    """Return a number that a pooling divides sums of its multiples by without a rest: of all sizes of its windows."""
    (one,) = asked.activations
    found = 1
    for _ in range(4):  # of a few sums, some may happen to be even
        drawn = Real.of_integers(torch.randint(0, 2**20, tuple(shape)), Fraction(1))
        try:
            pooled = work_out(asked.reading, asked.main.node, {one.node: drawn})
        except NoExactFormError as error:
            raise UndecidedError(f"no exact form: {error}") from None
        if len(pooled.terms) != 1 or found > _LARGEST_DIVISOR:
            raise UndecidedError("windows of sizes too far apart")
        found = math.lcm(found, pooled.terms[0].unit.denominator)
    return found


def _is_activation(one: Operation) -> bool:
    return one.kind in (Kind.ACTIVATION, Kind.NEUTRAL)


def is_move(one: Operation) -> bool:
    """Tell whether an operation leaves numbers as they are, and at most puts them elsewhere."""
    return one.row is not None and (one.row.moves or one.row.leaves)
