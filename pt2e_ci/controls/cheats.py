"""Representations that are no integer programs, or not what they seem: right numbers, or nearly, by another way."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.fx import GraphModule, Node

from pt2e_ci.controls.faults import Fault
from pt2e_ci.flow.exact import aten
from pt2e_ci.operators.integers import Integers

if TYPE_CHECKING:
    from collections.abc import Callable


# Work that is done in float.


class _InFloat(Fault):
    """Does one operator's work on float64, which holds every number of it, and casts the result to integers."""

    codes = ("PQ012",)

    def floats(self, value: Integers) -> Node:
        """Cast integers."""
        return self.call(aten.to.dtype, value.node, torch.float64)

    def integers(self, node: Node, like: Integers, **fields: Any) -> Integers:
        """Cast back."""
        return replace(like, node=self.call(aten.to.dtype, node, torch.int64), **fields)


class AddInFloat(_InFloat):
    """Operands are added as floats, between integers on both sides."""

    def add(self, input: Integers, other: Integers) -> Integers:
        """Add what both stand for in their common unit."""
        right = self.form("add", input, other)
        a, b = right.node.args
        floats = [self.call(aten.to.dtype, one, torch.float64) for one in (a, b)]
        return self.integers(self.call(aten.add.Tensor, *floats), right)


class MulInFloat(_InFloat):
    """Operands are multiplied as floats."""

    def mul(self, input: Integers, other: Integers) -> Integers:
        """Multiply casts."""
        right = self.form("mul", input, other)
        floats = [self.call(aten.to.dtype, one, torch.float64) for one in right.node.args]
        return self.integers(self.call(aten.mul.Tensor, *floats), right)


class MulBehindRange(_InFloat):
    """Operands are multiplied as floats, one of which hides behind the range of each element."""

    def mul(self, input: Integers, other: Integers) -> Integers:
        """Take the largest of one."""
        right = self.form("mul", input, other)
        a, b = (self.call(aten.to.dtype, one, torch.float64) for one in right.node.args)
        hidden = self.call(aten.amax.default, self.call(aten.unsqueeze.default, b, -1), [-1])
        return self.integers(self.call(aten.mul.Tensor, a, hidden), right)


class MaxPoolInFloat(_InFloat):
    """A max pooling runs on floats."""

    def max_pool2d(self, input: Integers, *args: Any, **kwargs: Any) -> Integers:
        """Pool casts."""
        if not isinstance(input, Integers):
            return self.form("max_pool2d", input, *args, **kwargs)
        pooled = self.call(aten.max_pool2d.default, self.floats(input), *args, **kwargs)
        return self.integers(pooled, input)


class CatInFloat(_InFloat):
    """A cat puts floats together."""

    def cat(self, tensors: Any, dim: int = 0) -> Integers:
        """Join casts."""
        right = self.form("cat", tensors, dim)
        floats = [self.call(aten.to.dtype, one, torch.float64) for one in right.node.args[0]]
        return self.integers(self.call(aten.cat.default, floats, dim), right)


class LinearWithDecoy(_InFloat):
    """A linear runs on floats, and beside it one on integers of which nothing is left."""

    def call(self, target: Any, *args: Any, **kwargs: Any) -> Node:
        """Add nought times the integer product."""
        plain = super().call
        if target is not aten.linear.default:
            return plain(target, *args, **kwargs)
        floats = plain(target, *(plain(aten.to.dtype, one, torch.float64) for one in args))
        decoy = plain(aten.mul.Tensor, plain(target, *args), 0)
        return plain(aten.add.Tensor, plain(aten.to.dtype, floats, torch.int64), decoy)


