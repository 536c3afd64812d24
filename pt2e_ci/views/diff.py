"""What changed from one set of reports to another, case by case."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pt2e_ci.record.outcomes import Outcome
from pt2e_ci.views.pages import render_page
from pt2e_ci.views.words import difference, label, markdown_text, why

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pt2e_ci.record.records import Case
    from pt2e_ci.record.report import Report

_FIELDS = ("stage", "reason", "complaint", "numerics", "digest", "engines", "seed_check", "deterministic")
_COUNTED = ("integer", "in_float", "rewrites", "float_operators")


class Kind(StrEnum):
    """What happened to a case; `OTHERWISE` is anything but its outcome and its numbers, such as the reason."""

    BROKE = "broke"
    BETTER = "better"
    NUMBERS = "numbers only"
    OTHERWISE = "otherwise"
    APPEARED = "appeared"
    VANISHED = "vanished"


@dataclass(frozen=True)
class Change:
    """A case that is not as it was, in a pair of cells.

    Attributes:
        kind: what happened to it.
        case: its name.
        cells: the cell, or the two.
        before, after: how it ended.
        fields: what of its record differs.
        cause: the code of the reason that it has now, or had; without one the fields.

    """

    kind: Kind
    case: str
    cells: str
    before: str
    after: str
    fields: tuple[str, ...] = ()
    cause: str = ""

    @property
    def words(self) -> str:
        """Say what changed: before and after, or what it was where both read alike."""
        if self.before != self.after:
            return f"{self.before} -> {self.after}"
        return f"{self.before}, with another {', '.join(self.fields)}"


def differences(old: Sequence[Report], new: Sequence[Report]) -> list[Change]:
    """Return what changed, the worst first.

    Reports are paired by cell. Where each side is of one torch, a cell without a partner is compared with the other
    side's cell of the same machine, of the same flow if there is one; elsewhere it has appeared or vanished with all
    of its cases.
    """
    changes = [change for before, after in _pairs(old, new) for change in _changes(before, after)]
    order = [*Kind]
    return sorted(changes, key=lambda change: (order.index(change.kind), change.cells, change.cause, change.case))


def _pairs(old: Sequence[Report], new: Sequence[Report]) -> list[tuple[Report | None, Report | None]]:
    by_cell = {report.run.cell: report for report in new}
    pairs: list[tuple[Report | None, Report | None]] = []
    left: list[Report] = []
    for report in old:
        partner = by_cell.pop(report.run.cell, None)
        if partner is None:
            left.append(report)
        else:
            pairs.append((report, partner))
    rest = list(by_cell.values())
    if any(len({report.run.torch for report in side}) > 1 for side in (old, new)):
        return pairs + [(report, None) for report in left] + [(None, report) for report in rest]
    # One torch against another: whoever moves to a newer one may move to another home of the flow with it.
    found = {(id(before), id(after)): (before, after) for before, after in pairs}
    for before in left:
        after = _nearest(before, new)
        found[id(before), id(after)] = before, after
    for after in rest:
        nearest = _nearest(after, old)
        found[id(nearest), id(after)] = nearest, after
    return list(found.values())


def _nearest(report: Report, others: Sequence[Report]) -> Report | None:
    """Return the report of the same machine that is most like another; None if there is none."""
    same = [other for other in others if other.run.machine == report.run.machine]
    return min(same, key=lambda other: (other.run.flow != report.run.flow, other.run.cell), default=None)


def _changes(before: Report | None, after: Report | None) -> list[Change]:
    old = {case.name: case for case in before.cases} if before else {}
    new = {case.name: case for case in after.cases} if after else {}
    sides = [report for report in (before, after) if report]
    cells = " to ".join(dict.fromkeys(_question(report) for report in sides))
    found = [(name, old.get(name), new.get(name)) for name in old | new]
    return [
        Change(kind, name, cells, _describe(was), _describe(is_), _changed_fields(was, is_), _cause(kind, was, is_))
        for name, was, is_ in found
        if (kind := _kind(was, is_))
    ]


def _question(report: Report) -> str:
    """Name a report's cell, and whatever else makes its numbers differ, so that a reader sees what is compared."""
    parts = [report.run.representation] if report.run.representation != "upstream" else []
    parts += [f"seed {report.run.seed}"] if report.run.seed else []
    return label(report) + (f" ({', '.join(parts)})" if parts else "")


def _kind(old: Case | None, new: Case | None) -> Kind | None:
    # What was skipped was not measured, as if it were not there; unless that is what the run was red for.
    was, is_ = (case if case and (case.outcome is not Outcome.SKIP or case.complaint) else None for case in (old, new))
    if was is None or is_ is None:
        return None if was is is_ else Kind.APPEARED if was is None else Kind.VANISHED
    before, after = _badness(was), _badness(is_)
    if before != after:
        # By outcome first; then whether it was expected, what is not finite, what is in float.
        return Kind.BROKE if after > before else Kind.BETTER
    changed = _changed_fields(was, is_)
    if not changed:
        return None
    return Kind.NUMBERS if {*changed} <= {"numerics", "digest", "engines"} else Kind.OTHERWISE


