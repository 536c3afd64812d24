"""Running a program node by node, to see the dtypes that its operators really take."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import GraphModule, Interpreter, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from pt2e_ci.operators import is_opaque, tensors_of

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class TensorInfo:
    """The dtype and shape of a tensor that a node gave."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def is_integer(self) -> bool:
        """Whether it holds integers (bool is none: it counts nothing)."""
        return not (self.dtype.is_floating_point or self.dtype.is_complex or self.dtype is torch.bool)


@dataclass(frozen=True)
class Inside:
    """What a call of the user's own code did: a graph, its recording, and the node behind each placeholder."""

    program: GraphModule
    recording: Recording
    sources: tuple[Node, ...]


@dataclass
class Recording:
    """What one run of a program showed.

    Attributes:
        outputs: the leaves of the program's output, in order.
        layout: how they are put together in tuples, lists and dicts.
        tensors: what each node gave: one `TensorInfo`, a list of them, or nothing for a node without tensors.
        inside: what a node that calls code of the user's own was seen to do.
        kept: the values of the nodes that were to be kept.

    """

    outputs: list[Any] = field(default_factory=list)
    layout: str = ""
    tensors: dict[Node, TensorInfo | list[TensorInfo | None] | None] = field(default_factory=dict)
    inside: dict[Node, Inside] = field(default_factory=dict)
    kept: dict[Node, Any] = field(default_factory=dict)


class _Recorder(Interpreter):
    def __init__(self, program: GraphModule, keep: Iterable[Node], *, look_inside: bool) -> None:
        super().__init__(program)
        self.recording = Recording()
        self._keep = set(keep)
        self._look_inside = look_inside

    def run_node(self, n: Node) -> Any:
        if self._look_inside and is_opaque(n, self.module):
            self._look(n)
        value = super().run_node(n)
        self.recording.tensors[n] = _info(value)
        if n in self._keep:
            self.recording.kept[n] = value
        return value

    def note_outputs(self, value: Any) -> None:
        leaves, layout = tree_flatten(value)
        self.recording.outputs, self.recording.layout = leaves, _layout(tree_unflatten(["*"] * len(leaves), layout))

    def _look(self, node: Node) -> None:
        """Trace what a call of the user's own code does with the tensors that it gets here."""
        args, kwargs = self.fetch_args_kwargs_from_env(node)
        call = self.fetch_attr(node.target) if node.op == "call_module" else node.target
        tensors = _tensors((args, kwargs))
        # A node may be an argument more than once, and its value may be several tensors.
        sources = [source for source in tensors_of(node.args, node.kwargs) for _ in _tensors(self.env[source])]

        def called(*values: torch.Tensor) -> Any:
            given = iter(values)
            swapped = tree_map(lambda v: next(given) if isinstance(v, torch.Tensor) else v, (args, kwargs))
            return call(*swapped[0], **swapped[1])

        try:
            graph = make_fx(called)(*tensors)
            self.recording.inside[node] = Inside(graph, record(graph, tensors), tuple(sources))
        except Exception:  # noqa: S110 - user's code may do what cannot be traced: it then counts as not seen
            pass


def record(program: GraphModule, inputs: Iterable[torch.Tensor], keep: Iterable[Node] = ()) -> Recording:
    """Run a program on `inputs` and note what each node gives.

    `keep` names the nodes whose values are wanted. Raises what the program raises.
    """
    return _run(program, inputs, keep, look_inside=True)


def replay(program: GraphModule, inputs: Iterable[torch.Tensor], keep: Iterable[Node]) -> Recording:
    """Run a program that was recorded before, for its outputs and the values of the nodes in `keep` alone."""
    return _run(program, inputs, keep, look_inside=False)


def _run(program: GraphModule, inputs: Iterable[torch.Tensor], keep: Iterable[Node], *, look_inside: bool) -> Recording:
    recorder = _Recorder(program, keep, look_inside=look_inside)
    with torch.no_grad():
        recorder.note_outputs(recorder.run(*inputs))
    return recorder.recording


def _layout(value: Any) -> str:
    """Return the shape of a nest of outputs; a tuple and a list of the same are alike, for exporters mix them."""
    if isinstance(value, tuple | list):
        return f"({', '.join(_layout(item) for item in value)})" if len(value) != 1 else _layout(value[0])
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_layout(item)}" for key, item in value.items()) + "}"
    return str(value)


def _tensors(value: Any) -> list[torch.Tensor]:
    return [leaf for leaf in _leaves(value) if isinstance(leaf, torch.Tensor)]


def _leaves(value: Any) -> list[Any]:
    return tree_flatten(value)[0]


def _info(value: Any) -> TensorInfo | list[TensorInfo | None] | None:
    if isinstance(value, torch.Tensor):
        return TensorInfo(value.dtype, tuple(value.shape))
    if isinstance(value, tuple | list):
        infos = [_info(item) for item in value]
        return [info if isinstance(info, TensorInfo) else None for info in infos]
    return None
