"""One item for each case: it is taken through the flow, judged, and held against the expectations."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
import torch

from pt2e_ci.cells.capabilities import CAPABILITIES, THREADS, Capabilities, detect
from pt2e_ci.flow.homes import import_home
from pt2e_ci.flow.patterns import PatternGraphs
from pt2e_ci.flow.quantizers import quantizer_of
from pt2e_ci.flow.representation import load_representation
from pt2e_ci.pipeline import Flow, run_case
from pt2e_ci.record.criteria import criteria_by_case
from pt2e_ci.record.outcomes import Outcome
from pt2e_ci.record.reasons import reason
from pt2e_ci.record.records import Case as Record
from pt2e_ci.record.running import run_here
from pt2e_ci.suite.gathering import held
from pt2e_ci.suite.session import RECORD_KEY, key_of_run, scratch_of, settings_of

if TYPE_CHECKING:
    from pt2e_ci.catalogue.cases import Case
    from pt2e_ci.suite.options import Settings

# torch warns of its own deprecations on every release; they say nothing about the case.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="session")
def settings(pytestconfig: pytest.Config) -> Settings:
    """Return what the run was asked for."""
    return settings_of(pytestconfig)


@pytest.fixture(scope="session")
def capabilities(pytestconfig: pytest.Config, settings: Settings) -> Capabilities:
    """Look at the machine, and leave the report's run line for the process that writes it."""
    torch.set_num_threads(THREADS)
    found = detect()
    key = key_of_run(pytestconfig)
    run = run_here(settings.cell, found, key, settings.representation, settings.seed, settings.required)
    scratch_of(pytestconfig).write_run(run, found.missing(CAPABILITIES))
    return found


@pytest.fixture(scope="session")
def flow(settings: Settings, capabilities: Capabilities) -> Flow:
    """Import the flow, and the user's representation if there is one; pattern graphs are kept from case to case."""
    home = import_home(settings.cell.flow)
    name = settings.representation
    return Flow(
        home,
        load_representation(name) if name else None,
        PatternGraphs(home),
        settings.rounding,
        (*capabilities.measurable, *settings.engines),
        quantizer_of(settings.quantizer) if settings.quantizer else None,
        criteria_by_case(settings.criteria) if settings.criteria else {},
    )


def test_case(case: Case, settings: Settings, capabilities: Capabilities, request: pytest.FixtureRequest) -> None:
    """Take one case through the flow; it fails where the outcome is not the expected one."""
    missing = capabilities.missing(case.needs)
    traceback = complaint = None
    if missing:
        why = "; ".join(missing.values())
        required = sorted(missing.keys() & set(settings.required))
        complaint = f"{', '.join(required)} required, and {why}" if required else None
        found = Record(name=case.name, family=case.family, outcome=Outcome.SKIP, reason=reason("PQ046", missing=why))
    else:
        enter = partial(scratch_of(request.config).note_stage, case.name)
        found, traceback = run_case(case, request.getfixturevalue("flow"), settings.seed, enter)
    record = held(found, settings, complaint)
    request.node.stash[RECORD_KEY] = record
    _end(record, traceback)


def _end(record: Record, traceback: str | None) -> None:
    """Say to pytest how the case ended: fail on the unexpected, xfail on the known, skip, or pass."""
    text = record.reason.text if record.reason else ""
    if record.is_unexpected:
        detail = f" ({text})" if text else ""
        trace = f"\n\n{traceback}" if traceback else ""
        pytest.fail(f"{record.name}: {record.complaint}{detail}{trace}", pytrace=False)
    if record.known is not None:
        pytest.xfail(f"{record.outcome}: {text} [{record.known.reason}]")
    if record.outcome is Outcome.SKIP:
        pytest.skip(text)
