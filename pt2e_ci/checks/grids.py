"""The grid that an output lies on, found by walking back to the quantize node that made it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.fx import Node

from pt2e_ci.checks.dataflow import dependents, writers
from pt2e_ci.checks.recording import TensorInfo
from pt2e_ci.operators import Kind, call_of, keeps_grid, kind_of, name_of, named_arguments

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch.fx import GraphModule

    from pt2e_ci.checks.recording import Recording


@dataclass(frozen=True)
class Grid:
    """The step of an output: one number, or a node that gives it at run time.

    A per-channel grid has a step for each index of `axis`.
    """

    scale: float | Node
    axis: int | None = None

    def steps(self, recording: Recording, like: torch.Tensor) -> float | torch.Tensor:
        """Return the step as a number, or as a float64 tensor that broadcasts against `like`."""
        if isinstance(self.scale, float):
            return self.scale
        scale = recording.kept[self.scale].to(torch.float64)
        if self.axis is None:
            return float(scale.reshape(()))
        shape = [1] * like.dim()
        shape[self.axis] = -1
        return scale.reshape(shape)


def output_nodes(program: GraphModule) -> list[Node | None]:
    """Return the node behind each leaf of a program's output, in order; None for a constant."""
    output = next(node for node in program.graph.nodes if node.op == "output")
    leaves, _ = torch.utils._pytree.tree_flatten(output.args[0])
    return [leaf if isinstance(leaf, Node) else None for leaf in leaves]


def find_grid(output: Node | None) -> Grid | None:
    """Walk back from an output of a Q/DQ program to its grid; None where it was computed in float last."""
    node, moved = output, False
    while node is not None and node.op in ("call_function", "call_method"):
        target = call_of(node)[0]
        if kind_of(target) is Kind.QDQ and name_of(target).startswith("dequantize_per"):
            return _grid(node, moved=moved)
        if not keeps_grid(target):
            return None
        node, moved = next(iter(node.all_input_nodes), None), True
    return None


def _grid(dequantize: Node, *, moved: bool) -> Grid | None:
    arguments = named_arguments(dequantize)
    source, scale = arguments.get("input"), arguments.get("scale", arguments.get("scales"))
    if not isinstance(source, Node) or source.op == "get_attr" or scale is None:
        return None  # a constant was dequantized: no quantize node of the program made it
    if "axis" not in arguments:
        return Grid(scale if isinstance(scale, Node) else float(scale))
    return None if moved or not isinstance(scale, Node) else Grid(scale, axis=int(arguments["axis"]))


def integer_frontier(program: GraphModule, recording: Recording) -> list[Node]:
    """Return the last integer tensors before each output: its levels, where the output lies on a grid.

    Constants are left out: they do not depend on the inputs.
    """
    depends, written = dependents(program), writers(program)
    seen: set[Node] = set()
    found: set[Node] = set()
    waiting = [node for node in output_nodes(program) if node is not None]
    while waiting:
        node = waiting.pop()
        if node in seen or node not in depends:
            continue
        seen.add(node)
        info = recording.tensors.get(node)
        if isinstance(info, TensorInfo) and info.is_integer:
            found.add(node)
        else:
            waiting += [*node.all_input_nodes, *written.get(node, [])]
    return [node for node in program.graph.nodes if node in found]


def runtime_scales(grids: Iterable[Grid | None]) -> list[Node]:
    """Return the nodes whose values the grids need."""
    return [grid.scale for grid in grids if grid is not None and isinstance(grid.scale, Node)]
