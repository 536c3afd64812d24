"""The list of cases. A row names a model of `pt2e_ci.catalogue.models` and says how it is quantized."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise, takewhile
from typing import TYPE_CHECKING, Any

from pt2e_ci.errors import InputError, kind_of_value, unknown
from pt2e_ci.plugins import load
from pt2e_ci.record.criteria import DEFAULT, Claim, Criteria

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Quantizer(StrEnum):
    """How a model is quantized, by the name of a quantizer of `pt2e_ci.quantizers`.

    With XNNPACK's, all is int8, and weights are in [-127, 127].
    """

    PER_TENSOR = "xnnpack_per_tensor"
    PER_CHANNEL = "xnnpack_per_channel"
    DYNAMIC = "xnnpack_dynamic"
    INT4_GROUPWISE = "int4_groupwise"
    """int4 weights with a scale for each group of a row, int8 activations with a scale for each token at run time."""

    @property
    def is_dynamic(self) -> bool:
        """Whether scales adapt to the input."""
        return self in (Quantizer.DYNAMIC, Quantizer.INT4_GROUPWISE)


class Inputs(StrEnum):
    """What a case is calibrated on, and judged on beside."""

    DRAWN = "drawn"
    """Uniform values."""
    PAIRS = "pairs"
    """Two square tensors that hold every pair of 256 values: all pairs of int8 levels."""
    ONE_SIDED = "one_sided"
    """The first tensor has no value below zero, the second none above: their zero points are at the two ends."""
    CONSTANT = "constant"
    """One value: all products of an accumulation have the same sign."""


@dataclass(frozen=True)
class SeedRule:
    """How upstream's own test of the same model judges it; the rule itself is in `seed_rule`.

    Attributes:
        scale_index: which quantize node of the Q/DQ program, from 1 and in the order of the graph, gives the
            step that the tolerance is twice of.
        tolerance: a fixed step, absolute, in place of that node's.
        reference_nodes: how often an operator must occur in the reference program, by its qualified name.
        qdq_nodes: the same for the Q/DQ program.

    """

    scale_index: int = 2
    tolerance: float | None = None
    reference_nodes: Mapping[str, int] = field(default_factory=dict)
    qdq_nodes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One model, its inputs, and how it is quantized and judged.

    Attributes:
        name: unique, and part of the pytest node id.
        family: the operator family, for grouping.
        model: a class in `pt2e_ci.catalogue.models`, or ``package.module:Class``.
        shapes: the shape of each input tensor.
        quantizer: how it is quantized.
        criteria: what it is held to.
        arguments: keyword arguments of the model.
        inputs: what it is calibrated on.
        input_exponents: by how many binary orders each input tensor is scaled up.
        more_inputs: further input sets (see `pt2e_ci.catalogue.inputs.MORE`) that it is judged on.
        parameter_exponents: by how many binary orders a parameter is scaled up.
        parameter_values: parameters that are filled with one value.
        dynamic_batch: whether the first dimension is exported as a dynamic one, and inputs of several sizes are judged.
        flows: the homes of the flow that have such a scheme; elsewhere the case is not run.
        needs: the capabilities (see `pt2e_ci.cells.capabilities`) without which the case is skipped.
        seed_rule: how upstream's test judges it; None for a case that upstream does not have.

    """

    name: str
    family: str
    model: str
    shapes: tuple[tuple[int, ...], ...]
    quantizer: Quantizer
    criteria: Criteria = DEFAULT
    arguments: Mapping[str, Any] = field(default_factory=dict)
    inputs: Inputs = Inputs.DRAWN
    input_exponents: tuple[int, ...] = ()
    more_inputs: tuple[str, ...] = ()
    parameter_exponents: Mapping[str, int] = field(default_factory=dict)
    parameter_values: Mapping[str, float] = field(default_factory=dict)
    flows: tuple[str, ...] = ("torch.ao", "torchao")
    dynamic_batch: bool = False
    # Upstream guards its tests with QNNPACK, whose kernels the quantizer's configuration describes.
    needs: tuple[str, ...] = ("qnnpack",)
    seed_rule: SeedRule | None = None


_IMAGE = (1, 3, 3, 3)
_Q_PER_CHANNEL = "quantized_decomposed.quantize_per_channel.default"
_DQ_PER_CHANNEL = "quantized_decomposed.dequantize_per_channel.default"
_Q_PER_TENSOR = "quantized_decomposed.quantize_per_tensor"
_DQ_PER_TENSOR = "quantized_decomposed.dequantize_per_tensor"


