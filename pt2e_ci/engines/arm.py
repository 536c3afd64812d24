"""ExecuTorch's Arm backend: TOSA's reference model, and the operators of Cortex-M, which torch emulates.

Both take a Q/DQ program with a bias of int32, and an operator only with the mark that Arm's quantizers leave on it.
"""

from __future__ import annotations

import warnings
from importlib import metadata
from typing import TYPE_CHECKING, Any

import torch

from pt2e_ci.engines.lowered import Between, floats_of, quantize
from pt2e_ci.engines.runtime import NotTakenError, Ran
from pt2e_ci.errors import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pt2e_ci.vectors.vector import Vector

_SPECIFICATION = "TOSA-1.0+INT"
# Arm's quantizers give their result and their operands one grid, which the backend takes for granted.
_ON_INPUT_GRID = frozenset(("relu", "hardtanh", "mean", "avg_pool2d", "max_pool2d", "cat"))


def _exported(vector: Vector, floats: Sequence[torch.Tensor], on_input_grid: frozenset[str] = _ON_INPUT_GRID) -> Any:
    if vector.operator in on_input_grid and any(one.grid != vector.output for one in vector.operands):
        raise NotTakenError(f"Arm's quantizers give {vector.operator}'s operands and its result one grid")
    exported = torch.export.export(Between(vector, int32_bias=True).eval(), tuple(floats))
    for node in exported.graph.nodes:
        if node.op == "call_function" and "quantize" not in str(node.target):
            node.meta.setdefault("custom", {})["_arm_annotation_info"] = {"quantized": True}
    return exported


class Tosa:
    """TOSA's reference model, through the delegate that Arm's backend makes."""

    def version(self) -> str:
        """Return the names and the versions of the packages."""
        return f"tosa-tools {metadata.version('tosa-tools')}, executorch {metadata.version('executorch')}"

    def run(self, vector: Vector) -> Ran:
        """Run one vector, if the delegate takes all of it."""
        from executorch.backends.arm.test.runner_utils import TosaReferenceModelDispatch
        from executorch.backends.arm.tosa.compile_spec import TosaCompileSpec
        from executorch.backends.arm.tosa.partitioner import TOSAPartitioner
        from executorch.exir import to_edge_transform_and_lower

        floats = floats_of(vector)
        try:
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")
                partitioner = TOSAPartitioner(TosaCompileSpec(_SPECIFICATION))
                edge = to_edge_transform_and_lower(_exported(vector, floats), partitioner=[partitioner])
                calls = {str(node.target) for node in edge.exported_program().graph.nodes if node.op == "call_function"}
                outside = [name for name in calls if not any(word in name for word in _AROUND)]
                if outside or not any("delegate" in name for name in calls):
                    raise NotTakenError(
                        f"it stayed outside of the delegate: {', '.join(sorted(outside)) or 'all of it'}"
                    )
                module = edge.exported_program().module()
                with TosaReferenceModelDispatch():
                    found = module(*floats)
        except NotTakenError:
            raise
        except Exception as error:  # whatever the backend raises
            raise NotTakenError(one_line(error, 200)) from None
        found = found[0] if isinstance(found, list | tuple) else found
        # The specification has integers alone, so nothing of it is in float.
        return Ran(quantize(found, vector.output).numpy(), f"{_SPECIFICATION} reference model")


_AROUND = ("delegate", "getitem", "quantize")


class CortexM:
    """The operators of Cortex-M, CMSIS-NN's, as ExecuTorch emulates them in torch."""

    def version(self) -> str:
        """Return the name and the version of the package."""
        return f"executorch {metadata.version('executorch')}"

    def run(self, vector: Vector) -> Ran:
        """Run one vector; what ran is read off the lowered graph."""
        from executorch.backends.cortex_m.passes.cortex_m_pass_manager import CortexMPassManager
        from executorch.exir import EdgeCompileConfig, to_edge

        floats = [one.to(memory_format=torch.channels_last) if one.dim() == 4 else one for one in floats_of(vector)]
        try:
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")
                config = EdgeCompileConfig(
                    preserve_ops=[torch.ops.aten.linear.default, torch.ops.aten.hardsigmoid.default],
                    _check_ir_validity=False,
                    _core_aten_ops_exception_list=[torch.ops.aten.max_pool2d.default],
                )
                exported = _exported(vector, floats, _ON_INPUT_GRID | {"maximum", "minimum"})
                edge = to_edge(exported, compile_config=config)
                program = CortexMPassManager(edge.exported_program()).transform()
                found = program.module()(*floats)
        except NotTakenError:
            raise
        except Exception as error:  # whatever the backend raises
            raise NotTakenError(one_line(error, 200)) from None
        calls = [node.target for node in program.graph.nodes if node.op == "call_function"]
        names = [target.name() for target in calls if hasattr(target, "name")]  # others allocate memory
        kernels = [name for name in names if "cortex_m" in name and "quantize_per_tensor" not in name]
        left = [name for name in names if "quantize" not in name and "cortex_m" not in name and "getitem" not in name]
        if not kernels:
            raise NotTakenError(f"Cortex-M has no operator for it: {', '.join(left) or 'it stays as it is'}")
        return Ran(quantize(found, vector.output).numpy(), " ".join(kernels), " ".join(left) or None)


TOSA, CORTEX_M = Tosa(), CortexM()
