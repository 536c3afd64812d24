"""Integer coverage: of the compute operators in a program, the share that takes integer tensors.

It is read off the program itself, by the dtypes that its nodes were seen to take, and so it holds for any
representation. A scale that is multiplied in, a zero point that is subtracted, a rounding or a clamp are not
compute: they join a tensor that depends on the inputs with one that does not. An addition or multiplication
of two tensors that both depend on the inputs is.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from pt2e_ci.checks.dataflow import changed_by, live_nodes
from pt2e_ci.operators import (
    Kind,
    call_of,
    family_of,
    is_opaque,
    kind_of,
    name_of,
    operands_of,
    tensors_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch.fx import GraphModule, Node

    from pt2e_ci.checks.recording import Recording, TensorInfo


@dataclass(frozen=True)
class Operator:
    """One compute operator of a program.

    Attributes:
        name: the operator, as in ``conv2d``.
        node: the node that calls it.
        integer: whether every operand is an integer tensor.
        quantized: whether a quantizer annotated it: every operand comes out of a dequantize node, and the result
            goes to a quantize node (that of a contraction may stay in float, as in dynamic quantization).
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
        operators: the compute operators that the outputs depend on, in the order of the graph.
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


def read_structure(program: GraphModule, recording: Recording) -> Structure:
    """Read the compute operators off a program and a recording of one run of it."""
    inputs = [node for node in program.graph.nodes if node.op == "placeholder"]
    return _Reader(program, recording, inputs).read()


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


