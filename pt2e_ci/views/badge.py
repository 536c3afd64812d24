"""A badge, as JSON for a badge service: in how many cells everything is as expected."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pt2e_ci.record.outcomes import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pt2e_ci.record.report import Report

_SUBJECT = "PT2E"
_COLORS = {"good": "#1a7f4b", "bad": "#b42335"}


def _message(reports: Sequence[Report]) -> tuple[str, str]:
    cases = [case for report in reports for case in report.cases]
    unexpected = sum(case.is_unexpected for case in cases)
    passed = sum(case.outcome is Outcome.PASS for case in cases)
    if unexpected:
        return f"{unexpected} unexpected of {len(cases)}", "bad"
    return f"{passed} of {len(cases)} pass, none unexpected", "good"


def endpoint(reports: Sequence[Report]) -> str:
    """Return the badge as JSON, in the form that shields.io reads from an address."""
    message, kind = _message(reports)
    badge = {"schemaVersion": 1, "label": _SUBJECT, "message": message, "color": _COLORS[kind].removeprefix("#")}
    return json.dumps(badge) + "\n"
