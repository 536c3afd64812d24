# intel/torch-xpu-ops#3489: ShuffleNetV2 collapses to chance in int8: chunk, a conv branch, cat, and the shuffle by
# view, transpose, view.
import torch
from torch import nn


class Unit(nn.Module):
    def __init__(self):
        super().__init__()
        self.pw = nn.Conv2d(4, 4, 1)
        self.dw = nn.Conv2d(4, 4, 3, padding=1, groups=4)

    def forward(self, x):
        a, b = x.chunk(2, 1)
        y = torch.cat((a, self.dw(torch.relu(self.pw(b)))), 1)
        n, c, h, w = y.shape
        return y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


torch.manual_seed(26)
model = Unit().eval()
inputs = [(torch.randn(1, 8, 4, 4),) for _ in range(3)]
EXPECT = {
    "upstream": {
        "outcome": "float",
        "code": "PQ012",
        "operators": {"conv2d": ["float", "float"], "cat": ["float"]},
        "unquantized": [],
    },
    "exact": {
        "outcome": "pass",
        "operators": {"conv2d": ["integer", "integer"], "cat": ["integer"]},
        "unquantized": [],
    },
}
