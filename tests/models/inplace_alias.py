# pytorch/executorch#22159, the other side of in-place adds: what was written in place is read again under its old
# name (`y` after `y += x`), and a view of it, too.
import torch
from torch import nn


class Alias(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x):
        y = self.fc(x)
        first = y[:, :4]
        y += x
        return first + y[:, 4:]


torch.manual_seed(40)
model = Alias().eval()
inputs = [(torch.randn(3, 8),) for _ in range(3)]
EXPECT = {
    "upstream": {
        "outcome": "float",
        "code": "PQ012",
        "operators": {"linear": ["integer"], "add": ["float", "integer"]},
        "unquantized": [],
    },
    "exact": {
        "outcome": "pass",
        "operators": {"linear": ["integer"], "add": ["integer", "integer"]},
        "unquantized": [],
    },
}
