"""The one reading of a Q/DQ program: its grids, its quantized operators, and all else, in order.

Oracle, integer representation, engines and reports go by it, and look at no graph of their own.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import GraphModule, Node
from torch.utils._pytree import tree_flatten

from pt2e_ci.operators.names import call_of, name_of, named_arguments, tensors_of
from pt2e_ci.operators.row import Kind, Row
from pt2e_ci.operators.rows import has_integer_form, kind_of, on_input_grid, operands_of, row_of
from pt2e_ci.program.memory import read_after_writes

if TYPE_CHECKING:
    from collections.abc import Sequence

ANNOTATION = "quantization_annotation"
"""Where a quantizer leaves its word in a node's meta."""

FROM_QUANTIZER = "pt2e_ci_from_quantizer"
"""Where the flow notes in a program's meta that a quantizer had its word, were it that nothing is to be quantized."""

_QUANTIZE = ("quantize_per_tensor", "quantize_per_channel", "quantize_affine")
_DEQUANTIZE = ("dequantize_per_tensor", "dequantize_per_channel", "dequantize_affine")
# Where this torch lies; a program that was exported elsewhere has lines of another one.
_TORCH = f"{Path(torch.__file__).parent}/"
_FILE_LINE = re.compile(r'File "([^"]+)", line (\d+)')


@dataclass(frozen=True)
class Grid:
    """The levels that a tensor is on: a level stands for ``scale * (level - zero point)``.

    Attributes:
        scales: one, one for each index of `axis`, one for each block; or the node that gives them at run time.
        zero_points: as many, whole or not; or the node that gives them.
        low, high: the least and the largest level.
        dtype: of the levels.
        axis: the axis that scales belong to.
        blocks: the size of a block along each dimension, where a scale belongs to one.

    """

    scales: tuple[float, ...] | Node
    zero_points: tuple[float, ...] | Node
    low: int
    high: int
    dtype: torch.dtype | None
    axis: int | None = None
    blocks: tuple[int, ...] | None = None

    @property
    def is_runtime(self) -> bool:
        """Whether the program works the grid out itself."""
        return isinstance(self.scales, Node) or isinstance(self.zero_points, Node)

    @property
    def nodes(self) -> list[Node]:
        """The nodes that give it at run time."""
        return [one for one in (self.scales, self.zero_points) if isinstance(one, Node)]

    @property
    def is_whole(self) -> bool:
        """Whether all zero points are levels, as far as they are known."""
        return isinstance(self.zero_points, Node) or all(point == round(point) for point in self.zero_points)

    @property
    def is_finite(self) -> bool:
        """Whether all scales and zero points that are known ahead are finite numbers."""
        numbers = [one for given in (self.scales, self.zero_points) if not isinstance(given, Node) for one in given]
        return all(math.isfinite(one) for one in numbers)

    @property
    def one(self) -> tuple[float, int] | None:
        """Scale and zero point, where there is one of each, known ahead, and the zero point is a level."""
        if self.is_runtime or self.axis is not None or self.blocks is not None or not self.is_whole:
            return None
        return self.scales[0], int(self.zero_points[0])


@dataclass(frozen=True)
class Item:
    """A node of the program, read."""

    node: Node


@dataclass(frozen=True)
class Constant(Item):
    """A tensor of the program's own."""

    tensor: Any


@dataclass(frozen=True)
class Between(Item):
    """A quantize or dequantize node: what it takes, and the grid."""

    source: Any
    grid: Grid


class Quantize(Between):
    """From a float tensor to levels."""


class Dequantize(Between):
    """From levels to a float tensor."""


@dataclass(frozen=True)
class Operation(Item):
    """Any other call: its name, its row if it is known, and its arguments by the names of its schema if it has one."""

    name: str
    row: Row | None
    kind: Kind
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Operand:
    """An operand of a quantized operator.

    Attributes:
        source: the node that gives its levels.
        grid: the grid that they are on.
        levels: the levels, where they are constant.
        is_moved: whether the operator takes them moved, as by a transpose, or cast.

    """

    source: Node
    grid: Grid
    levels: torch.Tensor | None
    is_moved: bool


