"""Which reports a view shows: in one order, one for each cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.version import InvalidVersion, Version

from pt2e_ci.errors import InputError
from pt2e_ci.record.report import read_whole_report
from pt2e_ci.views.words import cell_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from pt2e_ci.record.report import Report


def by_age(report: Report) -> tuple[Version, str, str]:
    """Sort reports by the release of their torch, whoever built it; then by cell; and last by machine."""
    release = report.run.torch.partition("+")[0]
    try:
        version = Version(release)
    except InvalidVersion:
        version = Version("0")
    return version, cell_name(report), report.run.cell


def case_order(reports: Iterable[Report]) -> list[str]:
    """Return the names of all cases, in the order of the report that has the most of them."""
    longest_first = sorted(reports, key=lambda report: len(report.cases), reverse=True)
    return list(dict.fromkeys(case.name for report in longest_first for case in report.cases))


def files_of(path: Path) -> list[Path]:
    """Return the reports of a folder by name, or the one file."""
    return sorted(file for file in path.glob("*.jsonl") if not file.is_dir()) if path.is_dir() else [path]


def read_all(paths: Iterable[Path]) -> list[Report]:
    """Read the reports of files and of folders, in order.

    Raises:
        InputError: one of them is not whole, a folder has none, or two are of one cell.

    """
    files: list[Path] = []
    for path in paths:
        found = files_of(path)
        if not found:
            raise InputError(f"{path} has no report: a report's name ends in .jsonl")
        files += found
    return one_of_each([read_whole_report(file) for file in files])


def one_of_each(reports: Sequence[Report]) -> list[Report]:
    """Return reports in order; of each cell there must be one.

    Raises:
        InputError: there are two.

    """
    seen: set[str] = set()
    for report in reports:
        if report.run.cell in seen:
            raise InputError(f"two reports of the cell {report.run.cell}: give one of them")
        seen.add(report.run.cell)
    return sorted(reports, key=by_age)


def with_torch(reports: Iterable[Report], version: str) -> list[Report]:
    """Return the reports of a minor release of torch, such as ``2.10``."""
    return [report for report in reports if ".".join(report.run.torch.split(".")[:2]) == version]
