"""Running a program node by node, to see the dtypes that its operators really take."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import GraphModule, Interpreter, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_flatten

from pt2e_ci.operators import is_opaque

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


@dataclass
class Recording:
    """What one run of a program showed.

    Attributes:
        outputs: the leaves of the program's output, in order.
        tensors: what each node gave: one `TensorInfo`, a list of them, or nothing for a node without tensors.
        inside: for a node that calls code of the user's own, the graph of what it did, and its recording.
        kept: the values of the nodes that were to be kept.

    """

    outputs: list[Any] = field(default_factory=list)
    tensors: dict[Node, TensorInfo | list[TensorInfo | None] | None] = field(default_factory=dict)
    inside: dict[Node, tuple[GraphModule, Recording]] = field(default_factory=dict)
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

    def _look(self, node: Node) -> None:
        """Trace what a call of the user's own code does with the tensors that it gets here."""
        args, kwargs = self.fetch_args_kwargs_from_env(node)
        call = self.fetch_attr(node.target) if node.op == "call_module" else node.target
        flat, _ = tree_flatten((args, kwargs))
        tensors = [value for value in flat if isinstance(value, torch.Tensor)]

        def called(*values: torch.Tensor) -> Any:
            given = iter(values)

            def swap(value: Any) -> Any:
                return next(given) if isinstance(value, torch.Tensor) else value

            swapped = torch.utils._pytree.tree_map(swap, (args, kwargs))
            return call(*swapped[0], **swapped[1])

        try:
            graph = make_fx(called)(*tensors)
            self.recording.inside[node] = (graph, record(graph, tensors))
        except Exception:  # noqa: S110 - user's code may do what cannot be traced; it is then judged as one operator
            pass


def record(program: GraphModule, inputs: Iterable[torch.Tensor], keep: Iterable[Node] = ()) -> Recording:
    """Run a program on `inputs` and note what each node gives.

    `keep` names the nodes whose values are wanted. Raises what the program raises.
    """
    recorder = _Recorder(program, keep, look_inside=True)
    with torch.no_grad():
        recorder.recording.outputs = _leaves(recorder.run(*inputs))
    return recorder.recording


def replay(program: GraphModule, inputs: Iterable[torch.Tensor], keep: Iterable[Node]) -> Recording:
    """Run a program that was recorded before, for its outputs and the values of the nodes in `keep` alone."""
    recorder = _Recorder(program, keep, look_inside=False)
    with torch.no_grad():
        recorder.recording.outputs = _leaves(recorder.run(*inputs))
    return recorder.recording


def _leaves(value: Any) -> list[Any]:
    return tree_flatten(value)[0]


def _info(value: Any) -> TensorInfo | list[TensorInfo | None] | None:
    if isinstance(value, torch.Tensor):
        return TensorInfo(value.dtype, tuple(value.shape))
    if isinstance(value, tuple | list):
        infos = [_info(item) for item in value]
        return [info if isinstance(info, TensorInfo) else None for info in infos]
    return None
