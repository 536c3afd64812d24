# pytorch/pytorch#110427, nothing but the scalar: the quantizer annotates mul.
import torch
from torch import nn


class Scaled(nn.Module):
    def forward(self, x):
        return x * 0.3 + 1.0


torch.manual_seed(43)
model = Scaled().eval()
inputs = [(torch.randn(3, 8),) for _ in range(3)]
EXPECT = {
    "upstream": {
        "outcome": "float",
        "code": "PQ012",
        "operators": {"mul": ["float"], "add": ["integer"]},
        "unquantized": [],
    },
    "exact": {"outcome": "pass", "operators": {"mul": ["integer"], "add": ["integer"]}, "unquantized": []},
}
