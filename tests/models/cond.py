# pytorch/pytorch#140323, pytorch/executorch#15849: a branch (torch.cond): calibration sees one side only, unless the
# inputs go both ways. The other side's observers never saw anything.
import torch
from torch import nn


class Branch(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return torch.cond(x.sum() > 0, lambda x: self.a(x), lambda x: self.b(x), (x,))


torch.manual_seed(37)
model = Branch().eval()
inputs = [(torch.randn(3, 4) + s,) for s in (2.0, -2.0, 2.0)]
EXPECT = {"both": {"outcome": "unquantized", "code": "PQ001", "operators": {}, "unquantized": ["sum", "cond"]}}
