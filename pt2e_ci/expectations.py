"""What is known to fail, by case and cell, read from expectations.toml."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from pt2e_ci.cells import FLOWS, Cell
from pt2e_ci.errors import InputError
from pt2e_ci.files import read_toml
from pt2e_ci.outcomes import Outcome, Result, Stage

if TYPE_CHECKING:
    from collections.abc import Iterable

EXPECTATIONS_FILE = Path(__file__).with_name("expectations.toml")

_REQUIRED = {"case", "outcome", "reason", "link"}
_OPTIONAL = {"torch", "flow", "machine", "of"}
# A defect that is known is known by its size: a worse one, or another one, is not it.
_BOUNDS = {
    Outcome.MISMATCH: ("max_lsb", "max_absolute", "max_differing"),
    Outcome.VACUOUS: ("float_operators",),
    Outcome.ERROR: ("stage",),
}
# A skip is a property of the machine and needs no entry; a pass is no defect.
_DEFECTS = [outcome.value for outcome in Outcome if outcome not in (Outcome.PASS, Outcome.SKIP)]

_JUDGED = ("reference_vs_qdq", "reference_vs_exact")
_OF = ("representation", "quantizer")
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
    max_lsb: float | None = None
    max_absolute: float | None = None
    float_operators: tuple[str, ...] = ()
    max_differing: float | None = None
    stage: str | None = None
    of: str = _OF[0]

    @property
    def of_quantizer(self) -> bool:
        """Whether the defect is the quantizer's, and so is there whatever the representation."""
        return self.of == "quantizer"

    def exceeded_by(self, result: Result) -> str | None:
        """Say in what a result of the known outcome goes beyond the known defect; None if it does not."""
        if self.outcome is Outcome.VACUOUS and result.structure is not None and not self.of_quantizer:
            found = sorted(result.structure["float_operators"])
            if found != sorted(self.float_operators):
                return f"in float are {', '.join(found) or 'none'}; known are {', '.join(self.float_operators)}"
        if self.outcome is Outcome.ERROR and result.stage != self.stage:
            return f"in {result.stage}; known is one in {self.stage}"
        if self.outcome is Outcome.MISMATCH:
            if not result.deterministic:
                return result.reason
            found = [result.numerics[name] for name in _JUDGED if name in result.numerics]
            for numbers in found:
                limit = self.max_lsb if numbers["unit"] == "lsb" else self.max_absolute
                if numbers["not_finite"] or numbers.get("off_grid"):
                    return result.reason
                if limit is None or numbers["max"] > limit:
                    return f"{result.reason}; known are {limit}"
            if self.max_differing is not None and found[-1]["differing"] > self.max_differing:
                return f"{result.reason}; known are {self.max_differing:.0%}"
        return None

    def applies_to_cell(self, cell: Cell) -> bool:
        """Tell whether the defect is expected in a cell, on whatever machine."""
        return cell.torch in self.torch and self.flow in (None, cell.flow)

    def applies(self, case: str, cell: Cell, machine: str) -> bool:
        """Tell whether the defect is expected for a case in a cell on a machine such as ``x86_64``."""
        return fnmatchcase(case, self.case) and self.applies_to_cell(cell) and self.machine in (None, machine)


@dataclass(frozen=True)
class Verdict:
    """What the expectations say of an outcome.

    Attributes:
        known: reason and link of the defect that it is known for.
        complaint: why it is red.
        change: in a word: it is ``new``, ``worse`` than the known defect, or the known defect is ``gone``.

    """

    known: dict[str, str] | None = None
    complaint: str | None = None
    change: str | None = None


class Expectations:
    """The known defects that hold for one cell on one machine."""

    def __init__(self, entries: Iterable[Expectation], cell: Cell, machine: str) -> None:
        self._entries = list(entries)
        self._cell = cell
        self._machine = machine

    def judge(self, result: Result) -> Verdict:
        """Compare a result with what is expected of its case here."""
        case, outcome = result.name, result.outcome
        expected = next((e for e in self._entries if e.applies(case, self._cell, self._machine)), None)
        if outcome is Outcome.SKIP or (expected is None and outcome is Outcome.PASS):
            return Verdict()
        if expected is None:
            return Verdict(None, f"{outcome} is not an outcome that {case} is known for here", "new")
        if outcome is Outcome.PASS:
            gone = f"the known {expected.outcome} is gone: remove its entry, or narrow it ({expected.where})"
            return Verdict(None, gone, "gone")
        if outcome is not expected.outcome:
            return Verdict(None, f"{outcome}, where {expected.outcome} is expected ({expected.where})", "new")
        if worse := expected.exceeded_by(result):
            return Verdict(None, f"more than the known {expected.outcome}: {worse} ({expected.where})", "worse")
        return Verdict({"reason": expected.reason, "link": expected.link})


