"""What GitHub Actions needs to hear: which jobs to run, what is wrong with which case, and whether all is well."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pt2e_ci.cells.cell import PLATFORMS
from pt2e_ci.errors import InputError
from pt2e_ci.record.outcomes import Outcome
from pt2e_ci.record.report import read_whole_report
from pt2e_ci.views.words import label

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from pt2e_ci.cells.cell import Cell
    from pt2e_ci.record.records import Case
    from pt2e_ci.record.report import Report

RUNNERS = {"linux/amd64": "ubuntu-24.04", "linux/arm64": "ubuntu-24.04-arm"}
"""GitHub's hosted runners, by platform."""

REQUIRED = {"linux/amd64": "fbgemm,onednn,qnnpack,x86", "linux/arm64": "onednn,qnnpack"}
"""The engines that every torch of the list has on these runners: a job that finds one missing should not be green."""

BASE = "debian:bookworm-slim"
"""The image that images are built on, as the Dockerfile has it."""

MOST_JOBS = 256
"""How many jobs GitHub makes of one matrix."""


def job_matrix(cells: Sequence[Cell], platforms: Sequence[str]) -> dict[str, list[dict[str, str]]]:
    """Return the matrix of a job, for ``fromJSON``: each cell on each platform.

    Raises:
        InputError: it would be empty, or have more jobs than GitHub allows.

    """
    jobs = [
        {
            "cell": cell.name,
            "id": cell.id(PLATFORMS[platform]),
            "torch": cell.torch,
            "python": cell.python,
            "tox": cell.tox,
            "session": cell.session,
            "platform": platform,
            "runner": RUNNERS[platform],
            "require": REQUIRED[platform],
            "base": cell.base or BASE,
        }
        for cell in cells
        for platform in platforms
    ]
    if not jobs:
        raise InputError("no cell is selected, so there would be no job: a matrix must have one")
    if len(jobs) > MOST_JOBS:
        raise InputError(f"{len(jobs)} jobs, where GitHub makes {MOST_JOBS} of one matrix at most: select fewer cells")
    return {"include": jobs}


def tox_settings(cells: Sequence[Cell]) -> str:
    """Return tox's settings, as pyproject.toml holds them: an environment for each cell, and tox-gh-actions' map.

    On GitHub Actions the variable ``TORCH`` names the cell that a job is of.
    """
    session = 'commands = [["nox", "-s", "{}", "--", {{ replace = "posargs", extend = true }}]]'
    listed = "\n".join(f'  "{cell.tox}",' for cell in cells)
    head = f"[tool.tox]\nno_package = true\nenv_list = [\n{listed}\n]\n"
    tables = [f"[tool.tox.env.{cell.tox}]\n{session.format(cell.session)}\n" for cell in cells]
    lines = "\n".join(f"{cell.name}: {cell.tox}" for cell in cells)
    return "\n".join([head, *tables, f'[tool.tox."gh-actions:env"]\nTORCH = """\n{lines}\n"""\n'])


def complaints(needs: Mapping[str, Any], matrix: object, reports: Path) -> list[str]:
    """Say why a run of workflows is not good; nothing if it is.

    Args:
        needs: the jobs that had to run, as GitHub's context ``needs`` holds them.
        matrix: the matrix that the cells' job was given.
        reports: the folder with a report for each job of the matrix.

    """
    found = [f"job {name}: {job.get('result')}" for name, job in needs.items() if job.get("result") != "success"]
    if not needs:
        found.append("no job was needed, so nothing is known of any")
    jobs = matrix.get("include") if isinstance(matrix, dict) else None
    if not isinstance(jobs, list) or not jobs:
        return [*found, "the matrix is empty: no cell has run"]
    for job in jobs:
        name = job.get("id") if isinstance(job, dict) else None
        if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+", name):
            found.append(f"the matrix has a job without the id of a cell: {job!r:.100}")
            continue
        try:
            report = read_whole_report(reports / f"{name}.jsonl")
        except InputError as error:
            found.append(f"cell {name}: no report: {error}")
            continue
        if report.run.cell != name:
            found.append(f"cell {name}: its report is of {report.run.cell}")
        if red := [case.name for case in report.cases if case.is_unexpected]:
            found.append(f"cell {name}: unexpected: {', '.join(red)}")
    return found


def error_command(text: str) -> str:
    """Return the workflow command that shows a text as an error, whatever is in it."""
    return f"::error::{_data(text)}"


def error_commands(reports: Iterable[Report]) -> list[str]:
    """Return workflow commands that show each unexpected case where GitHub shows errors."""
    return [
        f"::error title={_property(case.name + ' on ' + label(report))}::{_message(case)}"
        for report in reports
        for case in report.cases
        if case.is_unexpected
    ]


def test_result(reports: Iterable[Report], url: str) -> dict[str, Any]:
    """Return what reports say, as an in-toto predicate of the type test-result.

    A test is a case of a cell: it passed, is known not to, of which it warns, or is unexpected.
    https://github.com/in-toto/attestation/blob/main/spec/predicates/test-result.md
    """
    found: dict[str, list[str]] = {"passedTests": [], "warnedTests": [], "failedTests": []}
    configuration = []
    for report in reports:
        algorithm, _, digest = report.run.key.partition(":")
        configuration.append({"name": report.run.cell, "digest": {algorithm: digest}})
        for case in report.cases:
            is_known = case.outcome is not Outcome.PASS
            name = "failedTests" if case.is_unexpected else "warnedTests" if is_known else "passedTests"
            found[name].append(f"{report.run.cell} {case.name}")
    result = "FAILED" if found["failedTests"] else "WARNED" if found["warnedTests"] else "PASSED"
    return {"result": result, "configuration": configuration, "url": url, **found}


def _message(case: Case) -> str:
    reason = f" ({case.reason.text})" if case.reason else ""
    return _data(f"{case.complaint}{reason}")


def _data(text: str) -> str:
    """Escape the text of a workflow command, which ends at a line's end."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
