"""The suite's hooks into a pytest run.

The process that the user started gathers results and writes the report. The cases run in workers of pytest-xdist,
so that one which kills its process, or hangs, costs its own outcome only; without workers (``-n0``, ``--pdb``) they
run in the one process, and are not isolated.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from pt2e_ci import stops
from pt2e_ci.cells.capabilities import quiet_torch
from pt2e_ci.engines.protocol import load_engine
from pt2e_ci.errors import InputError
from pt2e_ci.record.records import Case
from pt2e_ci.suite.gathering import ITEM, RESULT, Gathered, Gatherer, conclude
from pt2e_ci.suite.options import Settings, add_options, isolate, key_of, make_settings
from pt2e_ci.suite.progress import Progress
from pt2e_ci.suite.scratch import Scratch
from pt2e_ci.views.answer import answer
from pt2e_ci.views.table import render

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence


RECORD_KEY = pytest.StashKey[Case]()
"""Where an item keeps its case's line."""

_SETTINGS = pytest.StashKey[Settings]()
_GATHERED = pytest.StashKey[Gathered]()
_KEY = pytest.StashKey[str]()
_RUNS_NOTHING = ("collectonly", "setupplan", "setuponly")


def settings_of(config: pytest.Config) -> Settings:
    """Return the settings of a run."""
    return config.stash[_SETTINGS]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the suite's options."""
    add_options(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Check what was asked for before anything runs, and isolate the cases unless told otherwise."""
    if config.option.help or config.option.version:
        return None
    quiet_torch()
    try:
        settings = config.stash[_SETTINGS] = make_settings(config.option)
        if _is_worker(config):
            return None
        if settings.representation:
            from pt2e_ci.flow.representation import load_representation

            load_representation(settings.representation)  # so that a mistake in it costs no run
        if settings.quantizer:
            from pt2e_ci.flow.quantizers import quantizer_of

            quantizer_of(settings.quantizer)
        for name in settings.engines:
            load_engine(name)
        config.stash[_KEY] = key_of(config.option)
    except InputError as error:
        sys.stderr.write(f"pt2e-ci: error: {error}\n")
        return 2
    isolate(config, len(settings.cases))
    return None


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Make the folder through which workers report what must outlive them; in a worker, take the settings over."""
    # What torch, torchao and pytest say of themselves says nothing about a case; the checkout's own settings list
    # every known defect once more.
    for warning in ("UserWarning", "DeprecationWarning", "FutureWarning", "pytest.PytestAssertRewriteWarning"):
        config.addinivalue_line("filterwarnings", f"ignore::{warning}")
    if not _is_worker(config) and not any(str(one).startswith("-r") for one in config.invocation_params.args):
        config.option.reportchars = "fE"
    # A project's own naming of tests must not hide the suite's.
    config.addinivalue_line("python_files", "test_cases.py")
    config.addinivalue_line("python_functions", "test_case")
    if _is_worker(config):
        # xdist parses the command line again in each worker, without the defaults that were set here.
        config.option.__dict__.update(config.workerinput.get("pt2e_ci_option", {}))  # type: ignore[attr-defined]
    elif _SETTINGS in config.stash:
        stops.listen()
        config.stash[_GATHERED] = Gathered(Scratch(Path(tempfile.mkdtemp(prefix="pt2e-ci-"))))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove that folder."""
    if gathered := config.stash.get(_GATHERED, None):
        shutil.rmtree(gathered.scratch.folder, ignore_errors=True)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist where that folder is, and what was set for it."""
    node.workerinput["pt2e_ci_key"] = node.config.stash[_KEY]
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


def key_of_run(config: pytest.Config) -> str:
    """Return the digest of all that the results depend on, in a worker or in the gathering process."""
    key: str = config.workerinput["pt2e_ci_key"] if _is_worker(config) else config.stash[_KEY]  # type: ignore[attr-defined]
    return key


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
        setattr(report, RESULT, msgspec.json.encode(record).decode())
    return report


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any, ids: Sequence[str]) -> None:
    """Note which cases were selected, from a worker that has collected them."""
    gathered = node.config.stash[_GATHERED]
    gathered.selected.update(match["name"] for nodeid in ids if (match := ITEM.search(nodeid)))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Note the same where there are no workers."""
    if gathered := session.config.stash.get(_GATHERED, None):
        gathered.selected.update(match["name"] for item in session.items if (match := ITEM.search(item.nodeid)))


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Start to gather."""
    if gathered := session.config.stash.get(_GATHERED, None):
        reporter = session.config.pluginmanager.getplugin("terminalreporter")
        if reporter and session.config.option.verbose <= 0:
            gathered.progress = Progress(reporter)
        gatherer = Gatherer(session.config, settings_of(session.config), gathered)
        session.config.pluginmanager.register(gatherer, "pt2e_ci_gatherer")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write the report, and turn the run red for what pytest itself does not see."""
    config = session.config
    gathered = config.stash.get(_GATHERED, None)
    if gathered is not None and not any(getattr(config.option, name, False) for name in _RUNS_NOTHING):
        session.exitstatus = conclude(gathered, settings_of(config), exitstatus)


class Ending:
    """The last lines of a run, for whoever prints them below all that pytest has to say."""

    def __init__(self) -> None:
        self.lines: list[str] = []


@pytest.hookimpl(tryfirst=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the answer, or hand it to the command that prints it last; before it the table, if it is asked for."""
    gathered = config.stash.get(_GATHERED, None)
    if gathered is None:
        return
    if gathered.report is not None and settings_of(config).table:
        terminalreporter.ensure_newline()
        terminalreporter.write(render([gathered.report], color=terminalreporter.hasmarkup))
    lines = answer([gathered.report], gathered.place, gathered.notes) if gathered.report else gathered.notes
    endings = [plugin for plugin in config.pluginmanager.get_plugins() if isinstance(plugin, Ending)]
    for ending in endings:
        ending.lines = lines
    if not endings:
        terminalreporter.section("PT2E reference representation")
        for line in lines:
            terminalreporter.write_line(line)
