"""OpenVINO's CPU plugin, given the model that ONNX Runtime is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import openvino

from pt2e_ci.engines.onnx_model import build
from pt2e_ci.engines.runtime import NotTakenError, Ran
from pt2e_ci.errors import one_line

if TYPE_CHECKING:
    from pt2e_ci.vectors.vector import Vector

_NOTHING = {"Input", "Output", "Const", "Reorder", "Parameter", "Result", "Reshape"}


class OpenVino:
    """OpenVINO.

    Args:
        is_unsigned: whether activations are uint8.

    """

    def __init__(self, *, is_unsigned: bool = False) -> None:
        self._is_unsigned = is_unsigned
        self._core = openvino.Core()

    def version(self) -> str:
        """Return the name and the version of the package."""
        return f"openvino {openvino.__version__.partition('-')[0]}"

    def run(self, vector: Vector) -> Ran:
        """Run one vector; what ran is read off the runtime model."""
        model, feeds = build(vector.unsigned if self._is_unsigned else vector)
        settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        try:
            compiled = self._core.compile_model(self._core.read_model(model.SerializeToString()), "CPU", settings)
            levels = compiled([*feeds.values()])[0]
        except RuntimeError as error:
            raise NotTakenError(one_line(str(error), 200)) from None
        kernels, floats = [], []
        for node in compiled.get_runtime_model().get_ordered_ops():
            info = {name: str(value.astype(str)) for name, value in node.get_rt_info().items()}
            if info["layerType"] not in _NOTHING:
                kernels.append(f"{info['layerType']} {info['primitiveType']}")
                if info["primitiveType"].lower().endswith("f32"):
                    floats.append(kernels[-1])
        given = vector.as_asked(levels) if self._is_unsigned else levels
        return Ran(given, ", ".join(kernels), ", ".join(floats) or None)


ENGINE = OpenVino()
UNSIGNED = OpenVino(is_unsigned=True)
