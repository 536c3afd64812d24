# intel/torch-xpu-ops#1712, in bfloat16.
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x):
        return self.fc(x)


torch.manual_seed(28)
model = Net().eval().bfloat16()
inputs = [(torch.randn(3, 8).bfloat16(),) for _ in range(3)]
EXPECT = {
    "upstream": {"outcome": "float", "code": "PQ012", "operators": {"linear": ["float"]}, "unquantized": []},
    "exact": {"outcome": "pass", "operators": {"linear": ["integer"]}, "unquantized": []},
}
