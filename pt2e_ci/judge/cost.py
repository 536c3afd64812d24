"""What quantization itself costs: the Q/DQ program against the float model that it was made of."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Node

from pt2e_ci.operators.names import name_of
from pt2e_ci.program.trace import run
from pt2e_ci.record.records import Cost

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.fx import GraphModule

    from pt2e_ci.program.segments import Grid, Reading
    from pt2e_ci.program.trace import Run


def costs(
    model: GraphModule, reading: Reading, inputs: Sequence[Any], qdq: Run, steps: Sequence[Any]
) -> tuple[dict[Node, Cost], list[Cost | None]]:
    """Return what quantization costs each quantize node whose grid is known ahead, and each output.

    Args:
        model: the float model.
        reading: the Q/DQ program.
        inputs: one input set.
        qdq: what the Q/DQ program gave on it, with the levels of its quantize nodes.
        steps: the step of each output's grid; None for one that is on none.

    """
    by_name = {node.name: node for node in model.graph.nodes}
    sources = {
        one.quantize.node: _unfolded(by_name[one.quantize.source.name], reading)
        for one in reading.levels
        if isinstance(one.quantize.source, Node) and one.quantize.source.name in by_name
    }
    wanted = run(model, inputs, [*sources.values()])
    found: dict[Node, Cost] = {}
    for one in reading.levels:
        node, grid = one.quantize.node, one.quantize.grid
        value = wanted.kept.get(sources.get(node))
        if isinstance(value, torch.Tensor) and grid.one is not None and value.shape == qdq.kept[node].shape:
            found[node] = _cost(value, _floats(qdq.kept[node], grid), grid.one[0])
    pairs = zip(wanted.outputs, qdq.outputs, steps, strict=False)
    return found, [
        _cost(a, b, step if isinstance(step, float) else None) if _are_floats(a, b) else None for a, b, step in pairs
    ]


def _unfolded(node: Node, reading: Reading) -> Node:
    """Return the batch norm behind a convolution that was folded into it, in place of the convolution."""
    names = {one.name for one in reading.items}
    users = [*node.users]
    folded = len(users) == 1 and "batch_norm" in name_of(users[0].target) and users[0].name not in names
    return users[0] if folded else node


def _cost(wanted: torch.Tensor, found: torch.Tensor, step: float | None) -> Cost:
    a, b = wanted.double(), found.double()
    apart = a - b
    if not bool((both := apart.isfinite()).all()):
        a, apart = a[both], apart[both]
    signal, noise = float(a.square().sum()), float(apart.square().sum())
    largest = float(apart.abs().max()) if apart.numel() else 0.0
    ratio = 10 * math.log10(signal / noise) if signal and noise else None
    return Cost(sqnr=ratio, max=largest / step if step else None)


def _floats(levels: torch.Tensor, grid: Grid) -> torch.Tensor:
    scale, point = grid.one or (1.0, 0)
    return (levels.double() - point) * scale


def _are_floats(a: Any, b: Any) -> bool:
    tensors = isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor)
    return tensors and a.is_floating_point() and b.is_floating_point() and a.shape == b.shape
