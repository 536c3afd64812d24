# pytorch/executorch#21829: the two halves of a conv's channels added up. Add annotates each input by itself, the
# slices nothing: levels are requantized between slice and add, and XNNPACK refuses a slice that changes scale.
import torch
from torch import nn


class Halves(nn.Module):
    def __init__(self):
        super().__init__()
        self.c = nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, x):
        y = self.c(x)
        return y[:, :4] + y[:, 4:]


torch.manual_seed(8)
model = Halves().eval()
inputs = [(torch.randn(1, 3, 6, 6),) for _ in range(3)]
EXPECT = {
    "upstream": {
        "outcome": "float",
        "code": "PQ012",
        "operators": {"conv2d": ["float"], "add": ["integer"]},
        "unquantized": [],
    },
    "exact": {"outcome": "pass", "operators": {"conv2d": ["integer"], "add": ["integer"]}, "unquantized": []},
}
