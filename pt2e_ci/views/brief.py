"""What is said of one model, in ten lines that people would paste into an issue."""

from __future__ import annotations

import html
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pt2e_ci.record.outcomes import Outcome
from pt2e_ci.record.reasons import REASONS, findings, outcome_of
from pt2e_ci.record.records import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pt2e_ci.record.records import Case, Departure, Evidence, Operator, Reason, Unquantized
    from pt2e_ci.record.report import Report

_LINES = 10
_COLUMNS = 140
_KNOWN = {Kind.PARTLY: "in part", Kind.TESTED: "only tested on samples", Kind.REFUTED: "refuted"}
_STATES = {
    Outcome.FLOAT: ("computes in float", "compute in float"),
    Outcome.INEXACT: ("is inexact", "are inexact"),
    Outcome.MISMATCH: ("is wrong", "are wrong"),
}
_LISTED = 6
_DEVICES = 2
# What is said of an operator is how far it is off.
_OFF = ("PQ023", "PQ031", "PQ036")
_WORD = 8


@dataclass(frozen=True)
class Cause:
    """Why something is not as it should be, with all operators of a name that it holds for.

    Attributes:
        code: the reason's code.
        outcome: what it makes of the model.
        name: of the operators; empty where the whole program is meant.
        module, source: of one of them: of the furthest off, or the first.
        text: what is wrong.
        count: how many there are.

    """

    code: str
    outcome: Outcome
    name: str
    module: str
    source: str
    text: str
    count: int


def causes(case: Case) -> list[Cause]:
    """Return what is wrong with a case: the reason of its outcome first, and each cause once."""
    found: list[Cause] = []
    operators = {one.node: one for one in case.operators}
    for reason in findings(case):
        groups: dict[tuple[str, str], list[Operator]] = {}
        for one in (operators[node] for node in reason.operators if node in operators):
            text = _why(case, reason, one)
            # How far each is off differs: the furthest stands for all of its name.
            groups.setdefault((one.name, "" if reason.code in _OFF else text), []).append(one)
        found += [_cause(case, reason, max(some, key=_far), len(some)) for some in groups.values()]
        found += [] if groups else [_cause(case, reason, None, 1)]
    return found


def _cause(case: Case, reason: Reason, one: Operator | None, count: int) -> Cause:
    return Cause(
        code=reason.code or "",
        outcome=outcome_of(reason) or Outcome.PASS,
        name=one.name if one else "",
        module=(one.module if one else None) or "",
        source=(one.source if one else None) or "",
        text=_why(case, reason, one) if one else reason.text,
        count=count,
    )


def _far(one: Operator) -> float:
    """Return how far an operator is off; of those that are as far, the first is the one."""
    return max(one.evidence.displacement if one.evidence else 0.0, one.reference.max if one.reference else 0.0)


def _why(case: Case, reason: Reason, one: Operator) -> str:
    """Say of one operator what a reason says of several."""
    near = next((near for near in (case.structure.nearest if case.structure else []) if near.node == one.node), None)
    if reason.code in ("PQ012", "PQ017", "PQ018"):
        if near is not None and near.pattern and near.graph:
            looked, there = (name.removesuffix(".default") for name in (near.pattern, near.graph))
            return f"{one.why}: where upstream's pattern has {looked}, the graph has {there}"
        return one.why or reason.text
    if reason.code in _OFF and one.evidence is not None and one.evidence.wrong:
        return one.evidence.deviation
    if reason.code in ("PQ023", "PQ031") and one.reference is not None:
        return f"up to {one.reference.max:.3g} LSB off on {one.reference.differing:.0%} of its samples"
    if reason.code == "PQ037" and one.evidence is not None:
        return f"{one.evidence.kind}: {one.evidence.why}"
    return reason.text


def brief(report: Report, case: Case, saved: str | None = None) -> list[str]:
    """Return at most ten lines: what holds, what does not and why, what to do, and what was quantized.

    Args:
        report: whose run line says where it ran.
        case: the model's.
        saved: the file that the report is in, if there is one.

    """
    found = causes(case)
    head = [_verdict(report, case)]
    tail = [*_proved(case), *_devices(case), *_inventory(case), *_next(case, found, saved)]
    if found:
        tail[:0] = _remedies(found, _LINES - len(head) - len(tail))
    elif case.reason and case.reason.code != "PQ053":  # the last lines say that better
        head.append(f"note      {case.reason.text} ({case.reason.code})")
    room = _LINES - len(head) - len(tail)
    shown = found if len(found) <= room else found[: room - 1]
    lines = _aligned([_row(one) for one in shown])
    if len(shown) < len(found):
        lines.append(f"and {len(found) - len(shown)} other causes")
    return [_cut(line) for line in (*head, *lines, *tail)]


def _remedies(found: Sequence[Cause], room: int) -> list[str]:
    """Say what to do: for the first cause, and for the others while all of them have room."""
    counts: Counter[str] = Counter()
    for one in found:
        counts[one.code] += one.count
    lines = [f"Do ({code}): {REASONS[code].remedy.replace('COUNT', str(count))}" for code, count in counts.items()]
    return lines[: max(room - len(found), 1)]


def _verdict(report: Report, case: Case) -> str:
    run = report.run
    home = f", torchao {run.torchao}" if run.flow == "torchao" else ""
    where = f"torch {run.torch}{home}, {run.machine}{' (emulated)' * run.emulated}"
    who = "upstream's representation" if run.representation == "upstream" else run.representation
    return f"{_words(case)}: {case.name}{_tally(case)} ({where}; {who})"


