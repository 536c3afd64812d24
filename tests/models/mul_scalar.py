# pytorch/pytorch#110427: XNNPACK's quantizer makes an attribute of a scalar operand so that `x * 0.3` is quantized;
# integers are then to multiply by a quantized constant of no dimension. Upstream has no rewrite for mul.
import torch
from torch import nn


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x):
        return self.fc(x) * 0.3


torch.manual_seed(42)
model = Scaled().eval()
inputs = [(torch.randn(3, 8),) for _ in range(3)]
EXPECT = {
    "upstream": {
        "outcome": "float",
        "code": "PQ012",
        "operators": {"linear": ["integer"], "mul": ["float"]},
        "unquantized": [],
    },
    "exact": {"outcome": "pass", "operators": {"linear": ["integer"], "mul": ["integer"]}, "unquantized": []},
}
