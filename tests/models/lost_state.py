# A counter that the model adds to and reads: quantized, it is folded into a constant, and never read again.
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x):
        self.count.add_(1)
        return self.fc(x) + self.count


torch.manual_seed(0)
model = Net().eval()
inputs = [(torch.randn(2, 4),) for _ in range(2)]
EXPECT = {
    "upstream": {
        "outcome": "mismatch",
        "code": "PQ003",
        "operators": {"linear": ["integer"], "add": ["integer"]},
        "unquantized": [],
    },
    "exact": {
        "outcome": "mismatch",
        "code": "PQ003",
        "operators": {"linear": ["integer"], "add": ["integer"]},
        "unquantized": [],
    },
}
