# Norms make much of the last bits that folding a batch norm into the weights changes: it is the same function still.
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.batch = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.group, self.instance, self.layer = nn.GroupNorm(2, 8), nn.InstanceNorm2d(8, affine=True), nn.LayerNorm(8)
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        y = self.instance(self.group(torch.relu(self.batch(self.conv(x)))))
        return self.fc(self.layer(y.mean((2, 3))))


torch.manual_seed(0)
model = Net().eval()
inputs = [(torch.randn(2, 3, 8, 8),) for _ in range(2)]
EXPECT = {
    "upstream": {
        "outcome": "float",
        "code": "PQ012",
        "operators": {"conv2d": ["float"], "linear": ["integer"]},
        "unquantized": ["group_norm", "instance_norm", "mean", "layer_norm"],
    },
    "exact": {
        "outcome": "pass",
        "code": "PQ052",
        "operators": {"conv2d": ["integer"], "linear": ["integer"]},
        "unquantized": ["group_norm", "instance_norm", "mean", "layer_norm"],
    },
}
