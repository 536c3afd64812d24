# A linear of a vector: torch multiplies it as a matrix, and shapes it back in place where it is called.
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3)).eval()
inputs = [(torch.randn(4),) for _ in range(2)]
EXPECT = {
    "upstream": {
        "outcome": "inexact",
        "code": "PQ031",
        "operators": {"linear": ["integer", "integer"]},
        "unquantized": [],
    },
    "exact": {"outcome": "pass", "operators": {"linear": ["integer", "integer"]}, "unquantized": []},
}
