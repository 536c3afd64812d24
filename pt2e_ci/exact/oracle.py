"""Runs a Q/DQ program in real-number arithmetic."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial, reduce
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import GraphModule, Interpreter, Node
from torch.utils._pytree import tree_flatten, tree_map

from pt2e_ci.exact.arithmetic import MOVES, OPERATORS, SAME
from pt2e_ci.exact.reals import NoExactFormError, Real, product, scaled
from pt2e_ci.exact.rounding import Rounding, to_levels
from pt2e_ci.operators import Kind, call_of, kind_of, name_of, named_arguments

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass
class Exact:
    """What a program gives in real-number arithmetic.

    Attributes:
        outputs: the leaves of its output, tensors as float64: real numbers, rounded once.
        levels: the levels that each quantize node gives, int64.
        approximated: operators without an exact form, which were computed in float64.

    """

    outputs: list[Any] = field(default_factory=list)
    levels: dict[Node, torch.Tensor] = field(default_factory=dict)
    approximated: list[str] = field(default_factory=list)


def run_exactly(
    program: GraphModule,
    inputs: Iterable[torch.Tensor],
    *,
    runtime: Mapping[Node, Any],
    operands: Mapping[Node, torch.Tensor] | None = None,
    rounding: Rounding = Rounding.HALF_EVEN,
) -> Exact:
    """Run a Q/DQ program on real numbers.

    Args:
        program: a Q/DQ program; not changed.
        inputs: its float inputs.
        runtime: the values of the nodes that `runtime_nodes` names: scales and zero points that the program
            works out from its input are taken as it had them.
        operands: levels to go on with after a quantize node, in place of the exact ones: with a program's own
            levels, `Exact.levels` says what each operator should have made of the operands that it had.
        rounding: how a real number of steps becomes a whole one.

    """
    runner = _Runner(program, runtime, operands or {}, rounding)
    with torch.no_grad():
        output = runner.run(*[Real.of_floats(value) if _is_float(value) else value for value in inputs])
    leaves = tree_flatten(output)[0]
    runner.exact.outputs = [leaf.floats() if isinstance(leaf, Real) else leaf for leaf in leaves]
    return runner.exact


def quantize_nodes(program: GraphModule) -> list[Node]:
    """Return the nodes that take a float tensor that depends on the inputs to levels, in order."""
    return [node for node in program.graph.nodes if _is(node, _QUANTIZE)]


def runtime_nodes(program: GraphModule) -> list[Node]:
    """Return the scales and zero points that a program works out at run time."""
    found = []
    for node in program.graph.nodes:
        if _is(node, _QUANTIZE) or _is(node, _DEQUANTIZE):
            arguments = named_arguments(node)
            found += [value for name in _PARAMETERS if isinstance(value := arguments.get(name), Node)]
    return [node for node in dict.fromkeys(found) if node.op not in ("get_attr", "placeholder")]


_QUANTIZE = ("quantize_per_tensor", "quantize_per_channel", "quantize_affine")
_DEQUANTIZE = ("dequantize_per_tensor", "dequantize_per_channel", "dequantize_affine")
_PARAMETERS = ("scale", "scales", "zero_point", "zero_points")


def _is(node: Node, names: tuple[str, ...]) -> bool:
    """Tell whether a node calls an overload of one of these operators, which alone has a schema to read."""
    known = node.op == "call_function" and kind_of(node.target) is Kind.QDQ
    return known and name_of(node.target) in names and bool(named_arguments(node))


class _Runner(Interpreter):
    def __init__(
        self,
        program: GraphModule,
        runtime: Mapping[Node, Any],
        operands: Mapping[Node, torch.Tensor],
        rounding: Rounding,
    ) -> None:
        super().__init__(program)
        self.exact = Exact()
        self._runtime = runtime
        self._operands = operands
        self._rounding = rounding

    def run_node(self, n: Node) -> Any:
        if n in self._runtime:
            return self._runtime[n]
        if n.op not in ("call_function", "call_method", "call_module"):
            return super().run_node(n)
        if n.op == "call_module":
            return self._approximate(n)
        kind, name = kind_of(call_of(n)[0]), name_of(call_of(n)[0])
        if _is(n, _QUANTIZE) or _is(n, _DEQUANTIZE):
            arguments = {key: self._value(value) for key, value in named_arguments(n).items()}
            if name in _DEQUANTIZE:
                return _dequantize(arguments)
            try:
                levels = _quantize(arguments, self._rounding)
            except NoExactFormError:
                levels = self._approximate(n).to(torch.int64)
            self.exact.levels[n] = levels
            return self._operands.get(n, levels)
        if kind is Kind.STATISTIC and n.users and all(user in self._runtime for user in n.users):
            return None  # a range, from which come scales that are given
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        if not any(isinstance(leaf, Real) for leaf in tree_flatten((args, kwargs))[0]):
            return super().run_node(n)
        try:
            return self._operate(n, name, args, kwargs)
        except NoExactFormError:
            return self._approximate(n)

    def _operate(self, node: Node, name: str, args: Any, kwargs: Any) -> Any:
        """Compute an operator exactly.

        Raises:
            NoExactFormError: it cannot be: this operator, this overload of it, or on these operands.

        """
        if name == "getitem" and not isinstance(args[0], Real):
            return args[0][args[1]]
        if (name in SAME or name in MOVES) and isinstance(args[0], Real):
            dtypes = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.dtype)]
            if not all(dtype.is_floating_point for dtype in dtypes):
                raise NoExactFormError(f"{name} to integers")
            if name in SAME:
                return args[0]
            moved = [self._call(node, (term.integers, *args[1:]), kwargs) for term in args[0].terms]
            return args[0].of_parts(moved)
        operator = OPERATORS.get(name)
        if operator is None:
            raise NoExactFormError(name)
        # By the names of its schema; a function of Python has none, and takes the same in the same order.
        named = {key.removeprefix("_"): self._real(value) for key, value in named_arguments(node).items()}
        positional = () if named else [self._real(value) for value in node.args]
        try:
            bound = inspect.signature(operator).bind(*positional, **(named or node.kwargs))
        except TypeError:
            raise NoExactFormError(f"{name} with other arguments") from None
        if not isinstance(next(iter(bound.arguments.values())), Real | list):
            raise NoExactFormError(f"{name} of other operands")
        return operator(*bound.args, **bound.kwargs)

    def _approximate(self, node: Node) -> Any:
        """Compute an operator in float64, or in float32 where it will have nothing else."""
        args, kwargs = self.fetch_args_kwargs_from_env(node)
        try:
            result = self._call(node, *tree_map(partial(_as_float, torch.float64), (args, kwargs)))
        except Exception:  # such as a product with a float32 that is the module's own
            result = self._call(node, *tree_map(partial(_as_float, torch.float32), (args, kwargs)))
        if any(_is_float(leaf) for leaf in tree_flatten(result)[0]) or _is(node, _QUANTIZE):
            self.exact.approximated.append(name_of(call_of(node)[0]) if node.op != "call_module" else str(node.target))
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


def _quantize(arguments: dict[str, Any], rounding: Rounding) -> torch.Tensor:
    real = arguments["input"]
    real = real if isinstance(real, Real) else Real.of_floats(real)
    low, high = arguments["quant_min"], arguments["quant_max"]
    if "block_size" in arguments:
        blocks, scales, zero_points = _blocks(arguments, real.shape)
        levels = torch.empty(real.shape, dtype=torch.int64)
        for index, (step, offset) in enumerate(zip(scales, zero_points, strict=True)):
            inside = blocks == index
            part = real.map(partial(_masked, inside))
            levels[inside] = to_levels(part, Fraction(step), _whole(offset), low, high, rounding)
        return levels
    if "axis" not in arguments:
        scale, zero_point = _rational(arguments["scale"]), _whole(arguments["zero_point"])
        return to_levels(real, scale, zero_point, low, high, rounding)
    axis, scales = arguments["axis"], arguments["scales"].flatten().tolist()
    channels = [
        to_levels(real.map(partial(_select, axis, index)), Fraction(scale), _whole(zero_point), low, high, rounding)
        for index, (scale, zero_point) in enumerate(zip(scales, arguments["zero_points"].tolist(), strict=True))
    ]
    return torch.stack(channels, axis)


def _whole(zero_point: Any) -> int:
    """Return a zero point that rounded steps are added to.

    Raises:
        NoExactFormError: it is no integer, and so neither is their sum, which kernels make one in ways of their own.

    """
    if float(zero_point) != round(float(zero_point)):
        raise NoExactFormError("a quantize operator with a zero point between levels")
    return int(zero_point)


def _blocks(arguments: dict[str, Any], shape: torch.Size) -> tuple[torch.Tensor, list[float], list[int]]:
    """Return the number of the block that each element is in, and the blocks' scales and zero points."""
    sizes = arguments["block_size"]
    counts = [length // size for length, size in zip(shape, sizes, strict=True)]
    numbers = torch.arange(math.prod(counts)).reshape(counts)
    for dimension, size in enumerate(sizes):
        numbers = numbers.repeat_interleave(size, dimension)
    scales = arguments["scale"].flatten().tolist()
    zero_points = arguments["zero_point"]
    return numbers, scales, [0] * len(scales) if zero_points is None else zero_points.flatten().tolist()


def _masked(mask: torch.Tensor, integers: torch.Tensor) -> torch.Tensor:
    return integers[mask]


def _select(axis: int, index: int, integers: torch.Tensor) -> torch.Tensor:
    return integers.select(axis, index)


def _dequantize(arguments: dict[str, Any]) -> Real:
    levels = arguments["input"].to(torch.int64)
    if "block_size" in arguments:
        blocks, scales, zero_points = _blocks(arguments, levels.shape)
        shifted = _shifted(levels, torch.tensor(zero_points)[blocks])
        return product(shifted, Real.of_floats(torch.tensor(scales, dtype=torch.float64)[blocks]), torch.mul, 1)
    if "axis" not in arguments:
        return _shifted(levels, torch.as_tensor(arguments["zero_point"])).times(_rational(arguments["scale"]))
    axis = arguments["axis"]
    shape = [1] * levels.dim()
    shape[axis] = -1
    zero_points = arguments["zero_points"]
    shifted = _shifted(levels, torch.zeros(1) if zero_points is None else zero_points.reshape(shape))
    steps: list[Fraction] = [Fraction(scale) for scale in arguments["scales"].flatten().tolist()]
    first, *others = (scaled(term.integers, steps, axis).times(term.unit) for term in shifted.terms)
    return reduce(Real.plus, others, first)


def _shifted(levels: torch.Tensor, zero_points: torch.Tensor) -> Real:
    """Return levels less zero points, which may lie between levels."""
    if not zero_points.is_floating_point() or bool((zero_points == zero_points.round()).all()):
        return Real.of_integers(levels - zero_points.to(torch.int64), Fraction(1))
    return Real.of_integers(levels, Fraction(1)).plus(Real.of_floats(-zero_points))


def _rational(scale: Any) -> Fraction:
    return Fraction(float(scale))


def _as_float(dtype: torch.dtype, value: Any) -> Any:
    value = value.floats() if isinstance(value, Real) else value
    return value.to(dtype) if _is_float(value) else value


def _is_float(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()
