# google-ai-edge/litert-torch#399: global pooling (AdaptiveAvgPool2d) falls apart into float sum and mul between
# quantize and dequantize. Here where it is used: a squeeze-and-excite gate, (N, C, 1, 1) times (N, C, H, W), with a
# hardsigmoid that XNNPACK's quantizer does not know.
import torch
import torch.nn.functional as F
from torch import nn


class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(4, 2, 1), nn.Conv2d(2, 4, 1)

    def forward(self, x):
        g = F.hardsigmoid(self.b(F.relu(self.a(F.adaptive_avg_pool2d(x, 1)))))
        return x * g


torch.manual_seed(44)
model = Gate().eval()
inputs = [(torch.randn(2, 4, 4, 4),) for _ in range(3)]
EXPECT = {
    "upstream": {
        "outcome": "float",
        "code": "PQ012",
        "operators": {"adaptive_avg_pool2d": ["float"], "conv2d": ["float", "float"], "mul": ["float"]},
        "unquantized": ["hardsigmoid"],
    },
    "exact": {
        "outcome": "pass",
        "code": "PQ053",
        "operators": {"adaptive_avg_pool2d": ["integer"], "conv2d": ["integer", "integer"], "mul": ["integer"]},
        "unquantized": ["hardsigmoid"],
    },
}
