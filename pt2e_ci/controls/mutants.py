"""Mutants: the exact program of a case with one thing changed, generated, and what becomes of each.

A mutant is killed where the operator that was changed is not exact for every input any more; those before it are as
they were. One that is still proved exact is the same function; anything else is alive, and wants a case. A program
that does not run is none.
"""

from __future__ import annotations

import copy
import io
import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch.fx import GraphModule, Node

from pt2e_ci.catalogue.inputs import input_sets
from pt2e_ci.errors import InputError
from pt2e_ci.exact.schemes import Rounding
from pt2e_ci.flow.exact import IntegerRepresentation, aten
from pt2e_ci.judge.alignment import Alignment
from pt2e_ci.judge.deciding.decide import Decider
from pt2e_ci.judge.deciding.elements import UndecidedError
from pt2e_ci.judge.deciding.specification import Specification
from pt2e_ci.pipeline import Clock, StageError, converted
from pt2e_ci.program.oracle import run_exactly
from pt2e_ci.program.segments import Reading
from pt2e_ci.program.trace import run, shapes_in, tensors_in, trace_call
from pt2e_ci.views.table import width

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from pt2e_ci.catalogue.cases import Case as CatalogueCase
    from pt2e_ci.judge.deciding.decide import Decision
    from pt2e_ci.judge.verdict import InputSet
    from pt2e_ci.pipeline import Flow
    from pt2e_ci.program.segments import Item
    from pt2e_ci.program.trace import Value


class Fate(StrEnum):
    """What becomes of a mutant."""

    KILLED = "killed"
    EQUIVALENT = "equivalent"
    ALIVE = "alive"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Mutation:
    """One thing to change.

    Attributes:
        kind: constant, option, order, cast or operator.
        node: the name of the node of the exact program.
        what: what is changed, in words.
        change: changes it, in a copy of the program.

    """

    kind: str
    node: str
    what: str
    change: Callable[[GraphModule, Node], None]


@dataclass(frozen=True)
class Mutant:
    """A mutation that was tried.

    Attributes:
        case: the case.
        operator: the operator that was changed.
        kind, node, what: of the mutation.
        fate: what became of it.
        why: what the checks say.

    """

    case: str
    operator: str
    kind: str
    node: str
    what: str
    fate: Fate
    why: str


@dataclass(frozen=True)
class _Owner:
    """An operator: the quantize node that gives its levels, and what it is called."""

    name: str
    operator: str


class _Tracking(IntegerRepresentation):
    """The exact representation, which remembers for which node of the Q/DQ program each of its own was made."""

    def __init__(self) -> None:
        self.made_for: dict[str, Node] = {}

    def _translate(self, item: Item) -> Any:
        before = len(self._graph.nodes)
        found = super()._translate(item)
        for node in [*self._graph.nodes][before:]:
            self.made_for[node.name] = item.node
        return found


