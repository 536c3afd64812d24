"""Export that keeps composite operators (linear, conv2d, max_pool2d) whole, as quantizers need them."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
import torch._dynamo
import torch._export
import torch.export

if TYPE_CHECKING:
    from torch import nn
    from torch.fx import GraphModule


def export(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> GraphModule:
    """Return the model's graph before autograd, with static shapes taken from `inputs`."""
    # A traced frame is kept by dynamo; without this, a case would depend on the cases before it.
    torch._dynamo.reset()
    with warnings.catch_warnings():
        # Each of the three interfaces is deprecated on some torch, in favour of one that others lack.
        warnings.simplefilter("ignore")
        if hasattr(torch._export, "capture_pre_autograd_graph"):  # up to 2.6 (2026-11)
            # Beside it, export() decomposes linear into t and addmm, and the quantizer annotates nothing.
            if hasattr(torch.export, "export_for_training"):  # 2.5 to 2.10
                return torch.export.export_for_training(model, inputs).module()
            return torch._export.capture_pre_autograd_graph(model, inputs)
        return torch.export.export(model, inputs, strict=True).module()  # 2.7 and later
