"""What flows where in a program, with values that are written in place.

A call that writes into a tensor changes it for whoever reads it later, also through a view of it, or through the
same attribute read again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pt2e_ci.operators import call_of, keeps_grid, written_by

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node


def changed_by(node: Node) -> list[Node]:
    """Return the nodes whose values a call changes, and those that share memory with them."""
    return [changed for written in written_by(node) for changed in _with_sources(written)]


def writers(program: GraphModule) -> dict[Node, list[Node]]:
    """Return the calls that write into a node's value, by node."""
    found: dict[Node, list[Node]] = {}
    for node in program.graph.nodes:
        for changed in changed_by(node):
            found.setdefault(changed, []).append(node)
    return found


def live_nodes(program: GraphModule) -> set[Node]:
    """Return the nodes that the program's outputs depend on: what is computed for nothing does not count."""
    written = writers(program)
    live: set[Node] = set()
    waiting = [node for node in program.graph.nodes if node.op == "output"]
    while waiting:
        node = waiting.pop()
        if node not in live:
            live.add(node)
            waiting += [*node.all_input_nodes, *written.get(node, [])]
    return live


def dependents(program: GraphModule) -> set[Node]:
    """Return the placeholders and every node whose value depends on one."""
    depends: set[Node] = set()
    for node in program.graph.nodes:
        if node.op == "placeholder" or any(source in depends for source in node.all_input_nodes):
            depends |= {node, *changed_by(node)}
    return depends


def _with_sources(node: Node) -> list[Node]:
    """Return a node, and those that share its memory: what it may be a view of, or the same attribute read again."""
    found = [node]
    while found[-1].op in ("call_function", "call_method") and keeps_grid(call_of(found[-1])[0]):
        sources = found[-1].all_input_nodes
        if not sources:
            break
        found.append(sources[0])
    last = found[-1]
    if last.op == "get_attr":
        found += [other for other in last.graph.nodes if other.op == "get_attr" and other.target == last.target]
    return found
