"""Reports of schema 1, read as those of schema 2.

Outcomes have other words there, reasons no codes, and operators stand among the numbers of the exact result.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from pt2e_ci.record.commands import command

if TYPE_CHECKING:
    from pt2e_ci.record.records import Run

# What schema 1 called vacuous, by the beginning of its reason; all else was computed in float.
_UNQUANTIZED = ("the quantizer annotated",)
_NOT_JUDGED = ("no output value was compared", "no exact result to compare with")


def translate(record: dict[str, Any], run: Run | None) -> dict[str, Any]:
    """Return a line of schema 1 as schema 2 has it; `run` is the run line before it, None for that line itself."""
    if record.get("record") == "run":
        return {**record, "schema": 2}
    if record.get("record") != "case" or run is None:
        return record
    found = dict(record)
    found["outcome"] = _outcome(record)
    if found["outcome"] == "error" and record.get("outcome") == "vacuous":
        found["stage"] = "judge"
    if record.get("outcome") == "vacuous" and isinstance(record.get("complaint"), str):
        found["complaint"] = record["complaint"].replace("vacuous", found["outcome"], 1)
    if isinstance(record.get("reason"), str):
        found["reason"] = {"code": None, "text": record["reason"]}
    exact = record.get("exact")
    listed = exact.get("operators") if isinstance(exact, dict) else None
    if isinstance(listed, list):
        found["operators"] = [_operator(one) if isinstance(one, dict) else one for one in listed]
    rounding = exact.get("rounding") if isinstance(exact, dict) else None
    asked = (str(record.get("name")), run.cell, run.flow, run.representation, run.seed)
    found["command"] = command(*asked, rounding=rounding if isinstance(rounding, str) else None)
    return found


def translate_counts(end: dict[str, Any], before: list[Any], after: list[Any]) -> dict[str, Any]:
    """Return an end line that counts outcomes as they are `after`, if it counted them as they were `before`."""
    right = end.get("counts") == dict(Counter(map(str, before)))
    return {**end, "counts": dict(Counter(map(str, after)))} if right else end


def _outcome(case: dict[str, Any]) -> Any:
    if case.get("outcome") != "vacuous":
        return case.get("outcome")
    why = str(case.get("reason"))
    return "unquantized" if why.startswith(_UNQUANTIZED) else "error" if why.startswith(_NOT_JUDGED) else "float"


def _operator(one: dict[str, Any]) -> dict[str, Any]:
    fields = {name: one.get(name) for name in ("qdq", "reference")}
    return {"name": one.get("operator"), "node": one.get("node"), "levels": one.get("node"), **fields}
