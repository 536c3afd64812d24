"""Upstream's pattern graphs, exported once a process, and only those that can match.

At every conversion upstream exports the same two dozen patterns and replacements again, which is nearly all of the
time that a conversion takes. Here an exported graph is kept for the process, and a pattern whose operators do not
occur in the program is not exported: a graph that matches nothing takes its place. Which operators a pattern has is
data, patterns.toml; one that is not there is always exported.

What is kept of a graph is its nodes: operators, arguments, the calling convention. Metadata is not, for the rewriter
reads none; a graph with submodules or tensors of its own is not kept but exported again.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from types import BuiltinFunctionType, FunctionType
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Graph, GraphModule, Node
from torch.fx.node import map_arg
from torch.utils._pytree import tree_flatten

from pt2e_ci.files import read_toml
from pt2e_ci.operators.names import call_of, name_of
from pt2e_ci.operators.row import Kind
from pt2e_ci.operators.rows import family_of, kind_of

try:
    # A pattern is matched and never run; this kind of module writes no Python for it until it is (2.2 and later).
    from torch.fx._lazy_graph_module import _LazyGraphModule as PatternModule
except ImportError:
    PatternModule = GraphModule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from pt2e_ci.flow.homes import Home

OPERATORS_FILE = Path(__file__).with_name("patterns.toml")
_SPECS = ("_in_spec", "_out_spec")
# They may be spelled otherwise in a program that a pattern is still the nearest to.
_SPELLINGS = (Kind.NEUTRAL, Kind.CONSTANT, Kind.MASK, Kind.JOIN)


@dataclass(frozen=True)
class _Ref:
    """A node, where another node names it as an argument."""

    name: str


@dataclass(frozen=True)
class _Stored:
    """A graph as it is kept: its nodes, and what a `GraphModule` needs beside them."""

    nodes: tuple[tuple[str, str, Any, Any, Any], ...]
    codegen: Any
    specs: dict[str, Any]

    @classmethod
    def of(cls, module: GraphModule) -> _Stored | None:
        """Take a graph apart; None if it holds what is not kept."""
        nodes = []
        for node in module.graph.nodes:
            if node.op in ("get_attr", "call_module"):
                return None
            args, kwargs = map_arg((node.args, node.kwargs), lambda argument: _Ref(argument.name))
            nodes.append((node.name, node.op, node.target, args, kwargs))
        specs = {name: vars(module)[name] for name in _SPECS if name in vars(module)}
        return cls(tuple(nodes), module.graph._codegen, specs)

    def build(self) -> GraphModule:
        """Put the graph together again, as a module that shares nothing with an earlier one."""
        graph = Graph()
        made: dict[str, Node] = {}
        for name, op, target, args, kwargs in self.nodes:
            node = graph.create_node(op, target, _resolve(args, made), _resolve(kwargs, made), name)
            made[name] = node
        graph.set_codegen(self.codegen)
        return _module(graph, self.specs)


def _module(graph: Graph, specs: dict[str, Any]) -> GraphModule:
    module: GraphModule = PatternModule(torch.nn.Module(), graph)
    for name, spec in specs.items():
        setattr(module, name, spec)
    return module


def _resolve(value: Any, made: dict[str, Node]) -> Any:
    if isinstance(value, _Ref):
        return made[value.name]
    if isinstance(value, tuple | list):
        return type(value)(_resolve(item, made) for item in value)
    if isinstance(value, dict):
        return {key: _resolve(item, made) for key, item in value.items()}
    return value


@dataclass
class PatternGraphs:
    """The pattern graphs that a home of the flow has exported in this process."""

    home: Home
    _graphs: dict[Any, _Stored] = field(default_factory=dict, init=False)
    _operators: frozenset[str] | None = field(default=None, init=False)
    """What the program's operators do; None where any pattern may match."""
    _calls: frozenset[Any] = field(default=frozenset(), init=False)
    _unmatched: set[str] = field(default_factory=set, init=False)

    @contextmanager
    def serve(self, program: GraphModule | None) -> Iterator[None]:
        """Give the home's modules graphs that are kept, while they rewrite a program.

        The modules export patterns through a name of their own, and that name is where they are given them. Without a
        program any pattern may match: it may be changed before they see it.
        """
        self._operators = families_of(program) if program is not None else None
        self._calls = _calls_of(program) if program is not None else frozenset()
        self._unmatched.clear()
        with ExitStack() as stack:
            for module in (self.home.rewrites, self.home.fusions):
                for name in exporters_of(module):
                    stack.enter_context(replaced(module, name, partial(self.export, getattr(module, name))))
            yield

    def export(self, exporter: Callable[..., GraphModule], pattern: Any, *args: Any, **kwargs: Any) -> GraphModule:
        """Return what ``exporter(pattern, *args, **kwargs)`` gives, from what is kept if it is there."""
        if self._operators is None:
            return self._exported(exporter, pattern, *args, **kwargs)
        name, is_replacement = pattern_name(pattern), _function_of(pattern).__name__.startswith("_reference_")
        needed = _needed().get(name, frozenset())
        if not needed <= self._operators or (is_replacement and name in self._unmatched):
            return _matches_nothing(*args, **kwargs)
        graph = self._exported(exporter, pattern, *args, **kwargs)
        # A pattern that calls what the program does not is wanted to say so, but its replacement never is.
        if not is_replacement:
            matches = _calls_of(graph) <= self._calls
            (self._unmatched.discard if matches else self._unmatched.add)(name)
        return graph

    def _exported(self, exporter: Callable[..., GraphModule], pattern: Any, *args: Any, **kwargs: Any) -> GraphModule:
        key = _call_key(pattern, args, kwargs)
        stored = self._graphs.get(key) if key else None
        if stored is None:
            exported = exporter(pattern, *args, **kwargs)
            stored = _Stored.of(exported)
            if key is None or stored is None:
                return exported
            self._graphs[key] = stored
        return stored.build()


