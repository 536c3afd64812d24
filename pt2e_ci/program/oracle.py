"""Runs a Q/DQ program in real-number arithmetic."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial, reduce
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Interpreter, Node
from torch.utils._pytree import tree_flatten, tree_map

from pt2e_ci.exact.levels import to_levels
from pt2e_ci.exact.reals import NoExactFormError, Real, product, scaled
from pt2e_ci.exact.schemes import Rounding
from pt2e_ci.operators.names import name_of
from pt2e_ci.operators.row import Kind
from pt2e_ci.program.memory import Memory, written_by
from pt2e_ci.program.segments import Dequantize, Operation, Quantize

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from pt2e_ci.program.segments import Grid, Reading

# Levels that are smaller take half the memory of others.
_SMALL = 2**24


@dataclass
class Exact:
    """What a program gives in real-number arithmetic.

    Attributes:
        outputs: the leaves of its output, tensors as float64: real numbers, rounded once.
        levels: the levels that each quantize node gives; of one dtype for each, in which their differences fit.
        values: what the nodes give that were to be kept, tensors as the outputs are.
        approximated: operators without an exact form, which were computed in float64.

    """

    outputs: list[Any] = field(default_factory=list)
    levels: dict[Node, torch.Tensor] = field(default_factory=dict)
    values: dict[Node, Any] = field(default_factory=dict)
    approximated: list[str] = field(default_factory=list)
    _before: dict[Node, tuple[Any, _Known]] = field(default_factory=dict)

    def zero_point(self, node: Node) -> int | None:
        """Return the zero point of a quantize node, where it has one."""
        points = self._before[node][1].points
        return int(points[0]) if len(points) == 1 and points[0] == round(points[0]) else None

    def steps(self, node: Node) -> torch.Tensor:
        """Return what a quantize node takes, in steps of its grid from level 0, float64: a level, if it is whole."""
        real, known = self._before[node]
        values = real.floats() if isinstance(real, Real) else real.to(torch.float64)
        scales, points = (torch.tensor(numbers, dtype=torch.float64) for numbers in (known.scales, known.points))
        if known.grid.blocks is not None:
            blocks = known.blocks(values.shape)
            scales, points = scales[blocks], points[blocks]
        elif known.grid.axis is not None:
            shape = [-1 if axis == known.grid.axis % values.dim() else 1 for axis in range(values.dim())]
            scales, points = scales.reshape(shape), points.reshape(shape)
        return values / scales + points


@dataclass(frozen=True)
class Sample:
    """What a Q/DQ program and exact arithmetic made of one input set: engines are held against it.

    Attributes:
        inputs: the input set.
        levels: the Q/DQ program's own levels, by quantize node.
        exact: the exact ones of the operands that it had there.
        outputs: the exact outputs.
        steps: the step of each output's grid; None for one that is on none.

    """

    inputs: list[Any]
    levels: dict[Node, torch.Tensor]
    exact: dict[Node, torch.Tensor]
    outputs: list[Any]
    steps: list[Any]


def run_exactly(
    reading: Reading,
    inputs: Iterable[Any],
    *,
    runtime: Mapping[Node, Any],
    operands: Mapping[Node, torch.Tensor] | None = None,
    keep: Collection[Node] = (),
    keep_steps: bool = False,
    rounding: Rounding = Rounding.HALF_EVEN,
) -> Exact:
    """Run a Q/DQ program on real numbers.

    Args:
        reading: the program; not changed.
        inputs: its float inputs.
        runtime: the values of the nodes that `Reading.runtime` names: scales and zero points that the program
            works out from its input are taken as it had them.
        operands: levels to go on with after a quantize node, in place of the exact ones: with a program's own
            levels, `Exact.levels` says what each operator should have made of the operands that it had.
        keep: the nodes whose values are wanted.
        keep_steps: whether `Exact.steps` and `Exact.zero_point` will be asked: what was rounded takes more memory than
            all levels.
        rounding: how a real number of steps becomes a whole one.

    """
    runner = _Runner(reading, runtime, operands or {}, keep, rounding, keep_steps=keep_steps)
    with torch.no_grad():
        output = runner.run(*[Real.of_floats(value) if _is_float(value) else value for value in inputs])
    leaves = tree_flatten(output)[0]
    runner.exact.outputs = [_as_floats(leaf) for leaf in leaves]
    return runner.exact


def work_out(reading: Reading, target: Node, given: Mapping[Node, Any], passed: Collection[Node] = ()) -> Any:
    """Work out what a node of a Q/DQ program gives, where other nodes give what they are given here.

    Args:
        reading: the program.
        target: the node.
        given: what nodes give, for one on each way to the target: `Real` is computed with exactly, all else as it is.
        passed: the nodes that leave what they take as it is.

    Raises:
        NoExactFormError: an operator on the way has no exact form, or the program's input is reached.

    """
    runner = _Runner(reading, {}, {}, (), Rounding.HALF_EVEN, keep_steps=False)
    runner.env.update(given)
    waiting, needed = [target], set[Node]()
    while waiting:
        node = waiting.pop()
        if node not in needed and node not in given:
            needed.add(node)
            waiting += node.all_input_nodes
    if needed & reading.in_place:
        raise NoExactFormError("what is written in place, and read by another name")
    for node in (one for one in reading.items if one in needed):
        if node.op == "placeholder":
            raise NoExactFormError(f"what depends on {node.name} around its operands")
        runner.env[node] = runner.env[node.all_input_nodes[0]] if node in passed else runner.run_node(node)
    if runner.exact.approximated:
        raise NoExactFormError(", ".join(dict.fromkeys(runner.exact.approximated)))
    return runner.env[target]


class _Runner(Interpreter):
    """Goes through the items of a reading with `Real` where a program has float tensors."""

    def __init__(
        self,
        reading: Reading,
        runtime: Mapping[Node, Any],
        operands: Mapping[Node, torch.Tensor],
        keep: Collection[Node],
        rounding: Rounding,
        *,
        keep_steps: bool,
    ) -> None:
        super().__init__(reading.program)
        self.exact = Exact()
        self._items = reading.items
        self._runtime = runtime
        self._operands = operands
        self._keep = keep
        self._rounding = rounding
        self._keep_steps = keep_steps
        self._memory = Memory() if reading.in_place else None

    def run_node(self, n: Node) -> Any:
        value = self._run(n)
        if self._memory is not None:
            value = self._remembered(n, value, self._memory)
        if n in self._keep:
            self.exact.values[n] = _as_floats(value)
        return value

    def _run(self, n: Node) -> Any:
        if n in self._runtime:
            return self._runtime[n]
        item = self._items[n]
        if isinstance(item, Quantize):
            return self._operands.get(n, self._quantize(item))
        if isinstance(item, Dequantize):
            return _dequantize(self._value(item.source).to(torch.int64), self._known(item.grid))
        return self._operate(item) if isinstance(item, Operation) else super().run_node(n)

    def _remembered(self, n: Node, value: Any, memory: Memory) -> Any:
        """Note where a node's tensor lies, and change all that lies where it writes."""
        value = Real.of_floats(value) if _is_float(value) else value
        written = written_by(n)
        if written is not None and isinstance(value, Real):
            self.env.update([*memory.changed(written, value, self.env)])
            moved = memory.places(written)
            if not memory.share(n, moved):
                memory.put(n, value.shape)
            return value
        item, source = self._items[n], n.all_input_nodes[0] if n.all_input_nodes else None
        places = memory.places(source) if source is not None else None
        moves = isinstance(item, Operation) and item.row is not None and item.row.moves
        if moves and places is not None:
            args, kwargs = self.fetch_args_kwargs_from_env(n)
            is_item = name_of(n.target) == "getitem"
            moved = places[args[1]] if is_item else self._call(n, (places, *args[1:]), kwargs)
            if memory.share(n, moved):
                return value
        if isinstance(value, Real):
            memory.put(n, value.shape)
        return value

    def _quantize(self, item: Quantize) -> torch.Tensor:
        real, known = self._value(item.source), self._known(item.grid)
        if self._keep_steps:
            self.exact._before[item.node] = real, known
        try:
            levels = _quantize(real if isinstance(real, Real) else Real.of_floats(real), known, self._rounding)
        except NoExactFormError:
            levels = self._approximate(item)
        levels = levels.to(_dtype_of(item.grid))
        self.exact.levels[item.node] = levels
        return levels

    def _operate(self, item: Operation) -> Any:
        """Compute an operator exactly, or in float64 where it has no exact form on these operands."""
        node = item.node
        if item.kind is Kind.STATISTIC and node.users and all(user in self._runtime for user in node.users):
            return None  # a range, from which come scales that are given
        args, kwargs = self.fetch_args_kwargs_from_env(node)
        if not any(isinstance(leaf, Real) for leaf in tree_flatten((args, kwargs))[0]):
            return super().run_node(node)
        try:
            return self._exactly(item, args, kwargs)
        except NoExactFormError:
            return self._approximate(item)

    def _exactly(self, item: Operation, args: Any, kwargs: Any) -> Any:
        """Compute an operator exactly.

        Raises:
            NoExactFormError: it cannot be: this operator, this overload of it, or on these operands.

        """
        row = item.row
        if item.name in _WRITES and isinstance(args[0], Real):
            return _WRITES[item.name](*args)
        if row is None:
            raise NoExactFormError(item.name)
        if item.name == "getitem" and not isinstance(args[0], Real):
            return args[0][args[1]]
        if (row.moves or row.leaves) and isinstance(args[0], Real):
            return self._moved(item, args, kwargs)
        if row.exact is None:
            raise NoExactFormError(item.name)
        # By the names of its schema; a function of Python has none, and takes the same in the same order.
        named = {key.removeprefix("_"): self._real(value) for key, value in item.arguments.items()}
        positional = () if named else [self._real(value) for value in item.node.args]
        try:
            bound = inspect.signature(row.exact).bind(*positional, **(named or item.node.kwargs))
        except TypeError:
            raise NoExactFormError(f"{item.name} with other arguments") from None
        if not isinstance(next(iter(bound.arguments.values())), Real | list):
            raise NoExactFormError(f"{item.name} of other operands")
        return row.exact(*bound.args, **bound.kwargs)

    def _moved(self, item: Operation, args: Any, kwargs: Any) -> Any:
        dtypes = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.dtype)]
        if not all(dtype.is_floating_point for dtype in dtypes):
            raise NoExactFormError(f"{item.name} to integers")
        if item.row is not None and item.row.leaves:
            return args[0]
        moved = [self._call(item.node, (term.integers, *args[1:]), kwargs) for term in args[0].terms]
        return args[0].of_parts(moved)

    def _approximate(self, item: Operation | Quantize) -> Any:
        """Compute an operator in float64, or in float32 where it will have nothing else."""
        args, kwargs = self.fetch_args_kwargs_from_env(item.node)
        try:
            result = self._call(item.node, *tree_map(partial(_as_float, torch.float64), (args, kwargs)))
        except Exception:  # such as a product with a float32 that is the module's own
            result = self._call(item.node, *tree_map(partial(_as_float, torch.float32), (args, kwargs)))
        if isinstance(item, Quantize) or any(_is_float(leaf) for leaf in tree_flatten(result)[0]):
            self.exact.approximated.append(item.name if isinstance(item, Operation) else name_of(item.node.target))
        return tree_map(lambda value: Real.of_floats(value, exact=False) if _is_float(value) else value, result)

    def _call(self, node: Node, args: Any, kwargs: Any) -> Any:
        """Call what a node calls, on other values."""
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        target = self.module.get_submodule(str(node.target)) if node.op == "call_module" else node.target
        return target(*args, **kwargs)

    def _value(self, argument: Any) -> Any:
        return self.env[argument] if isinstance(argument, Node) else argument

    def _real(self, argument: Any) -> Any:
        """Return an argument's value, numbers and float tensors as `Real` where a tensor is meant."""
        if isinstance(argument, list | tuple) and any(isinstance(item, Node) for item in argument):
            return [self._real(item) for item in argument]
        value = self._value(argument)
        if isinstance(argument, Node) and isinstance(value, torch.Tensor):
            return Real.of_floats(value) if _is_float(value) else Real.of_integers(value, Fraction(1))
        return value

    def _known(self, grid: Grid) -> _Known:
        """Return a grid as it is in this run."""
        scales, points = (self._numbers(given) for given in (grid.scales, grid.zero_points))
        return _Known(grid, scales, points or [0.0] * len(scales))

    def _numbers(self, given: Sequence[float] | Node) -> list[float]:
        if not isinstance(given, Node):
            return [*given]
        value = self.env[given]
        numbers: list[float] = torch.as_tensor(value).to(torch.float64).flatten().tolist()
        return numbers


