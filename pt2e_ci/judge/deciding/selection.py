"""Does each result pick the largest of the window that is asked for?

A program of maxima, movements and shifts is decided by two things: what becomes of a level that all elements have, and
which elements each maximum is over. The one is tried for every level; the other on numbers drawn, where a window that
has an element more, or less, shows with a probability of one by its size.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING

import torch

from pt2e_ci.exact.reals import Real
from pt2e_ci.judge.deciding.elements import UndecidedError, descending, table_of
from pt2e_ci.judge.deciding.replay import Replay
from pt2e_ci.judge.deciding.tally import Tally, tally
from pt2e_ci.operators.names import name_of
from pt2e_ci.operators.row import Kind
from pt2e_ci.operators.rows import is_moving, kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch.fx import Node

    from pt2e_ci.exact.schemes import Rounding
    from pt2e_ci.judge.deciding.specification import Specification
    from pt2e_ci.judge.provenance import Segment
    from pt2e_ci.program.trace import Step, Value

_MAXIMA = frozenset("max_pool2d_with_indices max_pool3d_with_indices amax maximum".split())
# Monotone, element by element: what they make of a maximum is the maximum of what they make.
_STEPS = frozenset(
    "_to_copy to clone contiguous add sub clamp clamp_min clamp_max hardtanh relu bucketize copy lift_fresh_copy".split()
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
    for levels in _inputs(low, high, tuple(shape)):
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


def _inputs(low: int, high: int, shape: tuple[int, ...]) -> Iterator[torch.Tensor]:
    """Yield every level throughout, then levels at random, then the two ends at random."""
    for level in range(low, high + 1):
        yield torch.full(shape, level)
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
