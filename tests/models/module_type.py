# pytorch/pytorch#115251: set_module_type(nn.Linear, ...) also annotated an add with relu outside of any linear. Only
# a linear is meant.
import torch
from torch import nn
from torchao.testing.pt2e._xnnpack_quantizer import XNNPACKQuantizer, get_symmetric_quantization_config


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x):
        return torch.relu(self.fc(x) + x)


torch.manual_seed(23)
model = Mixed().eval()
inputs = [(torch.randn(3, 8),) for _ in range(3)]
quantizer = XNNPACKQuantizer().set_module_type(nn.Linear, get_symmetric_quantization_config())
EXPECT = {
    "upstream": {"outcome": "inexact", "code": "PQ031", "operators": {"linear": ["integer"]}, "unquantized": ["add"]},
    "exact": {"outcome": "pass", "code": "PQ053", "operators": {"linear": ["integer"]}, "unquantized": ["add"]},
}
