"""The ``pt2e-ci`` command. It imports torch only where a command runs cases or looks at the machine."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import re
import sys
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pt2e_ci import __version__, stops
from pt2e_ci.cli.engines import engines, vectors
from pt2e_ci.cli.github import github
from pt2e_ci.cli.image import image
from pt2e_ci.cli.models import check, explain, reduce, version_in
from pt2e_ci.cli.networks import networks
from pt2e_ci.cli.quantizers import quantizers
from pt2e_ci.errors import InputError, one_line
from pt2e_ci.files import write_whole

if TYPE_CHECKING:
    from pt2e_ci.record.report import Report
    from pt2e_ci.views.history import Runs

_OUTPUT = click.Path(path_type=Path, allow_dash=True, dir_okay=False)
_REPORTS = "The folder of reports."


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
        except KeyboardInterrupt:
            click.echo("pt2e-ci: stopped", err=True)
            ctx.exit(stops.exit_code())
        except OSError as error:
            if error.filename is not None:
                click.echo(f"pt2e-ci: error: {error.filename}: {error.strerror}", err=True)
                ctx.exit(2)
            if error.errno != errno.ENOSPC:
                raise
            click.echo(f"pt2e-ci: error: the output could not be written: {error.strerror}", err=True)
            os._exit(2)  # or the interpreter would try to write what is left once more


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pt2e-ci")
def main() -> None:
    """Tell whether PT2E's reference representation really computes in integers, and whether they are right."""


@main.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": ["-h", "--help"]}
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(arguments: tuple[str, ...]) -> None:
    """Run the suite on the torch of this environment.

    ARGUMENTS are names of cases, and options for pytest, which runs the suite: `-k`, `-x`, `-n`, and the
    suite's own `--report FILE`, `--require NAMES`, `--table`, `--flow HOME`, `--seed N`, `--expectations FILE`,
    `--rounding SCHEME`, and `--representation`, `--quantizer`, `--cases`, `--criteria MODULE:NAME`.

    Exits with 0 if every outcome is the expected one, 1 if not, 2 for bad input, 5 if nothing was
    selected, 130 or 143 if it was stopped.
    """
    stops.listen()
    # Checked before anything is imported that takes seconds.
    from pt2e_ci.catalogue.cases import case_names, cases_option, leading_names, listed_cases, select_cases
    from pt2e_ci.cells.capabilities import quiet_torch

    names = leading_names(arguments)
    if names and names[0] in main.commands:
        raise InputError(
            f"{names[0]!r} is a command, not a case: type `pt2e-ci {names[0]}`, and with an image"
            f" `docker run --entrypoint pt2e-ci IMAGE {names[0]}`"
        )
    quiet_torch()
    listed = listed_cases(cases_option(arguments))
    select_cases(names, listed)
    selection = [f"--case={name}" for name in case_names(listed) if name in names]
    # This command is imported before pytest, which has a warning for that.
    quiet = ["-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"]
    sys.exit(_run_pytest(["--pyargs", "pt2e_ci.suite", *quiet, *selection, *arguments[len(names) :]]))


def _run_pytest(arguments: list[str]) -> int:
    import pytest

    from pt2e_ci.suite.session import Ending

    to_stdout = "--report=-" in arguments or ("--report", "-") in pairwise(arguments)
    ending, refused = Ending(), _Refusals()
    # The report has standard output to itself, and what pytest prints goes beside it.
    with contextlib.redirect_stdout(sys.stderr) if to_stdout else contextlib.nullcontext():
        with contextlib.redirect_stderr(refused.text):
            code = int(pytest.main(arguments, plugins=[ending, refused]))
        if code == pytest.ExitCode.USAGE_ERROR:
            raise refused.error()
        click.echo(refused.text.getvalue(), err=True, nl=False)
        for line in ending.lines:
            click.echo(line)
    return code


class _Refusals:
    """Takes what pytest says of its command line, which is many lines, until it has read it."""

    def __init__(self) -> None:
        self.text = io.StringIO()
        self._stderr = sys.stderr

    def pytest_cmdline_main(self) -> None:
        """Let standard error through again."""
        sys.stderr = self._stderr

    def error(self) -> InputError:
        """Say in one line what is wrong."""
        from pt2e_ci.errors import unknown
        from pt2e_ci.suite.options import OPTIONS

        said = self.text.getvalue()
        if found := re.search(r"unrecognized arguments: (\S+)", said):
            return unknown("option", found[1].partition("=")[0], OPTIONS)
        errors = [line for line in said.splitlines() if "error:" in line.lower()]
        return InputError(re.sub("(?i).*error: ", "", errors[-1]) if errors else one_line(said))


