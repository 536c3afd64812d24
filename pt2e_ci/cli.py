"""The ``pt2e-ci`` command. It imports torch only where a command runs cases or looks at the machine."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import re
import signal
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pt2e_ci import __version__
from pt2e_ci.errors import InputError
from pt2e_ci.github_cli import github
from pt2e_ci.image_cli import image
from pt2e_ci.whole_files import write_whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pt2e_ci.reports.history import Runs
    from pt2e_ci.reports.record import Report

_OUTPUT = click.Path(path_type=Path, allow_dash=True, dir_okay=False)
_REPORTS = "The folder of reports."


# The options that a report's key covers.
_KEYED = ("--report", "--require", "--flow", "--seed", "--expectations", "--pattern-cache", "-k", "-m")


class _Group(click.Group):
    """A group whose commands may raise `InputError`: one line on standard error, and exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        for stream in (sys.stdout, sys.stderr):
            # What a terminal's encoding has no way to write is no reason to stop.
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        try:
            result = super().invoke(ctx)
            if sys.stdout is not None:
                sys.stdout.flush()
            return result
        except InputError as error:
            click.echo(f"pt2e-ci: error: {error}", err=True)
            ctx.exit(2)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            click.echo(f"pt2e-ci: error: the output could not be written: {error.strerror}", err=True)
            os._exit(2)  # or the interpreter would try to write what is left once more


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pt2e-ci")
def main() -> None:
    """Tell whether PT2E's reference representation really computes in integers, and whether they are right."""


