# pytorch/ao#4138, the plainer state: a buffer that is added to on each call (a filter, an RNN cell's state): two runs
# on the same input must differ, by design.
import torch
from torch import nn


class State(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.register_buffer("h", torch.zeros(1, 4))

    def forward(self, x):
        y = self.fc(x)
        self.h.add_(y)
        return self.h.clone()


torch.manual_seed(20)
model = State().eval()
inputs = [(torch.randn(1, 4),) for _ in range(3)]
EXPECT = {
    "upstream": {"outcome": "inexact", "code": "PQ031", "operators": {"linear": ["integer"]}, "unquantized": ["add"]},
    "exact": {"outcome": "pass", "code": "PQ053", "operators": {"linear": ["integer"]}, "unquantized": ["add"]},
}
