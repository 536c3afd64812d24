# A part of a result is overwritten through a view, after it was quantized: the output has what was written.
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        y = torch.relu(self.conv(x))
        y[:, 0] = 0.25
        y[:, 1] = y[:, 2]
        return y


torch.manual_seed(0)
model = Net().eval()
inputs = [(torch.randn(2, 3, 8, 8),) for _ in range(2)]
EXPECT = {
    "upstream": {"outcome": "float", "code": "PQ012", "operators": {"conv2d": ["float"]}, "unquantized": []},
    "exact": {"outcome": "pass", "operators": {"conv2d": ["integer"]}, "unquantized": []},
}
