"""Why a case ended as it did, in words, from its line of a report: for any representation, and without torch."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from typing import TYPE_CHECKING

from pt2e_ci.record.reasons import REASONS
from pt2e_ci.record.records import Kind, Verdict
from pt2e_ci.views.words import difference, label

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pt2e_ci.record.records import Case, Evidence, Near, Operator, Unquantized, Witness
    from pt2e_ci.record.report import Report

_COLUMNS = 80
_MOST_LINES = 60
_MOST_VALUES = 16


def explain(report: Report, case: Case) -> str:
    """Return what is known of a case's outcome: what stayed in float and why, and where the difference comes from."""
    ended = case.outcome + (f" in {case.stage}" if case.stage else "")
    state = "unexpected" if case.is_unexpected else "known" if case.known else "as expected"
    lines = [f"{case.name} on {label(report)}: {ended}, {state}"]
    if case.complaint:
        lines.append(f"  {case.complaint}")
    if case.reason:
        lines.append(f"  {case.reason.text}{f' ({case.reason.code})' if case.reason.code else ''}")
    if case.known:
        lines.append(f"  {case.known.reason} ({case.known.link})")
    lines += [f"  {note.text}{f' ({note.code})' if note.code else ''}" for note in case.notes]
    parts = (_structure(report, case), _evidence(case), _inventory(case), _numbers(case), _devices(case))
    for part in (*parts, _programs(case)):
        lines += part
    again = ["", f"To see it again: {case.command}"] if case.command else []
    return "\n".join([*lines, *again]) + "\n"


def explain_code(code: str) -> str:
    """Return what a reason means, how it comes about, and what to do."""
    entry = REASONS[code]
    parts = [f"{code}: {entry.text}", f"Outcome: {entry.outcome or 'none; it only has to be known'}.", entry.why]
    filled = [textwrap.fill(part, _COLUMNS, break_on_hyphens=False) for part in (*parts, f"What to do: {entry.remedy}")]
    return "\n\n".join(filled) + "\n"


def named(case: Case, name: str) -> list[Operator]:
    """Return the operators of a case that are called so, by their name, node, or module."""
    return [one for one in case.operators if name in (one.name, one.node, one.module)]


def explain_operator(report: Report, case: Case, name: str) -> str:
    """Return what is known of the operators of a name."""
    lines = [f"{name} of {case.name} on {label(report)}:"]
    nearest = {near.node: near for near in (case.structure.nearest if case.structure else [])}
    for one in named(case, name):
        state = f"{one.verdict}{f': {one.why}' if one.why else ''}" if one.verdict else "quantized by what takes it"
        lines += ["", f"{one.name}{_places(one, one.levels or one.node)}: {state}"]
        lines += [f"  {line}" for line in _lines_of(case, one.node)]
        if near := nearest.get(one.node):
            lines += [f"  {line}" for line in _near(case, near)]
        if one.evidence is not None:
            lines.append(f"  {_known(one.evidence)}")
            lines += [f"    {line}" for line in _shown(one.evidence)] if one.evidence.kind is Kind.REFUTED else []
    return "\n".join(lines) + "\n"


def _structure(report: Report, case: Case) -> Iterator[str]:
    structure = case.structure
    if structure is None:
        return
    yield ""
    total = structure.integer + structure.in_float
    yield f"{structure.integer} of {total} quantized operators compute on integers."
    for one in case.operators:
        if one.verdict is not None and one.verdict is not Verdict.INTEGER:
            yield f"  {one.name}{_places(one)}: {one.verdict}: {one.why}"
        elif one.arithmetic not in (None, "integer"):
            yield f"  {one.name}{_places(one)}: integer, and its accumulator becomes levels in {one.arithmetic}"
    places = {one.node: one for one in case.operators}
    for near in structure.nearest:
        yield f"{near.operator}{_places(places.get(near.node))} stayed in float:"
        yield from (f"    {line}" for line in _lines_of(case, near.node))
        yield from (f"  {line}" for line in _near(case, near))
    ours = report.run.representation
    explained = {near.operator for near in structure.nearest}
    for name in structure.float_operators:
        if name in explained:
            continue
        who = "no rewrite of upstream's is for it" if ours == "upstream" else f"{ours} left it so, or made it so"
        yield f"{name} is computed in float: {who}."
        yield from (f"    {text}" for text in _marked(case, name))


