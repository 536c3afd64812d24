"""A second look at what was proved, from the record alone: in fractions, one value at a time, by code of its own.

It works every boundary, and every pair, out again, puts in those that the record says are off, and must find the digest
of what the program gave. It holds outcomes against reasons and operators, and of an input that shows something wrong
the arithmetic of its one element. It needs neither torch nor the program, and so says nothing of the program's run.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from fractions import Fraction
from typing import TYPE_CHECKING

from pt2e_ci.exact.schemes import Rounding
from pt2e_ci.record.outcomes import Outcome
from pt2e_ci.record.reasons import outcome_of
from pt2e_ci.record.records import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pt2e_ci.record.records import Case, Evidence, Pairs, Rescale, Witness

_HALF = Fraction(1, 2)


def verify(case: Case) -> list[str]:
    """Return what is wrong with a case: with its outcome, and with the evidence of each operator.

    Nothing where all of it holds.
    """
    found = [
        f"{operator.name} ({operator.node}): {complaint}"
        for operator in case.operators
        if operator.evidence is not None
        for complaint in _readable(operator.evidence)
    ]
    return [*_outcome(case), *found]


def _readable(evidence: Evidence) -> list[str]:
    """Return what is wrong with a record of evidence, or that it cannot be read: a report may be anybody's."""
    try:
        return [*complaints(evidence)]
    except (ValueError, ZeroDivisionError, IndexError, KeyError) as error:
        return [f"its evidence makes no sense: {error}"]


def _outcome(case: Case) -> Iterator[str]:
    """Yield what of an outcome does not follow from the operators and the reason."""
    due = outcome_of(case.reason) if case.reason else None
    if due is not None and due is not case.outcome:
        yield f"its reason {case.reason.code if case.reason else ''} makes it {due}, and it is {case.outcome}"
    verdicts = [one.verdict for one in case.operators if one.verdict is not None]
    integer = verdicts.count(Verdict.INTEGER)
    if case.structure and (integer, len(verdicts) - integer) != (case.structure.integer, case.structure.in_float):
        yield f"{integer} of its {len(verdicts)} operators are integer, and it counts {case.structure.integer}"
    shown = [one.node for one in case.operators if one.evidence and one.evidence.witness and one.verdict]
    if case.outcome is Outcome.PASS and shown:
        yield f"it passes, and an input shows that {', '.join(shown)} is wrong"


def complaints(evidence: Evidence) -> Iterator[str]:
    """Yield what is wrong with a record of evidence."""
    if evidence.kind == "proved" and evidence.witness is not None:
        yield "it is proved, and an input shows that it is wrong"
    if evidence.low + evidence.high != evidence.wrong or evidence.wrong > evidence.values:
        yield f"{evidence.wrong} of {evidence.values} are wrong, {evidence.low} below and {evidence.high} above"
    named = [*(evidence.rescale.off if evidence.rescale else ()), *(one for some in evidence.pairs for one in some.off)]
    if named and not evidence.wrong:
        yield f"it names {len(named)} that are off, and says that none is wrong"
    if evidence.witness is not None:
        yield from _witnessed(evidence.witness, evidence.rescale)
    if evidence.rescale is not None:
        yield from _rescaled(evidence.rescale, evidence)
    for pairs in evidence.pairs:
        yield from _paired(pairs)


def _witnessed(witness: Witness, rescale: Rescale | None) -> Iterator[str]:
    """Yield what is wrong with the one element that an input shows: what is due for its accumulator is worked out."""
    if witness.got == witness.exact:
        yield "its input shows nothing: the level is the exact one"
    if rescale is None or not witness.program or witness.program[0][0] != "accumulator":
        return
    accumulator, scale, point = int(witness.program[0][1]), Fraction(rescale.scale), rescale.zero_point
    reals = [
        (Fraction(unit) * accumulator + Fraction(offset)) / scale
        for unit, offset in zip(rescale.units, rescale.offsets, strict=True)
    ]
    levels = {max(rescale.first, min(rescale.last, rounded(one, point, rescale.rounding) + point)) for one in reals}
    if witness.exact not in levels:
        yield f"an accumulator of {accumulator} is due to be another level than {witness.exact}"


