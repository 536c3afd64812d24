# The levels of `2 * y` are those of `y`, on a grid of twice the step: which tensor is whose is no matter of values.
import torch
from torch import nn


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        y = self.fc(x)
        return y + 0.0, 2 * y + y


torch.manual_seed(0)
model = Twice().eval()
inputs = [(torch.randn(2, 4),) for _ in range(2)]
EXPECT = {
    "upstream": {
        "outcome": "inexact",
        "code": "PQ031",
        "operators": {"linear": ["integer"], "add": ["integer", "integer"], "mul": ["integer"]},
        "unquantized": [],
    },
    "exact": {
        "outcome": "pass",
        "operators": {"linear": ["integer"], "add": ["integer", "integer"], "mul": ["integer"]},
        "unquantized": [],
    },
}