def _qdq_per_channel(dimensions: int) -> Case:
    """Only the q/dq nodes of a per-channel linear are to be rewritten: upstream has no rewrite for the rest."""
    return Case(
        f"qdq_per_channel_{dimensions}d",
        family="qdq",
        model="Linear",
        arguments={"in_features": 5, "out_features": 5},
        shapes=((1, *(3,) * (dimensions - 2), 5),),
        quantizer=Quantizer.PER_CHANNEL,
        criteria=Criteria(annotated=("linear",), claims=(Claim.QDQ,)),
        seed_rule=SeedRule(
            reference_nodes={_Q_PER_CHANNEL: 0, _DQ_PER_CHANNEL: 0},
            qdq_nodes={_Q_PER_CHANNEL: 0, _DQ_PER_CHANNEL: 1},
        ),
    )


UPSTREAM: tuple[Case, ...] = (
    Case(
        "static_linear",
        family="linear",
        model="Linear",
        arguments={"in_features": 5, "out_features": 5},
        shapes=((2, 5),),
        quantizer=Quantizer.PER_TENSOR,
        criteria=Criteria(annotated=("linear",)),
        seed_rule=SeedRule(),
    ),
    Case(
        "dynamic_linear",
        family="linear",
        model="Linear",
        arguments={"in_features": 5, "out_features": 5},
        shapes=((2, 5),),
        quantizer=Quantizer.DYNAMIC,
        criteria=Criteria(annotated=("linear",)),
        seed_rule=SeedRule(tolerance=1e-4),
    ),
    Case(
        "conv2d",
        family="conv",
        model="Conv2d",
        arguments={"in_channels": 3, "out_channels": 3, "kernel_size": 3},
        shapes=(_IMAGE,),
        quantizer=Quantizer.PER_TENSOR,
        criteria=Criteria(annotated=("conv2d",)),
        seed_rule=SeedRule(),
    ),
    Case(
        "add",
        family="elementwise",
        model="Add",
        shapes=(_IMAGE, _IMAGE),
        quantizer=Quantizer.PER_CHANNEL,
        criteria=Criteria(annotated=("add",)),
        seed_rule=SeedRule(),
    ),
    Case(
        "add_relu",
        family="elementwise",
        model="AddReLU",
        shapes=(_IMAGE, _IMAGE),
        quantizer=Quantizer.PER_CHANNEL,
        criteria=Criteria(annotated=("add",)),
        seed_rule=SeedRule(reference_nodes={"higher_order.out_dtype": 2}),
    ),
    Case(
        "maxpool2d",
        family="pooling",
        model="ConvMaxPool2d",
        shapes=((1, 2, 2, 2),),
        quantizer=Quantizer.PER_CHANNEL,
        criteria=Criteria(annotated=("conv2d", "max_pool2d")),
        seed_rule=SeedRule(),
    ),
    *(_qdq_per_channel(dimensions) for dimensions in (2, 3, 4, 5)),
    Case(
        "qdq",
        family="qdq",
        model="Add",
        shapes=(_IMAGE, _IMAGE),
        quantizer=Quantizer.PER_CHANNEL,
        criteria=Criteria(annotated=("add",), claims=(Claim.COMPUTE, Claim.QDQ)),
        seed_rule=SeedRule(
            # Upstream names the operators here without an overload, and no node's target ever is that.
            reference_nodes={_Q_PER_TENSOR: 0, _DQ_PER_TENSOR: 0},
            qdq_nodes={f"{_Q_PER_TENSOR}.default": 3, f"{_DQ_PER_TENSOR}.default": 3},
        ),
    ),
)


def _criteria(annotated: Iterable[str], fields: dict[str, Any]) -> Criteria:
    """Take the limits out of a row's fields."""
    return Criteria(annotated=tuple(annotated))


def _linear(name: str, in_features: int = 8, out_features: int = 4, *, batch: int = 4, **fields: Any) -> Case:
    arguments = {"in_features": in_features, "out_features": out_features} | fields.pop("arguments", {})
    defaults: dict[str, Any] = {"shapes": ((batch, in_features),), "quantizer": Quantizer.PER_TENSOR}
    defaults["criteria"] = _criteria(("linear",), fields)
    return Case(name, family="linear", model="Linear", arguments=arguments, **(defaults | fields))


