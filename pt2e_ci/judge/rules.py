"""The verdict: rules that are tried in order, each with a name and a reason. They measure nothing.

Numbers weigh more than structure: a program that computes something else is wrong however it does it. Before both,
the quantizer must have annotated what the case is about.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pt2e_ci.judge.structure import still_float
from pt2e_ci.operators.rows import family_of
from pt2e_ci.record.criteria import Claim, Criteria
from pt2e_ci.record.outcomes import Outcome
from pt2e_ci.record.reasons import reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pt2e_ci.judge.exactness import Exactness
    from pt2e_ci.judge.numerics import Comparison
    from pt2e_ci.judge.structure import Structure
    from pt2e_ci.record.records import Reason


@dataclass(frozen=True)
class Findings:
    """What was measured of a pair of programs.

    Attributes:
        criteria: what they are held to.
        qdq, reference: what they compute with.
        comparison: how far they are apart.
        exactness: how far they are from the exact result.
        deterministic: whether the same inputs gave the same when they were run again.
        keeps_state: whether the reference program changes its own tensors, and the Q/DQ program does not.
        one_way: whether the line of one input set is that of another, and gives what the program gives.

    """

    criteria: Criteria
    qdq: Structure
    reference: Structure
    comparison: Comparison
    exactness: Exactness
    deterministic: bool
    keeps_state: bool
    one_way: bool


Finding = tuple[Outcome, "Reason"] | None


def deterministic(found: Findings) -> Finding:
    """Require the same inputs to give the same."""
    return None if found.deterministic else (Outcome.MISMATCH, reason("PQ027"))


def stateless(found: Findings) -> Finding:
    """Require a run to leave the program as it was."""
    return (Outcome.MISMATCH, reason("PQ028")) if found.keeps_state else None


def annotated(found: Findings) -> Finding:
    """Require the quantizer to have annotated something."""
    return None if found.qdq.annotated else (Outcome.UNQUANTIZED, reason("PQ001"))


def annotated_as_meant(found: Findings) -> Finding:
    """Require the quantizer to have annotated what the case is about."""
    wanted = found.criteria.annotated
    # Whether an activation is part of the operator before it or annotated by itself differs from torch to torch.
    names = [
        operator.name
        for operator in found.qdq.operators
        if operator.quantized and (not operator.is_activation or operator.name in wanted)
    ]
    if not wanted or _families(names) == _families(wanted):
        return None
    listed, meant = (", ".join(sorted(some)) for some in (names, wanted))
    return Outcome.UNQUANTIZED, reason("PQ002", found=listed, wanted=meant)


def near_the_qdq_program(found: Findings) -> Finding:
    """Require the two programs to agree within the criteria."""
    numbers, criteria = found.comparison, found.criteria
    if numbers.max_lsb > criteria.lsb:
        return Outcome.MISMATCH, reason("PQ021", found=numbers.max_lsb, allowed=criteria.lsb)
    if numbers.max_absolute > criteria.absolute:
        return Outcome.MISMATCH, reason("PQ022", found=numbers.max_absolute, allowed=criteria.absolute)
    return None


def near_the_exact_result(found: Findings) -> Finding:
    """Require the reference program to agree with real-number arithmetic within the criteria.

    What was worked out in float64 is no exact result, to call a program right or wrong by.
    """
    numbers, criteria = found.exactness.reference, found.criteria
    if found.exactness.approximated:
        return None
    if numbers.max_lsb > criteria.lsb:
        return Outcome.MISMATCH, reason("PQ023", found=numbers.max_lsb, allowed=criteria.lsb)
    if numbers.max_absolute > criteria.absolute:
        return Outcome.MISMATCH, reason("PQ024", found=numbers.max_absolute, allowed=criteria.absolute)
    if numbers.differing > criteria.differing:
        return Outcome.MISMATCH, reason("PQ025", found=numbers.differing, allowed=criteria.differing)
    return None


def on_the_grid(found: Findings) -> Finding:
    """Require outputs that are on a grid to be on its levels."""
    count = found.comparison.off_grid
    return (Outcome.MISMATCH, reason("PQ026", count=count)) if count else None


def compared(found: Findings) -> Finding:
    """Require something to have been compared, with the exact result too."""
    if not found.comparison.compared:
        return Outcome.ERROR, reason("PQ041")
    if found.exactness.unavailable or not found.exactness.reference.compared:
        return Outcome.ERROR, reason("PQ042", why=found.exactness.unavailable or "every input has a NaN")
    return None


def in_sight(found: Findings) -> Finding:
    """Require all inputs to take the same way, so that what was seen is what runs."""
    return None if found.one_way else (Outcome.FLOAT, reason("PQ016"))


def computes_in_integers(found: Findings) -> Finding:
    """Require every compute operator that the quantizer annotated to take integer tensors."""
    if Claim.COMPUTE not in found.criteria.claims:
        return None
    if left := still_float(found.qdq, found.reference):
        in_float = {operator.name for operator in found.reference.operators if not operator.integer}
        names = ", ".join(sorted(name for name in in_float if family_of(name) in left))
        total = found.qdq.annotated.total()
        return Outcome.FLOAT, reason("PQ012", names=names, left=left.total(), annotated=total)
    wanted = sum(operator.quantized and not operator.is_activation for operator in found.qdq.operators)
    if found.reference.integer < wanted:
        return Outcome.FLOAT, reason("PQ013", found=found.reference.integer, wanted=wanted)
    return None


def spells_out_qdq(found: Findings) -> Finding:
    """Require every quantize and dequantize operator to be spelled out in plain operators."""
    if Claim.QDQ not in found.criteria.claims:
        return None
    if not found.qdq.qdq:
        return Outcome.FLOAT, reason("PQ015")
    if found.reference.qdq:
        return Outcome.FLOAT, reason("PQ014", names=", ".join(sorted(set(found.reference.qdq))))
    return None


RULES: tuple[Callable[[Findings], Finding], ...] = (
    *(deterministic, stateless, annotated, annotated_as_meant),
    *(near_the_qdq_program, near_the_exact_result, on_the_grid, compared),
    *(computes_in_integers, in_sight, spells_out_qdq),
)
"""The rules, in the order in which they are tried: the first that finds something decides."""


def decide(found: Findings) -> tuple[Outcome, Reason | None]:
    """Return the outcome of what was measured, and the reason; a pass may have one, too."""
    for rule in RULES:
        if (finding := rule(found)) is not None:
            return finding
    if names := found.exactness.approximated:
        return Outcome.PASS, reason("PQ051", names=", ".join(names))
    return Outcome.PASS, None


def _families(names: Iterable[str]) -> Counter[str]:
    return Counter(family_of(name) for name in names)
