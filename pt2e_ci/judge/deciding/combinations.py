"""Operators that work element by element, move, or join: every level, or every pair of levels, of what each reads."""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from pt2e_ci.exact.reals import NoExactFormError, Real
from pt2e_ci.exact.schemes import Rounding
from pt2e_ci.judge.deciding.elements import InClasses, OnVectors, Touching, UndecidedError, grouped, merged, some_of
from pt2e_ci.judge.deciding.tally import Tally, tally
from pt2e_ci.operators.row import Kind
from pt2e_ci.program.oracle import work_out

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch.fx import Node

    from pt2e_ci.judge.deciding.elements import Elements
    from pt2e_ci.judge.deciding.specification import Specification
    from pt2e_ci.program.trace import Value

_MOST = 2**21
"""So many combinations of levels are tried, at most."""

_GLANCE = 256


class Combinations:
    """A segment of that kind.

    Attributes:
        decided: for each kind of elements the levels that it can read, by source, what the program makes of them, and
            what is due.

    Args:
        elements: the program, between its operands' levels and its own.
        target: its levels.
        asked: what is asked for.
        cuts: the tensors that have the levels of each operand.

    """

    def __init__(
        self, elements: Elements, target: Value, asked: Specification, cuts: Mapping[Node, Sequence[Value]]
    ) -> None:
        """Find the elements that are the same function, of which elements of the operands.

        Raises:
            UndecidedError: something does not work element by element.

        """
        self._elements, self._target, self.asked, self._cuts = elements, target, asked, cuts
        self.decided: list[tuple[Mapping[Node, torch.Tensor], torch.Tensor, torch.Tensor]] = []
        count = elements.values[target].numel()
        everything = torch.arange(count)
        self.due = self._due_places(count)
        self.read = {
            node: elements.fold(target, everything, Touching(frozenset(values))).expand(count)
            for node, values in cuts.items()
        }
        self._classes = elements.fold(target, everything, InClasses(elements))
        self._classes = self._classes.expand(count)
        for places in self.due.values():
            self._classes = merged(self._classes, (places >= 0).long())
        self._constants = {
            one: (self.asked.level_of(one).reshape(-1), self._marked(one.node, count)) for one in self.asked.constants
        }
        for levels, places in self._constants.values():
            self._classes = merged(self._classes, (levels - levels.min())[places])
        self.count, _, self._first = grouped(self._classes)

    @property
    def elsewhere(self) -> torch.Tensor:
        """The elements that are made of other elements of the operands than they are to be."""
        wrong = torch.zeros(len(self._classes), dtype=torch.bool)
        for node, places in self.due.items():
            wrong |= self.read[node] != places
        return wrong.nonzero().flatten()

    def is_as_it_ran(self) -> bool:
        """Tell whether the program, worked out element by element, gives what it gave."""
        values = self._elements.values
        flat = {value: values[value].reshape(-1) for some in self._cuts.values() for value in some}
        given = {value: (lambda at, one=one: one[at][:, None]) for value, one in flat.items()}
        some = some_of(len(self._classes))
        found = self._elements.fold(self._target, some, OnVectors(given, self._elements))
        return torch.equal(found.expand(len(some), 1).reshape(-1), values[self._target].reshape(-1)[some])

    def decide(self, rounding: Rounding, allowed: float) -> Tally:
        """Return what is not exact."""
        found = Tally()
        for element in self._first.tolist():
            columns = self._columns(element)
            got = self.levels(element, columns)
            real = self._real(element, columns)
            due = self.asked.rounded(real, rounding).reshape(-1)
            steps = self.asked.steps(real)
            self.decided.append((columns, got, due))
            found.add(tally(got, due, steps, rounding.turn, allowed, element, tuple(columns.values())))
        return found

    def schemes(self) -> list[str]:
        """Return the rounding schemes that all values are of."""
        names = list(Rounding)
        for element in self._first.tolist():
            columns = self._columns(element)
            got, real = self.levels(element, columns), self._real(element, columns)
            some = torch.randint(0, len(got), (_GLANCE,))
            for part in (some, torch.arange(len(got))):  # few are left for all of them
                picked = real.map(partial(_picked, part))
                names = [one for one in names if torch.equal(self.asked.rounded(picked, one), got[part])]
        return [one.value for one in names]

    def levels(self, element: int, columns: Mapping[Node, torch.Tensor]) -> torch.Tensor:
        """Return what the program makes of levels that an element reads, by source."""
        zero = torch.zeros(1, dtype=torch.int64)
        given = {value: _column(columns.get(node, zero)) for node, values in self._cuts.items() for value in values}
        at = torch.tensor([element])
        found = self._elements.fold(self._target, at, OnVectors(given, self._elements))
        length = max(len(one) for one in columns.values())
        return found.long().expand(1, length).reshape(-1)

    def _columns(self, element: int) -> dict[Node, torch.Tensor]:
        """Return all levels, or all pairs, of the operands that an element is to read, by source."""
        nodes = [node for node, places in self.due.items() if int(places[element]) >= 0]
        ranges = [torch.arange(low, high + 1) for low, high in map(self.asked.bounds, nodes)]
        size = 1
        for one in ranges:
            size *= len(one)
        if size > _MOST or not nodes:
            raise UndecidedError(f"{size:,} combinations of levels" if nodes else "elements that are constants")
        grid = torch.meshgrid(*ranges, indexing="ij")
        return {node: one.reshape(-1) for node, one in zip(nodes, grid, strict=True)}

    def _real(self, element: int, columns: Mapping[Node, torch.Tensor]) -> Real:
        """Return what is asked for on these levels: of a join, of the one operand that the element is of."""
        if not any(one.kind is Kind.JOIN for one in self.asked.operations):
            constants = {
                one.node: Real.of_integers(levels[places[element : element + 1]], Fraction(one.grid.one[0]))
                for one, (levels, places) in self._constants.items()
                if one.grid.one
            }
            return self.asked.real(columns, constants, self.asked.moves)
        (node,) = columns
        one = next(one for one in self.asked.activations if one.source is node)
        point, scale = self.asked.point(one), Fraction(one.grid.one[0] if one.grid.one else 1)
        real = Real.of_integers(columns[node] - point, scale)
        joining = next(one.node for one in self.asked.operations if one.kind is Kind.JOIN)
        found: Real = work_out(self.asked.reading, self.asked.end, {joining: real}, self.asked.moves)
        return found

    def _due_places(self, count: int) -> dict[Node, torch.Tensor]:
        """Return which element of each operand each element is to be made of; -1 for none."""
        found = {}
        for chosen in self.asked.sources:
            places: torch.Tensor | None = None
            for one in (one for one in self.asked.activations if one.source is chosen):
                own = self._marked(one.node, count)
                if places is not None and not torch.equal(places, own):
                    raise UndecidedError("several elements of an operand are put together")
                places = own
            assert places is not None  # noqa: S101 - each source has a dequantize node
            found[chosen] = places
        return found

    def _marked(self, chosen: Node, count: int) -> torch.Tensor:
        """Return where an operand's elements go: run with whole numbers that name them, and zeros for all others."""
        values = self._elements.values
        given = {}
        for one in (*self.asked.activations, *self.asked.constants):
            is_data = one.source in self._cuts
            tensor = values[self._cuts[one.source][0]] if is_data else self.asked.level_of(one)
            marks = torch.arange(1, tensor.numel() + 1).reshape(tensor.shape)
            given[one.node] = marks if one.node is chosen else torch.zeros_like(marks)
        try:
            found = _moved(self.asked, given)
        except NoExactFormError as error:
            raise UndecidedError(f"no exact form: {error}") from None
        if found.numel() != count:
            raise UndecidedError("its levels have another shape")
        return found.reshape(-1) - 1


def _moved(asked: Specification, given: Mapping[Node, torch.Tensor]) -> torch.Tensor:
    """Follow marks through an operator that works element by element: the one that is not 0 stays."""
    known: dict[Node, Any] = dict(given)
    for node in (one for one in asked.between if one not in given):
        operands = [one for one in node.all_input_nodes if one in known]
        if not operands:
            continue
        if node in asked.moves:
            known[node] = work_out(asked.reading, node, {one: known[one] for one in operands})
        elif asked.is_join(node):
            marks = {one: Real.of_integers(known[one], Fraction(1)) for one in operands}
            known[node] = work_out(asked.reading, node, marks).floats()
        else:
            wide = torch.broadcast_tensors(*(known[one] for one in operands))
            known[node] = torch.stack(wide).amax(0)
    found: torch.Tensor = known[asked.end].long()
    return found


def _picked(part: torch.Tensor, integers: torch.Tensor) -> torch.Tensor:
    return integers.reshape(-1)[part]


def _column(levels: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda at: levels[None, :]
