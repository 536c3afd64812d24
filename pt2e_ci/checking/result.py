"""What is said of a model: the record of its verdict, and the machine's."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from pt2e_ci.record.outcomes import Outcome
from pt2e_ci.record.reasons import findings, outcome_of
from pt2e_ci.record.records import Case, Known, Record, Run
from pt2e_ci.record.report import Report, check_writable, end_record, write_report
from pt2e_ci.views.brief import brief, table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Result(Record, frozen=True, kw_only=True):
    """What is said of a model. `str` gives it in ten lines.

    Attributes:
        run: what it ran with, and on what.
        case: how it ended and why, each of its operators with its evidence, and both programs.

    """

    run: Run
    case: Case

    @property
    def outcome(self) -> Outcome:
        """How it ended."""
        return self.case.outcome

    @property
    def passed(self) -> bool:
        """Whether it is right, or wrong in just what is known."""
        return not self.case.is_unexpected

    @property
    def report(self) -> Report:
        """The report of this one model, for every view."""
        return Report(self.run, (self.case,), end_record([self.case], 1, sum(self.case.seconds.values())))

    def save(self, path: str | Path) -> Path:
        """Write the report, for `pt2e-ci report` and the other views; return where it is.

        Raises:
            InputError: it cannot be written there.

        """
        place = Path(path)
        check_writable(place)
        write_report(place, self.report)
        return place

    def __str__(self) -> str:
        """Say it in at most ten lines."""
        return "\n".join(brief(self.report, self.case))

    def _repr_html_(self) -> str:
        """Show it in a notebook."""
        return table(self.report, self.case)


def counts(case: Case, allow: Iterable[str]) -> Counter[str]:
    """Count what is wrong with a model by code: the operators that a reason is about, or one."""
    found: Counter[str] = Counter()
    allowed = [*allow]
    for one in findings(case):
        if outcome_of(one) not in allowed:
            found[str(one.code)] += max(1, len(one.operators))
    return found


def held(case: Case, known: Mapping[str, int], allow: Iterable[str] = ()) -> Case:
    """Return a case with what is known of it, and why it is red if it is: whatever differs from that, either way."""
    found = counts(case, allow)
    if known and found == Counter(known):
        listed = ", ".join(f"{code} \N{MULTIPLICATION SIGN}{count}" for code, count in sorted(known.items()))
        return replace(case, known=Known(reason=listed, link=""))
    if known:
        return replace(case, complaint=_apart(found, known), change="worse" if found - Counter(known) else "gone")
    if case.outcome is Outcome.PASS:
        return case
    why = case.reason.text if case.reason else str(case.outcome)
    return replace(case, complaint=why, change="new")


def _apart(found: Mapping[str, int], known: Mapping[str, int]) -> str:
    codes = sorted(code for code in {*found, *known} if found.get(code, 0) != known.get(code, 0))
    return "; ".join(f"{code}: {found.get(code, 0)} found, {known.get(code, 0)} known" for code in codes)
