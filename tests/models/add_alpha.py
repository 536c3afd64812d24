# The second operand of an addition has a factor.
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        y = self.fc(x)
        return torch.add(y, x, alpha=0.5), torch.sub(y, x, alpha=3)


torch.manual_seed(0)
model = Net().eval()
inputs = [(torch.randn(2, 4),) for _ in range(2)]
EXPECT = {
    "upstream": {
        "outcome": "float",
        "code": "PQ012",
        "operators": {"linear": ["integer"], "add": ["float"]},
        "unquantized": ["sub"],
    },
    "exact": {
        "outcome": "pass",
        "code": "PQ053",
        "operators": {"linear": ["integer"], "add": ["integer"]},
        "unquantized": ["sub"],
    },
}
