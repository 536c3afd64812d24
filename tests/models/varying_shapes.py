# pytorch/ao#2112: calibration on inputs of several shapes.
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.c = nn.Conv2d(3, 4, 3, padding=1)
        self.fc = nn.Linear(4, 5)

    def forward(self, x):
        return self.fc(torch.relu(self.c(x)).mean((2, 3)))


torch.manual_seed(21)
model = Net().eval()
inputs = [(torch.randn(1, 3, s, s),) for s in (6, 8, 5)]
EXPECT = {
    "both": {"outcome": "error", "stage": None, "error": "tensor 0 of inputs[1] has shape (1, 3, 8, 8), that of inputs"}
}
