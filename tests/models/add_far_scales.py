# pytorch/executorch#8994: MobileBERT: an add whose operands' scales are more than 2^10 apart trips an assertion in
# XNNPACK. The small operand must not vanish or be rounded by itself.
import torch
from torch import nn


class Far(nn.Module):
    def forward(self, x, y):
        return x + y


torch.manual_seed(24)
model = Far().eval()
inputs = [(torch.randn(8, 16), torch.randn(8, 16) * 2048) for _ in range(3)]
EXPECT = {"both": {"outcome": "pass", "operators": {"add": ["integer"]}, "unquantized": []}}
