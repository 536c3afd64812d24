"""A badge: in how many cells everything is as expected, as a picture and as JSON for a badge service."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pt2e_ci.reports.record import Report

_SUBJECT = "PT2E"
_COLORS = {"good": "#1a7f4b", "bad": "#b42335"}
_PER_CHARACTER, _PADDING = 6.6, 10


def _message(reports: Sequence[Report]) -> tuple[str, str]:
    cases = [case for report in reports for case in report.cases]
    unexpected = sum(case["complaint"] is not None for case in cases)
    passed = sum(case["outcome"] == "pass" for case in cases)
    if unexpected:
        return f"{unexpected} unexpected of {len(cases)}", "bad"
    return f"{passed} of {len(cases)} pass, none unexpected", "good"


def svg(reports: Sequence[Report]) -> str:
    """Return the badge as a picture."""
    message, kind = _message(reports)
    widths = [round(len(text) * _PER_CHARACTER + 2 * _PADDING) for text in (_SUBJECT, message)]
    title = escape(f"{_SUBJECT}: {message}")
    middle = widths[0] + widths[1] / 2
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{sum(widths)}" height="20" role="img" aria-label="{title}">'
        f"<title>{title}</title>"
        f'<rect width="{sum(widths)}" height="20" rx="3" fill="#3c3c46"/>'
        f'<rect x="{widths[0]}" width="{widths[1]}" height="20" rx="3" fill="{_COLORS[kind]}"/>'
        f'<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle">'
        f'<text x="{widths[0] / 2:g}" y="14">{_SUBJECT}</text>'
        f'<text x="{middle:g}" y="14">{escape(message)}</text></g></svg>\n'
    )


def endpoint(reports: Sequence[Report]) -> str:
    """Return the badge as JSON, in the form that shields.io reads from an address."""
    message, kind = _message(reports)
    badge = {"schemaVersion": 1, "label": _SUBJECT, "message": message, "color": _COLORS[kind].removeprefix("#")}
    return json.dumps(badge) + "\n"
