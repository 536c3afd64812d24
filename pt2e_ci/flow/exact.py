"""A representation that computes in integers and is exact: what right looks like.

A dequantized tensor is kept as integers and the real number that one of them stands for, its unit. Operators work
on the integers in int64: a linear or a convolution, a sum of operands brought to a common unit, a product, a pooling.
To quantize again is then to compare with boundaries: a level begins at the least integer whose real value rounds to
it. The boundaries are worked out as rationals when the program is made, with bias, zero point, activation and clamp
in them, and so nothing is rounded twice, whatever the scales. A program of this kind gives the levels of
real-number arithmetic, bit for bit.

What has no integer form is left in float: a softmax, and what is never quantized again (the output of a dynamic
linear, whose products are integers all the same).
"""

from __future__ import annotations

import contextlib
import inspect
from dataclasses import replace
from fractions import Fraction
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Graph, GraphModule, Node
from torch.utils._pytree import tree_map

from pt2e_ci.exact.levels import beginnings_of
from pt2e_ci.operators.integers import GroupedWeight, Integers, NoIntegerFormError, Weight, lengths
from pt2e_ci.program.segments import Between, Constant, Dequantize, Operation, Quantize, Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pt2e_ci.operators.row import Row
    from pt2e_ci.program.segments import Grid, Item

aten = torch.ops.aten


