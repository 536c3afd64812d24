# Where the bounds cross, the upper one counts; and bounds may be tensors.
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.next = nn.Conv2d(4, 4, 1)
        self.last = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        y = self.conv(x)
        return self.next(torch.clamp(y, 0.5, -0.5)), self.last(torch.clamp(y, min=y.amax()))


torch.manual_seed(0)
model = Net().eval()
inputs = [(torch.randn(2, 3, 8, 8),) for _ in range(2)]
EXPECT = {
    "upstream": {
        "outcome": "float",
        "code": "PQ012",
        "operators": {"conv2d": ["float", "float", "float"]},
        "unquantized": [],
    },
    "exact": {
        "outcome": "pass",
        "code": "PQ052",
        "operators": {"conv2d": ["integer", "integer", "integer"]},
        "unquantized": [],
    },
}
