"""What is known to fail, by case and cell, read from expectations.toml."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from pt2e_ci.cells.cell import Cell, FlowName
from pt2e_ci.errors import InputError
from pt2e_ci.files import read_toml
from pt2e_ci.record.outcomes import Outcome, Stage
from pt2e_ci.record.reasons import MISMATCHES, findings
from pt2e_ci.record.records import Case, Known, Operator, Record

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

EXPECTATIONS_FILE = Path(__file__).with_name("expectations.toml")

Text = Annotated[str, Meta(pattern=r"\S")]
Limit = Annotated[float, Meta(gt=0, le=sys.float_info.max)]
# Words that were written once: what to write now.
_ONCE = {"vacuous": "write 'float' for what is computed in float, 'unquantized' for what the quantizer left out"}
_ONCE_FIELDS = dict.fromkeys(
    ("max_absolute", "max_differing"),
    'an operator is judged on its own operands: write outcome = "inexact" and its operators, or max_lsb',
)
_FAR = "PQ023"
_BY_OPERATOR = "deployed"
"""The family of cases that are known by their operators, and not by their names: a network has dozens."""
# What operators are known for that compute in float; a reason of schema 1 has no code.
_IN_FLOAT = ("PQ012", "PQ018", None)
# What a network comes to where nothing but its operators is wrong.
_SAID_OF_OPERATORS = (*_IN_FLOAT, _FAR, "PQ031")
_OF_OPERATORS = (Outcome.PASS, Outcome.INEXACT, Outcome.MISMATCH, Outcome.FLOAT)


class _Somewhere(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A known defect: why it is there, and in which cells.

    Attributes:
        reason: what is wrong, in one sentence.
        link: where it can be read.
        torch: the range of versions.
        flow, machine: the home of the flow, and the architecture.

    """

    reason: Text
    link: Text
    torch: Text | None = None
    flow: FlowName | None = None
    machine: Literal["x86_64", "aarch64", "arm64"] | None = None

    def applies_to_cell(self, cell: Cell) -> bool:
        """Tell whether the defect is expected in a cell, on whatever machine."""
        return cell.torch in SpecifierSet(self.torch or "", prereleases=True) and self.flow in (None, cell.flow)

    def applies_to(self, cell: Cell, machine: str) -> bool:
        """Tell whether the defect is expected in a cell on a machine such as ``x86_64``."""
        return self.applies_to_cell(cell) and self.machine in (None, machine)


class KnownOperator(_Somewhere, frozen=True, kw_only=True):
    """A known defect of upstream's representation in an operator, in whatever network.

    Attributes:
        name: the operator's.
        verdict: it computes in float, or its levels are off.
        displacement: how far beyond a rounding boundary they are, at most, in LSB.
        case: a glob over the names of the networks that the row is about.

    """

    name: Text
    case: Text = "*"
    verdict: Literal["float", "off"]
    displacement: Limit | None = None

    def __post_init__(self) -> None:
        """Hold the size against the verdict."""
        if (self.verdict == "off") == (self.displacement is None):
            raise ValueError("an operator that is off needs its size, displacement, and one in float has none")


class Expectation(_Somewhere, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="outcome"):
    """One known defect: which cases, in which cells, with which outcome, and why. A kind for each outcome.

    A defect that is known is known by its size: a worse one, or another one, is not it. A skip is a property of the
    machine and needs no entry; a pass is no defect.

    Attributes:
        case: a case's name, or a glob over names.
        of: whose the defect is: the quantizer's is there whatever the representation.

    """

    case: Text
    of: Literal["representation", "quantizer"] = "representation"

    @property
    def outcome(self) -> Outcome:
        """The known outcome."""
        return Outcome(str(self.__struct_config__.tag))

    @property
    def of_quantizer(self) -> bool:
        """Whether the defect is there whatever the representation."""
        return self.of == "quantizer"

    def exceeded_by(self, case: Case) -> str | None:
        """Say in what a case of the known outcome goes beyond the known defect; None if it does not."""
        return None

    def applies(self, case: str, cell: Cell, machine: str) -> bool:
        """Tell whether the defect is expected for a case in a cell on a machine such as ``x86_64``."""
        return fnmatchcase(case, self.case) and self.applies_to(cell, machine)


