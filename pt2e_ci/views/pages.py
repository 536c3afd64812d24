"""The page of a matrix: one HTML file that needs no network and no server, and trusts no report.

Every text of a report goes through the template's escaping, or into a block of JSON that the page's script puts in
as text. The page's policy lets only its own script and style run, by their digests.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from functools import cache
from importlib.resources import files
from itertools import groupby
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined
from msgspec import to_builtins

from pt2e_ci import __version__
from pt2e_ci.record.outcomes import Outcome
from pt2e_ci.record.records import SCHEMA, Kind, Verdict
from pt2e_ci.views.engines import by_operator, word
from pt2e_ci.views.history import changes
from pt2e_ci.views.selection import by_age, case_order
from pt2e_ci.views.table import name_cells, summary
from pt2e_ci.views.words import cell_name, label, why

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pt2e_ci.record.engines import EngineReport
    from pt2e_ci.record.records import Case, Known, Operator
    from pt2e_ci.record.report import Report
    from pt2e_ci.views.engines import Row
    from pt2e_ci.views.history import Changes, Runs

_SHOWN = (
    "complaint", "stage", "structure", "operators", "unquantized", "engines", "exact", "digest", "numerics",
    "deterministic", "seed_check",
)  # fmt: skip
_OF_OPERATOR = ("name", "node", "levels", "source", "verdict", "why", "qdq", "reference", "through", "evidence")
_OF_EVIDENCE = ("kind", "domain", "values", "wrong", "low", "high", "displacement", "schemes", "why", "witness")
_LONGEST = 1000
_MOST_NEWS = 3
_MARKS = {Kind.PROVED: "■", Kind.PARTLY: "◧", Kind.TESTED: "□", Kind.REFUTED: "⊠"}
_MEANS = {
    Kind.PROVED: "all its integer operators are right for every input",
    Kind.PARTLY: "for some inputs",
    Kind.TESTED: "one is only tested on samples",
    Kind.REFUTED: "one is shown to be inexact",
}
# More columns than these are squares with marks, and no words, so that a matrix needs no scrolling sideways.
_DENSE = 8
_LINK = re.compile(r"https?://")


def page(
    reports: Sequence[Report],
    runs: Runs | None = None,
    title: str = "PT2E reference representation",
    devices: Sequence[EngineReport] = (),
) -> str:
    """Return the page of reports, one for each cell.

    With a history it says when outcomes last changed; with reports of engines, what those make of the vectors.
    """
    reports = sorted(reports, key=by_age)
    interned, lines = _Interned(), _Interned()
    changed = changes(runs or {})
    fields = [
        [
            _field(case, report, changed, interned, lines) if case else None
            for report, case in zip(reports, row, strict=True)
        ]
        for row in _rows(reports)
    ]
    names = [next(field["name"] for field in row if field) for row in fields]
    details = [[field and field["detail"] for field in row] for row in fields]
    data = {
        "values": interned.values,
        "lines": lines.values,
        "fields": details,
        "run": _run_of(reports),
        # For a report that a reader adds.
        "schema": SCHEMA,
        "outcomes": {outcome: {"sign": outcome.sign, "color": outcome.color} for outcome in Outcome},
        "marks": _MARKS,
        "dense": _DENSE,
    }
    return render_page(
        "page.html.j2",
        script=_asset("page.js"),
        title=title,
        data=_embedded(data),
        summary=summary(reports),
        finding=_finding(reports),
        news=_news(reports, runs or {}, changed),
        strip=_strip(reports),
        columns=[_column(report) for report in reports],
        groups=_groups(reports),
        rows=[_row(name, row, reports) for name, row in zip(names, fields, strict=True)],
        families=sorted({field["family"] for row in fields for field in row if field}),
        outcomes=sorted({field["outcome"] for row in fields for field in row if field}, key=lambda one: one.rank),
        engines=sorted({engine for report in reports for engine in report.run.engines}),
        devices=[one.engine for one in devices],
        operators=_operators(devices),
        legend=[*Outcome],
        mark_of=_MARKS,
        marks=[(kind, mark, _MEANS[kind]) for kind, mark in _MARKS.items()],
        dense=_DENSE,
    )


def _run_of(reports: Sequence[Report]) -> str:
    """Return a digest of what was run, which a link to a field carries."""
    runs = "\n".join(f"{report.run.cell} {report.run.key} {report.run.started}" for report in reports)
    return hashlib.sha256(runs.encode()).hexdigest()[:12]


def _operators(devices: Sequence[EngineReport]) -> list[tuple[str, list[dict[str, str]]]]:
    """Return for each operator what each engine makes of it: a word, a colour, and a note; empty where nothing is."""
    return [
        (operator, [_made_of(row) if row else {"word": "", "color": "", "note": ""} for row in found])
        for operator, found in by_operator(devices).items()
    ]


def _made_of(row: Row) -> dict[str, str]:
    return {"word": word(row), "color": row.outcome.color, "note": row.note[:_LONGEST]}


def _finding(reports: Sequence[Report]) -> str:
    """Say in a sentence which operators are integers nowhere, which no longer, and which everywhere."""
    seen: dict[str, dict[str, set[Verdict]]] = {}
    for report in reports:
        for operator in (one for case in report.cases for one in case.operators if one.verdict):
            by_torch = seen.setdefault(operator.name, {})
            by_torch.setdefault(_release(report), set()).add(Verdict(str(operator.verdict)))
    every = {name: set().union(*by_torch.values()) for name, by_torch in seen.items()}
    never = sorted(name for name, verdicts in every.items() if Verdict.INTEGER not in verdicts)
    always = sorted(name for name, verdicts in every.items() if verdicts == {Verdict.INTEGER})
    newest = _release(reports[-1]) if reports else ""
    lost = sorted(
        name
        for name, by_torch in seen.items()
        if name not in never and Verdict.INTEGER not in by_torch.get(newest, {Verdict.INTEGER})
    )
    parts = [f"Integer in no cell: {', '.join(never)}"] if never else []
    parts += [f"integer on an older torch, and not on {newest}: {', '.join(lost)}"] if lost else []
    parts += [f"integer in every case and cell: {', '.join(always)}"] if always else []
    said = "; ".join(parts)
    return f"{said[:1].upper()}{said[1:]}." if said else ""


def _news(reports: Sequence[Report], runs: Runs, changed: Changes) -> str:
    """Say what ended otherwise than in its cell's run before; nothing where no cell has one."""
    if not any(len(of_cell) > 1 for of_cell in runs.values()):
        return ""
    found: dict[str, list[str]] = {}
    for report in reports:
        for case in report.cases:
            when, before = changed.get((report.run.cell, case.name), ("", ""))
            if when == report.run.started:
                found.setdefault(f"{case.name} is {case.outcome}, was {before}", []).append(label(report))
    if not found:
        return "Nothing is new since the run before."
    told = [f"{text} ({name_cells(cells, reports)})" for text, cells in list(found.items())[:_MOST_NEWS]]
    more = f"; and {len(found) - len(told)} more" if len(found) > len(told) else ""
    return f"New since the run before: {'; '.join(told)}{more}."


