"""Running the suite as a user does, in a process of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from pt2e_ci.errors import InputError
from pt2e_ci.reports.record import Report, read_report

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
        parser.addoption("--require", default="", metavar="NAMES", help="fail for want of docker, arm64; by commas")


def pytest_configure(config):
    config.addinivalue_line("markers", "docker: needs a Docker engine")
    config.addinivalue_line(
        "markers", "arm64: needs a Docker engine that runs arm64, and ten minutes if it emulates it"
    )


def is_required(request, name):
    return name in request.config.getoption("--require").split(",")


@pytest.fixture(scope="session")
def engine(request):
    """A client of the Docker engine; without one the test is skipped, or fails if docker is required."""
    from pt2e_ci.image import connect

    try:
        client = connect()
    except InputError as error:
        if is_required(request, "docker"):
            pytest.fail(str(error))
        pytest.skip(str(error))
    yield client
    client.close()


@pytest.fixture
def checkout(tmp_path):
    """A copy of what this project is built from, without what has been built."""
    copy = tmp_path / "checkout"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "pt2e_ci", copy / "pt2e_ci", ignore=ignored)
    for name in ("Dockerfile", ".dockerignore", "noxfile.py", "toxfile.py", "pyproject.toml", "README.md", "LICENSE"):
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

    def case(self, name: str) -> dict:
        return next(case for case in self.report.cases if case["name"] == name)


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
        command.append(f"--pattern-cache={self._folder / 'cache'}")
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
def whole_run(suite: RunSuite) -> SuiteRun:
    """One run of every case, as it stands."""
    return suite("--junitxml=junit.xml")


def converted(case):
    """Return a case's Q/DQ program on this torch, and its input sets."""
    from pt2e_ci.cases.inputs import input_sets
    from pt2e_ci.cells import current_cell
    from pt2e_ci.flows.homes import import_home
    from pt2e_ci.running import qdq_program

    sets = input_sets(case, 0)
    return qdq_program(case, import_home(current_cell().flow), 0, sets[0].tensors), sets
