"""Made-up reports: records of a few fields, and what the others usually are."""

from __future__ import annotations

import msgspec

from pt2e_ci.record.commands import command
from pt2e_ci.record.records import Case, Run
from pt2e_ci.record.report import Report, end_record

_FIELDS = {
    "cell": "torch2.4-cp311-linux_x86_64",
    "listed": True,
    "torch": "2.4.1",
    "torchao": None,
    "flow": "torch.ao",
    "machine": "x86_64",
    "emulated": False,
    "engines": ["qnnpack"],
    "xnnpack": True,
    "cpu": {"model": "m", "instruction_sets": [], "torch": "AVX2", "cores": 2, "threads": 2},
    "build": {},
    "python": "3.11.7",
    "packages": {"torch": "2.4.1"},
    "required": [],
    "representation": "upstream",
    "seed": 0,
    "started": "2026-01-01T00:00:00+00:00",
    "host": "h",
    "key": "sha256:" + "0" * 64,
}
RUN = msgspec.convert(_FIELDS | {"record": "run"}, Run)


def run(**fields):
    """Return a run line."""
    return msgspec.convert(_FIELDS | fields, Run)


def case(name, outcome="pass", **fields):
    """Return a case's record; a reason is its text."""
    if isinstance(fields.get("reason"), str):
        fields["reason"] = {"code": None, "text": fields["reason"]}
    asked = {"name": name, "family": "linear", "outcome": outcome, "command": command(name, RUN.cell, RUN.flow)}
    return msgspec.convert(asked | fields, Case)


def report(*cases, run=RUN, selected=None):
    """Return a report of cases."""
    return Report(run, cases, end_record(cases, len(cases) if selected is None else selected, 1.0))


def structure(**in_float):
    """Return a structure in which these operators are in float."""
    return {
        "integer": 0, "float": sum(in_float.values()), "coverage": None, "rewrites": {}, "float_operators": in_float,
        "qdq": 0, "outputs": [],
    }  # fmt: skip


def comparison(largest, **fields):
    """Return a comparison of eight outputs in LSB."""
    numbers = {"unit": "lsb", "max": largest, "mean": 0.0, "differing": 0.5, "compared": 8, "not_finite": 0}
    return numbers | fields