def _tally(case: Case) -> str:
    """Say in numbers how the quantized operators are."""
    quantized = {one.node for one in case.operators if one.verdict is not None}
    worst: dict[str, Outcome] = {}
    for reason in findings(case):
        outcome = outcome_of(reason) or Outcome.PASS
        for node in quantized.intersection(reason.operators):
            worst[node] = max(outcome, worst.get(node, outcome), key=lambda one: one.rank)
    kinds = sorted(Counter(worst.values()).items(), key=lambda one: -one[0].rank)
    operators = f"{len(quantized)} quantized operator{'s' * (len(quantized) != 1)}"
    if kinds:
        counts = (f"{count} {_STATES[outcome][count > 1]}" for outcome, count in kinds)
        return f": of {operators} {', '.join(counts)}"
    return f": {operators}, all integer" if quantized and case.outcome is Outcome.PASS else ""


def _words(case: Case) -> str:
    """Say in a few words how a model ended."""
    state = f"{case.outcome}{f' in {case.stage}' if case.stage else ''}"
    if case.known is not None and not case.is_unexpected:
        return f"{state}, known"
    return f"{state}, not as known" if case.is_unexpected and case.change in ("gone", "worse") else state


def _row(one: Cause) -> tuple[str, ...]:
    times = f" \N{MULTIPLICATION SIGN}{one.count}" if one.count > 1 else ""
    return str(one.outcome), f"{one.name}{times}", one.module, one.source, one.code, one.text


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Set rows in columns, the first as wide as the words of the lines around them; empty columns are left out."""
    widths = [max((len(text) for text in column), default=0) for column in zip(*rows, strict=True)]
    widths[:1] = [max(_WORD, *widths[:1])] if widths else []
    return [
        "  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True) if width).rstrip() for row in rows
    ]


def _proved(case: Case) -> Iterator[str]:
    """Say how many quantized operators are right for every input, and what is known of the others."""
    known = [one.evidence for one in case.operators if one.evidence is not None and one.verdict is not None]
    if not known:
        return
    kinds = Counter(one.kind for one in known)
    others = [f"{kinds[kind]} {_KNOWN[kind]}" for kind in _KNOWN if kinds[kind]]
    note = f"; {', '.join(others)}" if others else ""
    operators = "quantized operator is" if len(known) == 1 else "quantized operators are"
    yield f"proved    {kinds[Kind.PROVED]} of {len(known)} {operators} right for every input{note}"


def _devices(case: Case) -> Iterator[str]:
    """Say of each device where it would part from the Q/DQ program."""
    names = dict.fromkeys(name for one in case.operators for name in one.devices)
    for name in [*names][:_DEVICES]:  # `explain` has the others
        found = [(one, one.devices[name]) for one in case.operators if name in one.devices]
        ran = [(one, apart) for one, apart in found if apart.isolated is not None]
        said = f"device    {name} runs {len(ran)} of {len(found)} operators"
        off = [one for one, apart in ran if apart.isolated]
        if off:
            alone, chain = (max(size or 0 for size in sizes) for sizes in zip(*_apart(ran), strict=True))
            named = [text for text in (off[0].name, off[0].module, off[0].source and f"({off[0].source})") if text]
            said += f", {len(off)} off by up to {alone} LSB alone, {chain} LSB in the chain, first {' '.join(named)}"
        elif ran:
            said += ", with the Q/DQ program's own levels"
        yield said


def _apart(ran: Sequence[tuple[Operator, Departure]]) -> Iterator[tuple[int | None, int | None]]:
    return ((apart.isolated, apart.cumulative) for _, apart in ran)


def _inventory(case: Case) -> Iterator[str]:
    quantized = Counter(one.name for one in case.operators if one.verdict is not None)
    if not quantized and not case.unquantized:
        return
    left: dict[str, list[Unquantized]] = {}
    for one in case.unquantized:
        left.setdefault(one.name, []).append(one)
    listed = ", ".join(f"{name} {count}" for name, count in quantized.items()) or "nothing"
    places = [f"{name} {len(some)}{f' ({some[0].source})' if some[0].source else ''}" for name, some in left.items()]
    more = f" and {len(places) - _LISTED} more" if len(places) > _LISTED else ""
    rest = f"  Not annotated: {', '.join(places[:_LISTED])}{more}." if places else ""
    yield f"Annotated: {listed}.{rest}"


def _next(case: Case, found: Sequence[Cause], saved: str | None) -> Iterator[str]:
    commands = [f"pt2e-ci explain {found[0].code}"] if found else []
    if saved:
        name = next((one.name for one in found if one.name), case.name)
        commands.append(f"pt2e-ci explain {name} --report {saved}")
    if commands:
        yield f"Next: {' · '.join(commands)}"


def _cut(line: str) -> str:
    line = " ".join(line.splitlines())
    return line if len(line) <= _COLUMNS else f"{line[: _COLUMNS - 1]}\N{HORIZONTAL ELLIPSIS}"


def table(report: Report, case: Case) -> str:
    """Return the same as HTML, for a notebook: the verdict, and a row for each operator."""
    rows = [
        (one.name, one.module or "", one.source or "", one.verdict or "", _known(one.evidence), one.why or "")
        for one in case.operators
    ]
    rows += [
        (one.name, one.module or "", one.source or "", "not quantized", "", one.why or "") for one in case.unquantized
    ]
    head = ("Operator", "Module", "Source", "Computes in", "Evidence", "Why")
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(str(text))}</td>' for text in row)}</tr>" for row in rows)
    heads = "".join(f"<th>{text}</th>" for text in head)
    lines = "<br>".join(html.escape(line) for line in brief(report, case)[: 1 + len(causes(case))])
    return f"<p>{lines}</p><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"


def _known(evidence: Evidence | None) -> str:
    return str(evidence.kind) if evidence else ""