@main.command(
    context_settings={
        "ignore_unknown_options": True,
        "allow_extra_args": True,
        "help_option_names": ["--help"],
    }
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(arguments: tuple[str, ...]) -> None:
    """Run the suite on the torch of this environment.

    ARGUMENTS are names of cases, and options for pytest, which runs the suite: `-k`, `-x`, `-n`, and the
    suite's own `--report FILE`, `--require NAMES`, `--flow HOME`, `--seed N`, `--expectations FILE`.

    A report that is there already is shown again, and nothing is run, if nothing that it depends on has changed:
    packages, options, expectations, CPU. `--fresh` forces the run, and so does any option of pytest's own but
    `-k` and `-m`, for what it asks for may be a file that only a run writes.
    """
    # The first process of a container is deaf to it otherwise, as long as pytest has not begun.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Checked before anything is imported that takes seconds.
    from pt2e_ci.cases.catalogue import case_names, select_cases

    names = _leading_names(arguments)
    select_cases(names)
    options = [argument for argument in arguments[len(names) :] if argument != "--fresh"]
    if "--fresh" not in arguments and _may_reuse(options):
        options.append("--reuse")
    selection = [f"--case={name}" for name in case_names() if name in names]
    sys.exit(_run_pytest(["--pyargs", "pt2e_ci.suite", *selection, *options]))


def _leading_names(arguments: Sequence[str]) -> list[str]:
    """Return the words before the first option: after one, a word may be its value."""
    names: list[str] = []
    for argument in arguments:
        if argument.startswith("-"):
            break
        names.append(argument)
    return names


def _may_reuse(options: Sequence[str]) -> bool:
    """Tell whether an earlier report has all that these options ask for."""
    rest = iter(options)
    for option in rest:
        name, equals, _ = option.partition("=")
        if name not in _KEYED:
            return False
        if not equals:
            next(rest, None)
    return True


def _run_pytest(arguments: list[str]) -> int:
    import pytest

    to_stdout = "--report=-" in arguments or ("--report", "-") in pairwise(arguments)
    # The report has standard output to itself, and what pytest prints goes beside it.
    aside = contextlib.redirect_stdout(sys.stderr) if to_stdout else contextlib.nullcontext()
    with aside:
        code = int(pytest.main(arguments))
    return 2 if code == pytest.ExitCode.USAGE_ERROR else code


@main.command()
@click.argument("names", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
@click.option("--github", "as_matrix", is_flag=True, help="Print the matrix of a job of GitHub Actions, for fromJSON.")
@click.option(
    "--platform", metavar="NAMES", help="Platforms of that matrix, by commas (default: linux/amd64,linux/arm64)."
)
@click.option("--pull-request", is_flag=True, help="Only the cells that run on each pull request.")
def cells(names: tuple[str, ...], platform: str | None, *, as_json: bool, as_matrix: bool, pull_request: bool) -> None:
    """List the cells, all or NAMES: every environment that the suite is run in."""
    from pt2e_ci.cells import PLATFORMS, cell_record, load_cells, platforms

    selected = [cell for cell in load_cells().select(names) if cell.pull_request or not pull_request]
    if platform is not None and not as_matrix:
        raise InputError("--platform goes with --github: cells are listed for this machine otherwise")
    if as_matrix:
        from pt2e_ci.github import job_matrix

        click.echo(json.dumps(job_matrix(selected, platforms(platform) if platform is not None else [*PLATFORMS])))
        return
    records = [cell_record(cell) for cell in selected]
    if as_json:
        click.echo(json.dumps(records, indent=2))
        return
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("Session", "torch", "Flow", "torchao", "Python", "Cell"):
        table.add_column(title, no_wrap=True)
    for record in records:
        table.add_row(
            record["session"],
            record["torch"],
            record["flow"],
            record["torchao"] or "\N{EN DASH}",
            record["python"],
            record["id"],
        )
    _print(table)


@main.command()
@click.option("--flow", metavar="HOME", help="Home of the PT2E flow, where this environment has two.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
def doctor(*, flow: str | None, as_json: bool) -> None:
    """Say what this machine and this torch can do, and what that means for the suite."""
    from pt2e_ci.capabilities import CAPABILITIES, detect
    from pt2e_ci.cases.catalogue import CASES
    from pt2e_ci.cells import current_cell, platform_tag
    from pt2e_ci.flows.homes import import_home

    cell = current_cell(flow)
    import_home(cell.flow)
    found = detect()
    missing = found.missing(CAPABILITIES)
    cases = [case for case in CASES if cell.flow in case.flows]
    skipped = found.skips(cases)
    if as_json:
        report = {
            "cell": cell.id(platform_tag()),
            "listed": cell.listed,
            "flow": cell.flow,
            "machine": found.machine,
            "emulated": found.emulated,
            "engines": found.engines,
            "xnnpack": found.xnnpack,
            "cpu": found.cpu,
            "build": found.build,
            "missing": missing,
            "skipped": skipped,
        }
        click.echo(json.dumps(report, indent=2))
        return
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column()
    table.add_row("cell", cell.id(platform_tag()) + ("" if cell.listed else "  (unlisted: it runs, marked as such)"))
    table.add_row("torch", f"{found.build['version']}  ({found.build['git']}{', debug' * found.build['debug']})")
    table.add_row("flow", cell.flow + (f" {cell.torchao}" if cell.torchao else ""))
    table.add_row("engines", ", ".join(found.engines) or "none")
    table.add_row("XNNPACK", "yes" if found.xnnpack else missing["xnnpack"])
    table.add_row("machine", found.machine + (", emulated by qemu: expect a tenth of the speed" * found.emulated))
    table.add_row("CPU", found.cpu["model"])
    table.add_row("instruction sets", ", ".join(found.cpu["instruction_sets"]) or "none that matter here")
    table.add_row("torch dispatches to", found.cpu["torch"])
    table.add_row("cores, threads", f"{found.cpu['cores']}, {found.cpu['threads']}")
    _print(table)
    click.echo()
    if not skipped:
        click.echo(f"All {len(cases)} cases can run here.")
    for name, reason in skipped.items():
        click.echo(f"{name} will be skipped: {reason}.")


@main.command()
@click.argument("names", nargs=-1)
@click.option("--case", "cases", multiple=True, metavar="NAME", help="Try them on this case only; repeatable.")
@click.option("--flow", metavar="HOME", help="Home of the PT2E flow, where this environment has two.")
@click.option("--seed", type=int, default=0, help="Seed of weights and inputs.", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
def controls(names: tuple[str, ...], cases: tuple[str, ...], flow: str | None, seed: int, *, as_json: bool) -> None:
    """Measure the checks: try wrong representations, all or NAMES, and say which check caught each.

    An exact representation must pass every case first. Exits with 1 if it does not, or if a fault is not caught.
    """
    import torch

    from pt2e_ci.capabilities import detect
    from pt2e_ci.cases.catalogue import case_names, select_cases
    from pt2e_ci.cells import current_cell, load_cells
    from pt2e_ci.controls.faults import FAULTS
    from pt2e_ci.controls.scoring import Controls, known_of_quantizer, render, to_json
    from pt2e_ci.errors import unknown
    from pt2e_ci.expectations import load_expectations
    from pt2e_ci.flows.homes import import_home
    from pt2e_ci.flows.patterns import PatternGraphs
    from pt2e_ci.suite.options import cache_folder

    for name in names:
        if name not in FAULTS:
            raise unknown("fault", name, FAULTS)
    cell = current_cell(flow)
    selected = [case for case in select_cases(cases) if cell.flow in case.flows]
    home = import_home(cell.flow)
    skipped = detect().skips(selected)
    torch.set_num_threads(1)
    cache = cache_folder()
    patterns = PatternGraphs(home, cache if isinstance(cache, Path) else None)
    tried = Controls((case for case in selected if case.name not in skipped), home, seed, patterns)
    expected = known_of_quantizer(load_expectations(case_names(), load_cells().cells), cell)
    failed = [catch for catch in tried.failed if catch.case not in expected]
    scores = [tried.score(name) for name in FAULTS if not names or name in names]
    if as_json:
        click.echo(json.dumps(to_json(scores, failed), indent=2))
    else:
        click.echo(render(scores, failed), nl=False)
    sys.exit(1 if failed or any(score.caught is None for score in scores) else 0)


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--markdown", type=_OUTPUT, help="Write the table as Markdown; - is standard output.")
@click.option("--html", type=click.Path(path_type=Path, file_okay=False), help="Write the page, DIR/index.html.")
@click.option("--badge", type=_OUTPUT, help="Write a badge, as SVG, and beside it as JSON for a badge service.")
@click.option("--junit", type=_OUTPUT, help="Write JUnit's XML.")
@click.option(
    "--history", type=click.Path(path_type=Path, file_okay=False), help="Keep the runs here, and show changes."
)
def report(
    files: tuple[Path, ...],
    markdown: Path | None,
    html: Path | None,
    badge: Path | None,
    junit: Path | None,
    history: Path | None,
) -> None:
    """Print the table of reports, or write other views of them; FILES may be folders.

    With a history the given runs are kept in it, and the views show the last whole run of each cell that it has.
    """
    from pt2e_ci.reports.selection import read_all
    from pt2e_ci.reports.table import is_terminal, render

    if badge and (str(badge) == "-" or badge.suffix == ".json"):
        raise InputError(f"--badge {badge} should name the picture, as badge.svg: its JSON is written beside it")
    runs: Runs | None = None
    if history is None:
        reports = read_all(files)
    else:
        from pt2e_ci.reports.history import keep_files, newest

        runs = keep_files(history, files, warn=lambda text: click.echo(f"pt2e-ci: {text}", err=True))
        reports = newest(runs)
    views: dict[Path, str] = {}
    if markdown:
        from pt2e_ci.reports.table import markdown as to_markdown

        views[markdown] = to_markdown(reports)
    if html:
        from pt2e_ci.reports.pages import page

        views[html / "index.html"] = page(reports, runs)
    if badge:
        from pt2e_ci.reports.badge import endpoint, svg

        views |= {badge: svg(reports), badge.with_suffix(".json"): endpoint(reports)}
    if junit:
        from pt2e_ci.reports.junit import junit as to_junit

        views[junit] = to_junit(reports)
    # All are made before any is written.
    for path, view in views.items():
        _write(path, view)
    if not views:
        click.echo(render(reports, color=is_terminal()), nl=False)


@main.command()
@click.argument("old")
@click.argument("new")
@click.option("--reports", type=click.Path(path_type=Path), default=Path("reports"), help=_REPORTS, show_default=True)
@click.option("--markdown", type=_OUTPUT, help="Write it as Markdown; - is standard output.")
@click.option("--html", type=_OUTPUT, help="Write it as a page.")
def diff(old: str, new: str, reports: Path, markdown: Path | None, html: Path | None) -> None:
    """Say what changed from OLD to NEW: files, folders, or two versions of torch in one folder.

    Exits with 1 if anything broke.
    """
    from pt2e_ci.reports.diff import broke, differences, page, text
    from pt2e_ci.reports.diff import markdown as to_markdown

    sides = [_side(name, reports) for name in (old, new)]
    changes = differences(*sides)
    if markdown:
        _write(markdown, to_markdown(changes))
    if html:
        _write(html, page(changes, f"{old} to {new}"))
    if not any((markdown, html)):
        click.echo(text(changes), nl=False)
    sys.exit(1 if broke(changes) else 0)


@main.command()
@click.argument("old")
@click.argument("new")
@click.option("--reports", type=click.Path(path_type=Path), default=Path("reports"), help=_REPORTS, show_default=True)
def upgrade(old: str, new: str, reports: Path) -> None:
    """Say what an upgrade from torch OLD to torch NEW changes: what to edit, and which cases.

    What to edit comes from data in the package, and which cases from the reports at hand.
    """
    from pt2e_ci.moves import edits
    from pt2e_ci.reports.diff import differences, text
    from pt2e_ci.reports.selection import read_all, with_torch

    versions = [_version(name) for name in (old, new)]
    changes = edits(*versions)
    at_hand = read_all([reports]) if reports.is_file() or any(reports.glob("*.jsonl")) else []
    click.echo(f"From torch {old} to {new}, edit:")
    click.echo("\n".join(edit.text(versions[1]) for edit in changes) if changes else "  nothing")
    sides = [with_torch(at_hand, version) for version in versions]
    click.echo()
    for version, side in zip(versions, sides, strict=True):
        if not side:
            click.echo(f"No report of torch {version} in {reports}, so nothing is said of cases: nox -s test-{version}")
    if all(sides):
        click.echo("Cases, by the reports at hand:")
        click.echo(text(differences(*sides)), nl=False)


@main.command()
@click.argument("case")
@click.option("--torch", required=True, help="The version of torch.")
@click.option("--reports", type=click.Path(path_type=Path), default=Path("reports"), help=_REPORTS, show_default=True)
def explain(case: str, torch: str, reports: Path) -> None:
    """Say why CASE ended as it did: the rewrite that did not match, or where a difference comes from."""
    from pt2e_ci.cases.catalogue import case_names
    from pt2e_ci.errors import unknown
    from pt2e_ci.reports.explain import explain as in_words
    from pt2e_ci.reports.selection import read_all, with_torch

    version = _version(torch)
    found = [
        (report, record)
        for report in with_torch(read_all([reports]), version)
        for record in report.cases
        if record["name"] == case
    ]
    if not found:
        if case not in case_names():
            raise unknown("case", case, case_names())
        raise InputError(f"no report of {case} on torch {version} in {reports}: run `nox -s test-{version} -- {case}`")
    click.echo("\n".join(in_words(report, record) for report, record in found), nl=False)


def _side(name: str, folder: Path) -> list[Report]:
    """Return the reports of a file, a folder, or a version of torch in `folder`."""
    from pt2e_ci.reports.selection import read_all, with_torch

    if Path(name).exists():
        return read_all([Path(name)])
    version = _version(name, otherwise="no file or folder, and no version of torch")
    if not (found := with_torch(read_all([folder]), version)):
        raise InputError(f"no report of torch {version} in {folder}: run `nox -s test-{version}`")
    return found


def _version(name: str, otherwise: str = "no version of torch") -> str:
    from pt2e_ci.cells import minor

    if not re.fullmatch(r"[0-9]{1,4}\.[0-9]{1,4}(\.[0-9]{1,4})?", name):
        raise InputError(f"{name!r:.100} is {otherwise}, such as 2.10")
    return minor(name)


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all; - is standard output."""
    if str(path) == "-":
        click.echo(text, nl=False)
        return
    try:
        write_whole(path, text.encode(), mode=0o644)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from None


@main.command()
@click.argument("cells", nargs=-1)
@click.option("-j", "--jobs", type=click.IntRange(min=1), help="Cells at once (default: as cores and memory allow).")
@click.option("--fresh", is_flag=True, help="Run cells that have not changed, too.")
@click.option("--arguments", default="", help="Options for each cell's suite, in one string, as a shell reads them.")
def matrix(cells: tuple[str, ...], jobs: int | None, arguments: str, *, fresh: bool) -> None:
    """Run CELLS side by side (all of them by default) from a checkout, and print the merged table.

    A cell whose report is there and whose environment has not changed is not run again.
    """
    from pt2e_ci.matrix import arguments_in, plan

    sys.exit(plan(Path.cwd(), cells, arguments_in(arguments), at_once=jobs, fresh=fresh).run())


def _print(table: Any) -> None:
    from rich.console import Console

    from pt2e_ci.reports.table import width

    Console(width=width(), highlight=False).print(table)


main.add_command(image)
main.add_command(github)
