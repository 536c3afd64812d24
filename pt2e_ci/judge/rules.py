"""The verdict: rules, each with a name and a reason. They measure nothing.

A program's outcome is the worst that a rule finds; of findings as bad, the first. What is judged of its numbers is each
operator on its own operands: what adds up along a chain is reported, and is no operator's fault.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pt2e_ci.exact.schemes import Rounding
from pt2e_ci.operators.row import Kind as OperatorKind
from pt2e_ci.operators.rows import family_of
from pt2e_ci.record.criteria import Claim, Criteria
from pt2e_ci.record.outcomes import Outcome
from pt2e_ci.record.reasons import outcome_of, reason
from pt2e_ci.record.records import Kind, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from torch.fx import Node

    from pt2e_ci.judge.conduct import Conduct
    from pt2e_ci.judge.exactness import Exactness, Measured
    from pt2e_ci.judge.numerics import Comparison
    from pt2e_ci.judge.observation import Observation, Observed
    from pt2e_ci.program.float_model import FloatModel
    from pt2e_ci.program.segments import QuantizedOperator, Reading
    from pt2e_ci.record.records import Evidence, Reason

_Known = TypeVar("_Known")

# So near to a boundary, in LSB, a value is on it.
_TIE = 1e-9


@dataclass(frozen=True)
class Part:
    """What is measured by itself: an operator, or the quantization of what the program is given.

    Attributes:
        name: as in ``conv2d``, or ``input``.
        node: the node that calls it.

    """

    name: str
    node: str


@dataclass(frozen=True)
class Findings:
    """What was measured of a pair of programs.

    Attributes:
        criteria: what they are held to.
        reading: the Q/DQ program.
        observation: what its operators compute with in the reference program.
        comparison: how far the two are apart, end to end.
        exactness: how far each operator is from the exact result, on samples.
        evidence: what was decided of each for all its inputs, by its quantize node, or its own.
        conduct: how the reference program behaves.
        model: the float model that it was made of; None where that is not known.
        training: the operators that work as in training.
        qdq_left: the quantize and dequantize operators of both programs.
        dtypes: what outputs have another dtype.

    """

    criteria: Criteria
    reading: Reading
    observation: Observation
    comparison: Comparison
    exactness: Exactness
    evidence: Mapping[Node, Evidence]
    conduct: Conduct
    model: FloatModel | None
    training: list[str]
    qdq_left: tuple[list[str], list[str]]
    dtypes: list[str]

    @property
    def quantized(self) -> list[QuantizedOperator]:
        """The operators that the quantizer marked, with all that they take."""
        return [one.operator for one in self.observation.operators]

    @property
    def is_blind(self) -> bool:
        """Whether what was measured inside of the reference program need not be what runs."""
        return bool(self.conduct.branches or self.conduct.hidden) or not self.conduct.is_replayed

    def measured(self) -> Iterator[tuple[Part, Measured]]:
        """Yield everything that was measured on its own operands."""
        return self._parts(
            {node: one for some in (self.exactness.levels, self.exactness.results) for node, one in some.items()}
        )

    def decided(self) -> Iterator[tuple[Part, Evidence]]:
        """Yield what was decided of each operator."""
        return self._parts(self.evidence)

    def refuted(self) -> Iterator[tuple[Part, Evidence]]:
        """Yield what an input of the program shows to be wrong."""
        return ((part, evidence) for part, evidence in self.decided() if evidence.is_shown)

    def _parts(self, known: Mapping[Node, _Known]) -> Iterator[tuple[Part, _Known]]:
        """Yield what is known of each operator, by its quantize node, or its own."""
        for one in self.reading.levels:
            if one.quantize.node in known:
                own = one.before.node if one.before else one.quantize.node
                yield Part(one.name, own.name), known[one.quantize.node]
        for operator in self.reading.operators:
            if operator.node in known:
                yield Part(operator.name, operator.node.name), known[operator.node]


def evaluates(found: Findings) -> Reason | None:
    """Require a model that works as in use: in training a program is no function of its input."""
    names = ", ".join(found.training)
    return reason("PQ040", names=names) if names else None


def compared(found: Findings) -> Reason | None:
    """Require something to have been compared, with the exact result too."""
    if not found.comparison.compared:
        return reason("PQ041")
    if found.exactness.unavailable or not found.exactness.reference.compared:
        return reason("PQ042", why=found.exactness.unavailable or "every input has a NaN")
    return None


def faithful(found: Findings) -> Reason | None:
    """Require what was prepared to be the float model, and every range to be finite."""
    lost = found.model.lost if found.model else None
    if lost:
        return reason("PQ003", what=lost)
    names = [*found.model.unbounded] if found.model else []
    names += [one.quantize.node.name for one in found.reading.levels if not one.quantize.grid.is_finite]
    return reason("PQ004", names=", ".join(names)) if names else None


def deterministic(found: Findings) -> Reason | None:
    """Require the same inputs to give the same."""
    return None if found.conduct.is_deterministic else reason("PQ027")


def stateless(found: Findings) -> Reason | None:
    """Require a run to leave the program as it was, where the Q/DQ program does."""
    keeps = found.conduct.keeps
    return reason("PQ028", what=", ".join(keeps)) if keeps else None


def leaves_inputs(found: Findings) -> Reason | None:
    """Require a run to leave what it is given, and what the run before gave."""
    if found.conduct.writes_inputs:
        return reason("PQ030")
    return reason("PQ033") if found.conduct.overwrites else None


def same_dtypes(found: Findings) -> Reason | None:
    """Require outputs to have the dtypes of the Q/DQ program's."""
    return reason("PQ029", what="; ".join(found.dtypes)) if found.dtypes else None


