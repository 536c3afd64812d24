"""LiteRT's kernels, reference, optimized and XNNPACK's, given a flatbuffer of one operator.

It is written with the schema that LiteRT ships, so that no converter stands between the vector and the kernel.
"""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from pt2e_ci.engines.runtime import NotTakenError, Ran
from pt2e_ci.errors import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pt2e_ci.vectors.vector import Array, Grid, Vector

_TYPES = {"int8": schema.TensorType.INT8, "int16": schema.TensorType.INT16, "int32": schema.TensorType.INT32}

# What each operator is in LiteRT: its code, its version for int8, its options.
_CODES: dict[str, tuple[str, int, str | None]] = {
    "add": ("ADD", 2, "AddOptions"),
    "sub": ("SUB", 3, "SubOptions"),
    "mul": ("MUL", 2, "MulOptions"),
    "maximum": ("MAXIMUM", 2, "MaximumMinimumOptions"),
    "minimum": ("MINIMUM", 2, "MaximumMinimumOptions"),
    "linear": ("FULLY_CONNECTED", 4, "FullyConnectedOptions"),
    "conv2d": ("CONV_2D", 3, "Conv2DOptions"),
    "depthwise": ("DEPTHWISE_CONV_2D", 3, "DepthwiseConv2DOptions"),
    "matmul": ("BATCH_MATMUL", 2, "BatchMatMulOptions"),
    "cat": ("CONCATENATION", 2, "ConcatenationOptions"),
    "requantize": ("QUANTIZE", 2, "QuantizeOptions"),
    "relu": ("RELU", 2, None),
    "relu6": ("RELU6", 2, None),
    "leaky_relu": ("LEAKY_RELU", 2, "LeakyReluOptions"),
    "hardswish": ("HARD_SWISH", 1, "HardSwishOptions"),
    "max_pool2d": ("MAX_POOL_2D", 2, "Pool2DOptions"),
    "avg_pool2d": ("AVERAGE_POOL_2D", 2, "Pool2DOptions"),
    "mean": ("MEAN", 2, "ReducerOptions"),
}
_ON_INPUT_GRID = {"maximum", "minimum", "max_pool2d", "avg_pool2d", "cat"}
_IMAGES = {"conv2d", "max_pool2d", "avg_pool2d", "mean"}


class LiteRt:
    """LiteRT with one set of kernels.

    Args:
        kernels: which.
        name: what they are called.

    """

    def __init__(self, kernels: Any, name: str) -> None:
        self._kernels, self._name = kernels, name

    def version(self) -> str:
        """Return the name and the version of the package."""
        return f"ai-edge-litert {metadata.version('ai-edge-litert')}"

    def run(self, vector: Vector) -> Ran:
        """Run one vector; what ran is read off the interpreter's plan."""
        is_image = vector.operator in _IMAGES
        feeds = [_channels_last(one.levels) if is_image else one.levels for one in vector.operands]
        content = _Model(vector, feeds).content()
        try:
            interpreter = Interpreter(model_content=content, experimental_op_resolver_type=self._kernels, num_threads=1)
            interpreter.allocate_tensors()
            for detail, value in zip(interpreter.get_input_details(), feeds, strict=True):
                interpreter.set_tensor(detail["index"], value)
            interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise NotTakenError(one_line(str(error), 200)) from None
        names = [detail["op_name"] for detail in interpreter._get_ops_details()]
        if self._kernels is OpResolverType.AUTO:
            if not any("DELEGATE" in name.upper() for name in names):
                raise NotTakenError("XNNPACK did not take it")
            names = [name for name in names if "DELEGATE" in name.upper()]
        levels = interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).copy()
        return Ran(np.moveaxis(levels, 3, 1) if is_image else levels, f"{' '.join(names)} ({self._name})")


