"""What changed from one set of reports to another, case by case."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pt2e_ci.reports.pages import render_page
from pt2e_ci.reports.words import difference, label, markdown_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pt2e_ci.reports.record import Report

# From good to bad: a case that moves to the right broke.
_ORDER = ("pass", "vacuous", "mismatch", "error", "timeout", "crash")


class Kind(StrEnum):
    """What happened to a case."""

    BROKE = "broke"
    BETTER = "better"
    NUMBERS = "numbers only"
    APPEARED = "appeared"
    VANISHED = "vanished"


@dataclass(frozen=True)
class Change:
    """A case that is not as it was, in a pair of cells."""

    kind: Kind
    case: str
    cells: str
    before: str
    after: str


def differences(old: Sequence[Report], new: Sequence[Report]) -> list[Change]:
    """Return what changed, the worst first.

    Reports are paired by cell. Where each side is of one torch, a cell without a partner is compared with the other
    side's cell of the same machine, of the same flow if there is one; elsewhere it has appeared or vanished with all
    of its cases.
    """
    changes = [change for before, after in _pairs(old, new) for change in _changes(before, after)]
    order = [*Kind]
    return sorted(changes, key=lambda change: (order.index(change.kind), change.cells, change.case))


def _pairs(old: Sequence[Report], new: Sequence[Report]) -> list[tuple[Report | None, Report | None]]:
    by_cell = {report.run["cell"]: report for report in new}
    pairs: list[tuple[Report | None, Report | None]] = []
    left: list[Report] = []
    for report in old:
        partner = by_cell.pop(report.run["cell"], None)
        if partner is None:
            left.append(report)
        else:
            pairs.append((report, partner))
    rest = list(by_cell.values())
    if any(len({report.run["torch"] for report in side}) > 1 for side in (old, new)):
        return pairs + [(report, None) for report in left] + [(None, report) for report in rest]
    # One torch against another: who moves to a newer one may move to another home of the flow with it.
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
    same = [other for other in others if other.run["machine"] == report.run["machine"]]
    return min(same, key=lambda other: (other.run["flow"] != report.run["flow"], other.run["cell"]), default=None)


def _changes(before: Report | None, after: Report | None) -> list[Change]:
    old = {case["name"]: case for case in before.cases} if before else {}
    new = {case["name"]: case for case in after.cases} if after else {}
    names = [report for report in (before, after) if report]
    cells = " to ".join(dict.fromkeys(label(report) for report in names))
    found = [(name, _kind(old.get(name), new.get(name))) for name in old | new]
    return [
        Change(kind, name, cells, _describe(old.get(name)), _describe(new.get(name))) for name, kind in found if kind
    ]


def _kind(old: dict[str, Any] | None, new: dict[str, Any] | None) -> Kind | None:
    # What was skipped was not measured: it is as if it were not there.
    was, is_ = (case if case and case["outcome"] != "skip" else None for case in (old, new))
    if was is None or is_ is None:
        return None if was is is_ else Kind.APPEARED if was is None else Kind.VANISHED
    before, after = (_ORDER.index(case["outcome"]) for case in (was, is_))
    if after != before:
        return Kind.BROKE if after > before else Kind.BETTER
    worse = _largest(is_) > _largest(was)
    if is_["complaint"] and not was["complaint"]:
        return Kind.BROKE
    if was["complaint"] and not is_["complaint"] and not worse:
        return Kind.BETTER
    same = all(was[field] == is_[field] for field in ("numerics", "digest"))
    return None if same else Kind.NUMBERS


def _largest(case: dict[str, Any]) -> float:
    return max((one["max"] for one in case["numerics"].values()), default=0.0)


def _describe(case: dict[str, Any] | None) -> str:
    if case is None:
        return "not there"
    numbers = case["numerics"].get("reference_vs_exact") or case["numerics"].get("reference_vs_qdq")
    size = f", {difference(numbers)}" if numbers else ""
    coverage = (case["structure"] and f", {case['structure']['integer']} integer") or ""
    return f"{case['outcome']}{size}{coverage}{', unexpected' * (case['complaint'] is not None)}"


def broke(changes: Sequence[Change]) -> bool:
    """Tell whether anything broke."""
    return any(change.kind is Kind.BROKE for change in changes)


def headline(changes: Sequence[Change]) -> str:
    """Say in one line how much changed."""
    if not changes:
        return "nothing changed"
    counts = {kind: sum(change.kind is kind for change in changes) for kind in Kind}
    return ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)


def text(changes: Sequence[Change]) -> str:
    """Return the changes for the terminal."""
    lines = []
    for cells in sorted({change.cells for change in changes}):
        lines.append(cells)
        for kind in Kind:
            of_kind = [change for change in changes if (change.kind, change.cells) == (kind, cells)]
            lines += [f"  {kind}"] if of_kind else []
            lines += [f"    {one.case}: {one.before} -> {one.after}" for one in of_kind]
    return "\n".join([*lines, headline(changes)]) + "\n"


def page(changes: Sequence[Change], title: str) -> str:
    """Return the changes as a page that stands alone."""
    return render_page("diff.html.j2", title=f"What changed: {title}", headline=headline(changes), changes=changes)


def markdown(changes: Sequence[Change]) -> str:
    """Return the changes as a table in Markdown."""
    lines = [f"**{headline(changes)}**"]
    if changes:
        lines += ["", "| What | Case | Cell | Before | After |", "| --- | --- | --- | --- | --- |"]
        for one in changes:
            cells = (one.kind, one.case, one.cells, one.before, one.after)
            lines.append("| " + " | ".join(markdown_text(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"
