"""How a program behaves when it is called as a user calls it: what it changes, what it hides, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._pytree import tree_flatten, tree_map

from pt2e_ci.errors import one_line
from pt2e_ci.operators.names import name_of, named_arguments
from pt2e_ci.program.trace import copied, is_same, put_back, run, tensors_in, trace_call

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch.fx import GraphModule

    from pt2e_ci.program.trace import Trace, Value

# Float operators beside the integers may give other last bits with another layout, of this share of the largest value.
_LAST_BITS = 2.0**-16


@dataclass
class Conduct:
    """What was found of a program beside its numbers.

    Attributes:
        is_deterministic: whether the same inputs gave the same when they were run again.
        is_replayed: whether the line of one input set gives, on each, what the program gives when it is called.
        is_its_graph: whether what is called is the program's graph.
        branches, hidden: what looks at values, and what comes from out of sight.
        keeps: what of its own a run changes.
        writes_inputs: whether it writes into what it is given.
        overwrites: whether a run changes what the one before gave.
        differs: what else, that should not, changes its numbers.

    """

    is_deterministic: bool = True
    is_replayed: bool = True
    is_its_graph: bool = True
    branches: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    keeps: list[str] = field(default_factory=list)
    writes_inputs: bool = False
    overwrites: bool = False
    differs: list[str] = field(default_factory=list)


class Caller:
    """Calls a program, and puts back what a call changes of the program's own.

    Attributes:
        conduct: what was found so far.

    """

    def __init__(self, called: Trace, interpreted: Trace) -> None:
        self.conduct = Conduct(branches=[*called.branches], hidden=[*called.exits])
        self.conduct.is_its_graph = called.line == interpreted.line
        self._trace, self._program = called, called.program
        self._first: tuple[Sequence[Any], list[Any]] | None = None
        self._kept: tuple[list[Any], list[Any]] | None = None

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        """Call the program without gradients, and return the leaves of what it gives."""
        given = tree_map(copied, [*inputs])
        with torch.no_grad():
            outputs = self._call(given)
        if not alike(tensors_in(given), tensors_in(inputs)):
            self.conduct.writes_inputs = True
        if self._kept and not alike(*self._kept):
            self.conduct.overwrites = True
        copies = [copied(leaf) for leaf in outputs]
        self._kept = (outputs, copies)
        self._first = self._first or (inputs, copies)
        return copies

    def hold_replay(self, outputs: Sequence[Any], values: Mapping[Value, torch.Tensor]) -> None:
        """Hold what a call gave against the replay of the trace on the same inputs."""
        names = self._trace.output_values
        again = [leaf if name is None else values[name] for name, leaf in zip(names, outputs, strict=True)]
        self.conduct.is_replayed = self.conduct.is_replayed and alike(again, outputs)

    def hold_trace(self, inputs: Sequence[Any]) -> None:
        """Hold the line, and the constants that are met on it, against those of other inputs."""
        other = trace_call(self._program, inputs)
        if other.line != self._trace.line:
            self.conduct.branches.append("other operators run")
        elif not alike([*other.constants.values()], [*self._trace.constants.values()]):
            self.conduct.hidden.append("a value that varies with the input")

    def finish(self, expected: Trace, *, is_integer: bool) -> Conduct:
        """Call the program once more on the first inputs: again, with gradients, and laid out otherwise.

        Other layouts are tried where the Q/DQ program takes them, too, and where no float operator was found that may
        sum in another order.
        """
        if self._first is None:
            return self.conduct
        inputs, outputs = self._first
        before = _numbers(self._program)
        self.conduct.is_deterministic = all(alike(self(inputs), outputs) for _ in range(2))
        self.conduct.keeps += [name for name, value in _numbers(self._program).items() if before[name] != value]
        with torch.enable_grad():
            self._hold("gradients on", tree_map(_with_gradient, [*inputs]), outputs)
        with torch.inference_mode():
            self._hold("inference mode on", tree_map(copied, [*inputs]), outputs)
        for lay_out in (_transposed, _offset, _channels_last) if is_integer else ():
            given = tree_map(lay_out, [*inputs])
            if _runs(expected, given):
                with torch.no_grad():
                    self._hold("inputs in another memory layout", given, outputs)
        return self.conduct

    def _hold(self, how: str, given: Sequence[Any], expected: Sequence[Any]) -> None:
        try:
            is_near = _near(self._call(given), expected)
        except Exception as error:  # which it does not raise otherwise
            how, is_near = f"{how} ({one_line(error)})", False
        if not is_near and how not in self.conduct.differs:
            self.conduct.differs.append(how)

    def _call(self, given: Sequence[Any]) -> list[Any]:
        before = [(tensor, copied(tensor)) for tensor in self._trace.state]
        try:
            leaves = tree_flatten(self._program(*given))[0]
            outputs = [leaf.detach() if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
            return [copied(leaf) for leaf in outputs] if before else outputs
        finally:
            put_back(before)


def in_training(program: GraphModule) -> list[str]:
    """Name the operators of a program that work as in training: a batch norm of the batch, a dropout that drops."""
    found = []
    for node in program.graph.nodes:
        named = named_arguments(node)
        if named.get("training") is True or (named.get("train") is True and named.get("p") != 0):
            found.append(name_of(node.target))
    return list(dict.fromkeys(found))


def alike(some: Sequence[Any], others: Sequence[Any]) -> bool:
    """Tell whether values are the same, bit for bit, NaN for NaN."""
    return len(some) == len(others) and all(
        a.dtype == b.dtype and is_same(a, b)
        if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor)
        else type(a) is type(b) and a == b
        for a, b in zip(some, others, strict=True)
    )


def _near(some: Sequence[Any], others: Sequence[Any]) -> bool:
    """Tell whether values are the same but for the last bits of floats."""
    if alike(some, others):
        return True
    for a, b in zip(some, others, strict=True):
        if not isinstance(a, torch.Tensor) or not a.is_floating_point() or a.dtype != b.dtype or a.shape != b.shape:
            if not alike([a], [b]):
                return False
            continue
        largest = float(b.double().nan_to_num(0, 0, 0).abs().max()) if b.numel() else 0.0
        if not torch.allclose(a.double(), b.double(), rtol=0, atol=largest * _LAST_BITS, equal_nan=True):
            return False
    return True


def _runs(program: Trace, inputs: Sequence[Any]) -> bool:
    try:
        run(program.program, inputs, (), program)
    except Exception:  # a view that wants its input contiguous, such as the model itself has
        return False
    return True


def _transposed(value: Any) -> Any:
    if not isinstance(value, torch.Tensor) or value.dim() < 2:
        return copied(value)
    return value.detach().transpose(-1, -2).contiguous().transpose(-1, -2)


def _with_gradient(value: Any) -> Any:
    is_float = isinstance(value, torch.Tensor) and value.is_floating_point()
    return copied(value).requires_grad_() if is_float else copied(value)


def _offset(value: Any) -> Any:
    """Return a tensor that begins in the middle of its memory."""
    if not isinstance(value, torch.Tensor):
        return value
    flat = value.detach().flatten()
    return torch.cat([flat.flip(0), flat])[value.numel() :].reshape(value.shape)


def _channels_last(value: Any) -> Any:
    is_image = isinstance(value, torch.Tensor) and value.dim() == 4
    return value.detach().clone(memory_format=torch.channels_last) if is_image else copied(value)


def _numbers(program: GraphModule) -> dict[str, Any]:
    """Return the numbers and words of Python's that the program's modules hold."""
    return {
        f"{path}.{key}".removeprefix("."): repr(value)
        for path, module in program.named_modules()
        for key, value in vars(module).items()
        if all(isinstance(leaf, int | float | str) for leaf in tree_flatten(value)[0])
    }
