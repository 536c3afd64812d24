"""Why a rewrite did not match: the pattern that comes nearest to an operator, and the first node where they part."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch.fx import Node

from pt2e_ci.operators.names import call_of, name_of, qualified_name
from pt2e_ci.operators.row import Kind
from pt2e_ci.operators.rows import family_of, kind_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from torch.fx import GraphModule


@dataclass(frozen=True)
class Nearest:
    """The pattern that comes nearest to an operator of a program.

    Attributes:
        rewrite: the rewrite's name.
        matched: how many of the pattern's calls are found, walking from its result towards its inputs.
        of: how many calls the pattern has.
        pattern: what the pattern has where the two part, such as ``aten.convolution.default``; None if they do not
            part by a call, but by an argument or by what else uses a value.
        graph: what the program has there; None for an input or a constant.
        at: the node of the program where they part.

    """

    rewrite: str
    matched: int
    of: int
    pattern: str | None
    graph: str | None
    at: str


def nearest(program: GraphModule, node: Node, patterns: Mapping[str, GraphModule]) -> Nearest | None:
    """Return the pattern nearest to what a program computes at `node`; None where none is for such an operator.

    A pattern may begin at the operator itself, or at a call that uses its result, as the quantize node after it.
    """
    family = family_of(name_of(call_of(node)[0]))
    meant = {name: pattern for name, pattern in patterns.items() if family in _families(pattern)}
    found = [_compare(name, pattern, anchor) for name, pattern in meant.items() for anchor in _anchors(node)]
    return min(found, key=lambda one: (one.of - one.matched, one.of), default=None)


def _families(pattern: GraphModule) -> set[str]:
    return {family_of(name_of(call_of(node)[0])) for node in pattern.graph.nodes if node.op == "call_function"}


def _anchors(node: Node) -> Iterator[Node]:
    """Yield an operator, and the calls that take its result on, as far as the next one of its kind may begin."""
    waiting, seen = [(node, 0)], {node}
    while waiting:
        one, depth = waiting.pop(0)
        yield one
        for user in one.users:
            if user.op == "call_function" and user not in seen and depth < 3:
                seen.add(user)
                waiting.append((user, depth + 1))


def _compare(name: str, pattern: GraphModule, anchor: Node) -> Nearest:
    calls = [node for node in pattern.graph.nodes if node.op == "call_function"]
    output = next(node for node in pattern.graph.nodes if node.op == "output")
    results = [source for source in output.all_input_nodes if source.op == "call_function"]
    pairs: list[tuple[Any, Any]] = [(result, anchor) for result in results[:1]]
    matched: set[Node] = set()
    parted: tuple[Node, Any] | None = None
    while pairs:
        wanted, given = pairs.pop(0)
        if not isinstance(wanted, Node) or wanted.op != "call_function" or wanted in matched:
            continue
        if not isinstance(given, Node) or given.op != "call_function" or not _same(wanted.target, given.target):
            # Of an operator with several results a pattern takes one by an index: it is the operator that parts.
            source = wanted.args[0] if wanted.target is operator.getitem else wanted
            parted = parted or (source if isinstance(source, Node) else wanted, given)
            continue
        matched.add(wanted)
        pairs += zip(_operands(wanted), _operands(given), strict=False)
    if parted is None:
        return Nearest(name, len(matched), len(calls), None, None, anchor.name)
    wanted, given = parted
    called = isinstance(given, Node) and given.op == "call_function"
    return Nearest(
        name,
        len(matched),
        len(calls),
        qualified_name(wanted.target),
        qualified_name(given.target) if called else None,
        given.name if isinstance(given, Node) else anchor.name,
    )


def _same(wanted: Any, given: Any) -> bool:
    """Tell whether two nodes call the same: of quantize and dequantize upstream matches any overload."""
    if kind_of(wanted) is Kind.QDQ and kind_of(given) is Kind.QDQ:
        return name_of(wanted) == name_of(given)
    return wanted is given


def _operands(node: Node) -> Iterable[Any]:
    args = call_of(node)[1]
    return [leaf for argument in args for leaf in (argument if isinstance(argument, list | tuple) else [argument])]
