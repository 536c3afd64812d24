"""Export that keeps composite operators (linear, conv2d, max_pool2d) whole, as quantizers need them."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
import torch._dynamo
import torch._export
import torch.export

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn
    from torch.fx import GraphModule


def export(model: nn.Module, inputs: tuple[Any, ...], dynamic_shapes: Any = None) -> GraphModule:
    """Return the model's graph before autograd, with shapes taken from `inputs`, but those that are dynamic.

    Args:
        model: the model.
        inputs: the arguments of one call.
        dynamic_shapes: as `torch.export.export` takes them.

    """
    shapes = {} if dynamic_shapes is None else {"dynamic_shapes": dynamic_shapes}
    # A traced frame is kept by dynamo; without this, a case would depend on the cases before it.
    torch._dynamo.reset()
    graph = _exported(model, inputs, shapes)
    for buffer in graph.buffers():
        buffer.detach_()  # up to 2.4, one that is written into remembers how, and then cannot be copied
    return graph


def dynamic_batch(inputs: Sequence[Any]) -> Any:
    """Return the dynamic shapes of inputs whose first dimension is one batch."""
    batch = torch.export.Dim("batch", min=2, max=1024)
    return tuple({0: batch} for _ in inputs)


def captures_programs() -> bool:
    """Tell whether `torch.export` keeps composite operators whole, so that what it gives can be prepared (2.5 on)."""
    return hasattr(torch.export, "export_for_training") or not hasattr(torch._export, "capture_pre_autograd_graph")


def _exported(model: nn.Module, inputs: tuple[Any, ...], shapes: dict[str, Any]) -> GraphModule:
    with warnings.catch_warnings():
        # Each of the three interfaces is deprecated on some torch, in favour of one that others lack.
        warnings.simplefilter("ignore")
        if hasattr(torch._export, "capture_pre_autograd_graph"):  # up to 2.6 (2026-11)
            # Beside it, export() decomposes linear into t and addmm, and the quantizer annotates nothing.
            if hasattr(torch.export, "export_for_training"):  # 2.5 to 2.10
                return torch.export.export_for_training(model, inputs, **shapes).module()
            return torch._export.capture_pre_autograd_graph(model, inputs, **shapes)
        return torch.export.export(model, inputs, strict=True, **shapes).module()  # 2.7 and later
