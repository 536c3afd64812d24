# pytorch/ao#4478: one nn.Linear called twice (an unrolled loop) with a relu behind each call: the source partition of
# the module has two outputs, and X86InductorQuantizer's fusion matching raises ValueError in prepare.
import torch
from torch import nn
from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
    X86InductorQuantizer,
    get_default_x86_inductor_quantization_config,
)


class Loop(nn.Module):
    def __init__(self):
        super().__init__()
        self.step = nn.Linear(8, 8)

    def forward(self, x):
        for _ in range(2):
            x = torch.relu(self.step(x))
        return x


torch.manual_seed(3)
model = Loop().eval()
inputs = [(torch.randn(4, 8),) for _ in range(3)]
quantizer = X86InductorQuantizer().set_global(get_default_x86_inductor_quantization_config())
EXPECT = {
    "upstream": {"outcome": "float", "code": "PQ012", "operators": {"linear": ["float", "float"]}, "unquantized": []},
    "exact": {"outcome": "pass", "operators": {"linear": ["integer", "integer"]}, "unquantized": []},
}