def load_expectations(cases: Iterable[str], cells: Iterable[Cell], path: Path = EXPECTATIONS_FILE) -> list[Expectation]:
    """Read an expectations file and hold every entry against the cases and cells that there are.

    Raises:
        InputError: the file cannot be read, or an entry is malformed, names no case or no cell, or overlaps
            with an earlier one; with its number.

    """
    document = read_toml(path)
    if stray := sorted(document.keys() - {"known"}):
        raise InputError(f"{path}: unknown table {stray[0]!r}: only [[known]] belongs here")
    entries = document.get("known", [])
    if not isinstance(entries, list):
        raise InputError(f"{path}: 'known' must be an array of tables, written as [[known]]")

    cases, cells = list(cases), list(cells)
    found: list[Expectation] = []
    for number, entry in enumerate(entries, 1):
        name = f" ({entry['case']})" if isinstance(entry, dict) and isinstance(entry.get("case"), str) else ""
        expectation = _expectation(entry, f"{path}: [[known]] {number}{name}")
        _check_against(expectation, cases, cells, found)
        found.append(expectation)
    return found


def _expectation(entry: object, where: str) -> Expectation:
    if not isinstance(entry, dict):
        raise InputError(f"{where}: an entry is a table, written as [[known]]")
    if missing := sorted(_REQUIRED - entry.keys()):
        raise InputError(f"{where}: the entry has no {missing[0]!r}")
    if entry["outcome"] not in _DEFECTS:
        raise InputError(f"{where}: unknown outcome {entry['outcome']!r}: choose from {', '.join(_DEFECTS)}")
    outcome = Outcome(entry["outcome"])
    bounds = _BOUNDS.get(outcome, ())
    of_quantizer = entry.get("of") == "quantizer"
    if bounds and not entry.keys() & set(bounds) and not (of_quantizer and outcome is Outcome.VACUOUS):
        raise InputError(f"{where}: a known {outcome} needs its size: add {' or '.join(bounds)}")
    if stray := sorted(entry.keys() - _REQUIRED - _OPTIONAL - set(bounds)):
        raise InputError(f"{where}: unknown key {stray[0]!r} in an entry of a known {outcome}")
    for key, value in entry.items():
        if key == "float_operators":
            if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
                raise InputError(f"{where}: {key!r} must be a list of operators' names")
        elif key == "stage":
            if value not in list(Stage):
                raise InputError(f"{where}: unknown stage {value!r}: choose from {', '.join(Stage)}")
        elif key in bounds:
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise InputError(f"{where}: {key!r} must be a number above 0")
        elif not isinstance(value, str) or not value.strip():
            raise InputError(f"{where}: {key!r} must be a string that is not empty")
    if entry.get("flow", FLOWS[0]) not in FLOWS:
        raise InputError(f"{where}: unknown flow {entry['flow']!r}: choose from {', '.join(FLOWS)}")
    if entry.get("of", _OF[0]) not in _OF:
        raise InputError(f"{where}: unknown 'of' {entry['of']!r}: choose from {', '.join(_OF)}")
    if entry.get("machine", _MACHINES[0]) not in _MACHINES:
        raise InputError(f"{where}: unknown machine {entry['machine']!r}: choose from {', '.join(_MACHINES)}")
    try:
        torch = SpecifierSet(entry.get("torch", ""), prereleases=True)
    except InvalidSpecifier:
        raise InputError(f'{where}: {entry["torch"]!r} is no version range: write, say, ">=2.2,<2.5"') from None
    fields = {key: value for key, value in entry.items() if key not in ("outcome", "torch")}
    if "float_operators" in fields:
        fields["float_operators"] = tuple(fields["float_operators"])
    return Expectation(outcome=outcome, torch=torch, where=where, **fields)


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
