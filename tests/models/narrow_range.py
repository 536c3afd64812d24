# pytorch/pytorch#173075: inputs far from zero in a narrow range (1000 .. 1001): the observer's range begins at 0, one
# step is 4, and every input becomes the same level. The integer program is right, and says nothing.
import torch
from torch import nn


class Narrow(nn.Module):
    def forward(self, x, y):
        return x + y


torch.manual_seed(29)
model = Narrow().eval()
inputs = [(1000 + torch.rand(4, 8), 1000 + torch.rand(4, 8)) for _ in range(3)]
EXPECT = {
    # On other inputs than these upstream's addition is off.
    "upstream": {"outcome": "inexact", "code": "PQ031", "operators": {"add": ["integer"]}, "unquantized": []},
    "exact": {"outcome": "pass", "code": "PQ052", "operators": {"add": ["integer"]}, "unquantized": []},
}
