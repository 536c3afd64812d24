"""A representation that computes in integers and is exact: what right looks like.

A dequantized tensor is kept as integers and the real number that one of them stands for, its unit. Operators work
on the integers in int64: a linear or a convolution, a sum of operands brought to a common unit, a product, a pooling.
To quantize again is then to compare with boundaries: a level begins at the least integer whose real value rounds to
it. The boundaries are worked out as rationals when the program is made, with bias, zero point, activation and clamp
in them, and so nothing is rounded twice, whatever the scales. A program of this kind gives the levels of
real-number arithmetic, bit by bit.

What has no integer form is left in float: a softmax, and what is never quantized again (the output of a dynamic
linear, whose products are integers all the same).
"""

from __future__ import annotations

import contextlib
import inspect
import math
from dataclasses import dataclass, replace
from fractions import Fraction
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Graph, GraphModule, Node
from torch.utils._pytree import tree_map

from pt2e_ci.exact.arithmetic import window_sizes, windows
from pt2e_ci.exact.reals import common_unit
from pt2e_ci.operators import Kind, kind_of, name_of, named_arguments

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

aten = torch.ops.aten
_LIMIT = 2**62
_OPERATORS = frozenset(
    "linear conv2d matmul add mul relu hardtanh max_pool2d avg_pool2d adaptive_avg_pool2d mean cat".split()
)
_BETWEEN = ("quantize_per_tensor", "dequantize_per_tensor", "dequantize_per_channel")
_MOVES = frozenset("view reshape flatten permute transpose contiguous clone squeeze unsqueeze slice select".split())


@dataclass(frozen=True)
class Integers:
    """Integers of the new program, and what they stand for: ``unit * node + offset``, clamped.

    Attributes:
        node: gives int64.
        units: one for all, or one for each index of `axis`; positive.
        largest: a bound of the integers' magnitude.
        axis: the axis that the units and offsets belong to, counted from the end.
        offsets: what is added; as many as there are units.
        low, high: real numbers that the sum is clamped to.
        runtime: a scale that the units are still to be multiplied by, where the program works it out itself.

    """

    node: Node
    units: tuple[Fraction, ...]
    largest: int
    axis: int | None = None
    offsets: tuple[Fraction, ...] = (Fraction(0),)
    low: Fraction | None = None
    high: Fraction | None = None
    runtime: Node | None = None

    def __post_init__(self) -> None:
        """Refuse integers that int64 may not hold."""
        if self.largest >= _LIMIT:
            raise NoIntegerFormError

    @property
    def is_plain(self) -> bool:
        """Whether it is one unit times the integers, and nothing else."""
        return self.axis is None and not any(self.offsets) and self.low is self.high is None and self.runtime is None


@dataclass(frozen=True)
class Weight:
    """A quantized constant: levels, and the scales and zero points of one axis, or one of each."""

    levels: torch.Tensor
    scales: tuple[Fraction, ...]
    zero_points: tuple[int, ...]
    axis: int | None = None


@dataclass(frozen=True)
class GroupedWeight:
    """A quantized constant of two dimensions, with a scale and a zero point (or none) for each group of a row."""

    levels: torch.Tensor
    size: int
    scales: torch.Tensor
    zero_points: torch.Tensor | None


class NoIntegerFormError(Exception):
    """These operands cannot be computed on as int64, or this operator never."""


