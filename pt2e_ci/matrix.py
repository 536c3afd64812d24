"""Cells side by side: one command each, a few at a time, with a line for each while they run.

A cell whose report is there and whose environment has not changed is not started at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import sys
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

from pt2e_ci.cells import Cell, load_cells, platform_tag
from pt2e_ci.errors import InputError
from pt2e_ci.reports.record import read_whole_report, write_report
from pt2e_ci.reports.table import render, width
from pt2e_ci.unchanged import mark_reused, result_key, reusable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

# Measured on torch 2.13: a cell's two processes take 0.4 GiB together at their peak. The rest is room for other
# torches, larger cases, and an installation.
_GIB_PER_CELL = 1.5
_GRACE_SECONDS = 10


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
    started: float | None = None
    seconds: float = 0.0
    code: int | None = None
    earlier: int | None = None
    """When the report was changed that was there before the run: it must not be taken for the run's own."""

    def last_words(self) -> str:
        """Return the last line that the command has printed."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - 1000))
                lines = file.read().decode(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1] if lines else ""


@dataclass
class Matrix:
    """The cells of a run, and how they are run."""

    jobs: list[Job]
    at_once: int
    console: Console = field(default_factory=lambda: Console(width=width(), highlight=False))

    @property
    def _limits(self) -> dict[str, str]:
        """Share the cores out among the cells that run at once: as many workers for each, of one thread each."""
        workers = max(1, len(os.sched_getaffinity(0)) // max(1, min(self.at_once, len(self.jobs))))
        return {"PYTEST_XDIST_AUTO_NUM_WORKERS": str(workers)}

    def run(self) -> int:
        """Run all jobs and print the merged table; return 0 only if every cell did as expected, 2 if one could not run.

        Ctrl-C stops what is running; the reports of cells that are done stay.
        """
        interrupted = False
        with self._live() as show:
            try:
                asyncio.run(self._run(show))
            except KeyboardInterrupt:
                interrupted = True
        for job in self.jobs:
            if job.state is State.FAILED:
                self.console.print(f"{job.name} failed; its output is in {job.log}", soft_wrap=True)
        reports, missing = [], []
        for job in self.jobs:
            try:
                if job.state in (State.DONE, State.FAILED) and _changed(job.report) == job.earlier:
                    missing.append(f"{job.name} ended without one: {job.last_words()}")
                elif job.state in (State.DONE, State.UNCHANGED, State.FAILED):
                    reports.append(read_whole_report(job.report))
            except InputError as error:
                missing.append(str(error))
        if reports:
            self.console.file.write(render(reports, color=self.console.is_terminal))
        for complaint in missing:
            self.console.print(f"no report: {complaint}", soft_wrap=True)
        if interrupted:
            self.console.print("stopped; the reports of the cells that were done are kept")
            return 2
        if any(job.code == 2 for job in self.jobs):
            return 2
        return 0 if all(job.state in (State.DONE, State.UNCHANGED) for job in self.jobs) and not missing else 1

    async def _run(self, show: Callable[[], None]) -> None:
        slots = asyncio.Semaphore(self.at_once)

        async def take_turn(job: Job) -> None:
            async with slots:
                await self._run_job(job)

        tasks = [asyncio.create_task(take_turn(job)) for job in self.jobs if job.state is State.WAITING]
        try:
            while not all(task.done() for task in tasks):
                show()
                await asyncio.wait(tasks, timeout=0.5)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            show()

    async def _run_job(self, job: Job) -> None:
        job.state, job.started = State.RUNNING, time.monotonic()
        job.log.parent.mkdir(parents=True, exist_ok=True)
        job.earlier = _changed(job.report)
        with job.log.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *job.command,
                env=self._limits | os.environ,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,  # so that all of its processes can be stopped
            )
            try:
                job.code = await process.wait()
                job.state = State.DONE if job.code == 0 else State.FAILED
            finally:
                if process.returncode is None:
                    job.state = State.STOPPED
                    await _stop(process)
                job.seconds = time.monotonic() - job.started

    @contextlib.contextmanager
    def _live(self) -> Iterator[Callable[[], None]]:
        """Give a function that shows where each cell is: a table on a terminal, else a line at each change."""
        if self.console.is_terminal:
            with Live(self._table(), console=self.console, auto_refresh=False) as live:
                yield lambda: live.update(self._table(), refresh=True)
            return
        shown: dict[str, State] = {}

        def print_changes() -> None:
            for job in self.jobs:
                if shown.get(job.name) != job.state and job.state is not State.WAITING:
                    after = f" after {job.seconds:.0f} s" if job.seconds else ""
                    self.console.print(f"{job.name}: {job.state}{after}", soft_wrap=True)
                shown[job.name] = job.state

        print_changes()
        yield print_changes

    def _table(self) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for title in ("Cell", "State", "Seconds", "Says"):
            table.add_column(title, no_wrap=True)
        for job in self.jobs:
            running = job.state is State.RUNNING and job.started is not None
            seconds = time.monotonic() - job.started if running and job.started else job.seconds
            says = job.last_words()[:100] if running else ""
            table.add_row(job.name, job.state, f"{seconds:.0f}" if seconds else "", says)
        return table


def _changed(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.exists() else None


async def _stop(process: asyncio.subprocess.Process) -> None:
    """End a command and all that it started: first as Ctrl-C does, then for good."""
    for number in (signal.SIGINT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            await asyncio.wait_for(process.wait(), _GRACE_SECONDS)
        except TimeoutError:
            continue
        return


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
    report = root / "reports" / f"{cell.id(platform_tag())}.jsonl"
    passed = [*arguments, *(["--fresh"] if fresh else [])]  # names of cases come first
    command = [sys.executable, "-m", "nox", "-f", str(root / "noxfile.py"), "-r", "-s", cell.session, "--", *passed]
    job = Job(cell.session, command, report, report.with_suffix(".log"))
    if not fresh and not arguments and (kept := _unchanged(root, job)):
        job.state = kept
    return job


def _unchanged(root: Path, job: Job) -> State | None:
    """Let a cell's report stand for this run if its environment is as it was then."""
    environment = root / ".nox" / job.name.replace(".", "-")
    packages = next(environment.glob("lib/python*/site-packages"), None)
    if packages is None or not job.report.exists():
        return None
    report = reusable(job.report, result_key(packages, _python_version(environment), {}))
    if report is None:
        return None
    write_report(job.report, mark_reused(report))
    return State.UNCHANGED


def _python_version(environment: Path) -> str:
    """Return the full version of a virtual environment's interpreter."""
    settings: dict[str, str] = {}
    for line in (environment / "pyvenv.cfg").read_text(encoding="utf-8").splitlines():
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


def default_at_once(gib_per_cell: float = _GIB_PER_CELL) -> int:
    """Return how many cells run at once: one for each core, as long as there is memory for them."""
    cores = len(os.sched_getaffinity(0))
    pages = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    fit = int(pages / 2**30 / gib_per_cell)
    return max(1, min(cores, fit))
