"""The table of quantizers: what each annotates, on which torch, and what becomes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.version import Version
from rich import box
from rich.table import Table
from rich.text import Text

from pt2e_ci.views.words import markdown_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pt2e_ci.record.quantizers import Annotated, QuantizerReport

MARKS = {
    "no": "\N{MIDDLE DOT}",
    "annotated": "A",
    "integer": "I",
    "proved": "P",
    "moves": "M",
    "wrong": "X",
    "error": "!",
}
MEANING = (
    "P annotated, and proved right for every input in the exact representation · I integer there, and not proved · "
    "A annotated, and in float · M moves or picks levels · X integer there, and wrong · "
    "! preparing or converting raises · a dot: not annotated · *: integer in upstream's representation, too"
)
_STYLES = {"P": "green", "I": "yellow", "X": "red", "A": "red", "!": "red"}


def operators(reports: Sequence[QuantizerReport]) -> list[str]:
    """Return the operators that some quantizer annotates, in the order that they were tried in."""
    names = dict.fromkeys(one.operator for report in reports for one in report.results)
    marked = {one.operator for report in reports for one in report.results if one.state != "no"}
    return [name for name in names if name in marked]


def _mark(one: Annotated | None) -> str:
    return "" if one is None else MARKS[one.state] + ("*" if one.is_integer_upstream else "")


def _rows(reports: Sequence[QuantizerReport]) -> Iterator[list[str]]:
    """Yield a row for each operator: a mark for each report."""
    found = [{one.operator: one for one in report.results} for report in reports]
    for name in operators(reports):
        yield [name, *(_mark(results.get(name)) for results in found)]


def ran(reports: Sequence[QuantizerReport]) -> list[QuantizerReport]:
    """Return the reports that have results: of one quantizer together, from the oldest torch on."""
    names = [*dict.fromkeys(report.quantizer for report in reports)]
    return sorted(
        (report for report in reports if report.results), key=lambda one: (names.index(one.quantizer), _age(one))
    )


def _age(report: QuantizerReport) -> tuple[Version, Version]:
    return Version(report.torch), Version(report.torchao or "0")


def terminal(reports: Sequence[QuantizerReport]) -> Table:
    """Return the table, operators down and quantizers across."""
    shown = ran(reports)
    table = Table(box=box.SIMPLE_HEAD, caption=MEANING)
    table.add_column("Operator")
    for report in shown:
        table.add_column(f"{report.quantizer}\n{report.where}", justify="center")
    for name, *marks in _rows(shown):
        table.add_row(name, *(Text(mark, style=_STYLES.get(mark[:1], "")) for mark in marks))
    return table


def markdown(reports: Sequence[QuantizerReport]) -> str:
    """Return the table for each family as Markdown, and what is missing."""
    lines = [f"{MEANING}.", ""]
    shown = ran(reports)
    for family in dict.fromkeys(report.family for report in shown):
        some = [report for report in shown if report.family == family]
        lines += [f"## {family}", ""]
        lines.append(f"| Operator | {' | '.join(f'{one.quantizer}<br>{one.where}' for one in some)} |")
        lines.append(f"| --- |{' :-: |' * len(some)}")
        lines += [f"| {name} | {' | '.join(marks)} |" for name, *marks in _rows(some)]
        lines.append("")
        lines += [*_counts(some), ""]
    left = [report for report in reports if not report.results and report.missing]
    if left:
        lines += ["## Not run", "", "| Quantizer | torch | What is missing |", "| --- | --- | --- |"]
        lines += [f"| {one.quantizer} | {one.where} | {markdown_text(one.missing or '')} |" for one in left]
        lines.append("")
    return "\n".join(lines)


def _counts(reports: Sequence[QuantizerReport]) -> Iterator[str]:
    for report in reports:
        states = [one.state for one in report.results]
        marked = [one for one in report.results if one.annotated]
        upstream = sum(one.is_integer_upstream for one in marked)
        grids = "; ".join(dict.fromkeys(one.grids for one in marked if one.grids))
        yield (
            f"- {report.quantizer} on torch {report.where}: {len(marked)} of {len(states)} operators annotated,"
            f" {upstream} integer in upstream's representation, {states.count('proved')} proved in the exact one."
            f" Grids: {grids or 'none'}."
        )