@dataclass(frozen=True)
class QuantizedOperator:
    """An operator between levels.

    Attributes:
        name: as in ``conv2d``.
        node: the node that calls it.
        row: what is known of it.
        operands: its operands that are on a grid, by the name of its argument, in order.
        bias: in float, also where it is quantized; None where there is none, or it is no constant.
        is_whole: whether all other tensors that it takes are on a grid, and the bias, if there is one, is a constant.
        in_float: the names of the arguments that are tensors on no grid, but for a bias.
        options: its other arguments, by the names of its schema.
        activation: the name of an activation that is fused into it.
        output: the quantize node that takes its result; None where it stays in float.
        annotated: whether the quantizer marked it.
        module: the path of the module in the user's model that it belongs to.
        source: the line of the user's source, as ``net.py:41``.

    """

    name: str
    node: Node
    row: Row | None
    operands: tuple[tuple[str, Operand], ...]
    bias: torch.Tensor | None
    is_whole: bool
    in_float: tuple[str, ...]
    options: dict[str, Any]
    activation: str | None
    output: Quantize | None
    annotated: bool
    module: str | None
    source: str | None

    @property
    def is_clamped(self) -> bool:
        """Whether all that is done to its result before it is quantized has a form on integers, as a ReLU has."""
        return self.activation is None or has_integer_form(self.activation)

    @property
    def weight(self) -> Operand | None:
        """The operand that is a constant under the name of a weight."""
        return next((one for name, one in self.operands if name == "weight" and one.levels is not None), None)

    @property
    def activations(self) -> list[Operand]:
        """The operands whose levels the program works out."""
        return [one for _, one in self.operands if one.levels is None]


@dataclass(frozen=True)
class Levels:
    """A quantize node, and the operator whose result it takes: None for what the program is given."""

    quantize: Quantize
    before: Operation | None

    @property
    def name(self) -> str:
        """The name of that operator."""
        return self.before.name if self.before else "input"


