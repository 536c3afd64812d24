# What is written into a tensor is lost where its levels were taken before: the flow moves no observer behind the write.
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.next = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        y = self.conv(x)
        z = y.clone()
        z[:, 1] = y[:, 0]
        return self.next(z)


torch.manual_seed(0)
model = Net().eval()
inputs = [(torch.randn(2, 3, 8, 8),) for _ in range(2)]
EXPECT = {
    "upstream": {
        "outcome": "mismatch",
        "code": "PQ003",
        "operators": {"conv2d": ["float", "float"]},
        "unquantized": [],
    },
    "exact": {
        "outcome": "mismatch",
        "code": "PQ003",
        "operators": {"conv2d": ["integer", "integer"]},
        "unquantized": [],
    },
}
