"""A vector as an ONNX model of one operator between QuantizeLinear and DequantizeLinear, as converters write it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from pt2e_ci.engines.runtime import NotTakenError

if TYPE_CHECKING:
    from collections.abc import Callable

    from onnx import ModelProto

    from pt2e_ci.vectors.vector import Array, Grid, Vector

_OPSETS = (helper.make_opsetid("", 17),)
_IR = 9
_TYPES = {"int8": TensorProto.INT8, "uint8": TensorProto.UINT8}

# What each operator is in ONNX, and its attributes by what the vector's options say.
_NODES: dict[str, tuple[str, Callable[[Any], dict[str, Any]]]] = {
    "linear": ("Gemm", lambda options: {"transB": 1}),
    "conv2d": (
        "Conv",
        lambda options: {
            "strides": [options["stride"]] * 2,
            "pads": [options["padding"]] * 4,
            "group": options["groups"],
        },
    ),
    "matmul": ("MatMul", lambda options: {}),
    "add": ("Add", lambda options: {}),
    "sub": ("Sub", lambda options: {}),
    "mul": ("Mul", lambda options: {}),
    "maximum": ("Max", lambda options: {}),
    "minimum": ("Min", lambda options: {}),
    "cat": ("Concat", lambda options: {"axis": options["dim"]}),
    "relu": ("Relu", lambda options: {}),
    "hardtanh": ("Clip", lambda options: {}),
    "leaky_relu": ("LeakyRelu", lambda options: {"alpha": options["negative_slope"]}),
    "hardsigmoid": ("HardSigmoid", lambda options: {"alpha": 1 / 6, "beta": 0.5}),
    "hardswish": ("HardSwish", lambda options: {}),
    "max_pool2d": ("MaxPool", lambda options: _window(options)),
    "avg_pool2d": ("AveragePool", lambda options: _window(options)),
    "mean": ("GlobalAveragePool", lambda options: {}),
}


def _window(options: Any) -> dict[str, Any]:
    return {"kernel_shape": [options["kernel_size"]] * 2, "strides": [options["stride"]] * 2}


class _Builder:
    def __init__(self) -> None:
        self.initializers: list[Any] = []
        self.nodes: list[Any] = []

    def constant(self, name: str, value: Any) -> str:
        self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def grid(self, name: str, grid: Grid) -> list[str]:
        """Return a grid's scale and zero point, by name."""
        point = self.constant(f"{name}_zero_point", np.array(grid.zero_point, dtype=grid.dtype))
        return [self.constant(f"{name}_scale", np.float32(float(grid.scale))), point]

    def weight(self, vector: Vector) -> list[str]:
        """Return a weight, and a bias where there is one, dequantized."""
        assert vector.weight is not None  # noqa: S101 - the caller looked
        scales = np.array([float(scale) for scale in vector.weight.scales], dtype=np.float32)
        by_channel = len(scales) > 1
        axis = {"axis": 0} if by_channel else {}
        given = scales if by_channel else scales[0]

        def zeros(dtype: Any) -> Array:
            return np.zeros(len(scales) if by_channel else (), dtype=dtype)

        names = [self.constant("weight", vector.weight.levels), self.constant("weight_scale", given)]
        names.append(self.constant("weight_zero_point", zeros(np.int8)))
        found = [self.node("DequantizeLinear", names, "weight_in_float", **axis)]
        if vector.bias is not None:
            unit = np.float32(np.float32(float(vector.operands[0].grid.scale)) * given)
            names = [self.constant("bias", vector.bias), self.constant("bias_scale", unit)]
            names.append(self.constant("bias_zero_point", zeros(np.int32)))
            found.append(self.node("DequantizeLinear", names, "bias_in_float", **axis))
        return found


def build(vector: Vector) -> tuple[ModelProto, dict[str, Array]]:
    """Return a model, and what to feed it.

    Raises:
        NotTakenError: ONNX has no such operator.

    """
    builder = _Builder()
    feeds: dict[str, Array] = {}
    given = []
    for index, operand in enumerate(vector.operands):
        name = f"x{index}"
        feeds[name] = operand.levels
        given.append(builder.node("DequantizeLinear", [name, *builder.grid(name, operand.grid)], f"{name}_in_float"))
    if vector.weight is not None:
        given += builder.weight(vector)
    if vector.operator == "hardtanh":
        options: Any = vector.options
        given += [builder.constant(name, np.float32(options[name])) for name in ("min_val", "max_val")]
    result = given[0]
    if vector.operator != "requantize":
        if vector.operator not in _NODES:
            raise NotTakenError(f"ONNX has no {vector.operator}")
        kind, attributes = _NODES[vector.operator]
        result = builder.node(kind, given, "result", **attributes(vector.options))
    if vector.output.has_relu:
        result = builder.node("Relu", [result], "positive")
    builder.node("QuantizeLinear", [result, *builder.grid("output", vector.output)], "output")
    inputs = [
        helper.make_tensor_value_info(name, _TYPES[levels.dtype.name], levels.shape) for name, levels in feeds.items()
    ]
    outputs = [helper.make_tensor_value_info("output", _TYPES[vector.output.dtype], None)]
    graph = helper.make_graph(builder.nodes, vector.name, inputs, outputs, builder.initializers)
    return helper.make_model(graph, opset_imports=_OPSETS, ir_version=_IR), feeds
