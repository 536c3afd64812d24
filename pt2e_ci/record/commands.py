"""The command that runs a case again."""

from __future__ import annotations

import shlex
from functools import cache
from typing import TYPE_CHECKING

from pt2e_ci.cells.cell import PLATFORMS, load_cells
from pt2e_ci.exact.schemes import Rounding

if TYPE_CHECKING:
    from collections.abc import Mapping


def command(
    case: str,
    cell: str,
    flow: str,
    representation: str = "upstream",
    seed: int = 0,
    *,
    rounding: str | None = None,
    doors: Mapping[str, str | None] | None = None,
) -> str:
    """Return the command that runs a case again: a session of a listed cell, or the suite in an environment like it.

    `doors` are what else is somebody's own, by option.
    """
    named = {option: name for option, name in (doors or {}).items() if name}
    listed = _sessions().get(cell)
    words = ["nox", "-s", listed, "--", case] if listed else ["pt2e-ci", "run", case, "--flow", flow]
    if representation != "upstream":
        words += ["--representation", representation]
    if seed:
        words += ["--seed", str(seed)]
    if rounding and rounding != Rounding.HALF_EVEN:
        words += ["--rounding", rounding]
    for option, name in named.items():
        words += [f"--{option}", name]
    # A session's environment has this project's own representations, and others by their package.
    theirs = [name for name in (representation, *named.values()) if ":" in name and not name.startswith("pt2e_ci.")]
    other = listed and (theirs or representation not in ("upstream", "exact"))
    return f"{'PT2E_CI_WITH=PACKAGE ' if other else ''}{shlex.join(words)}"


@cache
def _sessions() -> dict[str, str]:
    return {
        cell.on(python).id(tag): cell.session
        for cell in load_cells().cells
        for python in cell.pythons
        for tag in PLATFORMS.values()
    }