def _strip(reports: Sequence[Report]) -> list[tuple[str, str]]:
    """Return the numbers of the first screen: cells, operators, how they are known, and when the last run was."""
    operators = [one for report in reports for case in report.cases for one in case.operators if one.verdict]
    kinds = Counter(one.evidence.kind for one in operators if one.evidence and one.verdict is Verdict.INTEGER)
    strip = [("cells", str(len(reports))), ("operators", str(len(operators)))]
    strip += [(str(kind), str(kinds[kind])) for kind in Kind]
    strip.append(("in float", str(sum(one.verdict is not Verdict.INTEGER for one in operators))))
    return [*strip, ("last run", max((report.run.started for report in reports), default="")[:10])]


def _evidence(case: Case) -> str:
    """Say how well the least known of a case's integer operators is known; nothing where it has none."""
    kinds = [one.evidence.kind for one in case.operators if one.evidence and one.verdict is Verdict.INTEGER]
    return str(max(kinds, key=lambda kind: kind.rank)) if kinds else ""


def render_page(template: str, *, script: str = "", **values: Any) -> str:
    """Return a page of the template, with the style and with a policy that lets nothing else run."""
    style = _asset("page.css")
    scripts = f"'{_digest(script)}'" if script else "'none'"
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src {scripts}; base-uri 'none'; form-action 'none'"
    )
    return (
        _environment()
        .from_string(_asset(template))
        .render(version=__version__, policy=policy, style=style, script=script, **values)
    )


def _rows(reports: Sequence[Report]) -> list[list[Case | None]]:
    """Return the cases side by side."""
    by_name = [{case.name: case for case in report.cases} for report in reports]
    return [[cases.get(name) for cases in by_name] for name in case_order(reports)]


def _column(report: Report) -> dict[str, Any]:
    run = report.run
    return {
        "cell": label(report),
        "torch": _release(report),
        "flow": run.flow,
        "machine": run.machine,
        "emulated": run.emulated,
        "listed": run.listed,
        "representation": report.run.representation,
        "engines": " ".join(run.engines),
    }


def _release(report: Report) -> str:
    """Return the release of torch, as in `2.13`."""
    return ".".join(report.run.torch.split(".")[:2])


def _groups(reports: Sequence[Report]) -> list[dict[str, Any]]:
    """Group columns that are one cell on several machines, side by side."""
    groups: list[dict[str, Any]] = []
    for report in reports:
        name = cell_name(report)
        if groups and groups[-1]["name"] == name:
            groups[-1]["span"] += 1
        else:
            groups.append({"name": name, "span": 1})
    return groups


