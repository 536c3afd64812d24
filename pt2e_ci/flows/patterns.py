"""Upstream's pattern graphs, exported once.

At every conversion upstream exports the same two dozen patterns and replacements again, which is nearly all of
the time that a conversion takes. Here an exported graph is kept: for the process, and in a file for the
processes after it. The file's name says what the graphs depend on (torch, the flow's home and its sources, and
this package), so that another environment never reads it, and its content is checked before it is used.

What is kept of a graph is its nodes: operators by name, arguments, the calling convention. Metadata is not,
for the rewriter reads none; a graph with submodules or tensors of its own is not kept but exported anew.
"""

from __future__ import annotations

import hashlib
import inspect
import io
import pickle
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Graph, GraphModule, Node
from torch.fx.node import map_arg

from pt2e_ci import __version__
from pt2e_ci.operators import qualified_name
from pt2e_ci.whole_files import write_whole

try:
    # A pattern is matched and never run; this kind of module writes no Python for it until it is (2.2 and later).
    from torch.fx._lazy_graph_module import _LazyGraphModule as PatternModule
except ImportError:
    PatternModule = GraphModule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, ModuleType

    from pt2e_ci.flows.homes import Home

_FORMAT = 1
_DIGEST_SIZE = hashlib.sha256().digest_size
_SPECS = ("_in_spec", "_out_spec")


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
        module: GraphModule = PatternModule(torch.nn.Module(), graph)
        for name, spec in self.specs.items():
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
    """The pattern graphs of a home of the flow. With no `folder` they are kept for the process only.

    Attributes:
        home: the home whose modules export patterns.
        folder: where the file is, or is to be.
        notes: what went wrong with the file. None of it changes a result.

    """

    home: Home
    folder: Path | None = None
    notes: list[str] = field(default_factory=list)
    _graphs: dict[str, _Stored] = field(default_factory=dict, init=False)
    _grown: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        """Read the file of this environment, if there is one."""
        if self.folder is None:
            return
        path = self._path()
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            self._give_up(path, error)
            return
        try:
            self._graphs = _unpack(content)
        except Exception as error:  # whatever the file holds, it is not what was written there
            self.notes.append(f"pattern graphs are exported anew: {path} is damaged ({type(error).__name__})")
            self._grown = True

    @contextmanager
    def serve(self) -> Iterator[None]:
        """Give the home's modules graphs that are kept; afterwards write the file, if there are new ones.

        The modules export patterns through a name of their own, and that name is where they are given them.
        """
        with ExitStack() as stack:
            for module in (self.home.rewrites, self.home.fusions):
                for name in exporters_of(module):
                    stack.enter_context(replaced(module, name, partial(self.export, getattr(module, name))))
            yield
        self._save()

    def _save(self) -> None:
        """Write the file, whole or not at all."""
        if self.folder is None or not self._grown:
            return
        self._grown = False
        path = self._path()
        try:
            write_whole(path, _pack(self._graphs), mode=0o600)
        except OSError as error:
            self._give_up(path, error)

    def export(self, exporter: Callable[..., GraphModule], pattern: Any, *args: Any, **kwargs: Any) -> GraphModule:
        """Return what ``exporter(pattern, *args, **kwargs)`` gives, from what is kept if it is there."""
        key = _call_key(pattern, args, kwargs)
        stored = self._graphs.get(key) if key else None
        if stored is None:
            exported = exporter(pattern, *args, **kwargs)
            stored = _Stored.of(exported)
            if key is None or stored is None:
                return exported
            self._graphs[key] = stored
            self._grown = True
        return stored.build()

    def _give_up(self, path: Path, error: OSError) -> None:
        self.notes.append(f"pattern graphs are kept for this process only: {path}: {error.strerror}")
        self.folder = None

    def _path(self) -> Path:
        assert self.folder is not None  # noqa: S101 - for the type checker; the callers have looked
        return self.folder / f"patterns-{environment_key(self.home)}.bin"


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


def environment_key(home: Home) -> str:
    """Return a digest of all that the graphs depend on, beside the pattern itself."""
    digest = hashlib.sha256()
    # Another version, another patch of the rewrites, or another way of keeping graphs: another file.
    parts = [_FORMAT, __version__, sys.version, torch.__version__, torch.version.git_version, home.name]
    digest.update(repr(parts).encode())
    for module in (home.rewrites, home.fusions):
        # The module itself, and the one that its exporter comes from.
        sources = [module.__file__, *(inspect.getsourcefile(getattr(module, name)) for name in exporters_of(module))]
        for source in sources:
            digest.update(Path(source or "").read_bytes())
    return digest.hexdigest()[:32]


def _call_key(pattern: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Return a digest of one export: the pattern's source, and all that it is traced with.

    None if that cannot be told: the pattern may then be any.
    """
    try:
        parts = [_source(getattr(pattern, "fn", pattern)), _signature((args, kwargs))]
    except (AttributeError, OSError, TypeError):
        return None
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _source(function: Any) -> list[Any]:
    """Return a function's name and source, and the values that it closes over, functions among them likewise.

    Raises TypeError or OSError for what has no source or is more than a plain value.
    """
    name = f"{function.__module__}.{function.__qualname__}"
    if inspect.isbuiltin(function):  # such as torch.conv2d: part of torch, whose version is in the file's name
        return [name]
    if not inspect.isfunction(function):
        raise TypeError(f"{type(function).__name__} has no source")
    closed = [cell.cell_contents for cell in function.__closure__ or ()]
    return [
        name,
        _getsource(function.__code__),
        [_source(value) if callable(value) else _signature(value) for value in closed],
    ]


@cache
def _getsource(code: CodeType) -> str:
    """Return the source of a function's code; the same few are asked for at every conversion."""
    return inspect.getsource(code)


def _signature(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return "tensor", str(value.dtype), tuple(value.shape), value.stride()
    if isinstance(value, tuple | list):
        return [_signature(item) for item in value]
    if isinstance(value, dict):
        return {key: _signature(item) for key, item in value.items()}
    if value is None or isinstance(value, bool | int | float | str | torch.dtype):
        return type(value).__name__, value
    raise TypeError(f"{type(value).__name__} has no signature")


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> str | None:
        """Name an operator; it is looked up under that name when the file is read."""
        if isinstance(obj, torch._ops.OpOverload | torch._ops.HigherOrderOperator):
            return qualified_name(obj)
        return None


class _Unpickler(pickle.Unpickler):
    def persistent_load(self, pid: str) -> Any:
        """Return the operator of a name."""
        operator: Any = torch.ops
        for part in pid.split("."):
            operator = getattr(operator, part)
        return operator


def _pack(graphs: dict[str, _Stored]) -> bytes:
    buffer = io.BytesIO()
    _Pickler(buffer).dump(graphs)
    content = buffer.getvalue()
    return hashlib.sha256(content).digest() + content


def _unpack(data: bytes) -> dict[str, _Stored]:
    digest, content = data[:_DIGEST_SIZE], data[_DIGEST_SIZE:]
    if hashlib.sha256(content).digest() != digest:
        raise ValueError("not whole")
    graphs: dict[str, _Stored] = _Unpickler(io.BytesIO(content)).load()
    return graphs
