"""What each quantized operator computes with in the reference program, read off what ran."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from pt2e_ci.judge.provenance import Provenance, Segment, provenance
from pt2e_ci.record.records import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pt2e_ci.judge.alignment import Alignment
    from pt2e_ci.program.segments import QuantizedOperator, Reading
    from pt2e_ci.program.trace import Trace, Value

_INTEGER = "integer"


@dataclass(frozen=True)
class Observed:
    """What an operator computes with.

    Attributes:
        operator: the operator, which the quantizer marked.
        verdict: the answer.
        why: what computes in float, cannot be seen, or is missing.
        arithmetic: what its accumulator becomes levels in.

    """

    operator: QuantizedOperator
    verdict: Verdict
    why: str | None = None
    arithmetic: str | None = None


@dataclass
class Observation:
    """What the quantized operators compute with.

    Attributes:
        operators: those that the quantizer marked, with all that they take.
        marks: ``integer`` or ``float`` for each place in the line that computes.

    """

    operators: list[Observed] = field(default_factory=list)
    marks: dict[int, str] = field(default_factory=dict)

    @property
    def left(self) -> list[Observed]:
        """Those that are not integer."""
        return [one for one in self.operators if one.verdict is not Verdict.INTEGER]

    @property
    def names_left(self) -> Counter[str]:
        """Those that are not integer, counted by name."""
        return Counter(one.operator.name for one in self.left)


class Observer:
    """Follows each marked operator's elements from the levels of its operands to its result.

    Args:
        reading: the Q/DQ program.
        trace: the reference program.
        values: all its tensors of a run.
        alignment: which of them are which; None where there is no exact result to tell them by.

    """

    def __init__(
        self, reading: Reading, trace: Trace, values: Mapping[Value, torch.Tensor], alignment: Alignment | None
    ) -> None:
        self._reading, self._trace, self._values, self._alignment = reading, trace, values, alignment
        self._given = dict(zip(reading.inputs, trace.inputs, strict=False))
        self._found = Observation()

    def observe(self) -> Observation:
        """Return what each operator computes with that the quantizer marked, with all that it takes."""
        marked = [one for one in self._reading.operators if one.annotated and not one.in_float]
        self._found.operators += [self._observe(one) for one in marked]
        return self._found

    def _observe(self, operator: QuantizedOperator) -> Observed:
        if self._alignment is None:
            return Observed(operator, Verdict.MISSING, "there is no exact result to find it by")
        trace, places = self._trace, self._alignment.levels | self._given
        sources = self._reading.sources(operator)
        cuts = [places.get(node) for node in sources]
        target = self._alignment.results.get(operator.node)
        if target is None and operator.output is not None:
            target = self._alignment.levels.get(operator.output.node)
        if target is None or None in cuts:
            what = "an operand's levels" if None in cuts else "its levels" if operator.output else "its result"
            if trace.exits or trace.branches:
                return Observed(operator, Verdict.UNSEEN, f"{(trace.exits + trace.branches)[0]} hands values to Python")
            return Observed(operator, Verdict.MISSING, f"no tensor has {what}")
        levels = [value for node in sources for value in self._alignment.alike(node, target)]
        segment = Segment.between(trace, dict.fromkeys([*(one for one in cuts if one is not None), *levels]), target)
        constants, is_dynamic = _constants(operator, trace), bool(self._reading.runtime)
        seen = provenance(segment, self._values, operator.name, constants, is_dynamic=is_dynamic)
        self._found.marks |= dict.fromkeys(seen.integer_steps, "integer") | dict.fromkeys(seen.float_steps, "float")
        return _verdict(operator, seen)


def _verdict(operator: QuantizedOperator, seen: Provenance) -> Observed:
    if seen.unseen:
        return Observed(operator, Verdict.UNSEEN, f"{seen.unseen[0]} cannot be looked into")
    if seen.in_float:
        return Observed(operator, Verdict.FLOAT, seen.in_float[0])
    if seen.around:
        return Observed(operator, Verdict.UNSEEN, "it reads the program's input around the levels of its operands")
    narrowest = min(seen.dtypes, key=lambda dtype: (torch.finfo(dtype).bits, str(dtype)), default=None)
    arithmetic = _INTEGER if narrowest is None else str(narrowest).removeprefix("torch.")
    return Observed(operator, Verdict.INTEGER, arithmetic=arithmetic)


def _constants(operator: QuantizedOperator, trace: Trace) -> list[Value]:
    """Return the program's constants that are the levels of an operator's constant operands.

    What has no schema names no operands: then all constants of eight bits are.
    """
    if not operator.operands:
        return [value for value in trace.constants if trace.info[value].dtype in (torch.int8, torch.uint8)]
    wanted = [one.levels.to(torch.int64) for _, one in operator.operands if one.levels is not None]
    return [
        value
        for value, tensor in trace.constants.items()
        if trace.info[value].is_integer
        and any(
            one.shape == tensor.shape and torch.equal(one.to(torch.int64), tensor.to(torch.int64)) for one in wanted
        )
    ]
