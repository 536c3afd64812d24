"""The ``pt2e-ci github`` commands, which the workflows run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from pt2e_ci.errors import InputError


@click.group()
def github() -> None:
    """Serve GitHub Actions: show unexpected cases, attest reports, and decide whether all is well."""


@github.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
def annotate(files: tuple[Path, ...]) -> None:
    """Show the unexpected cases of reports as errors of the workflow run."""
    from pt2e_ci.matrix.github import error_commands
    from pt2e_ci.record.report import read_whole_report

    for line in error_commands(read_whole_report(file) for file in files):
        click.echo(line)


@github.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--url", required=True, help="The address of the run that made them.")
def predicate(files: tuple[Path, ...], url: str) -> None:
    """Print what reports say as an in-toto test result, for an attestation of the reports."""
    from pt2e_ci.matrix.github import test_result
    from pt2e_ci.record.report import read_whole_report

    click.echo(json.dumps(test_result([read_whole_report(file) for file in files], url), indent=1))


@github.command()
@click.option("--needs", required=True, envvar="NEEDS", help="The context `needs`, as JSON.")
@click.option("--matrix", default="", envvar="MATRIX", help="The matrix of the cells, as JSON; none is none.")
@click.option("--reports", required=True, type=click.Path(path_type=Path), help="The folder of their reports.")
def verdict(needs: str, matrix: str, reports: Path) -> None:
    """Exit with 1 if a job failed, was cancelled or skipped, or a cell has no report or an unexpected outcome."""
    from pt2e_ci.matrix.github import complaints, error_command

    jobs = _json(needs, "--needs")
    if not isinstance(jobs, dict) or not all(isinstance(job, dict) for job in jobs.values()):
        raise InputError("--needs should be the context `needs`: an object of jobs")
    found = complaints(jobs, _json(matrix, "--matrix") if matrix else None, reports)
    for complaint in found:
        click.echo(error_command(complaint))
    if not found:
        click.echo("every job and every cell is as expected")
    sys.exit(1 if found else 0)


def _json(text: str, option: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{option} is not JSON: {error}") from None
