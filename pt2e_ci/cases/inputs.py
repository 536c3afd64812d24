"""Portable tensors: the same bits for every torch and on every CPU.

``torch.randn`` with one seed differs between x86 and ARM in the last bits, so nothing here draws floats. Bytes
come from SHAKE-256 (FIPS 202), keyed by the seed and the tensor's name; they are read as int8 and scaled by a
power of two, which float32 holds exactly.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING

import torch

from pt2e_ci.cases import models
from pt2e_ci.cases.catalogue import Case, Scheme

if TYPE_CHECKING:
    from torch import nn

# Inputs span [-2, 2) in steps of 1/64, bytes times 2^-6.
_INPUT_EXPONENT = -6
_FRESH_SETS = 5


@dataclass(frozen=True)
class InputSet:
    """One call's worth of inputs. The set labelled `calibration` is the one that the observers see."""

    label: str
    tensors: tuple[torch.Tensor, ...]


def draw(key: str, shape: tuple[int, ...], exponent: int) -> torch.Tensor:
    """Return a float32 tensor of `shape`, uniform over the int8 range times ``2**exponent``, fixed by `key`."""
    count = math.prod(shape)
    data = bytearray(hashlib.shake_256(key.encode()).digest(count))
    if not data:
        return torch.empty(shape)
    return (torch.frombuffer(data, dtype=torch.int8).to(torch.float32) * 2.0**exponent).reshape(shape)


def build_model(case: Case, seed: int) -> nn.Module:
    """Make the case's model, in eval mode, with portable parameters.

    A weight's values shrink with the square root of its fan-in, rounded to a power of two, so that outputs
    stay of the inputs' order.
    """
    model: nn.Module = getattr(models, case.model)(**case.arguments)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            fan_in = max(1, math.prod(parameter.shape[1:]))
            exponent = -7 - math.ceil(math.log2(fan_in) / 2)
            parameter.copy_(draw(f"{seed}/{case.name}/{name}", tuple(parameter.shape), exponent))
    return model.eval()


def input_sets(case: Case, seed: int) -> list[InputSet]:
    """Return the inputs that a case is judged on; the first set is also the one that it is calibrated on.

    Static quantization sees values far outside of the calibrated range, where it must saturate. Dynamic
    quantization adapts its scale to the input, so nothing saturates; it sees narrow ranges and a lone peak.
    """

    def drawn(label: str, exponent: int) -> tuple[torch.Tensor, ...]:
        keys = (f"{seed}/{case.name}/{label}/{index}" for index in range(len(case.shapes)))
        return tuple(draw(key, shape, exponent) for key, shape in zip(keys, case.shapes, strict=True))

    sets = [InputSet("calibration", drawn("calibration", _INPUT_EXPONENT))]
    sets += [
        InputSet(label, drawn(label, _INPUT_EXPONENT))
        for label in (f"fresh-{number}" for number in range(1, _FRESH_SETS + 1))
    ]
    sets.append(InputSet("zero", tuple(torch.zeros(shape) for shape in case.shapes)))
    if case.scheme is Scheme.DYNAMIC:
        sets.append(InputSet("narrow", drawn("narrow", _INPUT_EXPONENT - 10)))
        sets.append(InputSet("peak", tuple(_repeat((2.0, *(2.0**-9,) * 4), shape) for shape in case.shapes)))
    else:
        sets.append(InputSet("saturating", drawn("saturating", _INPUT_EXPONENT + 4)))
        # The largest stay below 2^31 steps, beyond which a cast to int32 is undefined.
        extremes = (2.0**20, -(2.0**20), 2.0**-20, -(2.0**-20), 0.0, -0.0, 2.0)
        sets.append(
            InputSet(
                "extreme",
                tuple(_repeat(extremes[index:], shape) for index, shape in enumerate(case.shapes)),
            )
        )
    return sets


def _repeat(values: tuple[float, ...], shape: tuple[int, ...]) -> torch.Tensor:
    """Fill a tensor with `values`, over and over."""
    return torch.tensor([*islice(cycle(values), math.prod(shape))]).reshape(shape)
