# pytorch/pytorch#127076 (integers beside tensors): an argument that is a Python number, as an exported model may
# have.
import torch
from torch import nn


class Scaled(nn.Module):
    def forward(self, x, y, times: int):
        return (x + y).repeat(times, 1)


torch.manual_seed(47)
model = Scaled().eval()
inputs = [(torch.randn(3, 4), torch.randn(3, 4), 2) for _ in range(3)]
EXPECT = {
    "upstream": {"outcome": "inexact", "code": "PQ031", "operators": {"add": ["integer"]}, "unquantized": []},
    "exact": {"outcome": "pass", "operators": {"add": ["integer"]}, "unquantized": []},
}