def _rescaled(record: Rescale, evidence: Evidence) -> Iterator[str]:
    kinds = [*zip(record.units, record.offsets, record.least, record.most, strict=True)]
    if evidence.kind == "proved" and evidence.values != sum(most - least + 1 for *_, least, most in kinds):
        yield "it counts other accumulators than it names"
    off = {(kind, level): at for kind, level, at in record.off}
    scale, found = Fraction(record.scale), []
    for kind, (unit, offset, least, most) in enumerate(kinds):
        for level in range(record.first + 1, record.last + 1):
            begins = first_at(
                level - record.zero_point, record.zero_point, record.rounding, scale, Fraction(unit), Fraction(offset)
            )
            found.append(off.get((kind, level), max(least, min(most + 1, begins))))
    if _digest(found) != record.digest:
        yield "the boundaries are others than those that are due and those that are named"


def first_at(steps: int, point: int, rounding: Rounding, scale: Fraction, unit: Fraction, offset: Fraction) -> int:
    """Return the least whole number that ``unit * number + offset`` takes to `steps` of a scale, by a scheme."""
    if rounding is Rounding.TRUNCATE and steps <= 0:
        turn, is_in = Fraction(steps - 1), False
    elif rounding in (Rounding.TRUNCATE, Rounding.FLOOR):
        turn, is_in = Fraction(steps), True
    else:
        turn, is_in = steps - _HALF, _nearest(steps - _HALF, point, rounding) == steps
    at = (turn * scale - offset) / unit
    return math.ceil(at) if is_in or at.denominator != 1 else int(at) + 1


def _nearest(tie: Fraction, point: int, rounding: Rounding) -> int:
    """Return what becomes of a number that is half way between two others."""
    below = math.floor(tie)
    if rounding is Rounding.HALF_UP:
        return below + 1
    if rounding is Rounding.HALF_AWAY:
        return below + 1 if tie > 0 else below
    odd = below + (point if rounding is Rounding.HALF_EVEN_OF_LEVEL else 0)
    return below + odd % 2


def rounded(real: Fraction, point: int, rounding: Rounding) -> int:
    """Return a real number as a whole one, by a scheme."""
    if rounding is Rounding.FLOOR:
        return math.floor(real)
    if rounding is Rounding.TRUNCATE:
        return math.floor(real) if real > 0 else math.ceil(real)
    below = math.floor(real)
    rest = real - below
    if rest == _HALF:
        return _nearest(real, point, rounding)
    return below + (rest > _HALF)


def _paired(record: Pairs) -> Iterator[str]:
    scales = [Fraction(one) for one in record.scales]
    off = {tuple(one[:-1]): one[-1] for one in record.off}
    low, high = (None if one is None else Fraction(one) for one in record.bounds)
    found = []
    ranges = [range(low, high + 1) for low, high in zip(record.lows, record.highs, strict=True)]
    for levels in itertools.product(*ranges):
        operands = zip(levels, record.zero_points, scales, strict=True)
        real = _real(record.operator, [(level - point) * scale for level, point, scale in operands])
        real = real if low is None else max(real, low)
        real = real if high is None else min(real, high)
        level = rounded(real / Fraction(record.scale), record.zero_point, record.rounding) + record.zero_point
        found.append(off.get(levels, max(record.low, min(record.high, level))))
    if _digest(found) != record.digest:
        yield f"the levels of {record.operator} are others than those that are due and those that are named"


def _real(operator: str, numbers: list[Fraction]) -> Fraction:
    if operator == "same":
        return numbers[0]
    first, second = numbers
    return {"add": first + second, "sub": first - second, "mul": first * second}[operator]


def _digest(numbers: list[int]) -> str:
    return f"sha256:{hashlib.sha256(','.join(map(str, numbers)).encode()).hexdigest()}"
