"""Reports as JUnit's XML, which CI systems show: a suite for each cell, a test for each case."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from pt2e_ci.reports.words import label

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pt2e_ci.reports.record import Report

# What XML 1.0 has no way to write.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(reports: Sequence[Report]) -> str:
    """Return the XML. An unexpected case is a failure; a known defect and a skip are skipped, with the reason."""
    root = ElementTree.Element("testsuites")
    for report in reports:
        failures = sum(case["complaint"] is not None for case in report.cases)
        skipped = sum(case["complaint"] is None and case["outcome"] != "pass" for case in report.cases)
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=_text(label(report)),
            tests=str(len(report.cases)),
            failures=str(failures),
            skipped=str(skipped),
            timestamp=_text(report.run["started"]),
        )
        for case in report.cases:
            seconds = sum(case["seconds"].values())
            test = ElementTree.SubElement(
                suite, "testcase", classname=_text(report.run["cell"]), name=_text(case["name"]), time=f"{seconds:.3f}"
            )
            why = _text(case["reason"] or "")
            if case["complaint"] is not None:
                ElementTree.SubElement(test, "failure", message=_text(case["complaint"])).text = why
            elif case["outcome"] != "pass":
                known = f" ({case['known']['reason']})" if case["known"] else ""
                ElementTree.SubElement(test, "skipped", message=_text(f"{case['outcome']}: {why}{known}"))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _text(text: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
