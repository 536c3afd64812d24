"""Integer coverage: of the compute operators in a program, the share that takes integer tensors.

It is read off the program itself, by the dtypes that its nodes were seen to take, and so it holds for any
representation. A scale that is multiplied in, a zero point that is subtracted, a rounding or a clamp are not
compute: they join a tensor that depends on the inputs with one that does not. An addition or multiplication
of two tensors that both depend on the inputs is.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pt2e_ci.operators import Kind, call_of, kind_of, name_of, operands_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch.fx import GraphModule, Node

    from pt2e_ci.checks.recording import Recording, TensorInfo


@dataclass(frozen=True)
class Operator:
    """One compute operator of a program.

    Attributes:
        name: the operator, as in ``conv2d``.
        node: the node that calls it.
        integer: whether every operand is an integer tensor.
        quantized: whether every operand comes out of a dequantize node, as a quantizer's annotation makes it.

    """

    name: str
    node: str
    integer: bool
    quantized: bool


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
    def coverage(self) -> float | None:
        """The share of compute operators that take integers; None where there are none."""
        return self.integer / len(self.operators) if self.operators else None


def read_structure(program: GraphModule, recording: Recording) -> Structure:
    """Read the compute operators off a program and a recording of one run of it."""
    depends = dict.fromkeys((node for node in program.graph.nodes if node.op == "placeholder"), True)
    return _Reader(program, recording, depends).read()


def still_float(qdq: Structure, reference: Structure) -> Counter[str]:
    """Count the operators that the quantizer annotated and the reference program still computes in float."""
    left_alone = Counter(operator.name for operator in qdq.operators if not operator.quantized)
    return reference.in_float - left_alone


class _Reader:
    """One pass over a graph in execution order.

    `depends` tells of each node whether its value depends on the graph's inputs, other than through scales
    and zero points found from them.
    """

    def __init__(self, program: GraphModule, recording: Recording, depends: Mapping[Node, bool]) -> None:
        self._program = program
        self._recording = recording
        self._depends = dict(depends)
        self._dequantized: set[Node] = set()
        self._compute: set[Node] = set()
        self._live = _live_nodes(program)

    def read(self) -> Structure:
        operators: list[Operator] = []
        qdq: list[str] = []
        for node in self._program.graph.nodes:
            if node.op not in ("call_function", "call_method", "call_module") or node not in self._live:
                continue
            if node in self._recording.inside:
                inner = self._read_inside(node)
                operators += inner.operators
                qdq += inner.qdq
                continue
            target, args = call_of(node)
            kind = Kind.OTHER if node.op == "call_module" else kind_of(target)
            operands = [operand for operand in operands_of(target, args) if self._tensor(operand)]
            # The arguments given by keyword, and a contraction's bias, still carry dependence on the inputs.
            self._depends[node] = kind is not Kind.QPARAMS and any(
                self._depends.get(source, False) for source in node.all_input_nodes
            )
            if kind is Kind.QDQ:
                qdq.append(name_of(target))
                if name_of(target).startswith("dequantize"):
                    self._dequantized.add(node)
            elif kind is Kind.NEUTRAL and operands and operands[0] in self._dequantized:
                self._dequantized.add(node)
            if self._is_compute(node, kind, operands):
                self._compute.add(node)
                operators.append(self._operator(node, target, kind, operands))
        return Structure(tuple(operators), tuple(qdq))

    def _is_compute(self, node: Node, kind: Kind, operands: list[Node]) -> bool:
        if not self._depends[node]:
            return False
        if kind in (Kind.CONTRACTION, Kind.POOLING):
            return any(self._depends.get(operand, False) for operand in operands)
        if kind in (Kind.ELEMENTWISE, Kind.JOIN):
            return sum(self._depends.get(operand, False) for operand in operands) >= 2
        if kind is Kind.ACTIVATION:
            source = operands[0] if operands else None
            fused = source in self._compute and source is not None and len(source.users) == 1
            if fused:
                self._compute.add(node)
            return not fused
        return kind is Kind.OTHER

    def _operator(self, node: Node, target: Any, kind: Kind, operands: list[Node]) -> Operator:
        if kind is not Kind.CONTRACTION:  # its weight counts too, though it depends on no input
            operands = [operand for operand in operands if self._depends.get(operand, False)]
        infos = [info for operand in operands if (info := self._tensor(operand)) is not None]
        return Operator(
            name=name_of(target),
            node=node.name,
            integer=bool(infos) and all(info.is_integer for info in infos),
            quantized=bool(operands) and all(operand in self._dequantized for operand in operands),
        )

    def _tensor(self, node: Node) -> TensorInfo | None:
        info = self._recording.tensors.get(node)
        if isinstance(info, list):
            return next((item for item in info if item is not None), None)
        return info

    def _read_inside(self, node: Node) -> Structure:
        """Read the graph of what an opaque node did, under the node's name."""
        program, recording = self._recording.inside[node]
        sources = [source for source in node.all_input_nodes if self._tensor(source)]
        placeholders = [inner for inner in program.graph.nodes if inner.op == "placeholder"]
        depends = {
            inner: self._depends.get(source, False) for inner, source in zip(placeholders, sources, strict=False)
        }
        self._depends[node] = any(depends.values())
        inner = _Reader(program, recording, depends).read()
        operators = tuple(
            Operator(operator.name, node.name, operator.integer, operator.quantized) for operator in inner.operators
        )
        if operators:
            self._compute.add(node)
        return Structure(operators, inner.qdq)


def _live_nodes(program: GraphModule) -> set[Node]:
    """Return the nodes that the program's outputs depend on: what is computed for nothing does not count."""
    live: set[Node] = set()
    waiting = [node for node in program.graph.nodes if node.op == "output"]
    while waiting:
        node = waiting.pop()
        if node not in live:
            live.add(node)
            waiting += node.all_input_nodes
    return live
