"""What a run of the suite is asked for: its options, and the settings that are made of them."""

from __future__ import annotations

import os
import platform
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pt2e_ci.catalogue.cases import DEPLOYED, Case, case_names, listed_cases, select_cases
from pt2e_ci.cells.capabilities import CAPABILITIES, ENGINES, OTHER_ENGINES, workers
from pt2e_ci.cells.cell import FLOWS, Cell, current_cell, load_cells, platform_tag
from pt2e_ci.errors import InputError, unknown
from pt2e_ci.exact.schemes import Rounding
from pt2e_ci.plugins import names
from pt2e_ci.record.commands import command
from pt2e_ci.record.criteria import criteria_by_case
from pt2e_ci.record.expectations import EXPECTATIONS_FILE, Expectations, load_expectations, load_operators
from pt2e_ci.record.report import check_writable, place_of
from pt2e_ci.record.unchanged import result_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

    from pt2e_ci.record.expectations import Expectation, KnownOperator

OPTIONS = (
    *("--case", "--report", "--require", "--table", "--flow", "--representation", "--rounding", "--seed"),
    *("--quantizer", "--cases", "--criteria", "--expectations"),
    *("-k", "-m", "-n", "-x", "--maxfail", "--timeout", "--junitxml", "--pdb", "--verbose"),
)
"""The options that a mistyped one is likely to mean: the suite's own, and the usual ones of pytest."""
_MAIN, _OTHER = "reports/", "reports/other/"
_TIMEOUT_SECONDS = 300


@dataclass(frozen=True)
class Settings:
    """What a run was asked for, checked. The same in every process of it."""

    cell: Cell
    listed: tuple[Case, ...]
    """All cases that there are."""
    cases: tuple[Case, ...]
    """Those that are run."""
    expectations: Expectations
    required: tuple[str, ...]
    seed: int
    report: Path | None
    """Where the report goes; None for standard output."""
    is_main: bool
    """Whether the report is the cell's own, that of a run of all cases as they stand: no other takes its place."""
    representation: str | None
    """What makes the reference programs, as the user named it; None for upstream's own."""
    quantizer: str | None
    """The quantizer of every case, as the user named it; None for the cases' own."""
    criteria: str | None
    """What cases are held to, as the user named it; None for their own."""
    more_cases: str | None
    """What gives more cases, as the user named it."""
    engines: tuple[str, ...]
    """What other packages bring to be measured beside torch's own."""
    rounding: Rounding
    """The rounding scheme of the exact result."""
    table: bool
    """Whether the table of all cases is printed."""

    def command(self, case: str) -> str:
        """Return the command that runs a case again."""
        run = (self.cell.id(platform_tag()), self.cell.flow, self.representation or "upstream", self.seed)
        doors = {"quantizer": self.quantizer, "criteria": self.criteria, "cases": self.more_cases}
        return command(case, *run, rounding=self.rounding, doors=doors)


def add_options(parser: pytest.Parser) -> None:
    """Add the suite's options to pytest's."""
    group = parser.getgroup("pt2e-ci", "PT2E's reference representation")
    group.addoption("--case", action="append", default=[], metavar="NAME", help="run this case only; repeatable")
    group.addoption(
        "--report",
        metavar="FILE",
        help="where the report goes: a file, or a folder that gets <cell>.jsonl; - is stdout (default: reports, and for"
        " a run of some cases, or of another representation, rounding, seed or expectations, reports/other)",
    )
    group.addoption(
        "--require",
        default="",
        metavar="NAMES",
        help=f"capabilities whose absence fails the run, comma-separated: {', '.join(CAPABILITIES)}",
    )
    group.addoption("--table", action="store_true", help="print the table of all cases, too")
    group.addoption("--flow", metavar="HOME", help=f"home of the PT2E flow, one of: {', '.join(FLOWS)}")
    group.addoption(
        "--representation",
        metavar="MODULE:FUNCTION",
        help="what turns a Q/DQ program into a reference program, in place of upstream's own; or an entry point's name",
    )
    group.addoption(
        "--quantizer",
        metavar="MODULE:NAME",
        help="the quantizer of every case, in place of its own; or an entry point's",
    )
    group.addoption("--cases", metavar="MODULE:NAME", help="more cases; or an entry point's name")
    group.addoption(
        "--criteria",
        metavar="MODULE:NAME",
        help="what cases are held to, in place of their own; or an entry point's name",
    )
    group.addoption(
        "--rounding",
        default=Rounding.HALF_EVEN.value,
        metavar="SCHEME",
        help=f"the rounding scheme of the exact result, one of: {', '.join(Rounding)} (default %(default)s)",
    )
    group.addoption("--seed", type=int, default=0, help="seed of weights and inputs (default 0)")
    group.addoption(
        "--expectations",
        type=Path,
        metavar="FILE",
        help="known defects of your own, before those that the package lists",
    )


