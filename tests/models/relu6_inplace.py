# pytorch/executorch#12339: relu6 behind a conv, in place or not, functional or module: hardtanh_(0, 6) in the graph;
# the quantizers list hardtanh and hardtanh_ apart.
import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return F.relu6(self.b(F.relu6(self.a(x), inplace=True)))


torch.manual_seed(33)
model = Net().eval()
with torch.no_grad():
    model.a.weight.mul_(8)
inputs = [(torch.randn(1, 3, 5, 5),) for _ in range(3)]
EXPECT = {
    "upstream": {
        "outcome": "float",
        "code": "PQ012",
        "operators": {"conv2d": ["float", "float"]},
        "unquantized": ["relu6", "relu6"],
    },
    "exact": {
        "outcome": "pass",
        "code": "PQ053",
        "operators": {"conv2d": ["integer", "integer"]},
        "unquantized": ["relu6", "relu6"],
    },
}