def _row(name: str, row: Sequence[dict[str, Any] | None], reports: Sequence[Report]) -> dict[str, Any]:
    """Mark the cells of a case whose integers are the same, and say so in words."""
    kinds: dict[str, str] = {}
    for digest in (field["digest"] for field in row if field and field["digest"]):
        kinds.setdefault(digest, chr(ord("A") + len(kinds)) if len(kinds) < 26 else "+")
    for field in row:
        if field and len(kinds) > 1:
            field["kind"] = kinds.get(field["digest"], "")
    return {
        "name": name,
        "family": next(field["family"] for field in row if field),
        "fields": row,
        "differs": _differs(row, reports),
        "identical": _identical(row, reports, kinds),
    }


def _differs(row: Sequence[dict[str, Any] | None], reports: Sequence[Report]) -> bool:
    """Tell whether a case ends, or computes, otherwise on another architecture, of the same cell."""
    found: dict[str, set[tuple[Any, Any]]] = {}
    for field, report in zip(row, reports, strict=True):
        if field:
            found.setdefault(cell_name(report), set()).add((field["outcome"], field["digest"]))
    return any(len(some) > 1 for some in found.values())


def _identical(row: Sequence[dict[str, Any] | None], reports: Sequence[Report], kinds: dict[str, str]) -> str:
    """Say since which torch a case's integers are the same: in all cells of that torch and of each later one."""
    have = [(report, field["digest"]) for field, report in zip(row, reports, strict=True) if field and field["digest"]]
    if len(have) < 2:
        return ""
    same: list[Report] = []
    for _, cells in groupby(reversed(have), key=lambda one: by_age(one[0])[0]):
        of_torch = [*cells]
        if any(digest != have[-1][1] for _, digest in of_torch):
            break
        same += [report for report, _ in of_torch]
    if len(same) < 2:
        return f"{len(kinds)} kinds of integers"
    if len(same) < len(have):
        return f"bit-identical since torch {_release(same[-1])}"
    where = "every cell" if len(have) == len(row) else f"the {len(have)} cells that have integers"
    return f"bit-identical in {where}"


def _field(case: Case, report: Report, changed: Changes, interned: _Interned, lines: _Interned) -> dict[str, Any]:
    run = report.run
    texts = {"qdq": case.programs.qdq, "reference": case.programs.reference} if case.programs else {}
    programs = {name: [lines.add(line) for line in program] for name, program in texts.items()}
    change = changed.get((run.cell, case.name))
    # What is the same in many fields is kept once, part by part; the seconds never are.
    plain = to_builtins(case) | {"operators": [_shown_of(operator) for operator in case.operators]}
    shown = {name: interned.add(plain[name]) for name in _SHOWN}
    shown |= {"reason": interned.add(why(case) or None), "known": interned.add(_safe_link(case.known))}
    return {
        "name": case.name,
        "family": case.family,
        "outcome": case.outcome,
        "known": case.known is not None,
        "unexpected": case.is_unexpected,
        "digest": case.digest,
        "kind": "",
        "evidence": _evidence(case),
        "changed": change is not None,
        "detail": {
            "shown": interned.add(shown),
            "programs": interned.add(programs or None),
            "machine": interned.add(
                {
                    "cell": label(report),
                    "listed": run.listed,
                    "representation": report.run.representation,
                    "cpu": to_builtins(run.cpu),
                    "python": run.python,
                    "host": run.host,
                    "started": run.started,
                    "build": to_builtins(run.build),
                }
            ),
            "stages": interned.add([*case.seconds]),
            "seconds": [round(value, 3) for value in case.seconds.values()],
            "command": case.command,
            "changed": list(change) if change else None,
        },
    }


def _shown_of(operator: Operator) -> dict[str, Any]:
    """Return what the page shows of an operator: all that decides it again would be most of the page."""
    plain = to_builtins(operator)
    shown = {name: plain[name] for name in _OF_OPERATOR}
    if shown["evidence"]:
        shown["evidence"] = {name: shown["evidence"][name] for name in _OF_EVIDENCE}
    return shown


def _safe_link(known: Known | None) -> dict[str, str] | None:
    """Return a known defect with its link, if that is one to a page: a script would be one, too."""
    if known is None:
        return None
    return {"reason": known.reason, "link": known.link if _LINK.match(known.link) else ""}


class _Interned:
    """Values by number, each kept once, and no text of them longer than a reader would read."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._numbers: dict[str, int] = {}

    def add(self, value: Any) -> int:
        key = json.dumps(value, sort_keys=True)
        if key not in self._numbers:
            self._numbers[key] = len(self.values)
            self.values.append(_short(value))
        return self._numbers[key]


def _short(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= _LONGEST else value[:_LONGEST] + "\N{HORIZONTAL ELLIPSIS}"
    if isinstance(value, list):
        return [_short(item) for item in value]
    if isinstance(value, dict):
        return {_short(key): _short(item) for key, item in value.items()}
    return value


def _embedded(data: Any) -> str:
    """Return JSON that can stand in a script element: nothing in it ends the element or begins a comment."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def _asset(name: str) -> str:
    return files("pt2e_ci.views").joinpath("page", name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


@cache
def _environment() -> Environment:
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
