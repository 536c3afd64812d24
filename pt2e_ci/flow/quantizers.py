"""The quantizers that come with the flow, and one's own: an instance, or a callable without arguments."""

from __future__ import annotations

import copy
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch

from pt2e_ci.errors import InputError, kind_of_value
from pt2e_ci.flow.homes import home_in_use
from pt2e_ci.plugins import load

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

# The group that upstream's pattern of int4 weights is exported with.
_GROUP = 8


def xnnpack_per_tensor() -> Any:
    """Return XNNPACK's quantizer, one scale for each weight."""
    return home_in_use().xnnpack(is_per_channel=False)


def xnnpack_per_channel() -> Any:
    """Return XNNPACK's quantizer, a scale for each output channel of a weight."""
    return home_in_use().xnnpack(is_per_channel=True)


def xnnpack_dynamic() -> Any:
    """Return XNNPACK's quantizer, activations quantized at run time."""
    return home_in_use().xnnpack(is_per_channel=False, is_dynamic=True)


class Ahead:
    """What quantizes a model before it is exported: there is nothing to prepare then, and nothing to convert."""

    def quantize(self, model: nn.Module) -> nn.Module:
        """Quantize a model's weights; it is changed.

        Raises whatever torchao raises, ImportError among it, where it has no such scheme.
        """
        quantization = import_module("torchao.quantization")
        granularity = import_module("torchao.quantization.granularity").PerGroup(_GROUP)
        config = quantization.Int8DynamicActivationIntxWeightConfig(
            weight_dtype=torch.int4, weight_granularity=granularity
        )
        quantization.quantize_(model, config)
        unwrapped: nn.Module = import_module("torchao.utils").unwrap_tensor_subclass(model)
        return unwrapped


def int4_groupwise() -> Ahead:
    """Return torchao's scheme of int4 weights, a scale for each group of a row, and a scale for each token."""
    return Ahead()


def quantizer_of(given: Any) -> Callable[[], Any]:
    """Return what makes a quantizer: of one, which stays as it is; of a function that makes one; or of a plugin's name.

    Raises:
        InputError: it is something else; what a function returns is looked at when it is called.

    """
    found = load("quantizers", given) if isinstance(given, str) else given
    if isinstance(found, type):
        raise InputError(f"quantizer is the class {found.__name__}: give an instance, {found.__name__}()")
    if hasattr(found, "annotate"):
        return lambda: copy.deepcopy(found)
    if not callable(found):
        raise InputError(f"quantizer is {kind_of_value(found)}: give a quantizer, which has a method `annotate`")

    def made() -> Any:
        quantizer = found()
        if not hasattr(quantizer, "annotate") and not isinstance(quantizer, Ahead):
            raise InputError(
                f"the quantizer's function returned {kind_of_value(quantizer)}: it must return a quantizer"
            )
        return quantizer

    return made