def _conv2d(
    name: str,
    channels: int = 4,
    *,
    quantizer: Quantizer = Quantizer.PER_TENSOR,
    inputs: Inputs = Inputs.DRAWN,
    shape: tuple[int, ...] | None = None,
    **arguments: Any,
) -> Case:
    sizes = {"in_channels": channels, "out_channels": channels, "kernel_size": 3}
    return Case(
        name,
        family="conv",
        model="Conv2d",
        arguments=sizes | arguments,
        shapes=(shape or (1, channels, 6, 6),),
        inputs=inputs,
        quantizer=quantizer,
        criteria=Criteria(annotated=("conv2d",)),
    )


def _elementwise(name: str, model: str, *, operands: int = 2, annotated: str = "add", **fields: Any) -> Case:
    defaults: dict[str, Any] = {"shapes": (_IMAGE,) * operands, "quantizer": Quantizer.PER_TENSOR}
    defaults["criteria"] = _criteria((annotated,), fields)
    return Case(name, family="elementwise", model=model, **(defaults | fields))


def _after_conv(
    name: str, then: str, family: str, *, annotated: tuple[str, ...] = (), size: int = 5, **fields: Any
) -> Case:
    options = fields.pop("options", {})
    return Case(
        name,
        family=family,
        model="ConvThen",
        arguments={"then": then} | options,
        shapes=((2, 2, size, size + 1) if options else (1, 2, size, size),),
        quantizer=Quantizer.PER_TENSOR,
        criteria=_criteria(annotated or ("conv2d", then), fields),
        **fields,
    )


def _network(name: str, model: str, shape: tuple[int, ...], *annotated: str, **fields: Any) -> Case:
    return Case(
        name,
        family="network",
        model=model,
        shapes=(shape,),
        quantizer=Quantizer.PER_TENSOR,
        criteria=_criteria(annotated, fields),
        **fields,
    )


_SQUARE = ((256, 256), (256, 256))

