# A causal mask of minus infinity that is worked out in the model and added to scores: its observer leaves infinities
# out of its range in silence, and the quantized mask no longer masks.
import torch
from torch import nn


class Scores(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        scores = self.query(x) @ self.key(x).transpose(-1, -2)
        mask = torch.triu(torch.full((5, 5), float("-inf")), 1)
        return torch.softmax(scores + mask, -1)


torch.manual_seed(0)
model = Scores().eval()
inputs = [(torch.randn(2, 5, 8),) for _ in range(3)]
EXPECT = {
    "both": {
        "outcome": "mismatch",
        "code": "PQ004",
        "operators": {"linear": ["integer", "integer"], "add": ["integer"]},
        "unquantized": ["matmul", "softmax"],
    }
}