def _badness(case: Case) -> tuple[int, bool, bool, int]:
    """Return what makes a case worse, the weightiest first."""
    numbers = case.numerics
    measured = (numbers.reference_vs_qdq, numbers.reference_vs_exact, numbers.qdq_vs_exact)
    not_finite = any(one.not_finite for one in measured if one)
    in_float = case.structure.in_float if case.structure else 0
    return case.outcome.rank, case.is_unexpected, not_finite, in_float


def _cause(kind: Kind, was: Case | None, is_: Case | None) -> str:
    if kind in (Kind.NUMBERS, Kind.OTHERWISE):
        return ", ".join(_changed_fields(was, is_))
    codes = [case.reason.code for case in (is_, was) if case and case.reason and case.reason.code]
    return codes[0] if codes else ""


def _changed_fields(was: Case | None, is_: Case | None) -> tuple[str, ...]:
    """Name the fields that differ. Of the structure it is what was counted; names of nodes follow the torch."""
    if was is None or is_ is None:
        return ()
    changed = tuple(field for field in _FIELDS if _compared(was, field) != _compared(is_, field))
    one, other = ([getattr(case.structure, name, None) for name in _COUNTED] for case in (was, is_))
    return (*changed, "structure") if one != other else changed


def _compared(case: Case, field: str) -> object:
    """Return what is compared of a field: of a reason its text, for a report of schema 1 has no codes."""
    return why(case) if field == "reason" else getattr(case, field)


def _describe(case: Case | None) -> str:
    if case is None:
        return "not there"
    numbers = case.to_exact or case.numerics.reference_vs_qdq
    structure = case.structure
    words = [
        case.outcome + (f" in {case.stage}" if case.stage else ""),
        *([difference(numbers)] if numbers else []),
        *([f"{structure.integer} of {structure.integer + structure.in_float} integer"] if structure else []),
        *(["unexpected"] if case.is_unexpected else []),
    ]
    return ", ".join(words)


def broke(changes: Sequence[Change]) -> bool:
    """Tell whether anything broke."""
    return any(change.kind is Kind.BROKE for change in changes)


def headline(changes: Sequence[Change]) -> str:
    """Say in one line how much changed."""
    if not changes:
        return "nothing changed"
    counts = {kind: sum(change.kind is kind for change in changes) for kind in Kind}
    said = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    return said if broke(changes) else f"nothing broke: {said}"


def text(changes: Sequence[Change]) -> str:
    """Return the changes for the terminal: by cause, and once for all cells in which just that happened."""
    of_cells: dict[str, list[str]] = {}
    for kind, cause, alike in _causes(changes):
        for cells in dict.fromkeys(one.cells for one in alike):
            found = [one for one in alike if one.cells == cells]
            of_cells.setdefault(cells, []).append(f"  {kind}{f': {cause}' if cause else ''}")
            if kind is Kind.NUMBERS:
                of_cells[cells].append(f"    {', '.join(one.case for one in found)}")
            else:
                of_cells[cells] += [f"    {one.case}: {one.words}" for one in found]
    together: dict[tuple[str, ...], list[str]] = {}
    for cells, lines in of_cells.items():
        together.setdefault(tuple(lines), []).append(cells)
    blocks = [line for lines, cells in together.items() for line in (", ".join(cells), *lines)]
    return "\n".join([*blocks, headline(changes)]) + "\n"


def _causes(changes: Sequence[Change]) -> Iterator[tuple[Kind, str, list[Change]]]:
    """Yield what happened for one cause, the worst first, and of that what happened to most."""
    for kind in Kind:
        of_kind = [change for change in changes if change.kind is kind]
        for cause, _ in Counter(change.cause for change in of_kind).most_common():
            yield kind, cause, [change for change in of_kind if change.cause == cause]


def page(changes: Sequence[Change], title: str) -> str:
    """Return the changes as a page that stands alone."""
    return render_page(
        "diff.html.j2", title=f"What changed: {title}", headline=headline(changes), causes=[*_causes(changes)]
    )


def markdown(changes: Sequence[Change]) -> str:
    """Return the changes as a table in Markdown."""
    lines = [f"**{headline(changes)}**"]
    if changes:
        lines += ["", "| What | Cause | Case | Cell | Before | After |", "| --- | --- | --- | --- | --- | --- |"]
        for one in (one for _, _, alike in _causes(changes) for one in alike):
            cells = (one.kind, one.cause, one.case, one.cells, one.before, one.after)
            lines.append("| " + " | ".join(markdown_text(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"
