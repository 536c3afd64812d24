# pytorch/pytorch#115715: a batch norm that no conv takes in (before it) and a dropout, model left in train mode:
# statistics of the batch are used and the running ones are written on each call, so a quantized program is not a
# function of its input.
import torch
from torch import nn


class Pre(nn.Module):
    def __init__(self):
        super().__init__()
        self.bn = nn.BatchNorm2d(3)
        self.conv = nn.Conv2d(3, 4, 1)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        return self.conv(self.drop(self.bn(x)))


torch.manual_seed(7)
model = Pre()  # nobody called eval()
inputs = [(torch.randn(2, 3, 4, 4),) for _ in range(3)]
EXPECT = {"both": {"outcome": "error", "code": "PQ040"}}
