# pytorch/pytorch#142035: a language-model head tied to the token embedding. One get_attr feeds both, the source
# partition of the linear then reaches into the embedding, and X86InductorQuantizer raises in prepare. Input is token
# ids (int64). Here with X86InductorQuantizer, as in the thread, and a relu after a linear before the head.
import torch
from torch import nn
from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
    X86InductorQuantizer,
    get_default_x86_inductor_quantization_config,
)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(16, 8)
        self.body = nn.Linear(8, 8)
        self.head = nn.Linear(8, 16, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, ids):
        return torch.relu(self.head(torch.relu(self.body(self.tokens(ids)))))


torch.manual_seed(1)
model = Tied().eval()
inputs = [(torch.randint(0, 16, (2, 5)),) for _ in range(3)]
quantizer = X86InductorQuantizer().set_global(get_default_x86_inductor_quantization_config())
EXPECT = {
    "upstream": {
        "outcome": "float",
        "code": "PQ012",
        "operators": {"linear": ["float", "float"]},
        "unquantized": ["embedding"],
    },
    "exact": {
        "outcome": "pass",
        "code": "PQ053",
        "operators": {"linear": ["integer", "integer"]},
        "unquantized": ["embedding"],
    },
}
