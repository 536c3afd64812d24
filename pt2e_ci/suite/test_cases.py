"""One item for each case: it is taken through the flow, judged, and held against the expectations."""

from __future__ import annotations

import socket
import sys
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING, Any

import pytest
import torch

from pt2e_ci.capabilities import CAPABILITIES, Capabilities, detect
from pt2e_ci.cells import installed, platform_tag
from pt2e_ci.exact.rounding import Rounding
from pt2e_ci.flows.homes import Home, import_home
from pt2e_ci.flows.patterns import PatternGraphs
from pt2e_ci.flows.representation import Representation, load_representation
from pt2e_ci.outcomes import Outcome, Result
from pt2e_ci.reports.record import SCHEMA
from pt2e_ci.running import run_case
from pt2e_ci.suite.gathering import case_record
from pt2e_ci.suite.session import RECORD_KEY, scratch_of, settings_of
from pt2e_ci.unchanged import now

if TYPE_CHECKING:
    from pt2e_ci.cases.catalogue import Case
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
    # Workers run side by side, and the cases are small: more threads would only fight, and round differently.
    torch.set_num_threads(1)
    found = detect()
    scratch_of(pytestconfig).write_run(_run_record(settings, found), found.missing(CAPABILITIES))
    return found


@pytest.fixture(scope="session")
def home(settings: Settings) -> Home:
    """Import the flow."""
    return import_home(settings.cell.flow)


@pytest.fixture(scope="session")
def patterns(home: Home) -> PatternGraphs:
    """Keep upstream's pattern graphs from one case to the next."""
    return PatternGraphs(home)


@pytest.fixture(scope="session")
def representation(settings: Settings) -> Representation | None:
    """Import the user's representation, if there is one."""
    return load_representation(settings.representation) if settings.representation else None


def test_case(
    case: Case,
    settings: Settings,
    capabilities: Capabilities,
    representation: Representation | None,
    request: pytest.FixtureRequest,
) -> None:
    """Take one case through the flow; it fails where the outcome is not the expected one."""
    missing = capabilities.missing(case.needs)
    if missing:
        reason = "; ".join(missing.values())
        required = sorted(missing.keys() & set(settings.required))
        complaint = f"{', '.join(required)} required, and {reason}" if required else None
        result = Result(case.name, case.family, Outcome.SKIP, reason=reason)
        record = case_record(result, settings.expectations, complaint)
    else:
        result = run_case(
            case,
            request.getfixturevalue("home"),
            settings.seed,
            representation=representation,
            patterns=request.getfixturevalue("patterns"),
            rounding=Rounding(settings.rounding),
            engines=capabilities.measurable,
            enter=partial(scratch_of(request.config).note_stage, case.name),
        )
        record = case_record(result, settings.expectations)
    request.node.stash[RECORD_KEY] = record
    _end(record, result)


def _end(record: dict[str, Any], result: Result) -> None:
    """Say to pytest how the case ended: fail on the unexpected, xfail on the known, skip, or pass."""
    if record["complaint"] is not None:
        detail = f" ({record['reason']})" if record["reason"] else ""
        trace = f"\n\n{result.traceback}" if result.traceback else ""
        pytest.fail(f"{record['name']}: {record['complaint']}{detail}{trace}", pytrace=False)
    if record["known"] is not None:
        pytest.xfail(f"{record['outcome']}: {record['reason']} [{record['known']['reason']}]")
    if result.outcome is Outcome.SKIP:
        pytest.skip(result.reason or "")


def _run_record(settings: Settings, found: Capabilities) -> dict[str, Any]:
    """Return the report's run line."""
    return {
        "record": "run",
        "schema": SCHEMA,
        "cell": settings.cell.id(platform_tag()),
        "listed": settings.cell.listed,
        "torch": settings.cell.torch,
        "torchao": installed("torchao"),
        "flow": settings.cell.flow,
        "machine": found.machine,
        "emulated": found.emulated,
        "engines": [*found.engines],
        "xnnpack": found.xnnpack,
        "cpu": found.cpu,
        "build": found.build,
        "python": ".".join(str(number) for number in sys.version_info[:3]),
        "packages": {
            distribution.name: distribution.version
            for distribution in sorted(metadata.distributions(), key=lambda d: d.name.lower())
        },
        "required": [*settings.required],
        "representation": settings.representation or "upstream",
        "seed": settings.seed,
        "started": now(),
        "host": socket.gethostname(),
        "reused": None,
    }