class Subject:
    """A case's exact program, to be mutated.

    Attributes:
        mutations: all that there is to change.

    """

    def __init__(self, name: str, qdq: GraphModule, sets: Sequence[InputSet]) -> None:
        tracking = _Tracking()
        self.name, self._reading = name, Reading(qdq)
        shape = shapes_in(sets[0].tensors)
        self._inputs = [one.tensors for one in sets if shapes_in(one.tensors) == shape][:_SETS]
        self._levels = [self._exact_levels(one) for one in self._inputs]
        self._program = tracking(qdq)
        self._owners = _owners(self._reading, tracking.made_for)
        # What has no integer form, such as a softmax, is compared on samples alone.
        self._exact = {one.name for one, why in self._decided(self._program) if why is None}
        owned = (
            node
            for node in self._program.graph.nodes
            if {one.name for one in self._owners.get(node.name, set())} & self._exact
        )
        self.mutations = [one for node in owned for one in _mutations(self._program, node)]

    def try_on(self, mutation: Mutation) -> Mutant:
        """Change one thing, and say what becomes of it."""
        program = copy.deepcopy(self._program)
        node = next(one for one in program.graph.nodes if one.name == mutation.node)
        try:
            mutation.change(program, node)
            program.graph.lint()
            program.recompile()
            with torch.no_grad():
                program(*copy.deepcopy([*self._inputs[0]]))
        except Exception as error:  # whatever an operator says of what it was given
            fate, why = Fate.NOT_RUN, f"{type(error).__name__}: {str(error)[:80]}"
        else:
            fate, why = self._fate(program, self._owners[mutation.node])
        operators = ", ".join(sorted({one.operator for one in self._owners[mutation.node]}))
        return Mutant(self.name, operators, mutation.kind, mutation.node, mutation.what, fate, why)

    def _fate(self, program: GraphModule, owners: set[_Owner]) -> tuple[Fate, str]:
        """Say what becomes of a program in which a part of these operators is changed, and of no others.

        An operator is decided on its own operands: those that are as they were need not be decided again.
        """
        for one, why in self._decided(program, owners):
            if one.name in self._exact and why is not None:
                is_red, text = why
                return (Fate.KILLED if is_red else Fate.ALIVE), f"{one.operator}: {text}"
        return Fate.EQUIVALENT, "proved exact"

    def _decided(
        self, program: GraphModule, wanted: Collection[_Owner] = ()
    ) -> Iterator[tuple[_Owner, tuple[bool, str] | None]]:
        """Yield operators that end in levels, all of them or those that are wanted.

        With those that are not exact comes whether they are red, and why.
        """
        trace = trace_call(program, self._inputs[0])
        runs = [trace.replay(tensors_in(inputs)) for inputs in self._inputs]
        alignment = Alignment(self._reading, trace, runs)
        alignment.align(self._levels)
        decider = Decider(self._reading, trace, runs[0], alignment, Rounding.HALF_EVEN, 0.0)
        for one in self._reading.levels:
            owner = _Owner(one.quantize.node.name, one.name)
            if wanted and owner not in wanted:
                continue
            decisions = decider.levels(one)
            found = [why for decision in decisions if (why := _inexact(decision)) is not None]
            if not decisions:
                found.append((True, "no tensor has its levels"))
            elif found and self._is_off(one.quantize.node, alignment, runs):
                found.append((True, "it has other levels on samples"))
            yield owner, max(found, default=None)

    def _is_off(self, node: Node, alignment: Alignment, runs: Sequence[Mapping[Value, torch.Tensor]]) -> bool:
        value = alignment.levels[node]
        pairs = zip(runs, self._levels, strict=True)
        return any(not torch.equal(run[value].long(), levels[node].long()) for run, levels in pairs)

    def _exact_levels(self, inputs: Sequence[Any]) -> dict[Node, torch.Tensor]:
        kept = run(self._reading.program, inputs, self._reading.runtime).kept
        return run_exactly(self._reading, inputs, runtime=kept).levels


def _inexact(decision: Decision) -> tuple[bool, str] | None:
    """Say why an operator is not exact for every input, and whether that is known to be wrong; None where it is."""
    tally = decision.tally
    if tally is not None and not tally.wrong:
        return None
    if tally is not None:
        return True, f"{tally.wrong:,} of {tally.checked:,} {decision.domain}"
    return decision.shown is not None, str(decision.why)


def _owners(reading: Reading, made_for: dict[str, Node]) -> dict[str, set[_Owner]]:
    """Return, for each node of the exact program, the operators that it is a part of."""
    parts: dict[Node, set[_Owner]] = {}
    for one in reading.levels:
        nodes = {one.quantize.node}
        with suppress(UndecidedError):  # what the program is given has nothing between
            nodes |= {*Specification.of_levels(reading, one).between}
        for node in nodes:
            parts.setdefault(node, set()).add(_Owner(one.quantize.node.name, one.name))
    return {name: parts.get(node, set()) for name, node in made_for.items()}


# What there is to change.

_OTHERS = {
    aten.add.Tensor: aten.sub.Tensor,
    aten.sub.Tensor: aten.add.Tensor,
    aten.mul.Tensor: aten.add.Tensor,
    aten.round.default: aten.floor.default,
    aten.div.Tensor: aten.mul.Tensor,
    aten.sum.dim_IntList: aten.amax.default,
}
_NARROWER = {torch.int64: torch.int16, torch.float64: torch.float32, torch.int8: torch.uint8, torch.uint8: torch.int8}
_SETS = 3
"""On so many input sets levels are known by their values."""

_SPREAD = 3
"""So many elements of a constant are changed, one in each mutant."""


def _mutations(program: GraphModule, node: Node) -> Iterator[Mutation]:
    if node.op == "get_attr":
        yield from _of_constant(program, node)
    if node.op != "call_function":
        return
    if node.target in _OTHERS:
        yield Mutation("operator", node.name, f"{node.target} is {_OTHERS[node.target]}", _set_target)
    if len([one for one in node.args[:2] if isinstance(one, Node)]) == 2:
        yield Mutation("order", node.name, "the first two operands are swapped", _swap)
    for index, value in enumerate(node.args):
        for kind, other in _others(value):
            yield Mutation(kind, node.name, f"argument {index} is {other} for {value}", _setter(index, other))
    for key, value in node.kwargs.items():
        if isinstance(value, bool):
            yield Mutation("option", node.name, f"{key} is {not value}", _keyword(key, not value))


