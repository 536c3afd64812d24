"""Runs that are kept in a folder, one file each, and when an outcome last changed.

A folder holds ``<cell>/<time>-<digest>.jsonl``. Only whole reports come in, so that a run that was stopped never
takes the place of an older one, and none ever goes. A run of some cases is kept, and shown only where a cell has no
other. All runs of a folder answer one question: the same representation, seed and rounding.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from msgspec import structs

from pt2e_ci.errors import InputError
from pt2e_ci.record.report import Report, dump, read_report, write_report
from pt2e_ci.views.selection import by_age, files_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

Runs = dict[str, list[Report]]
"""The whole reports of each cell, the oldest first."""

Changes = dict[tuple[str, str], tuple[str, str]]
"""By cell and case: when its outcome last changed, and what it was before."""


def keep(folder: Path, reports: Iterable[Report]) -> None:
    """Put whole reports into a history; one that is there already stays as it is.

    Raises:
        InputError: the disk would not take one.

    """
    there = [_content(report) for of_cell in read_history(folder).values() for report in of_cell]
    for report in reports:
        if report.is_complete and _content(report) not in there:
            write_report(folder / report.run.cell / _file_name(report), report)


def keep_files(folder: Path, paths: Iterable[Path], warn: Callable[[str], None]) -> Runs:
    """Put the reports of files and folders into a history, and return it; `warn` hears of what did not come in.

    Raises:
        InputError: one of them is no report, or the history then has none.

    """
    given = [(file, read_report(file)) for path in paths for file in files_of(path)]
    runs = read_history(folder)
    questions, schemes = _asked(report for of_cell in runs.values() for report in of_cell)
    for file, report in given:
        question, scheme = _asked([report])
        questions |= question
        schemes |= scheme
        if len(questions) > 1 or len(schemes) > 1:
            raise InputError(
                f"{file} is of another representation, seed or rounding than {folder}: keep it in a folder of its own"
            )
    for file, report in given:
        if not report.is_complete:
            warn(f"{file} is of a run that was stopped, and is not kept: the one before it stands")
        elif report.is_partial:
            warn(f"{file} is of some cases alone: it is kept, and whole runs of its cell are shown before it")
    keep(folder, (report for _, report in given))
    runs = read_history(folder)
    if not runs:
        raise InputError(f"{folder} holds no whole run: run the suite to its end")
    return runs


def _asked(reports: Iterable[Report]) -> tuple[set[tuple[str, int]], set[str]]:
    """Return the representations with their seeds, and the roundings: none of a run in which no case came so far."""
    questions: set[tuple[str, int]] = set()
    schemes: set[str] = set()
    for report in reports:
        questions.add((report.run.representation, report.run.seed))
        schemes.update(case.exact.rounding for case in report.cases if case.exact)
    return questions, schemes


def read_history(folder: Path) -> Runs:
    """Return the runs of a history.

    Raises:
        InputError: a file of it is no report.

    """
    runs: Runs = {}
    for path in sorted(folder.glob("*/*.jsonl")):
        report = read_report(path)
        if report.is_complete:
            runs.setdefault(report.run.cell, []).append(report)
    for of_cell in runs.values():
        of_cell.sort(key=lambda report: (report.run.started, dump(report)))
    return runs


def newest(runs: Runs) -> list[Report]:
    """Return the last run of each cell, in order; the last one of all its cases where there is such a one."""
    shown = ([run for run in of_cell if not run.is_partial] or of_cell for of_cell in runs.values())
    return sorted((of_cell[-1] for of_cell in shown), key=by_age)


def changes(runs: Runs) -> Changes:
    """Return when each case came to its present outcome, and which it had before, by cell and case.

    A case that never had another is not in it.
    """
    found: Changes = {}
    for cell, of_cell in runs.items():
        last: dict[str, str] = {}
        for report in of_cell:
            for record in report.cases:
                name, outcome = record.name, record.outcome
                before = last.get(name, outcome)
                if before != outcome:
                    found[cell, name] = report.run.started, before
                last[name] = outcome
    return found


def _file_name(report: Report) -> str:
    """Name a run by its time and its content: two runs of one second are two, and one run given twice is one."""
    when = "".join(character for character in report.run.started if character.isalnum())[:20]
    if not when:
        raise InputError(f"the report of {report.run.cell} does not say when it was made")
    return f"{when}-{hashlib.sha256(dump(_content(report)).encode()).hexdigest()[:12]}.jsonl"


def _content(report: Report) -> Report:
    """Return a report without what it says of other runs that it stood for."""
    return Report(structs.replace(report.run, reused=None), report.cases, report.end)
