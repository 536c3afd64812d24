"""What was decided of each operator, as the report holds it."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

from msgspec.structs import replace

from pt2e_ci.judge.deciding.decide import Decider
from pt2e_ci.judge.deciding.witness import Witnesses
from pt2e_ci.operators.row import Kind as OperatorKind
from pt2e_ci.record.records import Evidence, Kind, Pairs, Rescale

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    import torch
    from torch.fx import Node

    from pt2e_ci.exact.schemes import Rounding
    from pt2e_ci.judge.alignment import Alignment
    from pt2e_ci.judge.deciding.combinations import Combinations
    from pt2e_ci.judge.deciding.decide import Decision
    from pt2e_ci.judge.deciding.requantization import Requantization
    from pt2e_ci.judge.deciding.specification import Specification
    from pt2e_ci.program.segments import Reading
    from pt2e_ci.program.trace import Trace, Value
    from pt2e_ci.record.criteria import Criteria

_MOST_OFF = 4096
_CLAMPS = {"relu": (0, None), "relu6": (0, 6)}


def gather(
    reading: Reading,
    trace: Trace,
    values: Mapping[Value, torch.Tensor],
    alignment: Alignment,
    inputs: Sequence[Any],
    in_float: Mapping[Node, str],
    criteria: Criteria,
    rounding: Rounding,
) -> dict[Node, Evidence]:
    """Decide every operator; return what is known of each, by its quantize node, or its own where it has none.

    Args:
        reading: the Q/DQ program.
        trace: the reference program.
        values: all its tensors of a run.
        alignment: which of them are which.
        inputs: what that run was given.
        in_float: the operators that are not integer, and why.
        criteria: what it is held to.
        rounding: the scheme that is due.

    """
    witnesses = Witnesses(reading, trace, inputs)
    found: dict[Node, Evidence] = {}
    for one in reading.levels:
        decider = Decider(reading, trace, values, alignment, rounding, criteria.allowed(one.name))
        why = in_float.get(one.before.node) if one.before else None
        made = [_evidence(decision, witnesses, rounding) for decision in decider.levels(one, why)]
        if made:
            worst = max(made, key=lambda evidence: evidence.kind.rank)
            operands = [alignment.levels.get(node) for node in reading.levels_before(one.quantize.node)]
            is_sure = worst.is_shown or all(value is None or _varies(values[value]) for value in operands)
            found[one.quantize.node] = worst if is_sure or worst.kind is not Kind.REFUTED else _UNSURE
    ended = {one.before.node for one in reading.levels if one.before}
    for operator in reading.operators:
        if operator.node not in ended:
            decider = Decider(reading, trace, values, alignment, rounding, criteria.allowed(operator.name))
            result = decider.result(operator)
            if result is not None:
                found[operator.node] = _evidence(result, witnesses, rounding)
    return found


_UNSURE = Evidence(
    kind=Kind.TESTED, domain="samples", values=0, why="an operand has one level on all samples, as other tensors have"
)


def _varies(tensor: torch.Tensor) -> bool:
    return not tensor.numel() or bool(tensor.min() != tensor.max())


def _evidence(decision: Decision, witnesses: Witnesses, rounding: Rounding) -> Evidence:
    tally = decision.tally
    if tally is None:
        if decision.shown is not None:
            shown = decision.shown
            return Evidence(
                kind=Kind.REFUTED,
                domain="samples",
                values=1,
                wrong=1,
                low=int(shown.got < shown.due),
                high=int(shown.got > shown.due),
                displacement=shown.displacement,
                why=decision.why,
                proved=decision.proved,
                witness=witnesses.find(decision),
            )
        kind = Kind.PARTLY if decision.proved else Kind.TESTED
        why, proved = decision.why, decision.proved
        return Evidence(kind=kind, domain="samples", values=0, why=why, proved=proved, chance=decision.chance)
    is_wrong = tally.wrong > 0 and tally.excess > 0
    rescale = _rescale(decision.requantization, rounding) if decision.requantization else None
    evidence = Evidence(
        kind=Kind.REFUTED if is_wrong else Kind.PROVED,
        domain=decision.domain,
        values=tally.checked,
        wrong=tally.wrong,
        low=tally.low,
        high=tally.high,
        displacement=tally.displacement,
        schemes=[*decision.schemes],
        chance=decision.chance,
        rescale=rescale,
        pairs=_pairs(decision.combinations, rounding) if decision.combinations else [],
        witness=witnesses.find(decision) if is_wrong else None,
    )
    if decision.floats and not is_wrong and decision.floats[0].wraps_beyond:
        limit = decision.floats[0].limit
        why = f"of floats beyond {limit:.4g} the largest wrap around"
        return replace(evidence, kind=Kind.PARTLY, why=why, proved=f"floats up to {limit:.4g}")
    return evidence


def _rescale(found: Requantization, rounding: Rounding) -> Rescale | None:
    """Return what a plain verifier needs to decide boundaries again; None where there are too many that are off."""
    if found.boundaries is None:
        return None
    first, last = found.range
    exact = found.held(found.beginnings(rounding, first, last))
    off = (found.boundaries != exact).nonzero().tolist()
    if len(off) > _MOST_OFF:
        return None
    scale, point = found.asked.output
    return Rescale(
        units=[str(unit) for unit, _ in found.units],
        offsets=[str(offset) for _, offset in found.units],
        least=found.least.tolist(),
        most=found.most.tolist(),
        scale=str(scale),
        zero_point=point,
        first=first,
        last=last,
        rounding=rounding,
        off=[(row, first + 1 + column, int(found.boundaries[row, column])) for row, column in off],
        digest=digest(found.boundaries.reshape(-1).tolist()),
    )


def _pairs(found: Combinations, rounding: Rounding) -> list[Pairs]:
    """Return what a plain verifier needs to decide pairs again, for each kind of elements that it can."""
    asked = found.asked
    bounds = _bounds(asked)
    names = [one.name for one in asked.operations if one.kind is OperatorKind.ELEMENTWISE]
    if bounds is None or len(names) > 1 or any(one.grid.one is None for one in asked.activations) or asked.constants:
        return []
    scale, point = asked.output
    assert asked.grid is not None  # noqa: S101 - output refuses
    result = []
    for columns, got, due in found.decided:
        operands = [next(one for one in asked.activations if one.source is node) for node in columns]
        name = {1: "same", 2: names[0] if names else ""}.get(len(columns), "")
        is_same = name == "same" and not names
        off = (got != due).nonzero().flatten().tolist()
        if not (is_same or name in ("add", "sub", "mul")) or len(off) > _MOST_OFF or asked.has_options:
            continue
        flat = [*columns.values()]
        result.append(
            Pairs(
                operator=_operator(name),
                scales=[str(Fraction(one.grid.one[0])) for one in operands if one.grid.one],
                zero_points=[one.grid.one[1] for one in operands if one.grid.one],
                lows=[one.grid.low for one in operands],
                highs=[one.grid.high for one in operands],
                bounds=bounds,
                scale=str(scale),
                zero_point=point,
                low=asked.grid.low,
                high=asked.grid.high,
                rounding=rounding,
                off=[[*(int(one[at]) for one in flat), int(got[at])] for at in off],
                digest=digest(got.tolist()),
            )
        )
    return result


def _operator(name: str) -> Literal["add", "sub", "mul", "same"]:
    known: dict[str, Literal["add", "sub", "mul", "same"]] = {"add": "add", "sub": "sub", "mul": "mul"}
    return known.get(name, "same")


def _bounds(asked: Specification) -> tuple[str | None, str | None] | None:
    """Return what activations hold a result to; None where they do something else."""
    found: tuple[str | None, str | None] = (None, None)
    for one in asked.operations:
        if one.kind in (OperatorKind.ELEMENTWISE, OperatorKind.JOIN):
            continue
        if one.name in _CLAMPS:
            ends: tuple[Any, Any] = _CLAMPS[one.name]
        elif one.name == "hardtanh":
            ends = one.arguments.get("min_val", -1), one.arguments.get("max_val", 1)
        else:
            return None
        if found != (None, None):
            return None
        low, high = (None if end is None else str(Fraction(end)) for end in ends)
        found = low, high
    return found


def digest(numbers: Sequence[int]) -> str:
    """Return a digest of whole numbers."""
    return f"sha256:{hashlib.sha256(','.join(map(str, numbers)).encode()).hexdigest()}"
