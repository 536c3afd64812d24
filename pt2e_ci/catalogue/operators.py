"""One small model for each operator that a quantizer may annotate: what the table of quantizers is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

_SEED = 0


@dataclass(frozen=True)
class Operator:
    """A model around one operator.

    Attributes:
        name: of the operator, as reports call it.
        make: makes the model.
        shapes: of its inputs.
        is_positive: whether its inputs are above 0, for what has no value elsewhere.

    """

    name: str
    make: Callable[[], nn.Module]
    shapes: tuple[tuple[int, ...], ...]
    is_positive: bool = False

    def model(self) -> nn.Module:
        """Return the model, in eval mode, with weights that are the same each time."""
        torch.manual_seed(_SEED)
        return self.make().eval()

    def inputs(self) -> tuple[torch.Tensor, ...]:
        """Return the inputs of a call: normal numbers, from 0.1 on where they must be above 0."""
        generator = torch.Generator().manual_seed(_SEED)
        drawn = [torch.randn(shape, generator=generator) for shape in self.shapes]
        return tuple(one.abs() + 0.1 if self.is_positive else one for one in drawn)


class _Call(nn.Module):
    """A function as a model."""

    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *given: torch.Tensor) -> torch.Tensor:
        return self.function(*given)


_VALUES = ((2, 3, 4, 5),)
_IMAGES = ((2, 4, 6, 6),)
_PAIR = ((2, 3, 4), (2, 3, 4))


def _of(
    name: str, function: Callable[..., Any], shapes: tuple[tuple[int, ...], ...] = _VALUES, *, is_positive: bool = False
) -> Operator:
    return Operator(name, lambda: _Call(function), shapes, is_positive)


OPERATORS: tuple[Operator, ...] = (
    Operator("linear", lambda: nn.Linear(6, 5), ((3, 6),)),
    Operator("conv1d", lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1), ((2, 4, 9),)),
    Operator("conv2d", lambda: nn.Conv2d(4, 6, 3, padding=1), _IMAGES),
    Operator("conv3d", lambda: nn.Conv3d(2, 3, 3, padding=1), ((1, 2, 4, 4, 4),)),
    Operator("conv_transpose2d", lambda: nn.ConvTranspose2d(4, 3, 2, stride=2), _IMAGES),
    _of("matmul", torch.matmul, ((2, 3, 4), (2, 4, 5))),
    _of("mm", torch.mm, ((3, 4), (4, 5))),
    _of("bmm", torch.bmm, ((2, 3, 4), (2, 4, 5))),
    _of("add", torch.add, _PAIR),
    _of("sub", torch.sub, _PAIR),
    _of("rsub", lambda x: torch.rsub(x, 1.5)),
    _of("mul", torch.mul, _PAIR),
    _of("div", lambda x: x / 3.0),
    _of("maximum", torch.maximum, _PAIR),
    _of("minimum", torch.minimum, _PAIR),
    _of("cat", lambda *given: torch.cat(given, 1), _PAIR),
    _of("stack", lambda *given: torch.stack(given, 1), _PAIR),
    _of("relu", torch.relu),
    _of("relu6", F.relu6),
    _of("hardtanh", F.hardtanh),
    _of("clamp", lambda x: torch.clamp(x, -0.5, 1.25)),
    _of("leaky_relu", F.leaky_relu),
    Operator("prelu", nn.PReLU, _VALUES),
    _of("hardswish", F.hardswish),
    _of("hardsigmoid", F.hardsigmoid),
    _of("sigmoid", torch.sigmoid),
    _of("tanh", torch.tanh),
    _of("gelu", F.gelu),
    _of("silu", F.silu),
    _of("elu", F.elu),
    _of("softplus", F.softplus),
    _of("exp", torch.exp),
    _of("log", torch.log, is_positive=True),
    _of("sqrt", torch.sqrt, is_positive=True),
    _of("rsqrt", torch.rsqrt, is_positive=True),
    _of("reciprocal", torch.reciprocal, is_positive=True),
    _of("sin", torch.sin),
    _of("cos", torch.cos),
    _of("erf", torch.erf),
    _of("pow", lambda x: torch.pow(x, 2)),
    _of("neg", torch.neg),
    _of("abs", torch.abs),
    _of("max_pool2d", lambda x: F.max_pool2d(x, 2), _IMAGES),
    _of("avg_pool1d", lambda x: F.avg_pool1d(x, 3, padding=1), ((2, 4, 9),)),
    _of("avg_pool2d", lambda x: F.avg_pool2d(x, 3, stride=2, padding=1), _IMAGES),
    _of("adaptive_avg_pool1d", lambda x: F.adaptive_avg_pool1d(x, 4), ((2, 4, 9),)),
    _of("adaptive_avg_pool2d", lambda x: F.adaptive_avg_pool2d(x, 1), _IMAGES),
    _of("mean", lambda x: x.mean([2, 3]), _IMAGES),
    _of("sum", lambda x: x.sum(1), _IMAGES),
    _of("amax", lambda x: x.amax(1), _IMAGES),
    _of("softmax", lambda x: F.softmax(x, -1)),
    Operator("layer_norm", lambda: nn.LayerNorm(5), _VALUES),
    _of("permute", lambda x: x.permute(0, 2, 3, 1), _IMAGES),
    _of("reshape", lambda x: x.reshape(2, -1), _IMAGES),
    _of("slice", lambda x: x[:, 1:3], _IMAGES),
    _of("index_select", lambda x: torch.index_select(x, 1, torch.tensor([2, 0])), _IMAGES),
    _of("pixel_shuffle", lambda x: F.pixel_shuffle(x, 2), _IMAGES),
    _of("upsample_nearest2d", lambda x: F.interpolate(x, scale_factor=2.0), _IMAGES),
    _of("constant_pad_nd", lambda x: F.pad(x, (1, 1)), _IMAGES),
)
