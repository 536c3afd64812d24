# pytorch/pytorch#139718: ResNet-18, per channel, use_reference_representation=True, and then it cannot be exported
# again. A stem and one block of it, small.
import torch
from torch import nn
from torchao.testing.pt2e._xnnpack_quantizer import XNNPACKQuantizer, get_symmetric_quantization_config


class Mini(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)
        self.bn0 = nn.BatchNorm2d(4)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.a, self.b = (nn.Conv2d(4, 4, 3, padding=1, bias=False) for _ in range(2))
        self.bna, self.bnb = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.gap = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(4, 5)

    def forward(self, x):
        x = self.pool(self.relu(self.bn0(self.stem(x))))
        y = self.bnb(self.b(self.relu(self.bna(self.a(x)))))
        y += x
        y = self.relu(y)
        return self.fc(torch.flatten(self.gap(y), 1))


torch.manual_seed(11)
model = Mini().eval()
inputs = [(torch.randn(1, 3, 16, 16),) for _ in range(3)]
quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
EXPECT = {
    "upstream": {
        "outcome": "float",
        "code": "PQ012",
        "operators": {
            "conv2d": ["float", "float", "float"],
            "max_pool2d": ["float"],
            "add": ["float"],
            "adaptive_avg_pool2d": ["float"],
            "linear": ["float"],
        },
        "unquantized": [],
    },
    "exact": {
        "outcome": "pass",
        "operators": {
            "conv2d": ["integer", "integer", "integer"],
            "max_pool2d": ["integer"],
            "add": ["integer"],
            "adaptive_avg_pool2d": ["integer"],
            "linear": ["integer"],
        },
        "unquantized": [],
    },
}