class _Mismatch(Expectation, frozen=True, kw_only=True, tag="mismatch"):
    max_lsb: Limit | None = None
    code: Annotated[str, Meta(pattern="^PQ[0-9]{3}$")] | None = None

    def __post_init__(self) -> None:
        if (self.max_lsb is None) == (self.code is None):
            raise ValueError("a known mismatch needs its size, max_lsb, or, where it is none of numbers, its code")

    def exceeded_by(self, case: Case) -> str | None:
        known = self.code or _FAR
        reasons = [*([case.reason] if case.reason else []), *case.notes]
        # Whatever else makes a mismatch is another defect.
        others = [one for one in reasons if one.code in MISMATCHES and one.code != known]
        if others or all(one.code != known for one in reasons):
            return (others or reasons)[0].text if reasons else "no reason is given"
        measured = [one.reference.max for one in case.operators if one.reference is not None]
        decided = [one.evidence.displacement for one in case.operators if one.evidence and _is_shown(one)]
        worst = max((*measured, *decided), default=0)
        if self.max_lsb is not None and worst > self.max_lsb:
            return f"{reasons[0].text}; known are {self.max_lsb:g}"
        return None


class _Inexact(Expectation, frozen=True, kw_only=True, tag="inexact"):
    operators: tuple[str, ...]
    displacement: Limit

    def exceeded_by(self, case: Case) -> str | None:
        found = sorted({one.name for one in case.operators if (one.reference and one.reference.off) or _is_shown(one)})
        if found != sorted(self.operators):
            return f"inexact are {', '.join(found) or 'outputs'}; known are {', '.join(self.operators)}"
        worst = max((one.evidence.displacement for one in case.operators if one.evidence and _is_shown(one)), default=0)
        if worst > self.displacement:
            return f"up to {worst:.4g} LSB beyond a boundary; known are {self.displacement:g}"
        return None


def _is_shown(operator: Operator) -> bool:
    """Tell whether an input shows an operator to be wrong."""
    return operator.evidence is not None and operator.evidence.is_shown


class _Float(Expectation, frozen=True, kw_only=True, tag="float"):
    float_operators: tuple[str, ...]

    def exceeded_by(self, case: Case) -> str | None:
        found = sorted(case.structure.float_operators) if case.structure else []
        if case.reason is not None and case.reason.code not in _IN_FLOAT:
            return case.reason.text
        if self.of_quantizer or case.structure is None or found == sorted(self.float_operators):
            return None
        return f"in float are {', '.join(found) or 'none'}; known are {', '.join(self.float_operators)}"


class _Error(Expectation, frozen=True, kw_only=True, tag="error"):
    stage: Stage

    def exceeded_by(self, case: Case) -> str | None:
        return None if case.stage is self.stage else f"in {case.stage}; known is one in {self.stage}"


class _Unquantized(Expectation, frozen=True, kw_only=True, tag="unquantized"):
    pass


class _Crash(Expectation, frozen=True, kw_only=True, tag="crash"):
    pass


class _Timeout(Expectation, frozen=True, kw_only=True, tag="timeout"):
    pass


_Any = _Mismatch | _Inexact | _Float | _Error | _Unquantized | _Crash | _Timeout


@dataclass(frozen=True)
class Verdict:
    """What the expectations say of an outcome.

    Attributes:
        known: reason and link of the defect that it is known for.
        complaint: why it is red.
        change: in a word: it is ``new``, ``worse`` than the known defect, or the known defect is ``gone``.

    """

    known: Known | None = None
    complaint: str | None = None
    change: Literal["new", "worse", "gone"] | None = None


