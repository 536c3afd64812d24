# Made-up inputs are laid out as the user's: what a program views depends on it.
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(6, 2)

    def forward(self, x):
        return self.fc(torch.relu(self.conv(x)))


torch.manual_seed(0)
model = Net().eval()
inputs = [(torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last),) for _ in range(2)]
EXPECT = {
    "upstream": {
        "outcome": "float",
        "code": "PQ012",
        "operators": {"conv2d": ["float"], "linear": ["integer"]},
        "unquantized": [],
    },
    "exact": {"outcome": "pass", "operators": {"conv2d": ["integer"], "linear": ["integer"]}, "unquantized": []},
}
