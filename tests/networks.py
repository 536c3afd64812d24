"""Networks that people ship, written out, with random weights that are the same wherever they are made."""

from __future__ import annotations

import torch
from torch import nn

from pt2e_ci.catalogue.networks import MobileNetV2


def mobilenet_v2(size):
    """Return the network, and one image of a height and width."""
    generator = torch.Generator().manual_seed(0)
    model = MobileNetV2().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * parameter[0].numel() ** -0.5)
        for name, buffer in model.named_buffers():
            if name.endswith("running_var"):  # as these weights leave it
                buffer.fill_(1)
    return model, (torch.randn(1, 3, size, size, generator=generator),)


class Looping(nn.Module):
    """A linear in the body of `scan`"""

    def __init__(self):
        super().__init__()
        self.linear, self.last = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        from torch._higher_order_ops.scan import scan

        def step(state, row):
            state = torch.tanh(self.linear(state) + row)
            return state, state.clone()

        return self.last(scan(step, x[0], x)[1])


class Branching(nn.Module):
    """A linear in a branch of `cond`"""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        y = self.first(x)
        return torch.cond(y.sum() > 0, lambda z: self.second(z), lambda z: z + 1, (y,))
