"""Cells side by side: one command each, a few at a time, with a line for each while they run.

A cell whose report is there and whose environment has not changed is not started at all.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

import click

from pt2e_ci import stops
from pt2e_ci.cells.capabilities import cores, free_gib
from pt2e_ci.cells.cell import Cell, load_cells, minor, platform_tag
from pt2e_ci.errors import InputError
from pt2e_ci.record.report import read_whole_report, write_report
from pt2e_ci.record.unchanged import mark_reused, result_key, reusable
from pt2e_ci.views.answer import answer
from pt2e_ci.views.table import is_terminal, render

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from pt2e_ci.record.report import Report

# Measured on torch 2.13: a cell's two processes take 0.4 GiB together at their peak. The rest is room for other
# torches, larger cases, and an installation.
_GIB_PER_CELL = 1.5
_GRACE_SECONDS = 3
_POLL_SECONDS = 0.2


class State(StrEnum):
    """What a cell is doing."""

    WAITING = "waiting"
    RUNNING = "running"
    UNCHANGED = "unchanged"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass
class Job:
    """One cell of the matrix: the command that runs it, and how far that has come."""

    name: str
    command: Sequence[str]
    report: Path
    log: Path
    state: State = State.WAITING
    code: int | None = None
    locate: Callable[[], Path] | None = None
    """Says where the report is once the command has ended, if that is known only then."""
    _process: subprocess.Popen[bytes] | None = None
    _started: float = 0.0
    _earlier: dict[Path, int] = field(default_factory=dict)
    """When the reports were changed that were there before the run: none of them may be taken for the run's own."""

    def start(self, variables: Mapping[str, str]) -> None:
        """Start the command, in a session of its own, so that all of its processes can be stopped."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._earlier = {path: path.stat().st_mtime_ns for path in self.report.parent.glob("*.jsonl")}
        self._started, self.state = time.monotonic(), State.RUNNING
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - nox, or what a test puts in its place
                self.command,
                env=variables | os.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def has_ended(self) -> bool:
        """Whether the command has ended."""
        return self._process is not None and self._process.poll() is not None

    def conclude(self) -> None:
        """Take note of how the command has ended, and of where its report is."""
        assert self._process is not None  # noqa: S101 - it was started
        self.code = self._process.returncode
        self.state = State.FAILED if self.code else State.DONE
        self.report = self.locate() if self.locate else self.report

    def signal(self, number: int) -> None:
        """Send a signal to the command and to all that it has started."""
        self.state = State.STOPPED
        with contextlib.suppress(ProcessLookupError):
            if self._process is not None:
                os.killpg(self._process.pid, number)

    def wait(self, seconds: float) -> None:
        """Wait for the command to end, for so long at most."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self._process is not None:
                self._process.wait(seconds)

    def status(self) -> str:
        """Say in a line what the cell is doing, and for how long it has."""
        after = f" after {time.monotonic() - self._started:.0f} s" if self._started and self.code is not None else ""
        return f"{self.name}: {self.state}{after}"

    @property
    def has_written(self) -> bool:
        """Whether the report is this run's own, and not one that was there before."""
        return self.report.exists() and self.report.stat().st_mtime_ns != self._earlier.get(self.report)

    def last_words(self) -> str:
        """Return the last line that the command has printed."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


@dataclass
class Matrix:
    """The cells of a run, and how they are run."""

    jobs: list[Job]
    at_once: int

    def run(self) -> int:
        """Run all jobs and print the merged table; return 0 only if every cell did as expected, 2 if one could not run.

        Ctrl-C stops what is running; the reports of cells that are done stay.
        """
        notes: list[str] = []
        try:
            self._run()
        except KeyboardInterrupt:
            notes.append("stopped; the reports of the cells that were done are kept")
        interrupted = bool(notes)
        reports = [report for job in self.jobs if (report := _report(job, notes))]
        if reports:
            click.echo(render(reports, color=is_terminal()), nl=False)
        for line in answer(reports, self.jobs[0].report.parent, notes) if reports else notes:
            click.echo(line)
        if interrupted:
            return stops.exit_code()
        if any(job.code == 2 for job in self.jobs):
            return 2
        return 0 if all(job.state in (State.DONE, State.UNCHANGED) for job in self.jobs) and not notes else 1

    def _run(self) -> None:
        # The cores are shared out among the cells that run at once: as many workers for each, of one thread each.
        available = cores() // max(1, min(self.at_once, len(self.jobs)))
        variables = {"PYTEST_XDIST_AUTO_NUM_WORKERS": str(max(1, available))}
        waiting = [job for job in self.jobs if job.state is State.WAITING]
        running: list[Job] = []
        try:
            while waiting or running:
                while waiting and len(running) < self.at_once:
                    running.append(waiting.pop(0))
                    running[-1].start(variables)
                    click.echo(running[-1].status())
                time.sleep(_POLL_SECONDS)
                for job in [job for job in running if job.has_ended]:
                    job.conclude()
                    running.remove(job)
                    click.echo(job.status())
        except KeyboardInterrupt:
            stops.be_deaf()
            # All at once: first as Ctrl-C does, and after a while for good.
            for number in (signal.SIGINT, signal.SIGKILL):
                for job in running:
                    job.signal(number)
                until = time.monotonic() + _GRACE_SECONDS
                for job in running:
                    job.wait(max(0.0, until - time.monotonic()))
            for job in running:
                click.echo(job.status())
            raise


def _report(job: Job, notes: list[str]) -> Report | None:
    """Return the report of a job that has come to its end; add to `notes` why there is none."""
    if job.state is State.FAILED:
        click.echo(f"{job.name} failed; its output is in {job.log}")
    if job.state not in (State.DONE, State.FAILED, State.UNCHANGED):
        return None
    if job.state is not State.UNCHANGED and not job.has_written:
        notes.append(f"no report: {job.name} ended without one: {job.last_words()}")
        return None
    try:
        return read_whole_report(job.report)
    except InputError as error:
        notes.append(f"no report: {error}")
        return None


def plan(root: Path, names: Sequence[str], arguments: Sequence[str], *, at_once: int | None, fresh: bool) -> Matrix:
    """Return the matrix of the named cells (all of them for no name), run from the checkout at `root`.

    `arguments` go to every cell's suite. Cells that have not changed are marked so.

    Raises:
        InputError: there is no noxfile, or no such cell.

    """
    if not (root / "noxfile.py").exists():
        raise InputError(f"{root} has no noxfile.py: run the matrix from a checkout of pt2e-ci")
    jobs = [_job(root, cell, arguments, fresh=fresh) for cell in load_cells().select(names)]
    return Matrix(jobs, at_once or default_at_once())


def _job(root: Path, cell: Cell, arguments: Sequence[str], *, fresh: bool) -> Job:
    # A run that is told otherwise does not take the place of the whole one's report.
    folder = root / "reports" / "other" if arguments else root / "reports"
    command = [sys.executable, "-m", "nox", "-f", str(root / "noxfile.py"), "-s", cell.session, "--", *arguments]
    environment = root / ".nox" / cell.session.replace(".", "-")

    def locate() -> Path:
        return folder / f"{_ran_on(cell, environment).id(platform_tag())}.jsonl"

    job = Job(cell.session, [*command, f"--report={folder}/"], locate(), folder / f"{cell.session}.log", locate=locate)
    if not fresh and not arguments and (kept := _unchanged(environment, job)):
        job.state = kept
    return job


def _ran_on(cell: Cell, environment: Path) -> Cell:
    """Return a cell on the Python that its environment is made of, which may not be the preferred one."""
    python = minor(_python_version(environment) or cell.python)
    return cell.on(python) if python in cell.pythons else cell


def _unchanged(environment: Path, job: Job) -> State | None:
    """Let a cell's report stand for this run if its environment is as it was then."""
    packages = next(environment.glob("lib/python*/site-packages"), None)
    if packages is None or not job.report.exists():
        return None
    report = reusable(job.report, result_key(packages, _python_version(environment), {}))
    if report is None:
        return None
    write_report(job.report, mark_reused(report))
    return State.UNCHANGED


def _python_version(environment: Path) -> str:
    """Return the full version of a virtual environment's interpreter; nothing where there is none."""
    settings: dict[str, str] = {}
    try:
        lines = (environment / "pyvenv.cfg").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    for line in lines:
        key, _, value = line.partition("=")
        settings[key.strip()] = value.strip()
    version = settings.get("version_info") or settings.get("version") or ""
    return ".".join(version.split(".")[:3])


def arguments_in(text: str) -> list[str]:
    """Return the words of the option ``--arguments``, which every job is given, as a shell reads them.

    Raises:
        InputError: a quotation in it has no end.

    """
    try:
        return shlex.split(text)
    except ValueError as error:
        raise InputError(f"--arguments cannot be read as a shell would: {error}") from None


def default_at_once() -> int:
    """Return how many cells run at once: one for each core, as long as there is memory for them."""
    return max(1, int(min(cores(), free_gib() / _GIB_PER_CELL)))
