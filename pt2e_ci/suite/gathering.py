"""The gathering process: what it hears of the cases, and what it makes of it at the end."""

from __future__ import annotations

import re
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from msgspec import structs

from pt2e_ci import stops
from pt2e_ci.catalogue.cases import Case, case_names
from pt2e_ci.errors import InputError, death_reason
from pt2e_ci.record.outcomes import Outcome, Stage
from pt2e_ci.record.reasons import reason
from pt2e_ci.record.records import Case as Record
from pt2e_ci.record.report import Report, dump, end_record, keep_report
from pt2e_ci.suite.options import other_place

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from pt2e_ci.record.records import Reason
    from pt2e_ci.suite.options import Settings
    from pt2e_ci.suite.progress import Progress
    from pt2e_ci.suite.scratch import Scratch

RESULT = "pt2e_ci_result"
"""The attribute of a test report that carries the case's line, as JSON, to the process that writes the report."""

ITEM = re.compile(r"::test_case\[(?P<name>[^\[\]]+)\]$")
"""The node id of a case."""


@dataclass
class Gathered:
    """What the gathering process has heard so far."""

    scratch: Scratch
    started: float = field(default_factory=time.time)
    selected: set[str] = field(default_factory=set)
    records: dict[str, Record] = field(default_factory=dict)
    begun: dict[str, float] = field(default_factory=dict)
    report: Report | None = None
    place: Path | None = None
    """Where the report is; None for standard output."""
    notes: list[str] = field(default_factory=list)
    progress: Progress | None = None
    stopped: bool = False


def held(case: Record, settings: Settings, complaint: str | None = None) -> Record:
    """Return a case as the report has it: with what the expectations say of it, and the command that runs it again.

    `complaint` is why the run is red whatever they say.
    """
    verdict = settings.expectations.judge(case)
    return structs.replace(
        case,
        known=verdict.known,
        complaint=complaint or verdict.complaint,
        change="new" if complaint else verdict.change,
        command=settings.command(case.name),
    )


class Gatherer:
    """The hooks of the gathering process that hear of single cases."""

    def __init__(self, config: pytest.Config, settings: Settings, gathered: Gathered) -> None:
        self._config = config
        self._settings = settings
        self._gathered = gathered

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Note when a case began."""
        if match := ITEM.search(nodeid):
            self._gathered.begun[match["name"]] = time.monotonic()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep a case's line."""
        match = ITEM.search(report.nodeid)
        if match is None:
            return
        text = getattr(report, RESULT, None)
        record = msgspec.json.decode(text, type=Record) if text else None
        if record is None and report.failed and match["name"] not in self._gathered.records:
            record = held(_failed_around(self._case(match["name"]), report), self._settings)
        if record is not None:
            self._gathered.records[match["name"]] = record
        if self._gathered.progress and (report.when == "call" or not report.passed):
            self._gathered.progress.count(match["name"], len(self._gathered.selected))

    @pytest.hookimpl(wrapper=True)
    def pytest_report_teststatus(
        self, report: pytest.TestReport, config: pytest.Config
    ) -> Generator[None, tuple[str, str, Any], tuple[str, str, Any]]:
        """Leave it to the line of progress how far a run is, unless asked to be verbose."""
        status = yield
        quiet = self._gathered.progress and ITEM.search(report.nodeid)
        return (status[0], "", "") if quiet else status

    def pytest_keyboard_interrupt(self) -> None:
        """End the workers at once: pytest-xdist would wait for the cases that they are at."""
        self._gathered.stopped = True
        stops.be_deaf()
        session = self._config.pluginmanager.getplugin("dsession")
        for node in session._active_nodes if session else ():
            node.gateway._io.popen.kill()

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, report: pytest.TestReport) -> None:
        """Give the case whose worker died its outcome, and go by the expectations for it too."""
        match = ITEM.search(crashitem)
        if match is None:
            return
        case = self._case(match["name"])
        elapsed = time.monotonic() - self._gathered.begun.get(case.name, time.monotonic())
        code = _exit_code(report)
        outcome, why = self._cause_of_death(elapsed, code)
        stage = self._gathered.scratch.stage_of(case.name)
        record = held(_ended(case, outcome, why, stage), self._settings)
        setattr(report, RESULT, msgspec.json.encode(record).decode())
        report.longrepr = f"{case.name}: {outcome}: {why.text}"
        if not record.is_unexpected:
            report.outcome = "skipped"
            report.wasxfail = record.known.reason if record.known else ""

    def _case(self, name: str) -> Case:
        return next(case for case in self._settings.listed if case.name == name)

    def _cause_of_death(self, elapsed: float, code: int | None) -> tuple[Outcome, Reason]:
        limit = float(getattr(self._config.option, "timeout", None) or 0)
        # pytest-timeout ends the process with 1 where a signal would not reach it.
        if limit and elapsed >= limit and code == 1:
            return Outcome.TIMEOUT, reason("PQ045", limit=f"{limit:g}")
        return Outcome.CRASH, reason("PQ044", death=death_reason(code))


