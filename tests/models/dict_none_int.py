# pytorch/executorch#19987 (outputs quantized at the boundary, several of them): a dict with float logits, int64
# argmax, and a None.
import torch
from torch import nn


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x):
        y = self.fc(x)
        return {"logits": y, "best": y.argmax(-1), "aux": None}


torch.manual_seed(30)
model = Heads().eval()
inputs = [(torch.randn(6, 8),) for _ in range(4)]
EXPECT = {
    "upstream": {
        "outcome": "inexact",
        "code": "PQ031",
        "operators": {"linear": ["integer"]},
        "unquantized": ["argmax"],
    },
    "exact": {"outcome": "pass", "code": "PQ053", "operators": {"linear": ["integer"]}, "unquantized": ["argmax"]},
}
