"""Which tensors of a reference program are levels: those before each output, and those of each quantize node."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch.fx import Node

    from pt2e_ci.program.segments import Levels
    from pt2e_ci.program.trace import Call, Trace, Value

# Levels of the reference program are known by their values: those of another operator are further off than this.
_SAME_OPERATOR = 16.0


def integer_nodes(trace: Trace) -> list[Node]:
    """Return the nodes that give one tensor of integers that depends on the inputs, in order."""
    return [call.node for call in trace.calls if _is_levels(trace, call)]


def integer_frontier(trace: Trace) -> list[Node]:
    """Return the last integer tensors before each output: its levels, where the output lies on a grid.

    Constants are left out: they do not depend on the inputs.
    """
    makers: dict[Value, list[Call]] = defaultdict(list)
    for call in trace.calls:
        changed = (after for step in call.steps for _, after in step.written)
        for value in dict.fromkeys((*call.results, *changed)):
            makers[value].append(call)
    seen: set[Value] = set()
    found: set[Node] = set()
    waiting = [value for value in trace.output_values if value is not None]
    while waiting:
        value = waiting.pop()
        if value in seen or value not in trace.depends:
            continue
        seen.add(value)
        levels = [call.node for call in makers[value] if _is_levels(trace, call) and value in call.results]
        found.update(levels[:1])
        waiting += [] if levels else [taken for call in makers[value] for taken in call.takes]
    return [call.node for call in trace.calls if call.node in found]


def _is_levels(trace: Trace, call: Call) -> bool:
    values = call.results
    return len(values) == 1 and trace.info[values[0]].is_integer and values[0] in trace.depends


def align(
    exact: Mapping[Node, torch.Tensor], levels: Sequence[Levels], candidates: Sequence[Node], kept: Mapping[Node, Any]
) -> dict[Node, Node]:
    """Find the reference program's levels for each quantize node: of the same shape, and the nearest values.

    Of several as near, the one of the quantize node's own dtype, and the last: the others come before a clamp.
    """
    found: dict[Node, Node] = {}
    for one in levels:
        node, dtype = one.quantize.node, one.quantize.grid.dtype
        wanted = exact[node]
        ranked = [
            (float((kept[other] - wanted).abs().double().mean()), kept[other].dtype != dtype, -position, other)
            for position, other in enumerate(candidates)
            if isinstance(kept[other], torch.Tensor)
            and kept[other].shape == wanted.shape
            and wanted.numel()
            and not kept[other].is_quantized
        ]
        distance, _, _, nearest = min(ranked, default=(math.inf, None, 0, None), key=lambda one: one[:3])
        if nearest is not None and distance <= _SAME_OPERATOR:
            found[node] = nearest
    return found