def _others(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what an argument may be in place of what it is, with the kind of mutation."""
    if isinstance(value, torch.dtype):
        yield from [("cast", _NARROWER[value])] if value in _NARROWER else []
    elif isinstance(value, bool):
        yield "option", not value
    elif isinstance(value, int | float):
        yield from (("option", other) for other in _near(value))
    elif isinstance(value, list | tuple) and all(isinstance(one, int) for one in value):
        for place, one in enumerate(value):
            for other in (one + 1, one - 1):
                yield "option", [*value[:place], other, *value[place + 1 :]]


def _near(value: float) -> list[float]:
    return [value + 1, value - 1] if isinstance(value, int) else [value * (1 + 2**-6), value * (1 - 2**-6)]


def _of_constant(program: GraphModule, node: Node) -> Iterator[Mutation]:
    tensor = getattr(program, str(node.target))
    if not isinstance(tensor, torch.Tensor) or not tensor.numel():
        return
    drawn = random.Random(node.name)  # noqa: S311 - the same for the same node
    for place in sorted({drawn.randrange(tensor.numel()) for _ in range(_SPREAD)}):
        for step in (1, -1):
            yield Mutation("constant", node.name, f"element {place} is {step:+} more", _moved(place, step))


def _moved(place: int, step: int) -> Callable[[GraphModule, Node], None]:
    def change(program: GraphModule, node: Node) -> None:
        tensor = getattr(program, str(node.target)).clone().contiguous()
        flat = tensor.view(-1)
        flat[place] += step if not tensor.is_floating_point() else float(flat[place]) * step * 2**-6
        setattr(program, str(node.target), tensor)

    return change


def _set_target(program: GraphModule, node: Node) -> None:
    node.target = _OTHERS[node.target]


def _swap(program: GraphModule, node: Node) -> None:
    first, second, *rest = node.args
    node.args = (second, first, *rest)


def _setter(index: int, value: Any) -> Callable[[GraphModule, Node], None]:
    def change(program: GraphModule, node: Node) -> None:
        node.args = (*node.args[:index], value, *node.args[index + 1 :])

    return change


def _keyword(key: str, value: Any) -> Callable[[GraphModule, Node], None]:
    def change(program: GraphModule, node: Node) -> None:
        node.kwargs = node.kwargs | {key: value}

    return change


def subjects(cases: Iterable[CatalogueCase], flow: Flow, seed: int) -> list[Subject]:
    """Convert cases, to mutate what of their exact programs is exact."""
    found = []
    for case in cases:
        sets = input_sets(case, seed)
        try:
            made = Clock().follow(converted(case, flow, seed, sets))
        except StageError:  # the quantizer's, and known
            continue
        found.append(Subject(case.name, made.qdq, sets))
    return found


def try_all(subjects: Sequence[Subject], count: int, seed: int) -> list[Mutant]:
    """Try so many mutants of all, drawn with a seed; all of them, where there are no more.

    Raises:
        InputError: there is none.

    """
    pool = [(subject, mutation) for subject in subjects for mutation in subject.mutations]
    if not pool:
        raise InputError("there is nothing to mutate: no case's exact program is exact for every input")
    if count < len(pool):
        pool = random.Random(seed).sample(pool, count)  # noqa: S311 - no secret
    return [subject.try_on(mutation) for subject, mutation in pool]


def render(mutants: Sequence[Mutant], seed: int) -> str:
    """Return the counts, by kind of mutation and by operator, and all that are alive."""
    console = Console(width=width(), record=True, force_terminal=False, file=io.StringIO())
    for title, key in (("mutation", "kind"), ("operator", "operator")):
        table = Table(title, *Fate, box=box.SIMPLE_HEAD)
        counts = Counter((getattr(one, key), one.fate) for one in mutants)
        for name in sorted({getattr(one, key) for one in mutants}):
            table.add_row(name, *(str(counts[name, fate]) for fate in Fate))
        console.print(table)
    totals = Counter(one.fate for one in mutants)
    ran = len(mutants) - totals[Fate.NOT_RUN]
    console.print(
        f"{ran} mutants ran (seed {seed}): {totals[Fate.KILLED]} killed, {totals[Fate.EQUIVALENT]} proved equivalent,"
        f" {totals[Fate.ALIVE]} alive; {totals[Fate.NOT_RUN]} did not run."
    )
    for one in mutants:
        if one.fate is Fate.ALIVE:
            console.print(f"alive: {one.case}, {one.operator}: {one.node}: {one.what} ({one.why})")
    return console.export_text()
