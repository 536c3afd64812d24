"""The suite's side of a pytest run: its options, the isolation of its cases, the report and the table.

The process that the user started gathers results and writes the report. The cases run in workers of pytest-xdist,
so that one which kills its process, or hangs, costs its own outcome only; without workers (``-n0``, ``--pdb``) they
run in the one process, and are not isolated.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import signal
import sys
import sysconfig
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pt2e_ci.capabilities import CAPABILITIES
from pt2e_ci.cases.catalogue import CASES, Case, case_names, select_cases
from pt2e_ci.cells import FLOWS, Cell, current_cell, load_cells, platform_tag
from pt2e_ci.errors import InputError, unknown
from pt2e_ci.expectations import EXPECTATIONS_FILE, Expectations, load_expectations
from pt2e_ci.outcomes import Outcome, Result, Stage
from pt2e_ci.reports.record import Report, check_writable, dump, end_record, write_report
from pt2e_ci.reports.table import render
from pt2e_ci.suite.scratch import Scratch
from pt2e_ci.unchanged import mark_reused, result_key, reusable

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

RESULT = "pt2e_ci_result"
"""The attribute of a test report that carries the case's line to the process that writes the report."""

_TIMEOUT_SECONDS = 300
_RUNS_NOTHING = ("collectonly", "setupplan", "setuponly")
_ITEM = re.compile(r"::test_case\[(?P<name>[^\[\]]+)\]$")
_SETTINGS = pytest.StashKey["Settings"]()
_GATHERED = pytest.StashKey["Gathered"]()
_KEY = pytest.StashKey[str]()
_SIGTERM = pytest.StashKey[Any]()


@dataclass(frozen=True)
class Settings:
    """What a run was asked for, checked. The same in every process of it."""

    cell: Cell
    cases: tuple[Case, ...]
    expectations: Expectations
    required: tuple[str, ...]
    seed: int
    report: Path | None
    """Where the report goes; None for standard output."""
    pattern_cache: Path | None
    """The folder where upstream's pattern graphs are kept; None to export them anew each time."""


@dataclass
class Gathered:
    """What the gathering process has heard so far."""

    scratch: Scratch
    started: float = field(default_factory=time.time)
    selected: set[str] = field(default_factory=set)
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    begun: dict[str, float] = field(default_factory=dict)
    report: Report | None = None
    notes: list[str] = field(default_factory=list)


