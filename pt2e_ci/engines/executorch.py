"""ExecuTorch's XNNPACK delegate, given a vector's Q/DQ program from float to float, as users lower theirs."""

from __future__ import annotations

import warnings
from importlib import metadata
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch

from pt2e_ci.engines.lowered import Between, floats_of, quantize
from pt2e_ci.engines.runtime import NotTakenError, Ran
from pt2e_ci.errors import one_line
from pt2e_ci.operators.names import name_of

if TYPE_CHECKING:
    from pt2e_ci.vectors.vector import Vector


class Xnnpack:
    """The delegate."""

    def version(self) -> str:
        """Return the name and the version of the package."""
        return f"executorch {metadata.version('executorch')}"

    def run(self, vector: Vector) -> Ran:
        """Run one vector, if the delegate takes all of it."""
        from executorch.backends.xnnpack import xnnpack_preprocess
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower
        from executorch.runtime import Runtime

        floats = floats_of(vector)
        graphs: list[Any] = []
        serialize = xnnpack_preprocess.serialize_xnnpack_binary

        def noted(graph: Any, *others: Any) -> Any:
            graphs.append(graph)
            return serialize(graph, *others)

        try:
            # The delegate is bytes afterwards; what its operators compute on stands in the graph that they are made of.
            with (
                warnings.catch_warnings(),
                torch.no_grad(),
                mock.patch.object(xnnpack_preprocess, "serialize_xnnpack_binary", noted),
            ):
                warnings.simplefilter("ignore")
                exported = torch.export.export(Between(vector).eval(), floats)
                edge = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
        except NotTakenError:
            raise
        except Exception as error:  # whatever the exporter and the partitioner raise
            raise NotTakenError(one_line(error, 200)) from None
        calls = [node for node in edge.exported_program().graph.nodes if node.op == "call_function"]
        outside = {name_of(node.target) for node in calls} - {"executorch_call_delegate", "getitem"}
        if outside:
            raise NotTakenError(f"it stayed outside of the delegate: {', '.join(sorted(outside))}")
        program = edge.to_executorch()  # its buffer must outlive the method
        try:
            (found,) = Runtime.get().load_program(program.buffer).load_method("forward").execute([*floats])
        except RuntimeError as error:  # XNNPACK itself may refuse what the partitioner has given it
            raise NotTakenError(one_line(error, 200)) from None
        kernels, in_float = _kernels(graphs)
        return Ran(quantize(found.clone(), vector.output).numpy(), kernels, in_float)


def _kernels(graphs: list[Any]) -> tuple[str, str | None]:
    """Name the operators of XNNPACK graphs, and those of them that give float32, but for conversions."""
    names, floats = [], []
    for graph in graphs:
        dtypes = {}
        for value in graph.xvalues:
            tensor = value.xvalue_union
            tensor = getattr(tensor, "tensor_value", tensor)
            dtypes[tensor.id_out] = tensor.datatype.name.removeprefix("xnn_datatype_")
        for node in graph.xnodes:
            name, dtype = type(node.xnode_union).__name__, dtypes[node.xnode_union.output_id]
            names.append(f"{name} {dtype}")
            if dtype.startswith("fp") and name != "XNNConvert":
                floats.append(names[-1])
    # From one grid to another by way of float32.
    if names and all(one.startswith("XNNConvert") for one in names) and any(one.endswith("fp32") for one in names[:-1]):
        floats = names
    return ", ".join(names), ", ".join(floats) or None


XNNPACK = Xnnpack()