class IntegerRepresentation:
    """Turns a Q/DQ program into an integer program. Each step is a method, so that a fault can be put into it."""

    def __call__(self, qdq: GraphModule) -> GraphModule:
        """Return the integer program; the Q/DQ program is left as it is."""
        self._graph = Graph()
        self._root = torch.nn.Module()
        self._values: dict[Node, Any] = {}
        self._constants = 0
        reading = Reading(qdq)
        for node, item in reading.items.items():
            value = self._translate(item)
            # What is written in place stays the tensor that it is.
            is_written = node in reading.in_place and isinstance(value, Integers)
            self._values[node] = self._in_float(value, _float_dtype(node)) if is_written else value
        self._graph.eliminate_dead_code()
        # Called as the Q/DQ program is: with dicts, lists and keywords where it takes and gives them.
        self._graph.set_codegen(qdq.graph._codegen)
        program = GraphModule(self._root, self._graph)
        for name in ("_in_spec", "_out_spec"):
            if name in vars(qdq):
                setattr(program, name, vars(qdq)[name])
        return program

    # What becomes of each node.

    def _translate(self, item: Item) -> Any:
        node = item.node
        if node.op == "placeholder":
            return self._graph.placeholder(node.name)
        if isinstance(item, Constant):
            return item.tensor
        if node.op == "output":
            return self._graph.output(tree_map(self._as_argument, self._floats(node.args[0])))
        if node.op == "call_module":
            return None  # it checks guards, and gives nothing
        with contextlib.suppress(NoIntegerFormError):
            if isinstance(item, Quantize):
                return self.quantize(self._resolved(item.source), self._here(item))
            if isinstance(item, Dequantize):
                return self.dequantize(self._resolved(item.source), self._here(item))
            if isinstance(item, Operation) and item.row is not None:
                return self._operate(item, item.row)
        args, kwargs = self._floats((node.args, node.kwargs))
        return self.call(node.target, *args, **kwargs)

    def _operate(self, item: Operation, row: Row) -> Any:
        """Compute an operator on integers.

        Raises:
            NoIntegerFormError: it has no such form, or none on these operands.

        """
        node = item.node
        if row.integer is not None and self.is_rewritten(node):
            self.shapes = [_shape_of(source) for source in node.all_input_nodes]
            arguments = self._resolved(item.arguments)
            if not _takes(row.integer, arguments):
                raise NoIntegerFormError
            return self.operate(row, arguments)
        source = self._values.get(node.all_input_nodes[0]) if row.moves and node.all_input_nodes else None
        if not isinstance(source, Integers) or source.axis is not None:
            raise NoIntegerFormError
        args, kwargs = self._resolved((node.args[1:], node.kwargs))
        return replace(source, node=self.call(node.target, source.node, *args, **kwargs))

    def operate(self, row: Row, arguments: dict[str, Any]) -> Integers:
        """Compute an operator by the form of its row."""
        if row.integer is None:
            raise NoIntegerFormError
        result: Integers = row.integer(self, **arguments)
        return result

    def is_rewritten(self, node: Node) -> bool:
        """Tell whether an operator is to become integer."""
        return True

    def _resolved(self, value: Any) -> Any:
        """Put what has become of each node in its place."""
        return tree_map(lambda leaf: self._values[leaf] if isinstance(leaf, Node) else leaf, value)

    def _floats(self, tree: Any) -> Any:
        """Put what the Q/DQ program has there in the place of each node: floats where integers stand for them."""

        def convert(leaf: Any) -> Any:
            return self._in_float(self._values[leaf], _float_dtype(leaf)) if isinstance(leaf, Node) else leaf

        return tree_map(convert, tree)

    def _here(self, item: Between) -> Grid:
        """Return a grid whose run-time numbers are nodes of the new program."""
        grid = item.grid
        if not grid.is_whole:
            raise NoIntegerFormError
        if not grid.is_runtime:
            return grid
        scales, points = self._resolved((grid.scales, grid.zero_points))
        if grid.blocks is not None:  # a scale for each token
            shape = [*lengths(_shape_of(item.node)[:-1]), 1]
            scales, points = (self.call(aten.reshape.default, one, shape) for one in (scales, points))
        return replace(grid, scales=scales, zero_points=points)

    # Between floats and integers.

    def quantize(self, value: Any, grid: Grid) -> Node:
        """Take a tensor to levels: floats by rounding, integers by boundaries."""
        if isinstance(value, Integers) and value.runtime is None and grid.one:
            return self.requantize(value, grid)
        if not grid.is_runtime and grid.one is None:
            raise NoIntegerFormError
        scale, zero_point = grid.one or (grid.scales, grid.zero_points)
        return self.quantize_floats(self._in_float(value), scale, zero_point, grid)

    def quantize_floats(self, x: Any, scale: Any, zero_point: Any, grid: Grid) -> Node:
        """Divide, round, add the zero point, clamp, and only then cast.

        In float64 the quotient of two float32 values is never so near to a tie that its rounding could hide it.
        """
        scale = self.call(aten.to.dtype, scale, torch.float64) if isinstance(scale, Node) else scale
        steps = self.call(aten.div.Tensor, self.call(aten.to.dtype, x, torch.float64), scale)
        levels = self.call(aten.add.Tensor, self.rounded(steps), zero_point)
        return self.call(aten.to.dtype, self.call(aten.clamp.default, levels, grid.low, grid.high), grid.dtype)

    def rounded(self, steps: Node) -> Node:
        """Round to the nearest, ties to even."""
        return self.call(aten.round.default, steps)

    def dequantize(self, levels: Any, grid: Grid) -> Any:
        """Keep levels as integers, with what one of them stands for."""
        if isinstance(levels, torch.Tensor):
            weight = _weight(levels, grid)
            return self.weight(weight) if isinstance(weight, Weight) else weight
        if grid.one:
            scale, point = grid.one
            ends = (grid.low - point, grid.high - point)
            given = self.operand(levels, Fraction(scale), point)
            return replace(given, ends=ends, largest=max(given.largest, *map(abs, ends)))
        if not isinstance(grid.scales, Node):
            raise NoIntegerFormError
        zero_point = self.call(aten.to.dtype, grid.zero_points, torch.int64)
        return replace(self.operand(levels, Fraction(1), zero_point), runtime=grid.scales)

    def weight(self, weight: Weight) -> Weight:
        """Take a quantized constant as it is."""
        return weight

    def constant_operand(self, weight: Weight) -> Integers:
        """Return a quantized constant of one scale as an operand like any other."""
        given = self.operand(self.constant(weight.levels), weight.scales[0], weight.zero_points[0])
        low, high = (int(one) for one in (weight.levels.to(torch.int64) - weight.zero_points[0]).aminmax())
        return replace(given, ends=(low, high), largest=max(given.largest, abs(low), abs(high)))

    def operand(self, levels: Node, scale: Fraction, zero_point: Any) -> Integers:
        """Subtract the zero point from levels."""
        wide = self.call(aten.to.dtype, levels, torch.int64)
        return Integers(self.call(aten.sub.Tensor, wide, zero_point), (scale,), 2**9)

    def requantize(self, value: Integers, grid: Grid) -> Node:
        """Return the levels of integers, by comparing them with where each level begins."""
        if grid.one is None:
            raise NoIntegerFormError
        scale, zero_point = Fraction(grid.one[0]), grid.one[1]
        first, last = self.level_range(value, scale, zero_point, (grid.low, grid.high))
        turns = [self.turn(level - zero_point) for level in range(first + 1, last + 1)]
        boundaries = self.constant(beginnings_of(turns, scale, [*zip(value.units, value.offsets, strict=True)]))
        if value.axis is None:
            flat = self.call(aten.reshape.default, boundaries, [-1])
            packed = self.call(aten.contiguous.default, value.node)  # torch warns where it has to do so itself
            counts = self.call(aten.bucketize.Tensor, packed, flat, right=True)
        else:
            moved = self.call(aten.movedim.int, value.node, value.axis, 0)
            # Of a tensor of one dimension there is a row of one for each index.
            rows = self.call(aten.flatten.using_ints, self.call(aten.unsqueeze.default, moved, -1), 1)
            rows = self.call(aten.contiguous.default, rows)
            counts = self.call(aten.searchsorted.Tensor, boundaries, rows, right=True)
            counts = self.call(aten.movedim.int, self.call(aten.view_as.default, counts, moved), 0, value.axis)
        return self.call(aten.to.dtype, self.call(aten.add.Tensor, counts, first), grid.dtype)

    def level_range(
        self, value: Integers, scale: Fraction, zero_point: int, bounds: tuple[int, int]
    ) -> tuple[int, int]:
        """Return the least and the largest level: those of the grid, or of an activation's bounds."""
        low, high = bounds
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

    # What operators want of a builder.

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

    def window_size(self, count: int) -> int:
        """Return how many numbers a mean is of."""
        return count

    def call(self, target: Any, *args: Any, **kwargs: Any) -> Node:
        """Add a node to the new program."""
        args, kwargs = tree_map(self._as_argument, (args, kwargs))
        return self._graph.call_function(target, args, kwargs)

    def _as_argument(self, value: Any) -> Any:
        if isinstance(value, GraphModule):  # the body of a higher-order operator
            return self._named(value, self._root.add_module)
        return self.constant(value) if isinstance(value, torch.Tensor) else value

    def constant(self, tensor: torch.Tensor) -> Node:
        """Keep a tensor in the new program."""
        return self._named(tensor.detach(), self._root.register_buffer)

    def _named(self, value: Any, register: Callable[[str, Any], None]) -> Node:
        name = f"constant_{self._constants}"
        self._constants += 1
        register(name, value)
        return self._graph.get_attr(name)

    def _in_float(self, value: Any, dtype: torch.dtype = torch.float32) -> Any:
        """Return a value as the Q/DQ program has it: integers as the floats that they stand for."""
        if isinstance(value, GroupedWeight):
            raise NotImplementedError("a groupwise weight without an integer linear")
        if isinstance(value, Weight):
            shape = [1] * value.levels.dim()
            if value.axis is not None:
                shape[value.axis] = -1
            scales = torch.tensor([float(scale) for scale in value.scales], dtype=torch.float64).reshape(shape)
            return self.constant((self.weight_levels(value) * scales).to(dtype))
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
        return self.call(aten.to.dtype, result, dtype)

    def _spread(self, numbers: Sequence[float], axis: int | None) -> Any:
        if axis is None:
            return numbers[0]
        return self.constant(torch.tensor(numbers, dtype=torch.float64).reshape([-1] + [1] * (-axis - 1)))