def _near(case: Case, near: Near) -> Iterator[str]:
    """Say where the rewrite that comes nearest parts from the program."""
    found = f"the nearest rewrite is {near.rewrite}, of which {near.matched} of {near.of} calls are found"
    if near.pattern:
        yield f"{found}, from its result on;"
        yield f"the first that parts: the pattern has {near.pattern}, the program"
        yield f"{near.graph or 'an input or a constant'}, at node {near.at}:"
    else:
        yield f"{found}: what parts is an argument, or a value that is used more than once, at {near.at}:"
    yield from (f"  {line}" for line in _lines_of(case, near.at))


def _evidence(case: Case) -> Iterator[str]:
    """Say how well what is said of each operator is known, and show what is wrong."""
    known = [(one, one.evidence) for one in case.operators if one.evidence is not None]
    if not known:
        return
    yield ""
    proved = [evidence for _, evidence in known if evidence.kind is Kind.PROVED]
    yield f"{len(proved)} of {len(known)} operators are right for every input."
    for operator, evidence in known:
        yield f"  {operator.name}{_places(operator, operator.levels or '')}: {_known(evidence)}"
        if evidence.kind is Kind.REFUTED:
            yield from (f"      {line}" for line in _shown(evidence))
    chance = max(evidence.chance for _, evidence in known)
    yield "That holds in eager mode, on this build and CPU, for inputs of these shapes, and as long as torch's"
    yield "elementwise operators do the same wherever an element lies."
    if chance:
        yield f"What was drawn at random misses a difference in one element with a probability of {chance:.1g} at most."


def _known(evidence: Evidence) -> str:
    """Say in a line what is known."""
    values = f"{evidence.values:,} {evidence.domain}"
    part = f"{evidence.proved} proved; " if evidence.proved else ""
    if evidence.kind in (Kind.PARTLY, Kind.TESTED):
        return f"{evidence.kind}: {part}{evidence.why or 'the rest is compared'}"
    if not evidence.wrong:
        return f"{evidence.kind} exact: {values}{_scheme(evidence)}"
    but = " but for some" if evidence.kind is Kind.PROVED else ""
    return f"{evidence.kind}{but}: {evidence.deviation}"


def _scheme(evidence: Evidence) -> str:
    return f" ({' or '.join(evidence.schemes)})" if evidence.schemes else ""


def _shown(evidence: Evidence) -> Iterator[str]:
    witness = evidence.witness
    if witness is None:
        yield "no input was found that shows it: it is wrong, unless that cannot be reached"
        return
    yield f"element {witness.element}: {witness.got}, where {witness.exact} is exact"
    yield f"  the program: {', '.join(f'{name} {value}' for name, value in witness.program) or 'not followed'}"
    yield f"  exact: {', '.join(f'{name} {value}' for name, value in witness.due)}"
    yield f"  {_input(witness)}"


def _input(witness: Witness) -> str:
    """Say what the program is given."""
    if witness.inputs is not None:
        flat = [f"[{', '.join(f'{value:.9g}' for value in one[:_MOST_VALUES])}" for one in witness.inputs]
        ends = [", ...]" if len(one) > _MOST_VALUES else "]" for one in witness.inputs]
        return f"at the input {', '.join(a + b for a, b in zip(flat, ends, strict=True))}"
    if witness.seed is not None:
        return f"at the input that is drawn with seed {witness.seed}"
    return f"at an input of zeros but for {len(witness.changed)} values" if witness.changed else "at the first input"


