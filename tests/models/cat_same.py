# pytorch/pytorch#129038: cat([x, x]) of one tensor: sharing the observer with itself recursed without end in prepare.
import torch
from torch import nn


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.c = nn.Conv2d(3, 3, 3)

    def forward(self, x):
        y = self.c(x)
        return torch.cat([y, y], 1)


torch.manual_seed(16)
model = Twice().eval()
inputs = [(torch.randn(1, 3, 5, 5),) for _ in range(3)]
EXPECT = {
    "upstream": {
        "outcome": "float",
        "code": "PQ012",
        "operators": {"conv2d": ["float"], "cat": ["float"]},
        "unquantized": [],
    },
    "exact": {"outcome": "pass", "operators": {"conv2d": ["integer"], "cat": ["integer"]}, "unquantized": []},
}