def _weight(levels: torch.Tensor, grid: Grid) -> Weight | GroupedWeight:
    scales, points = grid.scales, grid.zero_points
    if isinstance(scales, Node) or isinstance(points, Node):
        raise NoIntegerFormError
    if grid.blocks is not None:
        shape = [length // size for length, size in zip(levels.shape, grid.blocks, strict=True)]
        steps, offsets = (torch.tensor(numbers, dtype=torch.float64).reshape(shape) for numbers in (scales, points))
        return GroupedWeight(levels, grid.blocks[-1], steps, offsets if any(points) else None)
    return Weight(levels, tuple(map(Fraction, scales)), tuple(int(point) for point in points), grid.axis)


def _takes(form: Callable[..., Any], arguments: dict[str, Any]) -> bool:
    """Tell whether an operator's form takes these arguments: another overload has others."""
    try:
        inspect.signature(form).bind(None, **arguments)
    except TypeError:
        return False
    return True


def _shape_of(node: Node) -> torch.Size:
    """Return the shape that the exporter noted; quantize and dequantize nodes have that of what they take."""
    while "val" not in node.meta:
        if node.op == "get_attr":
            tensor: torch.Tensor = attrgetter(str(node.target))(node.graph.owning_module)
            return tensor.shape
        node = node.all_input_nodes[0]
    value: torch.Tensor = node.meta["val"]
    return value.shape


def _float_dtype(node: Node) -> torch.dtype:
    """Return the float dtype that a node of the Q/DQ program gives; float32 where the exporter did not note it."""
    value = node.meta.get("val", node.kwargs.get("out_dtype"))
    dtype = value.dtype if isinstance(value, torch.Tensor) else value
    return dtype if isinstance(dtype, torch.dtype) and dtype.is_floating_point else torch.float32


def representation(qdq: GraphModule) -> GraphModule:
    """Return the exact integer program of a Q/DQ program."""
    return IntegerRepresentation()(qdq)
