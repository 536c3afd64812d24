# pytorch/executorch#1330: a YOLOv5 neck: x * sigmoid(x) (SiLU), upsampling, cat of three: int8 loads fail by scale.
import torch
import torch.nn.functional as F
from torch import nn


class Neck(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        y = F.silu(self.a(x))
        z = F.silu(self.b(F.max_pool2d(y, 2)))
        return torch.cat([F.interpolate(z, scale_factor=2.0, mode="nearest"), y], 1)


torch.manual_seed(31)
model = Neck().eval()
inputs = [(torch.randn(1, 3, 4, 4),) for _ in range(3)]
EXPECT = {
    "upstream": {
        "outcome": "float",
        "code": "PQ012",
        "operators": {"conv2d": ["float", "float"], "cat": ["float"]},
        "unquantized": ["silu", "max_pool2d", "silu", "upsample_nearest2d"],
    },
    "exact": {
        "outcome": "pass",
        "code": "PQ053",
        "operators": {"conv2d": ["integer", "integer"], "cat": ["integer"]},
        "unquantized": ["silu", "max_pool2d", "silu", "upsample_nearest2d"],
    },
}
