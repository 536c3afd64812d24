# pytorch/executorch#20280: patch embedding of a ViT: conv, flatten, transpose, then cat with an expanded parameter
# first: the shared parameters of cat hang on the class token, and the transpose between conv and cat changes scale.
import torch
from torch import nn


class Patches(nn.Module):
    def __init__(self):
        super().__init__()
        self.proj = nn.Conv2d(3, 6, 2, stride=2)
        self.cls = nn.Parameter(torch.zeros(1, 1, 6))
        self.pos = nn.Parameter(torch.randn(1, 5, 6) * 0.2)

    def forward(self, x):
        p = self.proj(x).flatten(2).transpose(1, 2)
        return torch.cat([self.cls.expand(x.shape[0], -1, -1), p], dim=1) + self.pos


torch.manual_seed(12)
model = Patches().eval()
torch.nn.init.normal_(model.cls, std=0.5)
inputs = [(torch.randn(2, 3, 4, 4),) for _ in range(3)]
EXPECT = {
    "upstream": {
        "outcome": "float",
        "code": "PQ012",
        "operators": {"conv2d": ["float"], "cat": ["float"], "add": ["integer"]},
        "unquantized": [],
    },
    "exact": {
        "outcome": "pass",
        "operators": {"conv2d": ["integer"], "cat": ["integer"], "add": ["integer"]},
        "unquantized": [],
    },
}
