"""What is known to fail, by case and cell, read from expectations.toml."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from pt2e_ci.cells import FLOWS, Cell
from pt2e_ci.errors import InputError
from pt2e_ci.outcomes import Outcome
from pt2e_ci.toml_lines import entry_lines

if TYPE_CHECKING:
    from collections.abc import Iterable

EXPECTATIONS_FILE = Path(__file__).with_name("expectations.toml")

_REQUIRED = {"case", "outcome", "reason", "link"}
_OPTIONAL = {"torch", "flow", "machine"}
# A skip is a property of the machine and needs no entry; a pass is no defect.
_DEFECTS = [outcome.value for outcome in Outcome if outcome not in (Outcome.PASS, Outcome.SKIP)]

_MACHINES = ("x86_64", "aarch64", "arm64")


@dataclass(frozen=True)
class Expectation:
    """One known defect: which cases, in which cells, with which outcome, and why."""

    case: str
    outcome: Outcome
    reason: str
    link: str
    torch: SpecifierSet
    where: str
    flow: str | None = None
    machine: str | None = None

    def applies_to_cell(self, cell: Cell) -> bool:
        """Tell whether the defect is expected in a cell, on whatever machine."""
        return cell.torch in self.torch and self.flow in (None, cell.flow)

    def applies(self, case: str, cell: Cell, machine: str) -> bool:
        """Tell whether the defect is expected for a case in a cell on a machine such as ``x86_64``."""
        return fnmatchcase(case, self.case) and self.applies_to_cell(cell) and self.machine in (None, machine)


@dataclass(frozen=True)
class Verdict:
    """What the expectations say of an outcome: `known` holds reason and link, `complaint` why it is red."""

    known: dict[str, str] | None
    complaint: str | None


class Expectations:
    """The known defects that hold for one cell on one machine."""

    def __init__(self, entries: Iterable[Expectation], cell: Cell, machine: str) -> None:
        self._entries = list(entries)
        self._cell = cell
        self._machine = machine

    def judge(self, case: str, outcome: Outcome) -> Verdict:
        """Compare an outcome with what is expected of the case here."""
        expected = next((e for e in self._entries if e.applies(case, self._cell, self._machine)), None)
        if expected is None or outcome is Outcome.SKIP:
            ok = outcome in (Outcome.PASS, Outcome.SKIP)
            return Verdict(None, None if ok else f"{outcome} is not an outcome that {case} is known for here")
        if outcome is expected.outcome:
            return Verdict({"reason": expected.reason, "link": expected.link}, None)
        if outcome is Outcome.PASS:
            return Verdict(
                None,
                f"the known {expected.outcome} is gone: remove its entry, or narrow it ({expected.where})",
            )
        return Verdict(None, f"{outcome}, where {expected.outcome} is expected ({expected.where})")


def load_expectations(cases: Iterable[str], cells: Iterable[Cell], path: Path = EXPECTATIONS_FILE) -> list[Expectation]:
    """Read an expectations file and hold every entry against the cases and cells that there are.

    Raises:
        InputError: the file cannot be read, or an entry is malformed, names no case or no cell, or overlaps
            with an earlier one; with the line.

    """
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not valid TOML: {error}") from None
    if stray := sorted(document.keys() - {"known"}):
        raise InputError(f"{path}: unknown table {stray[0]!r}: only [[known]] belongs here")
    entries = document.get("known", [])
    if not isinstance(entries, list):
        raise InputError(f"{path}: 'known' must be an array of tables, written as [[known]]")

    cases, cells = list(cases), list(cells)
    lines = entry_lines(text, "known", len(entries))
    found: list[Expectation] = []
    for entry, line in zip(entries, lines, strict=True):
        expectation = _expectation(entry, f"{path}:{line}")
        _check_against(expectation, cases, cells, found)
        found.append(expectation)
    return found


def _expectation(entry: object, where: str) -> Expectation:
    if not isinstance(entry, dict):
        raise InputError(f"{where}: an entry is a table, written as [[known]]")
    if missing := sorted(_REQUIRED - entry.keys()):
        raise InputError(f"{where}: the entry has no {missing[0]!r}")
    if stray := sorted(entry.keys() - _REQUIRED - _OPTIONAL):
        raise InputError(f"{where}: unknown key {stray[0]!r} in an entry")
    for key, value in entry.items():
        if not isinstance(value, str) or not value.strip():
            raise InputError(f"{where}: {key!r} must be a string that is not empty")
    if entry["outcome"] not in _DEFECTS:
        raise InputError(f"{where}: unknown outcome {entry['outcome']!r}: choose from {', '.join(_DEFECTS)}")
    if entry.get("flow", FLOWS[0]) not in FLOWS:
        raise InputError(f"{where}: unknown flow {entry['flow']!r}: choose from {', '.join(FLOWS)}")
    if entry.get("machine", _MACHINES[0]) not in _MACHINES:
        raise InputError(f"{where}: unknown machine {entry['machine']!r}: choose from {', '.join(_MACHINES)}")
    try:
        torch = SpecifierSet(entry.get("torch", ""), prereleases=True)
    except InvalidSpecifier:
        raise InputError(f'{where}: {entry["torch"]!r} is no version range: write, say, ">=2.2,<2.5"') from None
    fields = {key: value for key, value in entry.items() if key not in ("outcome", "torch")}
    return Expectation(outcome=Outcome(entry["outcome"]), torch=torch, where=where, **fields)


def _check_against(expectation: Expectation, cases: list[str], cells: list[Cell], earlier: list[Expectation]) -> None:
    matching = [case for case in cases if fnmatchcase(case, expectation.case)]
    if not matching:
        raise InputError(f"{expectation.where}: names no case: there is none called {expectation.case!r}")
    here = [cell for cell in cells if expectation.applies_to_cell(cell)]
    if not here:
        raise InputError(f"{expectation.where}: names no cell: no listed torch and flow fit it")
    for other in earlier:
        same_machine = other.machine is None or expectation.machine in (None, other.machine)
        if (
            same_machine
            and any(fnmatchcase(case, other.case) for case in matching)
            and any(other.applies_to_cell(cell) for cell in here)
        ):
            raise InputError(f"{expectation.where}: overlaps with the entry at {other.where}: keep one of them")
