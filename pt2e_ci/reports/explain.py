"""Why a case ended as it did, in words, from its line of a report: for any representation, and without torch."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pt2e_ci.reports.words import command, difference, label, representation_of, to_exact

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pt2e_ci.reports.record import Report

_MOST_LINES = 60
_ROUNDINGS = {
    "half_even": "rounded to the nearest level, ties to even",
    "half_away": "rounded to the nearest level, ties away from zero",
    "truncate": "cut off towards zero",
}


def explain(report: Report, case: dict[str, Any]) -> str:
    """Return what is known of a case's outcome: what stayed in float and why, and where the difference comes from."""
    ended = case["outcome"] + (f" in {case['stage']}" if case["stage"] else "")
    state = "unexpected" if case["complaint"] is not None else "known" if case["known"] else "as expected"
    lines = [f"{case['name']} on {label(report)}: {ended}, {state}"]
    if case["complaint"]:
        lines.append(f"  {case['complaint']}")
    if case["reason"]:
        lines.append(f"  {case['reason']}")
    if case["known"]:
        lines.append(f"  {case['known']['reason']} ({case['known']['link']})")
    for part in (_structure(report, case), _numbers(case), _programs(case)):
        lines += part
    return "\n".join([*lines, "", f"To see it again: {command(case, report)}"]) + "\n"


def _structure(report: Report, case: dict[str, Any]) -> Iterator[str]:
    structure = case["structure"]
    if structure is None:
        return
    yield ""
    total = structure["integer"] + structure["float"]
    yield f"{structure['integer']} of {total} compute operators take integers."
    explained = set()
    for near in structure.get("nearest", []):
        explained.add(near["operator"])
        yield f"{near['operator']} stayed in float:"
        yield from (f"    {line}" for line in _lines_of(case, "qdq", near["node"]))
        found = f"the nearest rewrite is {near['rewrite']}, of which {near['matched']} of {near['of']} calls are found"
        if near["pattern"]:
            yield f"  {found}, from its result on;"
            yield f"  the first that parts: the pattern has {near['pattern']}, the program"
            yield f"  {near['graph'] or 'an input or a constant'}, at node {near['at']}:"
        else:
            yield f"  {found}: what parts is an argument, or a value that is used more than once, at {near['at']}:"
        yield from (f"    {line}" for line in _lines_of(case, "qdq", near["at"]))
    ours = representation_of(report)
    for name in structure["float_operators"]:
        if name not in explained:
            who = "no rewrite of upstream's is for it" if ours == "upstream" else f"{ours} left it so, or made it so"
            yield f"{name} is computed in float: {who}."
            yield from (f"    {text}" for text in _marked(case, name))


def _numbers(case: dict[str, Any]) -> Iterator[str]:
    numbers, exact = case["numerics"], case.get("exact")
    distance = to_exact(case)
    if not distance:
        return
    yield ""
    share = f"{distance['differing']:.0%} of the outputs"
    if not distance["max"] and not distance["not_finite"]:
        yield "The reference program gives the exact result, in every output."
        return
    yield f"The reference program is up to {difference(distance)} from the exact result, in {share}."
    if (qdq := numbers.get("qdq_vs_exact")) and qdq["compared"]:
        yield f"The Q/DQ program, which computes in float, is up to {difference(qdq)} from it."
    if not exact:
        return
    yield f"Exact is real-number arithmetic on the same scales, {_ROUNDINGS[exact['rounding']]}."
    start = exact["reference_starts_at"]
    for operator in exact["operators"]:
        reference, name = operator["reference"], f"{operator['operator']} ({operator['node']})"
        begins = name == start
        if not begins and not (reference and reference["max"]):
            continue
        if reference:
            size = f"up to {reference['max']:.4g} LSB, mean {reference['mean']:+.3g}, in {reference['differing']:.0%}"
        else:
            size = "its levels could not be found in the reference program"
        yield f"  {name}: {size}{': the difference begins here' if begins else ''}"
        yield from (f"      {line}" for line in _lines_of(case, "qdq", operator["node"]))


def _programs(case: dict[str, Any]) -> Iterator[str]:
    lines = (case.get("programs") or {}).get("reference") or []
    if not lines:
        return
    yield ""
    yield "The reference program:"
    for mark, text in lines[:_MOST_LINES]:
        yield f"    {text}" + (f"    <- {mark}" if mark else "")
    if len(lines) > _MOST_LINES:
        yield f"    and {len(lines) - _MOST_LINES} more"


def _lines_of(case: dict[str, Any], program: str, node: str) -> list[str]:
    """Return the line of a node."""
    lines = (case.get("programs") or {}).get(program) or []
    return [text for _, text in lines if text.startswith(f"{node} = ")]


def _marked(case: dict[str, Any], name: str) -> list[str]:
    """Return the lines of the reference program that compute an operator of that name in float."""
    lines = (case.get("programs") or {}).get("reference") or []
    return [text for mark, text in lines if mark == "float" and re.search(rf" = {re.escape(name)}\(", text)]
