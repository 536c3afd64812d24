"""How every view names a cell, a machine, and a difference."""

from __future__ import annotations

import shlex
from functools import cache
from typing import TYPE_CHECKING, Any

from pt2e_ci.cells import PLATFORMS, load_cells

if TYPE_CHECKING:
    from pt2e_ci.reports.record import Report


def label(report: Report) -> str:
    """Name a report's cell; what qemu ran is marked."""
    return f"{report.run['cell']}{' (emulated)' * report.run['emulated']}"


def cell_name(report: Report) -> str:
    """Name a report's cell without the platform at the end of its id."""
    cell: str = report.run["cell"]
    return cell.rpartition("-")[0] or cell


def machine(report: Report) -> str:
    """Name the architecture that a report was made on; what qemu ran is marked."""
    return f"{report.run['machine']}{' (emulated)' * report.run['emulated']}"


def difference(numbers: dict[str, Any]) -> str:
    """Write the largest difference of a comparison, with its unit."""
    if numbers["not_finite"]:
        return "not finite"
    if numbers["unit"] == "lsb":
        return f"{numbers['max']:.4g} LSB"
    return f"{numbers['max']:.1e}"


def command(case: dict[str, Any], report: Report) -> str:
    """Return the command that runs a case again: a session of a listed cell, or the suite in an environment like it."""
    run = report.run
    listed = _sessions().get(run["cell"])
    command = ["nox", "-s", listed, "--"] if listed else ["pt2e-ci", "run"]
    command.append(case["name"])
    if run.get("representation", "upstream") != "upstream":
        command += ["--representation", run["representation"]]
    if run["seed"]:
        command += ["--seed", str(run["seed"])]
    return shlex.join(command)


@cache
def _sessions() -> dict[str, str]:
    return {cell.id(tag): cell.session for cell in load_cells().cells for tag in PLATFORMS.values()}


def markdown_text(text: str) -> str:
    """Return text as Markdown shows it in a table's cell: no character of it formats, links or mentions."""
    for character in "\\`*_[]<>|@#":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())