def settings_of(config: pytest.Config) -> Settings:
    """Return the settings of a run."""
    return config.stash[_SETTINGS]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the suite's options."""
    group = parser.getgroup("pt2e-ci", "PT2E's reference representation")
    group.addoption("--case", action="append", default=[], metavar="NAME", help="run this case only; repeatable")
    group.addoption(
        "--report", metavar="FILE", help="where the report goes (default reports/<cell>.jsonl); - is stdout"
    )
    group.addoption(
        "--require",
        default="",
        metavar="NAMES",
        help=f"capabilities whose absence fails the run, by commas: {', '.join(CAPABILITIES)}",
    )
    group.addoption(
        "--reuse",
        action="store_true",
        help="if the report is there and nothing that it depends on has changed, show it and run nothing",
    )
    group.addoption("--flow", metavar="HOME", help=f"home of the PT2E flow, one of: {', '.join(FLOWS)}")
    group.addoption("--seed", type=int, default=0, help="seed of weights and inputs (default 0)")
    group.addoption(
        "--expectations",
        type=Path,
        default=EXPECTATIONS_FILE,
        metavar="FILE",
        help="the known defects, in place of those that the package lists",
    )
    group.addoption(
        "--pattern-cache",
        default=str(_cache_folder()),
        metavar="DIR",
        help="where upstream's exported pattern graphs are kept (default %(default)s), or off",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Check what was asked for before anything runs, and isolate the cases unless told otherwise."""
    if config.option.help or config.option.version:
        return None
    try:
        _check_selection(config.option)
        settings = config.stash[_SETTINGS] = _settings(config.option)
        if _is_worker(config):
            return None
        key = config.stash[_KEY] = _key(config.option)
        if config.option.reuse and _reuse(settings, key):
            return 0
    except InputError as error:
        sys.stderr.write(f"pt2e-ci: error: {error}\n")
        return 2
    _isolate(config)
    return None


def _check_selection(option: Any) -> None:
    """Check -k and -m here: with workers, a mistake in them ends in an internal error of pytest-xdist."""
    from _pytest.mark.expression import Expression

    for name, text in (("-k", option.keyword), ("-m", option.markexpr)):
        try:
            Expression.compile(text or "x")
        except SyntaxError as error:  # pytest's own is one from 9 on, and was an exception of its own before
            raise InputError(f"{name} {text!r} is no expression: {error}") from None


def _reuse(settings: Settings, key: str) -> bool:
    """Let the report that is there stand for this run, and show it, if nothing has changed."""
    if settings.report is None:
        return False
    report = reusable(settings.report, key)
    if report is None:
        return False
    report = mark_reused(report)
    write_report(settings.report, report)
    sys.stdout.write(render([report], color=sys.stdout.isatty()))
    sys.stdout.write(f"report: {settings.report}\n")
    return True


def _settings(option: Any) -> Settings:
    required = tuple(name.strip() for name in option.require.split(",") if name.strip())
    for name in required:
        if name not in CAPABILITIES:
            raise unknown("capability", name, CAPABILITIES)
    cases = select_cases(option.case)
    cell = current_cell(option.flow)
    entries = load_expectations(case_names(), load_cells().cells, option.expectations)
    if not option.pattern_cache:
        raise InputError("--pattern-cache needs the name of a folder, or off")
    report = None
    if option.report == "":
        raise InputError("--report needs the name of a file, or - for standard output")
    if option.report != "-":
        report = Path(option.report or Path("reports", f"{cell.id(platform_tag())}.jsonl")).resolve()
        check_writable(report)
    machine = platform_tag().split("_", 1)[1]
    return Settings(
        cell,
        tuple(cases),
        Expectations(entries, cell, machine),
        required,
        option.seed,
        report,
        pattern_cache=None if option.pattern_cache == "off" else Path(option.pattern_cache).absolute(),
    )


def _key(option: Any) -> str:
    """Return the digest of all that the results depend on."""
    # What decides which cases are run, with what, and how they are judged.
    names = ("case", "require", "flow", "seed", "keyword", "markexpr", "deselect", "plugins")
    options = {name: value for name in names if (value := getattr(option, name))}
    if option.expectations != EXPECTATIONS_FILE:
        options["expectations"] = option.expectations.read_text(encoding="utf-8")
    return result_key(Path(sysconfig.get_path("purelib")), platform.python_version(), options)


def _cache_folder() -> Path | str:
    """Return the user's cache folder, by the XDG convention; "off" for a user without a home."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "pt2e-ci")
    except RuntimeError:
        return "off"


def _isolate(config: pytest.Config) -> None:
    option = config.option
    has_xdist = config.pluginmanager.hasplugin("xdist")
    if has_xdist and option.numprocesses is None and option.dist == "no" and not option.usepdb:
        option.numprocesses = 1
    if config.pluginmanager.hasplugin("timeout"):
        if option.timeout is None:
            # In the order in which pytest-timeout looks; said here once, so that workers and we hold to the same.
            option.timeout = float(os.environ.get("PYTEST_TIMEOUT") or config.getini("timeout") or _TIMEOUT_SECONDS)
        if option.timeout_method is None and option.numprocesses:
            # The other method, a signal, cannot end a case that hangs outside of Python.
            option.timeout_method = "thread"


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Make the folder through which workers report what must outlive them; in a worker, take the settings over."""
    config.addinivalue_line("filterwarnings", "ignore:Failed to initialize NumPy:UserWarning")
    # A project's own naming of tests must not hide the suite's.
    config.addinivalue_line("python_files", "test_cases.py")
    config.addinivalue_line("python_functions", "test_case")
    if _is_worker(config):
        # xdist parses the command line anew in each worker, without the defaults that were set here.
        config.option.__dict__.update(config.workerinput.get("pt2e_ci_option", {}))  # type: ignore[attr-defined]
    elif _SETTINGS in config.stash:
        # What ends a CI job or a container should leave what has been gathered, as Ctrl-C does.
        config.stash[_SIGTERM] = signal.signal(signal.SIGTERM, signal.default_int_handler)
        config.stash[_GATHERED] = Gathered(Scratch(Path(tempfile.mkdtemp(prefix="pt2e-ci-"))))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove that folder."""
    if gathered := config.stash.get(_GATHERED, None):
        signal.signal(signal.SIGTERM, config.stash[_SIGTERM])
        shutil.rmtree(gathered.scratch.folder, ignore_errors=True)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist where that folder is, and what was set for it."""
    node.workerinput["pt2e_ci_scratch"] = str(node.config.stash[_GATHERED].scratch.folder)
    option = vars(node.config.option)
    node.workerinput["pt2e_ci_option"] = {
        name: option[name] for name in ("timeout", "timeout_method") if name in option
    }


def scratch_of(config: pytest.Config) -> Scratch:
    """Return the run's scratch folder, in a worker or in the gathering process."""
    if _is_worker(config):
        return Scratch(Path(config.workerinput["pt2e_ci_scratch"]))  # type: ignore[attr-defined]
    return config.stash[_GATHERED].scratch


# --- what the processes that run cases do


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make an item of each selected case."""
    if "case" in metafunc.fixturenames and metafunc.module.__name__.startswith("pt2e_ci.suite."):
        cases = settings_of(metafunc.config).cases
        metafunc.parametrize("case", cases, ids=[case.name for case in cases])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach the case's line to the test report."""
    report = yield
    record = item.stash.get(RECORD_KEY, None)
    if record is not None and call.when == "call":
        setattr(report, RESULT, record)
    return report


RECORD_KEY = pytest.StashKey[dict[str, Any]]()


def case_record(result: Result, expectations: Expectations, complaint: str | None = None) -> dict[str, Any]:
    """Return a case's line of the report: the result, and what the expectations say of it.

    `complaint` is why the run is red whatever they say.
    """
    verdict = expectations.judge(result)
    return {
        "record": "case",
        "name": result.name,
        "family": result.family,
        "outcome": result.outcome.value,
        "known": verdict.known,
        "complaint": complaint or verdict.complaint,
        "stage": result.stage.value if result.stage else None,
        "reason": result.reason,
        "structure": result.structure,
        "numerics": result.numerics,
        "engines": result.engines,
        "seed_check": result.seed_check,
        "deterministic": result.deterministic,
        "digest": result.digest,
        "seconds": result.seconds,
    }


# --- what the gathering process does


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any, ids: Sequence[str]) -> None:
    """Note which cases were selected, from a worker that has collected them."""
    gathered = node.config.stash[_GATHERED]
    gathered.selected.update(match["name"] for nodeid in ids if (match := _ITEM.search(nodeid)))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Note the same where there are no workers."""
    if gathered := session.config.stash.get(_GATHERED, None):
        gathered.selected.update(match["name"] for item in session.items if (match := _ITEM.search(item.nodeid)))


class _Gatherer:
    """The hooks that need the run's config and are not given it."""

    def __init__(self, settings: Settings, gathered: Gathered) -> None:
        self._settings = settings
        self._gathered = gathered

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        if match := _ITEM.search(nodeid):
            self._gathered.begun[match["name"]] = time.monotonic()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        match = _ITEM.search(report.nodeid)
        if match is None:
            return
        record = getattr(report, RESULT, None)
        if record is None and report.failed and match["name"] not in self._gathered.records:
            result = _failed_around(_case(match["name"]), report)
            record = case_record(result, self._settings.expectations)
        if record is not None:
            self._gathered.records[match["name"]] = record

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, report: pytest.TestReport) -> None:
        """Give the case whose worker died its outcome, and go by the expectations for it too."""
        match = _ITEM.search(crashitem)
        if match is None:
            return
        case = _case(match["name"])
        elapsed = time.monotonic() - self._gathered.begun.get(case.name, time.monotonic())
        code = _exit_code(report)
        outcome, reason = self._cause_of_death(elapsed, code)
        result = Result(
            case.name,
            case.family,
            outcome,
            stage=self._gathered.scratch.stage_of(case.name),
            reason=reason,
        )
        record = case_record(result, self._settings.expectations)
        setattr(report, RESULT, record)
        report.longrepr = f"{case.name}: {outcome}: {reason}"
        if record["complaint"] is None:
            report.outcome = "skipped"
            report.wasxfail = record["known"]["reason"]

    def _cause_of_death(self, elapsed: float, code: int | None) -> tuple[Outcome, str]:
        limit = self._timeout()
        # pytest-timeout ends the process with 1 where a signal would not reach it.
        if limit and elapsed >= limit and code == 1:
            return Outcome.TIMEOUT, f"still running after {limit:g} s"
        return Outcome.CRASH, death_reason(code)

    def _timeout(self) -> float:
        return float(self._config.option.timeout or 0) if hasattr(self._config.option, "timeout") else 0

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        self._config = session.config


