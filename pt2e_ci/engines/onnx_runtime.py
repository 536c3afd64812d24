"""ONNX Runtime's CPU provider, given a model between QuantizeLinear and DequantizeLinear, all optimizations on."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import onnxruntime

from pt2e_ci.engines.onnx_model import build
from pt2e_ci.engines.runtime import NotTakenError, Ran
from pt2e_ci.errors import one_line

if TYPE_CHECKING:
    from pt2e_ci.vectors.vector import Vector


class OnnxRuntime:
    """ONNX Runtime.

    Args:
        is_unsigned: whether activations are uint8.

    """

    def __init__(self, *, is_unsigned: bool = False) -> None:
        self._is_unsigned = is_unsigned

    def version(self) -> str:
        """Return the name and the version of the package."""
        return f"onnxruntime {onnxruntime.__version__}"

    def run(self, vector: Vector) -> Ran:
        """Run one vector; what ran is read off the optimized model."""
        model, feeds = build(vector.unsigned if self._is_unsigned else vector)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        # Without it, convolutions of int8 stay in float on x86.
        options.add_session_config_entry("session.qdqisint8allowed", "1")
        with tempfile.TemporaryDirectory() as folder:
            optimized = Path(folder, "optimized.onnx")
            options.optimized_model_filepath = str(optimized)
            providers = ["CPUExecutionProvider"]
            try:
                session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)
                (levels,) = session.run(None, feeds)
            except Exception as error:  # of classes of its own, which have no public base
                raise NotTakenError(one_line(str(error), 200)) from None
            kinds = [node.op_type for node in onnx.load(optimized).graph.node]
        given = vector.as_asked(levels) if self._is_unsigned else levels
        # What could not be fused with it computes on what it gives.
        in_float = " ".join(kinds) if "DequantizeLinear" in kinds else None
        return Ran(given, " ".join(kinds), in_float)


ENGINE = OnnxRuntime()
UNSIGNED = OnnxRuntime(is_unsigned=True)