def _failed_around(case: Case, report: pytest.TestReport) -> Record:
    """Return a case that did not come to give a result: what is around it failed, or stopped it."""
    text = report.longreprtext
    if timeout := re.search(r"Timeout \(>(?P<limit>[0-9.]+)s\) from pytest-timeout", text):
        return _ended(case, Outcome.TIMEOUT, reason("PQ045", limit=timeout["limit"]))
    last = text.strip().splitlines()[-1] if text.strip() else "no reason given"
    return _ended(case, Outcome.ERROR, reason("PQ047", when=report.when, last=last))


def _ended(case: Case, outcome: Outcome, why: Reason, stage: Stage | None = None) -> Record:
    return Record(name=case.name, family=case.family, outcome=outcome, stage=stage, reason=why)


def _exit_code(report: pytest.TestReport) -> int | None:
    """Return the exit code of the worker that a crash report speaks of.

    xdist and execnet have no public way to it: the popen object behind the gateway is the one place.
    """
    try:
        process = report.node.gateway._io.popen
        code: int = process.wait(timeout=5)
    except Exception:  # another gateway than popen, or a worker that will not end
        return None
    return code


def conclude(gathered: Gathered, settings: Settings, exitstatus: int) -> int:
    """Write the report and return the exit status: a run that lacks what it requires, or has a complaint, is red."""
    if gathered.stopped:
        exitstatus = stops.exit_code()
    run = gathered.scratch.run_record()
    if run is None or not gathered.records:
        gathered.notes.append("no case was judged: no report was written")
        return pytest.ExitCode.NO_TESTS_COLLECTED if exitstatus == pytest.ExitCode.OK else exitstatus
    records = [gathered.records[name] for name in case_names(settings.listed) if name in gathered.records]
    selected = len(gathered.selected | gathered.records.keys())
    there = sum(settings.cell.flow in case.flows for case in settings.listed)
    end = end_record(records, selected, time.time() - gathered.started, there - selected)
    report = Report(run, tuple(records), end)
    gathered.report = report

    missing = gathered.scratch.missing(settings.required)
    gathered.notes += [f"{name} is required: {reason}" for name, reason in missing.items()]
    red = bool(missing) or any(record.is_unexpected for record in records)
    if red and exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        exitstatus = pytest.ExitCode.TESTS_FAILED
    try:
        gathered.place = _deliver(report, settings)
    except InputError as error:
        gathered.notes.append(f"error: {error}")
        return pytest.ExitCode.INTERRUPTED  # 2, as for any bad input
    return exitstatus


def _deliver(report: Report, settings: Settings) -> Path | None:
    """Put the report where it should go, and return where that is; None for standard output."""
    if settings.report is None:
        stream = sys.__stdout__ or sys.stdout
        stream.write(dump(report))
        stream.flush()
        return None
    # What a run has left out by a way that its options do not tell, such as a plugin's, is seen only now.
    other = settings.is_main and report.is_partial
    return keep_report(other_place(settings.report) if other else settings.report, report)
