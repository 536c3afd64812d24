"""Measures the checks: what is right must pass every case, however it is written, and each fault must be caught."""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from pt2e_ci.catalogue.cases import CASES
from pt2e_ci.catalogue.inputs import input_sets
from pt2e_ci.catalogue.seed_rule import seed_check
from pt2e_ci.controls.index import FAULTS, SPELLINGS, codes, describe
from pt2e_ci.errors import one_line
from pt2e_ci.flow.exact import representation as exact_representation
from pt2e_ci.judge.verdict import judge
from pt2e_ci.pipeline import Clock, StageError, converted
from pt2e_ci.record.outcomes import Outcome
from pt2e_ci.views.table import width

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch.fx import GraphModule

    from pt2e_ci.catalogue.cases import Case
    from pt2e_ci.cells.cell import Cell
    from pt2e_ci.judge.verdict import InputSet, Judgement
    from pt2e_ci.pipeline import Flow
    from pt2e_ci.program.float_model import FloatModel
    from pt2e_ci.record.expectations import Expectation


@dataclass(frozen=True)
class Catch:
    """How a program was found out: the case, its outcome, and the reason."""

    case: str
    outcome: Outcome
    reason: str
    code: str | None = None


@dataclass(frozen=True)
class Score:
    """What became of one representation.

    Attributes:
        name: the fault, or ``exact`` for the one that is right.
        description: what is wrong with it.
        caught: how our checks found it out, by a reason that names what is wrong; None if they did not.
        seed_caught: the case in which upstream's rule, on upstream's own cases, found it out; None if in none.

    """

    name: str
    description: str
    caught: Catch | None
    seed_caught: str | None


@dataclass(frozen=True)
class _Prepared:
    case: Case
    qdq: GraphModule
    model: FloatModel | None
    sets: list[InputSet]
    exact: GraphModule
    """The program of the exact control."""
    seed_counts: bool
    """Whether upstream's rule passes on it, so that it can say something of a fault."""


class Controls:
    """The cases, converted once, to try representations on.

    Attributes:
        failed: the cases that the exact control does not pass; faults are not tried on them.

    """

    def __init__(self, cases: Iterable[Case], flow: Flow, seed: int) -> None:
        """Convert each case, and judge the exact control on it."""
        self._prepared: list[_Prepared] = []
        self.failed: list[Catch] = []
        for case in cases:
            sets = input_sets(case, seed)
            try:
                made = Clock().follow(converted(case, flow, seed, sets))
            except StageError as error:
                self.failed.append(Catch(case.name, Outcome.ERROR, one_line(error.__cause__)))
                continue
            qdq, exact = made.qdq, exact_representation(made.qdq)
            judgement = judge(qdq, exact, sets, case.criteria, model=made.model)
            if judgement.case.outcome is not Outcome.PASS:
                self.failed.append(_catch(case, judgement))
                continue
            counts = _passes_upstreams_rule(case, qdq, exact, judgement)
            self._prepared.append(_Prepared(case, qdq, made.model, sets, exact, counts))

    def refuse(self, name: str) -> list[Catch]:
        """Try a right representation on every case where it is another program than the exact one; return the reds."""
        found: list[Catch] = []
        for prepared in self._prepared:
            try:
                program = SPELLINGS[name](prepared.qdq)
                if _same_program(program, prepared.exact):
                    continue
                catch = _catch(prepared.case, self._judge(prepared, program))
            except Exception as error:
                catch = Catch(prepared.case.name, Outcome.ERROR, one_line(error))
            found += [catch] if catch.outcome is not Outcome.PASS else []
        return found

    def score(self, name: str) -> Score:
        """Try a fault on every case until it is caught, and on all cases that upstream's rule says something of."""
        caught: Catch | None = None
        seed_caught: str | None = None
        for prepared in self._prepared:
            needed = caught is None or (prepared.seed_counts and seed_caught is None)
            if not needed:
                continue
            try:
                program = FAULTS[name](prepared.qdq)
                if _same_program(program, prepared.exact):
                    continue
                judgement = self._judge(prepared, program)
                catch = _catch(prepared.case, judgement)
                seed = not _passes_upstreams_rule(prepared.case, prepared.qdq, program, judgement)
            except Exception as error:  # caught, if to fail is the fault; the checks may fail, too
                catch, seed = Catch(prepared.case.name, Outcome.ERROR, one_line(error), "PQ043"), True
            if caught is None and catch.code in codes(name):
                caught = catch
            if seed and prepared.seed_counts and seed_caught is None:
                seed_caught = prepared.case.name
        return Score(name, describe(name), caught, seed_caught)

    def _judge(self, prepared: _Prepared, program: GraphModule) -> Judgement:
        return judge(prepared.qdq, program, prepared.sets, prepared.case.criteria, model=prepared.model)


