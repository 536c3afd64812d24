# pytorch/pytorch#142035, the same tie under XNNPACK's quantizer: does a tool take int64 inputs and a weight that is
# quantized for one reader (linear) and float for the other (embedding)?
import torch
from torch import nn


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(16, 8)
        self.head = nn.Linear(8, 16)
        self.head.weight = self.tokens.weight

    def forward(self, ids):
        return self.head(self.tokens(ids))


torch.manual_seed(2)
model = Tied().eval()
inputs = [(torch.randint(0, 16, (2, 5)),) for _ in range(3)]
EXPECT = {
    "upstream": {
        "outcome": "inexact",
        "code": "PQ031",
        "operators": {"linear": ["integer"]},
        "unquantized": ["embedding"],
    },
    "exact": {"outcome": "pass", "code": "PQ053", "operators": {"linear": ["integer"]}, "unquantized": ["embedding"]},
}