_OPERATORS: tuple[Case, ...] = (
    _linear("linear_no_bias", arguments={"bias": False}),
    _linear("linear_relu", arguments={"relu": True}),
    _linear("linear_3d", shapes=((2, 3, 8),)),
    _linear("linear_large", 256, 64, batch=8),
    _linear("linear_per_channel", quantizer=Quantizer.PER_CHANNEL),
    _linear("linear_rounding", batch=16),
    _linear("linear_huge_bias", parameter_exponents={"linear.bias": 16, "linear.weight": -12}),
    _linear(
        "linear_long_accumulation",
        70_000,
        2,
        batch=1,
        inputs=Inputs.CONSTANT,
        parameter_values={"linear.weight": 0.5},
    ),
    # 66,000 products of 127 and 255 are the most that 32 bits hold.
    _linear(
        "linear_near_32_bits",
        66_000,
        2,
        batch=1,
        inputs=Inputs.CONSTANT,
        parameter_values={"linear.weight": 0.5},
    ),
    _linear("linear_dynamic_batch", dynamic_batch=True, needs=("qnnpack", "dynamic_shapes")),
    _linear("dynamic_linear_tiny", quantizer=Quantizer.DYNAMIC, arguments={"factor": 2.0**-20}),
    _linear("dynamic_linear_no_bias", quantizer=Quantizer.DYNAMIC, arguments={"bias": False}),
    _linear("dynamic_linear_wide", quantizer=Quantizer.DYNAMIC, more_inputs=("wide",)),
    _linear("dynamic_linear_ties", quantizer=Quantizer.DYNAMIC, more_inputs=("ties",)),
    # torchao multiplies by the reciprocal of the scale in float32 and so misses ties, a step of the input each.
    _linear("dynamic_linear_int4", 32, 8, quantizer=Quantizer.INT4_GROUPWISE, flows=("torchao",)),
    _conv2d("conv2d_no_bias", bias=False),
    _conv2d("conv2d_relu", relu=True),
    _conv2d("conv2d_padding", padding=1, inputs=Inputs.ONE_SIDED),
    _conv2d("conv2d_stride", stride=2),
    _conv2d("conv2d_dilation", dilation=2),
    _conv2d(
        "conv2d_uneven",
        out_channels=6,
        kernel_size=(3, 2),
        stride=(2, 1),
        padding=(1, 2),
        dilation=(1, 2),
        shape=(2, 4, 7, 6),
    ),
    _conv2d("same_conv2d", kernel_size=(3, 2), padding="same", shape=(2, 4, 5, 6)),
    _conv2d("conv2d_groups", groups=2),
    _conv2d("conv2d_depthwise", groups=4, padding=1),
    _conv2d("conv2d_per_channel", quantizer=Quantizer.PER_CHANNEL),
    _conv2d("conv2d_batch_norm", batch_norm=True),
    _elementwise("add_broadcast", "Add", shapes=((2, 3, 3), (3, 1))),
    _elementwise("add_self", "AddSelf", operands=1),
    _elementwise("add_pairs", "Add", shapes=_SQUARE, inputs=Inputs.PAIRS),
    _elementwise("add_one_sided", "Add", inputs=Inputs.ONE_SIDED),
    _elementwise("add_scales", "Add", input_exponents=(-4, 6)),
    _elementwise("add_infinite", "Add", more_inputs=("infinite",)),
    _elementwise("add_scalar", "AddScalar", operands=1),
    _elementwise("mul", "Mul", annotated="mul"),
    _elementwise("mul_scalar", "MulScalar", operands=1, annotated="mul"),
    _elementwise("mul_relu", "MulReLU", annotated="mul"),
    _elementwise("mul_pairs", "Mul", shapes=_SQUARE, inputs=Inputs.PAIRS, annotated="mul"),
    Case(
        "maxpool2d_window",
        family="pooling",
        model="ConvMaxPool2d",
        arguments={"kernel_size": 3, "stride": 2, "padding": 1},
        shapes=((1, 2, 5, 5),),
        quantizer=Quantizer.PER_TENSOR,
        criteria=Criteria(annotated=("conv2d", "max_pool2d")),
    ),
    Case(
        "maxpool2d_uneven",
        family="pooling",
        model="ConvMaxPool2d",
        arguments={
            "kernel_size": (3, 2),
            "stride": (2, 3),
            "padding": (1, 0),
            "dilation": (1, 2),
            "ceil_mode": True,
        },
        shapes=((2, 2, 7, 6),),
        quantizer=Quantizer.PER_TENSOR,
        criteria=Criteria(annotated=("conv2d", "max_pool2d")),
    ),
    # The quantizer has no word for an average pooling with a window: it quantizes what comes next.
    _after_conv("avg_pool2d", "avg_pool2d", "pooling", annotated=("conv2d", "conv2d")),
    _after_conv("adaptive_avg_pool2d", "adaptive_avg_pool2d", "pooling"),
    # Means of four levels on the input's own grid: a quarter of them are ties, exactly.
    _after_conv("adaptive_avg_pool2d_ties", "adaptive_avg_pool2d", "pooling", size=8),
    _after_conv("adaptive_avg_pool2d_uneven", "adaptive_avg_pool2d", "pooling", options={"size": (3, 2)}),
    _after_conv("mean", "mean", "pooling"),
    _after_conv("mean_keepdim", "mean", "pooling", options={"dims": (-1,), "keepdim": True}),
    _after_conv("hardtanh", "hardtanh", "activation"),
    _after_conv("hardtanh_wide", "hardtanh", "activation", options={"bounds": (-0.5, 0.0625)}),
    Case(
        "cat",
        family="join",
        model="Cat",
        shapes=(_IMAGE, _IMAGE),
        quantizer=Quantizer.PER_TENSOR,
        criteria=Criteria(annotated=("cat",)),
    ),
    Case(
        "cat_three",
        family="join",
        model="CatThree",
        shapes=((2, 3, 4), (2, 3, 1), (2, 3, 2)),
        input_exponents=(0, -4, 3),
        quantizer=Quantizer.PER_TENSOR,
        criteria=Criteria(annotated=("cat",)),
    ),
    Case(
        "cat_relu",
        family="join",
        model="CatReLU",
        shapes=(_IMAGE, _IMAGE),
        quantizer=Quantizer.PER_TENSOR,
        criteria=Criteria(annotated=("add", "cat")),
    ),
)

