"""Integer coverage: of the compute operators that ran, the share that takes integer tensors.

It is read off a trace, by the dtypes that operators really took, and so it holds for any representation. A scale that
is multiplied in, a zero point that is subtracted, a rounding or a clamp are not compute: they join a tensor that
depends on the inputs with one that does not. An addition or multiplication of two tensors that both depend on the
inputs is.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from pt2e_ci.operators.names import call_of, name_of
from pt2e_ci.operators.row import Kind
from pt2e_ci.operators.rows import family_of, is_elementwise, is_opaque, kind_of, operands_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from torch.fx import Node

    from pt2e_ci.program.trace import Call, Step, Trace, Value


@dataclass(frozen=True)
class Operator:
    """One compute operator of a program.

    Attributes:
        name: the operator, as in ``conv2d``.
        node: the node that calls it.
        integer: whether every operand is an integer tensor.
        quantized: whether a quantizer annotated it.
        is_activation: whether it may be no more than a clamp, where it is integer.

    """

    name: str
    node: str
    integer: bool
    quantized: bool
    is_activation: bool = False


@dataclass(frozen=True)
class Structure:
    """What a program computes with.

    Attributes:
        operators: the compute operators that the outputs depend on, in the order in which they ran.
        qdq: the names of the quantize and dequantize operators that are left.

    """

    operators: tuple[Operator, ...]
    qdq: tuple[str, ...]

    @property
    def integer(self) -> int:
        """How many compute operators take integers."""
        return sum(operator.integer for operator in self.operators)

    @property
    def in_float(self) -> Counter[str]:
        """The compute operators that take floats, counted by name."""
        return Counter(operator.name for operator in self.operators if not operator.integer)

    @property
    def annotated(self) -> Counter[str]:
        """The compute operators that a quantizer annotated, counted by name."""
        return Counter(operator.name for operator in self.operators if operator.quantized)

    @property
    def coverage(self) -> float | None:
        """The share of compute operators that take integers; None where there are none."""
        return self.integer / len(self.operators) if self.operators else None


def read_structure(trace: Trace, annotated: Collection[Node] = ()) -> Structure:
    """Read the compute operators off a trace; `annotated` are the nodes that a quantizer marked."""
    return _Reader(trace, annotated).read()


def still_float(qdq: Structure, reference: Structure) -> Counter[str]:
    """Count the operators that the quantizer annotated and the reference program still computes in float.

    By family, for a representation may spell a linear as addmm, or a convolution as another one.
    """
    left_alone = Counter(family_of(operator.name) for operator in qdq.operators if not operator.quantized)
    in_float = Counter(family_of(operator.name) for operator in reference.operators if not operator.integer)
    return in_float - left_alone


def left_float(qdq: Structure, reference: Structure) -> tuple[Operator, ...]:
    """Return the annotated operators of the Q/DQ program whose family the reference program still computes in float."""
    left = still_float(qdq, reference)
    return tuple(operator for operator in qdq.operators if operator.quantized and left[family_of(operator.name)])


@dataclass(frozen=True)
class _Unit:
    """One operator as the program has it: a node, or a step of what a node that is opaque did."""

    node: Node
    target: Any
    kind: Kind
    takes: tuple[Value, ...]
    gives: tuple[Value, ...]
    seen: bool


class _Reader:
    """One pass over a trace."""

    def __init__(self, trace: Trace, annotated: Collection[Node]) -> None:
        self._trace = trace
        self._annotated = annotated
        self._units = [unit for call in trace.calls for unit in self._units_of(call)]
        self._uses = Counter(value for unit in self._units for value in dict.fromkeys(unit.takes))
        self._uses.update(value for value in trace.output_values if value is not None)
        # Ranges of floats and what is worked out from them alone: scales and zero points, as a rule.
        self._statistics: set[Value] = set()
        # What depends on the inputs, or on a quantized constant.
        self._carries = {*trace.inputs, *(value for value in trace.constants if self._is_quantized(value))}
        self._compute: set[Value] = set()

    def read(self) -> Structure:
        operators: list[Operator] = []
        qdq: list[str] = []
        for unit in self._units:
            operands = operands_of(unit.target, unit.takes)
            kind = self._kind(unit, operands)
            self._follow(unit, kind, operands)
            if not any(value in self._trace.live for value in unit.gives):
                continue
            if kind is Kind.QDQ:
                qdq.append(name_of(unit.target))
            if self._is_compute(unit, kind, operands):
                operators.append(self._operator(unit, kind, operands))
        return Structure(tuple(operators), tuple(qdq))

    def _units_of(self, call: Call) -> Iterator[_Unit]:
        node = call.node
        if node.op in ("placeholder", "get_attr"):
            return
        if call.is_open:
            for step in call.steps:
                if _is_an_operator(step):
                    gives = tuple(value for value in step.gives if value not in step.takes)
                    yield _Unit(node, step.target, kind_of(step.target), tuple(step.takes), gives, seen=True)
            return
        opaque = is_opaque(node, self._trace.program)
        target = node.target if node.op == "call_module" else call_of(node)[0]
        kind = Kind.OTHER if node.op == "call_module" or opaque else kind_of(target)
        changed = (after for step in call.steps for _, after in step.written)
        gives = tuple(value for value in dict.fromkeys((*call.results, *changed)) if value not in call.takes)
        yield _Unit(node, target, kind, call.takes, gives, seen=not opaque)

    def _kind(self, unit: _Unit, operands: list[Value]) -> Kind:
        """Tell what an operator does on these operands."""
        if unit.kind is not Kind.STATISTIC:
            return unit.kind
        if len(operands) > 1:
            return Kind.ELEMENTWISE  # the larger of two tensors
        return Kind.POOLING if any(self._is_integer(value) for value in operands) else Kind.STATISTIC

    def _follow(self, unit: _Unit, kind: Kind, operands: list[Value]) -> None:
        """Note what an operator's results carry."""
        if kind not in (Kind.CONSTANT, Kind.MASK) and any(value in self._carries for value in unit.takes):
            self._carries.update(unit.gives)
        depending = [value for value in operands if value in self._trace.depends]
        if kind is Kind.STATISTIC or (
            kind in (Kind.ELEMENTWISE, Kind.NEUTRAL)
            and depending
            and all(value in self._statistics for value in depending)
        ):
            self._statistics.update(unit.gives)

    def _is_compute(self, unit: _Unit, kind: Kind, operands: list[Value]) -> bool:
        if not any(value in self._trace.depends for value in unit.gives):
            return False
        found = kind is Kind.OTHER
        if kind in (Kind.CONTRACTION, Kind.POOLING):
            found = not operands or any(value in self._trace.depends for value in operands)
        elif kind in (Kind.ELEMENTWISE, Kind.JOIN) or (kind is Kind.NEUTRAL and is_elementwise(name_of(unit.target))):
            found = len(self._data(operands)) >= 2 or unit.node in self._annotated
        elif kind is Kind.ACTIVATION:
            fused = bool(operands) and operands[0] in self._compute and self._uses[operands[0]] == 1
            found = not fused
            self._compute.update(unit.gives if fused else ())
        self._compute.update(unit.gives if found else ())
        return found

    def _operator(self, unit: _Unit, kind: Kind, operands: list[Value]) -> Operator:
        if kind is not Kind.CONTRACTION:  # its weight counts too, though it depends on no input
            operands = self._data(operands)
        name = name_of(unit.target)
        return Operator(
            name=name if unit.seen else f"{name} (cannot be looked into)",
            node=unit.node.name,
            # An operator whose operands are not found, or whose inside is not seen, is not known to be integer.
            integer=unit.seen and bool(operands) and all(self._is_integer(value) for value in operands),
            quantized=unit.node in self._annotated,
            is_activation=kind is Kind.ACTIVATION,
        )

    def _data(self, operands: list[Value]) -> list[Value]:
        return [value for value in operands if value in self._carries and value not in self._statistics]

    def _is_quantized(self, value: Value) -> bool:
        return self._trace.info[value].dtype in (torch.int8, torch.uint8)

    def _is_integer(self, value: Value) -> bool:
        return self._trace.info[value].is_integer


def _is_an_operator(step: Step) -> bool:
    """Tell whether a step is an operator, and not a higher-order one whose bodies are steps, too."""
    return not isinstance(step.target, torch._ops.HigherOrderOperator)