def _inventory(case: Case) -> Iterator[str]:
    """Say what was quantized, what was left in float, and what that costs."""
    quantized = Counter(one.name for one in case.operators if one.verdict is not None)
    if not quantized and not case.unquantized:
        return
    yield ""
    listed = ", ".join(f"{name} {count}" for name, count in quantized.items())
    yield f"Quantized: {listed or 'nothing'}."
    for one in case.unquantized:
        yield f"Not quantized: {one.name}{_places(one)}{f': {one.why}' if one.why else ''}."
    for index, cost in enumerate(case.costs):
        if cost is not None and cost.sqnr is not None:
            worst = f", and is up to {cost.max:.3g} LSB off" if cost.max is not None else ""
            yield f"Quantization leaves output {index} at {cost.sqnr:.1f} dB{worst}."
    for operator in case.operators:
        for name, share in operator.domains.items():
            if share:
                among = "NaN" if name == "nan" else "infinities"
                where = _places(operator, operator.levels or "")
                yield f"With {among} among the inputs, {share:.0%} of the levels of {operator.name}{where} are others."
        if operator.used == 1:
            yield f"{operator.name}{_places(operator, operator.levels or '')} uses 1 level of {operator.available}."


def _devices(case: Case) -> Iterator[str]:
    """Say where devices would part from the Q/DQ program."""
    for name in dict.fromkeys(name for one in case.operators for name in one.devices):
        yield ""
        yield f"On {name}, levels apart from the Q/DQ program's, alone and in the chain:"
        for one in case.operators:
            found = one.devices.get(name)
            if found is not None:
                numbers = f"{found.isolated} LSB alone, {found.cumulative} LSB in the chain ({found.kernel})"
                yield f"  {one.name}{_places(one, one.node)}: {found.why or numbers}"


def _places(operator: Operator | Unquantized | None, *others: str) -> str:
    """Say where in the user's model an operator is."""
    places = [place for place in (*others, *((operator.module, operator.source) if operator else ())) if place]
    return f" ({', '.join(places)})" if places else ""


def _numbers(case: Case) -> Iterator[str]:
    distance = case.to_exact
    if not distance:
        return
    yield ""
    share = f"{distance.differing:.0%} of the outputs"
    if not distance.max and not distance.not_finite:
        yield "The reference program gives the exact result, in every output."
        return
    yield f"The reference program is up to {difference(distance)} from the exact result, in {share}."
    if (qdq := case.numerics.qdq_vs_exact) and qdq.compared:
        yield f"The Q/DQ program, which computes in float, is up to {difference(qdq)} from it."
    if case.exact is None:
        return
    yield f"Exact is real-number arithmetic on the same scales, {case.exact.rounding.words}."
    for operator in case.operators:
        if operator.levels is None:
            continue
        reference = operator.reference
        begins = f"{operator.name} ({operator.levels})" == case.exact.reference_starts_at
        if not begins and not (reference and reference.max):
            continue
        if reference:
            size = f"up to {reference.max:.4g} LSB, mean {reference.mean:+.3g}, in {reference.differing:.0%}"
            if reference.boundary is not None:
                size += f", up to {reference.boundary:.3g} LSB beyond a rounding boundary"
        else:
            size = "its levels could not be found in the reference program"
        name = f"{operator.name}{_places(operator, operator.levels)}"
        yield f"  {name}: {size}{': the difference begins here' if begins else ''}"
        yield from (f"      {line}" for line in _lines_of(case, operator.levels))


def _programs(case: Case) -> Iterator[str]:
    lines = case.programs.reference if case.programs else []
    if not lines:
        return
    yield ""
    yield "The reference program:"
    for mark, text in lines[:_MOST_LINES]:
        yield f"    {text}" + (f"    <- {mark}" if mark else "")
    if len(lines) > _MOST_LINES:
        yield f"    and {len(lines) - _MOST_LINES} more"


def _lines_of(case: Case, node: str) -> list[str]:
    """Return the line of a node of the Q/DQ program."""
    lines = case.programs.qdq if case.programs else []
    return [text for _, text in lines if text.startswith(f"{node} = ")]


def _marked(case: Case, name: str) -> list[str]:
    """Return the lines of the reference program that compute an operator of that name in float."""
    lines = case.programs.reference if case.programs else []
    return [text for mark, text in lines if mark == "float" and re.search(rf" = {re.escape(name)}\(", text)]