class Expectations:
    """The known defects that hold for one cell on one machine, each with where it stands."""

    def __init__(
        self,
        entries: Iterable[tuple[Expectation, str]],
        cell: Cell,
        machine: str,
        operators: Iterable[tuple[KnownOperator, str]] = (),
    ) -> None:
        self._entries = list(entries)
        self._operators = [pair for pair in operators if pair[0].applies_to(cell, machine)]
        self._cell = cell
        self._machine = machine

    def judge(self, case: Case) -> Verdict:
        """Compare a case with what is expected of it here."""
        name, outcome = case.name, case.outcome
        found = (pair for pair in self._entries if pair[0].applies(name, self._cell, self._machine))
        expected, where = next(found, (None, ""))
        if expected is None and case.family == _BY_OPERATOR and outcome in _OF_OPERATORS:
            return self._by_operator(case)
        if outcome is Outcome.SKIP or (expected is None and outcome is Outcome.PASS):
            return Verdict()
        if expected is None:
            return Verdict(None, f"{outcome} is not an outcome that {name} is known for here", "new")
        if outcome is Outcome.PASS:
            gone = f"the known {expected.outcome} is gone: remove its entry, or narrow it ({where})"
            return Verdict(None, gone, "gone")
        if outcome is not expected.outcome:
            return Verdict(None, f"{outcome}, where {expected.outcome} is expected ({where})", "new")
        if worse := expected.exceeded_by(case):
            return Verdict(None, f"more than the known {expected.outcome}: {worse} ({where})", "worse")
        return Verdict(Known(reason=expected.reason, link=expected.link))

    def _by_operator(self, case: Case) -> Verdict:
        """Compare each operator of a network with what its kind is known for here."""
        here = [pair for pair in self._operators if fnmatchcase(case.name, pair[0].case)]
        rows: dict[tuple[str, str], tuple[KnownOperator, str]] = {}
        for pair in here:  # the user's own are first
            rows.setdefault((pair[0].name, str(pair[0].verdict)), pair)
        if others := [one.text for one in findings(case) if one.code not in _SAID_OF_OPERATORS]:
            return Verdict(None, f"{others[0]}, which is nothing that its operators are known for", "new")
        found: dict[tuple[str, str], KnownOperator] = {}
        defects = [(operator, defect) for operator in case.operators for defect in _defects(operator)]
        for one, (verdict, size) in defects:
            if (one.name, verdict) not in rows:
                return Verdict(None, f"{one.name} ({one.node}) is {verdict}, which it is not known for here", "new")
            row, where = rows[one.name, verdict]
            if row.displacement is not None and size > row.displacement:
                far = f"up to {size:.4g} LSB beyond a boundary; known are {row.displacement:g}"
                worse = f"{one.name} ({one.node}) is {far} ({where})"
                return Verdict(None, worse, "worse")
            found[one.name, verdict] = row
        names = {one.name for one in case.operators}
        for (name, verdict), (_, where) in rows.items():
            if name in names and (name, verdict) not in found:
                return Verdict(None, f"no {name} is {verdict} any more: remove its row, or narrow it ({where})", "gone")
        if case.outcome is Outcome.PASS:
            return Verdict()
        if not found:
            return Verdict(None, f"{case.outcome}, and none of its operators is", "new")
        known = list(dict.fromkeys(row.reason for row in found.values()))
        return Verdict(Known(reason="; ".join(known), link=next(iter(found.values())).link))


def _defects(one: Operator) -> Iterator[tuple[str, float]]:
    """Yield what is wrong with an operator, each with how far it is beyond a boundary, in LSB."""
    if one.verdict not in (None, "integer"):
        yield one.verdict, 0.0
    if one.reference is not None and one.reference.off:
        yield "off", one.reference.boundary or float(one.reference.max)
    elif one.evidence is not None and _is_shown(one):
        yield "off", one.evidence.displacement


def load_operators(
    networks: Mapping[str, Collection[str]], cells: Iterable[Cell], path: Path = EXPECTATIONS_FILE
) -> list[tuple[KnownOperator, str]]:
    """Read what operators are known for, each with where it stands.

    Args:
        networks: by its name, the operators that the quantizer annotates in each.
        cells: all of them.
        path: the file.

    Raises:
        InputError: the file cannot be read, or a row is malformed, names no operator of a network or no cell, or
            overlaps with an earlier one.

    """
    cells = list(cells)
    found: list[tuple[KnownOperator, str]] = []
    for number, entry in enumerate(_tables(path, "operator"), 1):
        where = f"{path}: [[operator]] {number}"
        row = _read(entry, KnownOperator, where)
        _check_cells(row, where, cells)
        mine = [name for name, annotated in networks.items() if row.name in annotated and fnmatchcase(name, row.case)]
        if not mine:
            raise InputError(f"{where}: names no operator of a network: none called {row.case!r} has a {row.name!r}")
        for other, there in found:
            same = (other.name, other.verdict) == (row.name, row.verdict)
            if same and any(fnmatchcase(name, other.case) for name in mine) and _meet(row, other, cells):
                raise InputError(f"{where}: overlaps with the row at {there}: keep one of them")
        found.append((row, where))
    return found