def same_everywhere(found: Findings) -> Reason | None:
    """Require the same numbers with gradients, and of inputs that lie otherwise in memory."""
    how = found.conduct.differs
    return reason("PQ034", how=" and ".join(how)) if how else None


def its_own_graph(found: Findings) -> Reason | None:
    """Require what is called to be the program's graph: its code may be another one's."""
    return None if found.conduct.is_its_graph else reason("PQ035")


def in_sight(found: Findings) -> Reason | None:
    """Require all inputs to take the same way, so that what was seen is what runs."""
    conduct = found.conduct
    if conduct.branches:
        return reason("PQ020", what=conduct.branches[0])
    if conduct.hidden or not conduct.is_replayed:
        return reason("PQ016", what=(*conduct.hidden, "its trace gives other numbers")[0])
    return None


def annotated(found: Findings) -> Reason | None:
    """Require the quantizer to have annotated something."""
    if found.quantized:
        return None
    names = ", ".join(dict.fromkeys(one.name for one in found.reading.unquantized))
    return reason("PQ001", left=f"; left in float: {names}" if names else "")


def annotated_as_meant(found: Findings) -> Reason | None:
    """Require the quantizer to have annotated what the case is about."""
    wanted = found.criteria.annotated
    # Whether an activation is part of the operator before it or annotated by itself differs from torch to torch.
    names = [one.name for one in found.quantized if not _is_activation(one) or one.name in wanted]
    if not wanted or not found.quantized or _families(names) == _families(wanted):
        return None
    listed, meant = (", ".join(sorted(some)) for some in (names, wanted))
    return reason("PQ002", found=listed, wanted=meant)


def found_again(found: Findings) -> Reason | None:
    """Require every operator's levels, or its result, to be a tensor of the reference program."""
    if found.is_blind:
        return None
    missing = [one for one in found.observation.operators if one.verdict is Verdict.MISSING]
    if Claim.COMPUTE in found.criteria.claims and missing and not found.exactness.unavailable:
        return reason("PQ017", _called(missing), names=_names(found, missing), why=missing[0].why)
    alignment = found.exactness.alignment
    given = [one for one in found.reading.levels if one.before is None]
    if alignment and any(one.quantize.node not in alignment.levels for one in given):
        return reason("PQ017", names="input", why="no tensor has its levels")
    return None


def near_the_exact_result(found: Findings) -> Reason | None:
    """Require each operator to be near to what its own operands should have given, within the criteria."""
    allowed = found.criteria.lsb
    if found.is_blind:
        return None
    beyond = {
        part: evidence.displacement
        for part, evidence in found.refuted()
        if evidence.displacement > allowed + found.criteria.allowed(part.name)  # next to the boundary after next
    }
    beyond |= {
        part: measured.reference.max_lsb
        for part, measured in found.measured()
        if measured.reference.max_lsb > allowed and part not in beyond
    }
    if beyond:
        part, far = next(iter(beyond.items()))
        return reason("PQ023", (one.node for one in beyond), name=part.name, found=far, allowed=allowed)
    for index, (output, node) in enumerate(zip(found.exactness.outputs, found.reading.outputs, strict=True)):
        if found.reading.output_grid(node) is None and output.reference.max_lsb > allowed:
            return reason("PQ024", index=index, found=output.reference.max_lsb, allowed=allowed)
    return reason("PQ022", count=found.exactness.unequal) if found.exactness.unequal else None


