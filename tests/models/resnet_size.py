# pytorch/pytorch#139718, at the size it was reported for: ResNet-18's first convs at 224 x 224. Not small: how long
# does an answer take?
import torch
from torch import nn


class Stem(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 64, 7, stride=2, padding=3)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.b = nn.Conv2d(64, 64, 3, padding=1)

    def forward(self, x):
        return torch.relu(self.b(self.pool(torch.relu(self.a(x)))))


torch.manual_seed(48)
model = Stem().eval()
inputs = [(torch.randn(1, 3, 224, 224),)]
EXPECT = {
    "upstream": {
        "outcome": "float",
        "code": "PQ012",
        "operators": {"conv2d": ["float", "float"], "max_pool2d": ["float"]},
        "unquantized": [],
    },
    "exact": {
        "outcome": "pass",
        "operators": {"conv2d": ["integer", "integer"], "max_pool2d": ["integer"]},
        "unquantized": [],
    },
}
