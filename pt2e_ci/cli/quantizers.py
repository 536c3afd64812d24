"""The command about quantizers: what each annotates, and what becomes of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

from pt2e_ci import stops
from pt2e_ci.errors import death_reason, unknown

_REPORTS = Path("reports/quantizers")
_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.group(invoke_without_command=True)
@click.option("--reports", type=_FOLDER, default=_REPORTS, help="The folder of their reports.", show_default=True)
@click.option("--family", "families", multiple=True, metavar="NAME", help="This family alone; repeatable.")
@click.option("--markdown", is_flag=True, help="Print Markdown.")
@click.pass_context
def quantizers(context: click.Context, reports: Path, families: tuple[str, ...], *, markdown: bool) -> None:
    """Print which operators each quantizer annotates, and which of those are integer, and proved.

    It reads what `nox -s quantizers` left.
    """
    if context.invoked_subcommand is not None:
        return
    from rich.console import Console

    from pt2e_ci.record.quantizers import read_reports
    from pt2e_ci.views.quantizers import markdown as as_markdown
    from pt2e_ci.views.quantizers import terminal

    found = read_reports([reports])
    for name in families:
        if name not in (known := sorted({one.family for one in found})):
            raise unknown("family", name, known)
    found = [one for one in found if not families or one.family in families]
    if markdown:
        click.echo(as_markdown(found), nl=False)
        return
    Console(highlight=False, width=None if sys.stdout.isatty() else 250).print(terminal(found))


@quantizers.command()
@click.argument("names", nargs=-1)
@click.option("--reports", type=_FOLDER, default=_REPORTS, help="Where the reports go.", show_default=True)
def run(names: tuple[str, ...], reports: Path) -> None:
    """Run the quantizers that this environment has on every operator, all or NAMES.

    Exits with 0 if each annotates what it is known to, 1 if not.
    """
    stops.listen()
    from pt2e_ci.flow.families import load_table

    table = load_table()
    known = [row.name for row in table.quantizer]
    for name in names:
        if name not in known:
            raise unknown("quantizer", name, known)
    if len(names) != 1:  # each in a process of its own: what one changes in torch is not the next one's
        command = [sys.executable, "-m", "pt2e_ci", "quantizers", "run", f"--reports={reports}"]
        codes = {name: subprocess.run([*command, name], check=False).returncode for name in names or known}  # noqa: S603
        for name, code in codes.items():
            if code < 0:
                click.echo(f"{name} did not come to its end: {death_reason(code)}")
        sys.exit(1 if any(codes.values()) else 0)
    from pt2e_ci.cells.capabilities import quiet_torch
    from pt2e_ci.record.quantizers import save

    quiet_torch()
    from pt2e_ci.checking.quantizers import run as run_row

    row = next(row for row in table.quantizer if row.name == names[0])
    report = run_row(row, table.known)
    save(report, reports)
    for line in report.unlisted:
        click.echo(line)
    marked = sum(one.annotated for one in report.results)
    proved = sum(one.state == "proved" for one in report.results)
    said = report.missing or f"{marked} of {len(report.results)} operators annotated, {proved} proved"
    click.echo(f"{row.name} on torch {report.where}: {said}")
    sys.exit(1 if report.unlisted else 0)
