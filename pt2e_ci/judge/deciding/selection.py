"""Maxima: each result must pick the largest of the window that is asked for.

A program of maxima, movements and shifts is decided by two things: what becomes of a level that all elements have, and
which elements each maximum is over. The one is tried for every level; the other on numbers drawn, where a window that
has an element more, or less, shows with a probability of one by its size.
"""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import chain
from typing import TYPE_CHECKING

import torch

from pt2e_ci.exact.reals import Real
from pt2e_ci.judge.deciding.elements import (
    Elements,
    InClasses,
    OnVectors,
    UndecidedError,
    descending,
    grouped,
    table_of,
)
from pt2e_ci.judge.deciding.replay import Replay
from pt2e_ci.judge.deciding.tally import Tally, tally
from pt2e_ci.judge.provenance import Segment, provenance
from pt2e_ci.operators.names import name_of
from pt2e_ci.operators.row import Kind
from pt2e_ci.operators.rows import is_moving, kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch.fx import Node

    from pt2e_ci.exact.schemes import Rounding
    from pt2e_ci.judge.deciding.specification import Specification
    from pt2e_ci.program.trace import Step, Value

_MAXIMA = frozenset("max_pool2d_with_indices max_pool3d_with_indices amax maximum".split())
# Monotone, element by element: what they make of a maximum is the maximum of what they make.
_STEPS = frozenset(
    "_to_copy to clone contiguous add sub clamp clamp_min clamp_max hardtanh relu bucketize copy".split()
)
_COMPARES = frozenset("gt ge".split())
_DRAWS = 200
"""So many inputs are drawn: of a window of nine, a difference is missed with a probability below 10^-9."""


def decide(
    segment: Segment,
    values: Mapping[Value, torch.Tensor],
    asked: Specification,
    cuts: Mapping[Node, Sequence[Value]],
    rounding: Rounding,
    allowed: float,
) -> Tally:
    """Return what is not exact of a maximum over windows.

    Raises:
        UndecidedError: the program is made of something else than maxima.

    """
    _check(segment, frozenset(value for some in cuts.values() for value in some))
    (source,) = asked.sources
    low, high = asked.bounds(source)
    shape = values[cuts[source][0]].shape
    table, steps = _table(asked, low, high, rounding)
    found, run = Tally(), Replay(segment, values, cuts[source])
    drawn = _drawn(low, high, tuple(shape))
    if _is_table(segment, values, cuts[source], torch.arange(low, high + 1), table):
        found.checked += len(table) * values[segment.target].numel()
    else:
        drawn = chain((torch.full(tuple(shape), level) for level in range(low, high + 1)), drawn)
    for levels in drawn:
        got = run(dict.fromkeys(cuts[source], levels)).reshape(-1).long()
        picked = asked.picked(levels).reshape(-1).long() - low
        due = table[picked]
        if got.shape != due.shape:
            raise UndecidedError("its levels have another shape")
        found.checked += got.numel()
        if not torch.equal(got, due):
            found.add(tally(got, due, steps[picked], rounding.turn, allowed, -1, (picked + low,)))
            found.shown = {source: levels}
            break
    return found


def _table(asked: Specification, low: int, high: int, rounding: Rounding) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what each level becomes that is picked: the level that is due, and the real number of steps."""
    (one,) = asked.activations
    scale, point = asked.output
    own = Fraction(one.grid.one[0]) if one.grid.one else Fraction(1)
    picked = Real.of_integers(torch.arange(low, high + 1) - asked.point(one), own)
    real = asked.after(picked)
    return asked.rounded(real, rounding), real.times(1 / scale).floats() + point


def _is_table(
    segment: Segment,
    values: Mapping[Value, torch.Tensor],
    cuts: Sequence[Value],
    levels: torch.Tensor,
    table: torch.Tensor,
) -> bool:
    """Tell whether all elements are one function of the level that is picked, and that the one that is due.

    That is so where one maximum is taken of the same growing function of all elements, and what is made of its result,
    element by element, is what is due. False says no more than that this was not found.
    """
    trace = segment.trace
    root = provenance(segment, values).root(values)
    step = trace.steps[trace.maker[root[0]]] if root and root[0] in trace.maker else None
    if root is None or step is None or name_of(step.target) not in _MAXIMA or len(step.takes) > 1:
        return False
    (operand,) = step.takes
    try:
        before = Elements(Segment.between(trace, cuts, operand), values, cuts)
        if bool(before.fold(operand, torch.arange(values[operand].numel()), InClasses(before)).any()):
            return False
        given = OnVectors(dict.fromkeys(cuts, lambda at: levels[None, :]), before)
        taken = before.fold(operand, torch.zeros(1, dtype=torch.int64), given)[0]
        after = Elements(segment, values, [root[0]])
        everything = torch.arange(values[segment.target].numel())
        _, _, first = grouped(after.fold(segment.target, everything, InClasses(after)).expand(len(everything)))
        found = after.fold(segment.target, first, OnVectors({root[0]: lambda at: taken[None, :]}, after))
    except UndecidedError:
        return False
    grows = bool((taken[1:] >= taken[:-1]).all())
    return grows and torch.equal(found.long().expand(len(first), len(table)), table.expand(len(first), len(table)))


def _drawn(low: int, high: int, shape: tuple[int, ...]) -> Iterator[torch.Tensor]:
    """Yield levels at random, and the two ends at random."""
    generator = torch.Generator()
    generator.seed()
    for index in range(_DRAWS):
        if index % 2:
            yield torch.randint(low, high + 1, shape, generator=generator)
        else:
            rare = 2.0 ** -(1 + index % 5)
            yield torch.where(torch.rand(shape, generator=generator) < rare, high, low)


def _check(segment: Segment, free: frozenset[Value]) -> None:
    """Require a segment to be made of maxima, and of what goes with them.

    Raises:
        UndecidedError: it is not.

    """
    data, trace = descending(segment, free), segment.trace
    compared: dict[Value, tuple[Value, ...]] = {}
    for place in segment.steps:
        step = trace.steps[place]
        given = [value for value in step.takes if value in data]
        if not given or kind_of(step.target) is Kind.CONSTANT or all(value in free for value in step.gives):
            continue
        name = name_of(step.target)
        if name in _COMPARES and len(given) == 2:
            compared[step.results[0]] = tuple(step.takes)
        elif name == "where" and given[0] in compared and tuple(given[1:]) == compared[given[0]]:
            continue
        elif not _keeps_maxima(step, name, given) or any(value in compared for value in given) or step.written:
            raise UndecidedError(f"{name} in a maximum")


def _keeps_maxima(step: Step, name: str, given: Sequence[Value]) -> bool:
    if name == "view" and step.target._overloadname == "dtype":
        return False
    others = {*step.takes} - {*given, table_of(step)}
    return name in _MAXIMA or is_moving(step.target) or (name in _STEPS and len(given) == 1 and not others)


def miss(size: int) -> float:
    """Return the probability that a window of so many elements that has one too many, or too few, was not noticed."""
    return math.pow(1 - 1 / (size + 1), _DRAWS)