@main.command()
@click.argument("names", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
@click.option("--github", "as_matrix", is_flag=True, help="Print the matrix of a job of GitHub Actions, for fromJSON.")
@click.option(
    "--platform", metavar="NAMES", help="Platforms of that matrix, comma-separated (default: linux/amd64,linux/arm64)."
)
@click.option("--pull-request", is_flag=True, help="Only the cells that run on each pull request.")
@click.option("--tox", "as_tox", is_flag=True, help="Print tox's settings, as this project's pyproject.toml has them.")
def cells(names: tuple[str, ...], platform: str | None, *, pull_request: bool, **form: bool) -> None:
    """List the cells, all or NAMES: every environment that the suite is run in."""
    from pt2e_ci.cells.cell import PLATFORMS, cell_record, load_cells, platforms

    selected = [cell for cell in load_cells().select(names) if cell.pull_request or not pull_request]
    if platform is not None and not form["as_matrix"]:
        raise InputError("--platform goes with --github: cells are listed for this machine otherwise")
    if form["as_matrix"]:
        from pt2e_ci.matrix.github import job_matrix

        click.echo(json.dumps(job_matrix(selected, platforms(platform) if platform is not None else [*PLATFORMS])))
        return
    if form["as_tox"]:
        from pt2e_ci.matrix.github import tox_settings

        click.echo(tox_settings(selected), nl=False)
        return
    records = [cell_record(cell) for cell in selected]
    if form["as_json"]:
        click.echo(json.dumps(records, indent=2))
        return
    head = {"session": "Session", "torch": "torch", "flow": "Flow", "torchao": "torchao", "pythons": ["Python"]}
    for row in (head, *records):
        columns = (row["session"], row["torch"], row["flow"], row["torchao"] or "\N{EN DASH}")
        click.echo("".join(f"{column:<19}" for column in columns) + ", ".join(row["pythons"]))


@main.command()
@click.option("--flow", metavar="HOME", help="Home of the PT2E flow, where this environment has two.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
def doctor(*, flow: str | None, as_json: bool) -> None:
    """Say what this machine and this torch can do, and what that means for the suite."""
    from pt2e_ci.catalogue.cases import CASES
    from pt2e_ci.cells.capabilities import CAPABILITIES, detect, quiet_torch
    from pt2e_ci.cells.cell import current_cell, platform_tag

    cell = current_cell(flow)
    quiet_torch()
    from pt2e_ci.flow.homes import import_home

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
            "cpu": asdict(found.cpu),
            "build": asdict(found.build),
            "missing": missing,
            "skipped": skipped,
        }
        click.echo(json.dumps(report, indent=2))
        return
    rows = {
        "cell": cell.id(platform_tag()) + ("" if cell.listed else "  (unlisted: it runs, marked as such)"),
        "torch": f"{found.build.version}  ({found.build.git}{', debug' * found.build.debug})",
        "flow": cell.flow + (f" {cell.torchao}" if cell.torchao else ""),
        "engines": ", ".join(found.engines) or "none",
        "XNNPACK": "yes" if found.xnnpack else missing["xnnpack"],
        "machine": found.machine + (", emulated by qemu: expect a tenth of the speed" * found.emulated),
        "CPU": found.cpu.model,
        "instruction sets": ", ".join(found.cpu.instruction_sets) or "none that matter here",
        "torch dispatches to": found.cpu.torch,
        "cores, threads": f"{found.cpu.cores}, {found.cpu.threads}",
    }
    for name, value in rows.items():
        click.echo(f"{name:<20}{value}")
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
@click.option(
    "--mutants", type=click.IntRange(min=1), metavar="COUNT", help="Try so many mutants of the exact programs."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
def controls(
    names: tuple[str, ...],
    cases: tuple[str, ...],
    flow: str | None,
    seed: int,
    mutants: int | None,
    *,
    as_json: bool,
) -> None:
    """Measure the checks: try wrong representations and right ones that are written otherwise, all or NAMES.

    What is right must pass every case, and each fault be caught by a reason that names it. Exits with 1 if not. With
    --mutants, so many programs with one thing changed are tried in their place, drawn with the seed: the operator that
    was changed must be refuted, or proved the same for every input.
    """
    from pt2e_ci.cells.capabilities import THREADS, detect, quiet_torch
    from pt2e_ci.cells.cell import current_cell, load_cells

    cell = current_cell(flow)
    quiet_torch()
    import torch

    from pt2e_ci.catalogue.cases import CASES, DEPLOYED, case_names, select_cases
    from pt2e_ci.controls.index import FAULTS, SPELLINGS
    from pt2e_ci.controls.scoring import Controls, known_of_quantizer, render, to_json
    from pt2e_ci.errors import unknown
    from pt2e_ci.flow.homes import import_home
    from pt2e_ci.flow.patterns import PatternGraphs
    from pt2e_ci.pipeline import Flow
    from pt2e_ci.record.expectations import load_expectations

    for name in names:
        if name not in FAULTS | SPELLINGS:
            raise unknown("control", name, FAULTS | SPELLINGS)
    selected = [case for case in select_cases(cases) if cell.flow in case.flows]
    home = import_home(cell.flow)
    skipped = detect().skips(selected)
    torch.set_num_threads(THREADS)
    flow_here = Flow(home, patterns=PatternGraphs(home))
    if mutants is not None:
        from pt2e_ci.controls import mutants as mutating

        subjects = mutating.subjects((case for case in selected if case.name not in skipped), flow_here, seed)
        found = mutating.try_all(subjects, mutants, seed)
        click.echo(mutating.render(found, seed), nl=False)
        sys.exit(1 if any(one.fate is mutating.Fate.ALIVE for one in found) else 0)
    tried = Controls((case for case in selected if case.name not in skipped), flow_here, seed)
    expected = known_of_quantizer(load_expectations(case_names((*CASES, *DEPLOYED)), load_cells().cells), cell)
    failed = [catch for catch in tried.failed if catch.case not in expected]
    scores = [tried.score(name) for name in FAULTS if not names or name in names]
    spellings = {name: tried.refuse(name) for name in SPELLINGS if not names or name in names}
    if as_json:
        click.echo(json.dumps(to_json(scores, spellings, failed), indent=2))
    else:
        click.echo(render(scores, spellings, failed), nl=False)
    sys.exit(1 if failed or any(spellings.values()) or any(score.caught is None for score in scores) else 0)


@main.command()
@click.argument("file", metavar="REPORT", type=click.Path(path_type=Path))
def verify(file: Path) -> None:
    """Check a report from the record alone, without torch: counts, outcomes, boundaries, and pairs in fractions.

    Exits with 0 if all of it holds, 1 if not.
    """
    from pt2e_ci.record.records import Kind
    from pt2e_ci.record.report import read_whole_report
    from pt2e_ci.record.verifier import verify as complaints_of

    found = read_whole_report(file)
    lines = [f"{case.name}: {complaint}" for case in found.cases for complaint in complaints_of(case)]
    for line in lines:
        click.echo(line)
    known = [one.evidence for case in found.cases for one in case.operators if one.evidence]
    again = sum(one.kind is Kind.PROVED and bool(one.rescale or one.pairs) for one in known)
    proved = sum(one.kind is Kind.PROVED for one in known)
    click.echo(f"{len(found.cases)} cases: {again} of {proved} proofs worked out again, {len(lines)} complaints")
    sys.exit(1 if lines else 0)


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--markdown", type=_OUTPUT, help="Write the table as Markdown; - is standard output.")
@click.option("--html", type=click.Path(path_type=Path, file_okay=False), help="Write the page, DIR/index.html.")
@click.option("--badge", type=_OUTPUT, help="Write a badge, as JSON for a badge service.")
@click.option(
    "--history", type=click.Path(path_type=Path, file_okay=False), help="Keep the runs here, and show changes."
)
@click.option(
    "--engines", type=click.Path(path_type=Path, file_okay=False), help="Show these reports of engines on the page."
)
def report(
    files: tuple[Path, ...],
    markdown: Path | None,
    html: Path | None,
    badge: Path | None,
    history: Path | None,
    engines: Path | None,
) -> None:
    """Print the table of reports, or write other views of them; FILES may be folders.

    With a history the given runs are kept in it, and the views show the last whole run of each cell that it has.
    """
    from pt2e_ci.views.selection import read_all
    from pt2e_ci.views.table import is_terminal, render

    runs: Runs | None = None
    if history is None:
        reports = read_all(files)
    else:
        from pt2e_ci.views.history import keep_files, newest

        runs = keep_files(history, files, warn=lambda text: click.echo(f"pt2e-ci: {text}", err=True))
        reports = newest(runs)
    views: dict[Path, str] = {}
    if markdown:
        from pt2e_ci.views.table import markdown as to_markdown

        views[markdown] = to_markdown(reports)
    if html:
        from pt2e_ci.record.engines import read_reports
        from pt2e_ci.views.pages import page

        devices = read_reports([engines]) if engines else []
        views[html / "index.html"] = page(reports, runs, devices=devices)
    if badge:
        from pt2e_ci.views.badge import endpoint

        views[badge] = endpoint(reports)
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
    from pt2e_ci.views.diff import broke, differences, page, text
    from pt2e_ci.views.diff import markdown as to_markdown

    sides = [_side(name, reports) for name in (old, new)]
    changes = differences(*sides)
    if markdown:
        _write(markdown, to_markdown(changes))
    if html:
        _write(html, page(changes, f"{old} to {new}"))
    if not any((markdown, html)):
        click.echo(text(changes), nl=False)
    sys.exit(1 if broke(changes) else 0)


def _side(name: str, folder: Path) -> list[Report]:
    """Return the reports of a file, a folder, or a version of torch in `folder`."""
    from pt2e_ci.views.selection import read_all, with_torch

    if Path(name).exists():
        return read_all([Path(name)])
    version = version_in(name, otherwise="neither a file or folder nor a version of torch")
    if not (found := with_torch(read_all([folder]), version)):
        raise InputError(f"no report of torch {version} in {folder}: run `nox -s test-{version}`")
    return found


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
    from pt2e_ci.matrix.jobs import arguments_in, plan

    stops.listen()
    sys.exit(plan(Path.cwd(), cells, arguments_in(arguments), at_once=jobs, fresh=fresh).run())


main.add_command(check)
main.add_command(explain)
main.add_command(reduce)
main.add_command(image)
main.add_command(github)
main.add_command(engines)
main.add_command(vectors)
main.add_command(networks)
main.add_command(quantizers)
