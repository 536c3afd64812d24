"""How every view names a cell, a machine, and a difference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pt2e_ci.reports.record import Report


def label(report: Report) -> str:
    """Name a report's cell; what qemu ran is marked."""
    return f"{report.run['cell']}{' (emulated)' * report.run['emulated']}"


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