def make_settings(option: Any) -> Settings:
    """Check the options and make settings of them.

    Raises:
        InputError: one of them will not do.

    """
    _check_selection(option)
    required = tuple(name.strip() for name in option.require.split(",") if name.strip())
    for name in required:
        if name not in CAPABILITIES:
            raise unknown("capability", name, CAPABILITIES)
    cell = current_cell(option.flow)
    listed = listed_cases(option.cases)
    cases = [case for case in select_cases(option.case, listed) if cell.flow in case.flows]
    if strays := sorted(set(option.case) - {case.name for case in cases}):
        raise InputError(f"{strays[0]} is a case of another flow than {cell.flow}: leave it out here")
    entries = _known(option, case_names(listed))
    if option.rounding not in [*Rounding]:
        raise unknown("rounding scheme", option.rounding, [*Rounding])
    if option.representation in ("", "upstream"):
        raise InputError("--representation needs package.module:function, or an entry point; upstream's needs none")
    if option.report == "":
        raise InputError("--report needs the name of a file or a folder, or - for standard output")
    report = None if option.report == "-" else _report_path(option.report or _default_folder(option), cell)
    machine = platform_tag().split("_", 1)[1]
    if option.criteria:
        criteria_by_case(option.criteria)
    return Settings(
        cell,
        listed,
        tuple(cases),
        Expectations(entries, cell, machine, _known_operators(option, listed)),
        required,
        option.seed,
        report,
        option.report is None and _default_folder(option) == _MAIN,
        option.representation,
        option.quantizer,
        option.criteria,
        option.cases,
        tuple(names("engines", but=(*ENGINES, *OTHER_ENGINES))),
        Rounding(option.rounding),
        option.table,
    )


def _known(option: Any, cases: Sequence[str]) -> list[tuple[Expectation, str]]:
    """Return the known defects: the user's own, and after them what the package lists and still applies."""
    cells = load_cells().cells
    mine = load_expectations(cases, cells, option.expectations) if option.expectations else []
    entries = load_expectations({*cases, *case_names(DEPLOYED)}, cells, EXPECTATIONS_FILE)
    if option.quantizer or option.criteria:
        entries = []  # they are of other programs, or of other criteria
    elif option.representation:
        # What upstream's representation does wrong excuses no other; what the quantizer leaves out does.
        entries = [entry for entry in entries if entry[0].of_quantizer]
    return [*mine, *entries]


def _known_operators(option: Any, listed: Sequence[Case]) -> list[tuple[KnownOperator, str]]:
    """Return what operators are known for in networks, the user's own first; all of it is of upstream's programs."""
    cells = load_cells().cells
    networks = {one.name: one.criteria.annotated for one in (*listed, *DEPLOYED) if one.family == DEPLOYED[0].family}
    mine = load_operators(networks, cells, option.expectations) if option.expectations else []
    is_upstream = not (option.quantizer or option.criteria or option.representation)
    return [*mine, *(load_operators(networks, cells) if is_upstream else [])]


def _default_folder(option: Any) -> str:
    asked = (option.case, option.keyword, option.markexpr, option.deselect)
    otherwise = (option.representation, option.expectations, option.seed, option.rounding != Rounding.HALF_EVEN)
    doors = (option.quantizer, option.cases, option.criteria)
    return _OTHER if any((*asked, *otherwise, *doors)) else _MAIN


def other_place(path: Path) -> Path:
    """Return where a report goes in place of `path`, the cell's own, if its run has left cases out."""
    return path.parent / Path(_OTHER).name / path.name


def _report_path(given: str, cell: Cell) -> Path:
    path = place_of(given, cell).resolve()
    check_writable(path)
    return path


def _check_selection(option: Any) -> None:
    """Check -k and -m here: with workers, a mistake in them ends in an internal error of pytest-xdist."""
    from _pytest.mark.expression import Expression

    for name, text in (("-k", option.keyword), ("-m", option.markexpr)):
        try:
            Expression.compile(text or "x")
        except Exception as error:  # of a kind that differs between releases of pytest
            raise InputError(f"{name} {text!r} is not an expression: {error}") from None


def key_of(option: Any) -> str:
    """Return the digest of all that the results depend on."""
    # What decides which cases are run, with what, and how they are judged.
    names = (
        *("case", "require", "flow", "representation", "rounding", "seed", "quantizer", "cases", "criteria"),
        *("keyword", "markexpr", "deselect", "plugins"),
    )
    options = {name: value for name in names if (value := getattr(option, name)) and value != Rounding.HALF_EVEN}
    if option.expectations:
        options["expectations"] = option.expectations.read_text(encoding="utf-8")
    return result_key(Path(sysconfig.get_path("purelib")), platform.python_version(), options)


def isolate(config: pytest.Config, cases: int) -> None:
    """Have the cases run in workers that any of them may kill, and within a time limit, unless told otherwise."""
    option = config.option
    has_xdist = config.pluginmanager.hasplugin("xdist")
    if has_xdist and option.numprocesses is None and option.dist == "no" and not option.usepdb:
        option.numprocesses = workers(cases)
    if config.pluginmanager.hasplugin("timeout"):
        if option.timeout is None:
            # In the order in which pytest-timeout looks; said here once, so that workers and we hold to the same.
            option.timeout = float(os.environ.get("PYTEST_TIMEOUT") or config.getini("timeout") or _TIMEOUT_SECONDS)
        if option.timeout_method is None and option.numprocesses:
            # The other method, a signal, cannot end a case that hangs outside of Python.
            option.timeout_method = "thread"
