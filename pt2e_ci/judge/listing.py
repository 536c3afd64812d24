"""A program as a reader wants to see it: one line for each node, with what it gives, and what counts as compute."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.fx import Node

from pt2e_ci.operators.names import call_of, name_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pt2e_ci.program.trace import Trace

_LONGEST = 200


def listing(trace: Trace, marks: Mapping[int, str]) -> list[tuple[str, str]]:
    """Return a mark and a text for each node that the outputs depend on, in the order of the graph.

    The mark is ``integer`` or ``float`` for a node that computes, and empty for all else: float if any of the operators
    that ran in it does, by their places in the line. The text is the call, and what it gives, as in
    ``add_1 = add(mul, 3) -> int32 (1, 8)``.
    """
    of_node: dict[Node, str] = {}
    for call in trace.calls:
        found = {marks[place] for place in range(call.first, call.end) if place in marks}
        of_node[call.node] = "float" if "float" in found else "integer" if found else ""
    nodes = [node for node in trace.program.graph.nodes if trace.is_live(node)]
    return [(of_node.get(node, ""), _line(node, trace)) for node in nodes]


def _line(node: Node, trace: Trace) -> str:
    if node.op == "output":
        return _cut(f"return {_argument(node.args[0])}")
    if node.op in ("placeholder", "get_attr"):
        text = f"{node.name} = {'input' if node.op == 'placeholder' else 'constant'}"
    else:
        target, args, kwargs = call_of(node)
        words = [_argument(argument) for argument in args]
        words += [f"{key}={_argument(value)}" for key, value in kwargs.items()]
        text = f"{node.name} = {name_of(target)}({', '.join(words)})"
    given = ", ".join(str(trace.info[value]) for value in trace.results_of(node))
    return _cut(text) + (f" -> {given}" if given else "")


def _argument(value: Any) -> str:
    if isinstance(value, Node):
        return value.name
    if isinstance(value, tuple | list):
        return f"[{', '.join(_argument(item) for item in value)}]"
    if isinstance(value, float):
        return f"{value:.9g}"
    return str(value).removeprefix("torch.")


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"
