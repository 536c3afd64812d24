# pytorch/executorch#8138: XNNPACK's quantizer knows no matmul and says nothing: the model stays float.
import torch
from torch import nn


class Product(nn.Module):
    def forward(self, x, y):
        return torch.matmul(x, y)


torch.manual_seed(22)
model = Product().eval()
inputs = [(torch.randn(3, 4), torch.randn(4, 5)) for _ in range(3)]
EXPECT = {"both": {"outcome": "unquantized", "code": "PQ001", "operators": {}, "unquantized": ["matmul"]}}