class Reading:
    """A Q/DQ program, read once.

    Attributes:
        program: the program.
        items: what each node is, in order.
        by_quantizer: whether annotations are the quantizer's own word. Else they are guessed from Q/DQ neighbours.

    """

    def __init__(self, program: GraphModule) -> None:
        self.program = program
        self.items: dict[Node, Item] = {node: self._read(node) for node in program.graph.nodes}
        self.by_quantizer = FROM_QUANTIZER in program.meta or any(ANNOTATION in node.meta for node in self.items)

    @cached_property
    def levels(self) -> tuple[Levels, ...]:
        """The quantize nodes of what is computed, in order, each with the operator before it."""
        quantizes = [item for item in self.items.values() if isinstance(item, Quantize) and item.node in self.computed]
        return tuple(Levels(item, self._operator_before(item)) for item in quantizes)

    @cached_property
    def computed(self) -> set[Node]:
        """The nodes that the program works out from what it is given."""
        found: set[Node] = set()
        for node in self.items:
            if node.op == "placeholder" or any(one in found for one in node.all_input_nodes):
                found.add(node)
        return found

    @cached_property
    def in_place(self) -> set[Node]:
        """The nodes that share memory which is written in place, and then read by another name."""
        return read_after_writes(self.program.graph)

    @cached_property
    def runtime(self) -> list[Node]:
        """The nodes that give scales and zero points at run time."""
        grids = [item.grid for item in self.items.values() if isinstance(item, Between)]
        return list(dict.fromkeys(node for grid in grids for node in grid.nodes))

    @cached_property
    def computes(self) -> list[Operation]:
        """What computes, or was marked by the quantizer though it only compares, in order."""
        found = [item for item in self.items.values() if isinstance(item, Operation) and item.node in self.computed]
        found = [item for item in found if item.node.users]  # what gives nothing checks guards
        return [item for item in found if _is_compute(item) or (_may_be_marked(item) and _is_marked(item.node))]

    @cached_property
    def unquantized(self) -> list[QuantizedOperator]:
        """What computes on what the program works out, and was left in float, in order."""
        quantized = {one.node for one in self.operators if one.annotated and not one.in_float}
        left = [item for item in self.computes if item.node not in quantized and not self._is_fused(item)]
        return [self._quantized(item) for item in left]

    @cached_property
    def operators(self) -> tuple[QuantizedOperator, ...]:
        """The quantized operators, in order."""
        read = [self._quantized(item) for item in self.computes]
        return tuple(one for one in read if one.annotated or (one.operands and one.output))

    @cached_property
    def annotated(self) -> set[Node]:
        """The operators that the quantizer marked."""
        return {one.node for one in self.operators if one.annotated}

    @cached_property
    def inputs(self) -> list[Node]:
        """The tensors that the program is given, in order."""
        given = [node for node in self.items if node.op == "placeholder"]
        return [node for node in given if isinstance(node.meta.get("val"), torch.Tensor | None)]

    @cached_property
    def outputs(self) -> list[Node | None]:
        """The node behind each leaf of the program's output, in order; None for a constant."""
        output = next(node for node in self.items if node.op == "output")
        leaves = tree_flatten(output.args[0])[0]
        return [leaf if isinstance(leaf, Node) else None for leaf in leaves]

    def levels_before(self, node: Node) -> list[Node]:
        """Walk back from a node over all that is float; return the quantize nodes that it is worked out from."""
        seen, waiting, found = {node}, [*node.all_input_nodes], []
        while waiting:
            one = waiting.pop()
            if one in seen:
                continue
            seen.add(one)
            if isinstance(self.items[one], Quantize):
                found.append(one)
            else:
                waiting += one.all_input_nodes
        order = {one: position for position, one in enumerate(self.items)}
        return sorted(found, key=order.__getitem__)

    def sources(self, operator: QuantizedOperator) -> list[Node]:
        """Return the nodes that give the levels which an operator takes; what has no schema names no operands."""
        nodes = [one.source for one in operator.activations] if operator.operands else self.levels_before(operator.node)
        return [node for node in nodes if node in self.computed]  # a mask may be worked out from nothing

    def output_grid(self, node: Node | None) -> Grid | None:
        """Walk back from an output to the grid that it lies on; None where it was computed in float last."""
        moved = False
        while node is not None:
            item = self.items[node]
            if isinstance(item, Dequantize):
                source = self.items.get(item.source)
                constant = source is None or isinstance(source, Constant)
                lost = item.grid.blocks is not None or (moved and item.grid.axis is not None)
                return None if constant or lost else item.grid
            if not isinstance(item, Operation) or not on_input_grid(call_of(node)[0]):
                return None
            node, moved = next(iter(node.all_input_nodes), None), True
        return None

    def _read(self, node: Node) -> Item:
        if node.op == "get_attr":
            value = attrgetter(str(node.target))(self.program)
            return Constant(node, value.detach() if isinstance(value, torch.Tensor) else value)
        if node.op not in ("call_function", "call_method", "call_module"):
            return Item(node)
        if node.op == "call_module":
            return Operation(node, str(node.target), None, Kind.OTHER, {})
        target = call_of(node)[0]
        kind, name, arguments = kind_of(target), name_of(target), named_arguments(node)
        if kind is Kind.QDQ and arguments and node.op == "call_function":
            if name in _QUANTIZE:
                return Quantize(node, arguments["input"], self._grid(arguments))
            if name in _DEQUANTIZE:
                return Dequantize(node, arguments["input"], self._grid(arguments))
        return Operation(node, name, row_of(target), kind, arguments)

    def _grid(self, arguments: dict[str, Any]) -> Grid:
        scales = self._numbers(arguments.get("scales", arguments.get("scale")))
        points = self._numbers(arguments.get("zero_points", arguments.get("zero_point")))
        if points == () and not isinstance(scales, Node):
            points = (0.0,) * len(scales)
        blocks = arguments.get("block_size")
        dtype = arguments.get("dtype", arguments.get("output_dtype", arguments.get("input_dtype")))
        low, high = (arguments.get(name) for name in ("quant_min", "quant_max"))
        return Grid(
            scales,
            points,
            *_bounds(low, high, dtype),
            dtype,
            None if "axis" not in arguments else int(arguments["axis"]),
            None if blocks is None else tuple(blocks),
        )

    def _numbers(self, value: Any) -> tuple[float, ...] | Node:
        """Return numbers that are known ahead, or the node that gives them."""
        if isinstance(value, Node) and value.op == "get_attr":
            value = attrgetter(str(value.target))(self.program)
        if isinstance(value, Node):
            return value
        if isinstance(value, torch.Tensor):
            return tuple(value.detach().to(torch.float64).flatten().tolist())
        return () if value is None else (float(value),)

    def _operator_before(self, quantize: Quantize) -> Operation | None:
        found, node = None, quantize.source
        while isinstance(node, Node):
            item = self.items[node]
            if not isinstance(item, Operation) or node.op == "call_module" or item.kind is Kind.QDQ:
                break
            is_marked = _may_be_marked(item) and _is_marked(node)
            if item.kind is not Kind.NEUTRAL or is_marked:
                found = item
            if item.kind not in (Kind.NEUTRAL, Kind.ACTIVATION) or is_marked or not node.all_input_nodes:
                break
            node = node.all_input_nodes[0]
        return found

    def _quantized(self, item: Operation) -> QuantizedOperator:
        output, activation = self._quantized_again(item.node)
        operands: list[tuple[str, Operand]] = []
        options: dict[str, Any] = {}
        bias, is_whole = None, True
        in_float: list[str] = []
        for name, value in item.arguments.items():
            nodes = [one for one in tree_flatten(value)[0] if isinstance(one, Node)]
            found = [self._operand(node) for node in nodes]
            if nodes and self._is_number(value):
                options[name] = value
                continue
            in_float += [name] * (None in found and name != "bias")
            if name == "bias" and nodes:
                bias = self._bias(self.items[value])
                is_whole = is_whole and bias is not None
            elif nodes:
                operands += [(name, one) for one in found if one is not None]
                is_whole = is_whole and None not in found
            elif name != "bias":
                options[name] = value
        fields = (tuple(operands), bias, is_whole, tuple(in_float), options, activation, output)
        annotated = self._is_annotated(item, output)
        return QuantizedOperator(
            item.name, item.node, item.row, *fields, annotated, module_of(item.node), source_of(item.node)
        )

    def _operand(self, node: Node) -> Operand | None:
        item = self._behind(node)
        if not isinstance(item, Dequantize) or not isinstance(item.source, Node):
            return None
        source = self.items[item.source]
        levels = source.tensor if isinstance(source, Constant) else None
        return Operand(item.source, item.grid, levels, is_moved=item.node is not node)

    def _bias(self, item: Item) -> torch.Tensor | None:
        """Return a bias in float, where it is a constant: as it is, or in float64 where it is quantized."""
        if isinstance(item, Constant):
            return item.tensor
        source = self.items.get(item.source) if isinstance(item, Dequantize) else None
        if not isinstance(item, Dequantize) or not isinstance(source, Constant) or item.grid.is_runtime:
            return None
        scales, points = (torch.tensor(one, dtype=torch.float64) for one in (item.grid.scales, item.grid.zero_points))
        return (source.tensor.to(torch.float64) - points) * scales

    def _is_number(self, value: Any) -> bool:
        """Tell whether an argument is a constant of one float, as a slope is."""
        item = self.items.get(value) if isinstance(value, Node) else None
        is_tensor = isinstance(item, Constant) and isinstance(item.tensor, torch.Tensor)
        return is_tensor and item.tensor.is_floating_point() and item.tensor.numel() == 1  # type: ignore[union-attr]

    def _behind(self, node: Node) -> Item:
        """Return what gives a node's value, before it was only moved or cast."""
        item = self.items[node]
        while isinstance(item, Operation) and item.kind is Kind.NEUTRAL and item.node.all_input_nodes:
            item = self.items[item.node.all_input_nodes[0]]
        return item

    def _quantized_again(self, node: Node) -> tuple[Quantize | None, str | None]:
        """Find the quantize node that takes a result, and the activation that is fused in on the way."""
        for user in node.users:
            item = self.items[user]
            if isinstance(item, Quantize):
                return item, None
            if isinstance(item, Operation) and item.kind in (Kind.NEUTRAL, Kind.ACTIVATION):
                found, activation = self._quantized_again(user)
                if found is not None:
                    return found, item.name if item.kind is Kind.ACTIVATION else activation
        return None, None

    def _is_annotated(self, item: Operation, output: Quantize | None) -> bool:
        if self.by_quantizer:
            return _is_marked(item.node) and not self._is_fused(item)
        target, args, kwargs = call_of(item.node)
        sources = operands_of(target, tensors_of(args, kwargs))
        if item.kind is not Kind.CONTRACTION:  # whose weight counts, too
            sources = [node for node in sources if not isinstance(self.items[node], Constant)]
        dequantized = bool(sources) and all(isinstance(self._behind(node), Dequantize) for node in sources)
        return dequantized and (item.kind is Kind.CONTRACTION or output is not None)

    def _is_fused(self, item: Operation) -> bool:
        """Tell whether an activation is a part of the operator before it, which feeds nothing else."""
        if item.kind is not Kind.ACTIVATION or not item.node.all_input_nodes:
            return False
        before = self.items[item.node.all_input_nodes[0]]
        return isinstance(before, Operation) and _is_compute(before) and len(before.node.users) == 1


