"""What a write in place changes: every tensor that shares the memory of the one that is written."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Node

from pt2e_ci.operators.names import name_of, written_arguments
from pt2e_ci.operators.rows import row_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch.fx import Graph

    from pt2e_ci.exact.reals import Real


def written_by(node: Node) -> Node | None:
    """Return the node whose tensor an operator writes to; None where it writes to none."""
    written = written_arguments(node.target, node.args, node.kwargs)
    return next((value for value in written if isinstance(value, Node)), None)


def read_after_writes(graph: Graph) -> set[Node]:
    """Return the nodes that share memory which is written in place, and then read by another name than the result's."""
    order = {node: place for place, node in enumerate(graph.nodes)}
    found: set[Node] = set()
    for node, sharing in _writes(graph):
        before = (one for one in sharing if order[one] < order[node])
        if any(order[user] > order[node] for one in before for user in one.users):
            found.update(sharing)
    return found


def stale_writes(graph: Graph) -> list[Node]:
    """Return the operators that write to what was quantized before, where those levels are read after."""
    order = {node: place for place, node in enumerate(graph.nodes)}
    found = []
    for node, sharing in _writes(graph):
        before = (user for one in sharing for user in one.users if order[user] < order[node])
        levels = [one for one in before if name_of(one.target).startswith("quantize_per")]
        readers = (user for one in levels for back in one.users for user in back.users)
        if any(order[user] > order[node] for user in readers):
            found.append(node)
    return found


def _writes(graph: Graph) -> Iterator[tuple[Node, list[Node]]]:
    """Yield the operators that write in place, each with all nodes that share the memory."""
    memory: dict[Node, Node] = {}
    sharing: dict[Node, list[Node]] = defaultdict(list)
    for node in graph.nodes:
        row = row_of(node.target) if node.op == "call_function" else None
        shares = row is not None and (row.moves or row.leaves) and node.all_input_nodes
        source = written_by(node) or (node.all_input_nodes[0] if shares else None)
        memory[node] = memory[source] if source is not None else node
        sharing[memory[node]].append(node)
    yield from ((node, sharing[memory[node]]) for node in graph.nodes if written_by(node) is not None)


class Memory:
    """Which elements of the tensors of a run lie where: beside each tensor goes one of places, laid out alike."""

    def __init__(self) -> None:
        self._places: dict[Node, Any] = {}
        self._beginnings: dict[int, tuple[int, int]] = {}
        self._kept: list[torch.Tensor] = []
        self._next = 0

    def places(self, node: Node) -> Any:
        """Return the places of a node's elements, or of each of its tensors; None where they are not known."""
        return self._places.get(node)

    def share(self, node: Node, moved: Any) -> bool:
        """Note that a node's tensor, or each of several, lies where others do, if `moved` is a view of their places."""
        parts = moved if isinstance(moved, list | tuple) else [moved]
        is_view = all(isinstance(one, torch.Tensor) and _storage(one) in self._beginnings for one in parts)
        if is_view:
            self._places[node] = moved
        return is_view

    def put(self, node: Node, shape: torch.Size) -> None:
        """Note that a node's tensor lies in memory of its own."""
        count = shape.numel()
        fresh = torch.arange(self._next, self._next + count).reshape(shape)
        self._beginnings[_storage(fresh)] = self._next, count
        self._kept.append(fresh)  # a storage that is given back may come again
        self._next += count
        self._places[node] = fresh

    def changed(self, written: Node, value: Real, known: Mapping[Node, Any]) -> Iterator[tuple[Node, Any]]:
        """Yield the nodes that share memory with one that is written, each with what it is then."""
        places = self._places.get(written)
        if not isinstance(places, torch.Tensor):
            return
        first, count = self._beginnings[_storage(places)]
        index = torch.full((count,), -1)
        index[places.reshape(-1) - first] = torch.arange(places.numel())
        for node, others in self._places.items():
            if node not in known or not isinstance(others, torch.Tensor) or _storage(others) != _storage(places):
                continue
            at = index[others - first]
            picked = at.clamp(min=0)

            def gather(integers: torch.Tensor, picked: torch.Tensor = picked) -> torch.Tensor:
                return integers.expand(places.shape).reshape(-1)[picked]

            yield node, value.map(gather).where(at >= 0, known[node])


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
