"""The table of networks: how much of each is integer and proved, where it begins to be float, and how far it is off."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from pt2e_ci.record.outcomes import Stage
from pt2e_ci.record.records import Kind
from pt2e_ci.views.selection import by_age
from pt2e_ci.views.table import name_cells, span
from pt2e_ci.views.words import difference, ending, label, markdown_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pt2e_ci.record.records import Case
    from pt2e_ci.record.report import Report

COLUMNS = (
    *("Network", "Representation", "Outcome", "Operators", "Integer", "Proved", "First in float", "Isolated"),
    *("End to end", "Cells", "Converting", "Judging"),
)
MEANING = (
    "Operators: those that the quantizer marked; of these, Integer and Proved. Isolated: the most that an operator is "
    "off on its own operands, in LSB. End to end: the most that the output is from the exact one. Converting: "
    "seconds from the model to its Q/DQ program. Judging: seconds from there to the verdict."
)
_CONVERTING = (Stage.EXPORT, Stage.PREPARE, Stage.CALIBRATE, Stage.CONVERT)


def rows(reports: Sequence[Report]) -> Iterator[tuple[str, ...]]:
    """Yield a row for each network, representation, and way in which it came out, with the cells of it."""
    for representation in sorted({report.run.representation for report in reports}, key="upstream".__ne__):
        ran = sorted((one for one in reports if one.run.representation == representation), key=by_age)
        alike: dict[tuple[str, ...], list[tuple[Report, Case]]] = defaultdict(list)
        for report in ran:
            for case in report.cases:
                alike[_texts(case, representation)].append((report, case))
        for texts, found in alike.items():
            cells = name_cells([label(report) for report, _ in found], ran)
            converting = [sum(case.seconds.get(stage, 0.0) for stage in _CONVERTING) for _, case in found]
            judging = [case.seconds.get(Stage.RUN, 0.0) for _, case in found]
            yield (*texts, cells, *(span([round(one, 1) for one in seconds]) for seconds in (converting, judging)))


def _texts(case: Case, representation: str) -> tuple[str, ...]:
    marked = [one for one in case.operators if one.verdict is not None]
    integer = [one for one in marked if one.verdict == "integer"]
    proved = [one for one in integer if one.evidence and one.evidence.kind is Kind.PROVED]
    first = next((one for one in marked if one.verdict == "float"), None)
    isolated = max((one.reference.max for one in marked if one.reference and one.levels), default=None)
    exact = case.to_exact
    return (
        case.name,
        representation,
        ending(case),
        *(str(len(found)) for found in (marked, integer, proved)),
        " ".join(filter(None, (first.name, first.module, first.source))) if first else "",
        "" if isolated is None else f"{isolated:.3g}",
        "" if exact is None else difference(exact),
    )


def terminal(reports: Sequence[Report]) -> Table:
    """Return the table for a terminal."""
    table = Table(box=box.SIMPLE_HEAD, caption=MEANING)
    for column in COLUMNS:
        table.add_column(column)
    for row in rows(reports):
        table.add_row(*row)
    return table


def markdown(reports: Sequence[Report]) -> str:
    """Return the table as Markdown."""
    lines = [MEANING, "", f"| {' | '.join(COLUMNS)} |", f"|{' --- |' * len(COLUMNS)}"]
    lines += [f"| {' | '.join(markdown_text(text) for text in row)} |" for row in rows(reports)]
    return "\n".join(lines) + "\n"
