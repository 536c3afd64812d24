"""A segment, run again on other levels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from pt2e_ci.judge.deciding.elements import descending
from pt2e_ci.operators.row import Kind
from pt2e_ci.operators.rows import kind_of
from pt2e_ci.program.trace import Value, filled, tensors_in

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from pt2e_ci.judge.provenance import Segment


class Replay:
    """A segment, to be run on other tensors than it had.

    Args:
        segment: the segment.
        values: all tensors of a run.
        beginnings: what other tensors are given for.

    """

    def __init__(self, segment: Segment, values: Mapping[Value, torch.Tensor], beginnings: Collection[Value]) -> None:
        data = descending(segment, frozenset(beginnings))
        self._values, self._target = values, segment.target
        self._dtypes = {value: segment.trace.info[value].dtype for value in beginnings}
        self._steps = [
            step
            for step in (segment.trace.steps[place] for place in segment.steps)
            if not step.is_inside
            and any(one in data for one in step.reads)
            and kind_of(step.target) is not Kind.CONSTANT
        ]

    def __call__(self, given: Mapping[Value, torch.Tensor]) -> torch.Tensor:
        """Return what the segment makes of what it is given, which is taken to the dtypes that are due."""
        found = {value: tensor.to(self._dtypes[value]) for value, tensor in given.items()}

        def value(leaf: Any) -> Any:
            if not isinstance(leaf, Value):
                return leaf
            return found[leaf] if leaf in found else self._values[leaf]

        with torch.no_grad():
            for step in self._steps:
                kept = {before: value(before).clone() for before, _ in step.written}
                result = step.target(*filled(step.args, value), **filled(step.kwargs, value))
                for one, tensor in zip(step.results, tensors_in(result), strict=True):
                    found.setdefault(one, tensor)
                for before, after in step.written:
                    found.setdefault(after, value(before))
                found |= kept
        return found[self._target]
