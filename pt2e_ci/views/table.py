"""The table of outcomes, of one report or of many. Cells in which a case ended alike share a row."""

from __future__ import annotations

import io
import math
import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pt2e_ci.record.outcomes import Outcome
from pt2e_ci.views.platforms import differences
from pt2e_ci.views.selection import case_order
from pt2e_ci.views.words import difference, ending, label, markdown_text, why

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from pt2e_ci.record.records import Case
    from pt2e_ci.record.report import Report

COLUMNS = ("Case", "Outcome", "Integer", "To Q/DQ", "To exact", "Inexact", "Why")

_STYLES = {"green": "green", "grey": "cyan"}
_EMPTY = "\N{EN DASH}"
_NARROW = 110
_GAP = 3  # between two columns of the terminal's table
_FIRST_TO_GO = ("Integer", "To Q/DQ", "Inexact")


@dataclass(frozen=True)
class Row:
    """A case as one or more cells ended it: the texts of `COLUMNS`, and the cells."""

    texts: tuple[str, ...]
    outcome: Outcome
    unexpected: bool
    cells: tuple[str, ...]


def rows(reports: Sequence[Report]) -> list[Row]:
    """Return the rows of the table, in the order of the cases in the report that has the most of them."""
    merged: dict[tuple[str, ...], Row] = {}
    order = {name: position for position, name in enumerate(case_order(reports))}
    for report in reports:
        for case in report.cases:
            texts = _texts(case)
            earlier = merged.get(texts)
            merged[texts] = Row(
                texts,
                case.outcome,
                case.is_unexpected,
                (*(earlier.cells if earlier else ()), label(report)),
            )
    return sorted(merged.values(), key=lambda row: order[row.texts[0]])


def _texts(case: Case) -> tuple[str, ...]:
    structure, numbers, exact = case.structure, case.numerics.reference_vs_qdq, case.to_exact
    return (
        case.name,
        f"{ending(case)}{f' in {case.stage}' if case.stage else ''}",
        f"{structure.integer}/{structure.integer + structure.in_float}" if structure else _EMPTY,
        difference(numbers) if numbers else _EMPTY,
        difference(exact) if exact else _EMPTY,
        f"{exact.differing:.0%}" if exact else _EMPTY,
        (case.complaint or "") if case.outcome is Outcome.PASS else why(case),
    )


def kernel_rows(reports: Sequence[Report]) -> list[tuple[str, ...]]:
    """Return a table of how far each engine's kernels are from the exact result, in LSB; the first row is its head.

    A number is the largest difference; where cells differ, the least and the largest of theirs. Cases in which every
    engine gives the exact result share the last row.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for report in reports:
        for case in report.cases:
            for engine, numbers in case.engines.items():
                if numbers.compared:
                    worst = math.inf if numbers.not_finite else numbers.max
                    found.setdefault(case.name, {}).setdefault(engine, []).append(worst)
    engines = sorted({engine for by_engine in found.values() for engine in by_engine})
    rows = [(name, *(span(by_engine.get(engine, ())) for engine in engines)) for name, by_engine in found.items()]
    inexact = [row for row in rows if set(row[1:]) - {"0", _EMPTY}]
    if others := [row[1:] for row in rows if row not in inexact]:
        inexact.append(
            (f"{len(others)} others", *(", ".join(sorted(set(column))) for column in zip(*others, strict=True)))
        )
    return [("Case", *engines), *inexact] if rows else []


def span(numbers: Sequence[float]) -> str:
    """Return the least and the largest of some numbers, once where they are one."""
    if not numbers:
        return _EMPTY
    least, largest = min(numbers), max(numbers)
    return f"{largest:.4g}" if least == largest else f"{least:.4g}{_EMPTY}{largest:.4g}"


def describe(report: Report) -> str:
    """Say in one line what was run, and on what."""
    run = report.run
    with_executorch = "executorch" in run.packages
    parts = [
        label(report) + ("" if run.listed else " (unlisted)"),
        f"torch {run.torch}",
        f"flow {run.flow}" + (f" {run.torchao}" if run.flow == "torchao" else ""),
        f"Python {run.python}",
        "engines " + ", ".join(run.engines + ["xnnpack"] * run.xnnpack + ["executorch"] * with_executorch),
    ]
    if report.run.representation != "upstream":
        parts.append(f"representation {report.run.representation}")
    if run.reused:
        parts.append(f"unchanged, and not run again: made {run.started} on {run.host}")
    return "; ".join(parts)


def summary(reports: Sequence[Report]) -> str:
    """Say in one line how many cases passed, are known not to, were skipped, and are unexpected."""
    cases = [case for report in reports for case in report.cases]
    unexpected = sum(case.is_unexpected for case in cases)
    known = sum(case.known is not None for case in cases)
    passed = sum(case.outcome is Outcome.PASS and not case.is_unexpected for case in cases)
    skipped = sum(case.outcome is Outcome.SKIP and not case.is_unexpected for case in cases)
    cells = f"{len(reports)} cells, " if len(reports) > 1 else ""
    return (
        f"{cells}{len(cases)} cases: {passed} pass, {known} known defects, {skipped} skipped, {unexpected} unexpected"
    )


def is_terminal() -> bool:
    """Tell whether standard output is a terminal; it may be closed."""
    return sys.stdout is not None and sys.stdout.isatty()


def width() -> int:
    """Return the terminal's width; 80 where there is none."""
    return shutil.get_terminal_size().columns if is_terminal() else 80


