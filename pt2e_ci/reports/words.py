"""How every view names a cell, a machine, and a difference."""

from __future__ import annotations

import re
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


def to_exact(case: dict[str, Any]) -> dict[str, Any] | None:
    """Return how far a case is from the exact result; None where that is not known, for want of an exact form."""
    numbers: dict[str, Any] | None = case["numerics"].get("reference_vs_exact")
    approximated = case.get("exact") and case["exact"]["approximated"]
    return numbers if numbers and numbers["compared"] and not approximated else None


def command(case: dict[str, Any], report: Report) -> str:
    """Return the command that runs a case again: a session of a listed cell, or the suite in an environment like it."""
    run, representation = report.run, representation_of(report)
    listed = _sessions().get(run["cell"])
    command = ["nox", "-s", listed, "--", case["name"]] if listed else ["pt2e-ci", "run", case["name"]]
    if not listed:
        command += ["--flow", run["flow"]]
    if representation != "upstream":
        command += ["--representation", representation]
    if run["seed"]:
        command += ["--seed", str(run["seed"])]
    rounding = rounding_of(case)
    if rounding and rounding != "half_even":
        command += ["--rounding", rounding]
    # A session's environment has this project's own representations, and others by their package.
    other = listed and representation != "upstream" and not representation.startswith("pt2e_ci.")
    return f"{'PT2E_CI_WITH=PACKAGE ' if other else ''}{shlex.join(command)}"


def representation_of(report: Report) -> str:
    """Return what made the reference programs of a report."""
    return str(report.run.get("representation", "upstream"))


def rounding_of(case: dict[str, Any]) -> str | None:
    """Return the rounding scheme of a case's exact result, if it has one."""
    exact = case.get("exact")
    return exact["rounding"] if exact else None


@cache
def _sessions() -> dict[str, str]:
    return {
        cell.on(python).id(tag): cell.session
        for cell in load_cells().cells
        for python in cell.pythons
        for tag in PLATFORMS.values()
    }


def markdown_text(text: str) -> str:
    """Return text as Markdown shows it in a table's cell: no character of it formats, links or mentions."""
    for character in "\\`*_[]<>|@#~$":
        text = text.replace(character, f"\\{character}")
    # An address is made a link of where it is bare; an entity for one of its characters ends that.
    text = re.sub(r"(?i)\b(https?|ftp|mailto):", r"\1&#58;", text)
    text = re.sub(r"(?i)\bwww\.", "www&#46;", text)
    return " ".join(text.split())