def on_the_grid(found: Findings) -> Reason | None:
    """Require outputs that are on a grid to be what their levels stand for."""
    if found.is_blind:
        return None
    for index, (output, node) in enumerate(zip(found.exactness.outputs, found.reading.outputs, strict=True)):
        if found.reading.output_grid(node) is not None and output.reference.max_lsb:
            return reason("PQ026", index=index, found=output.reference.max_lsb)
    return None


def exact(found: Findings) -> Reason | None:
    """Require each operator to give the exact result, but where that is next to a rounding boundary."""
    if found.is_blind:
        return None
    refuted = dict(found.refuted())
    if refuted:
        part, evidence = max(refuted.items(), key=lambda item: item[1].displacement)
        names = _listed(refuted)
        what = evidence.deviation if names == part.name else f"{part.name}: {evidence.deviation}"
        return reason("PQ031", _nodes(refuted), names=names, what=what)
    off = {part: measured for part, measured in found.measured() if measured.wrong.off}
    if off:
        count = sum(measured.wrong.off for measured in off.values())
        total = sum(measured.reference.compared for measured in off.values())
        what = f"{count} of {total} values are not the exact ones, and not next to a rounding boundary"
        return reason("PQ031", _nodes(off), names=_listed(off), what=what)
    beside = [index for index, output in enumerate(found.exactness.outputs) if output.wrong.off]
    return reason("PQ032", index=beside[0]) if beside else None


def ties_as_declared(found: Findings) -> Reason | None:
    """Require ties to go where the scheme has them, where there are enough to tell."""
    wanted = found.exactness.rounding
    others: dict[Part, tuple[str, str]] = {}
    for part, evidence in found.decided():
        if evidence.wrong and evidence.displacement < _TIE and evidence.schemes and wanted not in evidence.schemes:
            others[part] = " or ".join(evidence.schemes), wanted.value
    declared = {Rounding.HALF_EVEN: "to even", Rounding.HALF_AWAY: "away from zero"}.get(wanted)
    for part, measured in () if found.is_blind else found.measured():
        scheme = measured.wrong.scheme
        if declared and scheme is not None and scheme != declared:
            others.setdefault(part, (scheme, declared))
    if not others:
        return None
    went, due = next(iter(others.values()))
    return reason("PQ036", _nodes(others), names=_listed(others), found=went, wanted=due)


def known_well_enough(found: Findings) -> Reason | None:
    """Require what is said of each operator to be known as well as is asked for."""
    wanted = Kind(found.criteria.evidence)
    decided = {part: evidence for part, evidence in found.decided() if evidence.kind is not Kind.REFUTED}
    weak = {part: evidence for part, evidence in decided.items() if evidence.kind.rank > wanted.rank}
    if wanted is not Kind.TESTED and not decided:
        return reason("PQ037", names="nothing", kind=wanted.value, why="its operators were not decided")
    if not weak:
        return None
    part, evidence = next(iter(weak.items()))
    why = f"{part.name} is {evidence.kind}: {evidence.why}"
    return reason("PQ037", _nodes(weak), names=_listed(weak), kind=wanted.value, why=why)


def computes_in_integers(found: Findings) -> Reason | None:
    """Require every operator that the quantizer annotated to compute on integers, in sight."""
    if Claim.COMPUTE not in found.criteria.claims:
        return None
    operators = found.observation.operators
    left = [one for one in operators if one.verdict is Verdict.FLOAT]
    if left:
        numbers = {"left": len(left), "annotated": len(operators)}
        return reason("PQ012", _called(left), names=_names(found, left), why=left[0].why, **numbers)
    unseen = [one for one in operators if one.verdict is Verdict.UNSEEN]
    if unseen:
        return reason("PQ018", _called(unseen), names=_names(found, unseen), why=unseen[0].why)
    return None


def requantizes_as_meant(found: Findings) -> Reason | None:
    """Require accumulators to become levels in the arithmetic that is asked for."""
    wanted = found.criteria.arithmetic
    others = [one for one in found.observation.operators if one.arithmetic and one.arithmetic not in wanted]
    if not wanted or not others:
        return None
    names = ", ".join(dict.fromkeys(one.operator.name for one in others))
    return reason("PQ019", _called(others), names=names, found=others[0].arithmetic, wanted=" or ".join(wanted))


