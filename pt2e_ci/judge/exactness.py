"""How far the two programs are from the truth, end to end and operator by operator."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from msgspec import structs

from pt2e_ci.errors import one_line
from pt2e_ci.exact.schemes import Rounding
from pt2e_ci.judge.alignment import align, integer_nodes
from pt2e_ci.judge.numerics import Comparison
from pt2e_ci.program.oracle import Exact, Sample, run_exactly
from pt2e_ci.program.segments import module_of, source_of
from pt2e_ci.program.trace import tensors_in
from pt2e_ci.record import records

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch.fx import Node

    from pt2e_ci.program.segments import Levels, QuantizedOperator, Reading
    from pt2e_ci.program.trace import Run, Trace


@dataclass
class _Operator:
    """What was measured of the operator before one quantize node.

    `own` is against what it should have made of the operands that it had, `through` against the exact program.
    """

    levels: Levels
    qdq_own: Comparison = field(default_factory=Comparison)
    qdq_through: Comparison = field(default_factory=Comparison)
    reference_own: Comparison = field(default_factory=Comparison)
    reference_through: Comparison = field(default_factory=Comparison)

    @property
    def name(self) -> str:
        """Name the operator and its quantize node."""
        return f"{self.levels.name} ({self.levels.quantize.node.name})"


class Exactness:
    """Collects the differences of a Q/DQ program and a reference program from the exact result.

    Attributes:
        reference: of the reference program's outputs, end to end.
        qdq: of the Q/DQ program's outputs, end to end.
        approximated: operators that have no exact form.
        unavailable: why there is no exact result, if there is none.
        samples: what both the Q/DQ program and exact arithmetic gave, for engines to be held against.

    """

    def __init__(self, reading: Reading, reference: Trace, rounding: Rounding = Rounding.HALF_EVEN) -> None:
        self.reference, self.qdq = Comparison(), Comparison()
        self.approximated: list[str] = []
        self.unavailable: str | None = None
        self.samples: list[Sample] = []
        self._reading = reading
        self._rounding = rounding
        self._operators = {one.quantize.node: _Operator(one) for one in reading.levels}
        self._candidates = integer_nodes(reference)
        self._aligned: dict[Node, Node] | None = None

    @property
    def keep_of_qdq(self) -> list[Node]:
        """The nodes of the Q/DQ program whose values `add` needs."""
        return [*self._operators, *self._reading.runtime]

    @property
    def keep_of_reference(self) -> list[Node]:
        """The nodes of the reference program whose values `add` needs."""
        return self._candidates if self._aligned is None else [*self._aligned.values()]

    def add(
        self, inputs: Sequence[Any], qdq: Run, reference: Run, steps: Sequence[float | torch.Tensor | None]
    ) -> None:
        """Take in what both programs gave on one input set. What real arithmetic makes of NaN is not defined."""
        if self.unavailable or any(_has_nan(tensor) for tensor in tensors_in(inputs)):
            return
        try:
            exact = self._run(inputs, qdq, None)
        except Exception as error:  # a program that is no plain Q/DQ program, as another quantizer may give
            self.unavailable = one_line(error)
            return
        self.approximated = [*dict.fromkeys((*self.approximated, *exact.approximated))]
        for a, b, truth, step in zip(reference.outputs, qdq.outputs, exact.outputs, steps, strict=True):
            if isinstance(b, torch.Tensor):
                self.reference.add(a, truth, step)
                self.qdq.add(b, truth, step)
        if self._aligned is None:
            levels = [operator.levels for operator in self._operators.values()]
            self._aligned = align(exact.levels, levels, self._candidates, reference.kept)
        qdq_levels = {node: qdq.kept[node] for node in self._operators}
        reference_levels = {node: reference.kept[other] for node, other in self._aligned.items()}
        own = self._compare(inputs, qdq, exact, qdq_levels, "qdq")
        self._compare(inputs, qdq, exact, reference_levels, "reference")
        self.samples.append(Sample([*inputs], qdq_levels, own.levels, exact.outputs, [*steps]))

    def record(self) -> records.Exact:
        """Return what the report holds of the exact result."""
        return records.Exact(
            rounding=self._rounding,
            unavailable=self.unavailable,
            approximated=self.approximated,
            reference_starts_at=self._start("reference", self.reference),
            qdq_starts_at=self._start("qdq", self.qdq),
        )

    def operators(self) -> list[records.Operator]:
        """Return an entry for each quantized operator, in order, whether it ends in levels or stays float."""
        quantized = {one.node: one for one in self._reading.operators}
        found: list[tuple[int, records.Operator]] = []
        order = {node: position for position, node in enumerate(self._reading.items)}
        for node, operator in self._operators.items():
            before = operator.levels.before
            own = before.node if before else node
            entry = _entry(operator.levels.name, own, node.name, quantized.get(own))
            measured = {"qdq": operator.qdq_own.distance(), "reference": operator.reference_own.distance()}
            found.append((order[node], structs.replace(entry, **measured)))
        ended = {operator.levels.before.node for operator in self._operators.values() if operator.levels.before}
        for one in self._reading.operators:
            if one.node not in ended:
                found.append((order[one.node], _entry(one.name, one.node, None, one)))
        return [entry for _, entry in sorted(found, key=lambda pair: pair[0])]

    def _run(self, inputs: Sequence[Any], qdq: Run, operands: Mapping[Node, Any] | None) -> Exact:
        runtime = {node: qdq.kept[node] for node in self._reading.runtime}
        return run_exactly(self._reading, inputs, runtime=runtime, operands=operands, rounding=self._rounding)

    def _compare(self, inputs: Sequence[Any], qdq: Run, exact: Exact, levels: Mapping[Node, Any], which: str) -> Exact:
        """Compare levels with the exact ones, and with what their own operands should have given; return the latter."""
        same = all(bool((exact.levels[node] == found).all()) for node, found in levels.items())
        # The same levels everywhere are the same operands, too.
        own = exact if same else self._run(inputs, qdq, levels)
        for node, found in levels.items():
            operator = self._operators[node]
            getattr(operator, f"{which}_own").add(found.double(), own.levels[node].double(), 1.0)
            getattr(operator, f"{which}_through").add(found.double(), exact.levels[node].double(), 1.0)
        return own

    def _start(self, which: str, whole: Comparison) -> str | None:
        """Name the first operator whose levels differ from the exact program's."""
        unseen = None
        for operator in self._operators.values():
            through: Comparison = getattr(operator, f"{which}_through")
            if through.max_lsb:
                return operator.name
            if not through.compared:
                unseen = unseen or operator.name
        return unseen if whole.max_lsb else None


def _entry(name: str, node: Node, levels: str | None, operator: QuantizedOperator | None) -> records.Operator:
    """Return an operator's record without what is measured."""
    is_input = operator is None and name == "input"
    return records.Operator(
        name=name,
        node=node.name,
        levels=levels,
        module=None if is_input else module_of(node),
        source=None if is_input else source_of(node),
        # What the program is given is quantized because the quantizer says so of what takes it.
        annotated=operator.annotated if operator else is_input,
    )


def _has_nan(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() and bool(tensor.isnan().any())