# A network's operators may each be off by one step, and pass that on.
_NETWORKS: tuple[Case, ...] = (
    _network("shared_linear", "Shared", (4, 8), *["linear"] * 2, arguments={"features": 8}),
    _network("two_heads", "Heads", (4, 8), *["linear"] * 2, arguments={"features": 8}),
    _network("running_sum", "RunningSum", (1, 8), arguments={"features": 8}),
    _network("mlp", "MLP", (4, 8), *["linear"] * 3, arguments={"features": 8}),
    _network("residual_block", "ResidualBlock", (1, 4, 6, 6), "conv2d", "conv2d", "add", arguments={"channels": 4}),
    _network(
        "inverted_residual",
        "InvertedResidual",
        (1, 4, 6, 6),
        *["conv2d", "hardtanh"] * 2,
        "conv2d",
        "add",
        arguments={"channels": 4, "expansion": 2},
    ),
    _network(
        "small_cnn",
        "SmallCNN",
        (1, 3, 8, 8),
        "conv2d",
        "max_pool2d",
        "conv2d",
        "mean",
        "linear",
        arguments={"classes": 4},
    ),
    _network("attention", "Attention", (1, 4, 8), *["linear"] * 4, "mul", arguments={"features": 8}),
)

CASES: tuple[Case, ...] = (*UPSTREAM, *_OPERATORS, *_NETWORKS)
"""All cases: those of upstream's own test first."""


def _deployed(name: str, model: str, shape: tuple[int, ...], **annotated: int) -> Case:
    """Return a case of a whole network; `annotated` says how many of each operator the quantizer must mark."""
    marked = tuple(operator for operator, count in annotated.items() for _ in range(count))
    return Case(
        name,
        family="deployed",
        model=f"pt2e_ci.catalogue.networks:{model}",
        shapes=(shape,),
        quantizer=Quantizer.PER_TENSOR,
        criteria=Criteria(annotated=marked),
    )


DEPLOYED: tuple[Case, ...] = (
    _deployed("mobilenet_v2", "MobileNetV2", (1, 3, 64, 64), conv2d=52, hardtanh=35, add=10, mean=1, linear=1),
    _deployed("resnet18", "ResNet18", (1, 3, 64, 64), conv2d=20, max_pool2d=1, add=8, adaptive_avg_pool2d=1, linear=1),
    _deployed("ds_cnn", "DepthwiseSeparable", (1, 1, 49, 10), conv2d=9, adaptive_avg_pool2d=1, linear=1),
    _deployed("transformer_block", "TransformerBlock", (1, 6, 32), linear=6, mul=1, add=2),
    _deployed("unet", "UNet", (1, 1, 16, 16), conv2d=11, max_pool2d=2, cat=2),
)
"""Networks that people ship, with inputs that are small: as ``--cases pt2e_ci.catalogue.cases:DEPLOYED``, not in the
suite, for they take minutes."""


def listed_cases(name: str | None = None) -> tuple[Case, ...]:
    """Return all cases, and after them those of a plugin's name.

    Raises:
        InputError: the plugin gives something else, or a case has the name of another.

    """
    if name is None:
        return CASES
    found = load("cases", name)
    mine = [found] if isinstance(found, Case) else [*found] if isinstance(found, Iterable) else []
    if not mine or not all(isinstance(case, Case) for case in mine):
        raise InputError(f"{name} is {kind_of_value(found)} that holds no pt2e_ci.catalogue.cases.Case: give some")
    names = [case.name for case in (*CASES, *mine)]
    if twice := next((one for one in names if names.count(one) > 1), None):
        raise InputError(f"{name} has a case {twice!r}, and there is one already: give it a name of its own")
    return (*CASES, *mine)


def case_names(listed: Sequence[Case] = CASES) -> list[str]:
    """Return the name of every case, in the order of the list."""
    return [case.name for case in listed]


def leading_names(arguments: Sequence[str]) -> list[str]:
    """Return the words before the first option, which name cases: after one, a word may be its value."""
    return list(takewhile(lambda argument: not argument.startswith("-"), arguments))


def cases_option(arguments: Sequence[str]) -> str | None:
    """Return what the option ``--cases`` names among arguments."""
    for one, following in pairwise([*arguments, ""]):
        if one == "--cases" or one.startswith("--cases="):
            return one.partition("=")[2] or following
    return None


def select_cases(names: Iterable[str], listed: Sequence[Case] = CASES) -> list[Case]:
    """Return the named cases in the order of the list; all of them where no name is given.

    Raises:
        InputError: a name is no case's.

    """
    wanted = set(names)
    for name in sorted(wanted):
        if name not in case_names(listed):
            raise unknown("case", name, case_names(listed))
    return [case for case in listed if not wanted or case.name in wanted]
