# A cache that is written at a place that moves on with each call, as that of keys and values in decoding is: what a run
# changes must be put back before the next one, in the oracle too, whose integers are the program's own.
import torch
from torch import nn


class Cache(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 8)
        self.register_buffer("cache", torch.zeros(4, 8))
        self.register_buffer("place", torch.zeros(1, dtype=torch.int64))

    def forward(self, x):
        y = self.fc(x)
        self.cache.index_copy_(0, self.place, y)
        self.place.add_(1).remainder_(4)
        return self.cache.sum(0, keepdim=True) + y


torch.manual_seed(0)
model = Cache().eval()
inputs = [(torch.randn(1, 8),) for _ in range(3)]
EXPECT = {
    "upstream": {
        "outcome": "inexact",
        "code": "PQ031",
        "operators": {"linear": ["integer"], "add": ["integer"]},
        "unquantized": ["index_copy", "sum"],
    },
    "exact": {
        "outcome": "pass",
        "code": "PQ053",
        "operators": {"linear": ["integer"], "add": ["integer"]},
        "unquantized": ["index_copy", "sum"],
    },
}
