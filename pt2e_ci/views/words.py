"""How every view names a cell, a machine, and a difference."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pt2e_ci.record.records import Case, Comparison
    from pt2e_ci.record.report import Report


def label(report: Report) -> str:
    """Name a report's cell; what qemu ran is marked."""
    return f"{report.run.cell}{' (emulated)' * report.run.emulated}"


def cell_name(report: Report) -> str:
    """Name a report's cell without the platform at the end of its id."""
    cell = report.run.cell
    return cell.rpartition("-")[0] or cell


def machine(report: Report) -> str:
    """Name the architecture that a report was made on; what qemu ran is marked."""
    return f"{report.run.machine}{' (emulated)' * report.run.emulated}"


def difference(numbers: Comparison) -> str:
    """Write the largest difference of a comparison, with its unit."""
    if numbers.not_finite:
        return "not finite"
    return f"{numbers.max:.4g} LSB" if numbers.unit == "lsb" else f"{numbers.max:.1e}"


def ending(case: Case) -> str:
    """Write how a case ended, and whether that is unexpected, or known."""
    return f"{case.outcome}{', unexpected' if case.is_unexpected else ', known' if case.known else ''}"


def why(case: Case) -> str:
    """Say why a case ended as it did; nothing for a plain pass."""
    return case.reason.text if case.reason else ""


def markdown_text(text: str) -> str:
    """Return text as Markdown shows it in a table's cell: no character of it formats, links or mentions."""
    for character in "\\`*_[]<>|@#~$":
        text = text.replace(character, f"\\{character}")
    # An address is made a link of where it is bare; an entity for one of its characters ends that.
    text = re.sub(r"(?i)\b(https?|ftp|mailto):", r"\1&#58;", text)
    text = re.sub(r"(?i)\bwww\.", "www&#46;", text)
    return " ".join(text.split())
