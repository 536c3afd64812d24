"""The commands about one model: ``check`` judges it, ``explain`` says why."""

from __future__ import annotations

import re
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pt2e_ci import stops
from pt2e_ci.errors import InputError, need_numpy, unknown

if TYPE_CHECKING:
    from pt2e_ci.record.records import Case
    from pt2e_ci.record.report import Report

_REPORTS = Path("reports")


@click.command()
@click.argument("file", metavar="FILE[:NAME]")
@click.option(
    "--torch", metavar="CELLS", help="Cells to check it on, comma-separated, such as 2.4,2.13; default: this torch."
)
@click.option(
    "--with",
    "extras",
    multiple=True,
    metavar="REQUIREMENT",
    help="An extra requirement for those cells, as uv reads it; repeatable.",
)
@click.option("--quantizer", metavar="MODULE:NAME", help="A quantizer, or an entry point's name (XNNPACK's).")
@click.option("--representation", metavar="MODULE:NAME", help="What makes reference programs (upstream's).")
@click.option("--criteria", metavar="MODULE:NAME", help="What the program is held to.")
@click.option("--engine", "engines", multiple=True, metavar="NAME", help="A device to run it on as well; repeatable.")
@click.option(
    "--report",
    metavar="FILE",
    help="Where the report goes: a file, - for standard output, or a folder that gets <cell>.jsonl (reports/NAME/).",
)
@click.option("--traceback", "with_traceback", is_flag=True, help="Show all of what was raised.")
def check(
    file: str,
    torch: str | None,
    extras: tuple[str, ...],
    engines: tuple[str, ...],
    report: str | None,
    *,
    with_traceback: bool,
    **doors: str | None,
) -> None:
    """Say whether your own model is integer and right for every input, and if not, where and why.

    FILE is Python. It gives `model` and `inputs` (values, or functions that make them), and may give `quantizer`,
    `representation`, `criteria`, `calibration`, `dynamic_shapes`, `qat`, `train`, `known` and `engines`, as
    `pt2e_ci.check` takes them. NAME is what it calls the model, if not `model`.

    Exits with 0 if the model is right, or wrong in just what is known; 1 if not; 2 for bad input; 130 or
    143 if it was stopped.
    """
    stops.listen()
    named: dict[str, Any] = {key: value for key, value in doors.items() if value is not None}
    if torch is not None:
        from pt2e_ci.cells.cell import names_in
        from pt2e_ci.checking import elsewhere

        options = [f"--{key}={value}" for key, value in named.items()]
        options += [f"--engine={name}" for name in engines]
        options += [f"--report={report}"] if report else []
        options += ["--traceback"] if with_traceback else []
        say = lambda text: click.echo(f"pt2e-ci: {text}", err=True)  # noqa: E731 - it is handed on
        cells = names_in(torch, "--torch")
        if report == "-" and len(cells) > 1:
            raise InputError("--report - takes one report: name one cell, or a folder for the reports of all")
        sys.exit(elsewhere.run(cells, [file, *options], extras, say))
    if extras:
        raise InputError("--with goes with --torch: install it in this environment otherwise")
    named |= {"engines": engines} if engines else {}
    try:
        sys.exit(_check_here(file, named, report, with_traceback=with_traceback))
    except InputError:
        if with_traceback:
            traceback.print_exc()
        raise


def _check_here(file: str, named: dict[str, Any], report: str | None, *, with_traceback: bool) -> int:
    from pt2e_ci.cells.capabilities import quiet_torch
    from pt2e_ci.cells.cell import current_cell

    quiet_torch()
    try:
        cell = current_cell()
    except InputError as error:
        raise InputError(f"{error} (or name one: --torch 2.13)") from None
    from pt2e_ci.checking.api import answer
    from pt2e_ci.checking.file import read_file
    from pt2e_ci.checking.question import question
    from pt2e_ci.record.report import check_writable, dump, place_of
    from pt2e_ci.views.brief import brief

    asked = question(**{**read_file(file), **named})
    place = None
    if report != "-":
        place = place_of(report or f"{_REPORTS / asked.name.replace(':', '-')}/", cell)
        check_writable(place)  # before anything takes its time
    result = answer(asked, on_error=_print if with_traceback else None)
    if place is None:  # the report has standard output to itself
        click.echo(dump(result.report), nl=False)
    else:
        result.save(place)
    click.echo("\n".join(brief(result.report, result.case, str(place) if place else None)), err=place is None)
    return 0 if result.passed else 1


def _print(error: BaseException) -> None:
    traceback.print_exception(error)