def load_expectations(
    cases: Iterable[str], cells: Iterable[Cell], path: Path = EXPECTATIONS_FILE
) -> list[tuple[Expectation, str]]:
    """Read an expectations file and hold every entry against the cases and cells that there are.

    Returns the entries, each with where it stands.

    Raises:
        InputError: the file cannot be read, or an entry is malformed, names no case or no cell, or overlaps
            with an earlier one; with its number.

    """
    cases, cells = list(cases), list(cells)
    found: list[tuple[Expectation, str]] = []
    for number, entry in enumerate(_tables(path, "known"), 1):
        name = f" ({entry['case']!r:.50})".replace("'", "") if isinstance(entry, dict) and "case" in entry else ""
        where = f"{path}: [[known]] {number}{name}"
        expectation = _expectation(entry, where)
        _check_against(expectation, where, cases, cells)
        _check_overlap(
            expectation, where, [case for case in cases if fnmatchcase(case, expectation.case)], cells, found
        )
        found.append((expectation, where))
    return found


def _expectation(entry: Any, where: str) -> Expectation:
    if isinstance(entry, dict) and (now := _ONCE.get(str(entry.get("outcome")))):
        raise InputError(f"{where}: {entry['outcome']!r} is no longer an outcome: {now}")
    for field in _ONCE_FIELDS.keys() & (entry.keys() if isinstance(entry, dict) else ()):
        raise InputError(f"{where}: {field!r} is no longer a limit: {_ONCE_FIELDS[field]}")
    if isinstance(entry, dict) and entry.get("of") == "quantizer" and entry.get("outcome") == "float":
        entry = {"float_operators": [], **entry}
    expectation: Expectation = _read(entry, _Any, where)
    return expectation


def _tables(path: Path, name: str) -> list[Any]:
    """Read a file's tables of one name."""
    document = read_toml(path)
    if stray := sorted(document.keys() - {"known", "operator"}):
        raise InputError(f"{path}: unknown table {stray[0]!r}: only [[known]] and [[operator]] belong here")
    entries = document.get(name, [])
    if not isinstance(entries, list):
        raise InputError(f"{path}: {name!r} must be an array of tables, written as [[{name}]]")
    return entries


def _read(entry: Any, kind: Any, where: str) -> Any:
    try:
        found = msgspec.convert(entry, kind)
        SpecifierSet(found.torch or "")
    except msgspec.ValidationError as error:
        raise InputError(f"{where}: {error}") from None
    except InvalidSpecifier:
        raise InputError(f'{where}: {entry["torch"]!r} is not a version range: write, say, ">=2.2,<2.5"') from None
    return found


def _check_against(expectation: Expectation, where: str, cases: list[str], cells: list[Cell]) -> None:
    if not any(fnmatchcase(case, expectation.case) for case in cases):
        raise InputError(f"{where}: names no case: there is none called {expectation.case!r}")
    _check_cells(expectation, where, cells)


def _check_cells(one: _Somewhere, where: str, cells: list[Cell]) -> None:
    if not any(one.applies_to_cell(cell) for cell in cells):
        raise InputError(f"{where}: names no cell: no listed torch and flow fit it")


def _meet(one: _Somewhere, other: _Somewhere, cells: Iterable[Cell]) -> bool:
    """Tell whether two defects are expected in one cell on one machine."""
    same_machine = other.machine is None or one.machine in (None, other.machine)
    return same_machine and any(one.applies_to_cell(cell) and other.applies_to_cell(cell) for cell in cells)


def _check_overlap(
    one: Expectation, where: str, cases: list[str], cells: list[Cell], earlier: list[tuple[Expectation, str]]
) -> None:
    for other, there in earlier:
        if any(fnmatchcase(case, other.case) for case in cases) and _meet(one, other, cells):
            raise InputError(f"{where}: overlaps with the entry at {there}: keep one of them")
