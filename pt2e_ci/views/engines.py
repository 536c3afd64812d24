"""The table of engines: what each makes of each operator, how it rounds, and where two of them part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from pt2e_ci.record.engines import NEAREST
from pt2e_ci.record.outcomes import Outcome
from pt2e_ci.views.words import markdown_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pt2e_ci.record.engines import Compared, EngineReport

COLUMNS = ("Engine", "Operator", "Result", "Max LSB", "Off", "Beyond", "Ties", "Note")
_STYLES = {"green": "green", "grey": "cyan", "red": "red", "orange": "red", "yellow": "yellow"}


@dataclass(frozen=True)
class Row:
    """What an engine makes of an operator, over all its vectors.

    Attributes:
        engine: the engine's name.
        operator: the operator's.
        outcome: the worst of the vectors that ran; of none, why it did not.
        values: how many levels were compared.
        wrong: how many are off.
        max: how far the furthest is, in LSB.
        displacement: how far beyond its boundary the furthest is, in LSB.
        ties: how many results lie halfway between two levels.
        scheme: which explains the most of those; None where there are none.
        explained: how many those are.
        note: what is wrong, or what was not taken.

    """

    engine: str
    operator: str
    outcome: Outcome
    values: int
    wrong: int
    max: int
    displacement: float
    ties: int
    scheme: str | None
    explained: int
    note: str

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts of the columns."""
        if not self.values:
            return (self.engine, self.operator, self.outcome, "", "", "", "", self.note)
        off = f"{self.wrong / self.values:.2%}" if self.wrong else "0"
        how = "exact" if not self.wrong else "near" if self.outcome is Outcome.PASS else str(self.outcome)
        beyond = f"{self.displacement:.2g}" if self.displacement else "0"
        ties = f"{self.scheme}: {self.explained:,} of {self.ties:,}" if self.ties else ""
        return (self.engine, self.operator, how, str(self.max), off, beyond, ties, self.note)


def rows(report: EngineReport) -> list[Row]:
    """Return the rows of a report, in the order of its vectors; what leaves 16 or 32 bits has rows of its own."""
    found: dict[str, list[Compared]] = {}
    for one in report.results:
        found.setdefault(_label(one), []).append(one)
    return [_row(report.engine, label, some) for label, some in found.items()]


def _label(one: Compared) -> str:
    end = next((end for end in ("16-bits", "32-bits") if one.vector.endswith(f"-{end}")), None)
    return f"{one.operator}, {end.replace('-', ' ')}" if end else one.operator


def _row(engine: str, operator: str, results: Sequence[Compared]) -> Row:
    ran = [one for one in results if one.values]
    left = [one for one in results if not one.values]
    worst = max(ran or left, key=lambda one: one.outcome.rank)
    ties = sum(one.ties for one in ran)
    counts = {scheme: sum(one.ties_by.get(scheme, 0) for one in ran) for scheme in NEAREST}
    best = max(counts, key=lambda scheme: counts[scheme])
    notes = [f"{worst.vector}: {worst.why}"] if worst.why and ran else []
    notes += [f"{one.vector}: {one.why}" for one in left if ran] or [worst.why or ""] * (not ran)
    return Row(
        engine=engine,
        operator=operator,
        outcome=worst.outcome,
        values=sum(one.values for one in ran),
        wrong=sum(one.wrong for one in ran),
        max=max((one.max for one in ran), default=0),
        displacement=max((one.displacement for one in ran), default=0.0),
        ties=ties,
        scheme=best if ties else None,
        explained=counts[best],
        note="; ".join(notes),
    )


def disagreements(reports: Sequence[EngineReport]) -> list[str]:
    """Say in a line for each operator which engines round its ties in which way, where they are not of one mind."""
    schemes: dict[str, dict[str, list[str]]] = {}
    for report in reports:
        for row in rows(report):
            if row.scheme is not None:
                scheme = row.scheme if row.explained == row.ties else "none"
                schemes.setdefault(row.operator, {}).setdefault(scheme, []).append(row.engine)
    return [
        f"{operator}: {'; '.join(f'{scheme} by {chr(44).join(engines)}' for scheme, engines in found.items())}"
        for operator, found in schemes.items()
        if len(found) > 1
    ]


def terminal(reports: Sequence[EngineReport]) -> Table:
    """Return the table for a terminal."""
    table = Table(*COLUMNS, box=box.SIMPLE_HEAD, pad_edge=False)
    for report in reports:
        for row in rows(report):
            first, operator, how, *others = row.texts
            style = _STYLES.get(row.outcome.color, "")
            table.add_row(first, operator, Text(how, style), *others[:-1], _short(others[-1]))
    return table


def by_operator(reports: Sequence[EngineReport]) -> dict[str, list[Row | None]]:
    """Return for each operator what each engine makes of it; None where it has no vectors of it."""
    found = [{row.operator: row for row in rows(report)} for report in reports]
    operators = dict.fromkeys(operator for some in found for operator in some)
    return {operator: [some.get(operator) for some in found] for operator in operators}


def markdown(reports: Sequence[EngineReport]) -> str:
    """Return in Markdown a word on each operator of each engine, and after it the numbers of what is off."""
    packages = dict.fromkeys((one.package, one.platform) for one in reports)
    lines = ["; ".join(" on ".join(one) for one in packages) + ".", ""]
    lines += _table(["Operator", *(one.engine for one in reports)])
    for operator, found in by_operator(reports).items():
        lines += [_line([operator, *("" if row is None else word(row) for row in found)])]
    lines += ["", *_table(COLUMNS)]
    lines += [_line([_short(text) for text in row.texts]) for report in reports for row in rows(report) if row.wrong]
    return "\n".join([*lines, "", *(f"- Ties of {markdown_text(line)}" for line in disagreements(reports))]) + "\n"


def _table(columns: Sequence[str]) -> list[str]:
    return [_line(columns), _line(["---"] * len(columns))]


def _line(texts: Sequence[str]) -> str:
    return f"| {' | '.join(text if text == '---' else markdown_text(text) for text in texts)} |"


def word(row: Row) -> str:
    """Say in a word how right it is, and which scheme its ties show where that is another than half_even."""
    said = row.texts[2] if row.outcome is not Outcome.SKIP else "\N{EN DASH}"
    if row.scheme in (None, NEAREST[0]):
        return said
    return f"{said}, {row.scheme}" if row.explained == row.ties else f"{said}, mixed ties"


def _short(text: str, limit: int = 120) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}\N{HORIZONTAL ELLIPSIS}"