def _is_compute(item: Operation) -> bool:
    """Tell whether an operation computes, and does not only move, cast, round or compare."""
    return item.kind in (Kind.CONTRACTION, Kind.POOLING, Kind.ELEMENTWISE, Kind.JOIN, Kind.ACTIVATION, Kind.OTHER)


def _may_be_marked(item: Operation) -> bool:
    """Tell whether an operation computes if a quantizer says so: a comparison, or what is a part of others as well."""
    is_function = item.row is not None and item.row.exact is not None and not item.row.on_input_grid
    return item.kind is Kind.MASK or (item.kind is Kind.NEUTRAL and is_function)


def _is_marked(node: Node) -> bool:
    """Tell whether the quantizer annotated a node's operands or its result."""
    annotation = node.meta.get(ANNOTATION)
    specs = [*annotation.input_qspec_map.values(), annotation.output_qspec] if annotation else []
    return any(spec is not None for spec in specs)


def _bounds(low: Any, high: Any, dtype: torch.dtype | None) -> tuple[int, int]:
    """Return the least and the largest level: those of the dtype where none are given."""
    if isinstance(low, int | float) and isinstance(high, int | float):
        return int(low), int(high)
    info = torch.iinfo(dtype if dtype is not None and not dtype.is_floating_point else torch.int8)
    return info.min, info.max


def module_of(node: Node) -> str | None:
    """Return the path of the module of the user's model that a node belongs to; empty for the model itself."""
    stack = node.meta.get("nn_module_stack")
    if not stack:
        return None
    path = str([*stack.values()][-1][0])
    path = re.sub(r"getattr\((.*), '([^']*)'\)", r"\1.\2", path)  # as torch 2.1 and 2.2 have it
    return re.sub(r"^L\['\w+'\]", "", path).removeprefix(".")


def source_of(node: Node) -> str | None:
    """Return the innermost line of source that is none of torch's own, as ``net.py:41``."""
    return line_in(node.meta.get("stack_trace") or "")


def line_in(trace: str) -> str | None:
    """Return the innermost line of source in a stack's text that is none of torch's own, as ``net.py:41``."""
    places: Sequence[tuple[str, str]] = _FILE_LINE.findall(trace)
    own = [(path, line) for path, line in places if not path.startswith(_TORCH) and "-packages/torch/" not in path]
    return f"{own[-1][0].rpartition('/')[2]}:{own[-1][1]}" if own else None