@click.command()
@click.argument("file", metavar="FILE[:NAME]")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option("--engine", metavar="NAME", required=True, help="The device that is off.")
@click.option(
    "--lsb", type=click.IntRange(min=1), default=1, help="How many LSB off a level must be to count.", show_default=True
)
def reduce(file: str, folder: Path, engine: str, lsb: int) -> None:
    """Write the smallest part of a model on which a device is off into DIR, as vectors.

    FILE is as `pt2e-ci check` takes it. The part is one operator, on as few levels as still show it; or, if none is so
    far off alone, the shortest chain of operators up to the first that is.

    Exits with 0 if there is none, 1 if there is, 2 for bad input.
    """
    stops.listen()
    need_numpy()
    from pt2e_ci.cells.capabilities import quiet_torch

    quiet_torch()
    from pt2e_ci.checking.reducing import reduce as least_of
    from pt2e_ci.vectors import folder as folders

    found = least_of(file, engine, lsb)
    if found is None:
        click.echo(f"{engine} gives the Q/DQ program's own levels, or is less than {lsb} LSB off, on the first input")
        return
    folders.write(folder, found.vectors)
    names = ", ".join(one.name for one in found.vectors)
    place = f" ({found.source})" if found.source else ""
    size = sum(one.levels.size for vector in found.vectors for one in vector.operands)
    click.echo(f"{engine} is {found.lsb} LSB off after {names}{place}: {size} levels of operands in {folder}")
    sys.exit(1)


@click.command()
@click.argument("what", required=False)
@click.option("--torch", metavar="VERSION", help="The version of torch, where reports of several are at hand.")
@click.option("--report", type=click.Path(path_type=Path), metavar="FILE", help="The report to look in.")
@click.option(
    "--reports", type=click.Path(path_type=Path), default=_REPORTS, help="The folder of reports.", show_default=True
)
def explain(what: str | None, torch: str | None, report: Path | None, reports: Path) -> None:
    """Explain WHAT: a reason's code, as PQ012; or why a case, a model or one of its operators ended as it did.

    Without WHAT all codes are listed.
    """
    from pt2e_ci.record.reasons import REASONS
    from pt2e_ci.views.explain import explain as in_words
    from pt2e_ci.views.explain import explain_code, explain_operator

    if what is None:
        for code, entry in REASONS.items():
            click.echo(f"{code}  {entry.outcome or 'note':<12} {entry.text}")
        return
    if re.fullmatch(r"(?i)pq\d+", what):
        if what.upper() not in REASONS:
            raise unknown("reason", what.upper(), REASONS)
        click.echo(explain_code(what.upper()), nl=False)
        return
    cases, operators = _found(what, torch, report, reports)
    texts = [in_words(one, case) for one, case in cases]
    texts += [explain_operator(one, case, what) for one, case in operators]
    click.echo("\n".join(texts), nl=False)


def _found(
    what: str, torch: str | None, path: Path | None, folder: Path
) -> tuple[list[tuple[Report, Case]], list[tuple[Report, Case]]]:
    """Return the cases of a name; where there are none, the cases of a report that have an operator of that name."""
    from pt2e_ci.catalogue.cases import case_names
    from pt2e_ci.views.explain import named
    from pt2e_ci.views.selection import read_all, with_torch

    version = version_in(torch) if torch else None
    reports = read_all([path or folder])
    pairs = [(one, case) for one in (with_torch(reports, version) if version else reports) for case in one.cases]
    cases = [(one, case) for one, case in pairs if case.name == what]
    operators = [] if cases or path is None else [(one, case) for one, case in pairs if named(case, what)]
    torches = sorted({one.run.torch for one, _ in cases})
    if version is None and len(torches) > 1:
        raise InputError(f"{what} is in reports of torch {', '.join(torches)}: name one by --torch")
    if cases or operators:
        return cases, operators
    if path is not None:
        known = {name for _, case in pairs for name in (case.name, *(one.name for one in case.operators))}
        raise unknown("case or operator", what, sorted(known))
    if what not in case_names():
        raise unknown("case", what, case_names())
    where = f" on torch {version}" if version else ""
    raise InputError(f"no report of {what}{where} in {folder}: run `nox -s test-{version or '2.13'}`")


def version_in(name: str, otherwise: str = "no version of torch") -> str:
    """Return the minor release in a version of torch.

    Raises:
        InputError: it is none.

    """
    from pt2e_ci.cells.cell import minor

    if not re.fullmatch(r"[0-9]{1,4}\.[0-9]{1,4}(\.[0-9]{1,4})?", name):
        raise InputError(f"{name!r:.100} is {otherwise}, such as 2.10")
    return minor(name)
