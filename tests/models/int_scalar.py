# pytorch/pytorch#127076: an integer input plus a Python integer: the scalar becomes a float32 constant in prepare,
# the program's output changes its dtype, and an embedding behind it fails.
import torch
from torch import nn


class Shift(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(12, 4)
        self.fc = nn.Linear(4, 4)

    def forward(self, ids):
        return self.fc(self.tokens(ids + 2))


torch.manual_seed(38)
model = Shift().eval()
inputs = [(torch.randint(0, 10, (2, 3)),) for _ in range(3)]
EXPECT = {
    "both": {
        "outcome": "error",
        "stage": "calibrate",
        "error": "Expected tensor for argument #1 'indices' to have one of the",
    }
}
