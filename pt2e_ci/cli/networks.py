"""The command about networks: how much of each is integer, and proved."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pt2e_ci.errors import InputError

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.option("--reports", type=_FOLDER, default=Path("reports/networks"), help="Their reports.", show_default=True)
@click.option("--markdown", is_flag=True, help="Print Markdown.")
def networks(reports: Path, *, markdown: bool) -> None:
    """Print how much of each network is integer and proved, where float begins, and how far it is off.

    It reads what `nox -s networks` left.
    """
    from rich.console import Console

    from pt2e_ci.views.networks import markdown as as_markdown
    from pt2e_ci.views.networks import terminal
    from pt2e_ci.views.selection import read_all

    folders = sorted({file.parent for file in reports.rglob("*.jsonl")})
    if not folders:
        raise InputError(f"{reports}: no report of a network there: run `nox -s networks`")
    found = [report for folder in folders for report in read_all([folder])]
    if markdown:
        click.echo(as_markdown(found), nl=False)
        return
    Console(highlight=False, width=None if sys.stdout.isatty() else 200).print(terminal(found))