@dataclass(frozen=True)
class _Known:
    """A grid and its numbers in one run."""

    grid: Grid
    scales: list[float]
    points: list[float]

    @property
    def bounds(self) -> tuple[int, int]:
        return self.grid.low, self.grid.high

    def blocks(self, shape: torch.Size) -> torch.Tensor:
        """Return the number of the block that each element is in."""
        sizes = self.grid.blocks or ()
        counts = [length // size for length, size in zip(shape, sizes, strict=True)]
        numbers = torch.arange(math.prod(counts)).reshape(counts)
        for dimension, size in enumerate(sizes):
            numbers = numbers.repeat_interleave(size, dimension)
        return numbers


def _copied(self: Real, source: Any, *_: Any) -> Real:
    """Return what a copy into a tensor makes of it."""
    given = source if isinstance(source, Real) else Real.of_floats(torch.as_tensor(source, dtype=torch.float64))
    shape = self.shape
    return given.map(lambda integers: integers.expand(shape).contiguous())


def _zeroed(self: Real) -> Real:
    return self.times(Fraction(0))


_WRITES: dict[str, Callable[..., Real]] = {"copy": _copied, "fill": _copied, "zero": _zeroed}
"""What only writes, by what it leaves."""


def _dtype_of(grid: Grid) -> torch.dtype:
    return torch.int32 if grid.low >= -_SMALL and grid.high < _SMALL else torch.int64


def _quantize(real: Real, known: _Known, rounding: Rounding) -> torch.Tensor:
    """Return levels.

    Raises:
        NoExactFormError: a zero point is no level, and so neither is its sum with one, which kernels make one in ways
            of their own.

    """
    if any(point != round(point) for point in known.points):
        raise NoExactFormError("a quantize operator with a zero point between levels")
    pairs = [(Fraction(scale), int(point)) for scale, point in zip(known.scales, known.points, strict=True)]
    axis = known.grid.axis
    if known.grid.blocks is not None:
        blocks = known.blocks(real.shape)
        levels = torch.empty(real.shape, dtype=torch.int64)
        for index, (scale, point) in enumerate(pairs):
            inside = blocks == index
            levels[inside] = to_levels(real.map(partial(_masked, inside)), scale, point, known.bounds, rounding)
        return levels
    if axis is None:
        return to_levels(real, *pairs[0], known.bounds, rounding)
    channels = [
        to_levels(real.map(partial(_select, axis, index)), scale, point, known.bounds, rounding)
        for index, (scale, point) in enumerate(pairs)
    ]
    return torch.stack(channels, axis)


def _masked(mask: torch.Tensor, integers: torch.Tensor) -> torch.Tensor:
    return integers[mask]


def _select(axis: int, index: int, integers: torch.Tensor) -> torch.Tensor:
    return integers.select(axis, index)


def _dequantize(levels: torch.Tensor, known: _Known) -> Real:
    points, axis = torch.tensor(known.points, dtype=torch.float64), known.grid.axis
    if known.grid.blocks is not None:
        blocks = known.blocks(levels.shape)
        scales = torch.tensor(known.scales, dtype=torch.float64)
        return product(_shifted(levels, points[blocks]), Real.of_floats(scales[blocks]), torch.mul, 1)
    if axis is None:
        return _shifted(levels, points[0]).times(Fraction(known.scales[0]))
    shape = [1] * levels.dim()
    shape[axis] = -1
    steps = [Fraction(scale) for scale in known.scales]
    shifted = _shifted(levels, points.reshape(shape))
    first, *others = (scaled(term.integers, steps, axis).times(term.unit) for term in shifted.terms)
    return reduce(Real.plus, others, first)


def _shifted(levels: torch.Tensor, zero_points: torch.Tensor) -> Real:
    """Return levels less zero points, which may lie between levels."""
    if bool((zero_points == zero_points.round()).all()):
        return Real.of_integers(levels - zero_points.to(torch.int64), Fraction(1))
    return Real.of_integers(levels, Fraction(1)).plus(Real.of_floats(-zero_points))


def _as_floats(value: Any) -> Any:
    return value.floats() if isinstance(value, Real) else value


def _as_float(dtype: torch.dtype, value: Any) -> Any:
    value = value.floats() if isinstance(value, Real) else value
    return value.to(dtype) if _is_float(value) else value


def _is_float(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()