def families_of(program: GraphModule) -> frozenset[str]:
    """Name what a program's operators do, whatever they are called: ``linear``, ``conv``, ``quantize_per_tensor``."""
    targets = [call_of(node)[0] for node in program.graph.nodes if node.op in ("call_function", "call_method")]
    return frozenset(family_of(name_of(target)) for target in targets if kind_of(target) not in _SPELLINGS)


def _calls_of(program: GraphModule) -> frozenset[Any]:
    """Return what a program calls. Of quantize and dequantize upstream matches any overload, so these are left out."""
    targets = [node.target for node in program.graph.nodes if node.op == "call_function"]
    return frozenset(target for target in targets if kind_of(target) is not Kind.QDQ)


def _function_of(pattern: Any) -> Any:
    # From 2.3 on it comes wrapped in a module.
    return getattr(pattern, "fn", pattern)


def pattern_name(pattern: Any) -> str:
    """Name a rewrite after the function of its pattern, or of its replacement: the two differ in their beginning."""
    name: str = _function_of(pattern).__name__
    for beginning in ("_qdq_", "_reference_", "_folded_", "_"):
        name = name.removeprefix(beginning)
    return name


@cache
def _needed() -> dict[str, frozenset[str]]:
    return {name: frozenset(families) for name, families in read_toml(OPERATORS_FILE).items()}


def _matches_nothing(inputs: Any, *_: Any, **kwargs: Any) -> GraphModule:
    """Return a graph that is called as the pattern would be, and whose one operator is in no program."""
    graph = Graph()
    leaves, spec = tree_flatten((tuple(inputs), kwargs))
    # The matcher of 2.1 to 2.6 refuses an input that nothing uses.
    placeholders = tuple(graph.placeholder(f"arg{index}") for index in range(len(leaves)))
    graph.output([graph.call_function(_in_no_program, placeholders)])
    return _module(graph, {"_in_spec": spec, "_out_spec": tree_flatten([None])[1]})


def _in_no_program(*inputs: Any) -> Any:
    return inputs


def exporters_of(module: ModuleType) -> list[str]:
    """Return the names through which a module of upstream's exports a pattern; one of the two, whatever the torch."""
    names = ("_get_aten_graph_module_for_pattern", "get_aten_graph_module")
    return [name for name in names if hasattr(module, name)]


@contextmanager
def replaced(module: ModuleType, name: str, value: Any) -> Iterator[None]:
    """Set a name of a module for a while."""
    original = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, original)


def _call_key(pattern: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return what one export depends on: the pattern's code, and all that it is traced with.

    None if that cannot be told: the pattern may then be any.
    """
    try:
        return _code(_function_of(pattern)), _signature((args, kwargs))
    except TypeError:
        return None


def _code(function: Any) -> Any:
    """Return a function's code, and the values that it closes over, functions among them likewise.

    Raises TypeError for what closes over more than plain values.
    """
    if isinstance(function, BuiltinFunctionType):  # such as torch.conv2d, which is one for the process
        return function
    if not isinstance(function, FunctionType):
        raise TypeError(f"{type(function).__name__} may be anything")
    closed = [cell.cell_contents for cell in function.__closure__ or ()]
    return function.__code__, tuple(_code(value) if callable(value) else _signature(value) for value in closed)


def _signature(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return "tensor", str(value.dtype), tuple(value.shape), value.stride()
    if isinstance(value, tuple | list):
        return tuple(_signature(item) for item in value)
    if isinstance(value, dict):
        return tuple((key, _signature(item)) for key, item in value.items())
    if value is None or isinstance(value, bool | int | float | str | torch.dtype):
        return type(value).__name__, value
    raise TypeError(f"{type(value).__name__} has no signature")
