"""The commands about engines: ``engines`` runs them and prints what they do, ``vectors`` writes and judges files."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pt2e_ci import stops
from pt2e_ci.errors import need_numpy, unknown

if TYPE_CHECKING:
    from pt2e_ci.exact.schemes import Multiplier, Rounding

_REPORTS = Path("reports/engines")
_FOLDER = click.Path(path_type=Path, file_okay=False)
_ROUNDING = "How the device rounds; see `pt2e-ci engines`."


@click.group(invoke_without_command=True)
@click.option("--reports", type=_FOLDER, default=_REPORTS, help="The folder of their reports.", show_default=True)
@click.option("--engine", "names", multiple=True, metavar="NAME", help="This engine alone; repeatable.")
@click.option("--markdown", is_flag=True, help="Print Markdown.")
@click.pass_context
def engines(context: click.Context, reports: Path, names: tuple[str, ...], *, markdown: bool) -> None:
    """Print what each engine makes of each operator: how far off, and how it rounds.

    It reads what `nox -s engines` left.
    """
    if context.invoked_subcommand is not None:
        return
    from rich.console import Console

    from pt2e_ci.record.engines import read_reports
    from pt2e_ci.views.engines import disagreements, terminal
    from pt2e_ci.views.engines import markdown as as_markdown

    found = read_reports([reports])
    for name in names:
        if name not in (known := [one.engine for one in found]):
            raise unknown("engine", name, known)
    found = [one for one in found if not names or one.engine in names]
    if markdown:
        click.echo(as_markdown(found), nl=False)
        return
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    console.print(terminal(found))
    for line in disagreements(found):
        console.print(f"Ties of {line}", soft_wrap=True)


@engines.command()
@click.argument("name")
@click.option("--vectors", "folder", type=_FOLDER, metavar="DIR", help="Vectors to run; the package's own by default.")
@click.option("--reports", type=_FOLDER, default=_REPORTS, help="Where the report goes.", show_default=True)
def run(name: str, folder: Path | None, reports: Path) -> None:
    """Run vectors on engine NAME, in the environment that has it, or on MODULE:NAME, one of your own.

    Exits with 0 if all is right or known, 1 if not.
    """
    stops.listen()
    need_numpy()
    from pt2e_ci.cells.engines import place_of_engine, variables_of_engine
    from pt2e_ci.engines.running import run as run_on
    from pt2e_ci.record.engines import load_known, report_of, save
    from pt2e_ci.vectors.catalogue import catalogue
    from pt2e_ci.vectors.folder import digest_of, read

    where = place_of_engine(name)
    os.environ |= variables_of_engine(name)  # of its process, which is yet to start
    if folder is not None:
        manifest, vectors = read(folder)
        digest = manifest.digest
    else:
        vectors = catalogue()
        digest = digest_of(vectors)
    package, results = run_on(where, vectors)
    known = load_known() if folder is None and name != where else []
    report = report_of(name.replace(":", "-"), package, digest, results, known)
    path = save(report, reports)
    red = report.unexpected(known)
    for line in red:
        click.echo(line)
    counts = Counter(str(one.outcome) for one in results)
    said = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
    end = f"{len(red)} not known" if red else "all known"
    click.echo(f"{name}, {package}: {said} of {len(results)} vectors; {end}")
    click.echo(f"Report: {path}")
    sys.exit(1 if red else 0)


@click.group()
def vectors() -> None:
    """Write golden vectors, and judge what any device gave for them."""


@vectors.command()
@click.argument("folder", type=_FOLDER, metavar="DIR")
@click.argument("file", required=False, metavar="[FILE[:NAME]]")
def write(folder: Path, file: str | None) -> None:
    """Write vectors into DIR: the package's own, or those of the operators of the model in FILE.

    FILE is as `pt2e-ci check` takes it, and needs torch; the package's own vectors need numpy alone.
    """
    need_numpy()
    from pt2e_ci.vectors import folder as folders

    if file is None:
        from pt2e_ci.vectors.catalogue import catalogue

        found, left = catalogue(), list[str]()
    else:
        from pt2e_ci.cells.capabilities import quiet_torch

        quiet_torch()
        from pt2e_ci.checking.vectors import vectors_of

        found, left = vectors_of(file)
    digest = folders.write(folder, found)
    for line in left:
        click.echo(line)
    click.echo(f"{len(found)} vectors in {folder}, {digest}")


@vectors.command()
@click.argument("folder", type=_FOLDER, metavar="DIR")
@click.argument("outputs", type=_FOLDER, metavar="OUTPUTS")
@click.option("--rounding", metavar="SCHEME", default="half_even", help=_ROUNDING, show_default=True)
def compare(folder: Path, outputs: Path, rounding: str) -> None:
    """Judge what a device gave for the vectors in DIR: OUTPUTS has a NAME.npy of levels for each.

    Exits with 0 if all is right, 1 if not, 2 for bad input.
    """
    need_numpy()
    from rich.console import Console

    from pt2e_ci.record.engines import EngineReport
    from pt2e_ci.vectors.comparison import compare_all
    from pt2e_ci.vectors.folder import read
    from pt2e_ci.views.engines import terminal

    manifest, found = read(folder)
    results = compare_all(found, outputs, _scheme(rounding))
    report = EngineReport(
        engine=outputs.name, package="", platform="", cpu="", flags=[], python="", vectors=manifest.digest,
        results=results,
    )  # fmt: skip
    Console(highlight=False, width=None if sys.stdout.isatty() else 200).print(terminal([report]))
    red = report.unexpected([])
    for line in red:
        click.echo(line)
    click.echo(f"{len(results) - len(red)} of {len(results)} vectors are right under {rounding}")
    sys.exit(1 if red else 0)


def _scheme(name: str) -> Rounding | Multiplier:
    from pt2e_ci.exact.schemes import SCHEMES

    if name not in SCHEMES:
        raise unknown("rounding scheme", name, SCHEMES)
    return SCHEMES[name]