class _Model:
    """A flatbuffer of one operator."""

    def __init__(self, vector: Vector, feeds: Sequence[Array]) -> None:
        self._model, self._graph = schema.ModelT(), schema.SubGraphT()
        self._model.version, self._model.buffers, self._graph.tensors = 3, [schema.BufferT()], []
        operator = schema.OperatorT()
        operator.inputs = [
            self._tensor(f"x{index}", levels, one.grid)
            for index, (levels, one) in enumerate(zip(feeds, vector.operands, strict=True))
        ]
        self._graph.inputs = [*operator.inputs]
        name = _name(vector)
        code, version, options = _CODES[name]
        operator.inputs += self._constants(vector, name)
        operator.opcodeIndex = 0
        if options is not None:
            made = getattr(schema, f"{options}T")()
            _fill(made, vector, name)
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, options)
            operator.builtinOptions = made
        shape = _shape(vector, feeds, name)
        operator.outputs = [self._tensor("output", np.zeros(shape, dtype=vector.output.dtype), vector.output)]
        self._graph.outputs = [*operator.outputs]
        entry = schema.OperatorCodeT()
        entry.builtinCode = getattr(schema.BuiltinOperator, code)
        entry.deprecatedBuiltinCode = min(entry.builtinCode, 127)
        by_channel = vector.weight is not None and len(vector.weight.scales) > 1
        entry.version = 12 if name == "linear" and by_channel else version
        self._graph.operators, self._model.subgraphs, self._model.operatorCodes = [operator], [self._graph], [entry]

    def content(self) -> bytes:
        """Return the flatbuffer."""
        builder = flatbuffers.Builder(1024)
        builder.Finish(self._model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _constants(self, vector: Vector, name: str) -> list[int]:
        if name == "mean":
            return [self._constant("axes", np.array([1, 2], dtype=np.int32))]
        if vector.weight is None:
            return []
        weight, axis = vector.weight.levels, 0
        if name == "conv2d":
            weight = _channels_last(weight)
        if name == "depthwise":
            weight, axis = np.ascontiguousarray(np.moveaxis(weight[:, 0], 0, 2)[None]), 3
        scales = np.array([float(scale) for scale in vector.weight.scales], dtype=np.float32)
        found = [self._constant("weight", weight, scales, axis)]
        bias = np.zeros(len(vector.weight.levels), dtype=np.int32) if vector.bias is None else vector.bias
        return [*found, self._constant("bias", bias, np.float32(float(vector.operands[0].grid.scale)) * scales)]

    def _constant(self, name: str, array: Array, scales: Sequence[float] | Array = (), axis: int = 0) -> int:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        self._model.buffers.append(buffer)
        return self._add(name, array, scales, [0] * len(scales), axis, len(self._model.buffers) - 1)

    def _tensor(self, name: str, levels: Array, grid: Grid) -> int:
        return self._add(name, levels, [float(grid.scale)], [grid.zero_point])

    def _add(
        self,
        name: str,
        array: Array,
        scales: Sequence[float] | Array,
        points: Sequence[int],
        axis: int = 0,
        buffer: int = 0,
    ) -> int:
        tensor, quantization = schema.TensorT(), schema.QuantizationParametersT()
        quantization.scale, quantization.zeroPoint = np.asarray(scales, np.float32), np.asarray(points, np.int64)
        quantization.quantizedDimension = axis
        tensor.name, tensor.shape, tensor.type = name, np.asarray(array.shape, np.int32), _TYPES[array.dtype.name]
        tensor.quantization, tensor.buffer = quantization, buffer
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1


def _name(vector: Vector) -> str:
    """Return what a vector's operator is here.

    Raises:
        NotTakenError: it is nothing.

    """
    options = vector.options
    if vector.operator == "conv2d" and options["groups"] != 1:
        return "depthwise"
    if vector.operator == "hardtanh" and (options["min_val"], options["max_val"]) == (0.0, 6.0):
        return "relu6"
    if vector.operator not in _CODES:
        raise NotTakenError(f"LiteRT has no {vector.operator}")
    return vector.operator


def _fill(made: Any, vector: Vector, name: str) -> None:
    """Set an operator's options."""
    options: Any = vector.options
    _check(made, vector, name)
    if name in ("conv2d", "depthwise"):
        same = options["padding"] * 2 == vector.weight.levels.shape[2] - 1 if vector.weight else False
        if options["padding"] and not (same and options["stride"] == 1):
            raise NotTakenError("LiteRT pads to the input's size, or not at all")
        made.padding = schema.Padding.SAME if options["padding"] else schema.Padding.VALID
        made.strideH = made.strideW = options["stride"]
        made.dilationHFactor = made.dilationWFactor = 1
        if name == "depthwise":
            made.depthMultiplier = 1
    elif name in ("max_pool2d", "avg_pool2d"):
        made.padding = schema.Padding.VALID
        made.filterHeight = made.filterWidth = options["kernel_size"]
        made.strideH = made.strideW = options["stride"]
    elif name == "leaky_relu":
        made.alpha = options["negative_slope"]
    elif name == "cat":
        made.axis = options["dim"]
    elif name == "mean":
        made.keepDims = True


def _check(made: Any, vector: Vector, name: str) -> None:
    """Fuse a ReLU, where there is one.

    Raises:
        NotTakenError: it cannot be fused, or the kernel takes other grids for granted.

    """
    if vector.output.has_relu:
        if not hasattr(made, "fusedActivationFunction"):
            raise NotTakenError(f"LiteRT fuses no ReLU into {name}")
        made.fusedActivationFunction = schema.ActivationFunctionType.RELU
    if name in _ON_INPUT_GRID and any(one.grid != vector.output for one in vector.operands):
        # The kernel does not look at grids, and the converter sees to it that there is only one.
        raise NotTakenError(f"LiteRT's {name} wants one grid for all operands and the result")


def _shape(vector: Vector, feeds: Sequence[Array], name: str) -> tuple[int, ...]:
    """Return the shape of a result, channels last."""
    shape = feeds[0].shape
    if name == "linear" and vector.weight is not None:
        return (*shape[:-1], len(vector.weight.levels))
    if name == "matmul":
        return (*shape[:-1], feeds[1].shape[-1])
    if name == "cat":
        dim: Any = vector.options["dim"]
        return tuple(sum(one.shape[dim] for one in feeds) if axis == dim else size for axis, size in enumerate(shape))
    if name == "mean":
        return (shape[0], 1, 1, shape[3])
    if name in ("conv2d", "depthwise", "max_pool2d", "avg_pool2d"):
        options: Any = vector.options
        size = vector.weight.levels.shape[2] if vector.weight else options["kernel_size"]
        reach = 2 * options.get("padding", 0) - size
        height, width = ((length + reach) // options["stride"] + 1 for length in shape[1:3])
        return (shape[0], height, width, len(vector.weight.levels) if vector.weight else shape[3])
    return tuple(shape)


def _channels_last(array: Array) -> Array:
    return np.ascontiguousarray(np.moveaxis(array, 1, 3))


REFERENCE = LiteRt(OpResolverType.BUILTIN_REF, "reference")
OPTIMIZED = LiteRt(OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES, "optimized")
XNNPACK = LiteRt(OpResolverType.AUTO, "XNNPACK")