def render(reports: Sequence[Report], *, color: bool) -> str:
    """Return the table as text for the terminal: a case is one line, of which reason and cells are cut to fit."""
    several = len(reports) > 1
    columns = max(width(), 80)
    # Where there is no room for all, the outcome and its reason come first.
    shown = [index for index, column in enumerate(COLUMNS) if columns >= _NARROW or column not in _FIRST_TO_GO]
    head = [*(COLUMNS[index] for index in shown), *["Cells"] * several]
    named = [(row, name_cells(row.cells, reports)) for row in rows(reports)]
    found = [(row, [*(row.texts[index] for index in shown), *[cells] * several]) for row, cells in named]
    cut = {"Why", "Cells"}
    longest = [max(len(title), *(len(texts[index]) for _, texts in found)) for index, title in enumerate(head)]
    kept = sum(length for title, length in zip(head, longest, strict=True) if title not in cut)
    room = (columns - kept - _GAP * len(head)) // (1 + several)
    table = Table(*head, box=box.SIMPLE_HEAD, pad_edge=False)
    for row, texts in found:
        cells = [Text(text) for text in texts]
        cells[1].stylize("bold red" if row.unexpected else _STYLES.get(row.outcome.color, "yellow"))
        for title, cell in zip(head, cells, strict=True):
            if title in cut:
                cell.truncate(max(room, _GAP), overflow="ellipsis")
        table.add_row(*cells)
    buffer = io.StringIO()
    console = Console(file=buffer, width=columns, force_terminal=color, highlight=False)
    for report in reports:
        console.print(Text(describe(report)), soft_wrap=True)
    console.print(table)
    if kernels := kernel_rows(reports):
        console.print("This machine's kernels, largest difference from the exact result in LSB:")
        console.print(_kernel_table(kernels))
    console.print(Text(summary(reports)), soft_wrap=True)
    if several:
        for line in (digests(reports), *differences(reports)):
            console.print(Text(line), soft_wrap=True)
    return buffer.getvalue()


def _kernel_table(kernels: Sequence[tuple[str, ...]]) -> Table:
    table = Table(*kernels[0], box=box.SIMPLE_HEAD, pad_edge=False)
    for row in kernels[1:]:
        table.add_row(*(Text(text) for text in row))
    return table


def markdown(reports: Sequence[Report]) -> str:
    """Return the table in Markdown, with the cells of each row."""
    lines = ["| " + " | ".join((*COLUMNS, "Cells")) + " |", "|" + " --- |" * (len(COLUMNS) + 1)]
    for row in rows(reports):
        texts = (*row.texts, name_cells(row.cells, reports))
        lines.append("| " + " | ".join(markdown_text(text) for text in texts) + " |")
    if kernels := kernel_rows(reports):
        lines += ["", "Kernels, largest difference from the exact result in LSB:", ""]
        head, *rest = kernels
        lines += ["| " + " | ".join(markdown_text(text) for text in head) + " |", "|" + " --- |" * len(head)]
        lines += ["| " + " | ".join(markdown_text(text) for text in row) + " |" for row in rest]
    lines += ["", summary(reports) + ".", *([markdown_text(digests(reports)) + "."] if len(reports) > 1 else [])]
    if platforms := differences(reports):
        lines += ["", *(f"- {markdown_text(line)}" for line in platforms)]
    return "\n".join(lines) + "\n"


def digests(reports: Sequence[Report]) -> str:
    """Say for which cases the integers are the same in every cell, bit for bit, and how many kinds the others have."""
    found: dict[str, set[str]] = {}
    for report in reports:
        for case in report.cases:
            if case.digest:
                found.setdefault(case.name, set()).add(case.digest)
    others = [f"{len(kinds)} of {name}" for name, kinds in found.items() if len(kinds) > 1]
    same = f"integer digests: one over all cells for {len(found) - len(others)} of {len(found)} cases"
    return f"{same}, {', '.join(others)}" if others else same


def name_cells(cells: Collection[str], reports: Sequence[Report]) -> str:
    """Name the cells of a row, or the few of the reports' that are not in it."""
    others = [label(report) for report in reports if label(report) not in cells]
    if not others:
        return "all"
    return f"all but {', '.join(others)}" if len(others) < len(cells) / 3 else ", ".join(cells)
