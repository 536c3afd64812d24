"""Representations: functions from a Q/DQ program to a reference program. Upstream's is one of them."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch.fx import GraphModule, Node

from pt2e_ci.errors import InputError
from pt2e_ci.flow.patterns import exporters_of, pattern_name, replaced
from pt2e_ci.plugins import load

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import ModuleType

    from pt2e_ci.flow.homes import Home

Representation = Callable[[GraphModule], GraphModule]
# One of these names of upstream's rewrite module replaces a pattern, whatever the torch.
_REPLACERS = ("replace_pattern", "replace_pattern_with_filters")


@dataclass(frozen=True)
class Reference:
    """A reference program, and what is known of its making.

    Attributes:
        rewrites: how often each rewrite matched; None where that cannot be told.
        patterns: the rewrites' patterns.
        rewritten: the names of the Q/DQ program's nodes that some rewrite took.

    """

    program: GraphModule
    rewrites: Mapping[str, int] | None
    patterns: Mapping[str, GraphModule] = field(default_factory=dict)
    rewritten: frozenset[str] = frozenset()


def load_representation(name: str) -> Representation:
    """Return a representation by ``module:function``, or by the name of an entry point of ``pt2e_ci.representations``.

    Raises:
        InputError: there is no such function, or its module cannot be imported.

    """
    representation: Representation = load("representations", name)
    if not callable(representation):
        raise InputError(
            f"{name} is not a function: a representation takes a Q/DQ GraphModule and returns a GraphModule"
        )
    return representation


def apply(representation: Representation, qdq: GraphModule) -> Reference:
    """Turn a copy of a Q/DQ program into a reference program by a representation of the user's.

    Raises what it raises, and TypeError if it returns anything but a program.
    """
    program = representation(copy.deepcopy(qdq))
    if not isinstance(program, GraphModule):
        raise TypeError(f"the representation returned {type(program).__name__}, where a GraphModule is needed")
    return Reference(program, None)


def apply_upstream(home: Home, qdq: GraphModule) -> Reference:
    """Turn a copy of a Q/DQ program into upstream's reference program."""
    patterns: dict[str, GraphModule] = {}
    taken: set[str] = set()
    with _watched(home.rewrites, patterns, taken) as matches:
        program = home.rewrite(copy.deepcopy(qdq))
    return Reference(program, None if matches is None else dict(matches), patterns, frozenset(taken))


@contextmanager
def _watched(module: ModuleType, patterns: dict[str, GraphModule], taken: set[str]) -> Iterator[Counter[str] | None]:
    """Count the matches of each rewrite while upstream's module runs; collect its patterns, and the nodes they match.

    The module exports a pattern and its replacement to graphs and hands both to the replacer. Both calls go
    through names of the module, so they can be watched there; the pattern's function gives the rewrite its
    name. A torch whose module has other names runs unwatched.
    """
    exporters = exporters_of(module)
    replacers = [name for name in _REPLACERS if hasattr(module, name)]
    if not exporters or not replacers:
        yield None
        return
    matches: Counter[str] = Counter()
    names: dict[int, str] = {}
    graphs: list[GraphModule] = []  # keeps each graph alive, so that no id is given twice

    def watch_export(export: Callable[..., GraphModule]) -> Callable[..., GraphModule]:
        def exported(pattern: Any, *args: Any, **kwargs: Any) -> GraphModule:
            graph = export(pattern, *args, **kwargs)
            names[id(graph)] = pattern_name(pattern).removesuffix("_int8").replace("quantized_", "", 1)
            graphs.append(graph)
            return graph

        return exported

    def watch_replace(replace: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
        def replaced_all(program: GraphModule, pattern: GraphModule, *args: Any, **kwargs: Any) -> list[Any]:
            patterns.setdefault(names.get(id(pattern), "unnamed"), pattern)
            found = replace(program, pattern, *args, **kwargs)
            if found:
                matches[names.get(id(pattern), "unnamed")] += len(found)
                taken.update(name for match in found for name in _calls_in(match))
            return found

        return replaced_all

    with ExitStack() as stack:
        for watch, watched in ((watch_export, exporters), (watch_replace, replacers)):
            for name in watched:
                stack.enter_context(replaced(module, name, watch(getattr(module, name))))
        yield matches


def _calls_in(match: Any) -> Iterator[str]:
    """Name the calls of the program that a pattern's calls matched; its inputs match whatever is before them."""
    for inner, node in match.nodes_map.items():
        if inner.op == "call_function" and isinstance(node, Node):
            yield node.name
