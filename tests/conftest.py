"""The suite, as a user runs it in a process of its own, and its cases one by one in this one."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import pytest

from pt2e_ci.errors import InputError
from pt2e_ci.record.report import Report, read_report

# pytest reads this file for the suite's run in a checkout, too, and the cells' environments have no hypothesis.
with contextlib.suppress(ImportError):
    from hypothesis import settings

    # `pytest --hypothesis-profile=long` looks harder than CI does, which tries the same examples every time.
    settings.register_profile("ci", deadline=None, derandomize=True)
    settings.register_profile("long", deadline=None, max_examples=5000)
    settings.load_profile("ci")

ROOT = Path(__file__).parent.parent


def pytest_addoption(parser):
    # The suite's run in a checkout reads this file, and has an option of that name already.
    with contextlib.suppress(ValueError):
        parser.addoption(
            "--require", default="", metavar="NAMES", help="fail for want of chromium, arm64, comma-separated"
        )


def pytest_configure(config):
    config.addinivalue_line("markers", "nightly: takes too long for every change; the nightly workflow runs it")


def is_required(request, name):
    return name in request.config.getoption("--require").split(",")


@pytest.fixture(scope="session")
def engine():
    """A client of the Docker engine, which must be there: what needs one is in a folder of its own."""
    from pt2e_ci.matrix.image import connect

    try:
        client = connect()
    except InputError as error:
        pytest.fail(str(error))
    yield client
    client.close()


@pytest.fixture
def checkout(tmp_path):
    """A copy of what this project is built from, without what has been built."""
    copy = tmp_path / "checkout"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "pt2e_ci", copy / "pt2e_ci", ignore=ignored)
    for name in ("Dockerfile", ".dockerignore", "noxfile.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    return copy


@dataclass(frozen=True)
class SuiteRun:
    """What a run of the suite left behind."""

    code: int
    stdout: str
    stderr: str
    path: Path

    @property
    def report(self) -> Report:
        return read_report(self.path)

    def case(self, name: str):
        return next(case for case in self.report.cases if case.name == name)


class RunSuite:
    """Runs `pytest --pyargs pt2e_ci.suite`, broken by one of the faults of tests/broken.py or not."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def __call__(self, *arguments: str, fault: str | None = None, keep: Iterable[str] = ()) -> SuiteRun:
        self._count += 1
        cwd = self._folder / f"run-{self._count}"
        cwd.mkdir()
        path = cwd / "report.jsonl"
        environment = {
            name: value for name, value in os.environ.items() if name in keep or not name.startswith("PYTEST_")
        }
        command = [sys.executable, "-m", "pytest", "--pyargs", "pt2e_ci.suite"]
        command.append(f"--report={path}")
        if fault:
            environment |= {"PYTHONPATH": str(Path(__file__).parent), "PT2E_CI_FAULT": fault}
            command += ["-p", "broken"]
        done = subprocess.run(
            [*command, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=900
        )
        return SuiteRun(done.returncode, done.stdout, done.stderr, path)


@pytest.fixture(scope="session")
def suite(tmp_path_factory: pytest.TempPathFactory) -> RunSuite:
    return RunSuite(tmp_path_factory.mktemp("suite"))


@pytest.fixture(scope="session")
def whole_run(suite: RunSuite, tmp_path_factory: pytest.TempPathFactory) -> SuiteRun:
    """One run of every case, as it stands; one for all workers of pytest-xdist."""
    folder = tmp_path_factory.getbasetemp()
    shared = folder.parent if os.environ.get("PYTEST_XDIST_WORKER") else folder
    with (shared / "whole_run.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = shared / "whole_run.json"
        if not kept.exists():
            run = asdict(suite("--junitxml=junit.xml", "--table", "-n1"))
            kept.write_text(json.dumps(run | {"path": str(run["path"])}))
        run = json.loads(kept.read_text())
    return SuiteRun(**run | {"path": Path(run["path"])})


@cache
def flow():
    """Return the flow on this torch, with upstream's representation; torch uses one thread from here on."""
    import torch

    from pt2e_ci.cells.cell import current_cell
    from pt2e_ci.flow.homes import import_home
    from pt2e_ci.flow.patterns import PatternGraphs
    from pt2e_ci.pipeline import Flow

    torch.set_num_threads(1)
    home = import_home(current_cell().flow)
    return Flow(home, patterns=PatternGraphs(home))


def converted(case):
    """Return a case's Q/DQ program on this torch, which stays as it is, and its input sets."""
    return _converted(case.name)


@cache
def _converted(name):
    from pt2e_ci.catalogue.cases import select_cases
    from pt2e_ci.catalogue.inputs import input_sets
    from pt2e_ci.pipeline import Clock
    from pt2e_ci.pipeline import converted as stages

    (case,) = select_cases([name])
    sets = input_sets(case, 0)
    return Clock().follow(stages(case, flow(), 0, sets)).qdq, sets


def taken(name, seed=0, **options):
    """Take a case through the flow in this process; return its line of the report, as the suite would write it.

    `options` are those of `Flow`; a representation of one's own is judged by the expectations for such.
    """
    from types import SimpleNamespace

    from pt2e_ci.catalogue.cases import CASES, DEPLOYED, case_names, select_cases
    from pt2e_ci.cells.cell import current_cell, load_cells
    from pt2e_ci.pipeline import run_case
    from pt2e_ci.record.expectations import Expectations, load_expectations
    from pt2e_ci.suite.gathering import held

    entries = load_expectations(case_names((*CASES, *DEPLOYED)), load_cells().cells)
    entries = [entry for entry in entries if entry[0].of_quantizer or not options.get("representation")]
    (case,) = select_cases([name])
    record, _ = run_case(case, replace(flow(), **options), seed)
    expectations = Expectations(entries, current_cell(), "x86_64")
    return held(record, SimpleNamespace(expectations=expectations, command=lambda name: f"run {name}"))
