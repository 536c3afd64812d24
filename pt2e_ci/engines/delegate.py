"""ExecuTorch's XNNPACK delegate as one more engine: a whole Q/DQ program, as a phone runs it.

It is measured where ExecuTorch is installed beside torch, end to end against the exact result.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch

from pt2e_ci.errors import one_line
from pt2e_ci.operators.names import name_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.fx import GraphModule


class Delegate:
    """A Q/DQ program lowered to ExecuTorch.

    Attributes:
        skipped: operators that stayed outside of the delegate, or the program, each with the reason; the program is
            not measured then, for what is not delegated is not XNNPACK's.

    """

    def __init__(self, qdq: GraphModule, inputs: Sequence[torch.Tensor]) -> None:
        self.skipped: dict[str, str] = {}
        self._method: Any = None
        try:
            self._lower(qdq, tuple(inputs))
        except Exception as error:  # whatever the exporter, the partitioner or the runtime raise
            self.skipped["program"] = one_line(error, 200)

    def _lower(self, qdq: GraphModule, inputs: tuple[torch.Tensor, ...]) -> None:
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower
        from executorch.runtime import Runtime

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exported = torch.export.export(qdq, inputs)
            edge = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
        calls = [node for node in edge.exported_program().graph.nodes if node.op == "call_function"]
        outside = {name_of(node.target) for node in calls} - {"executorch_call_delegate", "getitem"}
        self.skipped.update(dict.fromkeys(sorted(outside), "it stayed outside of the delegate"))
        if not self.skipped:
            self._program = edge.to_executorch()  # its buffer must outlive the method
            self._method = Runtime.get().load_program(self._program.buffer).load_method("forward")

    def run(self, inputs: Sequence[Any]) -> list[torch.Tensor] | None:
        """Return the program's outputs on one input set; None if it could not be delegated whole."""
        if self._method is None:
            return None
        return [output.clone() for output in self._method.execute([*inputs])]
