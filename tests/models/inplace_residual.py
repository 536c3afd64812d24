# pytorch/executorch#22159 (and #18462): torchvision's residual spelled `out += x; relu_(out)`; quantizers match add_
# and add separately, and the relu behind the in-place add stays float.
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 8)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        out = self.fc(x)
        out += x
        return self.relu(out)


torch.manual_seed(14)
model = Block().eval()
inputs = [(torch.randn(3, 8),) for _ in range(3)]
EXPECT = {
    "upstream": {
        "outcome": "float",
        "code": "PQ012",
        "operators": {"linear": ["integer"], "add": ["float"]},
        "unquantized": [],
    },
    "exact": {"outcome": "pass", "operators": {"linear": ["integer"], "add": ["integer"]}, "unquantized": []},
}
