# pytorch/executorch#19259: max pooling that also returns the indices (int64, for unpooling): the observer for a tuple
# was left out in silence.
import torch
import torch.nn.functional as F
from torch import nn


class Pool(nn.Module):
    def __init__(self):
        super().__init__()
        self.c = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        return F.max_pool2d(self.c(x), 2, return_indices=True)


torch.manual_seed(34)
model = Pool().eval()
inputs = [(torch.randn(1, 3, 6, 6),) for _ in range(3)]
EXPECT = {
    "upstream": {
        "outcome": "float",
        "code": "PQ012",
        "operators": {"conv2d": ["float"]},
        "unquantized": ["max_pool2d_with_indices"],
    },
    "exact": {
        "outcome": "pass",
        "code": "PQ053",
        "operators": {"conv2d": ["integer"]},
        "unquantized": ["max_pool2d_with_indices"],
    },
}
