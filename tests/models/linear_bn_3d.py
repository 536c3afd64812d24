# pytorch/ao#4116: prepare_pt2e folds a batch norm into the linear before it even where the batch norm's channels are
# another dimension than the linear's features; with equal sizes (C == features) the weights are silently wrong.
import torch
from torch import nn


class Fold(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 4)
        self.bn = nn.BatchNorm1d(4)

    def forward(self, x):  # (N, C=4, L=3) -> linear on L -> (N, 4, 4) -> batch norm over dimension 1
        return self.bn(self.fc(x))


torch.manual_seed(5)
model = Fold().eval()
with torch.no_grad():
    model.bn.running_mean.copy_(torch.tensor([0.5, -1.0, 2.0, 0.0]))
    model.bn.running_var.copy_(torch.tensor([4.0, 0.25, 9.0, 1.0]))
inputs = [(torch.randn(2, 4, 3),) for _ in range(3)]
EXPECT = {
    "upstream": {
        "outcome": "inexact",
        "code": "PQ031",
        "operators": {"linear": ["integer"]},
        "unquantized": ["batch_norm"],
    },
    "exact": {"outcome": "pass", "code": "PQ053", "operators": {"linear": ["integer"]}, "unquantized": ["batch_norm"]},
}