def spells_out_qdq(found: Findings) -> Reason | None:
    """Require every quantize and dequantize operator to be spelled out in plain operators."""
    if Claim.QDQ not in found.criteria.claims:
        return None
    before, after = found.qdq_left
    if not before:
        return reason("PQ015")
    if after:
        return reason("PQ014", names=", ".join(sorted(set(after))))
    return None


FIRST: tuple[Callable[[Findings], Reason | None], ...] = (evaluates, annotated, annotated_as_meant)
"""Without these the others say nothing: the first that finds something decides."""

RULES: tuple[Callable[[Findings], Reason | None], ...] = (
    *(compared, faithful),
    *(deterministic, stateless, leaves_inputs, same_dtypes, same_everywhere, its_own_graph),
    *(found_again, near_the_exact_result, on_the_grid),
    *(computes_in_integers, in_sight, requantizes_as_meant, spells_out_qdq),
    *(exact, ties_as_declared, known_well_enough),
)
"""The rules. The worst finding decides, and of findings as bad the first."""


def decide(found: Findings) -> tuple[Outcome, Reason | None, list[Reason]]:
    """Return the outcome of what was measured, its reason, and the notes: what else there is to know.

    A pass may have a reason, too: what it does not say.
    """
    void, findings = ([one for rule in rules if (one := rule(found)) is not None] for rules in (FIRST, RULES))
    why = void[0] if void else max(findings, key=lambda one: _outcome(one).rank, default=None)
    outcome = _outcome(why) if why else Outcome.PASS
    if outcome in found.criteria.allow:
        outcome = Outcome.PASS
    notes = [note for note in (*void, *findings) if note is not why]
    said = [*_says_less(found)]
    if why is None and said:
        why = said.pop(0)
    return outcome, why, notes + said + [*_counted(found)]


def _outcome(finding: Reason) -> Outcome:
    return outcome_of(finding) or Outcome.PASS


def _counted(found: Findings) -> Iterator[Reason]:
    """Yield how many operators were proved, and what is known of the others."""
    kinds = Counter(evidence.kind for _, evidence in found.decided())
    if found.quantized and kinds:
        others = [f"{kinds[kind]} {kind.value}" for kind in Kind if kind is not Kind.PROVED and kinds[kind]]
        rest = f"; {', '.join(others)}" if others else ""
        yield reason("PQ055", proved=kinds[Kind.PROVED], total=kinds.total(), rest=rest)


def _says_less(found: Findings) -> Iterator[Reason]:
    """Yield what a reader must know of a result, however it is."""
    still = [one for one in found.reading.levels if len(found.exactness.levels[one.quantize.node].used) == 1]
    if still and found.quantized:
        names = ", ".join(dict.fromkeys(one.name for one in still))
        grid = still[0].quantize.grid
        yield reason("PQ052", names=names, available=grid.high - grid.low + 1)
    if found.quantized and (left := found.reading.unquantized):
        names = ", ".join(f"{name} {count}" for name, count in Counter(one.name for one in left).items())
        total = len(found.quantized) + len(left)
        yield reason("PQ053", quantized=len(found.quantized), total=total, names=names)
    if approximated := found.exactness.approximated:
        yield reason("PQ051", names=", ".join(approximated))
    if found.model is None:
        yield reason("PQ054")


def _names(found: Findings, some: Iterable[Observed]) -> str:
    """Name operators: where others of a name are not meant, with the line of source."""
    meant = list(some)
    counts, all_of = (Counter(one.operator.name for one in ones) for ones in (meant, found.observation.operators))
    listed = [
        one.operator.name if counts[one.operator.name] == all_of[one.operator.name] else _placed(one.operator)
        for one in meant
    ]
    return ", ".join(sorted(dict.fromkeys(listed)))


def _placed(operator: QuantizedOperator) -> str:
    places = [place for place in (operator.module, operator.source) if place]
    return f"{operator.name} ({', '.join(places) or operator.node.name})"


def _called(some: Iterable[Observed]) -> list[str]:
    return [one.operator.node.name for one in some]


def _nodes(parts: Iterable[Part]) -> list[str]:
    return [part.node for part in parts]


def _listed(parts: Iterable[Part]) -> str:
    return ", ".join(dict.fromkeys(part.name for part in parts))


def _is_activation(operator: QuantizedOperator) -> bool:
    return operator.row is not None and operator.row.kind is OperatorKind.ACTIVATION


def _families(names: Iterable[str]) -> Counter[str]:
    return Counter(family_of(name) for name in names)
