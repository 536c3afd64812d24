"""How a run ends: at most twelve lines of 80 columns that say what holds, what is new, and what to type next."""

from __future__ import annotations

import shlex
import shutil
import sys
import textwrap
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from pt2e_ci.cells.cell import minor
from pt2e_ci.record.outcomes import Outcome
from pt2e_ci.views.words import cell_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pt2e_ci.record.records import Case
    from pt2e_ci.record.report import Report

_COLUMNS = 80
_LINES = 12
_MOST = 5
_WORDS = {
    "inexact": ("is inexact", "are inexact"),
    "float": ("computes in float", "compute in float"),
    "unquantized": ("is not quantized", "are not quantized"),
    "mismatch": ("is wrong", "are wrong"),
    "failed": ("fails", "fail"),
    "skip": ("is skipped", "are skipped"),
}


def answer(reports: Sequence[Report], place: Path | None, notes: Sequence[str] = ()) -> list[str]:
    """Return the lines that a run ends with.

    Args:
        reports: one for each cell; of a run that was stopped, what is whole.
        place: where they are; None for standard output.
        notes: what is wrong beside the cases, a line each.

    """
    cases = [(report, case) for report in reports for case in report.cases]
    red = [(report, case) for report, case in cases if case.is_unexpected]
    head = textwrap.wrap(_verdict(reports, [case for _, case in cases], len(red)), _COLUMNS)
    tail = [" ".join(note.split())[: 2 * _COLUMNS] for note in notes[:3]]
    tail += [f"and {len(notes) - 3} more of this kind"] if len(notes) > 3 else []
    if place is not None:
        label = "Report" if len(reports) == 1 else "Reports"
        tail += [f"{label}: {_short(place)}", f"Next: {_next(reports, place, red)}"]
    # What has a path in it may take two.
    room = _LINES - sum(-(-len(line) // _COLUMNS) for line in (*head, *tail)) - 1
    shown = red[: max(0, min(_MOST, room))]
    items = [_cut(f"  {_change(reports, report, case)}") for report, case in shown]
    more = [f"  and {len(red) - len(shown)} more"] if len(red) > len(shown) else []
    return [*head, *items, *more, *tail]


def _change(reports: Sequence[Report], report: Report, case: Case) -> str:
    cell = f" on {cell_name(report)}" if len(reports) > 1 else ""
    return f"{case.change or 'new'}: {case.name}{cell}: {case.complaint}"


def _verdict(reports: Sequence[Report], cases: Sequence[Case], unexpected: int) -> str:
    failed = (Outcome.ERROR, Outcome.CRASH, Outcome.TIMEOUT)
    counts = Counter("failed" if case.outcome in failed else str(case.outcome) for case in cases)
    others = [f"{counts[kind]} {words[counts[kind] != 1]}" for kind, words in _WORDS.items() if counts[kind]]
    where = f"on torch {reports[0].run.torch}" if len(reports) == 1 else f"on {len(reports)} cells"
    if any(report.run.representation != "upstream" for report in reports):
        where += f" in {reports[0].run.representation}"
    passed = counts["pass"]
    listed = f"{', '.join(others[:-1])}{' and ' if len(others) > 1 else ''}{others[-1]}" if others else ""
    text = f"{passed} of {len(cases)} {'case holds' if len(cases) == 1 else 'cases hold'} {where}"
    text += f"; {listed}: " if listed else ": "
    known = "all known; nothing new" if listed else "nothing new"
    text += f"{unexpected} not as expected" if unexpected else known
    missing = sum(report.end.selected - len(report.cases) for report in reports)
    return f"{text}. Stopped before {missing} more." if missing else f"{text}."


def _next(reports: Sequence[Report], place: Path, red: Sequence[tuple[Report, Case]]) -> str:
    if not all(report.is_complete for report in reports):
        return "run it again, for the cases that are missing"
    if not red:
        return f"{_command()} report {shlex.quote(str(_short(place)))}  (every case)"
    report, case = red[0]
    words = [_command(), "explain", case.name, "--torch", minor(report.run.torch)]
    folder = _short(place if place.is_dir() else place.parent)
    words += ["--reports", str(folder)] if str(folder) != "reports" else []
    return f"{shlex.join(words)}  (why)"


def _command() -> str:
    """Return how this command is called here: by its name where that is the one on PATH."""
    own = Path(sys.executable).with_name("pt2e-ci")
    found = shutil.which("pt2e-ci")
    return "pt2e-ci" if found and Path(found) == own else str(_short(own))


def _short(path: Path) -> Path:
    """Return a path as one types it here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _cut(line: str) -> str:
    line = f"{line[: len(line) - len(line.lstrip())]}{' '.join(line.split())}"
    return line if len(line) <= _COLUMNS else f"{line[: _COLUMNS - 1]}\N{HORIZONTAL ELLIPSIS}"
