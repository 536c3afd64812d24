# pytorch/ao#4478, same loop under XNNPACK's quantizer, without the relus (which hide the linear from upstream's
# pattern) and three calls: one weight, three annotated call sites.
import torch
from torch import nn


class Loop(nn.Module):
    def __init__(self):
        super().__init__()
        self.step = nn.Linear(8, 8)

    def forward(self, x):
        for _ in range(3):
            x = self.step(x)
        return x


torch.manual_seed(4)
model = Loop().eval()
inputs = [(torch.randn(4, 8),) for _ in range(3)]
EXPECT = {
    "upstream": {
        "outcome": "inexact",
        "code": "PQ031",
        "operators": {"linear": ["integer", "integer", "integer"]},
        "unquantized": [],
    },
    "exact": {"outcome": "pass", "operators": {"linear": ["integer", "integer", "integer"]}, "unquantized": []},
}
