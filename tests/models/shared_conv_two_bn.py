# pytorch/ao#2795: one conv applied twice, a batch norm behind each call: prepare folds the batch norm into the shared
# weight once for each call, so the second folding lands on weights that are folded already. Nothing is raised; the
# Q/DQ program is another function.
import torch
from torch import nn


class Twin(nn.Module):
    def __init__(self):
        super().__init__()
        self.c = nn.Conv2d(3, 3, 1, bias=False)
        self.n1, self.n2 = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x):
        return self.n2(self.c(self.n1(self.c(x))))


torch.manual_seed(35)
model = Twin().eval()
with torch.no_grad():
    for n in (model.n1, model.n2):
        n.running_mean.copy_(torch.tensor([0.1, -0.2, 0.3]))
        n.running_var.copy_(torch.tensor([0.05, 0.25, 4.0]))
inputs = [(torch.randn(1, 3, 4, 4),) for _ in range(3)]
EXPECT = {
    "upstream": {"outcome": "mismatch", "code": "PQ003", "operators": {"conv2d": ["float"]}, "unquantized": ["conv2d"]},
    "exact": {"outcome": "mismatch", "code": "PQ003", "operators": {"conv2d": ["integer"]}, "unquantized": ["conv2d"]},
}