def _failed_around(case: Case, report: pytest.TestReport) -> Result:
    """Return the result of a case that did not come to give one: what is around it failed, or stopped it."""
    text = report.longreprtext
    if timeout := re.search(r"Timeout \(>(?P<limit>[0-9.]+)s\) from pytest-timeout", text):
        return Result(case.name, case.family, Outcome.TIMEOUT, reason=f"still running after {timeout['limit']} s")
    last = text.strip().splitlines()[-1] if text.strip() else "no reason given"
    return Result(case.name, case.family, Outcome.ERROR, reason=f"pytest's {report.when} failed: {last}")


def death_reason(code: int | None) -> str:
    """Say how a process ended, by its exit code as `subprocess` gives it: negative for a signal."""
    if code is None:
        return "the process died"
    if code < 0:
        try:
            return f"the process was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"the process was ended by signal {-code}"
    return f"the process exited with {code}"


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


def _case(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Start gathering; or, where cases run in this process, see what the machine can do."""
    config = session.config
    if gathered := config.stash.get(_GATHERED, None):
        gatherer = _Gatherer(settings_of(config), gathered)
        gatherer.pytest_sessionstart(session)
        config.pluginmanager.register(gatherer, "pt2e_ci_gatherer")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write the report; a run that lacks what it requires, or has an unexpected outcome, is red."""
    config = session.config
    gathered = config.stash.get(_GATHERED, None)
    if gathered is None or any(getattr(config.option, name, False) for name in _RUNS_NOTHING):
        return
    settings = settings_of(config)
    run = gathered.scratch.run_record()
    if run is None or not gathered.records:
        if exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
        gathered.notes.append("no case was judged: no report was written")
        return
    run["key"] = config.stash[_KEY]
    records = [gathered.records[name] for name in case_names() if name in gathered.records]
    selected = len(gathered.selected | gathered.records.keys())
    report = Report(run, tuple(records), end_record(records, selected, time.time() - gathered.started))
    gathered.report = report

    gathered.notes += gathered.scratch.notes()
    missing = gathered.scratch.missing(settings.required)
    gathered.notes += [f"{name} is required: {reason}" for name, reason in missing.items()]
    red = bool(missing) or any(record["complaint"] for record in records)
    if red and exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    try:
        gathered.notes.append(_deliver(report, settings.report))
    except InputError as error:
        gathered.notes.append(f"error: {error}")
        session.exitstatus = pytest.ExitCode.INTERRUPTED  # 2, as for any input that will not do


def _deliver(report: Report, path: Path | None) -> str:
    """Put the report where it should go, and say where; one that was stopped does not get the report's name."""
    if path is None:
        stream = sys.__stdout__ or sys.stdout
        stream.write(dump(report))
        stream.flush()
        return "report on standard output"
    if report.is_complete:
        write_report(path, report)
        return f"report: {path}"
    part = path.with_name(f"{path.name}.partial")
    write_report(part, report)
    return f"incomplete report, {len(report.cases)} of {report.end['selected']} cases: {part}"


@pytest.hookimpl(tryfirst=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the table of outcomes."""
    gathered = config.stash.get(_GATHERED, None)
    if gathered is None:
        return
    writer = terminalreporter._tw
    terminalreporter.section("PT2E reference representation")
    if gathered.report is not None:
        terminalreporter.write(render([gathered.report], color=writer.hasmarkup))
    for note in gathered.notes:
        terminalreporter.write_line(note)


def stage_writer(config: pytest.Config, case: Case) -> Any:
    """Return a function that notes the stage that a case is in, where it can be read if the process dies."""
    scratch = scratch_of(config)

    def enter(stage: Stage) -> None:
        scratch.note_stage(case.name, stage)

    return enter
