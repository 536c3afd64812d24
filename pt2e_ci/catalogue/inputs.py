"""Portable tensors: the same bits for every torch and on every CPU.

``torch.randn`` with one seed differs between x86 and ARM in the last bits, so nothing here draws floats. Bytes
come from SHAKE-256 (FIPS 202), keyed by the seed and the tensor's name; they are read as int8 and scaled by a
power of two, which float32 holds exactly, or, for inputs of full precision, as int32, and rounded once.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from itertools import cycle, islice
from pkgutil import resolve_name
from typing import TYPE_CHECKING

import torch

from pt2e_ci.catalogue import models
from pt2e_ci.catalogue.cases import Case, Inputs
from pt2e_ci.judge.verdict import InputSet

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

# Inputs span [-2, 2) in steps of 1/64, bytes times 2^-6.
_INPUT_EXPONENT = -6
_FRESH_SETS = 5


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
    make = resolve_name(case.model) if ":" in case.model else getattr(models, case.model)
    model: nn.Module = make(**case.arguments)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in case.parameter_values:
                parameter.fill_(case.parameter_values[name])
                continue
            fan_in = max(1, math.prod(parameter.shape[1:]))
            exponent = -7 - math.ceil(math.log2(fan_in) / 2) + case.parameter_exponents.get(name, 0)
            parameter.copy_(draw(f"{seed}/{case.name}/{name}", tuple(parameter.shape), exponent))
    return model.eval()


def input_sets(case: Case, seed: int) -> list[InputSet]:
    """Return the inputs that a case is judged on; the first set, `calibration`, is the one that observers see.

    Static quantization sees values far outside of the calibrated range, where it must saturate. Dynamic
    quantization adapts its scale to the input, so nothing saturates; it sees narrow ranges and a lone peak.
    """
    shifts = case.input_exponents or (0,) * len(case.shapes)

    def drawn(label: str, exponent: int) -> tuple[torch.Tensor, ...]:
        return tuple(
            draw(f"{seed}/{case.name}/{label}/{index}", shape, exponent + shift)
            for index, (shape, shift) in enumerate(zip(case.shapes, shifts, strict=True))
        )

    def made(label: str) -> InputSet:
        return InputSet(label, _SHAPED[case.inputs](drawn(label, _INPUT_EXPONENT)))

    sets = [made("calibration")]
    if case.inputs is Inputs.DRAWN:
        sets += [made(f"fresh-{number}") for number in range(1, _FRESH_SETS + 1)]
        sets.append(InputSet("full", _full(f"{seed}/{case.name}", case)))
    if case.dynamic_batch:
        others = [replace(case, shapes=tuple((batch, *shape[1:]) for shape in case.shapes)) for batch in (2, 7)]
        sets += [InputSet(f"batch-{other.shapes[0][0]}", _full(f"{seed}/{case.name}/batch", other)) for other in others]
    sets.append(InputSet("zero", tuple(torch.zeros(shape) for shape in case.shapes)))
    if case.quantizer.is_dynamic:
        sets.append(InputSet("narrow", drawn("narrow", _INPUT_EXPONENT - 10)))
        sets.append(InputSet("peak", _filled(case, (2.0, *(2.0**-9,) * 4))))
    else:
        sets.append(InputSet("saturating", drawn("saturating", _INPUT_EXPONENT + 4)))
        # The largest stay below 2^31 steps, beyond which a cast to int32 is undefined; the least are subnormal.
        sets.append(InputSet("extreme", _filled(case, (2.0**20, -(2.0**20), 2.0**-20, -(2.0**-140), 0.0, -0.0, 2.0))))
    return sets + [InputSet(label, MORE[label](case, drawn)) for label in case.more_inputs]


def _full(key: str, case: Case) -> tuple[torch.Tensor, ...]:
    """Return tensors of the same range that use all bits of float32: whole numbers of 32 bits, rounded once."""
    shifts = case.input_exponents or (0,) * len(case.shapes)
    made = []
    for index, (shape, shift) in enumerate(zip(case.shapes, shifts, strict=True)):
        data = bytearray(hashlib.shake_256(f"{key}/full/{index}".encode()).digest(4 * math.prod(shape)))
        whole = torch.frombuffer(data, dtype=torch.int32).to(torch.float64)
        made.append((whole * 2.0 ** (_INPUT_EXPONENT + shift - 24)).to(torch.float32).reshape(shape))
    return tuple(made)


def _pairs(drawn: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    levels = torch.arange(-128, 128) * 2.0**_INPUT_EXPONENT
    rows, columns = (tensor.shape for tensor in drawn)
    return levels[:, None].expand(rows).contiguous(), levels[None, :].expand(columns).contiguous()


def _one_sided(drawn: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(tensor.abs() * (-1) ** index for index, tensor in enumerate(drawn))


_SHAPED: dict[Inputs, Callable[[tuple[torch.Tensor, ...]], tuple[torch.Tensor, ...]]] = {
    Inputs.DRAWN: lambda drawn: drawn,
    Inputs.PAIRS: _pairs,
    Inputs.ONE_SIDED: _one_sided,
    Inputs.CONSTANT: lambda drawn: tuple(torch.full_like(tensor, 2.0) for tensor in drawn),
}


def _ties(case: Case, drawn: Callable[[str, int], tuple[torch.Tensor, ...]]) -> tuple[torch.Tensor, ...]:
    """Return tensors over [-2, 127/64], for which a dynamic scale is 1/64, and all else in the middle of two steps."""
    made = []
    for tensor in drawn("ties", _INPUT_EXPONENT):
        values = (tensor + 2.0 ** (_INPUT_EXPONENT - 1)).clamp(-2.0, 127 / 64)
        values.view(-1)[:2] = torch.tensor([-2.0, 127 / 64])
        made.append(values)
    return tuple(made)


MORE: dict[str, Callable[[Case, Callable[[str, int], tuple[torch.Tensor, ...]]], tuple[torch.Tensor, ...]]] = {
    "wide": lambda case, drawn: drawn("wide", _INPUT_EXPONENT + 10),
    "ties": _ties,
    "infinite": lambda case, drawn: _filled(case, (math.inf, -math.inf, 1e30, -1e30, 2.0**40, 0.0, 1.0)),
}
"""Input sets that only some cases are judged on, by name."""


def _filled(case: Case, values: tuple[float, ...]) -> tuple[torch.Tensor, ...]:
    """Fill each input tensor with `values` over and over, each beginning one further on."""
    return tuple(_repeat(values[index:], shape) for index, shape in enumerate(case.shapes))


def _repeat(values: tuple[float, ...], shape: tuple[int, ...]) -> torch.Tensor:
    """Fill a tensor with `values`, over and over."""
    return torch.tensor([*islice(cycle(values), math.prod(shape))]).reshape(shape)
