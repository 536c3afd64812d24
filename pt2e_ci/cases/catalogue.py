"""The list of cases. A row names a model of `pt2e_ci.cases.models` and says how it is quantized."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pt2e_ci.errors import unknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Scheme(StrEnum):
    """The configurations of XNNPACK's symmetric quantizer: int8, with weights in [-127, 127]."""

    PER_TENSOR = "per_tensor"
    PER_CHANNEL = "per_channel"
    DYNAMIC = "dynamic"


class Claim(StrEnum):
    """What a case says that its reference program does."""

    COMPUTE = "compute"
    """Every compute operator that the quantizer annotated takes integer tensors."""
    QDQ = "qdq"
    """Every quantize and dequantize operator is spelled out in plain operators."""


@dataclass(frozen=True)
class SeedRule:
    """How upstream's own test of the same model judges it; the rule itself is in `checks.seed_rule`.

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
        model: a class in `pt2e_ci.cases.models`.
        shapes: the shape of each input tensor.
        scheme: the quantizer's configuration.
        annotated: the compute operators that the quantizer must annotate; one at least where none is named.
        arguments: keyword arguments of the model.
        claims: what the reference program must do for the case to pass.
        needs: the capabilities (see `pt2e_ci.capabilities`) without which the case is skipped.
        max_lsb: the largest difference allowed between the two programs, in steps of an output's own grid.
        max_absolute: the same for an output that is on no grid, in the output's own units.
        seed_rule: how upstream's test judges it.

    """

    name: str
    family: str
    model: str
    shapes: tuple[tuple[int, ...], ...]
    scheme: Scheme
    annotated: tuple[str, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    claims: tuple[Claim, ...] = (Claim.COMPUTE,)
    # Upstream guards its tests with QNNPACK, whose kernels the quantizer's configuration describes.
    needs: tuple[str, ...] = ("qnnpack",)
    max_lsb: float = 1
    max_absolute: float = 1e-4
    seed_rule: SeedRule = SeedRule()


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
        scheme=Scheme.PER_CHANNEL,
        annotated=("linear",),
        claims=(Claim.QDQ,),
        seed_rule=SeedRule(
            reference_nodes={_Q_PER_CHANNEL: 0, _DQ_PER_CHANNEL: 0},
            qdq_nodes={_Q_PER_CHANNEL: 0, _DQ_PER_CHANNEL: 1},
        ),
    )


CASES: tuple[Case, ...] = (
    Case(
        "static_linear",
        family="linear",
        model="Linear",
        arguments={"in_features": 5, "out_features": 5},
        shapes=((2, 5),),
        scheme=Scheme.PER_TENSOR,
        annotated=("linear",),
    ),
    Case(
        "dynamic_linear",
        family="linear",
        model="Linear",
        arguments={"in_features": 5, "out_features": 5},
        shapes=((2, 5),),
        scheme=Scheme.DYNAMIC,
        annotated=("linear",),
        seed_rule=SeedRule(tolerance=1e-4),
    ),
    Case(
        "conv2d",
        family="conv",
        model="Conv2d",
        arguments={"in_channels": 3, "out_channels": 3, "kernel_size": 3},
        shapes=(_IMAGE,),
        scheme=Scheme.PER_TENSOR,
        annotated=("conv2d",),
    ),
    Case(
        "add",
        family="elementwise",
        model="Add",
        shapes=(_IMAGE, _IMAGE),
        scheme=Scheme.PER_CHANNEL,
        annotated=("add",),
    ),
    Case(
        "add_relu",
        family="elementwise",
        model="AddReLU",
        shapes=(_IMAGE, _IMAGE),
        scheme=Scheme.PER_CHANNEL,
        annotated=("add",),
        seed_rule=SeedRule(reference_nodes={"higher_order.out_dtype": 2}),
    ),
    Case(
        "maxpool2d",
        family="pooling",
        model="ConvMaxPool2d",
        shapes=((1, 2, 2, 2),),
        scheme=Scheme.PER_CHANNEL,
        annotated=("conv2d", "max_pool2d"),
    ),
    *(_qdq_per_channel(dimensions) for dimensions in (2, 3, 4, 5)),
    Case(
        "qdq",
        family="qdq",
        model="Add",
        shapes=(_IMAGE, _IMAGE),
        scheme=Scheme.PER_CHANNEL,
        annotated=("add",),
        claims=(Claim.COMPUTE, Claim.QDQ),
        seed_rule=SeedRule(
            # Upstream names the operators here without an overload, and no node's target ever is that.
            reference_nodes={_Q_PER_TENSOR: 0, _DQ_PER_TENSOR: 0},
            qdq_nodes={f"{_Q_PER_TENSOR}.default": 3, f"{_DQ_PER_TENSOR}.default": 3},
        ),
    ),
)


def case_names() -> list[str]:
    """Return the name of every case, in the order of the list."""
    return [case.name for case in CASES]


def select_cases(names: Iterable[str]) -> list[Case]:
    """Return the named cases in the order of the list; all of them where no name is given.

    Raises:
        InputError: a name is no case's.

    """
    wanted = set(names)
    for name in sorted(wanted):
        if name not in case_names():
            raise unknown("case", name, case_names())
    return [case for case in CASES if not wanted or case.name in wanted]
