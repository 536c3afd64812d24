# pytorch/executorch#8138, as its model is written: one argument that is a list of tensors. (Add in place of matmul,
# so that something is annotated.)
import torch
from torch import nn


class Pair(nn.Module):
    def forward(self, pair):
        return pair[0] + pair[1]


torch.manual_seed(45)
model = Pair().eval()
inputs = [([torch.randn(3, 4), torch.randn(3, 4)],) for _ in range(3)]
EXPECT = {
    "upstream": {"outcome": "inexact", "code": "PQ031", "operators": {"add": ["integer"]}, "unquantized": []},
    "exact": {"outcome": "pass", "operators": {"add": ["integer"]}, "unquantized": []},
}