class IntegerRepresentation:
    """Turns a Q/DQ program into an integer program. Each step is a method, so that a fault can be put into it."""

    def __call__(self, qdq: GraphModule) -> GraphModule:
        """Return the integer program; the Q/DQ program is left as it is."""
        self._source = qdq
        self._graph = Graph()
        self._root = torch.nn.Module()
        self._values: dict[Node, Any] = {}
        self._constants = 0
        for node in qdq.graph.nodes:
            self._values[node] = self._translate(node)
        self._graph.eliminate_dead_code()
        # Called as the Q/DQ program is: with dicts, lists and keywords where it takes and gives them.
        self._graph.set_codegen(qdq.graph._codegen)
        program = GraphModule(self._root, self._graph)
        for name in ("_in_spec", "_out_spec"):
            if name in vars(qdq):
                setattr(program, name, vars(qdq)[name])
        return program

    # What becomes of each node.

    def _translate(self, node: Node) -> Any:
        if node.op == "placeholder":
            return self._graph.placeholder(node.name)
        if node.op == "get_attr":
            return attrgetter(str(node.target))(self._source)
        if node.op == "output":
            return self._graph.output(tree_map(self._in_float, _resolve(node.args[0], self._values)))
        if node.op == "call_module":
            return None  # it checks guards, and gives nothing
        kind, name = kind_of(node.target), name_of(node.target)
        with contextlib.suppress(NoIntegerFormError):
            if kind is Kind.QDQ and name in _BETWEEN:
                arguments = _resolve(named_arguments(node), self._values)
                return self.quantize(**arguments) if name.startswith("quantize") else self.dequantize(**arguments)
            if kind is Kind.QDQ and name in ("quantize_affine", "dequantize_affine"):
                arguments = _resolve(named_arguments(node), self._values)
                return getattr(self, name)(self._shape_of(node.all_input_nodes[0]), **arguments)
            if name in _OPERATORS and self.is_rewritten(node):
                self.shape, self.other_shape = (self._shape_of(node.all_input_nodes[index]) for index in (0, -1))
                arguments = {"input" if key == "self" else key: value for key, value in named_arguments(node).items()}
                return _call(getattr(self, name), _resolve(arguments, self._values))
        if name in _MOVES and isinstance(self._values.get(node.all_input_nodes[0]), Integers):
            source = self._values[node.all_input_nodes[0]]
            if source.axis is None:
                rest = _resolve((node.args[1:], node.kwargs), self._values)
                return replace(source, node=self.call(node.target, source.node, *rest[0], **rest[1]))
        args, kwargs = tree_map(self._in_float, _resolve((node.args, node.kwargs), self._values))
        return self.call(node.target, *args, **kwargs)

    def is_rewritten(self, node: Node) -> bool:
        """Tell whether an operator is to become integer."""
        return True

    # Between floats and integers.

    def quantize(self, input: Any, **grid: Any) -> Any:
        """Take a tensor to levels: floats by rounding, integers by boundaries."""
        if not _is_whole(grid["zero_point"]):
            raise NoIntegerFormError
        scale = grid["scale"]
        rest = {
            "zero_point": grid["zero_point"],
            "low": grid["quant_min"],
            "high": grid["quant_max"],
            "dtype": grid["dtype"],
        }
        if isinstance(input, Integers) and input.runtime is None and not isinstance(scale, Node):
            return self.requantize(input, Fraction(float(scale)), **rest)
        return self.quantize_floats(self._in_float(input), scale, **rest)

    def quantize_floats(self, x: Any, scale: Any, *, zero_point: Any, low: int, high: int, dtype: torch.dtype) -> Node:
        """Divide, round, add the zero point, clamp, and only then cast.

        In float64 the quotient of two float32 values is never so near to a tie that its rounding could hide it.
        """
        scale = self.call(aten.to.dtype, scale, torch.float64) if isinstance(scale, Node) else float(scale)
        steps = self.call(aten.div.Tensor, self.call(aten.to.dtype, x, torch.float64), scale)
        levels = self.call(aten.add.Tensor, self.rounded(steps), zero_point)
        return self.call(aten.to.dtype, self.call(aten.clamp.default, levels, low, high), dtype)

    def rounded(self, steps: Node) -> Node:
        """Round to the nearest, ties to even."""
        return self.call(aten.round.default, steps)

    def dequantize(self, input: Any, **grid: Any) -> Any:
        """Keep levels as integers, with what one of them stands for."""
        if not _is_whole(grid.get("zero_point", grid.get("zero_points"))):
            raise NoIntegerFormError
        if isinstance(input, torch.Tensor):
            return self.weight(_weight(input, **grid))
        scale, zero_point = grid["scale"], grid["zero_point"]
        if isinstance(scale, Node):
            zero_point = self.call(aten.to.dtype, zero_point, torch.int64)
            return replace(self.operand(input, Fraction(1), zero_point), runtime=scale)
        return self.operand(input, Fraction(float(scale)), int(zero_point))

    def quantize_affine(self, shape: torch.Size, **grid: Any) -> Node:
        """Quantize floats, a scale for each token."""
        scale, zero_point = (self._of_tokens(shape, grid[name]) for name in ("scale", "zero_point"))
        bounds = {"low": grid["quant_min"], "high": grid["quant_max"], "dtype": grid["output_dtype"]}
        return self.quantize_floats(self._in_float(grid["input"]), scale, zero_point=zero_point, **bounds)

    def dequantize_affine(self, shape: torch.Size, **grid: Any) -> Integers | GroupedWeight:
        """Keep levels as integers, activations with the scale of their token, weights with that of their group."""
        if not _is_whole(grid["zero_point"]):
            raise NoIntegerFormError
        if isinstance(grid["input"], torch.Tensor):
            return GroupedWeight(grid["input"], grid["block_size"][-1], grid["scale"], grid["zero_point"])
        scale, zero_point = (self._of_tokens(shape, grid[name]) for name in ("scale", "zero_point"))
        wide = self.call(aten.to.dtype, zero_point, torch.int64)
        return replace(self.operand(grid["input"], Fraction(1), wide), runtime=scale)

    def _of_tokens(self, shape: torch.Size, parameter: Node) -> Node:
        return self.call(aten.reshape.default, parameter, [*shape[:-1], 1])

    def weight(self, weight: Weight) -> Weight:
        """Take a quantized constant as it is."""
        return weight

    def operand(self, levels: Node, scale: Fraction, zero_point: Any) -> Integers:
        """Subtract the zero point from levels."""
        wide = self.call(aten.to.dtype, levels, torch.int64)
        return Integers(self.call(aten.sub.Tensor, wide, zero_point), (scale,), 2**9)

    def requantize(
        self, value: Integers, scale: Fraction, *, zero_point: int, low: int, high: int, dtype: torch.dtype
    ) -> Node:
        """Return the levels of integers, by comparing them with where each level begins."""
        first, last = self.level_range(value, scale, zero_point, low, high)
        turns = [self.turn(level - zero_point) for level in range(first + 1, last + 1)]
        begins = [
            beginnings(turns, scale, unit, offset) for unit, offset in zip(value.units, value.offsets, strict=True)
        ]
        boundaries = self.constant(torch.tensor(begins, dtype=torch.int64))
        if value.axis is None:
            flat = self.call(aten.reshape.default, boundaries, [-1])
            counts = self.call(aten.bucketize.Tensor, value.node, flat, right=True)
        else:
            moved = self.call(aten.movedim.int, value.node, value.axis, 0)
            rows = self.call(aten.contiguous.default, self.call(aten.flatten.using_ints, moved, 1))
            counts = self.call(aten.searchsorted.Tensor, boundaries, rows, right=True)
            counts = self.call(aten.movedim.int, self.call(aten.view_as.default, counts, moved), 0, value.axis)
        return self.call(aten.to.dtype, self.call(aten.add.Tensor, counts, first), dtype)

    def level_range(self, value: Integers, scale: Fraction, zero_point: int, low: int, high: int) -> tuple[int, int]:
        """Return the least and the largest level: those of the grid, or of an activation's bounds."""
        if value.low is not None:
            low = max(low, min(high, round(value.low / scale) + zero_point))
        if value.high is not None:
            high = min(high, max(low, round(value.high / scale) + zero_point))
        return low, high

    def turn(self, steps: int) -> tuple[int, bool]:
        """Return where the rounding turns to `steps` of the grid, in half steps, and whether that point is theirs.

        It is half a step before; the point is a tie, which goes to even.
        """
        return 2 * steps - 1, steps % 2 == 0

    # Operators, by the names and arguments of aten.

    def linear(self, input: Integers, weight: Weight | GroupedWeight, bias: torch.Tensor | None = None) -> Integers:
        """Multiply by a quantized weight, and add the bias to what the sums stand for."""
        if isinstance(weight, GroupedWeight):
            return self._contract_groups(input, weight, bias)
        return self._contract(input, weight, bias, aten.linear.default, axis=-1)

    def conv2d(self, input: Integers, weight: Weight, bias: torch.Tensor | None = None, **options: Any) -> Integers:
        """Convolve with a quantized weight. The zero point is subtracted already, so padding with 0 is right."""
        padding = options.get("padding", (0, 0))
        by_name = isinstance(padding, str)
        target = aten.conv2d.padding if by_name else aten.conv2d.default
        stride, dilation = ([*options.get(name, (1, 1))] for name in ("stride", "dilation"))
        rest = (stride, padding if by_name else [*padding], dilation, options.get("groups", 1))
        return self._contract(input, weight, bias, target, None, *rest, axis=-3)

    def _contract(
        self, x: Integers, weight: Weight, bias: torch.Tensor | None, target: Any, *rest: Any, axis: int
    ) -> Integers:
        if not isinstance(weight, Weight) or not isinstance(x, Integers) or not replace(x, runtime=None).is_plain:
            raise NoIntegerFormError
        levels = self.weight_levels(weight)
        count = math.prod(weight.levels.shape[1:])
        largest = x.largest * int(levels.abs().max()) * count
        channels = weight.levels.shape[0]
        scales = weight.scales * channels if len(weight.scales) == 1 else weight.scales
        offsets = (Fraction(0),) * channels if bias is None else self.bias(bias, x, scales)
        node = self.accumulator(self.call(target, x.node, self.constant(levels), *rest))
        units = tuple(self.product_unit(x.units[0], scale) for scale in scales)
        return Integers(node, units, largest, axis, offsets, runtime=x.runtime)

    def _contract_groups(self, x: Integers, weight: GroupedWeight, bias: torch.Tensor | None) -> Integers:
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
        tokens = self.call(aten.reshape.default, x.node, [-1, groups, weight.size])
        by_group = levels.reshape(rows, groups, weight.size).permute(1, 2, 0).contiguous()
        sums = self.accumulator(self.call(aten.matmul.default, self.call(aten.transpose.int, tokens, 0, 1), by_group))
        in_unit = self.call(aten.mul.Tensor, sums, torch.tensor(factors).reshape(rows, groups, 1).permute(1, 2, 0))
        total = self.call(aten.sum.dim_IntList, in_unit, [0])
        node = self.call(aten.reshape.default, total, [*self.shape[:-1], rows])
        units = (self.product_unit(x.units[0], unit),) * rows
        offsets = (Fraction(0),) * rows if bias is None else self.bias(bias, x, units)
        return Integers(node, units, largest, -1, offsets, runtime=x.runtime)

    def weight_levels(self, weight: Weight) -> torch.Tensor:
        """Subtract the zero points from a weight's levels."""
        shape = [1] * weight.levels.dim()
        if weight.axis is not None:
            shape[weight.axis] = -1
        return weight.levels.to(torch.int64) - torch.tensor(weight.zero_points).reshape(shape)

    def bias(self, bias: torch.Tensor, x: Integers, scales: Sequence[Fraction]) -> tuple[Fraction, ...]:
        """Return the bias as the real numbers that its floats are."""
        return tuple(Fraction(value) for value in bias.detach().to(torch.float64).tolist())

    def accumulator(self, node: Node) -> Node:
        """Keep sums of products in int64."""
        return node

    def product_unit(self, a: Fraction, b: Fraction) -> Fraction:
        """Return what a product of one and one stands for."""
        return a * b

    def matmul(self, input: Integers, other: Integers) -> Integers:
        """Multiply two matrices."""
        self._need_plain(input, other)
        largest = input.largest * other.largest * self.shape[-1]
        node = self.call(aten.matmul.default, input.node, other.node)
        return Integers(node, (self.product_unit(input.units[0], other.units[0]),), largest)

    def add(self, input: Integers, other: Integers) -> Integers:
        """Bring both operands to a common unit, and add."""
        self._need_plain(input, other)
        unit = common_unit((input.units[0], other.units[0]))
        a, b = self.in_units(input, unit), self.in_units(other, unit)
        return Integers(self.call(aten.add.Tensor, a.node, b.node), (unit,), a.largest + b.largest)

    def in_units(self, value: Integers, unit: Fraction) -> Integers:
        """Express integers in a unit that theirs is a whole multiple of."""
        factor = int(value.units[0] / unit)
        if value.largest * factor >= _LIMIT // 2:
            raise NoIntegerFormError
        node = self.call(aten.mul.Tensor, value.node, factor) if factor != 1 else value.node
        return Integers(node, (unit,), value.largest * factor)

    def mul(self, input: Integers, other: Integers | float) -> Integers:
        """Multiply element by element, or by a number above 0."""
        if isinstance(other, int | float) and other > 0:
            self._need_plain(input)
            return replace(input, units=(input.units[0] * Fraction(other),))
        if not isinstance(other, Integers):
            raise NoIntegerFormError
        self._need_plain(input, other)
        node = self.call(aten.mul.Tensor, input.node, other.node)
        return Integers(node, (self.product_unit(input.units[0], other.units[0]),), input.largest * other.largest)

    def relu(self, input: Integers) -> Integers:
        """Clamp below at the real number 0."""
        return self.hardtanh(input, 0, math.inf)

    def hardtanh(self, input: Integers, min_val: float = -1, max_val: float = 1) -> Integers:
        """Clamp to real numbers, when the result is quantized."""
        if not isinstance(input, Integers) or not (input.low is input.high is input.runtime is None):
            raise NoIntegerFormError
        high = None if max_val == math.inf else Fraction(max_val)
        return replace(input, low=Fraction(min_val), high=high)

    def max_pool2d(
        self,
        input: Integers,
        kernel_size: Any,
        stride: Any = (),
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: Any = False,
    ) -> Integers:
        """Take the largest integer of each window; a unit is positive, so that is the largest number."""
        self._need_plain(input)
        return replace(
            input,
            node=self.call(aten.max_pool2d.default, input.node, kernel_size, stride, padding, dilation, ceil_mode),
        )

    def avg_pool2d(
        self,
        input: Integers,
        kernel_size: Any,
        stride: Any = (),
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Integers:
        """Add up each window; padding adds 0, for the zero point is subtracted already."""
        self._need_plain(input)
        node = self.call(aten.avg_pool2d.default, input.node, kernel_size, stride, padding, ceil_mode, True, 1)
        options = (kernel_size, stride or None, padding, ceil_mode, count_include_pad, divisor_override)
        area = math.prod([*kernel_size] * (2 // len(kernel_size)))
        sums = Integers(node, input.units, input.largest * area)
        return self._means(sums, window_sizes(self.shape[-2:], *options))

    def adaptive_avg_pool2d(self, input: Integers, output_size: Sequence[int]) -> Integers:
        """Add up each window, windows of several sizes brought to one."""
        self._need_plain(input)
        height, width = self.shape[-2:]
        rows, columns = (windows(length, size) for length, size in zip((height, width), output_size, strict=True))
        counts = rows.sum(1, keepdim=True) * columns.sum(1)
        sums = self.call(aten.matmul.default, self.constant(rows), input.node)
        sums = self.call(aten.matmul.default, sums, self.constant(columns.T.contiguous()))
        return self._means(Integers(sums, input.units, input.largest * int(counts.max())), counts)

    def _means(self, sums: Integers, counts: torch.Tensor) -> Integers:
        """Divide sums by whole numbers that broadcast against them: sums of fewer are multiplied, and a unit divided.

        `sums` has one unit.
        """
        least = math.lcm(*set(counts.flatten().tolist()))
        factors = least // counts
        same = bool((factors == 1).all())
        node = sums.node if same else self.call(aten.mul.Tensor, sums.node, self.constant(factors))
        return Integers(node, (sums.units[0] / self.window_size(least),), sums.largest * int(factors.max()))

    def mean(self, input: Integers, dim: Sequence[int] | None = None, keepdim: bool = False) -> Integers:
        """Add up over dimensions, or all; that a sum is a mean is in the unit."""
        self._need_plain(input)
        dimensions = [*dim] if dim else [*range(len(self.shape))]
        count = math.prod(self.shape[dimension] for dimension in dimensions)
        node = self.call(aten.sum.dim_IntList, input.node, dimensions, keepdim)
        return Integers(node, (input.units[0] / self.window_size(count),), input.largest * count)

    def window_size(self, count: int) -> int:
        """Return how many numbers a mean is of."""
        return count

    def cat(self, tensors: Sequence[Integers], dim: int = 0) -> Integers:
        """Bring all operands to a common unit, and put them one after the other."""
        self._need_plain(*tensors)
        unit = common_unit([value.units[0] for value in tensors])
        parts = [self.in_units(value, unit) for value in tensors]
        node = self.call(aten.cat.default, [part.node for part in parts], dim)
        return Integers(node, (unit,), max(part.largest for part in parts))

    # What is known of nodes, and making them.

    def _shape_of(self, node: Node) -> torch.Size:
        """Return the shape that the exporter noted; quantize and dequantize nodes have that of what they take."""
        while "val" not in node.meta:
            if node.op == "get_attr":
                return attrgetter(str(node.target))(self._source).shape
            node = node.all_input_nodes[0]
        shape: torch.Size = node.meta["val"].shape
        return shape

    def _need_plain(self, *values: Any) -> None:
        if not all(isinstance(value, Integers) and value.is_plain for value in values):
            raise NoIntegerFormError

    def call(self, target: Any, *args: Any, **kwargs: Any) -> Node:
        """Add a node to the new program."""
        args, kwargs = tree_map(self._as_argument, (args, kwargs))
        return self._graph.call_function(target, args, kwargs)

    def _as_argument(self, value: Any) -> Any:
        return self.constant(value) if isinstance(value, torch.Tensor) else value

    def constant(self, tensor: torch.Tensor) -> Node:
        """Keep a tensor in the new program."""
        name = f"constant_{self._constants}"
        self._constants += 1
        self._root.register_buffer(name, tensor.detach())
        return self._graph.get_attr(name)

    def _in_float(self, value: Any) -> Any:
        """Return a value as the Q/DQ program has it: integers as the floats that they stand for."""
        if isinstance(value, GroupedWeight):
            raise NotImplementedError("a groupwise weight without an integer linear")
        if isinstance(value, Weight):
            shape = [1] * value.levels.dim()
            if value.axis is not None:
                shape[value.axis] = -1
            scales = torch.tensor([float(scale) for scale in value.scales], dtype=torch.float64).reshape(shape)
            return self.constant((self.weight_levels(value) * scales).to(torch.float32))
        if not isinstance(value, Integers):
            return value
        wide = self.call(aten.to.dtype, value.node, torch.float64)
        units, offsets = (
            self._spread([float(number) for number in numbers], value.axis) for numbers in (value.units, value.offsets)
        )
        if value.runtime is not None:
            wide = self.call(aten.mul.Tensor, wide, self.call(aten.to.dtype, value.runtime, torch.float64))
        result = self.call(aten.mul.Tensor, wide, units)
        if any(value.offsets):
            result = self.call(aten.add.Tensor, result, offsets)
        if value.low is not None or value.high is not None:
            low, high = (None if bound is None else float(bound) for bound in (value.low, value.high))
            result = self.call(aten.clamp.default, result, low, high)
        return self.call(aten.to.dtype, result, torch.float32)

    def _spread(self, numbers: Sequence[float], axis: int | None) -> Any:
        if axis is None:
            return numbers[0]
        return self.constant(torch.tensor(numbers, dtype=torch.float64).reshape([-1] + [1] * (-axis - 1)))


def beginnings(turns: Sequence[tuple[int, bool]], scale: Fraction, unit: Fraction, offset: Fraction) -> list[int]:
    """Return the least integer of each level: the first whose real value, ``unit * integer + offset``, is at its turn.

    `turns` is where each level begins, in half steps of `scale`, and whether that very point belongs to it.
    """
    steps, shift = scale / unit, offset / unit
    factor, constant = steps.numerator * shift.denominator, 2 * steps.denominator * shift.numerator
    divisor = 2 * steps.denominator * shift.denominator
    found = []
    for half_steps, belongs in turns:
        integer, rest = divmod(half_steps * factor - constant, divisor)
        found.append(max(-_LIMIT, min(_LIMIT, integer if belongs and not rest else integer + 1)))
    return found


def _is_whole(zero_point: Any) -> bool:
    """Tell whether zero points are integers, or floats that are: some quantizers choose real ones."""
    if isinstance(zero_point, torch.Tensor):
        return bool((zero_point == zero_point.round()).all())
    return not isinstance(zero_point, float) or zero_point.is_integer()


def _call(operator: Callable[..., Integers], arguments: dict[str, Any]) -> Integers:
    """Call an operator, if it takes these arguments: an overload may have others."""
    try:
        inspect.signature(operator).bind(**arguments)
    except TypeError:
        raise NoIntegerFormError from None
    return operator(**arguments)


def _weight(levels: torch.Tensor, **grid: Any) -> Weight:
    if "axis" not in grid:
        return Weight(levels, (Fraction(float(grid["scale"])),), (int(grid["zero_point"]),))
    scales = tuple(Fraction(scale) for scale in grid["scales"].flatten().tolist())
    return Weight(levels, scales, tuple(int(point) for point in grid["zero_points"].tolist()), grid["axis"])


def _resolve(value: Any, values: dict[Node, Any]) -> Any:
    """Put what has become of each node in its place."""
    return tree_map(lambda leaf: values[leaf] if isinstance(leaf, Node) else leaf, value)


def integer_representation(qdq: GraphModule) -> GraphModule:
    """Return the exact integer program of a Q/DQ program."""
    return IntegerRepresentation()(qdq)
