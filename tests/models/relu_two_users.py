# pytorch/executorch#6894: a conv whose result goes to a relu and to something else: fusing conv and relu is wrong
# then.
import torch
from torch import nn


class Fork(nn.Module):
    def __init__(self):
        super().__init__()
        self.c = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        y = self.c(x)
        return torch.relu(y) + y


torch.manual_seed(15)
model = Fork().eval()
inputs = [(torch.randn(1, 3, 5, 5),) for _ in range(3)]
EXPECT = {
    "upstream": {
        "outcome": "float",
        "code": "PQ012",
        "operators": {"conv2d": ["float"], "relu": ["float"], "add": ["integer"]},
        "unquantized": [],
    },
    "exact": {
        "outcome": "pass",
        "operators": {"conv2d": ["integer"], "relu": ["integer"], "add": ["integer"]},
        "unquantized": [],
    },
}
