"""The same cell on several machines: where outcomes or integers differ, and by how much."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pt2e_ci.views.words import cell_name, difference, machine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pt2e_ci.record.records import Case
    from pt2e_ci.record.report import Report


def differences(reports: Sequence[Report]) -> list[str]:
    """Say of each cell that ran on several machines in which cases they differ; one line for each such case.

    Only what was run on all of them is compared. Nothing is said of a cell that ran on one machine.
    """
    lines: list[str] = []
    for cell, group in _by_cell(reports).items():
        if len(group) < 2:
            continue
        common = _side_by_side(group)
        differing = [cases for cases in common if len({(case.outcome, case.digest) for case in cases}) > 1]
        names = ", ".join(machine(report) for report in group)
        lines.append(f"{cell} on {names}: {len(differing)} of {len(common)} cases differ")
        for cases in differing:
            ends = (f"{_end(case)} on {machine(report)}" for case, report in zip(cases, group, strict=True))
            same = " (the same integers)" * (len({case.digest for case in cases}) == 1)
            lines.append(f"  {cases[0].name}: {', '.join(ends)}{same}")
    return lines


def _by_cell(reports: Sequence[Report]) -> dict[str, list[Report]]:
    """Group reports by cell, whatever the platform."""
    groups: dict[str, list[Report]] = {}
    for report in reports:
        groups.setdefault(cell_name(report), []).append(report)
    return groups


def _side_by_side(group: Sequence[Report]) -> list[list[Case]]:
    """Return each case that all reports have, once from each."""
    by_name = [{case.name: case for case in report.cases} for report in group]
    return [[cases[name] for cases in by_name] for name in by_name[0] if all(name in cases for cases in by_name)]


def _end(case: Case) -> str:
    exact = case.to_exact
    return f"{case.outcome}, {difference(exact)} from exact" if exact else case.outcome