def _catch(case: Case, judgement: Judgement) -> Catch:
    """Return how a case ended; a pass has no code that names what is wrong."""
    outcome, why = judgement.case.outcome, judgement.case.reason
    code = why.code if why and outcome is not Outcome.PASS else None
    return Catch(case.name, outcome, why.text if why else "", code)


def _passes_upstreams_rule(case: Case, qdq: GraphModule, program: GraphModule, judgement: Judgement) -> bool:
    if case.seed_rule is None:
        return False
    return seed_check(case.seed_rule, qdq, program, judgement.outputs).outcome is Outcome.PASS


def _same_program(a: GraphModule, b: GraphModule) -> bool:
    """Tell whether two programs have the same code and the same constants: the fault does not show in this case."""
    constants, others = dict(a.named_buffers()), dict(b.named_buffers())
    return (
        a.code == b.code
        and not ("forward" in vars(a) or a._forward_hooks)
        and constants.keys() == others.keys()
        and all(torch.equal(value, others[name]) for name, value in constants.items())
    )


def known_of_quantizer(entries: Iterable[tuple[Expectation, str]], cell: Cell) -> set[str]:
    """Return the cases in which a cell's quantizer leaves out what they are about, so that no representation passes."""
    return {
        case.name
        for entry, _ in entries
        for case in CASES
        if entry.of_quantizer and entry.applies_to_cell(cell) and fnmatchcase(case.name, entry.case)
    }


def to_json(
    scores: Sequence[Score], spellings: Mapping[str, Sequence[Catch]], failed: Sequence[Catch]
) -> dict[str, Any]:
    """Return scores as JSON can hold them; `failed` are the cases that the exact control does not pass."""
    return {
        "exact_failed": [asdict(catch) for catch in failed],
        "spellings": {name: [asdict(catch) for catch in refused] for name, refused in spellings.items()},
        "faults": [asdict(score) for score in scores],
    }


def render(scores: Sequence[Score], spellings: Mapping[str, Sequence[Catch]], failed: Sequence[Catch]) -> str:
    """Return a table of scores for the terminal, with the totals below it."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("Fault", "What is wrong", "Caught in", "Because", "Upstream's rule"):
        table.add_column(title, no_wrap=title in ("Fault", "Caught in", "Upstream's rule"))
    for score in scores:
        caught = score.caught
        found = (caught.case, f"{caught.outcome}: {caught.reason}") if caught else ("not caught", "")
        table.add_row(score.name, score.description, *found, score.seed_caught or "misses it")
    buffer = io.StringIO()
    console = Console(file=buffer, width=width(), highlight=False)
    console.print(table)
    for catch in failed:
        console.print(f"the exact control does not pass {catch.case}: {catch.outcome}: {catch.reason}", soft_wrap=True)
    for name, catch in ((name, catch) for name, refused in spellings.items() for catch in refused):
        console.print(f"{name} does not pass {catch.case}: {catch.outcome}: {catch.reason}", soft_wrap=True)
    if spellings:
        passed = sum(not refused for refused in spellings.values())
        console.print(f"{len(spellings)} right ones, written otherwise: {passed} pass", soft_wrap=True)
    ours = sum(score.caught is not None for score in scores)
    theirs = sum(score.seed_caught is not None for score in scores)
    console.print(
        f"{len(scores)} faults: {ours} caught; upstream's rule on upstream's own cases catches {theirs}",
        soft_wrap=True,
    )
    return buffer.getvalue()