def _with_numbers(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Multiply with numbers of Python's."""
    rows, columns = x.reshape(-1, x.shape[-1]).tolist(), weight.tolist()
    products = [[sum(a * b for a, b in zip(row, column, strict=True)) for column in columns] for row in rows]
    return torch.tensor(products).reshape(*x.shape[:-1], len(columns))


class LinearInPython(Fault):
    """A linear is worked out with numbers of Python's."""

    codes = ("PQ016",)

    def call(self, target: Any, *args: Any, **kwargs: Any) -> Node:
        """Leave the tensors."""
        return super().call(_with_numbers if target is aten.linear.default else target, *args, **kwargs)


_LIBRARY = torch.library.Library("pt2e_ci_controls", "DEF")
_LIBRARY.define("linear(Tensor x, Tensor weight) -> Tensor")
_LIBRARY.impl(
    "linear",
    lambda x, weight: torch.nn.functional.linear(x.double(), weight.double()).to(torch.int64),
    "CompositeExplicitAutograd",
)


class LinearInCustomOperator(Fault):
    """A linear is an operator of the user's own, whose kernel computes in float."""

    codes = ("PQ012",)

    def call(self, target: Any, *args: Any, **kwargs: Any) -> Node:
        """Call it."""
        own = torch.ops.pt2e_ci_controls.linear.default
        return super().call(own if target is aten.linear.default else target, *args, **kwargs)


# What a program does beside its numbers.


class _Ending(Fault):
    """Does something to each output, once the program has it."""

    def __call__(self, qdq: GraphModule) -> GraphModule:
        """Put calls before the output."""
        program = super().__call__(qdq)
        output = next(node for node in program.graph.nodes if node.op == "output")
        given = next(node for node in program.graph.nodes if node.op == "placeholder")
        with program.graph.inserting_before(output):
            output.args = torch.fx.map_arg(output.args, lambda node: self.ending(program, node, given))
        program.recompile()
        return program

    def ending(self, program: GraphModule, output: Node, given: Node) -> Node:
        """Return what takes an output's place."""
        raise NotImplementedError


class OutputOfSixtyFourBits(_Ending):
    """Outputs are float64, where float32 is due."""

    codes = ("PQ029",)

    def ending(self, program: GraphModule, output: Node, given: Node) -> Node:
        """Cast."""
        return program.graph.call_function(aten.to.dtype, (output, torch.float64))


class InputWritten(_Ending):
    """A run doubles its input when it is done."""

    codes = ("PQ030",)

    def ending(self, program: GraphModule, output: Node, given: Node) -> Node:
        """Write in place."""
        program.graph.call_function(aten.add_.Tensor, (given, 1.0))
        return output


class StateOfPythons(_Ending):
    """A module counts its runs in a number, and is another one after a thousand."""

    codes = ("PQ028",)

    def ending(self, program: GraphModule, output: Node, given: Node) -> Node:
        """Call the module."""
        program.add_submodule("counting", _Counting())
        return program.graph.call_module("counting", (output,))


class _Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.runs = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.runs += 1
        return x if self.runs < 1000 else x + 1


class OutputOverwritten(_Ending):
    """All runs give one tensor, which the next one overwrites."""

    codes = ("PQ028", "PQ033")

    def ending(self, program: GraphModule, output: Node, given: Node) -> Node:
        """Copy into it."""
        return program.graph.call_function(_Overwriting(), (output,))


class _Overwriting:
    __name__ = "overwriting"
    __module__ = "pt2e_ci.controls.cheats"

    def __init__(self) -> None:
        self.kept: torch.Tensor | None = None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if self.kept is None or self.kept.shape != x.shape:
            self.kept = x.clone()
        return self.kept.copy_(x)


class _Calling(_Ending):
    """Puts a function of Python's behind each output."""

    function: Callable[..., torch.Tensor]

    def ending(self, program: GraphModule, output: Node, given: Node) -> Node:
        """Call it on the output and the program's first input."""
        return program.graph.call_function(type(self).function, (output, given))


def _remembered(output: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    """Be right where the input's sum is one that cases are known to have."""
    return output if float(given.abs().sum()) < 2.0**40 else output + 1


class InputsRemembered(_Calling):
    """A program looks whether it knows the input, and gives something else where it does not."""

    codes = ("PQ016",)
    function = staticmethod(_remembered)


def _branching(output: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    """Look at a truth value."""
    return output if bool((given.abs() < 2.0**40).all()) else output + 1


class BranchOnData(_Calling):
    """A program takes another way where one value is large."""

    codes = ("PQ020",)
    function = staticmethod(_branching)


def _graded(output: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    """Be another function with gradients on."""
    return output + 1 if torch.is_grad_enabled() else output


class OtherWithGradients(_Calling):
    """A program gives other numbers with gradients on, as a user calls it."""

    codes = ("PQ034",)
    function = staticmethod(_graded)


def _laid_out(output: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    """Be another function of inputs that lie otherwise."""
    return output if given.is_contiguous() else output + 1


class OtherForOtherLayouts(_Calling):
    """A program gives other numbers for an input that lies otherwise in memory."""

    codes = ("PQ034",)
    function = staticmethod(_laid_out)


class _Own(torch.Tensor):
    """A tensor with a class of its own."""


def _of_own_class(output: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    return output.as_subclass(_Own)


def _in_the_middle(output: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    """Read the input where its memory begins."""
    shift = torch.as_strided(given, given.shape, given.stride(), 0) - given
    return output + shift.abs().sum()


class OtherInTheMiddleOfMemory(_Calling):
    """A program reads its input from the beginning of its memory, wherever the input begins."""

    codes = ("PQ034",)
    function = staticmethod(_in_the_middle)


def _by_channels(output: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    """Be another function of images whose channels come last."""
    return output + 1 if given.dim() == 4 and given.stride(1) == 1 and given.shape[1] > 1 else output


class OtherForChannelsLast(_Calling):
    """A program gives other numbers for images whose channels come last in memory."""

    codes = ("PQ034",)
    function = staticmethod(_by_channels)


class StateInAList(_Ending):
    """A module counts its runs in a list."""

    codes = ("PQ028",)

    def ending(self, program: GraphModule, output: Node, given: Node) -> Node:
        """Call the module."""
        program.add_submodule("counting", _Listing())
        return program.graph.call_module("counting", (output,))


class _Listing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.runs: list[int] = [0]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.runs[0] += 1
        return x if self.runs[0] < 1000 else x + 1


class MulOfComplexNumbers(_InFloat):
    """Operands are multiplied as complex numbers."""

    def mul(self, input: Integers, other: Integers) -> Integers:
        """Multiply casts."""
        right = self.form("mul", input, other)
        numbers = [self.call(aten.to.dtype, one, torch.complex128) for one in right.node.args]
        product = self.call(aten.mul.Tensor, *numbers)
        return self.integers(self.call(aten.real.default, product), right)


class OutputOfOwnClass(_Calling):
    """Outputs are of a class whose operations are its own."""

    codes = ("PQ029",)
    function = staticmethod(_of_own_class)


class CodeOfAnother(Fault):
    """What is called is the Q/DQ program's code, under the graph of an integer one."""

    codes = ("PQ035",)

    def __call__(self, qdq: GraphModule) -> GraphModule:
        """Give the code away."""
        program = super().__call__(qdq)
        other = GraphModule(qdq, qdq.graph)
        program.forward = other.forward
        return program


class HookedProgram(Fault):
    """A hook changes what the program gives."""

    codes = ("PQ035",)

    def __call__(self, qdq: GraphModule) -> GraphModule:
        """Hang one on."""
        program = super().__call__(qdq)
        program.register_forward_hook(lambda module, given, output: torch.utils._pytree.tree_map(_plus_nothing, output))
        return program


def _plus_nothing(value: Any) -> Any:
    return torch.round(value * 2**20) / 2**20 if isinstance(value, torch.Tensor) else value
