# intel/torch-xpu-ops#1712: a model in float16 (a text encoder): dequantize gives float32, the bias is float16, and
# run fails by dtype.
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x):
        return self.fc(x) + x


torch.manual_seed(27)
model = Net().eval().half()
inputs = [(torch.randn(3, 8).half(),) for _ in range(3)]
EXPECT = {
    "upstream": {"outcome": "float", "code": "PQ012", "operators": {"linear": ["float"]}, "unquantized": ["add"]},
    "exact": {"outcome": "pass", "code": "PQ053", "operators": {"linear": ["integer"]}, "unquantized": ["add"]},
}