class _Reader:
    """One pass over a graph in execution order.

    Attributes:
        depends: the nodes whose values depend on the graph's inputs.
        dequantized: the nodes whose values come out of a dequantize node.

    """

    def __init__(
        self, program: GraphModule, recording: Recording, depends: Iterable[Node], dequantized: Iterable[Node] = ()
    ) -> None:
        self._program = program
        self._recording = recording
        self._depends = set(depends)
        self._dequantized = set(dequantized)
        # Ranges of floats and what is worked out from them alone: scales and zero points, as a rule.
        self._statistics: set[Node] = set()
        # What depends on the inputs, or on a quantized constant of more than one element.
        self._carries = set(depends)
        self._compute: set[Node] = set()
        self._live = live_nodes(program)

    def read(self) -> Structure:
        operators: list[Operator] = []
        qdq: list[str] = []
        for node in self._program.graph.nodes:
            if node.op == "get_attr" and self._is_quantized_constant(node):
                self._carries.add(node)
            if node.op not in ("call_function", "call_method", "call_module") or node not in self._live:
                continue
            if node in self._recording.inside:
                inner = self._read_inside(node)
                operators += inner.operators
                qdq += inner.qdq
            else:
                operator = self._read_node(node)
                operators += [operator] if operator else []
                target = call_of(node)[0]
                qdq += [name_of(target)] if node.op != "call_module" and kind_of(target) is Kind.QDQ else []
            for changed in changed_by(node):
                self._depends |= {changed} if node in self._depends else set()
                self._carries |= {changed} if node in self._carries else set()
        return Structure(tuple(operators), tuple(qdq))

    def _read_node(self, node: Node) -> Operator | None:
        target, args, kwargs = call_of(node)
        kind = Kind.OTHER if node.op == "call_module" else kind_of(target)
        operands = [operand for operand in operands_of(target, args, kwargs) if self._tensor(operand)]
        sources = tensors_of(args, kwargs)
        if kind is Kind.STATISTIC and (len(operands) > 1 or any(self._is_integer(node) for node in operands)):
            # The larger of two tensors is elementwise; the largest of integers is a pooling.
            kind = Kind.ELEMENTWISE if len(operands) > 1 else Kind.POOLING
        if kind is not Kind.CONSTANT:
            self._depends |= {node} if any(source in self._depends for source in sources) else set()
            self._carries |= {node} if any(source in self._carries for source in sources) else set()
        if kind is Kind.STATISTIC or (
            kind in (Kind.ELEMENTWISE, Kind.NEUTRAL)
            and any(operand in self._statistics for operand in operands)
            and all(operand in self._statistics or operand not in self._depends for operand in operands)
        ):
            self._statistics.add(node)
        if kind is Kind.MASK:
            self._carries.discard(node)
        if (kind is Kind.QDQ and name_of(target).startswith("dequantize")) or (
            kind is Kind.NEUTRAL and operands and operands[0] in self._dequantized
        ):
            self._dequantized.add(node)
        if not self._is_compute(node, kind, operands):
            return None
        self._compute.add(node)
        return self._operator(node, target, kind, operands)

    def _is_compute(self, node: Node, kind: Kind, operands: list[Node]) -> bool:
        if node not in self._depends:
            return False
        if kind in (Kind.CONTRACTION, Kind.POOLING):
            return not operands or any(operand in self._depends for operand in operands)
        if kind in (Kind.ELEMENTWISE, Kind.JOIN):
            data = [operand for operand in operands if operand in self._carries - self._statistics]
            return len(data) >= 2 or any(isinstance(self._recording.tensors[operand], list) for operand in data)
        if kind is Kind.ACTIVATION:
            source = operands[0] if operands else None
            fused = source in self._compute and source is not None and len(source.users) == 1
            if fused:
                self._compute.add(node)
            return not fused
        return kind is Kind.OTHER

    def _operator(self, node: Node, target: Any, kind: Kind, operands: list[Node]) -> Operator:
        if kind is not Kind.CONTRACTION:  # its weight counts too, though it depends on no input
            operands = [operand for operand in operands if operand in self._carries - self._statistics]
        seen = node.op != "call_module" and not (is_opaque(node, self._program) and node not in self._recording.inside)
        name = name_of(target)
        return Operator(
            name=name if seen else f"{name} (cannot be looked into)",
            node=node.name,
            # An operator whose operands are not found, or whose inside is not seen, is not known to be integer.
            integer=seen and bool(operands) and all(self._is_integer(operand) for operand in operands),
            quantized=bool(operands)
            and all(operand in self._dequantized for operand in operands)
            and (kind is Kind.CONTRACTION or _is_quantized_again(node)),
            is_activation=kind is Kind.ACTIVATION,
        )

    def _is_quantized_constant(self, node: Node) -> bool:
        info = self._tensor(node)
        return info is not None and info.dtype in (torch.int8, torch.uint8) and math.prod(info.shape) > 1

    def _is_integer(self, node: Node) -> bool:
        info = self._tensor(node)
        return info is not None and info.is_integer

    def _tensor(self, node: Node) -> TensorInfo | None:
        info = self._recording.tensors.get(node)
        if isinstance(info, list):
            return next((item for item in info if item is not None), None)
        return info

    def _read_inside(self, node: Node) -> Structure:
        """Read the graph of what an opaque node did, under the node's name."""
        inside = self._recording.inside[node]
        placeholders = [inner for inner in inside.program.graph.nodes if inner.op == "placeholder"]
        pairs = list(zip(placeholders, inside.sources, strict=True))
        depends = [inner for inner, source in pairs if source in self._depends]
        dequantized = [inner for inner, source in pairs if source in self._dequantized]
        if depends:
            self._depends.add(node)
            self._carries.add(node)
        inner = _Reader(inside.program, inside.recording, depends, dequantized).read()
        if inner.operators:
            self._compute.add(node)
        return Structure(tuple(replace(operator, node=node.name) for operator in inner.operators), inner.qdq)


def _is_quantized_again(node: Node) -> bool:
    """Tell whether what a node gives goes to a quantize node, through what may be fused into the operator."""
    for user in node.users:
        if user.op not in ("call_function", "call_method"):
            continue
        target = call_of(user)[0]
        if kind_of(target) is Kind.QDQ and name_of(target).startswith("quantize"):
            return True
        if kind_of(target) in (Kind.NEUTRAL, Kind.ACTIVATION) and _is_quantized_again(user):
            return True
    return False
